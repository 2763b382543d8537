/* descriptors: who gives way, who is told, what is logged.
 *
 * Others    nginx logs each accept that fails and stops accepting for 500 ms; it has a limit of connections,
 *           by which it closes connections that idle, which its users must make fit the limit of files.
 *           Envoy aborts on purpose (its issue 980): without descriptors there are no logs either, and a
 *           process that is configured well never gets there. But a hang or an abort for a limit that the
 *           system's packager chose is what its users then report (6403, 13852). libuv and libevent had
 *           loops that spin at EMFILE. HAProxy computes maxconn from the limit at start.
 * Waking    Who waits for a descriptor cannot be told by the kernel. Connections are what is closed most, so
 *           each close of one looks at a counter that is 0 as long as nobody waits: a shared line, but one
 *           that nobody writes. Other descriptors (files, the resolver's, the limit raised from outside) are
 *           found by retrying. A wake-up that is missed because the count was still 0 is, too.
 * W1        posted is set by who posts the message, and cleared by the P before it tries. So there is at most
 *           one message per P under way, and none is needed while it is.
 * Logging   One line when it begins, one when nothing has been short for EPISODE_OVER_MS, with what
 *           happened meanwhile. Under load at the limit there would be thousands per second.
 *           The timer is touched by the P that began the episode; `on` hands it over: an exchange that
 *           finds it false acquires what the release that cleared it has written.
 *
 * Rejected  A default limit of connections, computed from RLIMIT_NOFILE: half of the descriptors would be
 *           right when each client is busy, nearly all when they idle, as most do. Closing what idles
 *           when it comes to it serves both, and refuses nobody before it has to.
 *           Counting descriptors: each open and close anywhere in the process, libraries included, would
 *           have to be known. The lowest free number is what the kernel knows already.
 *           Holding the reserve open as duplicates of one file: they show in /proc and in everybody's
 *           leak checks, and closing one to use it is a race with all threads that open something. */
#include "proxy/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/stats.h"
#include "proxy/accept.h"
#include "proxy/downstream.h"
#include "proxy/snapshot.h"
#include "proxy/upstream.h"

LOG_COMPONENT(descriptors, "conn_handler");

enum {
    RESERVE_SHARE = 8, /* one in so many */
    RESERVE_MAX = 1024,
    ROOM = 16,       /* closed at a time: as many as are accepted in a turn */
    NOTHING_MS = 10, /* that nothing idles is believed for so long */
    EPISODE_LOOK_MS = 1000,
    EPISODE_OVER_MS = 5000,
};

struct of_p {
    _Alignas(64) _Atomic unsigned waiting;
    _Atomic bool posted; /* W1 */
    struct rt_post post;
    int64_t nothing_until_ns[2]; /* by enum descriptors_use; the P's own */
};

_Atomic int descriptors_near;
_Atomic unsigned descriptors_waiting;
static _Atomic int first_reserved;
static _Atomic int spare = -1;
static struct of_p *of_ps;

static struct {
    _Atomic bool on;
    _Atomic int64_t last_ns;
    _Atomic uint64_t closed, clients, upstreams;
    struct timer timer;
    struct statistic *shows;
} episode;

static void look_at_limit(void) {
    struct rlimit limit;
    int count = 1024; /* what the kernel begins with */
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        count = limit.rlim_cur < (rlim_t)INT32_MAX ? (int)limit.rlim_cur : INT32_MAX;
    int reserve = count / RESERVE_SHARE < RESERVE_MAX ? count / RESERVE_SHARE : RESERVE_MAX;
    atomic_store_explicit(&first_reserved, count - reserve, memory_order_relaxed);
    /* From three quarters on each connection asks: two system calls beside some eight. */
    atomic_store_explicit(&descriptors_near, (count - reserve) / 4 * 3, memory_order_relaxed);
}

int descriptors_first_reserved(void) {
    return atomic_load_explicit(&first_reserved, memory_order_relaxed);
}

static void woken(struct rt_post *post) {
    struct of_p *p = container_of(post, struct of_p, post);
    atomic_store_explicit(&p->posted, false, memory_order_release);
    accept_waiting(worker_here());
}

int descriptors_init(void) {
    unsigned count = rt_p_count();
    of_ps = aligned_alloc(_Alignof(struct of_p), count * sizeof *of_ps);
    if (!of_ps)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++)
        of_ps[i] = (struct of_p){.post.fn = woken};
    episode.shows = stats_get(STAT_GAUGE, SPAN_LIT("server.descriptors_short"),
                              SPAN_LIT("server.descriptors_short"), NULL, 0);
    look_at_limit();
    descriptors_take_spare();
    return 0;
}

/* ---- episodes ---- */

static void episode_look(struct timer *timer) {
    int64_t now_ns = rt_now_ns();
    int64_t last_ns = atomic_load_explicit(&episode.last_ns, memory_order_relaxed);
    if (now_ns - last_ns < EPISODE_OVER_MS * NS_PER_MS) {
        timer_arm(timer, now_ns + EPISODE_LOOK_MS * NS_PER_MS);
        return;
    }
    LOG(log_descriptors, LOG_WARN,
        "connections run short no more; meanwhile %llu idle connections were closed, %llu clients "
        "were turned away, and %llu connections to upstreams failed",
        (unsigned long long)atomic_exchange(&episode.closed, 0),
        (unsigned long long)atomic_exchange(&episode.clients, 0),
        (unsigned long long)atomic_exchange(&episode.upstreams, 0));
    stat_set(episode.shows, 0);
    atomic_store_explicit(&episode.on, false, memory_order_release);
}

