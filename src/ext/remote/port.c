/* port: how a P and a host process hear from each other without a system call per message.
 *
 * To a seat. A commit leaves the seat asleep and sets its bit. Before the P sleeps, and at the end of a round
 *   (rt_at_round_end) in which the oldest commit is HOLD_NS old, each seat with a bit is woken if it sleeps. However many
 *   coroutines wrote to it meanwhile, that is one futex call at most, and none while the seat is busy. On a core that
 *   both share, a woken seat takes the P's place at once: woken at the end of each round, it did so for each
 *   message (two switches of threads per message; a busy P's rounds have one or two events).
 *
 * From the host. A port is in one of two states, and changes between them by itself:
 *
 *              a commit; the bell                          nothing expected; or the P is about to sleep
 *     listens ───────────────────► looks, once per round ──────────────────────────────────────────► listens
 *
 *   looks    While something is expected, the P looks at the ring's words at the end of each round, which is a load of
 *            a line that changes only when there is something. A busy P thus hears from hosts without a system call,
 *            theirs or its own, as late as it would hear of a socket.
 *   listens  The ring says that its consumer sleeps; who commits next rings the bell, an eventfd in the P's poller,
 *            and the ring says so no longer. So an idle P sleeps in epoll_wait alone, and what nobody expects (a log
 *            line, a goroutine that goes on) costs nothing until it comes.
 *   A P about to sleep changes to `listens` in round_end(sleeps), which looks again after it has said so: ring.c has
 *   the argument why no record is lost, and what was rung before epoll_wait ends it at once. A P that woke for
 *   something else goes on listening until it has business with this host: then it would be rung at for what it is
 *   going to look at anyway.
 *
 * Room. Who finds a seat's ring full parks in the list of the shm, and has the ring's words name his P. The host, when
 *   it has made room, adds one to that P's nudges, and wakes the P as for a record; that P then readies all who wait,
 *   whatever P they are of: each tries again and names his own if it is still full.
 *
 * A look takes LOOK_MAX records at most: a host that writes without end has its turn as coroutines have theirs.
 *
 * Rejected  Reading the eventfd: it is edge-triggered, and each write is a new edge. The P's own eventfd for a bell:
 *           the host could read it empty, and all other wake-ups of the P with it. A coroutine that drains the ring:
 *           two switches per batch for what does not park. Looking at the rings of all hosts in every round. */
#include "ext/remote/port.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ext/remote/shm_internal.h"

enum { LOOK_MAX = 64, BITS = 64, HOLD_MAX = 128, HOLD_NS = 400 * 1000 };

/* On the stack of who waits for room. */
struct room_waiter {
    struct list node;
    struct g *g;
};

/* ---- waiting for room ---- */

static void ready_all(struct remote_shm *shm) {
    pthread_mutex_lock(&shm->waiters_lock);
    for (struct list *node = shm->waiters.next; node != &shm->waiters; node = node->next)
        rt_ready(container_of(node, struct room_waiter, node)->g);
    pthread_mutex_unlock(&shm->waiters_lock);
}

void remote_shm_hang_up(struct remote_shm *shm) {
    atomic_store(&shm->hung_up, true);
    ready_all(shm);
}

int remote_port_wait(struct remote_port *port, uint32_t seat, size_t max_len, int64_t deadline_ns) {
    struct remote_shm *shm = port->shm;
    struct room_waiter waiter = {.g = rt_self()};
    pthread_mutex_lock(&shm->waiters_lock);
    list_push_back(&shm->waiters, &waiter.node);
    pthread_mutex_unlock(&shm->waiters_lock);
    int err = atomic_load(&shm->hung_up)
                  ? -EPIPE
                  : remote_ring_out_want(remote_shm_seat_out(shm, seat), max_len, port->p + 1);
    if (err == -EAGAIN) {
        rt_at_round_end(&port->work);
        err = rt_park("room in a host process's ring", deadline_ns);
        if (err == 0 && atomic_load(&shm->hung_up))
            err = -EPIPE;
    }
    pthread_mutex_lock(&shm->waiters_lock);
    list_remove(&waiter.node);
    pthread_mutex_unlock(&shm->waiters_lock);
    return err;
}

/* ---- hearing ---- */

/* True when there was anything. */
static bool look(struct remote_port *port) {
    if (remote_ring_in_was_nudged(&port->in))
        ready_all(port->shm);
    struct remote_record record;
    int err = 0, count = 0;
    while (count < LOOK_MAX && (err = remote_ring_in_next(&port->in, &record)) == 0) {
        port->on_record(port, &record);
        remote_ring_in_done(&port->in);
        count++;
    }
    if (err == -EPROTO) {
        port->broken = true;
        port->on_broken(port);
    }
    return count > 0;
}

static void start_listening(struct remote_port *port) {
    if (port->listens)
        return;
    port->listens = remote_ring_in_fall_asleep(&port->in);
    if (!port->listens)
        rt_at_round_end(&port->work);
}

