/* splice: see the header for what it is.
 *
 * Memory       Is contiguous and a whole number of records, so that TLS encrypts from where the bytes lie and
 *              each record is full. Since one that is given back serves whoever is next, most of the time one
 *              serves a P, and stays in the cache between the kernel's copy and the cipher. Blocks would
 *              be neither: they have a header, and each stream had its own.
 * Which side   EAGAIN of splice(2) does not say whether the socket was empty or the pipe full. Bytes are
 *              received into an empty pipe only, so it is the socket.
 * Short        A short receive may be the pipe's doing: it takes so many pieces, and pieces may be small. How the
 *              kernel cuts what it sends is its own matter as well. So, unlike after a short recv or send, it
 *              is asked again, and only EAGAIN is taken for an answer.
 * Urgent       A byte of urgent data, which recv leaves out, stops splice for good: the socket is readable
 *              and says EAGAIN. Whoever meets that is told to receive.
 * Pipes        An empty one goes back to the pool and serves whoever is next, the last one first: its
 *              ring is warm. Most of the time one pipe serves a P. The numbers of pipes are bounded
 *              by the limit of descriptors, which connections need more; a kernel that gave none is
 *              not asked again for a while. Each counts towards what a user may have in pipes, empty
 *              or not, so those that a second had no need of are closed at its end.
 * Refusal      Old kernels, sandboxes and sockets of other kinds say EINVAL, ENOSYS or EPERM. That is
 *              remembered for the process, whatever the socket was: all of ours are of one kind. If it
 *              is the sending that is refused, what is in the pipe is read and sent as usual.
 *
 * Threads      A pool is its P's. What is shared is `refused`, a relaxed flag that only ever becomes
 *              true.
 *
 * Rejected     A pipe per connection: 64 pages of slots and two descriptors each, for all that wait.
 *              A pipe that is kept while it is empty and its sender is waited for: the same.
 *              Sending before all was received, as much as fits: two owners of the same bytes. */
#include "io/splice.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/sys.h"
#include "rt/io_counts.h"
#include "rt/poll_ring.h"
#include "rt/rt.h"

LOG_COMPONENT(io, "io");

/* Where in a page memory begins. A copy of a record that ends up less than 32 bytes further in its page than it was is
 * done at 1.9 GB/s instead of 40 by some processors (`rep movsb` on Zen 3 and 4), and buffers of others, such as
 * OpenSSL's, begin near the start of a page. */
enum { PAGE = 4096, IN_PAGE = PAGE / 2 };

enum {
    DESCRIPTORS_SHARE = 16, /* of the process's descriptors pipes get one in so many */
    RETRY_NS = NS_PER_S,
    IDLE_NS = NS_PER_S,
};

static _Atomic bool refused;

/* ---- Pipes ---- */

static unsigned most_in_use(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1;
    rlim_t most = limit.rlim_cur / DESCRIPTORS_SHARE / 2 / rt_p_count();
    return most < 1 ? 1 : most > SPLICE_PIPES_MAX ? SPLICE_PIPES_MAX : (unsigned)most;
}

static bool is_refused(void) {
    return atomic_load_explicit(&refused, memory_order_relaxed);
}

bool splice_pool_has_pipe(const struct splice_pool *pool) {
    if (is_refused())
        return false;
    if (pool->in_use < pool->most_in_use &&
        (pool->kept || pool->retry_ns == 0 || rt_now_ns() >= pool->retry_ns))
        return true;
    io_counts_add(io_counts_here(), IO_SPLICE_NO_PIPE, 1);
    return false;
}

static void close_pipe(struct splice_pipe pipe) {
    (void)close(pipe.from);
    (void)close(pipe.to);
    io_counts_add(io_counts_here(), IO_CLOSE_CALLS, 2);
}

static void close_kept(struct splice_pool *pool, unsigned count) {
    while (count--)
        close_pipe(pool->pipes[--pool->kept]);
}

