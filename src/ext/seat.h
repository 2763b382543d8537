/* seat: a place in an extension where one thread at a time may be. What runs there is serialised: an
 * extension may keep one unlocked map per seat, a lua_State or a Wasm store has one stack.
 *
 *      P 0            P 1                              pool
 *      0 1 │ 2 3      4 5 │ 6 7      ...               n n+1 n+2 ...
 *      calm  wary     calm  wary                       lent to whichever P has no free one
 *
 * A stream takes a seat at its first entry and keeps it for life. A callback that blocks keeps its seat
 * and nothing else: its P is handed on, and streams that come then find another seat. Those that have
 * that seat wait for it, so streams are spread over the seats: of what a P has in flight a block hits
 * the smaller part. Streams whose code is known to block (`wary`) have seats of their own, as long as
 * there are any, and then it hits none of the others.
 *
 * With all of a P's seats blocked and the pool empty a stream waits, first come, first served, until its
 * patience ends.
 *
 * Ownership  The set is its maker's, for the life of the process as a rule. A seat is leased by
 *            seat_take until seat_leave.
 * Threads    A P's coroutines for everything but seat_set_count, which any thread may call.
 * Parks      seat_take, seat_lock, seat_call. */
#pragma once
#include "base/ticks.h"
#include "rt/sync.h"

enum {
    /* What a P may have blocked by default before its requests wait: half are its own, half go to who
     * needs them (docs/go-filters.md has the argument). */
    SEATS_PER_P = 16,
    SEATS_MAX = 1 << 16, /* a thread is blocked in each: more than a process has */
};
/* From here on a P is handed on (sysmon.c), and a callback counts as one that blocks. */
static const uint64_t seat_blocked_ns = NS_PER_MS;

struct seat {
    _Alignas(64) struct comutex mutex;
    uint32_t streams;         /* that have it */
    uint32_t number;          /* from 0 on; for life */
    _Atomic uint64_t since;   /* ticks at which the call in it began; 0: none */
    _Atomic(const void *) by; /* whose call it is; stays behind it */
    struct seat_table *table; /* of the P that has it; NULL in the pool */
    struct seat *next;        /* in the pool, or among those the P was lent */
};
struct seat_set;

/* p_count Ps share `count` seats, at least one each. NULL when memory is short. */
MUST_CHECK struct seat_set *seat_set_new(unsigned p_count, unsigned count);
void seat_set_free(struct seat_set *set); /* of tests: nobody has a seat */
unsigned seat_set_size(const struct seat_set *set);

struct seat_counts {
    unsigned busy;    /* a call is going on */
    unsigned blocked; /* and has been for seat_blocked_ns */
};
/* by: as in seat_call; NULL: of all. */
struct seat_counts seat_set_count(const struct seat_set *set, const void *by);

/* A seat for a stream, held (as by seat_lock). Parks while all are blocked, for as long as patience_ns: 0
 * for not at all, RT_FOREVER. 0; -ETIMEDOUT; -ECANCELED. */
MUST_CHECK int seat_take(struct seat_set *set, bool wary, int64_t patience_ns, struct seat **seat);
/* Not by who holds it. */
void seat_leave(struct seat_set *set, struct seat *seat);

/* Is somebody inside? Then seat_lock would park. */
static inline bool seat_is_held(const struct seat *seat) {
    return seat->mutex.held;
}
/* 0, or -ETIMEDOUT or -ECANCELED and the seat is not held. */
MUST_CHECK int seat_lock(struct seat *seat, int64_t patience_ns);
void seat_unlock(struct seat_set *set, struct seat *seat);

/* Runs fn as foreign_call does, in a seat that is held; with blocks as blocking_call does, when a thread can be
 * had: for code that is known to block, so that the P loses no time. How long fn itself took, in nanoseconds. by:
 * whose code that is, for seat_set_count; never looked into. */
uint64_t seat_call(struct seat *seat, const void *by BORROWED_BY(program), bool blocks, rt_fn fn,
                   void *arg);
