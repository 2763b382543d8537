/* listening: opening, handing on, closing; what connects is taken by accept.c. */
#include "proxy/listening.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/sys.h"
#include "proxy/accept.h"
#include "proxy/listener.h"
#include "proxy/worker.h"

LOG_COMPONENT(listener, "conn_handler");

enum {
    ACCEPTS_PER_TURN = 16, /* see accept.c */
    BACKLOG = 4096,        /* the kernel cuts it to net.core.somaxconn */
};

static void listener_event(struct socket *socket, unsigned events) {
    if (events & SOCKET_INPUT)
        accept_now(container_of(socket, struct listener_fd, socket));
}

static int set_int(int fd, int level, int name, int value) {
    return setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : -errno;
}

/* Those of the configuration that are for now. *what is which one failed. */
static int set_options(int fd, const struct cfg_listener *cfg, const struct listener_address *as,
                       enum cfg_socket_option_state now, const char **what) {
    bool v6 = as->address.sa.any.sa_family == AF_INET6;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < as->socket_option_count; i++) {
        const struct cfg_socket_option *option = &as->socket_options[i];
        if (option->state != (int)now)
            continue;
        if (option->value_case == CFG_SOCKET_OPTION_INT)
            rc = set_int(fd, (int)option->level, (int)option->name, (int)option->int_value);
        else if (setsockopt(fd, (int)option->level, (int)option->name, option->buf_value.ptr,
                            (socklen_t)option->buf_value.len) != 0)
            rc = -errno;
        *what = rc != 0 ? "socket_options" : *what;
    }
    if (rc == 0 && now == CFG_SOCKET_BEFORE_BIND && cfg && cfg->transparent.set) {
        rc = set_int(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT,
                     cfg->transparent.value);
        *what = rc != 0 ? "transparent" : *what;
    }
    if (rc == 0 && now == CFG_SOCKET_BEFORE_BIND && cfg && cfg->freebind.set) {
        rc = set_int(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_FREEBIND : IP_FREEBIND,
                     cfg->freebind.value);
        *what = rc != 0 ? "freebind" : *what;
    }
    if (rc == 0 && now == CFG_SOCKET_LISTENING && cfg && cfg->tcp_fast_open_queue_length.set) {
        rc = set_int(fd, IPPROTO_TCP, TCP_FASTOPEN, (int)cfg->tcp_fast_open_queue_length.value);
        *what = rc != 0 ? "tcp_fast_open_queue_length" : *what;
    }
    return rc;
}

/* A socket that listens. *reuse_port: each P is to get one of its own; false afterwards when the kernel,
 * or a filter before it, does not allow that. */
static NOINLINE int bind_one(const struct address *address, const struct cfg_listener *cfg,
                             const struct listener_address *as, bool *reuse_port) {
    int backlog = cfg && cfg->tcp_backlog_size.set ? (int)cfg->tcp_backlog_size.value : BACKLOG;
    bool v6 = address->sa.any.sa_family == AF_INET6;
    const char *what = NULL;
    int fd = sys_stream_socket(address->sa.any.sa_family);
    if (fd < 0)
        return fd;
    int on = 1;
    sys_set_nodelay(fd); /* what is accepted inherits it */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (v6)
        (void)set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, !as->ipv4_compat);
    if (*reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0)
        *reuse_port = false;
    int rc = set_options(fd, cfg, as, CFG_SOCKET_BEFORE_BIND, &what);
    if (rc == 0 && bind(fd, &address->sa.any, address->len) != 0)
        rc = -errno;
    if (rc == 0)
        rc = set_options(fd, cfg, as, CFG_SOCKET_BOUND, &what);
    if (rc == 0 && listen(fd, backlog) != 0)
        rc = -errno;
    if (rc == 0)
        rc = set_options(fd, cfg, as, CFG_SOCKET_LISTENING, &what);
    if (rc == 0)
        return fd;
    (void)close(fd); /* nothing was sent on it */
    if (what)
        LOG(log_listener, LOG_ERROR, "listener '%.*s': %s: %s", (int)cfg->name.len, cfg->name.ptr,
            what, strerror(-rc));
    return rc;
}

