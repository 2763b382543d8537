/* date: the Date field (RFC 9110 IMF-fixdate), rendered once a second.
 *
 * Ownership  The caller owns the cache; what http_date_get returns is borrowed from it until the
 *            next call. Whoever keeps it longer copies it.
 * Threads    One cache per P, so there is no lock. */
#pragma once
#include "base/span.h"

struct http_date { /* zero it once */
    int64_t second;
    char text[32];
};

/* "Sun, 06 Nov 1994 08:49:37 GMT" for a time of clock_wall_ns. */
struct span http_date_get(struct http_date *date, int64_t wall_ns);
