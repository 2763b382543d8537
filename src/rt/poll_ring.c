/* poll_ring: epoll says what is ready, a ring does the round's work on it.
 *
 * All requests carry MSG_DONTWAIT, so each is done when io_uring_enter returns: the kernel polls for none
 * of them, hands none to a worker and owes no task work to any thread. That is what makes the ring as
 * free of threads as the epoll set: when a P is handed on, its next M enters the same ring (it is set up
 * without SINGLE_ISSUER) and there is nothing in flight that belongs to the last one.
 *
 * R1  After poll_ring_flush no request is in the ring, and the memory of all of them is free.
 * R2  A queue of receives lives only inside poller_run, from an event to the end of its batch; no timer and
 *     no coroutine runs in between, so nobody can lose interest. poll_detach alone can come from a
 *     callback of the batch: it flushes.
 * R3  A queue of sends lives until the P polls next, at the latest every 64 switches, or until its M is
 *     another one. Who leaves for foreign code may be away for long, so one that is older than HOLD_NS goes
 *     first: short calls, as of filters, do not break up a round's sends, and cannot hold them up. (A tenth of
 *     HOLD_NS is three requests with a filter: each such part wakes who receives, which cost 10 us a request.)
 * R4  One put-off send per descriptor. What the kernel did not take of it is `late`: it goes out at the
 *     next edge, or before the next send, or after a close, by an orphan that has the descriptor.
 * R5  One receive per wait: the P polls also while coroutines that have their bytes still wait to run,
 *     and a second one would overwrite them.
 *
 * A receive that finds nothing (the edge was for bytes that a coroutine had read meanwhile) leaves the
 * reader parked. A wake-up by cancellation does not lose what was received: the bytes come first. */
#include "rt/poll_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#undef BLOCK_SIZE /* linux/fs.h has one too */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/ticks.h"
#include "rt/rt_internal.h"
#include "rt/timer.h"

#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

enum {
    ENTRIES = 256,
    OUT_BYTES = 64 * 1024, /* of a round's sends */
    HOLD_NS = 1000 * 1000,
};

/* A request in the ring; its number is user_data. */
struct slot {
    struct poll_fd *pd;
    const struct poll_receiver *by; /* NULL: a send */
    void *bytes;
    void *to;
    struct poll_rx *rx; /* NULL: received ahead */
    size_t size;
};

/* The rest of a send that was put off and that the kernel did not take whole. */
struct late {
    struct late *next;
    struct poll_fd *pd;
    uint32_t at, size;
    bool then_shutdown;
    char bytes[];
};

struct poll_ring {
    int fd;
    unsigned queued;
    unsigned sq_mask, cq_mask;
    unsigned tail;
    unsigned *sq_tail, *cq_head, *cq_tail;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
    void *rings;
    size_t rings_size;
    struct late *lates;
    struct slot slots[ENTRIES];
    unsigned out_used;
    uint64_t out_since; /* ticks: when the first of out came */
    char out[OUT_BYTES];
};

/* The end of what a closed descriptor was to send. */
struct orphan {
    struct poll_fd pd;
    struct timer timer;
};
static const int64_t orphan_ns = 30 * NS_PER_S;

static NOINLINE int sys_setup(unsigned entries, struct io_uring_params *params) {
    int fd = (int)syscall(SYS_io_uring_setup, entries, params);
    return fd < 0 ? -errno : fd;
}

static NOINLINE int sys_enter(int fd, unsigned count) {
    int n = (int)syscall(SYS_io_uring_enter, fd, count, 0, 0, NULL, 0);
    return n < 0 ? -errno : n;
}

/* Without waiting. */
static NOINLINE ssize_t sys_transfer(long call, int fd, void *bytes, size_t size) {
    ssize_t n = syscall(call, fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
    return n < 0 ? -errno : n;
}

static NOINLINE int sys_pair(int fds[2]) {
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ? -errno : 0;
}

static NOINLINE int sys_shutdown_write(int fd) {
    return shutdown(fd, SHUT_WR) < 0 ? -errno : 0;
}

static NOINLINE int sys_duplicate(int fd) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? -errno : copy;
}

/* ---- Making one ---- */

static void fill(struct poll_ring *ring, unsigned char op, int fd, void *bytes, size_t size,
                 unsigned flags) {
    struct io_uring_sqe *sqe = &ring->sqes[ring->tail++ & ring->sq_mask];
    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = op;
    sqe->fd = fd;
    sqe->addr = (uintptr_t)bytes;
    sqe->len = (unsigned)size;
    sqe->msg_flags = flags;
    sqe->user_data = ring->queued;
}

