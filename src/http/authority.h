/* authority: "host", "host:port" or "[v6]:port", as Host and :authority carry it.
 *
 * Ownership  What is returned is borrowed from the argument.
 * Threads    Pure functions. */
#pragma once
#include "base/span.h"

/* RFC 9110 7.2: uri-host [":" port], without user information. An empty one is valid. */
bool authority_is_valid(struct span authority);

/* Without the port and its colon; brackets of an IPv6 address stay. */
struct span authority_host(struct span authority BORROWED_BY(result));
/* Digits behind the colon; the absent span when there is no colon, an empty one for "host:". */
struct span authority_port(struct span authority BORROWED_BY(result));

/* Hosts compare without regard to case (RFC 3986 3.2.2). */
static inline bool authority_host_eq(struct span a, struct span b) {
    return span_eq_nocase(a, b);
}
