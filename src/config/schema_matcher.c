/* schema_matcher: how headers, query parameters and paths are compared. */
#include "config/schema_tables.h"

/* ---- regular expressions ---- */

static const struct cfg_field google_re2_fields[] = {
    WRAPPER(struct cfg_regex, 1, max_program_size, CFG_U32, .status = CFG_INERT,
            .doc = "The limits of this engine are its own."),
};
static const struct cfg_schema google_re2_schema = {
    .name = "envoy.type.matcher.v3.RegexMatcher.GoogleRE2",
    .doc = "Settings of Google's RE2.",
    .size = sizeof(struct cfg_regex),
    FIELDS(google_re2_fields),
};

static const struct cfg_field regex_fields[] = {
    FLAT(struct cfg_regex, 1, "google_re2", google_re2_schema, .oneof = "engine_type",
         .has_at = CFG_AT(struct cfg_regex, has_google_re2), .status = CFG_INERT,
         .doc = "Accepted, as older configs have it; there is one engine."),
    FIELD(struct cfg_regex, 2, regex, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "The expression; it must match all of the text."),
};
const struct cfg_schema cfg_schema_regex = {
    .name = "envoy.type.matcher.v3.RegexMatcher",
    .doc = "A regular expression.",
    .size = sizeof(struct cfg_regex),
    FIELDS(regex_fields),
};

static const struct cfg_field regex_rewrite_fields[] = {
    INLINE(struct cfg_regex_rewrite, 1, pattern, struct cfg_regex, cfg_schema_regex,
           .rules = CFG_REQUIRED, .doc = "What to look for; here a part may match."),
    FIELD(struct cfg_regex_rewrite, 2, substitution, CFG_STRING, .rules = CFG_HEADER_VALUE,
          .doc = "What to put in its place; \\0 is the whole match, \\1 to \\9 its groups."),
};
const struct cfg_schema cfg_schema_regex_rewrite = {
    .name = "envoy.type.matcher.v3.RegexMatchAndSubstitute",
    .doc = "A rewrite by regular expression.",
    .size = sizeof(struct cfg_regex_rewrite),
    FIELDS(regex_rewrite_fields),
};

/* ---- strings ---- */

#define PATTERN ONEOF(struct cfg_string_matcher, match_pattern)
static const struct cfg_field string_matcher_fields[] = {
    FIELD(struct cfg_string_matcher, 1, exact, CFG_STRING, PATTERN, .rules = CFG_ONEOF_REQUIRED,
          .doc = "The whole text."),
    FIELD(struct cfg_string_matcher, 2, prefix, CFG_STRING, PATTERN,
          .rules = CFG_ONEOF_REQUIRED | CFG_REQUIRED, .doc = "What it begins with."),
    FIELD(struct cfg_string_matcher, 3, suffix, CFG_STRING, PATTERN,
          .rules = CFG_ONEOF_REQUIRED | CFG_REQUIRED, .doc = "What it ends with."),
    POINTER(struct cfg_string_matcher, 5, safe_regex, struct cfg_regex, cfg_schema_regex, PATTERN,
            .rules = CFG_ONEOF_REQUIRED, .doc = "A regular expression for the whole text."),
    FIELD(struct cfg_string_matcher, 6, ignore_case, CFG_BOOL,
          .doc = "Compare ASCII letters without case; not for safe_regex."),
    FIELD(struct cfg_string_matcher, 7, contains, CFG_STRING, PATTERN,
          .rules = CFG_ONEOF_REQUIRED | CFG_REQUIRED, .doc = "A part of it."),
};
static const struct cfg_missing string_matcher_missing[] = {{8, "custom"}};
const struct cfg_schema cfg_schema_string_matcher = {
    .name = "envoy.type.matcher.v3.StringMatcher",
    .doc = "A comparison with a text.",
    .size = sizeof(struct cfg_string_matcher),
    MARK(struct cfg_string_matcher),
    FIELDS(string_matcher_fields),
    MISSING(string_matcher_missing),
};

/* ---- headers ---- */

