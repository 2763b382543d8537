/* route_matcher: matchers of header and query values. Names are lower-cased and resolved to ids at
 * build time. Of a field with several entries it is enough that one value matches (Envoy 1.40; older
 * ones joined them with ","); of a query parameter the first value counts. */

#include "http/path.h"
#include "proxy/regex.h"
#include "proxy/route_internal.h"

struct header_matcher {
    struct span name;
    enum header_id id;
    enum { HEADER_PRESENT, HEADER_RANGE, HEADER_STRING } kind;
    bool present;
    bool invert;
    bool missing_is_empty;
    bool any_when_empty; /* exact_match "" takes any value, a deprecated field's old meaning */
    int64_t start, end;
    struct string_matcher string;
};

struct query_matcher {
    struct span name;
    bool has_string;
    bool present;
    struct string_matcher string;
};

static void free_regex(void *regex) {
    regex_free(regex);
}

struct regex *route_regex(struct route_builder *builder, struct span pattern, bool full,
                          const struct cfg_mark *mark, const char *field) {
    char error[REGEX_ERROR_MAX];
    struct regex *regex = regex_compile(pattern, full ? REGEX_FULL : REGEX_SEARCH, error);
    if (!regex) {
        route_problem(builder, mark, "%s: invalid regex '%.*s': %s", field, (int)pattern.len,
                      pattern.ptr ? pattern.ptr : "", error);
        return NULL;
    }
    return route_own(builder, free_regex, regex) ? regex : NULL;
}

/* ---- strings ---- */

bool string_matcher_build(struct route_builder *builder, const struct cfg_string_matcher *config,
                          const struct cfg_mark *mark, struct string_matcher *out) {
    const struct cfg_mark *where = config->mark.path.ptr ? &config->mark : mark;
    out->kind = config->match_pattern_case;
    out->ignore_case = config->ignore_case;
    switch (config->match_pattern_case) {
    case CFG_STRING_EXACT:
        out->text = config->exact;
        return true;
    case CFG_STRING_PREFIX:
        out->text = config->prefix;
        return true;
    case CFG_STRING_SUFFIX:
        out->text = config->suffix;
        return true;
    case CFG_STRING_CONTAINS:
        out->text = config->contains;
        return true;
    case CFG_STRING_REGEX:
        if (config->ignore_case)
            route_problem(builder, where, "ignore_case has no effect for safe_regex");
        out->regex = route_regex(builder, config->safe_regex->regex, true, where, "safe_regex");
        return out->regex != NULL;
    default:
        route_problem(builder, where, "a match pattern is required");
        return false;
    }
}

static bool span_contains(struct span value, struct span part, bool ignore_case) {
    if (part.len == 0)
        return true;
    if (!ignore_case)
        return memmem(value.ptr ? value.ptr : "", value.len, part.ptr, part.len) != NULL;
    for (size_t i = 0; i + part.len <= value.len; i++) {
        if (span_eq_nocase(span_make(value.ptr + i, part.len), part))
            return true;
    }
    return false;
}

static bool same(struct span a, struct span b, bool ignore_case) {
    return ignore_case ? span_eq_nocase(a, b) : span_eq(a, b);
}

bool string_matcher_matches(const struct string_matcher *matcher, struct span value) {
    struct span text = matcher->text;
    switch (matcher->kind) {
    case CFG_STRING_EXACT:
        return same(value, text, matcher->ignore_case);
    case CFG_STRING_PREFIX:
        return value.len >= text.len &&
               same(span_make(value.ptr, text.len), text, matcher->ignore_case);
    case CFG_STRING_SUFFIX:
        return value.len >= text.len &&
               same(span_from(value, value.len - text.len), text, matcher->ignore_case);
    case CFG_STRING_CONTAINS:
        return span_contains(value, text, matcher->ignore_case);
    default:
        return regex_matches(matcher->regex, value);
    }
}

/* ---- headers ---- */

