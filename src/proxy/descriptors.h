/* descriptors: what is done when file descriptors run short: RLIMIT_NOFILE, or the system's table.
 *
 *     numbers   0 ............................ first reserved ................ limit
 *               clients, upstreams, everything │ upstreams, the admin, files │
 *
 * Reserve   A proxy whose clients hold all descriptors can connect nowhere. The kernel gives the lowest
 *           number that is free, so a client's connection may simply not have one of the last numbers: an
 *           eighth of the limit, 1024 at most. There is no limit of clients by default; who wants fewer
 *           says so (docs/connections.md).
 * Room      Gives way first: pipes that nobody uses. Then what has been idle for half a second:
 *           connections to upstreams beyond one per host, then those of clients, the longest idle first.
 * Threads   Functions that take a worker: its P. Others: any P. */
#pragma once
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/check.h"
#include "proxy/worker.h"

enum {
    DESCRIPTORS_WAIT_MS = 1000, /* so long a client waits for one; accept.c */
    DESCRIPTORS_IDLE_MS =
        500, /* what has been idle for less stays; all that idles when a client comes
                                 * has given way before its wait is over */
};

/* Inside rt_run, before anything is accepted. 0 or -ENOMEM. */
MUST_CHECK int descriptors_init(void);
/* Below it are those that clients may have. As of the last look at the limit. */
int descriptors_first_reserved(void);

/* The kernel had none: of an error of accept, socket or open. */
static inline bool descriptors_lack(int rc) {
    return rc == -EMFILE || rc == -ENFILE;
}

extern _Atomic int descriptors_near; /* private */
/* False: the next would be of the reserve. last: the number of the client's connection that was accepted
 * before, by which there is mostly nothing to ask; some_fd: any that is open. */
bool descriptors_left_slowly(int some_fd);
static inline bool descriptors_left(int last, int some_fd) {
    if (__builtin_expect(last < atomic_load_explicit(&descriptors_near, memory_order_relaxed), 1))
        return true;
    return descriptors_left_slowly(some_fd);
}

enum descriptors_use { DESCRIPTORS_FOR_CLIENT, DESCRIPTORS_FOR_UPSTREAM };
/* Closes some of what idles on this P. How many descriptors; 0: there is nothing, or was nothing a moment ago. rc: the
 * error that was met, 0: only the reserve is left. */
unsigned descriptors_make_room(struct worker *worker, enum descriptors_use use, int rc);

/* ---- waiting: accept.c ---- */

extern _Atomic unsigned descriptors_waiting; /* private: listening sockets, of all Ps */
/* One more, or one less, of this P's listening sockets waits until a descriptor is free. Whenever one may
 * be, a P that waits gets accept_waiting. */
void descriptors_wait(struct worker *worker);
void descriptors_wait_over(struct worker *worker);
/* This P closed one. */
void descriptors_freed_slowly(void);
static inline void descriptors_freed(void) {
    if (__builtin_expect(atomic_load_explicit(&descriptors_waiting, memory_order_relaxed) != 0, 0))
        descriptors_freed_slowly();
}

/* Gives up the descriptor that is kept for this, so that one connection can be accepted; false: it is in
 * use elsewhere, or lost. The next call takes it again. */
bool descriptors_lend_spare(void);
void descriptors_take_spare(void);

/* A client was turned away, or a connection to an upstream failed, for want of one: for the log. */
void descriptors_count_client(void);
void descriptors_count_upstream(void);
