/* quota: a bound on the memory of one listener's connections, on all Ps together.
 *
 * Who wants memory takes from the purse of its P first, and gives back there. So what was taken on all Ps
 * never exceeds the limit, and a P shares nothing with another but when its purse is empty or full.
 *
 * Slack      A purse keeps up to QUOTA_PURSE_PART-th of the limit, divided by the number of Ps, which
 *            others cannot have while its P is idle: a limit may bite that much too early, never late; but
 *            that late, for a while, after it was lowered below what is taken.
 * Ownership  Of the listeners of one name (listener.h), for the life of the process.
 * Threads    A purse belongs to its P. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "rt/rt.h"
#include "rt/timer.h"

enum { QUOTA_PURSE_PART = 16 };

struct quota;

struct quota_purse {
    struct quota *quota;
    unsigned p_index;
    int64_t credit; /* free here */
    /* Somebody gave back, here or elsewhere, while this P starved: the owner tries again. On the P. */
    void (*on_room)(struct quota_purse *purse);
    bool starves;
    struct rt_post wake;
    _Atomic bool posted, wants; /* wants: starves, as the others see it */
    /* Of the owner of the queue, downstream_wait.c. */
    struct list waiting, heads;
    uint32_t waiting_count, evicting;
    struct timer timer;
} __attribute__((aligned(64)));

struct quota {
    _Atomic int64_t limit_bytes, batch_bytes; /* relaxed: the pool is what holds */
    unsigned purse_count;
    _Atomic int64_t pool __attribute__((aligned(64)));      /* what is in no purse and not taken */
    _Atomic uint32_t starving __attribute__((aligned(64))); /* purses that want */
    struct quota_purse purses[];                            /* by P */
};

/* NULL when memory is short. */
MUST_CHECK struct quota *quota_new(int64_t limit_bytes, unsigned p_count,
                                   void (*on_room)(struct quota_purse *purse));
void quota_free(struct quota *quota);
/* Another limit from now on. If more than that is taken, nothing is to be had until enough came back. One thread at a
 * time. */
void quota_set_limit(struct quota *quota, int64_t limit_bytes);

/* Never parks. False: there is not that much. */
MUST_CHECK bool quota_take(struct quota_purse *purse, int64_t bytes);
void quota_give(struct quota_purse *purse, int64_t bytes);
/* Somebody waits here: what others give back is offered to this P, until quota_starve(purse, false).
 * Afterwards try quota_take once more: it may have come between. */
void quota_starve(struct quota_purse *purse, bool starves);
