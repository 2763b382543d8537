/* access_log_sink: lines on their way to a file.
 *
 *   P 0 ─ line ─► [buffer 0] ─┐
 *   P 1 ─ line ─► [buffer 1] ─┼─ swap ─► writer thread ─ write(2) ─► file
 *   P n ─ line ─► [buffer n] ─┘
 *
 * A P only ever appends to its own buffer. One thread of the process takes full buffers (64 KiB), and
 * once a second all that hold anything, and writes them. It is a thread and not a timer on the P,
 * because write(2) to a disk or to a pipe that nobody reads blocks, and a P that blocks serves nobody.
 *
 * I1  A buffer is touched with its shard's lock held. The owner P is the only one that waits for it
 *     under load; the writer holds it for the swap of two pointers, never over a write.
 * I2  Only the writer writes, reopens and frees sinks: lines of one P keep their order, and a sink
 *     whose last reference went is freed in the writer's next round.
 * I3  Lock order: sinks_lock, shard lock. wake_lock is held alone. No lock is held across a park.
 * I4  No line is forgotten: a P appends, then sets `dirty`; the writer clears `dirty`, then looks at
 *     the buffers. So a line that a round missed has found `dirty` clear and asks for the next round.
 *
 * Limits     A buffer that the writer cannot drain grows to PENDING_MAX; then lines are dropped and
 *            counted, as memory is worth more than the log of a dead disk. The end of the process
 *            waits FLUSH_WAIT_S for the writer, for the same reason.
 * Rejected   write(2) from the P, by timer: it stalls all connections of the P while a terminal is
 *            stopped with ^S. A ring without locks: an uncontended lock is some 20 ns of a line that
 *            costs a microsecond to format. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/stats.h"
#include "proxy/access_log_internal.h"
#include "rt/profile_thread.h"
#include "rt/signals.h"

LOG_COMPONENT(access_log, "access_log");

enum {
    SHARDS = STATS_SHARDS_MAX,
    FLUSH_BYTES = 64 * 1024,
    FLUSH_INTERVAL_MS = 1000, /* unless access_log_set_flush_interval says another */
    PENDING_MAX = 8 * 1024 * 1024,
    FLUSH_WAIT_S = 2,
};

struct sink_shard {
    _Alignas(64) pthread_mutex_t lock; /* guards the rest */
    struct format_out pending;
};

struct log_sink {
    struct list node; /* of sinks */
    enum log_sink_target target;
    char *path; /* SINK_FILE */
    int fd;
    unsigned references; /* guarded by sinks_lock */
    struct sink_shard shards[SHARDS];
};

static int64_t flush_interval_ns = FLUSH_INTERVAL_MS * NS_PER_MS; /* set before the thread starts */
static pthread_mutex_t sinks_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list sinks = {&sinks, &sinks}; /* guarded by sinks_lock */

/* What the writer is asked for, guarded by wake_lock. */
static pthread_mutex_t wake_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake_cond, done_cond; /* on CLOCK_MONOTONIC */
static bool wake_now;                       /* do not wait for the second to pass */
static bool reopen_asked;
static uint64_t flush_asked, flush_done; /* rounds of flushing that were asked for, and are over */
static _Atomic bool dirty;               /* some buffer may hold something; see I4 */
static pthread_once_t start_once = PTHREAD_ONCE_INIT;

static struct {
    struct statistic *write_buffered, *write_completed, *write_failed, *flushed_by_timer,
        *reopen_failed;
} counters;

/* ---- appending ---- */

struct format_out *log_sink_begin(struct log_sink *sink, unsigned shard) {
    struct sink_shard *s = &sink->shards[shard];
    pthread_mutex_lock(&s->lock);
    s->pending.failed = false;
    return &s->pending;
}

static void wake(bool now) {
    pthread_mutex_lock(&wake_lock);
    wake_now |= now;
    pthread_cond_signal(&wake_cond);
    pthread_mutex_unlock(&wake_lock);
}

void log_sink_commit(struct log_sink *sink, unsigned shard, size_t line_start) {
    struct sink_shard *s = &sink->shards[shard];
    bool dropped = s->pending.failed || s->pending.len > PENDING_MAX;
    if (dropped)
        s->pending.len = line_start;
    bool crossed = line_start < FLUSH_BYTES && s->pending.len >= FLUSH_BYTES;
    pthread_mutex_unlock(&s->lock);

    stat_inc(dropped ? counters.write_failed : counters.write_buffered, shard);
    /* At most one wake-up per second and per full buffer. */
    if (crossed || !atomic_exchange_explicit(&dirty, true, memory_order_relaxed))
        wake(crossed);
}

/* ---- writing ---- */

