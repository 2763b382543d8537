/* Patterns: RE2's syntax and nothing more, bounded time, safe on a small stack. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/stats.h"
#include "proxy/format.h"
#include "proxy/regex.h"

static void what_re2_lacks_is_refused(void **state) {
    (void)state;
    static const char *const refused[] = {
        "a(",      "(a)\\1", "(?=a)",       "(?!a)", "a++",     "a*+",    "a?+",     "(?<=a)b",
        "(?<!a)b", "(?>a)",  "a\\Z",        "\\R",   "a{2}{3}", "a**",    "a{1001}", "(?x)a",
        "\\h",     "a\\Kb",  "a*??",        "a{2}+", "(*UTF)a", "(?#x)a", "*a",      "\\e",
        "\\G",     "\\N",    "(a)?(?(1)b)", "(?R)",  "(?1)",    "\\k<n>", "\\g1",    "(?P=n)",
        "(?P>n)",  "\\X",    "[a",          "\\",
    };
    static const char *const taken[] = {
        "(?<n>a)", "(?P<n>a)", "(?i)a",        "(?i:a)",         "(?-s)a",
        "a{2}?",   "\\Q(\\E",  "[[:alpha:]]",  "\\pL\\p{Greek}", "a\\z",
        "[]a]",    "[^]a]",    "\\d\\w\\s\\b", "a{1000}",        "a{,2}",
        "x{y",     "\\x{41}",  "[\\]+*]+",     "(?:a|b)*?c",     "\\.\\+\\*",
        "a|",      "",         "[(*)]",        "\\*+",
    };
    char error[REGEX_ERROR_MAX];
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        struct regex *regex = regex_compile(span_of(refused[i]), REGEX_FULL, error);
        if (regex)
            fail_msg("taken: %s", refused[i]);
    }
    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
        struct regex *regex = regex_compile(span_of(taken[i]), REGEX_FULL, error);
        if (!regex)
            fail_msg("refused: %s: %s", taken[i], error);
        regex_free(regex);
    }
}

static bool matches(const char *pattern, struct span subject) {
    char error[REGEX_ERROR_MAX];
    struct regex *regex = regex_compile(span_of(pattern), REGEX_FULL, error);
    assert_non_null(regex);
    bool matched = regex_matches(regex, subject);
    regex_free(regex);
    return matched;
}

static void the_whole_subject_matches_or_nothing(void **state) {
    (void)state;
    assert_true(matches("a|ab", SPAN_LIT("ab")));
    assert_true(matches("a.*z", SPAN_LIT("az")));
    assert_false(matches("a", SPAN_LIT("ab")));
    assert_false(matches("b", SPAN_LIT("ab")));
    assert_false(matches("a$", SPAN_LIT("a\n")));
    assert_false(matches("a.b", SPAN_LIT("a\nb")));
    assert_true(matches("", SPAN_LIT("")));
    assert_true(matches("", span_none()));
    assert_true(matches("/caf.", SPAN_LIT("/caf\xc3\xa9"))); /* one character, two bytes */
    assert_false(matches("/caf.", SPAN_LIT("/caf\xff")));    /* no UTF-8: no character */
    assert_true(matches("a.c", span_make("a\0c", 3)));
}

static void a_pattern_that_explodes_gives_up_soon(void **state) {
    (void)state;
    static const char *const bad[] = {"(a+)+[bc]", "(a|aa)+[bc]", "(.*)*[xy]",
                                      "(a*)*(a*)*(a*)*[bc]"};
    char subject[4096];
    memset(subject, 'a', sizeof(subject));
    subject[sizeof(subject) - 1] = '!';
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t start = clock_mono_ns();
        assert_false(matches(bad[i], span_make(subject, sizeof(subject))));
        assert_true(clock_mono_ns() - start < 30 * NS_PER_S); /* some ms; years without a limit */
    }
    struct span name = SPAN_LIT("regex.match_limit_exceeded");
    assert_true(stat_value(stats_get(STAT_COUNTER, name, name, NULL, 0)) >= 4);
}

static void *match_deep(void *arg) {
    /* JIT code for this needs far more frames than the thread's stack could hold. */
    char *subject = malloc(30000);
    memset(subject, 'a', 30000);
    *(bool *)arg = matches("(?:(a)|(b)|a(c)?)*", span_make(subject, 30000));
    free(subject);
    return NULL;
}

static void matching_is_safe_on_a_coroutines_stack(void **state) {
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    size_t stack_size = 256 * 1024; /* the sanitizers' own frames */
#else
    size_t stack_size = 64 * 1024;
#endif
    pthread_attr_t attr;
    pthread_t thread;
    bool matched = false;
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, stack_size), 0);
    assert_int_equal(pthread_create(&thread, &attr, match_deep, &matched), 0);
    assert_int_equal(pthread_join(thread, NULL), 0); /* and the thread's matcher is freed with it */
    pthread_attr_destroy(&attr);
}

static void check_replace(const char *pattern, const char *subject, const char *by,
                          const char *expected) {
    char error[REGEX_ERROR_MAX];
    struct regex *regex = regex_compile(span_of(pattern), REGEX_SEARCH, error);
    assert_non_null(regex);
    struct format_out out = {0};
    regex_replace_all(regex, span_of(subject), span_of(by), &out);
    assert_false(out.failed);
    format_out_put(&out, span_make("", 1));
    assert_string_equal(out.data, expected);
    free(out.data);
    regex_free(regex);
}

/* Results of RE2::GlobalReplace, as Envoy's regex_rewrite showed them. */
static void all_matches_are_replaced(void **state) {
    (void)state;
    check_replace("a*", "/raab", "<\\0>", "<>/<>r<aa>b<>");
    check_replace("b", "/rbbb", "x\\\\y", "/rx\\yx\\yx\\y");
    check_replace("/rr/(\\w+)/(\\w+)", "/rr/one/two/rr/c/d", "/\\2/\\1/\\0",
                  "/two/one//rr/one/two/d/c//rr/c/d");
    check_replace("(x)?b", "ab", "[\\1]", "a[]"); /* a group that took no part is empty */
    check_replace("^/a", "/a/a", "/b", "/b/a");
    check_replace("", "\xc3\xa9", "-", "-\xc3\xa9-"); /* characters are not cut */
    check_replace("no", "subject", "x", "subject");
    check_replace("a", "a", "\\1", "a"); /* no such group: never replaced */
    check_replace("a", "a", "x\\", "a");
    assert_int_equal(regex_substitution_check(SPAN_LIT("a\\0\\7\\\\")), 7);
    assert_int_equal(regex_substitution_check(SPAN_LIT("\\x")), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_re2_lacks_is_refused),
        cmocka_unit_test(the_whole_subject_matches_or_nothing),
        cmocka_unit_test(a_pattern_that_explodes_gives_up_soon),
        cmocka_unit_test(matching_is_safe_on_a_coroutines_stack),
        cmocka_unit_test(all_matches_are_replaced),
    };
    assert_int_equal(stats_init(1), 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
