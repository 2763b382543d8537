#include "filter/san_rules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/regex.h"
#include "proxy/route_internal.h"

struct name_matcher {
    enum tls_san_type type; /* 0: any */
    struct string_matcher string;
};

struct san_rules {
    struct name_matcher *matchers;
    size_t count;
    char *text; /* owned */
    size_t text_len;
};

static bool split(struct span name, struct span *label, struct span *rest) {
    ssize_t dot = span_find(name, '.');
    if (dot < 0)
        return false;
    *label = span_make(name.ptr, (size_t)dot);
    *rest = span_from(name, (size_t)dot + 1);
    return true;
}

/* One '*', for any number of bytes. */
static bool label_matches(struct span label, struct span pattern) {
    ssize_t star = span_find(pattern, '*');
    if (star < 0)
        return span_eq_nocase(label, pattern);
    struct span before = span_make(pattern.ptr, (size_t)star);
    struct span after = span_from(pattern, (size_t)star + 1);
    if (span_find(after, '*') >= 0 || label.len < before.len + after.len)
        return false;
    return span_eq_nocase(span_make(label.ptr, before.len), before) &&
           span_eq_nocase(span_from(label, label.len - after.len), after);
}

bool san_dns_name_matches(struct span name, struct span pattern) {
    if (span_eq_nocase(name, pattern))
        return true;
    struct span label, rest, pattern_label, pattern_rest;
    if (!split(name, &label, &rest) || !split(pattern, &pattern_label, &pattern_rest))
        return false;
    bool is_punycode =
        pattern_label.len >= 4 && span_eq_nocase(span_make(pattern_label.ptr, 4), SPAN_LIT("xn--"));
    return span_find(pattern_label, '*') >= 0 && span_find(pattern_rest, '*') < 0 && !is_punycode &&
           span_eq_nocase(rest, pattern_rest) && label_matches(label, pattern_label);
}

static bool matches(const struct name_matcher *matcher, const struct tls_san *san) {
    if (matcher->type && matcher->type != san->type)
        return false;
    if (san->type == TLS_SAN_DNS && matcher->string.kind == CFG_STRING_EXACT)
        return san_dns_name_matches(matcher->string.text, san->value);
    return string_matcher_matches(&matcher->string, san->value);
}

bool san_rules_match(void *arg, const struct tls_san *sans, size_t count) {
    const struct san_rules *names = arg;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < names->count; k++)
            if (matches(&names->matchers[k], &sans[i]))
                return true;
    return false;
}

struct span san_rules_text(const struct san_rules *names) {
    return span_make(names->text, names->text_len);
}

static int add(struct san_rules *names, int type, const struct cfg_string_matcher *config,
               FILE *text, struct cfg_problems *problems) {
    struct name_matcher *matcher = &names->matchers[names->count];
    matcher->type = (enum tls_san_type)type;
    matcher->string.kind = config->match_pattern_case;
    matcher->string.ignore_case = config->ignore_case;
    switch (config->match_pattern_case) {
    case CFG_STRING_EXACT:
        matcher->string.text = config->exact;
        break;
    case CFG_STRING_PREFIX:
        matcher->string.text = config->prefix;
        break;
    case CFG_STRING_SUFFIX:
        matcher->string.text = config->suffix;
        break;
    case CFG_STRING_CONTAINS:
        matcher->string.text = config->contains;
        break;
    case CFG_STRING_REGEX: {
        char error[REGEX_ERROR_MAX];
        matcher->string.text = config->safe_regex->regex;
        matcher->string.regex = regex_compile(config->safe_regex->regex, REGEX_FULL, error);
        if (!matcher->string.regex) {
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark,
                            "safe_regex: invalid regex: %s", error);
            return -EINVAL;
        }
        break;
    }
    default:
        return 0; /* it was refused when the config was read */
    }
    fprintf(text, "%d %d %d %zu ", type, config->match_pattern_case, config->ignore_case,
            matcher->string.text.len);
    if (matcher->string.text.len)
        fwrite(matcher->string.text.ptr, 1, matcher->string.text.len, text);
    names->count++;
    return 0;
}

int san_rules_build(const struct cfg_validation_context *const *parts, unsigned part_count,
                    struct cfg_problems *problems, struct san_rules **out) {
    size_t count = 0;
    for (unsigned i = 0; i < part_count; i++)
        count +=
            parts[i]->match_typed_subject_alt_names_count + parts[i]->match_subject_alt_names_count;
    *out = NULL;
    if (count == 0)
        return 0;
    struct san_rules *names = calloc(1, sizeof *names);
    FILE *text = names ? open_memstream(&names->text, &names->text_len) : NULL;
    if (names)
        names->matchers = calloc(count, sizeof *names->matchers);
    int rc = names && text && names->matchers ? 0 : -ENOMEM;
    for (unsigned i = 0; rc == 0 && i < part_count; i++) {
        const struct cfg_validation_context *part = parts[i];
        for (size_t k = 0; rc == 0 && k < part->match_typed_subject_alt_names_count; k++) {
            const struct cfg_san_matcher *matcher = &part->match_typed_subject_alt_names[k];
            if (matcher->matcher)
                rc = add(names, matcher->san_type, matcher->matcher, text, problems);
        }
        for (size_t k = 0; rc == 0 && k < part->match_subject_alt_names_count; k++)
            rc = add(names, 0, &part->match_subject_alt_names[k], text, problems);
    }
    if (text && fclose(text) != 0 && rc == 0)
        rc = -ENOMEM;
    if (rc == 0)
        *out = names;
    else
        san_rules_free(names);
    return rc;
}

void san_rules_free(void *arg) {
    struct san_rules *names = arg;
    if (!names)
        return;
    for (size_t i = 0; names->matchers && i < names->count; i++)
        regex_free(names->matchers[i].string.regex);
    free(names->matchers);
    free(names->text);
    free(names);
}
