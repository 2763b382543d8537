/* listener: accepting is bounded per edge, so a storm of connections does not starve the P's other
 * work: what is left is taken in the next round, asked for by a message of the P to itself.
 *
 * EMFILE  The kernel keeps the connection in its queue and gives no new edge for it. Each P retries on
 *         a timer instead of spinning, and the stat says how often. */
#include "proxy/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/sys.h"
#include "proxy/downstream_wait.h"
#include "rt/timer.h"

LOG_COMPONENT(listener, "conn_handler");

enum {
    ACCEPTS_PER_ROUND = 64,
    BACKLOG = 4096, /* the kernel cuts it to net.core.somaxconn */
    RETRY_MS = 50,
};

struct accept_again {
    struct rt_post post;
    struct timer timer;
    struct listener_fd *lfd;
};

static void accept_round(struct listener_fd *lfd);

static void again_posted(struct rt_post *post) {
    struct accept_again *again = container_of(post, struct accept_again, post);
    struct listener_fd *lfd = again->lfd;
    free(again);
    if (lfd->open)
        accept_round(lfd);
}

static void again_timed(struct timer *timer) {
    struct accept_again *again = container_of(timer, struct accept_again, timer);
    struct listener_fd *lfd = again->lfd;
    free(again);
    if (lfd->open)
        accept_round(lfd);
}

static void accept_again(struct listener_fd *lfd, bool later) {
    struct accept_again *again = calloc(1, sizeof *again);
    if (!again)
        return; /* the next edge tries again */
    again->lfd = lfd;
    again->post.fn = again_posted;
    timer_init(&again->timer, again_timed);
    if (later)
        timer_arm(&again->timer, rt_now_ns() + RETRY_MS * NS_PER_MS);
    else
        rt_post(lfd->p_index, &again->post);
}

static void accept_round(struct listener_fd *lfd) {
    struct listener *listener = lfd->listener;
    struct worker *worker = worker_here();
    bool heeds = !listener->hcm->bypass_overload;
    if (heeds && overload_is_full(&worker->overload, OVERLOAD_STOP_CONNECTIONS))
        return; /* they wait in the kernel's queue for listener_accept_all */
    for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
        struct address peer;
        int fd = socket_try_accept(&lfd->socket, &peer);
        if (fd >= 0 && heeds && worker_overload(worker, OVERLOAD_REJECT_CONNECTIONS)) {
            stat_inc(listener->stats.cx_overload_reject, worker->index);
            close(fd);
            continue;
        }
        if (fd >= 0) {
            downstream_accept(worker, fd, &peer, listener->snapshot, listener->hcm,
                              &listener->stats, listener->quota);
            continue;
        }
        if (fd == -EAGAIN)
            return;
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM) {
            stat_inc(listener->stats.cx_overflow, worker->index);
            LOG(log_listener, LOG_WARN,
                "listener %s: cannot accept: %s; raise the limit of open "
                "files",
                listener->name, strerror(-fd));
            accept_again(lfd, true);
            return;
        }
        /* ECONNABORTED and network errors of that one connection: go on with the next. */
    }
    accept_again(lfd, false);
}

void listener_accept_all(struct worker *worker) {
    for (struct list *at = worker->listeners.next; at != &worker->listeners; at = at->next)
        accept_round(container_of(at, struct listener_fd, node));
}

static void listener_event(struct socket *socket, unsigned events) {
    if (events & SOCKET_INPUT)
        accept_round(container_of(socket, struct listener_fd, socket));
}

/* A socket that listens. *reuse_port: each P is to get one of its own; false afterwards when the kernel,
 * or a filter before it, does not allow that. */
static int bind_one(const struct address *address, bool *reuse_port, bool v6_only, int backlog) {
    int fd = sys_stream_socket(address->sa.any.sa_family);
    if (fd < 0)
        return fd;
    int on = 1, v6_only_value = v6_only;
    sys_set_nodelay(fd); /* what is accepted inherits it */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->sa.any.sa_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only_value, sizeof v6_only_value);
    if (*reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0)
        *reuse_port = false;
    if (bind(fd, &address->sa.any, address->len) != 0 || listen(fd, backlog) != 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

static int share(int fd) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? -errno : copy;
}

/* One descriptor for each P: sockets of their own where they may share the port, else all the same one.
 * *bound is the address they have, with the port that the kernel chose. */
static int open_fds(struct listener *listener, struct address *bound, bool reuse_port, bool v6_only,
                    int backlog) {
    bool wanted = reuse_port;
    for (unsigned i = 0; i < listener->count; i++) {
        struct listener_fd *lfd = &listener->fds[i];
        bool own = i == 0 || reuse_port;
        int fd = own ? bind_one(bound, &reuse_port, v6_only, backlog) : share(listener->fds[0].fd);
        if (fd < 0) {
            while (i-- > 0)
                close(listener->fds[i].fd);
            return fd;
        }
        lfd->fd = fd;
        if (i == 0)
            address_of_socket(fd, bound); /* the others join the port that 0 became */
    }
    if (wanted && !reuse_port) {
        char text[ADDRESS_TEXT_MAX];
        address_text(bound, text);
        LOG(log_listener, LOG_WARN,
            "SO_REUSEPORT was refused: all workers accept from one socket at %s", text);
    }
    return 0;
}

