/* regex: RE2's regular expressions as Envoy uses them, on PCRE2.
 *
 * What RE2 refuses (backreferences, look-around, possessive and atomic groups, recursion) is refused
 * here too, so a pattern means the same on both. RE2 runs in linear time and PCRE2 backtracks: a
 * match that takes too many steps is given up and counts as no match.
 *
 * Ownership  regex_compile copies the pattern; regex_free releases.
 * Threads    Immutable after compiling: any thread may match. Matching never parks. */
#pragma once
#include "base/check.h"
#include "base/span.h"

struct regex;
struct format_out;

enum regex_mode {
    REGEX_FULL,   /* the whole subject must match, RE2::FullMatch */
    REGEX_SEARCH, /* anywhere in it, for replacing */
};
enum { REGEX_ERROR_MAX = 256 };

/* NULL with a text in error, which holds REGEX_ERROR_MAX bytes. */
struct regex *regex_compile(struct span pattern, enum regex_mode mode, char *error);
void regex_free(struct regex *regex);

bool regex_matches(const struct regex *regex, struct span subject);

/* regex_literal.c: bytes that every subject begins with which the whole pattern matches (REGEX_FULL). Into
 * out, which has room for the pattern; how many. 0 where none are certain. */
size_t regex_literal(struct span pattern, char *out);

/* Index behind the class "[...]" that starts at i of a pattern. */
size_t regex_class_end(struct span pattern, size_t i);

/* Groups that can be named in a substitution: 0 .. regex_groups(). */
unsigned regex_groups(const struct regex *regex);
/* Highest \N of a substitution, or -1 when it is malformed (a backslash before anything but a digit
 * or a backslash). */
int regex_substitution_check(struct span substitution);
/* Appends subject with every match replaced, as RE2::GlobalReplace does. */
void regex_replace_all(const struct regex *regex, struct span subject, struct span substitution,
                       struct format_out *out);
