/* idle: which Ps sleep, which look for work, and which one new work wakes.
 *
 * Ownership  A struct idle_p lives in its P and is borrowed for ever by idle_p_init.
 * Threads    idle_wake, idle_new_work, idle_claim, idle_share and the counts: any thread. The rest: the
 *            P's M.
 * Calls      sched_sees_own_work, sched_sees_shared_work and poller_interrupt, declared below; nothing
 *            else, so that idle.c can be compiled and explored without the rest of the runtime. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"

struct idle_p {
    unsigned index;
    bool listed;           /* we are in the list of idle Ps, or were until somebody claimed us */
    _Atomic bool spinning; /* looks for other Ps' work; written by the P's M */
    _Atomic uint32_t sleeping; /* asleep in its poller, or about to be */
};

/* Also forgets everything: a test may start anew. */
void idle_init(unsigned p_count);
void idle_p_init(struct idle_p *p, unsigned index);

/* There are coroutines that any P may run, of these classes (bits). Before the first is queued. */
void idle_share(uint32_t classes);
/* The classes there are; 0 while all coroutines are pinned, and then no list is kept. */
uint32_t idle_shared(void);

/* Wakes p for work of its own (inbox, stopping). The work is visible already. */
void idle_wake(struct idle_p *p);
/* There is new work that any P may run, visible already: one idle P comes to look for it unless one is
 * looking. */
void idle_new_work(void);
/* The index of an idle P, preferred if it is one, or -1. It is no longer idle for others; the caller gives
 * it work of its own and wakes it. */
int idle_claim(unsigned preferred);

/* True when p is, or now becomes, one of those who look: they are at most half as many as the busy Ps. */
bool idle_may_spin(struct idle_p *p);
/* p found work. When it was looking it stops that, and another P comes if there is more. */
void idle_found(struct idle_p *p);

/* True: p may sleep in its poller now, and calls idle_awake when it returns from that. False: there is
 * work, and p is awake. */
MUST_CHECK bool idle_fall_asleep(struct idle_p *p);
void idle_awake(struct idle_p *p);

unsigned idle_spinning_count(void);
unsigned idle_count(void);

/* ---- What idle.c calls; sched.c, steal.c and poll.c have them ---- */

/* Loads are seq_cst. Own work is what only p can do. patient: what another P will run at once does not
 * count. */
bool sched_sees_own_work(struct idle_p *p);
bool sched_sees_shared_work(bool patient);
/* A sleep of p in its poller, running or next, ends. */
void poller_interrupt(struct idle_p *p);
