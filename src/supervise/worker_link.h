/* worker_link: the serving process's end of its supervisor's link: the listening sockets that a former process had, and
 * what is told of its own.
 *
 * Without a supervisor nothing is kept and nobody is told, but systemd, if it asks (notify.h).
 *
 * Threads  worker_link_open at start, alone; the rest from any, but for worker_link_sockets' count and take: P 0's coroutines. */
#pragma once
#include <stdbool.h>

#include "base/span.h"
#include "io/address.h"
#include "proxy/listener.h"

/* Is this the process that serves, of one that supervises? */
bool worker_link_is_asked(void);
/* Takes what the supervisor has for us, and its death becomes SIGTERM. 0 or -errno. */
MUST_CHECK int worker_link_open(void);
/* Whether there is a supervisor. */
bool worker_link_is_there(void);
/* Whether another process serves until this one is ready, and goes on if it never is. */
bool worker_link_takes_over(void);
/* From 1, how many processes there were, this one included. 1 without a supervisor. */
uint32_t worker_link_generation(void);

/* For listener_open. */
extern const struct listener_sockets worker_link_sockets;

/* Connections are accepted now. Those kept sockets that nobody took are closed. */
void worker_link_ready(void);
/* It ends soon, as it was told, and serves what it has: said to systemd, if there is no supervisor. */
void worker_link_stopping(void);
/* Begins to tell that all processors turn, some times within the supervisor's patience: a coroutine, for as long as the
 * process lives. */
void worker_link_start_beating(int64_t patience_ns);