/* One for each P, but P 0 alone serves the admin; and as many as another process had. */
static unsigned wanted_count(const struct listener_sockets *sockets,
                             const struct listener_config *config, unsigned which) {
    unsigned ours = config->config ? rt_p_count() : 1;
    unsigned kept = sockets ? sockets->count(config->name, &config->addresses[which].address) : 0;
    return kept > ours ? kept : ours;
}

static NOINLINE int share(int fd) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? -errno : copy;
}

static bool shares_port(int fd) {
    int on = 0;
    socklen_t len = sizeof on;
    return getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, &len) == 0 && on;
}

/* What another process had, or a new one, of which whoever keeps them is told. */
static int open_socket(const struct listening *listening, unsigned number, bool *reuse_port) {
    const struct listener_sockets *sockets = listening->sockets;
    const struct listener_address *as = &listening->config->addresses[listening->which];
    int fd = sockets ? sockets->take(listening->name, &as->address, number) : -ENOENT;
    if (fd >= 0) {
        *reuse_port = *reuse_port && shares_port(fd);
        return fd;
    }
    fd = bind_one(&listening->bound, listening->config->config, as, reuse_port);
    if (fd >= 0 && sockets)
        sockets->opened(listening->name, &as->address, number, fd);
    return fd;
}

/* A descriptor for each P: sockets of their own where they may share the port, else all the same one. If another
 * process had more of them, who is in their queues is accepted, too: a P has several then. */
static int open_all(struct listening *listening, bool reuse_port) {
    bool wanted = reuse_port;
    for (unsigned i = 0; i < listening->count; i++) {
        bool own = i == 0 || reuse_port;
        int fd = own ? open_socket(listening, i, &reuse_port) : share(listening->fds[0].fd);
        if (fd < 0)
            return fd;
        listening->fds[i].fd = fd;
        if (i == 0)
            address_of_socket(fd, &listening->bound); /* the others join the port that 0 became */
    }
    if (wanted && !reuse_port) {
        char text[ADDRESS_TEXT_MAX];
        address_text(&listening->bound, text);
        LOG(log_listener, LOG_WARN,
            "SO_REUSEPORT was refused: all workers accept from one socket at %s", text);
    }
    return 0;
}

static bool wants_own_sockets(const struct cfg_listener *cfg) {
    return !(cfg && cfg->enable_reuse_port.set && !cfg->enable_reuse_port.value);
}

struct listening *listening_open(struct listener_config *config, unsigned which,
                                 const struct listener_sockets *sockets, int *rc) {
    unsigned count = wanted_count(sockets, config, which);
    struct listening *listening = calloc(1, sizeof *listening + count * sizeof(struct listener_fd));
    char *name = strndup(config->name.len ? config->name.ptr : "", config->name.len);
    if (!listening || !name) {
        free(listening);
        free(name);
        *rc = -ENOMEM;
        return NULL;
    }
    listening->refs = 1;
    listening->config = listener_config_ref(config);
    listening->which = which;
    listening->name = span_of(name);
    listening->configured = listening->bound = config->addresses[which].address;
    listening->sockets = sockets;
    listening->count = count;
    for (unsigned i = 0; i < count; i++) {
        listening->fds[i] =
            (struct listener_fd){.listening = listening, .p_index = i % rt_p_count(), .fd = -1};
        timer_init(&listening->fds[i].retry, accept_retry);
    }
    *rc = open_all(listening, count > 1 && wants_own_sockets(config->config));
    if (*rc == 0)
        return listening;
    listening_cancel(listening);
    return NULL;
}

static void tell_closed(const struct listener_fd *lfd) {
    const struct listening *listening = lfd->listening;
    if (listening->sockets)
        listening->sockets->closed(listening->name, &listening->configured,
                                   (unsigned)(lfd - listening->fds));
}

void listening_cancel(struct listening *listening) {
    for (unsigned i = 0; i < listening->count; i++) {
        if (listening->fds[i].fd < 0)
            continue;
        (void)close(listening->fds[i].fd); /* nothing was sent on it */
        tell_closed(&listening->fds[i]);
    }
    listening_unref(listening);
}

struct listening *listening_ref(struct listening *listening) {
    atomic_fetch_add_explicit(&listening->refs, 1, memory_order_relaxed);
    return listening;
}

