/* san_rules: which names of a certificate are welcome. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "filter/san_rules.h"

static void a_wildcard_is_for_a_part_of_one_label(void **state) {
    static const struct {
        const char *name, *pattern;
        bool matches;
    } cases[] = {
        {"a.test", "a.test", true},
        {"A.Test", "a.tEST", true},
        {"a.test", "b.test", false},
        {"x.a.test", "*.a.test", true},
        {"x.y.a.test", "*.a.test", false},
        {"a.test", "*.a.test", false},
        {".a.test", "*.a.test", true},
        {"x1.a.test", "x*.a.test", true},
        {"y1.a.test", "x*.a.test", false},
        {"1x.a.test", "*x.a.test", true},
        {"x.a.test", "x*x.a.test", false}, /* the two halves may not share a byte */
        {"xx.a.test", "x*x.a.test", true},
        {"x.a.test", "**.a.test", false},
        {"x.a.test", "x.*.test", false},
        {"xn--1.a.test", "xn--*.a.test", false},
        {"test", "*", false},
        {"", "*.a.test", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (san_dns_name_matches(span_of(cases[i].name), span_of(cases[i].pattern)) !=
            cases[i].matches)
            fail_msg("%s, %s", cases[i].name, cases[i].pattern);
}

static struct tls_san san(enum tls_san_type type, const char *value) {
    return (struct tls_san){.type = type, .value = span_of(value)};
}

static bool matches(const struct cfg_validation_context *const *parts, unsigned count,
                    struct tls_san one) {
    struct cfg_problems problems = {0};
    struct san_rules *rules;
    assert_int_equal(san_rules_build(parts, count, &problems, &rules), 0);
    assert_non_null(rules);
    assert_true(san_rules_text(rules).len > 0);
    struct tls_san sans[] = {san(TLS_SAN_EMAIL, "x@y"), one};
    bool found = san_rules_match(rules, sans, 2);
    assert_false(san_rules_match(rules, sans, 1));
    san_rules_free(rules);
    return found;
}

static void a_rule_is_for_a_type_and_a_part_adds_its_own(void **state) {
    struct cfg_string_matcher exact = {.match_pattern_case = CFG_STRING_EXACT,
                                       .exact = SPAN_INIT("a.test")};
    struct cfg_string_matcher prefix = {.match_pattern_case = CFG_STRING_PREFIX,
                                        .prefix = SPAN_INIT("spiffe://ours/")};
    struct cfg_san_matcher dns = {.san_type = CFG_SAN_DNS, .matcher = &exact};
    struct cfg_validation_context typed = {.match_typed_subject_alt_names = &dns,
                                           .match_typed_subject_alt_names_count = 1};
    struct cfg_validation_context any = {.match_subject_alt_names = &prefix,
                                         .match_subject_alt_names_count = 1};
    const struct cfg_validation_context *parts[] = {&typed, &any};
    assert_true(matches(parts, 1, san(TLS_SAN_DNS, "a.test")));
    assert_true(matches(parts, 1, san(TLS_SAN_DNS, "*.test"))); /* the certificate's wildcard */
    assert_false(matches(parts, 1, san(TLS_SAN_URI, "a.test")));
    assert_false(matches(parts, 1, san(TLS_SAN_URI, "spiffe://ours/x")));
    assert_true(matches(parts, 2, san(TLS_SAN_URI, "spiffe://ours/x")));
    assert_true(matches(parts, 2, san(TLS_SAN_DNS, "a.test")));
}

static void without_rules_all_names_are_welcome(void **state) {
    struct cfg_validation_context nothing = {.allow_expired_certificate = true};
    const struct cfg_validation_context *parts[] = {&nothing};
    struct cfg_problems problems = {0};
    struct san_rules *rules;
    assert_int_equal(san_rules_build(parts, 1, &problems, &rules), 0);
    assert_null(rules);
}

static void a_bad_expression_is_told(void **state) {
    struct cfg_regex regex = {.regex = SPAN_INIT("(")};
    struct cfg_string_matcher matcher = {.match_pattern_case = CFG_STRING_REGEX,
                                         .safe_regex = &regex};
    struct cfg_san_matcher uri = {.san_type = CFG_SAN_URI, .matcher = &matcher};
    struct cfg_validation_context part = {.match_typed_subject_alt_names = &uri,
                                          .match_typed_subject_alt_names_count = 1};
    const struct cfg_validation_context *parts[] = {&part};
    struct cfg_problems problems = {0};
    struct san_rules *rules;
    assert_int_equal(san_rules_build(parts, 1, &problems, &rules), -EINVAL);
    assert_int_equal(problems.count, 1);
    assert_non_null(strstr(problems.items[0].text, "invalid regex"));
    cfg_problems_fini(&problems);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wildcard_is_for_a_part_of_one_label),
        cmocka_unit_test(a_rule_is_for_a_type_and_a_part_adds_its_own),
        cmocka_unit_test(without_rules_all_names_are_welcome),
        cmocka_unit_test(a_bad_expression_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