/* listener.ADDRESS.x with the address as a tag; the admin's is listener.admin.x, without. */
static struct statistic *listener_stat(const struct listener *listener, enum stat_kind kind,
                                       const char *what) {
    if (listener->is_admin) {
        char name[64];
        snprintf(name, sizeof name, "listener.admin.%s", what);
        return stats_get(kind, span_of(name), span_of(name), NULL, 0);
    }
    char label[ADDRESS_TEXT_MAX];
    snprintf(label, sizeof label, "%s", listener->address_text);
    for (char *c = label; *c; c++) /* as Envoy writes an address in a stat's name */
        if (*c == ':')
            *c = '_';
    return stats_get_tagged(kind, "listener", "envoy.listener_address", span_of(label), what);
}

static void init_stats(struct listener *listener) {
    listener->stats = (struct listener_stats){
        .cx_total = listener_stat(listener, STAT_COUNTER, "downstream_cx_total"),
        .cx_active = listener_stat(listener, STAT_GAUGE, "downstream_cx_active"),
        .cx_destroy = listener_stat(listener, STAT_COUNTER, "downstream_cx_destroy"),
        .cx_overflow = listener_stat(listener, STAT_COUNTER, "downstream_cx_overflow"),
        .cx_overload_reject =
            listener_stat(listener, STAT_COUNTER, "downstream_cx_overload_reject"),
        .cx_length_ms = listener_stat(listener, STAT_HISTOGRAM, "downstream_cx_length_ms"),
    };
    if (!listener->quota)
        return;
    struct listener_stats *stats = &listener->stats;
    stats->rq_memory_limit = listener_stat(listener, STAT_COUNTER, "downstream_rq_memory_limit");
    stats->rq_memory_wait = listener_stat(listener, STAT_COUNTER, "downstream_rq_memory_wait");
    stats->rq_memory_evicted =
        listener_stat(listener, STAT_COUNTER, "downstream_rq_memory_evicted");
    stats->memory_bytes = listener_stat(listener, STAT_GAUGE, "memory_bytes");
}

struct listener *listener_open(const struct address *address, const struct cfg_listener *cfg,
                               const struct hcm *hcm, struct snapshot *snapshot,
                               uint64_t memory_limit_bytes, int *rc) {
    unsigned count = cfg ? rt_p_count() : 1; /* P 0 serves the admin */
    bool reuse_port =
        count > 1 && !(cfg && cfg->enable_reuse_port.set && !cfg->enable_reuse_port.value);
    int backlog = cfg && cfg->tcp_backlog_size.set ? (int)cfg->tcp_backlog_size.value : BACKLOG;
    struct listener *listener = calloc(1, sizeof *listener + count * sizeof(struct listener_fd));
    if (listener && memory_limit_bytes)
        listener->quota =
            quota_new((int64_t)memory_limit_bytes, rt_p_count(), downstream_quota_room);
    if (!listener || (memory_limit_bytes && !listener->quota)) {
        free(listener);
        *rc = -ENOMEM;
        return NULL;
    }
    listener->hcm = hcm;
    listener->is_admin = !cfg;
    listener->count = count;
    bool v6_only = !(cfg && cfg->address->ipv4_compat);
    struct address bound = *address;
    for (unsigned i = 0; i < count; i++)
        listener->fds[i] = (struct listener_fd){.listener = listener, .p_index = i, .fd = -1};
    *rc = open_fds(listener, &bound, reuse_port, v6_only, backlog);
    if (*rc < 0) {
        quota_free(listener->quota);
        free(listener);
        return NULL;
    }
    listener->address = bound;
    address_text(&bound, listener->address_text);
    if (cfg && cfg->name.len)
        snprintf(listener->name, sizeof listener->name, "%.*s", (int)cfg->name.len, cfg->name.ptr);
    else
        snprintf(listener->name, sizeof listener->name, "%s",
                 cfg ? listener->address_text : "admin");
    listener->snapshot = snapshot ? snapshot_ref(snapshot) : NULL;
    init_stats(listener);
    return listener;
}

struct listener_message {
    struct rt_post post;
    struct listener_fd *lfd;
};

static void start_on_p(struct rt_post *post) {
    struct listener_message *message = container_of(post, struct listener_message, post);
    struct listener_fd *lfd = message->lfd;
    free(message);
    int rc = socket_listen(&lfd->socket, lfd->fd, listener_event);
    if (rc != 0) {
        LOG(log_listener, LOG_ERROR, "listener %s: cannot poll: %s", lfd->listener->name,
            strerror(-rc));
        return;
    }
    lfd->open = true;
    list_push_back(&worker_here()->listeners, &lfd->node);
    accept_round(lfd); /* what came before the registration */
}

static void stop_on_p(struct rt_post *post) {
    struct listener_message *message = container_of(post, struct listener_message, post);
    struct listener_fd *lfd = message->lfd;
    free(message);
    if (!lfd->open)
        return;
    lfd->open = false;
    list_remove(&lfd->node);
    socket_close(&lfd->socket);
    lfd->fd = -1;
}

static void post_to_all(struct listener *listener, void (*fn)(struct rt_post *)) {
    for (unsigned i = 0; i < listener->count; i++) {
        struct listener_message *message = malloc(sizeof *message);
        ASSERT(message); /* a few bytes at start and stop */
        *message = (struct listener_message){.post.fn = fn, .lfd = &listener->fds[i]};
        rt_post(i, &message->post);
    }
}

void listener_start(struct listener *listener) {
    post_to_all(listener, start_on_p);
}

void listener_stop(struct listener *listener) {
    post_to_all(listener, stop_on_p);
}