static const char *what_is_short(int rc) {
    static const char *const texts[] = {"file descriptors, of which only the reserve is left",
                                        "file descriptors, of which none is left",
                                        "file descriptors, of which the system has none left",
                                        "the kernel's memory"};
    return texts[rc == 0 ? 0 : rc == -EMFILE ? 1 : rc == -ENFILE ? 2 : 3];
}

static const char *what_helps(int rc) {
    if (rc == 0 || rc == -EMFILE)
        return "Raise the limit of open files (ulimit -n, systemd's LimitNOFILE=)";
    return rc == -ENFILE ? "Raise the system's limit of open files (sysctl fs.file-max)"
                         : "Raise the kernel's limit for sockets (sysctl net.ipv4.tcp_mem)";
}

static void episode_goes_on(int rc) {
    int64_t now_ns = rt_now_ns();
    atomic_store_explicit(&episode.last_ns, now_ns, memory_order_relaxed);
    if (atomic_load_explicit(&episode.on, memory_order_relaxed) ||
        atomic_exchange_explicit(&episode.on, true, memory_order_acq_rel))
        return;
    LOG(log_descriptors, LOG_WARN,
        "connections run short of %s: those that idle are closed, and clients wait for up to %d ms "
        "before they are turned away. %s",
        what_is_short(rc), DESCRIPTORS_WAIT_MS, what_helps(rc));
    stat_set(episode.shows, 1);
    timer_init(&episode.timer, episode_look);
    timer_arm(&episode.timer, now_ns + EPISODE_LOOK_MS * NS_PER_MS);
}

void descriptors_count_client(void) {
    atomic_fetch_add_explicit(&episode.clients, 1, memory_order_relaxed);
}

void descriptors_count_upstream(void) {
    atomic_fetch_add_explicit(&episode.upstreams, 1, memory_order_relaxed);
}

/* ---- the reserve ---- */

/* The number that would be given next. */
static NOINLINE int next_number(int some_fd) {
    int fd = fcntl(some_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    (void)close(fd);
    return fd;
}

bool descriptors_left_slowly(int some_fd) {
    int fd = next_number(some_fd);
    if (fd >= 0 && fd < descriptors_first_reserved())
        return true;
    look_at_limit(); /* it may have been changed from outside */
    return fd >= 0 && fd < descriptors_first_reserved();
}

/* ---- the spare ---- */

bool descriptors_lend_spare(void) {
    int fd = atomic_exchange_explicit(&spare, -1, memory_order_relaxed);
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

NOINLINE void descriptors_take_spare(void) {
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int old = fd < 0 ? -1 : atomic_exchange_explicit(&spare, fd, memory_order_relaxed);
    if (old >= 0)
        (void)close(old);
}

/* ---- room ---- */

static unsigned close_upstreams(struct worker *worker, enum descriptors_use use,
                                int64_t idle_since_ns) {
    const struct snapshot *in_use = worker->snapshot;
    uint32_t keep = use == DESCRIPTORS_FOR_CLIENT ? 1 : 0; /* it will want one there */
    unsigned closed = 0;
    for (uint32_t i = 0; in_use && i < in_use->cluster_count && closed < ROOM; i++)
        closed += upstream_close_idle(in_use->clusters[i], worker->index, keep, ROOM - closed,
                                      idle_since_ns);
    return closed;
}

unsigned descriptors_make_room(struct worker *worker, enum descriptors_use use, int rc) {
    struct of_p *p = &of_ps[worker->index];
    int64_t now_ns = rt_now_ns();
    episode_goes_on(rc);
    if (now_ns < p->nothing_until_ns[use])
        return 0;
    if (descriptors_lack(rc))
        look_at_limit(); /* it may have been changed from outside */
    int64_t idle_since_ns = now_ns - DESCRIPTORS_IDLE_MS * NS_PER_MS;
    unsigned pipes = splice_pool_shrink(&worker->pipes);
    if (pipes)
        return pipes;
    unsigned closed = close_upstreams(worker, use, idle_since_ns);
    if (closed == 0)
        closed = downstream_close_idle(worker, ROOM, idle_since_ns);
    if (closed == 0)
        p->nothing_until_ns[use] = now_ns + NOTHING_MS * NS_PER_MS;
    atomic_fetch_add_explicit(&episode.closed, closed, memory_order_relaxed);
    return closed;
}

/* ---- waiting ---- */

void descriptors_wait(struct worker *worker) {
    atomic_fetch_add_explicit(&of_ps[worker->index].waiting, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&descriptors_waiting, 1, memory_order_relaxed);
}

void descriptors_wait_over(struct worker *worker) {
    atomic_fetch_sub_explicit(&of_ps[worker->index].waiting, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&descriptors_waiting, 1, memory_order_relaxed);
}

/* The own P first, then the one after it: one descriptor is for one of them. */
void descriptors_freed_slowly(void) {
    unsigned count = rt_p_count(), own = rt_p_index();
    for (unsigned i = 0; i < count; i++) {
        struct of_p *p = &of_ps[(own + i) % count];
        if (atomic_load_explicit(&p->waiting, memory_order_relaxed) == 0)
            continue;
        if (!atomic_exchange_explicit(&p->posted, true, memory_order_acq_rel))
            rt_post((own + i) % count, &p->post);
        return;
    }
}