static char *make_memory(void) {
    char *pages = aligned_alloc(PAGE, PAGE + SPLICE_MEMORY_SIZE);
    return pages ? pages + IN_PAGE : NULL;
}

static void free_memory(char *memory) {
    free(memory - IN_PAGE);
}

static void free_kept(struct splice_pool *pool, unsigned count) {
    while (count--)
        free_memory(pool->memories[--pool->memories_kept]);
}

static void watch_idle(struct splice_pool *pool) {
    bool keeps = pool->kept || pool->memories_kept;
    pool->idle = pool->kept;
    pool->memories_idle = pool->memories_kept;
    timer_arm(&pool->timer, keeps ? rt_now_ns() + IDLE_NS : RT_FOREVER);
}

static void idle_over(struct timer *timer) {
    struct splice_pool *pool = container_of(timer, struct splice_pool, timer);
    close_kept(pool, pool->idle);
    free_kept(pool, pool->memories_idle);
    watch_idle(pool);
}

void splice_pool_init(struct splice_pool *pool) {
    *pool = (struct splice_pool){.most_in_use = most_in_use()};
    timer_init(&pool->timer, idle_over);
}

unsigned splice_pool_shrink(struct splice_pool *pool) {
    unsigned count = pool->kept;
    close_kept(pool, count);
    free_kept(pool, pool->memories_kept);
    watch_idle(pool);
    return 2 * count;
}

static bool make_pipe(struct splice_pool *pool, struct splice_pipe *out) {
    int ends[2];
    io_counts_add(io_counts_here(), IO_PIPE_CALLS, 1);
    if (sys_pipe(ends, SPLICE_MAX, SPLICE_PIPE_LEAST) != 0) {
        io_counts_add(io_counts_here(), IO_SPLICE_NO_PIPE, 1);
        pool->retry_ns = rt_now_ns() + RETRY_NS;
        return false;
    }
    pool->retry_ns = 0;
    *out = (struct splice_pipe){.from = ends[0], .to = ends[1]};
    return true;
}

static bool take_pipe(struct splice *splice) {
    struct splice_pool *pool = splice->pool;
    if (!splice_pool_has_pipe(pool))
        return false;
    if (pool->kept)
        splice->pipe = pool->pipes[--pool->kept];
    else if (!make_pipe(pool, &splice->pipe))
        return false;
    if (pool->idle > pool->kept)
        pool->idle = pool->kept;
    splice->has_pipe = true;
    pool->in_use++;
    return true;
}

static bool take_memory(struct splice *splice) {
    struct splice_pool *pool = splice->pool;
    if (!splice_pool_has_memory(pool))
        return false;
    if (pool->memories_kept)
        splice->memory = pool->memories[--pool->memories_kept];
    else
        splice->memory = make_memory();
    if (!splice->memory)
        return false;
    if (pool->memories_idle > pool->memories_kept)
        pool->memories_idle = pool->memories_kept;
    pool->memories_in_use++;
    return true;
}

static void put_memory(struct splice *splice) {
    struct splice_pool *pool = splice->pool;
    pool->memories_in_use--;
    if (pool->memories_kept == SPLICE_MEMORIES_KEPT)
        free_memory(splice->memory);
    else
        pool->memories[pool->memories_kept++] = splice->memory;
    splice->memory = NULL;
    splice->at = splice->held = 0;
    if (!timer_is_armed(&pool->timer))
        watch_idle(pool);
}

void splice_end(struct splice *splice) {
    struct splice_pool *pool = splice->pool;
    if (splice->memory)
        put_memory(splice);
    if (!splice->has_pipe)
        return;
    splice->has_pipe = false;
    pool->in_use--;
    if (splice->held || pool->kept == SPLICE_PIPES_KEPT) {
        close_pipe(splice->pipe);
        return;
    }
    pool->pipes[pool->kept++] = splice->pipe;
    if (!timer_is_armed(&pool->timer))
        watch_idle(pool);
}

