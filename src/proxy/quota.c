/* quota: credit in purses.
 *
 *      take            ┌──────── purse of P 0: credit ────────┐            pool
 *     connections ◄────┤  a batch when it is empty   ◄────────┼──────── atomic
 *                 ────►│  what is over two batches   ─────────┼────────►
 *      give            └──────────────────────────────────────┘
 *
 * Q1  pool + all credits + all that is taken == limit_bytes, in any order of events: bytes are taken out of
 *     one of the three before they are put into another. None of them is ever below 0, but the pool
 *     when the limit was lowered to less than is taken.
 *
 * Starving  A P whose connections wait says so in `wants` and `starving`. While anybody starves nobody keeps
 *           credit that somebody gave back: it goes to the pool, and those who starve get a message.
 * Order     Who starves writes starving, then tries the pool; who gives adds to the pool, then reads
 *           starving. With all four sequentially consistent one of them sees the other. Credit that stays
 *           in a purse is not part of this: its P may have read an old `starving`. That is the slack.
 *
 * Rejected  A fixed part of the limit for each P: SO_REUSEPORT spreads connections, not what they
 *           need, and one P would refuse while the others have plenty. One atomic count: two locked
 *           instructions on a line of all Ps for each request. */
#include "proxy/quota.h"

#include <stdlib.h>

static void woken(struct rt_post *post) {
    struct quota_purse *purse = container_of(post, struct quota_purse, wake);
    atomic_store_explicit(&purse->posted, false, memory_order_seq_cst);
    if (purse->starves)
        purse->on_room(purse);
}

static int64_t batch_of(int64_t limit_bytes, unsigned purse_count) {
    return limit_bytes / (2 * QUOTA_PURSE_PART * (int64_t)purse_count);
}

static int64_t batch(const struct quota *quota) {
    return atomic_load_explicit(&quota->batch_bytes, memory_order_relaxed);
}

struct quota *quota_new(int64_t limit_bytes, unsigned p_count,
                        void (*on_room)(struct quota_purse *purse)) {
    size_t size = sizeof(struct quota) + p_count * sizeof(struct quota_purse);
    struct quota *quota = aligned_alloc(64, (size + 63) / 64 * 64);
    if (!quota)
        return NULL;
    *quota = (struct quota){.limit_bytes = limit_bytes,
                            .batch_bytes = batch_of(limit_bytes, p_count),
                            .purse_count = p_count,
                            .pool = limit_bytes};
    for (unsigned p = 0; p < p_count; p++) {
        struct quota_purse *purse = &quota->purses[p];
        *purse = (struct quota_purse){
            .quota = quota, .p_index = p, .on_room = on_room, .wake = {.fn = woken}};
        list_init(&purse->waiting);
        list_init(&purse->heads);
    }
    return quota;
}

void quota_free(struct quota *quota) {
    free(quota);
}

/* At least `needed` into the purse, and up to a batch more where nobody starves. */
static bool refill(struct quota_purse *purse, int64_t needed) {
    struct quota *quota = purse->quota;
    int64_t there = atomic_load_explicit(&quota->pool, memory_order_seq_cst);
    int64_t wanted, got;
    bool starving = atomic_load_explicit(&quota->starving, memory_order_relaxed) != 0;
    do {
        if (there < needed)
            return false;
        wanted = starving ? needed : needed + batch(quota);
        got = wanted < there ? wanted : there;
    } while (!atomic_compare_exchange_weak_explicit(&quota->pool, &there, there - got,
                                                    memory_order_seq_cst, memory_order_seq_cst));
    purse->credit += got;
    return true;
}

bool quota_take(struct quota_purse *purse, int64_t bytes) {
    if (purse->credit < bytes && !refill(purse, bytes - purse->credit))
        return false;
    purse->credit -= bytes;
    ASSERT(purse->credit >= 0); /* Q1 */
    return true;
}

static void wake_starving(struct quota *quota) {
    for (unsigned p = 0; p < quota->purse_count; p++) {
        struct quota_purse *purse = &quota->purses[p];
        if (atomic_load_explicit(&purse->wants, memory_order_seq_cst) &&
            !atomic_exchange_explicit(&purse->posted, true, memory_order_seq_cst))
            rt_post(p, &purse->wake);
    }
}

void quota_set_limit(struct quota *quota, int64_t limit_bytes) {
    int64_t before =
        atomic_exchange_explicit(&quota->limit_bytes, limit_bytes, memory_order_relaxed);
    atomic_store_explicit(&quota->batch_bytes, batch_of(limit_bytes, quota->purse_count),
                          memory_order_relaxed);
    atomic_fetch_add_explicit(&quota->pool, limit_bytes - before, memory_order_seq_cst);
    if (limit_bytes > before && atomic_load_explicit(&quota->starving, memory_order_seq_cst))
        wake_starving(quota);
}

void quota_give(struct quota_purse *purse, int64_t bytes) {
    struct quota *quota = purse->quota;
    purse->credit += bytes;
    if (purse->starves)
        purse->on_room(purse);
    bool starving = atomic_load_explicit(&quota->starving, memory_order_relaxed) != 0;
    if (!starving && purse->credit <= 2 * batch(quota))
        return;
    int64_t over = purse->credit - (starving ? 0 : batch(quota));
    if (over == 0)
        return; /* the waiting ones here took it */
    purse->credit -= over;
    atomic_fetch_add_explicit(&quota->pool, over, memory_order_seq_cst);
    if (atomic_load_explicit(&quota->starving, memory_order_seq_cst))
        wake_starving(quota);
}

void quota_starve(struct quota_purse *purse, bool starves) {
    if (purse->starves == starves)
        return;
    purse->starves = starves;
    atomic_store_explicit(&purse->wants, starves, memory_order_seq_cst);
    if (starves)
        atomic_fetch_add_explicit(&purse->quota->starving, 1, memory_order_seq_cst);
    else
        atomic_fetch_sub_explicit(&purse->quota->starving, 1, memory_order_seq_cst);
}