static bool header_matcher_build(struct route_builder *builder,
                                 const struct cfg_header_matcher *config,
                                 struct header_matcher *out) {
    out->name = route_lower(builder, config->name);
    if (!out->name.ptr)
        return false;
    out->id = header_id_of(out->name);
    if (out->id == HDR_HOST) /* a request's host is its :authority */
        out->id = HDR_AUTHORITY;
    out->invert = config->invert_match;
    out->missing_is_empty = config->treat_missing_header_as_empty;
    out->kind = HEADER_STRING;
    struct string_matcher *string = &out->string;
    switch (config->header_match_specifier_case) {
    case CFG_HEADER_EXACT:
        *string = (struct string_matcher){.kind = CFG_STRING_EXACT, .text = config->exact_match};
        out->any_when_empty = config->exact_match.len == 0;
        return true;
    case CFG_HEADER_PREFIX:
        *string = (struct string_matcher){.kind = CFG_STRING_PREFIX, .text = config->prefix_match};
        return true;
    case CFG_HEADER_SUFFIX:
        *string = (struct string_matcher){.kind = CFG_STRING_SUFFIX, .text = config->suffix_match};
        return true;
    case CFG_HEADER_CONTAINS:
        *string =
            (struct string_matcher){.kind = CFG_STRING_CONTAINS, .text = config->contains_match};
        return true;
    case CFG_HEADER_REGEX:
        string->kind = CFG_STRING_REGEX;
        string->regex = route_regex(builder, config->safe_regex_match->regex, true, &config->mark,
                                    "safe_regex_match");
        return string->regex != NULL;
    case CFG_HEADER_STRING:
        return string_matcher_build(builder, config->string_match, &config->mark, string);
    case CFG_HEADER_RANGE:
        out->kind = HEADER_RANGE;
        out->start = config->range_start;
        out->end = config->range_end;
        return true;
    case CFG_HEADER_PRESENT:
        out->kind = HEADER_PRESENT;
        out->present = config->present_match;
        return true;
    default:
        out->kind = HEADER_PRESENT;
        out->present = true;
        return true;
    }
}

struct header_matcher *header_matchers_build(struct route_builder *builder,
                                             const struct cfg_header_matcher *configs,
                                             size_t count) {
    struct header_matcher *matchers = route_alloc(builder, count, sizeof(*matchers));
    for (size_t i = 0; matchers && i < count; i++)
        (void)header_matcher_build(builder, &configs[i], &matchers[i]); /* problems are reported */
    return matchers;
}

/* A decimal integer with blanks around it and a sign, as Envoy reads the value of a range. */
static bool parse_int(struct span value, int64_t *out) {
    while (value.len > 0 && strchr(" \t\n\v\f\r", value.ptr[0]) && value.ptr[0] != '\0')
        value = span_from(value, 1);
    while (value.len > 0 && strchr(" \t\n\v\f\r", value.ptr[value.len - 1]) &&
           value.ptr[value.len - 1] != '\0')
        value.len--;
    bool negative = value.len > 0 && value.ptr[0] == '-';
    if (negative || (value.len > 0 && value.ptr[0] == '+'))
        value = span_from(value, 1);
    uint64_t magnitude;
    if (!span_to_u64(value, &magnitude) || magnitude > (uint64_t)INT64_MAX + negative)
        return false;
    *out = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

static bool value_matches(const struct header_matcher *matcher, struct span value) {
    if (matcher->kind == HEADER_RANGE) {
        int64_t number;
        return parse_int(value, &number) && number >= matcher->start && number < matcher->end;
    }
    return matcher->any_when_empty || string_matcher_matches(&matcher->string, value);
}

static bool header_matches(const struct header_matcher *matcher, const struct header_map *headers) {
    int i = header_find(headers, matcher->id, matcher->name, 0);
    if (matcher->kind == HEADER_PRESENT)
        return ((i >= 0 || matcher->missing_is_empty) == matcher->present) != matcher->invert;
    if (i < 0) /* without a value nothing matches, inverted or not */
        return matcher->missing_is_empty && value_matches(matcher, SPAN_LIT("")) != matcher->invert;
    bool matched = false;
    while (i >= 0 && !matched) {
        matched = value_matches(matcher, header_value(&headers->entries[i]));
        i = header_find(headers, matcher->id, matcher->name, (uint32_t)i + 1);
    }
    return matched != matcher->invert;
}

bool header_matchers_match(const struct header_matcher *matchers, size_t count,
                           const struct header_map *headers) {
    for (size_t i = 0; i < count; i++) {
        if (!header_matches(&matchers[i], headers))
            return false;
    }
    return true;
}

/* ---- query parameters ---- */

struct query_matcher *query_matchers_build(struct route_builder *builder,
                                           const struct cfg_query_matcher *configs, size_t count,
                                           const struct cfg_mark *mark) {
    struct query_matcher *matchers = route_alloc(builder, count, sizeof(*matchers));
    for (size_t i = 0; matchers && i < count; i++) {
        matchers[i].name = configs[i].name;
        matchers[i].present = true;
        if (configs[i].match_specifier_case == 5) {
            matchers[i].has_string = true;
            (void)string_matcher_build(builder, configs[i].string_match, mark, &matchers[i].string);
        } else if (configs[i].match_specifier_case == 6) {
            matchers[i].present = configs[i].present_match;
        }
    }
    return matchers;
}

bool query_matchers_match(const struct query_matcher *matchers, size_t count, struct span path) {
    struct span query = path_query(path);
    for (size_t i = 0; i < count; i++) {
        struct span value;
        bool found = query_get(query, matchers[i].name, &value);
        if (found != matchers[i].present)
            return false;
        if (found && matchers[i].has_string && !string_matcher_matches(&matchers[i].string, value))
            return false;
    }
    return true;
}
