/* poll: an edge-triggered epoll set per P.
 *
 * A descriptor is registered once, for everything, when it is opened; after that readiness costs no
 * system call of its own. What epoll_wait reports is remembered in poll_fd.ready until somebody
 * meets EAGAIN and says so.
 *
 * Batch  Events of one epoll_wait are dispatched in a loop on g0. Callbacks may close any poll_fd of
 *        the P, one whose event is still further on in the batch included: poll_close strikes those
 *        out. Coroutines that events wake run after the batch, so only callbacks can do that.
 *
 * Threads  The P's M. The eventfd alone is written by others (idle.c); it is edge-triggered too, so
 *          nobody has to read it.
 *
 * Ring   Where there is one (poll_ring.h), events queue the receives of those who wait for bytes, and the
 *        end of the batch makes them; what was sent since is handed over before the P polls.
 *
 * Rejected  EPOLLONESHOT and re-arming: a system call per wait. Multishot io_uring: poll_ring.c. */
#include "rt/poll.h"

#include <assert.h>
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "rt/poll_ring.h"
#include "rt/rt_internal.h"
#include "rt/sysmon.h"
#include "rt/trace_hooks.h"

/* The runtime's system calls that a coroutine may make: they stay out of functions that park, so that
 * no address of errno is kept over one. */
static NOINLINE int sys_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event) {
    return epoll_ctl(epoll_fd, op, fd, event) < 0 ? -errno : 0;
}

static NOINLINE int sys_epoll_wait(int epoll_fd, struct epoll_event *events, int max,
                                   int timeout_ms) {
    int n = epoll_wait(epoll_fd, events, max, timeout_ms);
    return n < 0 ? -errno : n;
}

static const char *why_no_ring(int err) {
    switch (err) {
    case -ENOSYS:
        return "the kernel has none, or hides it";
    case -EPERM:
    case -EACCES:
        return "forbidden by kernel.io_uring_disabled or a seccomp filter, as of container "
               "runtimes";
    case -EINVAL:
        return "the kernel is older than 6.6";
    case -ENOMEM:
        return "memory is short, or the limit of locked memory too low";
    case -EMFILE:
    case -ENFILE:
        return "too many open files";
    }
    return "it does not complete inline";
}

/* 0, or -errno where it must be had. */
static int open_ring(struct p *p, enum rt_io io) {
    int err = io == RT_IO_EPOLL ? 0 : poll_ring_init(p);
    if (err == 0)
        return 0;
    if (p->index == 0) /* once */
        LOG(log_rt, io == RT_IO_AUTO ? LOG_WARN : LOG_CRITICAL, "no io_uring: %s (error %d)%s",
            why_no_ring(err), -err, io == RT_IO_AUTO ? "; sockets use epoll alone" : "");
    return io == RT_IO_AUTO ? 0 : err;
}

int poller_init(struct p *p, enum rt_io io) {
    p->event_fd = -1;
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->epoll_fd < 0)
        return -errno;
    int err;
    p->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->event_fd < 0) {
        err = -errno;
        goto fail;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    err = sys_epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->event_fd, &event);
    if (err == 0)
        err = open_ring(p, io);
    if (err == 0)
        return 0;
fail:
    poller_fini(p);
    return err;
}

void poller_interrupt(struct idle_p *idle) {
    struct p *p = container_of(idle, struct p, idle);
    uint64_t one = 1;
    ssize_t written = write(p->event_fd, &one, sizeof one);
    (void)written; /* fails only when the counter is full, and then the event is there already */
}

void poller_fini(struct p *p) {
    poll_ring_fini(p);
    if (p->event_fd >= 0)
        (void)close(p->event_fd);
    if (p->epoll_fd >= 0)
        (void)close(p->epoll_fd);
    p->event_fd = p->epoll_fd = -1;
}

static unsigned event_bits(uint32_t events) {
    unsigned bits = 0;
    if (events & EPOLLIN)
        bits |= POLL_EVENT_IN;
    if (events & EPOLLOUT)
        bits |= POLL_EVENT_OUT;
    if (events & EPOLLRDHUP)
        bits |= POLL_EVENT_HUP;
    if (events & EPOLLHUP)
        bits |= POLL_EVENT_HUP | POLL_EVENT_ERR; /* both directions: writers must learn of it too */
    if (events & EPOLLERR)
        bits |= POLL_EVENT_ERR;
    return bits;
}

enum {
    WAKES_READER = POLL_EVENT_IN | POLL_EVENT_HUP | POLL_EVENT_ERR,
    WAKES_WRITER = POLL_EVENT_OUT | POLL_EVENT_ERR,
};