/* ---- Receiving ---- */

static void count_call(const struct poll_fd *pd, ssize_t rc) {
    io_counts_add(io_counts_of(pd->p_index), IO_SPLICE_CALLS, 1);
    if (rc < 0)
        io_counts_add(io_counts_of(pd->p_index), rc == -EAGAIN ? IO_SPLICE_AGAIN : IO_ERRORS, 1);
}

static bool is_refusal(ssize_t rc) {
    return rc == -EINVAL || rc == -ENOSYS || rc == -EPERM || rc == -EACCES || rc == -EOPNOTSUPP;
}

static void note_refusal(ssize_t rc) {
    if (!atomic_exchange_explicit(&refused, true, memory_order_relaxed))
        LOG(log_io, LOG_WARN,
            "splice is refused (%s), so bodies are copied; a newer kernel or a sandbox that allows "
            "splice(2) makes large ones cheaper",
            strerrordesc_np((int)-rc));
}

static bool goes_through_memory(const struct splice *splice, const struct socket *from) {
    return splice->through_memory || !socket_can_splice(from);
}

static ssize_t receive_into_memory(struct splice *splice, struct socket *from, size_t max) {
    if (!socket_has_input(from))
        return -EAGAIN;
    if (!splice->memory && !take_memory(splice))
        return -ENOBUFS;
    ssize_t n = socket_try_receive_into(from, splice->memory,
                                        max < SPLICE_MEMORY_SIZE ? max : SPLICE_MEMORY_SIZE);
    splice->at = 0;
    if (n > 0)
        splice->held = (size_t)n;
    else
        put_memory(splice);
    return n;
}

ssize_t splice_try_receive(struct splice *splice, struct socket *from, size_t max) {
    struct poll_fd *pd = &from->pd;
    ASSERT(splice->held == 0);
    ASSERT(max > 0);
    if (goes_through_memory(splice, from))
        return receive_into_memory(splice, from, max);
    if (!socket_has_input(from))
        return -EAGAIN;
    if (!splice->has_pipe && !take_pipe(splice))
        return -ENOBUFS;
    ssize_t n = sys_splice(pd->fd, splice->pipe.to, max < SPLICE_MAX ? max : SPLICE_MAX, false);
    count_call(pd, n);
    if (n > 0) {
        splice->held = (size_t)n;
        from->rx_bytes += (uint64_t)n;
        return n;
    }
    splice_end(splice);
    if (n == -EAGAIN)
        poll_not_readable(pd);
    if (is_refusal(n))
        note_refusal(n);
    return is_refusal(n) || n == -ENOMEM ? -ENOBUFS : n;
}

ssize_t splice_receive(struct splice *splice, struct socket *from, size_t max, const char *reason,
                       int64_t deadline_ns) {
    for (unsigned waits = 0;; waits++) {
        ssize_t n = splice_try_receive(splice, from, max);
        if (n != -EAGAIN)
            return n;
        if (waits && !goes_through_memory(splice, from))
            return -ENOBUFS; /* see Urgent */
        int rc = poll_wait_readable(&from->pd, reason, deadline_ns);
        if (rc != 0)
            return rc;
    }
}

/* ---- Sending ---- */

static bool may_send(const struct socket *to) {
    return (to->pd.ready & (POLL_EVENT_OUT | POLL_EVENT_ERR)) != 0;
}

/* The kernel does not splice to this socket, or what is sent is not what is in the pipe. */
static ssize_t copy_out(struct splice *splice, struct socket *to, const char *reason,
                        int64_t stall_ns) {
    char bytes[2048];
    ssize_t n = sys_read(splice->pipe.from, bytes, sizeof bytes);
    if (n < 0)
        return n;
    io_counts_add(io_counts_of(to->pd.p_index), IO_COPIED_BYTES, (uint64_t)n);
    struct iovec piece = {bytes, (size_t)n};
    splice->held -= (size_t)n;
    int rc = socket_send(to, &piece, 1, reason, stall_ns);
    return rc != 0 ? rc : n;
}

