/* accept: who gets in, and how many at a time.
 *
 *     edge ──► accept_now: up to N ──the queue is empty──► done
 *                   │ there is more
 *                   ▼
 *              coroutine "accept": yield ─► up to N ─► yield ─► up to N ─► ... ─► the queue is empty
 *
 * Fairness  5,000 connections in the queue must not keep those that are open from being answered. So N are
 *           taken (max_connections_to_accept_per_socket_event), then a coroutine goes to the end of the
 *           queue of what is ready: whoever was ready before it has a turn, and whoever has something to
 *           read by then. It exists during a storm only; a connection now and then is accepted by the edge
 *           itself and costs no coroutine.
 *           A message of the P to itself, tried first, does not do: the inbox is emptied before each
 *           coroutine that runs, so there were N connections for one turn of everybody else's.
 * N         16 by default, where Envoy has no limit. A connection costs some 8 us of a processor until it is
 *           open and 20 us for its first request, if that is answered at once: a round of 16 makes the
 *           others wait for half a millisecond. A smaller one would slow down accepting while the P is
 *           busy, since a round then takes as long as all that is ready.
 * Limits    In Envoy's order: the process's, reject_incoming_connections, the listener's. Who is over a
 *           limit is accepted and closed at once, so that the client knows.
 *
 * Descriptors
 *     accepting ──there is none, nothing idles──► waiting ──one was closed, or a retry──► accepting
 *         ▲                                          │ the queue was not empty for DESCRIPTORS_WAIT_MS
 *         └───────────the queue is empty──────── turning away: accept and close
 *
 *           When there is no descriptor for a client, or only the reserve, what idles gives way
 *           (descriptors.h), and accepting goes on at once. When nothing idles, every descriptor is at work:
 *           most likely one is free within milliseconds, and a client that waits in the kernel's queue for
 *           that long is served, where one that is turned away must try again, if it does. But a client
 *           that is connected and hears nothing for long is worse off than one that knows: its user waits,
 *           no balancer moves on, and what is in the queue when a descriptor is free at last has long
 *           been given up. So: for a second they wait, and if the queue was never empty in that time,
 *           everybody in it is turned away, and the next ones wait again.
 *           The kernel gives no edge for a connection that was left in the queue. It is come back to when
 *           this process closes a connection, and, for all other ways in which a descriptor may become
 *           free, by a timer at growing intervals: at most a dozen calls per second, P and listener,
 *           whoever knocks. Edges that come meanwhile are ignored.
 * Spare     To turn somebody away takes a descriptor. If even the reserve is used up, one that is open for
 *           this is closed, and opened again afterwards. There is one for the process; who does not get
 *           it tries again later.
 *
 * Rejected  Turning away at once, as a process does that keeps a spare descriptor and nothing else: a burst
 *           of some milliseconds then looks like a failure to some clients. Waiting without an end, as nginx
 *           does: see above. A timer alone: 50 ms of an idle machine are wasted for each client of the queue. */
#include "proxy/accept.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/clock.h"
#include "proxy/descriptors.h"
#include "proxy/downstream.h"

enum { PAUSE_MIN_MS = 10, PAUSE_MAX_MS = 250 };

enum turn {
    TURN_EMPTY,   /* nobody is in the queue; an event will tell */
    TURN_MORE,    /* there may be more, and it is others' turn */
    TURN_STOPPED, /* who is in the queue has to wait there, for the end of an overload */
    TURN_SHORT,   /* for a descriptor */
};

static bool heeds_overload(const struct listener *listener) {
    return !listener->bypass_overload;
}

/* ---- limits ---- */

/* By what it was counted in: the listener that it belongs to by now may have other limits. */
void listener_leave(const struct listener *listener, uint8_t counted) {
    if (counted & LISTENER_COUNTED_HERE)
        connection_limit_give(listener->series->limit);
    if (counted & LISTENER_COUNTED_GLOBALLY)
        connection_limit_give(listener->global);
}