static const struct cfg_field range_fields[] = {
    FIELD_AS(struct cfg_header_matcher, 1, "start", range_start, CFG_I64,
             .doc = "First number of the range."),
    FIELD_AS(struct cfg_header_matcher, 2, "end", range_end, CFG_I64,
             .doc = "First number after the range."),
};
static const struct cfg_schema range_schema = {
    .name = "envoy.type.v3.Int64Range",
    .doc = "Numbers from start up to, but without, end.",
    .size = sizeof(struct cfg_header_matcher),
    FIELDS(range_fields),
};

#define SPECIFIER ONEOF(struct cfg_header_matcher, header_match_specifier)
static const struct cfg_field header_matcher_fields[] = {
    FIELD(struct cfg_header_matcher, 1, name, CFG_STRING, .rules = CFG_REQUIRED | CFG_HEADER_NAME,
          .doc = "Header name, or a pseudo-header such as \":method\"."),
    FIELD(struct cfg_header_matcher, 4, exact_match, CFG_STRING, SPECIFIER,
          .doc = "Deprecated form of string_match.exact."),
    FLAT(struct cfg_header_matcher, 6, "range_match", range_schema, SPECIFIER,
         .doc = "The value is a decimal number within a range."),
    FIELD(struct cfg_header_matcher, 7, present_match, CFG_BOOL, SPECIFIER,
          .default_text = "true when no other match is given",
          .doc = "Whether the header is there."),
    FIELD(struct cfg_header_matcher, 8, invert_match, CFG_BOOL, .doc = "Turn the result round."),
    FIELD(struct cfg_header_matcher, 9, prefix_match, CFG_STRING, SPECIFIER, .rules = CFG_REQUIRED,
          .doc = "Deprecated form of string_match.prefix."),
    FIELD(struct cfg_header_matcher, 10, suffix_match, CFG_STRING, SPECIFIER, .rules = CFG_REQUIRED,
          .doc = "Deprecated form of string_match.suffix."),
    POINTER(struct cfg_header_matcher, 11, safe_regex_match, struct cfg_regex, cfg_schema_regex,
            SPECIFIER, .doc = "Deprecated form of string_match.safe_regex."),
    FIELD(struct cfg_header_matcher, 12, contains_match, CFG_STRING, SPECIFIER,
          .rules = CFG_REQUIRED, .doc = "Deprecated form of string_match.contains."),
    POINTER(struct cfg_header_matcher, 13, string_match, struct cfg_string_matcher,
            cfg_schema_string_matcher, SPECIFIER, .doc = "A comparison of the value."),
    FIELD(struct cfg_header_matcher, 14, treat_missing_header_as_empty, CFG_BOOL,
          .doc = "A header that is not there counts as an empty one."),
};
const struct cfg_schema cfg_schema_header_matcher = {
    .name = "envoy.config.route.v3.HeaderMatcher",
    .doc = "A condition on a request header.",
    .size = sizeof(struct cfg_header_matcher),
    MARK(struct cfg_header_matcher),
    FIELDS(header_matcher_fields),
};

/* ---- query parameters ---- */

static const struct cfg_field query_matcher_fields[] = {
    FIELD(struct cfg_query_matcher, 1, name, CFG_STRING, .rules = CFG_REQUIRED | CFG_MAX_LEN,
          .max = 1024, .doc = "Name of the parameter."),
    POINTER(struct cfg_query_matcher, 5, string_match, struct cfg_string_matcher,
            cfg_schema_string_matcher, .oneof = "query_parameter_match_specifier",
            .case_at = 1 + CFG_OFFSET(struct cfg_query_matcher, match_specifier_case, int),
            .doc = "A comparison of the value."),
    FIELD(struct cfg_query_matcher, 6, present_match, CFG_BOOL,
          .oneof = "query_parameter_match_specifier",
          .case_at = 1 + CFG_OFFSET(struct cfg_query_matcher, match_specifier_case, int),
          .default_text = "true when no string_match is given",
          .doc = "Whether the parameter is there."),
};
const struct cfg_schema cfg_schema_query_matcher = {
    .name = "envoy.config.route.v3.QueryParameterMatcher",
    .doc = "A condition on a parameter of the query.",
    .size = sizeof(struct cfg_query_matcher),
    FIELDS(query_matcher_fields),
};