/* 0 when what this all stands on is so: a receive that finds nothing, and a send, are done at once (R1). */
static int probe(struct poll_ring *ring) {
    int pair[2];
    char byte = 0;
    int err = sys_pair(pair);
    if (err < 0)
        return err;
    fill(ring, IORING_OP_RECV, pair[0], &byte, 1, MSG_DONTWAIT);
    ring->queued = 1;
    fill(ring, IORING_OP_SEND, pair[1], &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    ring->queued = 0;
    __atomic_store_n(ring->sq_tail, ring->tail, __ATOMIC_RELEASE);
    err = sys_enter(ring->fd, 2);
    unsigned head = *ring->cq_head, tail = __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE);
    bool done = err == 2 && tail - head == 2;
    for (; head != tail; head++) {
        const struct io_uring_cqe *cqe = &ring->cqes[head & ring->cq_mask];
        done = done && cqe->res == (cqe->user_data == 0 ? -EAGAIN : 1);
    }
    __atomic_store_n(ring->cq_head, head, __ATOMIC_RELEASE);
    (void)close(pair[0]);
    (void)close(pair[1]);
    return err < 0 ? err : done ? 0 : -ENOTSUP;
}

int poll_ring_init(struct p *p) {
    struct poll_ring *ring = calloc(1, sizeof *ring);
    if (!ring)
        return -ENOMEM;
    struct io_uring_params params = {.flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_NO_SQARRAY};
    int err = ring->fd = sys_setup(ENTRIES, &params);
    if (err < 0)
        goto free_ring;
    size_t sq_size = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    size_t cq_size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    ring->rings_size = sq_size > cq_size ? sq_size : cq_size;
    err = -ENOMEM;
    ring->rings = mmap(NULL, ring->rings_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                       ring->fd, IORING_OFF_SQ_RING);
    if (ring->rings == MAP_FAILED)
        goto close_ring;
    ring->sqes = mmap(NULL, ENTRIES * sizeof *ring->sqes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
    if (ring->sqes == MAP_FAILED)
        goto unmap;
    char *base = ring->rings;
    ring->sq_tail = (unsigned *)(base + params.sq_off.tail);
    ring->sq_mask = *(unsigned *)(base + params.sq_off.ring_mask);
    ring->cq_head = (unsigned *)(base + params.cq_off.head);
    ring->cq_tail = (unsigned *)(base + params.cq_off.tail);
    ring->cq_mask = *(unsigned *)(base + params.cq_off.ring_mask);
    ring->cqes = (struct io_uring_cqe *)(base + params.cq_off.cqes);
    err = probe(ring);
    if (err == 0) {
        p->ring = ring;
        return 0;
    }
    munmap(ring->sqes, ENTRIES * sizeof *ring->sqes);
unmap:
    munmap(ring->rings, ring->rings_size);
close_ring:
    (void)close(ring->fd);
free_ring:
    free(ring);
    return err;
}

void poll_ring_fini(struct p *p) {
    struct poll_ring *ring = p->ring;
    if (!ring)
        return;
    p->ring = NULL;
    munmap(ring->sqes, ENTRIES * sizeof *ring->sqes);
    munmap(ring->rings, ring->rings_size);
    (void)close(ring->fd);
    free(ring);
}

bool poll_ring_is_on(void) {
    struct p *p = p_self();
    return p && p->ring;
}

/* ---- Requests ---- */

static struct slot *queue(struct p *p, unsigned char op, struct poll_fd *pd, void *bytes,
                          size_t size, unsigned flags) {
    struct poll_ring *ring = p->ring;
    fill(ring, op, pd->fd, bytes, size, flags);
    struct slot *slot = &ring->slots[ring->queued++];
    slot->pd = pd;
    slot->bytes = bytes;
    slot->size = size;
    return slot;
}

static void make_room(struct p *p) {
    if (p->ring->queued == ENTRIES)
        poll_ring_flush(p);
}

static void received(struct slot *slot, int result) {
    struct poll_fd *pd = slot->pd;
    pd->ring &= (uint8_t)~POLL_RING_RECEIVES;
    slot->by->received(pd, slot->to, slot->size, result);
    if (!slot->rx || result == -EAGAIN)
        return;
    slot->rx->result = result;
    slot->rx->done = true;
    rt_ready(pd->reader);
}

static struct late **find_late(struct poll_ring *ring, const struct poll_fd *pd) {
    struct late **at = &ring->lates;
    while ((*at)->pd != pd)
        at = &(*at)->next;
    return at;
}

static void keep_late(struct poll_ring *ring, struct poll_fd *pd, const char *from, size_t size) {
    struct late *late = malloc(sizeof *late + size);
    if (!late) {
        pd->tx_error = ENOMEM;
        return;
    }
    *late = (struct late){.next = ring->lates, .pd = pd, .size = (uint32_t)size};
    memcpy(late->bytes, from, size);
    ring->lates = late;
    pd->ring |= POLL_RING_LATE;
    poll_not_writable(pd);
}

static void drop_late(struct poll_ring *ring, struct poll_fd *pd) {
    struct late **at = find_late(ring, pd), *late = *at;
    *at = late->next;
    free(late);
    pd->ring &= (uint8_t)~POLL_RING_LATE;
}

static void sent(struct poll_ring *ring, struct slot *slot, int result) {
    struct poll_fd *pd = slot->pd;
    pd->ring &= (uint8_t)~POLL_RING_SENDS;
    if (result == -EAGAIN)
        result = 0;
    if (result < 0)
        pd->tx_error = (uint8_t)-result;
    else if ((size_t)result < slot->size)
        keep_late(ring, pd, (char *)slot->bytes + result, slot->size - (size_t)result);
}

static void complete(struct poll_ring *ring, struct slot *slot, int result) {
    if (slot->by)
        received(slot, result);
    else
        sent(ring, slot, result);
}

static unsigned reap(struct poll_ring *ring) {
    unsigned head = *ring->cq_head, count = 0;
    unsigned tail = __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE);
    for (; head != tail; head++, count++) {
        const struct io_uring_cqe *cqe = &ring->cqes[head & ring->cq_mask];
        complete(ring, &ring->slots[cqe->user_data], cqe->res);
    }
    __atomic_store_n(ring->cq_head, head, __ATOMIC_RELEASE);
    return count;
}