/* Nothing is put off that was sent before. */
static inline ssize_t send_some(struct splice *splice, struct socket *to, bool more) {
    struct poll_fd *pd = &to->pd;
    if (!may_send(to))
        return -EAGAIN;
    ssize_t n = sys_splice(splice->pipe.from, pd->fd, splice->held, more);
    count_call(pd, n);
    if (n == -EAGAIN)
        poll_not_writable(pd);
    if (n > 0) {
        splice->held -= (size_t)n;
        to->tx_bytes += (uint64_t)n;
        io_counts_add(io_counts_of(pd->p_index), IO_SPLICE_BYTES, (uint64_t)n);
    }
    return n;
}

/* n: of a send. */
static ssize_t sent_of_memory(struct splice *splice, ssize_t n) {
    if (n > 0) {
        splice->at += (size_t)n;
        splice->held -= (size_t)n;
    }
    return n;
}

static struct iovec held_in_memory(const struct splice *splice) {
    return (struct iovec){splice->memory + splice->at, splice->held};
}

ssize_t splice_send(struct splice *splice, struct socket *to, bool more, const char *reason,
                    int64_t stall_ns) {
    ASSERT(splice->held > 0);
    if (splice->memory) {
        struct iovec piece = held_in_memory(splice);
        return sent_of_memory(splice, socket_send_some(to, &piece, 1, reason, stall_ns));
    }
    if (!socket_can_splice(to))
        return copy_out(splice, to, reason, stall_ns);
    int owed = socket_settle(to, reason, stall_ns);
    if (owed != 0)
        return owed;
    ssize_t n;
    while ((n = send_some(splice, to, more)) == -EAGAIN) {
        int rc = socket_wait_for_room(to, reason, stall_ns);
        if (rc != 0)
            return rc;
    }
    if (!is_refusal(n))
        return n;
    note_refusal(n);
    return copy_out(splice, to, reason, stall_ns);
}

ssize_t splice_try_send(struct splice *splice, struct socket *to, bool more) {
    ASSERT(splice->held > 0);
    if (splice->memory) {
        struct iovec piece = held_in_memory(splice);
        return sent_of_memory(splice, socket_try_send(to, &piece, 1));
    }
    if (!socket_can_splice(to))
        return -EOPNOTSUPP;
    int owed = poll_owes(&to->pd) ? poll_send_now(&to->pd) : 0;
    if (owed != 0)
        return owed;
    ssize_t n = send_some(splice, to, more);
    return is_refusal(n) ? -EOPNOTSUPP : n;
}

int splice_send_ahead(struct socket *to, struct span bytes, const char *reason, int64_t stall_ns) {
    if (!socket_can_splice(to)) {
        struct iovec piece = {(void *)(uintptr_t)bytes.ptr, bytes.len};
        return socket_send(to, &piece, 1, reason, stall_ns);
    }
    int owed = socket_settle(to, reason, stall_ns);
    if (owed != 0)
        return owed;
    while (bytes.len) {
        int rc = may_send(to) ? 0 : socket_wait_for_room(to, reason, stall_ns);
        if (rc != 0)
            return rc;
        ssize_t n = sys_send_ahead(to->pd.fd, bytes.ptr, bytes.len);
        io_counts_add(io_counts_of(to->pd.p_index), IO_SEND_CALLS, 1);
        if (n >= 0) {
            to->tx_bytes += (uint64_t)n;
            io_counts_add(io_counts_of(to->pd.p_index), IO_SEND_BYTES, (uint64_t)n);
            bytes = span_from(bytes, (size_t)n);
            continue;
        }
        io_counts_add(io_counts_of(to->pd.p_index), n == -EAGAIN ? IO_SEND_AGAIN : IO_ERRORS, 1);
        if (n != -EAGAIN)
            return (int)n;
        poll_not_writable(&to->pd);
    }
    return 0;
}
