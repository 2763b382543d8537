/* test_notes: what a request leaves behind besides its messages: dynamic metadata, filter state, response flags and
 * details. The proxy's access log tells of them, in a line of JSON for each request, and of those alone that some
 * case expects something of: a log has no word for all metadata that there is.
 *
 * Threads  Pure. */
#pragma once
#include "config/value_json.h"
#include "tool/test_case.h"

/* A json_format for all that any of the cases expects; NULL: none of them expects any. Owned, free(). */
char *test_notes_format(const struct test_case *cases, size_t count);

/* expect may be NULL. */
bool test_notes_are_expected(const struct test_expect *expect);

/* False: it names what a log cannot be asked for, or expects what cannot be; a problem was added. */
MUST_CHECK bool test_notes_check(const struct test_expect *expect, struct cfg_problems *problems);

/* The line about the client that had this port. False: it is not among these. True: *out borrows from lines and from
 * *arena, which begins here, and which the caller ends. */
bool test_notes_find(struct span lines, uint16_t port, struct cfg_arena *arena,
                     struct cfg_value *out);

/* A field of a struct, or NULL where there is none or it is null. struct_value may be NULL. */
const struct cfg_value *test_notes_field(const struct cfg_value *struct_value, struct span key);

/* Whether a value is what was expected, NULL for none of either. A number is also what its digits are as a text: a
 * fraction that stands in YAML is a text for the loader. Objects are the same if they have the same fields. */
bool test_notes_same(const struct cfg_value *is, const struct cfg_value *expected);
