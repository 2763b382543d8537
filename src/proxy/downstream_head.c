/* downstream_head: who sends a head byte by byte must not make us look at it as often.
 *
 * A piece is received by the poller's callback, into a block that goes back at once, and appended. A
 * coroutine is started, and parses from the first byte, when a line has ended: not before, since a part of
 * a line says nothing. That is LOOKS_MAX times at most, more often than a head has lines by default; after
 * that only its end counts, of which there is one. So all looks together parse LOOKS_MAX times the
 * limit of a head's size, however it is cut up.
 *
 * Who waits for a listener filter is kept in the same way, by downstream_pending.c, and becomes a kept head when HTTP
 * is what follows.
 *
 * Rejected  Keeping the parser and its fields instead: they take more memory than most heads do, and
 *           each of them would have to be moved. A coroutine that is parked: two pages of stack, a page of
 *           its G, and a block. */
#include "proxy/downstream_head.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/downstream_wait.h"
#include "proxy/filter_chain.h"

enum { LOOKS_MAX = 128, SLACK_MIN = 64 };

/* For people. One writer. */
static void count(struct worker *worker, int64_t heads, int64_t bytes) {
    uint64_t of_heads = atomic_load_explicit(&worker->head_count, memory_order_relaxed);
    uint64_t of_bytes = atomic_load_explicit(&worker->head_bytes, memory_order_relaxed);
    atomic_store_explicit(&worker->head_count, of_heads + (uint64_t)heads, memory_order_relaxed);
    atomic_store_explicit(&worker->head_bytes, of_bytes + (uint64_t)bytes, memory_order_relaxed);
}

static int64_t size_of(const struct partial_head *head) {
    return (int64_t)(sizeof *head + head->cap);
}

void downstream_head_free(struct partial_head *head) {
    count(worker_at(head->downstream->p_index), -1, -size_of(head));
    downstream_head_leaves(head);
    downstream_head_uncharge(head);
    free(head);
}

void downstream_head_uncharge(struct partial_head *head) {
    if (head->charged)
        downstream_release_bytes(head->downstream, head->charged);
    head->charged = 0;
}

static struct partial_head *resized(struct partial_head *head, uint32_t len) {
    bool is_listed = head && list_is_linked(&head->node);
    uint32_t cap = len + (len / 8 > SLACK_MIN ? len / 8 : SLACK_MIN);
    struct list *before = is_listed ? head->node.prev : NULL;
    if (is_listed)
        list_remove(&head->node);
    struct partial_head *made = realloc(head, sizeof *head + cap);
    struct partial_head *now = made ? made : head;
    if (now)
        list_init(&now->node);
    if (is_listed)
        list_push_front(before, &now->node); /* where it was: oldest first */
    if (made)
        made->cap = cap;
    return made;
}

/* Where a head is kept: with the connection, or with what serves it. */
static bool append(struct partial_head **at, struct span bytes) {
    struct partial_head *head = *at;
    if (bytes.len > head->cap - head->len) {
        int64_t before = size_of(head);
        head = resized(head, head->len + (uint32_t)bytes.len);
        if (!head)
            return false;
        count(worker_at(head->downstream->p_index), 0, size_of(head) - before);
        *at = head;
    }
    memcpy(head->bytes + head->len, bytes.ptr, bytes.len);
    head->len += (uint32_t)bytes.len;
    return true;
}

static struct partial_head *head_new(struct downstream *d, size_t len, int64_t deadline_ns) {
    struct partial_head *head = resized(NULL, (uint32_t)len);
    if (!head)
        return NULL;
    head->downstream = d;
    head->since_ns = rt_now_ns();
    head->deadline_ns = deadline_ns;
    head->verdict = HEAD_MAY_COME;
    head->looks = 0;
    head->charged = 0;
    head->begun = false;
    head->len = 0;
    count(worker_at(d->p_index), 1, size_of(head));
    return head;
}

int downstream_head_append(struct downstream *d, struct partial_head **at, struct span bytes) {
    if (!*at)
        *at = head_new(d, bytes.len, RT_FOREVER);
    if (!*at || !append(at, bytes))
        return -ENOMEM;
    uint32_t more = (uint32_t)size_of(*at) - (*at)->charged;
    if (!d->info->listener->quota || more == 0)
        return 0;
    if (!downstream_charge_bytes(d, more))
        return -ENOBUFS;
    (*at)->charged += more;
    return 0;
}

int downstream_head_keep(struct serving *s, int64_t deadline_ns) {
    struct span bytes = inbuf_bytes(&s->in);
    if (!s->head) {
        s->head = head_new(s->downstream, bytes.len, deadline_ns);
        if (!s->head)
            return -ENOMEM;
    }
    s->head->len = 0;
    if (!append(&s->head, bytes))
        return -ENOMEM;
    while (bytes.len > 0 && (*bytes.ptr == '\r' || *bytes.ptr == '\n'))
        bytes = span_from(bytes, 1);
    s->head->begun = bytes.len > 0;
    inbuf_drop(&s->in);
    return 0;
}

int downstream_head_resume(struct serving *s, struct arena *arena) {
    struct span bytes = span_make(s->head->bytes, s->head->len);
    if (s->head->looks < LOOKS_MAX)
        s->head->looks++;
    return inbuf_put(&s->in, arena, bytes, s->hcm->limits.head_bytes);
}

/* Whether there is something to look at since the first `before` bytes. */
static bool has_news(struct partial_head *head, uint32_t before) {
    bool line = false;
    for (uint32_t i = before; i < head->len; i++) {
        char c = head->bytes[i];
        if (c != '\n') {
            head->begun |= c != '\r';
            continue;
        }
        line |= head->begun;
        bool empty = i > 0 && (head->bytes[i - 1] == '\n' ||
                               (i > 1 && head->bytes[i - 1] == '\r' && head->bytes[i - 2] == '\n'));
        if (empty && head->begun)
            return true;
    }
    return line && head->looks < LOOKS_MAX;
}

bool downstream_head_receive(struct downstream *d) {
    size_t limit = d->info->chain->hcm->limits.head_bytes;
    struct inbuf in;
    bool look = false;
    ssize_t n;
    inbuf_init(&in, worker_at(d->p_index)->blocks);
    while (!look && (n = socket_try_receive(&d->socket, &in)) != -EAGAIN) {
        uint32_t before = d->head->len;
        if (n <= 0) {
            look = true; /* the end, or an error: that is told again */
        } else if (!append(&d->head, inbuf_bytes(&in))) {
            d->head->verdict = HEAD_IS_LOST;
            look = true;
        } else {
            inbuf_consume(&in, inbuf_len(&in));
            look = has_news(d->head, before) || d->head->len >= limit;
        }
    }
    inbuf_drop(&in);
    return look;
}
