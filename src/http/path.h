/* path: the :path of a request, "/path?query".
 *
 * Ownership  Spans returned borrow from the argument; those of path_normalize and its like borrow
 *            from the argument when nothing had to change, else from the arena.
 * Threads    Pure but for the arena. */
#pragma once
#include "mem/arena.h"

/* The part before '?'. */
struct span path_only(struct span path BORROWED_BY(result));
/* The part behind the first '?'; the absent span when there is none. */
struct span path_query(struct span path BORROWED_BY(result));
/* "?query" with its question mark, empty when there is none. */
struct span path_query_suffix(struct span path BORROWED_BY(result));

/* First parameter of that name in a query, as it stands (nothing is decoded). A parameter without
 * '=' has an empty value. False when there is none. */
bool query_get(struct span query BORROWED_BY(value), struct span name, struct span *value);

/* Envoy's normalize_path: dot segments (also "%2e") go, '\' becomes '/', escapes of unreserved
 * bytes are decoded, bytes that may not stand in a path are escaped. The query is kept as it is.
 * 0; -EINVAL for a path that is not absolute or holds NUL in any form (Envoy: 400); -ENOMEM. */
MUST_CHECK int path_normalize(struct arena *arena, struct span path BORROWED_BY(out),
                              struct span *out);

/* Envoy's merge_slashes: "//a///b?c//d" is "/a/b?c//d". 0 or -ENOMEM. */
MUST_CHECK int path_merge_slashes(struct arena *arena, struct span path BORROWED_BY(out),
                                  struct span *out);

/* For path_with_escaped_slashes_action: whether %2F or %5C stands before the query, and the path
 * with them decoded. */
bool path_has_escaped_slashes(struct span path);
MUST_CHECK int path_unescape_slashes(struct arena *arena, struct span path BORROWED_BY(out),
                                     struct span *out);

/* Every '%' is followed by two hexadecimal digits. */
bool path_escapes_are_valid(struct span path);
