/* upgrade: a client asks to speak another protocol than HTTP from now on (RFC 9110 7.8), WebSocket for one.
 *
 *     client ── head, Upgrade: x ──► allowed by route or manager? ── no ──► 403
 *                                        │
 *                                     upstream ── 101, Upgrade: x ──► bytes both ways, through the filters' readers
 *                                        └─────── anything else ────► an ordinary response; the connection ends
 *
 * Smuggling  What a client sends behind such a head is not HTTP to us, but is to an upstream that refuses: it
 *            would read requests there that no route and no filter has seen. So none of it goes on before
 *            the upstream agreed, and no connection of either side is used again. A request that has a body
 *            is refused. h2c is never passed on: http1 speaks for it (request_prepare.c).
 *
 * Threads    The exchange's P. Does not park. */
#pragma once
#include "http/http1.h"
#include "proxy/exchange.h"

/* For a prepared request whose head asked for `type`: lets it on, x->upgrade says so, or replies. 0 or
 * -ENOMEM. */
MUST_CHECK int upgrade_begin(struct exchange *x, const struct http1_head *head,
                             struct span type BORROWED_BY(x));

/* Says `type` in a head that http1_strip_hop_by_hop went over. The Connection field is the writer's, but
 * filters look for it. 0 or -ENOMEM. */
MUST_CHECK int upgrade_mark(struct header_map *headers, struct span type BORROWED_BY(headers));
