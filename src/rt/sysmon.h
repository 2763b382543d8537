/* sysmon.h: what the hot paths say to the thread of sysmon.c, and what that thread asks of stall.c.
 *
 * Threads  sysmon_foreign_entered and sysmon_p_awoke: the M that holds the P. stall_*: sysmon only.
 * Parks    Nothing here does. */
#pragma once
#include "rt/rt_internal.h"

/* How sysmon looks at the Ps. Others only ever lower the level, to wake it up. */
enum {
    SYSMON_FINE = 0,   /* each millisecond: nobody has to tell it anything */
    SYSMON_COARSE = 1, /* each ten: who enters foreign code wakes it */
    SYSMON_ASLEEP = 2, /* not at all: a P that awakes wakes it, too */
    SYSMON_LEVELS = 3, /* mask */
    SYSMON_STRONG = 4, /* a flag beside the level: there is no membarrier(2), see sysmon.c */
};
extern _Atomic uint32_t sysmon_state;

void sysmon_foreign_entered_slow(struct p *p);
void sysmon_p_awoke_slow(struct p *p);

/* After the store that says so (P.owner, P.quick_site), which must not be moved behind the load. */
static inline void sysmon_foreign_entered(struct p *p) {
    atomic_signal_fence(memory_order_seq_cst);
    uint32_t state = atomic_load_explicit(&sysmon_state, memory_order_relaxed);
    if (__builtin_expect(state != SYSMON_FINE, 0))
        sysmon_foreign_entered_slow(p);
}

/* After a poll that slept, and the store of P.sleeping = 0. */
static inline void sysmon_p_awoke(struct p *p) {
    atomic_signal_fence(memory_order_seq_cst);
    uint32_t state = atomic_load_explicit(&sysmon_state, memory_order_relaxed);
    if (__builtin_expect(state & (SYSMON_ASLEEP | SYSMON_STRONG), 0))
        sysmon_p_awoke_slow(p);
}

/* ---- stall.c ---- */

/* Looks whether what runs on p holds it up, and reports it. True: look again in a millisecond. fine:
 * the last look was no longer ago. */
bool stall_look(struct p *p, int64_t now_ns, bool fine);
/* Looks at all quick calls in flight, twice, and reports those that were the same. */
void stall_look_at_quick_calls(void);
/* The looks so far mean nothing: nobody ran meanwhile, sysmon included. */
void stall_forget(int64_t now_ns);
