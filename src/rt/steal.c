/* steal: work of other Ps.
 *
 * A search goes over all other Ps up to ROUNDS times, as Go's does, from a random start by a random step
 * that is coprime to their number: each is visited once, and thieves do not queue up behind each other at
 * the same victim. It takes half of the first ring with something in it; of high priority first.
 *
 * A victim's runnext is taken in the last round only, and only if it is stuck: what a coroutine has just
 * woken runs as soon as that one parks, mostly within a microsecond, on the P whose caches know it. So the
 * thief waits and takes it when the victim did not come to its scheduler meanwhile (`switches` did not
 * move). It waits asleep in its poller, for BACKOFF_NS and the kernel's timer slack (50 us), and as a
 * spinner: two coroutines that wake each other by turns would else wake it for each turn, for nothing.
 * (Waiting busily, a round trip of theirs took 20 times its time.)
 *
 * Threads  A spinning P's M; sched_sees_shared_work: any M. */
#include <poll.h>

#include "base/clock.h"
#include "base/gcd.h"
#include "rt/queues.h"
#include "rt/rt_internal.h"
#include "rt/spin.h"
#include "rt/trace_hooks.h"

enum {
    ROUNDS = 4,        /* Go's */
    BACKOFF_NS = 3000, /* Go's */
};

static struct {
    uint8_t steps[RT_P_MAX];
    unsigned count;
} coprime;

void steal_init(unsigned p_count) {
    coprime.count = 0;
    for (unsigned i = 1; i <= p_count; i++)
        if (gcd(i, p_count) == 1)
            coprime.steps[coprime.count++] = (uint8_t)i;
}

static uint64_t switches_of(struct p *p) {
    return atomic_load_explicit(&p->switches, memory_order_relaxed);
}

/* The victim's stealable runnext, when it has not come to run it for BACKOFF_NS; else 0. */
static uintptr_t stuck_runnext(struct p *victim) {
    uintptr_t next = atomic_load(&victim->runnext);
    if (!(next & RUNNEXT_SHARED))
        return 0;
    uint64_t switches = switches_of(victim);
    for (int64_t until = clock_mono_ns() + BACKOFF_NS; clock_mono_ns() < until; spin_pause())
        if (switches_of(victim) != switches ||
            atomic_load_explicit(&victim->runnext, memory_order_relaxed) != next)
            return 0;
    return next;
}

/* The stealable runnexts as of the search's last round but one. */
struct sighting {
    uintptr_t next;
    uint64_t switches;
};

/* True when there are any. */
static bool look_at_runnexts(struct p *p, struct sighting seen[]) {
    bool any = false;
    for (unsigned i = 0; i < rt_sched.p_count; i++) {
        struct p *victim = rt_sched.ps[i];
        uintptr_t next = victim == p ? 0 : atomic_load(&victim->runnext);
        seen[i] = (struct sighting){next & RUNNEXT_SHARED ? next : 0, switches_of(victim)};
        any |= seen[i].next != 0;
    }
    return any;
}

/* Events of the P end it; they are dispatched later, by a poll. */
static void doze(struct p *p) {
    struct pollfd events = {.fd = p->epoll_fd, .events = POLLIN};
    struct timespec backoff = {.tv_nsec = BACKOFF_NS};
    (void)ppoll(&events, 1, &backoff, NULL); /* cut short is as good */
}

static struct g *steal_runnext(struct p *victim, const struct sighting *seen) {
    uintptr_t next = seen->next;
    if (!next || switches_of(victim) != seen->switches)
        return NULL;
    /* Acquires what queue_push_next released. */
    if (atomic_compare_exchange_strong(&victim->runnext, &next, 0))
        return (struct g *)(next & ~RUNNEXT_SHARED);   // NOLINT(performance-no-int-to-ptr)
    return NULL;
}

static struct g *steal_from(struct p *p, struct p *victim, enum rt_priority priority,
                            const struct sighting *runnext) {
    struct g *g = runq_steal(&p->rings[priority], &victim->rings[priority]);
    if (g && priority != RT_NORMAL)
        queue_set_mixed(p); /* the rest of the loot */
    if (!g && runnext && priority == RT_NORMAL)
        g = steal_runnext(victim, runnext);
    return g;
}

struct g *steal(struct p *p) {
    static const enum rt_priority order[RT_PRIORITIES] = {RT_HIGH, RT_NORMAL, RT_LOW};
    unsigned count = rt_sched.p_count;
    uint32_t classes = idle_shared();
    struct sighting seen[RT_P_MAX];
    for (unsigned round = 0; round < ROUNDS; round++) {
        bool last = round == ROUNDS - 1;
        if (last && look_at_runnexts(p, seen))
            doze(p);
        unsigned seed = p->steal_seed = p->steal_seed * 1664525U + 1013904223U;
        unsigned start = (seed >> 8) % count;
        unsigned step = coprime.steps[(seed >> 20) % coprime.count];
        for (unsigned class = 0; class < RT_PRIORITIES; class ++) {
            if (!(classes & 1U << order[class]))
                continue;
            for (unsigned i = 0, at = start; i < count; i++, at = (at + step) % count) {
                struct p *victim = rt_sched.ps[at];
                struct g *g = victim == p
                                  ? NULL
                                  : steal_from(p, victim, order[class], last ? &seen[at] : NULL);
                if (!g)
                    continue;
                counter_add(&p->steals, 1);
                if (trace_is_on())
                    trace_steals(p, g, victim);
                return g;
            }
        }
    }
    return NULL;
}

bool sched_sees_shared_work(bool patient) {
    if (atomic_load(&rt_sched.global_count))
        return true;
    uint32_t classes = idle_shared();
    for (unsigned i = 0; i < rt_sched.p_count; i++) {
        struct p *p = rt_sched.ps[i];
        for (unsigned priority = 0; priority < RT_PRIORITIES; priority++)
            if ((classes & 1U << priority) && !runq_is_empty(&p->rings[priority]))
                return true;
        if (!patient && (atomic_load(&p->runnext) & RUNNEXT_SHARED))
            return true;
    }
    for (unsigned i = 0; patient && i < rt_sched.p_count; i++)
        if (stuck_runnext(rt_sched.ps[i]))
            return true;
    return false;
}
