/* foreign: calls out of the coroutine world, onto a real thread stack.
 *
 * foreign_call runs fn on the M's system stack while the coroutine stays suspended. Entering is a
 * store, leaving a compare-and-swap. When fn takes longer than a tick of sysmon (1 ms; 5 when no call has
 * for ten seconds) the P is handed to another M and its other coroutines go on; the caller resumes on its
 * own P later (pinned) or on any (stealable). During fn the calling thread may therefore hold no P: fn
 * touches nothing that belongs to a P, allocates with malloc only, and may rt_post, rt_ready and wait on a
 * futex.
 *
 * blocking_call is for what is known to block (getaddrinfo, files): fn runs on a spare M from the
 * start and the P is not held at all. */
#pragma once
#include "rt/rt.h"

void foreign_call(rt_fn fn, void *arg);
/* Without the hand-over, for calls that promise to end within QUICK_CALL_NS: it has a P all the time,
 * and if it blocks, so do the other coroutines of that P. fn is like a scheduler callback: it may
 * rt_post, rt_ready and start coroutines; it may not park or make a foreign call, which asserts.
 * site is a literal that names the call. While quick calls are going on, sysmon looks at each tick
 * whether one is in flight, again QUICK_CALL_NS later and, if it is the same, once more 100 us later:
 * that call has broken the promise. It is counted (rt_p_stats.slow_quicks), and each site is logged
 * once. So a call that takes longer than a tick (as above) is always found, one of less in proportion to its length,
 * down to 120 us: below that the kernel's own work looks the same. A thread that the kernel did not let
 * run has not broken its promise; one that sleeps has. */
enum { QUICK_CALL_NS = 20 * 1000 };
void foreign_call_quick(const char *site, rt_fn fn, void *arg);
/* For what computes for about a millisecond at most, needs a thread's stack, and does not block: before that
 * foreign_call would not hand the P over either, and sysmon would look closely whether it must, which
 * costs more than the hand-over wins. So it has a P all the time, like a quick call, promises less, and costs
 * nothing beside fn. One that takes much longer is found as a coroutine is that does (stall.c). */
void foreign_call_short(rt_fn fn, void *arg);
/* 0 or -EAGAIN when no spare M can be had; then fn did not run. */
MUST_CHECK int blocking_call(rt_fn fn, void *arg);

/* True on a thread that is inside foreign_call's fn. */
bool foreign_is_active(void);