/* One alone, as on a server with little to do, is cheaper by its own system call. */
static void do_last(struct poll_ring *ring) {
    struct slot *slot = ring->slots;
    ring->tail--;
    ring->queued = 0;
    long call = slot->by ? SYS_recvfrom : SYS_sendto;
    complete(ring, slot, (int)sys_transfer(call, slot->pd->fd, slot->bytes, slot->size));
    ring->out_used = 0;
}

void poll_ring_flush(struct p *p) {
    struct poll_ring *ring = p->ring;
    unsigned left = ring->queued;
    if (left == 0)
        return;
    if (left == 1) {
        do_last(ring);
        return;
    }
    __atomic_store_n(ring->sq_tail, ring->tail, __ATOMIC_RELEASE);
    while (left > 0) {
        int n = sys_enter(ring->fd, left);
        io_counts_add(&p->io, IO_RING_CALLS, 1);
        ASSERT(n >= 0 || n == -EINTR || n == -EAGAIN || n == -EBUSY);
        if (n > 0)
            left -= (unsigned)n;
    }
    unsigned queued = ring->queued;
    ring->queued = 0;
    unsigned reaped = reap(ring);
    ASSERT(reaped == queued); /* R1 */
    ring->out_used = 0;
}

void poll_ring_before_call(struct p *p) {
    const struct poll_ring *ring = p->ring;
    if (ring->out_used && ticks_ns_between(ring->out_since, ticks_now()) > HOLD_NS)
        poll_ring_flush(p);
}

/* ---- Receiving ---- */

static bool receive(struct p *p, struct poll_fd *pd, const struct poll_receiver *by, void *to,
                    struct poll_rx *rx, const struct labels_describer *of) {
    void *into;
    p->receives_for = of;
    size_t size = by->memory(to, &into);
    p->receives_for = NULL;
    if (size == 0)
        return false;
    make_room(p);
    struct slot *slot = queue(p, IORING_OP_RECV, pd, into, size, MSG_DONTWAIT);
    slot->by = by;
    slot->to = to;
    slot->rx = rx;
    pd->ring |= POLL_RING_RECEIVES;
    return true;
}

bool poll_ring_receive(struct p *p, struct poll_fd *pd) {
    if ((pd->ring & POLL_RING_RECEIVES) || pd->rx->done)
        return true; /* R5 */
    const struct labels_describer *of =
        atomic_load_explicit(&pd->reader->describer, memory_order_relaxed); /* it is suspended */
    return receive(p, pd, pd->rx->by, pd->rx->to, pd->rx, of);
}

void poll_receive_ahead(struct poll_fd *pd, const struct poll_receiver *by, void *to,
                        const struct labels_describer *of) {
    ASSERT(!pd->reader);
    struct p *p = p_self();
    if (p->ring) /* without memory the coroutine will receive by itself */
        (void)receive(p, pd, by, to, NULL, of);
}

int poll_wait_received(struct poll_fd *pd, struct poll_rx *rx, const char *reason,
                       int64_t deadline_ns) {
    ASSERT(!pd->reader);
    rx->done = false;
    int err = 0;
    while (err == 0 && !rx->done &&
           !(pd->ready & (POLL_EVENT_IN | POLL_EVENT_HUP | POLL_EVENT_ERR))) {
        pd->reader = rt_self();
        pd->rx = rx;
        err = rt_park(reason, deadline_ns);
        pd->rx = NULL;
        pd->reader = NULL;
    }
    ASSERT(!(pd->ring & POLL_RING_RECEIVES)); /* R2 */
    return rx->done ? 0 : err;
}