/* 0 or -errno. */
static NOINLINE int write_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n >= 0) {
            data += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) { /* somebody made our stdout non-blocking */
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            (void)poll(&wait, 1, -1); /* write tells what is wrong */
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

/* Takes what the shard holds and writes it. */
static void drain_shard(struct log_sink *sink, struct sink_shard *s, struct format_out *spare) {
    pthread_mutex_lock(&s->lock);
    if (s->pending.len == 0) {
        pthread_mutex_unlock(&s->lock);
        return;
    }
    struct format_out full = s->pending;
    s->pending = *spare;
    pthread_mutex_unlock(&s->lock);

    int rc = write_all(sink->fd, full.data, full.len);
    stat_inc(rc == 0 ? counters.write_completed : counters.write_failed, STATS_SHARD_FOREIGN);
    if (rc < 0)
        LOG(log_access_log, LOG_DEBUG, "write to %s: %s", sink->path ? sink->path : "(stdio)",
            strerror(-rc));
    full.len = 0;
    full.failed = false;
    if (full.capacity > 4 * FLUSH_BYTES) { /* grown while the file was stuck */
        free(full.data);
        full = (struct format_out){0};
    }
    *spare = full; /* the next shard's; so two buffers per shard are enough, with one to spare */
}

static void drain_sink(struct log_sink *sink, struct format_out *spare) {
    for (unsigned i = 0; i < SHARDS; i++)
        drain_shard(sink, &sink->shards[i], spare);
}

static void sink_free(struct log_sink *sink) {
    for (unsigned i = 0; i < SHARDS; i++) {
        free(sink->shards[i].pending.data);
        pthread_mutex_destroy(&sink->shards[i].lock);
    }
    if (sink->target == SINK_FILE && sink->fd >= 0)
        (void)close(sink->fd); /* every byte was written or counted as failed */
    free(sink->path);
    free(sink);
}

/* The sink behind `after` (the first one for NULL). Only the writer takes sinks out of the list. */
static struct log_sink *next_sink(const struct log_sink *after) {
    pthread_mutex_lock(&sinks_lock);
    struct list *node = after ? after->node.next : sinks.next;
    pthread_mutex_unlock(&sinks_lock);
    return node == &sinks ? NULL : container_of(node, struct log_sink, node);
}

static bool unlink_if_unused(struct log_sink *sink) {
    pthread_mutex_lock(&sinks_lock);
    bool unused = sink->references == 0;
    if (unused)
        list_remove(&sink->node);
    pthread_mutex_unlock(&sinks_lock);
    return unused;
}

/* The fd or -errno. A FIFO that nobody reads is an error: waiting for a reader would hang us. */
static NOINLINE int open_file(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
    if (fd < 0)
        return -errno;
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK); /* else write_all polls */
    return fd;
}

static void reopen_sink(struct log_sink *sink) {
    if (sink->target != SINK_FILE)
        return;
    int fd = open_file(sink->path);
    if (fd < 0) { /* better the old file than none */
        stat_inc(counters.reopen_failed, STATS_SHARD_FOREIGN);
        LOG(log_access_log, LOG_WARN, "cannot reopen %s: %s", sink->path, strerror(-fd));
        return;
    }
    (void)close(sink->fd); /* drained before */
    sink->fd = fd;
}

/* Everything that is buffered goes to its file; unused sinks go. */
static void drain_all(bool reopen) {
    struct format_out spare = {0};
    struct log_sink *sink = next_sink(NULL);
    while (sink) {
        struct log_sink *next = next_sink(sink);
        bool unused = unlink_if_unused(sink);
        drain_sink(sink, &spare);
        if (unused)
            sink_free(sink);
        else if (reopen)
            reopen_sink(sink); /* older lines went to the file they were meant for */
        sink = next;
    }
    free(spare.data);
}

/* ---- the thread ---- */

void access_log_set_flush_interval(int64_t interval_ms) {
    flush_interval_ns = interval_ms * NS_PER_MS;
}

struct work {
    bool reopen;
    uint64_t flush; /* flush_asked when the round began */
};

static struct timespec deadline_after(int64_t ns) {
    int64_t deadline_ns = clock_mono_ns() + ns;
    return (struct timespec){.tv_sec = deadline_ns / NS_PER_S, .tv_nsec = deadline_ns % NS_PER_S};
}

static bool urgent_locked(void) {
    return wake_now || reopen_asked || flush_asked != flush_done;
}

/* Waits until there is something to do: first for any line, then for a full buffer or the time to pass. */
static struct work wait_for_work(void) {
    pthread_mutex_lock(&wake_lock);
    while (!urgent_locked() && !atomic_load_explicit(&dirty, memory_order_relaxed))
        pthread_cond_wait(&wake_cond, &wake_lock);
    struct timespec until = deadline_after(flush_interval_ns);
    int rc = 0;
    while (!urgent_locked() && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&wake_cond, &wake_lock, &until);
    if (rc == ETIMEDOUT)
        stat_inc(counters.flushed_by_timer, STATS_SHARD_FOREIGN);
    struct work work = {reopen_asked, flush_asked};
    wake_now = reopen_asked = false;
    atomic_store_explicit(&dirty, false, memory_order_relaxed);
    pthread_mutex_unlock(&wake_lock);
    return work;
}