/* A P that goes on has more for them soon. One that is about to sleep looks for events once more, and if these brought nothing
 * for the host, it is idle. */
static bool may_hold(struct remote_port *port, bool sleeps) {
    bool more = port->held != port->held_before;
    port->held_before = port->held;
    return (more || !sleeps) && port->held < HOLD_MAX &&
           rt_now_ns() - port->held_since_ns < HOLD_NS;
}

static struct remote_ring_out *out_of(const struct remote_port *port, uint32_t seat) {
    struct remote_shm *shm = port->shm;
    return shm->is_host ? remote_shm_p_out(shm, seat) : remote_shm_seat_out(shm, seat);
}

static void wake_seats(struct remote_port *port) {
    port->held = port->held_before = 0;
    for (uint32_t i = 0; i * BITS < port->out_count; i++) {
        uint64_t bits = port->wakes[i];
        port->wakes[i] = 0;
        for (; bits; bits &= bits - 1) {
            uint32_t seat = i * BITS + (uint32_t)__builtin_ctzll(bits);
            port->woken += remote_ring_out_wake(out_of(port, seat));
        }
    }
}

static void round_end(struct rt_round_work *work, bool sleeps) {
    struct remote_port *port = container_of(work, struct remote_port, work);
    if (port->held && !may_hold(port, sleeps))
        wake_seats(port);
    if (port->broken)
        return;
    bool any = look(port);
    if (port->broken)
        return;
    if (any || port->held || (port->expected && !sleeps))
        rt_at_round_end(work);
    else
        start_listening(port);
}

static void rang(struct poll_fd *bell, unsigned events) {
    (void)events;
    struct remote_port *port = container_of(bell, struct remote_port, bell);
    port->rung_at++;
    if (port->broken)
        return;
    port->listens = false;
    (void)look(port);
    rt_at_round_end(&port->work);
}

/* ---- opening and closing ---- */

static NOINLINE int sys_duplicate(int fd) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? -errno : copy;
}

static int open_end(struct remote_port *port, int its_bell) {
    port->work.fn = round_end;
    port->wakes = calloc((port->out_count + BITS - 1) / BITS, sizeof *port->wakes);
    if (!port->wakes)
        return -ENOMEM;
    int fd = sys_duplicate(its_bell);
    int err = fd < 0 ? fd : poll_open(&port->bell, fd, rang);
    if (err < 0) {
        if (fd >= 0)
            (void)close(fd);
        free(port->wakes);
        return err;
    }
    start_listening(port);
    return 0;
}

int remote_port_open(struct remote_port *port, struct remote_shm *shm, remote_record_fn on_record,
                     remote_broken_fn on_broken) {
    uint32_t p = rt_p_index();
    *port = (struct remote_port){.shm = shm,
                                 .on_record = on_record,
                                 .on_broken = on_broken,
                                 .p = p,
                                 .out_count = shm->layout.seat_count};
    remote_ring_in_init(&port->in, remote_shm_p_ring(shm, p));
    return open_end(port, remote_shm_p_bell(shm, p));
}

int remote_port_open_seat(struct remote_port *port, struct remote_shm *shm, uint32_t seat,
                          remote_record_fn on_record, remote_broken_fn on_broken) {
    *port = (struct remote_port){.shm = shm,
                                 .on_record = on_record,
                                 .on_broken = on_broken,
                                 .p = rt_p_index(),
                                 .out_count = shm->layout.p_count,
                                 .in = *remote_shm_seat_in(shm, seat)};
    return open_end(port, remote_shm_seat_bell(shm, seat));
}

void remote_port_drain(struct remote_port *port) {
    while (!port->broken && look(port)) {
    }
}

void remote_port_close(struct remote_port *port) {
    rt_not_at_round_end(&port->work);
    poll_close(&port->bell);
    free(port->wakes);
    port->wakes = NULL;
}

/* ---- writing ---- */

int remote_port_begin(struct remote_port *port, uint32_t seat, size_t max_len, char **room) {
    return remote_ring_out_begin(out_of(port, seat), max_len, room);
}

void remote_port_commit(struct remote_port *port, uint32_t seat, uint32_t kind, size_t len) {
    if (port->listens) { /* first: the seat may be awake, and answer at once */
        port->listens = false;
        remote_ring_in_awake(&port->in);
    }
    port->wakes[seat / BITS] |= 1ULL << seat % BITS;
    if (port->held++ == 0)
        port->held_since_ns = rt_now_ns();
    rt_at_round_end(&port->work);
    remote_ring_out_commit(out_of(port, seat), kind, len);
}

int remote_port_put(struct remote_port *port, uint32_t seat, uint32_t kind, struct span payload) {
    char *room;
    int err = remote_port_begin(port, seat, payload.len, &room);
    if (err < 0)
        return err;
    if (payload.len)
        memcpy(room, payload.ptr, payload.len);
    remote_port_commit(port, seat, kind, payload.len);
    return 0;
}
