/* json_body: blocks, then what is lent, then the wire. Once all that was held is read, splicing is the wire's
 * again, so the rest of a large body passes by as if nobody had looked. */
#include "filter/json_body.h"

#include <errno.h>

#include "io/splice.h"

enum { PULL_MAX = 1 << 20 }; /* as much as there is */

static uint32_t fill_of(const struct json_body *body, const struct block *block) {
    return block == body->last ? body->last_fill : (uint32_t)BLOCK_DATA_SIZE;
}

static bool holds(const struct json_body *body) {
    return body->first || body->lent.len;
}

static void drop_done(struct json_body *body) {
    if (body->done)
        block_put(rt_blocks(), body->done);
    body->done = NULL;
}

static ssize_t body_next(void *data, size_t max, struct span *out) {
    struct json_body *body = data;
    drop_done(body);
    if (body->first) {
        struct block *block = body->first;
        size_t n = fill_of(body, block) - body->read_at;
        if (n > max)
            n = max;
        *out = span_make(block->data + body->read_at, n);
        body->read_at += (uint32_t)n;
        if (body->read_at == fill_of(body, block)) {
            body->first = block->next;
            body->done = block;
            body->read_at = 0;
        }
        return (ssize_t)n;
    }
    if (body->lent.len) {
        size_t n = body->lent.len < max ? body->lent.len : max;
        *out = span_make(body->lent.ptr, n);
        body->lent = span_from(body->lent, n);
        return (ssize_t)n;
    }
    return reader_next(body->inner, max, out);
}

static void body_close(void *data) {
    struct json_body *body = data;
    drop_done(body);
    while (body->first) {
        struct block *block = body->first;
        body->first = block->next;
        block_put(rt_blocks(), block);
    }
    body->lent = span_none();
    reader_close(body->inner);
}

static enum reader_peek body_peek(void *data) {
    const struct json_body *body = data;
    return holds(body) ? READER_READY : reader_peek(body->inner);
}

static uint64_t body_unread(void *data) {
    const struct json_body *body = data;
    return holds(body) ? 0 : reader_unread(body->inner);
}

static ssize_t body_splice(void *data, struct splice *splice, size_t max) {
    struct json_body *body = data;
    drop_done(body);
    return reader_splice(body->inner, splice, max);
}

struct json_body *json_body_wrap(struct exchange *x) {
    static const struct reader_itab itab = {.next = body_next,
                                            .close = body_close,
                                            .peek = body_peek,
                                            .unread = body_unread,
                                            .splice = body_splice};
    struct json_body *body = arena_alloc(&x->arena, sizeof *body);
    if (!body)
        return NULL;
    *body = (struct json_body){.inner = x->request.body};
    x->request.body = (struct reader){&itab, body};
    return body;
}

/* ---- looking ---- */

static int add_block(struct json_body *body, struct exchange *x) {
    int rc = exchange_charge(x, BLOCK_SIZE);
    if (rc != 0)
        return rc;
    struct block *block = block_get(rt_blocks());
    if (!block)
        return -ENOMEM;
    block->next = NULL;
    if (body->last)
        body->last->next = block;
    else
        body->first = block;
    body->last = block;
    body->last_fill = 0;
    return 0;
}

/* Whatever fails leaves what is lent where it is: it is lost with the exchange. */
static int keep_lent(struct json_body *body, struct exchange *x) {
    while (body->lent.len) {
        if (!body->last || body->last_fill == BLOCK_DATA_SIZE) {
            int rc = add_block(body, x);
            if (rc != 0)
                return rc;
        }
        size_t n = BLOCK_DATA_SIZE - body->last_fill;
        if (n > body->lent.len)
            n = body->lent.len;
        memcpy(body->last->data + body->last_fill, body->lent.ptr, n);
        body->last_fill += (uint32_t)n;
        body->copied_bytes += n;
        body->lent = span_from(body->lent, n);
    }
    return 0;
}

ssize_t json_body_pull(struct json_body *body, struct exchange *x, size_t max, struct span *out) {
    *out = span_make("", 0);
    /* What ends without another look at the wire may lie where it is. */
    if (body->ended || reader_peek(body->inner) == READER_END)
        return 0;
    int rc = keep_lent(body, x);
    if (rc != 0)
        return rc;
    struct span bytes;
    ssize_t n = reader_next(body->inner, max < PULL_MAX ? max : PULL_MAX, &bytes);
    body->ended = n == 0;
    if (n > 0)
        *out = body->lent = bytes;
    return n;
}
