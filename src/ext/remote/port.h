/* port: a P's end of a host process: writes to its seats, and hears from it; or a seat's, where the host has Ps, too:
 * then all is the other way round, what is called a seat is a P of the proxy.
 *
 *     coroutines ──put──► rings of seats          round end: each seat that was written to is woken, once
 *     on_record  ◄─────── the P's ring            looked at between rounds; the host rings when the P sleeps
 *
 * Ownership  A port is its user's, and is borrowed from open to close. The shm outlives it.
 * Threads    Its P alone, but for remote_shm_hang_up: any thread.
 * Parks      remote_port_wait alone. on_record and on_broken are scheduler callbacks, and do not.
 * Trust      That of ring.h: payload may change while one looks at it, so on_record copies it (remote_record_copy)
 *            before it reads it.
 * Costs      While nothing is expected from a host, nothing per round. While something is, a load per round, and no
 *            system call by either side while this P is busy. */
#pragma once
#include "ext/remote/shm.h"
#include "rt/poll.h"
#include "rt/rt.h"

struct remote_port;
typedef void (*remote_record_fn)(struct remote_port *port, const struct remote_record *record);
typedef void (*remote_broken_fn)(struct remote_port *port);

struct remote_port {
    struct remote_shm *shm;
    remote_record_fn on_record;
    remote_broken_fn on_broken;
    /* Below private. */
    uint32_t p;
    uint32_t expected;
    bool listens; /* the host rings when there is something */
    bool broken;
    struct remote_ring_in in;
    struct poll_fd bell;
    struct rt_round_work work;
    uint32_t out_count;      /* seats; of a seat's: Ps */
    uint64_t *wakes;         /* a bit for each of these */
    uint32_t held;           /* records that no seat has been woken for */
    uint32_t held_before;    /* as of the last look */
    int64_t held_since_ns;   /* the first of them */
    uint64_t woken, rung_at; /* how often a seat slept and was woken; how often the host rang */
};

/* For the P it is called on, one port each per shm; on_record: borrows the record until it returns, and may put and
 * expect, but not close. on_broken: once, the host has written what cannot be; nothing is heard from it any more. 0
 * or -errno. */
MUST_CHECK int remote_port_open(struct remote_port *port, struct remote_shm *shm,
                                remote_record_fn on_record, remote_broken_fn on_broken);
/* The same for a host's P that is this seat. Who finds a P's ring full sleeps with its thread (remote_ring_out_wait): a P of
 * the proxy always reads on, and waits for no host. */
MUST_CHECK int remote_port_open_seat(struct remote_port *port, struct remote_shm *shm,
                                     uint32_t seat, remote_record_fn on_record,
                                     remote_broken_fn on_broken);
/* All that is there now, for a host that is gone. */
void remote_port_drain(struct remote_port *port);
/* No coroutine waits in it. */
void remote_port_close(struct remote_port *port);

/* As remote_ring_out_begin, commit and put, and the seat is woken at the end of the round. Cancel by
 * remote_ring_out_cancel(remote_shm_seat_out(...)). */
MUST_CHECK int remote_port_begin(struct remote_port *port, uint32_t seat, size_t max_len,
                                 char **room);
void remote_port_commit(struct remote_port *port, uint32_t seat, uint32_t kind, size_t len);
MUST_CHECK int remote_port_put(struct remote_port *port, uint32_t seat, uint32_t kind,
                               struct span payload);
/* After -EAGAIN: parks until the seat has made room. 0: try again; -ETIMEDOUT; -ECANCELED; -EPIPE:
 * remote_shm_hang_up; -EPROTO. */
MUST_CHECK int remote_port_wait(struct remote_port *port, uint32_t seat, size_t max_len,
                                int64_t deadline_ns);

/* So many records are expected: while there are, the P looks by itself. Others arrive too, by the bell. */
static inline void remote_port_expect(struct remote_port *port, uint32_t count) {
    port->expected += count;
}
static inline void remote_port_expect_less(struct remote_port *port, uint32_t count) {
    ASSERT(port->expected >= count);
    port->expected -= count;
}

/* The host is gone: who waits for room in any port, and who will, has -EPIPE. */
void remote_shm_hang_up(struct remote_shm *shm);
