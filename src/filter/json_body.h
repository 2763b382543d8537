/* json_body: a request body that was looked at, read again from its start, and then the rest of it.
 *
 * Looking pulls. What the wire lent last stays where it is; only when more has to be pulled is it copied, to
 * blocks, which go back as they are read. So a body whose first span says all is never copied.
 *
 * Ownership  Owns the reader that it wraps, and closes it. Its own memory is of the exchange's arena.
 * Threads    The exchange's P. Parks: json_body_pull, and next() and splice() as the reader inside. */
#pragma once
#include "mem/block.h"
#include "proxy/exchange.h"

struct json_body {
    struct reader inner;
    struct span lent;                  /* by inner, and not read again yet */
    struct block *first, *last, *done; /* copies before that; done: a span of it is lent */
    uint32_t read_at, last_fill;
    uint64_t copied_bytes;
    bool ended; /* inner is at its end */
};

/* NULL when memory is short: the body is then as it was. Else it is the request's body from now on. */
MUST_CHECK struct json_body *json_body_wrap(struct exchange *x);
/* The next bytes that nobody looked at; borrowed until the next pull or until the body is read. Returns as
 * reader_next does, or -ENOMEM, of exchange_charge. Not after reading began. */
MUST_CHECK ssize_t json_body_pull(struct json_body *body, struct exchange *x, size_t max,
                                  struct span *out);
