/* select: one coroutine stands in the queues of several channels at once.
 *
 *     lock all ---> which are ready? ---> one of them, at random ---> unlock all, done
 *                          | none
 *                          v
 *                 queue up everywhere, unlock all, park until served ---> leave the other queues
 *
 * S1  A channel that stands in several cases is locked once; all are locked in the order of their
 *     addresses, so two selects never wait for each other's locks.
 * S2  With all locks held no operation is under way on any of the channels: "none is ready" was true
 *     of one moment for all, and nobody can find a half-queued select.
 * S3  Leaving the queues takes one lock at a time: served is set, so a server that meets one of the
 *     other waiters only unlinks it. This must precede the return: the waiters are on our stack.
 * S4  A deadline claims served for itself, by the same compare-and-swap as the servers (W2 in chan.c).
 *     If it wins no operation can happen any more; if it loses one has, and is reported.
 *
 * Fairness  One number picks among the ready cases alone, so each has the same chance, and a case that
 *           is not ready costs no draw. A case may look ready because of a waiter that was served
 *           elsewhere; the attempt then finds nothing and the draw is repeated among the rest.
 * Rejected  Go's shuffle of all cases: a random number for each, to use the first that is ready.
 *           One lock at a time also while queueing up: a select that is served while it is serving
 *           would have to undo what it had promised. */
#include "rt/select.h"

#include "rt/chan_internal.h"
#include "rt/rt_internal.h"

static_assert(SELECT_CASES_MAX <= 64, "the ready cases are a uint64_t");

/* The channels of a select, each once, in the order of their addresses. */
struct channels {
    unsigned count;
    struct chan *ch[SELECT_CASES_MAX];
};

/* By insertion: most selects name two to four channels, often in the order of their making. */
static void channels_sort(struct channels *all, const struct select_case *cases, unsigned count) {
    all->count = 0;
    for (unsigned i = 0; i < count; i++) {
        struct chan *ch = cases[i].ch;
        unsigned at = all->count;
        while (at > 0 && (uintptr_t)all->ch[at - 1] > (uintptr_t)ch)
            at--;
        if (!ch || (at > 0 && all->ch[at - 1] == ch))
            continue;
        for (unsigned j = all->count; j > at; j--)
            all->ch[j] = all->ch[j - 1];
        all->ch[at] = ch;
        all->count++;
    }
}

static void lock_all(const struct channels *all) {
    for (unsigned i = 0; i < all->count; i++)
        spin_lock(&all->ch[i]->lock);
}

static void unlock_all(const struct channels *all) {
    for (unsigned i = 0; i < all->count; i++)
        spin_unlock(&all->ch[i]->lock);
}

static bool looks_ready_locked(const struct select_case *c) {
    const struct chan *ch = c->ch;
    if (!ch)
        return false;
    if (c->op == SELECT_SEND)
        return ch->closed || ch->count < ch->capacity || !list_is_empty(&ch->receivers);
    return ch->closed || ch->count > 0 || !list_is_empty(&ch->senders);
}

/* Below count. Not cryptographic: a peer who knew the sequence could only predict our order of work.
 * A Weyl sequence of the P, mixed by a multiplication (the finish of splitmix64, shortened). */
static NOINLINE unsigned random_below(unsigned count) {
    struct p *p = p_self();
    ASSERT(p);
    uint64_t x = p->select_seed += 0x9E3779B97F4A7C15;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    return (unsigned)((x >> 32) * count >> 32);
}

/* The index of one of the bits of mask. */
static unsigned pick(uint64_t mask) {
    unsigned count = (unsigned)__builtin_popcountll(mask);
    for (unsigned skip = count > 1 ? random_below(count) : 0; skip > 0; skip--)
        mask &= mask - 1;
    return (unsigned)__builtin_ctzll(mask);
}

/* The index of the case that went on, or -EAGAIN. */
static int try_locked(struct select_case *cases, unsigned count, struct chan_wait **peer) {
    uint64_t ready = 0;
    for (unsigned i = 0; i < count; i++)
        ready |= (uint64_t)looks_ready_locked(&cases[i]) << i;
    while (ready) {
        unsigned i = pick(ready);
        struct select_case *c = &cases[i];
        int err = c->op == SELECT_SEND ? chan_send_locked(c->ch, c->elem, peer)
                                       : chan_recv_locked(c->ch, c->elem, peer);
        if (err != -EAGAIN) {
            c->closed = err == -EPIPE;
            return (int)i;
        }
        ready &= ~(UINT64_C(1) << i);
    }
    return -EAGAIN;
}

int select_try(struct select_case *cases, unsigned count) {
    ASSERT(count <= SELECT_CASES_MAX);
    struct channels all;
    channels_sort(&all, cases, count);
    struct chan_wait *peer = NULL;
    lock_all(&all);
    int chosen = try_locked(cases, count, &peer);
    unlock_all(&all);
    if (peer)
        chan_release(peer);
    return chosen;
}

static void queue_up_locked(struct chan_wait *wait, struct chan_waiter *waiters,
                            struct select_case *cases, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        struct chan *ch = cases[i].ch;
        if (!ch)
            continue;
        waiters[i].wait = wait;
        if (cases[i].op == SELECT_SEND) {
            waiters[i].from = cases[i].elem;
            list_push_back(&ch->senders, &waiters[i].node);
        } else {
            waiters[i].into = cases[i].elem;
            list_push_back(&ch->receivers, &waiters[i].node);
        }
    }
}

/* All but the one served, whose node is its server's. */
static void leave_queues(struct chan_waiter *waiters, const struct chan_waiter *served,
                         struct select_case *cases, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        struct chan *ch = cases[i].ch;
        if (!ch || &waiters[i] == served)
            continue;
        spin_lock(&ch->lock);
        list_remove(&waiters[i].node); /* does nothing when it is unlinked */
        spin_unlock(&ch->lock);
    }
}

static int wait_in_queues(struct chan_wait *wait, struct chan_waiter *waiters,
                          struct select_case *cases, unsigned count, int64_t deadline_ns) {
    int err = chan_await(wait, "select", deadline_ns);
    struct chan_waiter *served = NULL, nobody;
    if (err < 0 &&
        atomic_compare_exchange_strong_explicit(&wait->served, &served, &nobody,
                                                memory_order_relaxed, memory_order_relaxed)) {
        leave_queues(waiters, NULL, cases, count); /* S4 */
        return err;
    }
    chan_await_release(wait);
    served = atomic_load_explicit(&wait->served, memory_order_relaxed);
    leave_queues(waiters, served, cases, count); /* S3 */
    unsigned chosen = (unsigned)(served - waiters);
    cases[chosen].closed = wait->closed;
    return (int)chosen;
}

int select_wait(struct select_case *cases, unsigned count, int64_t deadline_ns) {
    ASSERT(count <= SELECT_CASES_MAX);
    struct chan_wait wait = {.g = rt_self(), .is_select = true};
    ASSERT(wait.g);
    struct channels all;
    channels_sort(&all, cases, count);
    struct chan_wait *peer = NULL;
    lock_all(&all);
    int chosen = try_locked(cases, count, &peer);
    if (chosen >= 0) {
        unlock_all(&all);
        if (peer)
            chan_release(peer);
        return chosen;
    }
    struct chan_waiter waiters[SELECT_CASES_MAX];
    queue_up_locked(&wait, waiters, cases, count);
    unlock_all(&all);
    return wait_in_queues(&wait, waiters, cases, count, deadline_ns);
}