void listening_unref(struct listening *listening) {
    if (atomic_fetch_sub_explicit(&listening->refs, 1, memory_order_acq_rel) != 1)
        return;
    listener_config_unref(listening->config);
    free((char *)(uintptr_t)listening->name.ptr);
    free(listening);
}

/* ---- another configuration ---- */

bool listening_is_for(const struct listening *listening, const struct listener_config *config,
                      unsigned which) {
    const struct address *address = &config->addresses[which].address;
    return address_eq(&listening->configured, address) &&
           (address_port(address) != 0 ||
            (listening->which == which && span_eq(listening->name, config->name)));
}

static bool same_socket_options(const struct listener_address *a,
                                const struct listener_address *b) {
    if (a->socket_option_count != b->socket_option_count)
        return false;
    for (size_t i = 0; i < a->socket_option_count; i++) {
        const struct cfg_socket_option *x = &a->socket_options[i], *y = &b->socket_options[i];
        if (x->level != y->level || x->name != y->name || x->state != y->state ||
            x->value_case != y->value_case || x->int_value != y->int_value ||
            !span_eq(x->buf_value, y->buf_value))
            return false;
    }
    return true;
}

const char *listening_differs(const struct listening *listening,
                              const struct listener_config *config, unsigned which) {
    const struct cfg_listener *old = listening->config->config, *new = config->config;
    const struct listener_address *as = &listening->config->addresses[listening->which];
    const struct listener_address *to_be = &config->addresses[which];
    if (as->ipv4_compat != to_be->ipv4_compat)
        return "ipv4_compat";
    if (!same_socket_options(as, to_be))
        return "socket_options";
    if (old->transparent.set != new->transparent.set ||
        old->transparent.value != new->transparent.value)
        return "transparent";
    if (old->freebind.set != new->freebind.set || old->freebind.value != new->freebind.value)
        return "freebind";
    if (old->tcp_fast_open_queue_length.set != new->tcp_fast_open_queue_length.set ||
        old->tcp_fast_open_queue_length.value != new->tcp_fast_open_queue_length.value)
        return "tcp_fast_open_queue_length";
    if (old->tcp_backlog_size.set != new->tcp_backlog_size.set ||
        old->tcp_backlog_size.value != new->tcp_backlog_size.value)
        return "tcp_backlog_size";
    return wants_own_sockets(old) == wants_own_sockets(new) ? NULL : "enable_reuse_port";
}

void listening_describe(struct listening *listening, struct listener_config *config,
                        unsigned which) {
    struct listener_config *before = listening->config;
    listening->config = listener_config_ref(config);
    listening->which = which;
    listener_config_unref(before);
}

/* ---- on a P ---- */

static void start(struct listener_fd *lfd) {
    int rc = socket_listen(&lfd->socket, lfd->fd, listener_event);
    if (rc != 0) {
        LOG(log_listener, LOG_ERROR, "listener %s: cannot poll: %s", lfd->listener->name,
            strerror(-rc));
        listener_unref(lfd->listener);
        lfd->listener = NULL;
        return;
    }
    lfd->open = true;
    list_push_back(&worker_here()->listeners, &lfd->node);
    accept_now(lfd); /* what came before the registration */
}

static void stop(struct listener_fd *lfd) {
    accept_stop(lfd);
    lfd->open = false;
    list_remove(&lfd->node);
    socket_close(&lfd->socket);
    lfd->fd = -1;
    tell_closed(lfd);
    listener_unref(lfd->listener);
    lfd->listener = NULL;
}

static void take_one(struct listener_fd *lfd, struct listener *listener) {
    if (!listener) {
        if (lfd->open)
            stop(lfd);
        return;
    }
    struct listener *before = lfd->listener;
    lfd->listener = listener_ref(listener);
    if (before)
        listener_unref(before);
    if (!lfd->open)
        start(lfd);
}

void listening_take(struct listening *listening, unsigned p_index, struct listener *listener) {
    for (unsigned i = 0; i < listening->count; i++)
        if (listening->fds[i].p_index == p_index && listening->fds[i].fd >= 0)
            take_one(&listening->fds[i], listener);
}
