/* downstream_wait: connections with a request at hand for which there is no memory now.
 *
 *     admit ──room──► serve the request ──► release
 *       └─none─► wait, for so long at most ──room──► serve it
 *                        └─time is over──► 503
 *
 * A connection that waits has no coroutine and no block: it is not read from.
 *
 * Charge     A request is admitted when DOWNSTREAM_CHARGE can be taken from its listener's quota, which is
 *            all that the blocks of an exchange can come to; only what its arena takes beyond its first
 *            block is taken later, and then a refusal fails that exchange.
 * Threads    The connection's P. Only downstream_charge_more parks. */
#pragma once
#include "mem/block.h"
#include "proxy/downstream.h"

enum {
    /* Blocks of one exchange: the arena's first; the one its head came in and one for the body behind;
     * the same of the response. */
    DOWNSTREAM_CHARGE = 5 * BLOCK_SIZE,
    DOWNSTREAM_STREAM_CHARGE =
        2 * BLOCK_SIZE,        /* of one that network filters have: a block each way */
    DOWNSTREAM_WAIT_MS = 1000, /* unless its listener says something else of its own limit */
    DOWNSTREAM_HEAD_MS = 1000, /* a head that takes longer gives way to those that wait */
};

/* Private: under pressure, or with a quota. */
bool downstream_admit_slowly(struct serving *s);
void downstream_release_slowly(struct serving *s);

/* Before a request is read, by the connection's coroutine. False: the connection waits from now on, and
 * the coroutine ends without touching it again. */
static inline bool downstream_admit(struct serving *s) {
    if (__builtin_expect(!s->purse && !s->worker->overload.active, 1))
        return true;
    return downstream_admit_slowly(s);
}
/* After a request: its memory is everybody's. */
static inline void downstream_release(struct serving *s) {
    if (__builtin_expect(s->downstream->charged || s->downstream->refuse, 0))
        downstream_release_slowly(s);
}

/* For one that network filters have, from its opening to its end: true when the listener's quota, if it has one, has
 * room for it. Never waits. */
MUST_CHECK bool downstream_charge_stream(struct downstream *d);
void downstream_release_stream(struct downstream *d);

/* For what is kept of one that has not got as far. It has a quota. */
MUST_CHECK bool downstream_charge_bytes(struct downstream *d, uint32_t bytes);
void downstream_release_bytes(struct downstream *d, uint32_t bytes);

/* Its timer fired while it waited: it is to be refused. */
void downstream_wait_over(struct downstream *d);
/* It will not wait any longer, because it ends. */
void downstream_wait_leave(struct downstream *d);

struct partial_head;
/* The head of a request does not come in one piece: its connection waits for the rest. It may be made to give
 * way at once, that is to be served, until downstream_head_leaves. */
void downstream_head_waits(struct partial_head *head);
void downstream_head_leaves(struct partial_head *head);

/* For exchange_charge, of a connection with a quota. */
MUST_CHECK int downstream_charge_more(struct serving *s, size_t bytes);
void downstream_give_more(struct serving *s, size_t bytes);

/* What an arena takes on behalf of a connection with a quota. */
void downstream_payer_init(struct serving *s);
/* For quota_new. */
void downstream_quota_room(struct quota_purse *purse);
