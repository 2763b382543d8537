/* sysmon.h: what the hot paths say to the thread of sysmon.c, and what that thread asks of stall.c.
 *
 * Threads  sysmon_foreign_entered and sysmon_p_awoke: the M that holds the P. stall_*: sysmon only.
 * Parks    Nothing here does. */
#pragma once
#include "rt/rt_internal.h"

/* How sysmon looks at the Ps. Others only ever lower the level, to wake it up. */
enum {
    SYSMON_FINE = 0,   /* each 1 or 5 ms: nobody has to tell it anything */
    SYSMON_COARSE = 1, /* each ten: who enters foreign code wakes it */
    SYSMON_ASLEEP = 2, /* not at all: a P that awakes wakes it, too */
    SYSMON_LEVELS = 3, /* mask */
    SYSMON_STRONG = 4, /* a flag beside the level: there is no membarrier(2), see sysmon.c */
    SYSMON_STOP = 8,   /* another one */
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

/* How soon sysmon looks again at the fine level. */
struct sysmon_pace {
    int64_t wary_until_ns;
    unsigned burst_ticks; /* left */
};
static inline bool sysmon_is_wary(const struct sysmon_pace *pace, int64_t now_ns) {
    return now_ns < pace->wary_until_ns;
}
/* After a look that has found a call blocked, or one under way. In nanoseconds. */
int64_t sysmon_pace_next(struct sysmon_pace *pace, int64_t now_ns, bool blocked, bool under_way);

/* ---- stall.c ---- */

/* Looks whether what runs on p holds it up, and reports it. True: look again in a millisecond. fine:
 * the last look was no longer ago. */
bool stall_look(struct p *p, int64_t now_ns, bool fine);
/* Of the thread of m so far, -1 when it has ended. */
int64_t stall_cpu_ns(struct m *m);
/* Of a thread that has been in one call for a while, at whose begin the above was cpu_ns: it is asleep in the
 * kernel, or has computed, and was not merely kept from running. */
bool stall_is_blocked(struct m *m, int64_t cpu_ns);
/* Looks at all quick calls in flight, twice, and reports those that were the same. */
void stall_look_at_quick_calls(void);
/* The looks so far mean nothing: nobody ran meanwhile, sysmon included. */
void stall_forget(int64_t now_ns);