static void *writer(void *arg) {
    (void)arg;
    int err = signals_thread_init();
    if (err < 0)
        LOG(log_access_log, LOG_WARN, "no alternate signal stack for a thread: error %d", -err);
    struct profile_thread profiled;  /* like the thread, it has no end */
    profile_thread_begin(&profiled); /* borrow-ok: this frame ends with the thread */
    for (;;) {
        struct work work = wait_for_work();
        drain_all(work.reopen);
        pthread_mutex_lock(&wake_lock);
        flush_done = work.flush;
        pthread_cond_broadcast(&done_cond);
        pthread_mutex_unlock(&wake_lock);
    }
    return NULL;
}

static void start(void) {
    counters.write_buffered = stats_get_plain(STAT_COUNTER, "filesystem.write_buffered");
    counters.write_completed = stats_get_plain(STAT_COUNTER, "filesystem.write_completed");
    counters.write_failed = stats_get_plain(STAT_COUNTER, "filesystem.write_failed");
    counters.flushed_by_timer = stats_get_plain(STAT_COUNTER, "filesystem.flushed_by_timer");
    counters.reopen_failed = stats_get_plain(STAT_COUNTER, "filesystem.reopen_failed");

    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&wake_cond, &attr);
    (void)pthread_cond_init(&done_cond, &attr);
    (void)pthread_condattr_destroy(&attr);

    /* Signals belong to the runtime's owner of them, never to this thread; but for the profile's. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, writer, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0) {
        (void)pthread_setname_np(thread, "access-log");
        (void)pthread_detach(thread); /* it lives as long as the process */
    } else {
        LOG(log_access_log, LOG_ERROR, "no thread to write access logs: %s", strerror(rc));
    }
}

/* ---- sinks ---- */

static struct log_sink *find_locked(enum log_sink_target target, struct span path) {
    for (struct list *node = sinks.next; node != &sinks; node = node->next) {
        struct log_sink *sink = container_of(node, struct log_sink, node);
        if (sink->target == target && (target != SINK_FILE || span_eq(span_of(sink->path), path)))
            return sink;
    }
    return NULL;
}

static struct log_sink *sink_new(enum log_sink_target target, struct span path, int *error) {
    struct log_sink *sink = aligned_alloc(_Alignof(struct log_sink), sizeof(*sink));
    *error = -ENOMEM;
    if (!sink)
        return NULL;
    memset(sink, 0, sizeof(*sink));
    sink->target = target;
    sink->fd = target == SINK_STDOUT ? STDOUT_FILENO : STDERR_FILENO;
    for (unsigned i = 0; i < SHARDS; i++)
        pthread_mutex_init(&sink->shards[i].lock, NULL);
    if (target == SINK_FILE) {
        sink->fd = -1;
        sink->path = strndup(path.ptr, path.len);
        if (!sink->path)
            goto fail;
        sink->fd = open_file(sink->path);
        if (sink->fd < 0) {
            *error = sink->fd;
            goto fail;
        }
    }
    return sink;

fail:
    sink_free(sink);
    return NULL;
}

struct log_sink *log_sink_open(enum log_sink_target target, struct span path, int *error) {
    (void)pthread_once(&start_once, start);
    pthread_mutex_lock(&sinks_lock);
    struct log_sink *sink = find_locked(target, path);
    if (!sink) {
        sink = sink_new(target, path, error);
        if (sink)
            list_push_back(&sinks, &sink->node);
    }
    if (sink)
        sink->references++;
    pthread_mutex_unlock(&sinks_lock);
    return sink;
}

void log_sink_unref(struct log_sink *sink) {
    pthread_mutex_lock(&sinks_lock);
    ASSERT(sink->references > 0);
    bool last = --sink->references == 0;
    pthread_mutex_unlock(&sinks_lock);
    if (last)
        wake(true);
}

void access_log_reopen_all(void) {
    (void)pthread_once(&start_once, start);
    pthread_mutex_lock(&wake_lock);
    reopen_asked = true;
    pthread_cond_signal(&wake_cond);
    pthread_mutex_unlock(&wake_lock);
}

void access_log_flush_all(void) {
    (void)pthread_once(&start_once, start);
    struct timespec until = deadline_after(FLUSH_WAIT_S * NS_PER_S);
    pthread_mutex_lock(&wake_lock);
    uint64_t wanted = ++flush_asked;
    pthread_cond_signal(&wake_cond);
    int rc = 0;
    while (flush_done < wanted && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&done_cond, &wake_lock, &until);
    pthread_mutex_unlock(&wake_lock);
    if (rc == ETIMEDOUT)
        LOG(log_access_log, LOG_WARN, "access logs are not written yet after %d s", FLUSH_WAIT_S);
}