/* False: it is one too many. */
static bool enter(const struct listener *listener, struct worker *worker, uint8_t *counted) {
    const struct listener_stats *stats = &listener->stats;
    if (listener->counts_globally && listener->ignores_global) {
        connection_limit_count(listener->global);
    } else if (listener->counts_globally && !connection_limit_take(listener->global)) {
        stat_inc(stats->global_cx_overflow, worker->index);
        return false;
    }
    struct statistic *refused = NULL;
    if (heeds_overload(listener) && worker_overload(worker, OVERLOAD_REJECT_CONNECTIONS))
        refused = stats->cx_overload_reject;
    else if (listener->limit && !connection_limit_take(listener->limit))
        refused = stats->cx_overflow;
    *counted = (uint8_t)((listener->limit ? LISTENER_COUNTED_HERE : 0) |
                         (listener->counts_globally ? LISTENER_COUNTED_GLOBALLY : 0));
    if (!refused)
        return true;
    if (listener->counts_globally)
        connection_limit_give(listener->global);
    stat_inc(refused, worker->index);
    return false;
}

/* ---- turns ---- */

static bool is_short(int rc) {
    return descriptors_lack(rc) || rc == -ENOBUFS || rc == -ENOMEM;
}

/* Whether an accept would find somebody; it would take a descriptor. */
static bool is_queue_empty(const struct listener_fd *lfd) {
    struct pollfd ask = {.fd = lfd->fd, .events = POLLIN};
    return poll(&ask, 1, 0) == 0;
}

/* The next connection, or -EAGAIN, or what is_short; other errors are of one connection, and the next one
 * may be asked for. */
static int take(struct listener_fd *lfd, struct worker *worker, struct address *peer) {
    for (;;) {
        bool left = lfd->listener->is_admin || descriptors_left(lfd->last, lfd->fd);
        if (!left && is_queue_empty(lfd))
            return -EAGAIN; /* nothing has to give way for nobody */
        int fd = left ? socket_try_accept(&lfd->socket, peer) : -EMFILE;
        if (fd >= 0)
            lfd->last = fd;
        if (!is_short(fd) ||
            descriptors_make_room(worker, DESCRIPTORS_FOR_CLIENT, left ? fd : 0) == 0)
            return fd;
    }
}

static enum turn take_turn(struct listener_fd *lfd) {
    struct listener *listener = lfd->listener;
    struct worker *worker = worker_here();
    if (heeds_overload(listener) && overload_is_full(&worker->overload, OVERLOAD_STOP_CONNECTIONS))
        return TURN_STOPPED; /* until listener_accept_all */
    for (uint32_t i = 0; i < listener->accepts_per_turn; i++) {
        struct address peer;
        uint8_t counted;
        int fd = take(lfd, worker, &peer);
        if (fd >= 0 && enter(listener, worker, &counted))
            downstream_accept(worker, fd, &peer, listener, counted);
        else if (fd >= 0)
            (void)close(fd);
        else if (fd == -EAGAIN)
            return TURN_EMPTY;
        else if (is_short(fd))
            return TURN_SHORT;
        /* else it was ECONNABORTED or an error of the network, of that one connection */
    }
    return TURN_MORE;
}

static int take_with_spare(struct listener_fd *lfd, struct address *peer) {
    if (!descriptors_lend_spare())
        return -EMFILE;
    int fd = socket_try_accept(&lfd->socket, peer);
    if (fd >= 0)
        (void)close(fd);
    descriptors_take_spare();
    return fd >= 0 ? 0 : fd;
}

/* As a turn, but everybody is turned away. */
static enum turn turn_away(struct listener_fd *lfd) {
    struct listener *listener = lfd->listener;
    for (uint32_t i = 0; i < listener->accepts_per_turn; i++) {
        struct address peer;
        int fd = socket_try_accept(&lfd->socket, &peer);
        if (fd >= 0)
            (void)close(fd);
        else if (descriptors_lack(fd))
            fd = take_with_spare(lfd, &peer);
        if (fd == -EAGAIN)
            return TURN_EMPTY;
        if (is_short(fd))
            return TURN_SHORT;
        if (fd >= 0) {
            stat_inc(listener->stats.cx_no_descriptor, worker_here()->index);
            descriptors_count_client();
        }
    }
    return TURN_MORE;
}

static enum turn next_turn(struct listener_fd *lfd) {
    return lfd->turning_away ? turn_away(lfd) : take_turn(lfd);
}

/* ---- waiting for a descriptor ---- */