/* ---- Sending ---- */

bool poll_send(struct poll_fd *pd, const struct iovec *iov, int count, size_t size) {
    struct p *p = p_self();
    struct poll_ring *ring = p->ring;
    if (!ring || size > POLL_SEND_MAX || poll_owes(pd) || (pd->ring & POLL_RING_SHUT) ||
        (pd->ready & (POLL_EVENT_OUT | POLL_EVENT_ERR)) != POLL_EVENT_OUT) /* an error shows now */
        return false;
    if (ring->out_used + size > OUT_BYTES)
        poll_ring_flush(p);
    make_room(p);
    if (ring->out_used == 0)
        ring->out_since = ticks_now();
    char *to = ring->out + ring->out_used;
    ring->out_used += (unsigned)size;
    queue(p, IORING_OP_SEND, pd, to, size, MSG_NOSIGNAL | MSG_DONTWAIT)->by = NULL;
    pd->ring |= POLL_RING_SENDS;
    for (int i = 0; i < count; i++)
        to = mempcpy(to, iov[i].iov_base, iov[i].iov_len);
    return true;
}

/* 0, -EAGAIN or an error; nothing is late unless -EAGAIN. */
static int send_late(struct poll_ring *ring, struct poll_fd *pd) {
    struct late *late = *find_late(ring, pd);
    ssize_t n = 0;
    while (n >= 0 && late->at < late->size) {
        n = sys_transfer(SYS_sendto, pd->fd, late->bytes + late->at, late->size - late->at);
        if (n > 0)
            late->at += (uint32_t)n;
    }
    if (n == -EAGAIN) {
        poll_not_writable(pd);
        return -EAGAIN;
    }
    if (n >= 0 && late->then_shutdown)
        (void)sys_shutdown_write(pd->fd);
    drop_late(ring, pd);
    return n < 0 ? (int)n : 0;
}

int poll_shutdown(struct poll_fd *pd) {
    int err = poll_owes(pd) ? poll_send_now(pd) : 0;
    pd->ring |= POLL_RING_SHUT;
    if (err == -EAGAIN) {
        (*find_late(p_self()->ring, pd))->then_shutdown = true;
        return 0;
    }
    return err < 0 ? err : sys_shutdown_write(pd->fd);
}

int poll_send_now(struct poll_fd *pd) {
    struct p *p = p_self();
    if (pd->ring & POLL_RING_SENDS)
        poll_ring_flush(p);
    int err = pd->ring & POLL_RING_LATE ? send_late(p->ring, pd) : 0;
    if (err == 0 && pd->tx_error) {
        err = -pd->tx_error;
        pd->tx_error = 0;
    }
    return err;
}

void poll_ring_send_late(struct p *p, struct poll_fd *pd) {
    int err = send_late(p->ring, pd);
    if (err < 0 && err != -EAGAIN)
        pd->tx_error = (uint8_t)-err;
}

/* ---- Closing ---- */

static void bury(struct orphan *orphan) {
    if (orphan->pd.ring & POLL_RING_LATE)
        drop_late(p_self()->ring, &orphan->pd);
    timer_disarm(&orphan->timer);
    poll_close(&orphan->pd);
    free(orphan);
}

static void orphan_event(struct poll_fd *pd, unsigned events) {
    if (!(pd->ring & POLL_RING_LATE) || (events & POLL_EVENT_ERR))
        bury(container_of(pd, struct orphan, pd));
}

static void orphan_expired(struct timer *timer) {
    bury(container_of(timer, struct orphan, timer));
}

/* What pd still has to send goes on without it; if that cannot be had, the peer sees it cut short. */
static void leave_orphan(struct p *p, struct poll_fd *pd) {
    struct orphan *orphan = calloc(1, sizeof *orphan);
    int fd = orphan ? sys_duplicate(pd->fd) : -1;
    if (fd < 0 || poll_open(&orphan->pd, fd, orphan_event) < 0) {
        if (fd >= 0)
            (void)close(fd);
        free(orphan);
        drop_late(p->ring, pd);
        return;
    }
    (*find_late(p->ring, pd))->pd = &orphan->pd;
    pd->ring = 0;
    orphan->pd.ring = POLL_RING_LATE;
    orphan->pd.ready = 0;
    timer_init(&orphan->timer, orphan_expired);
    timer_arm(&orphan->timer, rt_now_ns() + orphan_ns);
}

void poll_ring_detach(struct p *p, struct poll_fd *pd) {
    if (pd->ring & (POLL_RING_SENDS | POLL_RING_RECEIVES))
        poll_ring_flush(p);
    if ((pd->ring & POLL_RING_LATE) && send_late(p->ring, pd) == -EAGAIN)
        leave_orphan(p, pd);
}