static void dispatch(struct p *p, struct poll_fd *pd, unsigned bits) {
    pd->ready |= (uint8_t)bits;
    if ((pd->ring & POLL_RING_LATE) && (bits & WAKES_WRITER))
        poll_ring_send_late(p, pd);
    if ((bits & WAKES_WRITER) && pd->writer)
        rt_ready(pd->writer);
    if (!(bits & WAKES_READER))
        return;
    if (pd->rx && (bits & POLL_EVENT_IN) && poll_ring_receive(p, pd))
        return;
    if (pd->reader)
        rt_ready(pd->reader);
    else if (pd->on_event)
        pd->on_event(pd, bits); /* may free pd */
}

void poller_run(struct p *p, int timeout_ms) {
    if (p->ring)
        poll_ring_flush(p);
    if (timeout_ms != 0 && trace_is_on())
        trace_sleeps(p);
    io_counts_add(&p->io, IO_WAIT_CALLS, 1);
    int n = sys_epoll_wait(p->epoll_fd, p->batch, POLL_BATCH, timeout_ms);
    if (timeout_ms != 0) {
        if (trace_is_on())
            trace_awakes(p);
        idle_awake(&p->idle);
        sysmon_p_awoke(p);
    }
    if (n <= 0) {
        ASSERT(n == 0 || n == -EINTR);
        return;
    }
    p->batch_end = (unsigned)n;
    for (p->batch_at = 0; p->batch_at < p->batch_end;) {
        struct epoll_event event = p->batch[p->batch_at++];
        __builtin_prefetch(p->batch[p->batch_at % POLL_BATCH].data.ptr, 1); /* the next poll_fd */
        if (event.data.ptr)
            dispatch(p, event.data.ptr, event_bits(event.events));
    }
    p->batch_at = p->batch_end = 0;
    if (p->ring)
        poll_ring_flush(p);
}

static_assert(RT_P_MAX <= UINT8_MAX + 1, "poll_fd.p_index");

int poll_open(struct poll_fd *pd, int fd, poll_event_fn on_event) {
    struct p *p = p_self();
    ASSERT(p);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = pd};
    int err = sys_epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &event);
    io_counts_add(&p->io, IO_WATCH_CALLS, 1);
    if (err < 0) {
        io_counts_add(&p->io, IO_ERRORS, 1);
        return err;
    }
    pd->fd = fd;
    pd->p_index = (uint8_t)p->index;
    pd->ready = POLL_EVENT_IN | POLL_EVENT_OUT;
    pd->reader = pd->writer = NULL;
    pd->on_event = on_event;
    pd->ring = pd->tx_error = 0;
    pd->rx = NULL;
    return 0;
}

int poll_detach(struct poll_fd *pd) {
    struct p *p = p_self();
    ASSERT(p);
    ASSERT(pd->fd >= 0);
    ASSERT(!pd->reader);
    ASSERT(!pd->writer);
    if (p->ring)
        poll_ring_detach(p, pd);
    int fd = pd->fd;
    pd->fd = -1;
    /* Not left to close(2): the set forgets a socket only with its last duplicate, which a child
     * process or another holder may have, and would go on reporting pd. */
    (void)sys_epoll_ctl(p->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    io_counts_add(&p->io, IO_WATCH_CALLS, 1);
    for (unsigned i = p->batch_at; i < p->batch_end; i++)
        if (p->batch[i].data.ptr == pd)
            p->batch[i].data.ptr = NULL;
    return fd;
}

void poll_close(struct poll_fd *pd) {
    io_counts_add(io_counts_of(pd->p_index), IO_CLOSE_CALLS, 1);
    (void)close(poll_detach(pd)); /* nothing could be done about an error */
}

int poll_wait_readable(struct poll_fd *pd, const char *reason, int64_t deadline_ns) {
    ASSERT(!pd->reader);
    while (!(pd->ready & WAKES_READER)) {
        pd->reader = rt_self();
        int err = rt_park(reason, deadline_ns);
        pd->reader = NULL;
        if (err < 0)
            return err;
    }
    return 0;
}

int poll_wait_writable(struct poll_fd *pd, const char *reason, int64_t deadline_ns) {
    ASSERT(!pd->writer);
    while (!(pd->ready & WAKES_WRITER)) {
        pd->writer = rt_self();
        int err = rt_park(reason, deadline_ns);
        pd->writer = NULL;
        if (err < 0)
            return err;
    }
    return 0;
}