static bool waits(const struct listener_fd *lfd) {
    return lfd->short_since_ns != 0;
}

static void wait_for_descriptor(struct listener_fd *lfd) {
    struct worker *worker = worker_here();
    int64_t now_ns = rt_now_ns();
    if (!waits(lfd)) {
        stat_inc(lfd->listener->stats.cx_descriptor_wait, worker->index);
        lfd->short_since_ns = now_ns;
        lfd->pause_ns = PAUSE_MIN_MS * NS_PER_MS;
        descriptors_wait(worker);
    }
    int64_t next_ns = now_ns + lfd->pause_ns;
    int64_t over_ns = lfd->short_since_ns + DESCRIPTORS_WAIT_MS * NS_PER_MS;
    timer_arm(&lfd->retry, next_ns < over_ns || over_ns <= now_ns ? next_ns : over_ns);
    if (lfd->pause_ns < PAUSE_MAX_MS * NS_PER_MS)
        lfd->pause_ns *= 2;
}

static void wait_is_over(struct listener_fd *lfd) {
    lfd->turning_away = false;
    if (!waits(lfd))
        return;
    lfd->short_since_ns = 0;
    timer_disarm(&lfd->retry);
    descriptors_wait_over(worker_here());
}

/* ---- coming and going ---- */

static bool begin_storm(struct listener_fd *lfd);

/* After a turn that nobody follows. */
static void settle(struct listener_fd *lfd, enum turn turn) {
    bool too_long =
        waits(lfd) && rt_now_ns() - lfd->short_since_ns >= DESCRIPTORS_WAIT_MS * NS_PER_MS;
    if (turn == TURN_EMPTY || turn == TURN_STOPPED) {
        wait_is_over(lfd);
    } else if (turn == TURN_SHORT && too_long && !lfd->turning_away && begin_storm(lfd)) {
        lfd->turning_away = true;
    } else if (turn == TURN_SHORT) {
        lfd->turning_away = false; /* not even that: there may be one at the next attempt */
        wait_for_descriptor(lfd);
    } else { /* no memory for a coroutine, and nothing else will tell of who is in the queue */
        timer_arm(&lfd->retry, rt_now_ns() + PAUSE_MAX_MS * NS_PER_MS);
    }
}

/* A coroutine while there is a storm. */
static void take_turns(void *arg) {
    struct listener_fd *lfd = arg;
    enum turn turn = TURN_MORE;
    while (turn == TURN_MORE) {
        rt_yield_to_events();
        turn = lfd->open ? next_turn(lfd) : TURN_STOPPED;
    }
    lfd->storming = false;
    if (lfd->open)
        settle(lfd, turn);
    listening_unref(lfd->listening);
}

static bool begin_storm(struct listener_fd *lfd) {
    const struct go_options options = {.name = "accept",
                                       .place = RT_HERE,
                                       .priority = lfd->listener->is_admin ? RT_HIGH : RT_NORMAL};
    lfd->storming = go_with(&options, take_turns, lfd) == 0;
    if (lfd->storming)
        listening_ref(lfd->listening);
    return lfd->storming;
}

static void carry_on(struct listener_fd *lfd) {
    if (!lfd->open || lfd->storming)
        return;
    enum turn turn = next_turn(lfd);
    if (turn != TURN_MORE || !begin_storm(lfd))
        settle(lfd, turn);
}

void accept_now(struct listener_fd *lfd) {
    if (!waits(lfd)) /* the timer, or a descriptor that becomes free, sees to it */
        carry_on(lfd);
}

void accept_retry(struct timer *timer) {
    carry_on(container_of(timer, struct listener_fd, retry));
}

void accept_waiting(struct worker *worker) {
    for (struct list *at = worker->listeners.next; at != &worker->listeners; at = at->next) {
        struct listener_fd *lfd = container_of(at, struct listener_fd, node);
        if (waits(lfd))
            carry_on(lfd);
    }
}

void accept_stop(struct listener_fd *lfd) {
    wait_is_over(lfd);
    timer_disarm(&lfd->retry);
}

void listener_accept_all(struct worker *worker) {
    for (struct list *at = worker->listeners.next; at != &worker->listeners; at = at->next)
        accept_now(container_of(at, struct listener_fd, node));
}
