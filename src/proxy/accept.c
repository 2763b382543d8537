/* accept: who gets in, and how many at a time.
 *
 *     edge ──► accept_now: up to N ──the queue is empty──► done
 *                   │ there is more
 *                   ▼
 *              coroutine "accept": yield ─► up to N ─► yield ─► up to N ─► ... ─► the queue is empty
 *
 * Fairness  5,000 connections in the queue must not keep those that are open from being answered. So N are
 *           taken (max_connections_to_accept_per_socket_event), then a coroutine goes to the end of the
 *           queue of what is ready: whoever was ready before it has a turn. It exists during a storm only;
 *           a connection now and then is accepted by the edge itself and costs no coroutine.
 *           A message of the P to itself, tried first, does not do: the inbox is emptied before each
 *           coroutine that runs, so there were N connections for one turn of everybody else's.
 * N         16 by default, where Envoy has no limit. A connection costs some 15 us until it is open and
 *           25 us for its first request, so a round of 16 makes the others wait for about 0.6 ms. A
 *           smaller one would slow down accepting while the P is busy, since a round then takes as long as
 *           all that is ready; it would save nothing otherwise, as a yield is cheap.
 * Limits    In Envoy's order: the process's, reject_incoming_connections, the listener's. Who is over a
 *           limit is accepted and closed at once, so that the client knows.
 * EMFILE    The kernel keeps the connection in its queue and gives no new edge for it. Each P retries on
 *           a timer instead of spinning, and the stat says how often. */
#include "proxy/accept.h"

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/sys.h"
#include "proxy/downstream.h"

LOG_COMPONENT(accept, "conn_handler");

enum { RETRY_MS = 50 };

enum turn {
    TURN_EMPTY,   /* nobody is in the queue; an event will tell */
    TURN_MORE,    /* there may be more, and it is others' turn */
    TURN_STOPPED, /* who is in the queue has to wait there */
};

static bool heeds_overload(const struct listener *listener) {
    return !listener->hcm->bypass_overload;
}

/* ---- limits ---- */

void listener_leave(const struct listener *listener) {
    if (listener->limit)
        connection_limit_give(listener->limit);
    if (listener->global)
        connection_limit_give(listener->global);
}

/* False: it is one too many. */
static bool enter(const struct listener *listener, struct worker *worker) {
    const struct listener_stats *stats = &listener->stats;
    if (listener->global && listener->ignores_global) {
        connection_limit_count(listener->global);
    } else if (listener->global && !connection_limit_take(listener->global)) {
        stat_inc(stats->global_cx_overflow, worker->index);
        return false;
    }
    struct statistic *refused = NULL;
    if (heeds_overload(listener) && worker_overload(worker, OVERLOAD_REJECT_CONNECTIONS))
        refused = stats->cx_overload_reject;
    else if (listener->limit && !connection_limit_take(listener->limit))
        refused = stats->cx_overflow;
    if (!refused)
        return true;
    if (listener->global)
        connection_limit_give(listener->global);
    stat_inc(refused, worker->index);
    return false;
}

/* ---- rounds ---- */

static enum turn take_turn(struct listener_fd *lfd) {
    struct listener *listener = lfd->listener;
    struct worker *worker = worker_here();
    if (heeds_overload(listener) && overload_is_full(&worker->overload, OVERLOAD_STOP_CONNECTIONS))
        return TURN_STOPPED; /* until listener_accept_all */
    for (uint32_t i = 0; i < listener->accepts_per_turn; i++) {
        struct address peer;
        int fd = socket_try_accept(&lfd->socket, &peer);
        if (fd >= 0 && enter(listener, worker)) {
            downstream_accept(worker, fd, &peer, listener);
        } else if (fd >= 0) {
            (void)close(fd);
        } else if (fd == -EAGAIN) {
            return TURN_EMPTY;
        } else if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM) {
            LOG(log_accept, LOG_WARN,
                "listener %s: cannot accept: %s; raise the limit of open files", listener->name,
                strerror(-fd));
            timer_arm(&lfd->retry, rt_now_ns() + RETRY_MS * NS_PER_MS);
            return TURN_STOPPED;
        }
        /* else it was ECONNABORTED or an error of the network, of that one connection */
    }
    return TURN_MORE;
}

/* A coroutine while there is a storm. */
static void take_turns(void *arg) {
    struct listener_fd *lfd = arg;
    do
        rt_yield();
    while (lfd->open && take_turn(lfd) == TURN_MORE);
    lfd->storming = false;
}

void accept_now(struct listener_fd *lfd) {
    if (!lfd->open || lfd->storming || take_turn(lfd) != TURN_MORE)
        return;
    const struct go_options options = {.name = "accept",
                                       .place = RT_HERE,
                                       .priority = lfd->listener->is_admin ? RT_HIGH : RT_NORMAL};
    lfd->storming = go_with(&options, take_turns, lfd) == 0;
    if (!lfd->storming) /* no memory; nothing else will tell of who is in the queue */
        timer_arm(&lfd->retry, rt_now_ns() + RETRY_MS * NS_PER_MS);
}

void accept_retry(struct timer *timer) {
    accept_now(container_of(timer, struct listener_fd, retry));
}

void listener_accept_all(struct worker *worker) {
    for (struct list *at = worker->listeners.next; at != &worker->listeners; at = at->next)
        accept_now(container_of(at, struct listener_fd, node));
}
