/* listener: opening, starting and stopping; its connections are taken by accept.c. */
#include "proxy/listener.h"

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
#include "proxy/downstream_wait.h"

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
static unsigned wanted_per_address(const struct listener_sockets *sockets,
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
static int open_socket(const struct listener *listener, unsigned which, unsigned number,
                       bool *reuse_port) {
    const struct listener_sockets *sockets = listener->sockets;
    const struct listener_address *as = &listener->config->addresses[which];
    struct span name = listener->config->name;
    int fd = sockets ? sockets->take(name, &as->address, number) : -ENOENT;
    if (fd >= 0) {
        *reuse_port = *reuse_port && shares_port(fd);
        return fd;
    }
    fd = bind_one(&listener->addresses[which], listener->config->config, as, reuse_port);
    if (fd >= 0 && sockets)
        sockets->opened(name, &as->address, number, fd);
    return fd;
}

/* Of one address a descriptor for each P: sockets of their own where they may share the port, else all the same one. If
 * another process had more of them, who is in their queues is accepted, too: a P has several then.
 * The address becomes what it is bound to, with the port that the kernel chose. */
static int open_address(struct listener *listener, unsigned which, bool reuse_port) {
    const struct listener_address *as = &listener->config->addresses[which];
    struct address *bound = &listener->addresses[which];
    unsigned per_address = listener->count / listener->address_count;
    unsigned wanted_count = wanted_per_address(listener->sockets, listener->config, which);
    struct listener_fd *fds = &listener->fds[which * per_address];
    bool wanted = reuse_port;
    *bound = as->address;
    for (unsigned i = 0; i < wanted_count; i++) {
        bool own = i == 0 || reuse_port;
        int fd = own ? open_socket(listener, which, i, &reuse_port) : share(fds[0].fd);
        if (fd < 0)
            return fd;
        fds[i].fd = fd;
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

static unsigned most_per_address(const struct listener_options *options) {
    unsigned most = 0;
    for (unsigned i = 0; i < options->config->address_count; i++) {
        unsigned wanted = wanted_per_address(options->sockets, options->config, i);
        most = wanted > most ? wanted : most;
    }
    return most;
}

static int open_fds(struct listener *listener, bool reuse_port, char where[ADDRESS_TEXT_MAX]) {
    listener->has_one_port = true;
    for (unsigned i = 0; i < listener->address_count; i++) {
        int rc = open_address(listener, i, reuse_port);
        if (rc < 0) {
            address_text(&listener->config->addresses[i].address, where);
            for (unsigned k = 0; k < listener->count; k++)
                if (listener->fds[k].fd >= 0)
                    (void)close(listener->fds[k].fd); /* nothing was sent on it */
            return rc;
        }
        if (address_port(&listener->addresses[i]) != address_port(&listener->addresses[0]))
            listener->has_one_port = false;
    }
    return 0;
}

/* listener.ADDRESS.x, or what stat_prefix has instead of the address, as a tag; the admin's is listener.admin.x, without. */
static struct statistic *listener_stat(const struct listener *listener, enum stat_kind kind,
                                       const char *what) {
    if (listener->is_admin) {
        char name[64];
        snprintf(name, sizeof name, "listener.admin.%s", what);
        return stats_get(kind, span_of(name), span_of(name), NULL, 0);
    }
    struct span prefix = listener->config->config->stat_prefix;
    if (prefix.len)
        return stats_get_tagged(kind, "listener", "envoy.listener_address", prefix, what);
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
        .global_cx_overflow =
            listener_stat(listener, STAT_COUNTER, "downstream_global_cx_overflow"),
        .cx_overload_reject =
            listener_stat(listener, STAT_COUNTER, "downstream_cx_overload_reject"),
        .cx_no_descriptor = listener_stat(listener, STAT_COUNTER, "downstream_cx_no_descriptor"),
        .cx_descriptor_wait =
            listener_stat(listener, STAT_COUNTER, "downstream_cx_descriptor_wait"),
        .cx_descriptor_close =
            listener_stat(listener, STAT_COUNTER, "downstream_cx_descriptor_close"),
        .pre_cx_active = listener_stat(listener, STAT_GAUGE, "downstream_pre_cx_active"),
        .pre_cx_timeout = listener_stat(listener, STAT_COUNTER, "downstream_pre_cx_timeout"),
        .no_filter_chain_match = listener_stat(listener, STAT_COUNTER, "no_filter_chain_match"),
        .cx_transport_connect_timeout =
            listener_stat(listener, STAT_COUNTER, "downstream_cx_transport_socket_connect_timeout"),
        .cx_length_ms = listener_stat(listener, STAT_HISTOGRAM, "downstream_cx_length_ms"),
    };
    if (!listener->quota)
        return;
    struct listener_stats *stats = &listener->stats;
    stats->rq_memory_limit = listener_stat(listener, STAT_COUNTER, "downstream_rq_memory_limit");
    stats->rq_memory_wait = listener_stat(listener, STAT_COUNTER, "downstream_rq_memory_wait");
    stats->rq_memory_evicted =
        listener_stat(listener, STAT_COUNTER, "downstream_rq_memory_evicted");
    stats->cx_memory_limit = listener_stat(listener, STAT_COUNTER, "downstream_cx_memory_limit");
    stats->memory_bytes = listener_stat(listener, STAT_GAUGE, "memory_bytes");
}

/* False: there is no memory. */
static bool init_limits(struct listener *listener, const struct listener_options *options) {
    const struct listener_config *config = options->config;
    if (config->memory_limit_bytes)
        listener->quota =
            quota_new((int64_t)config->memory_limit_bytes, rt_p_count(), downstream_quota_room);
    if (config->connections_max != LISTENER_UNLIMITED)
        listener->limit = connection_limit_new(config->connections_max);
    listener->global = options->global;
    listener->ignores_global = options->ignores_global;
    return (!config->memory_limit_bytes || listener->quota) &&
           (config->connections_max == LISTENER_UNLIMITED || listener->limit);
}

static void name_it(struct listener *listener, const struct cfg_listener *cfg) {
    address_text(&listener->addresses[0], listener->address_text);
    if (cfg && cfg->name.len)
        snprintf(listener->name, sizeof listener->name, "%.*s", (int)cfg->name.len, cfg->name.ptr);
    else
        snprintf(listener->name, sizeof listener->name, "%s",
                 cfg ? listener->address_text : "admin");
}

/* What a new connection begins with. */
static void init_chains(struct listener *listener) {
    struct filter_chain_table *chains = listener->config->chains;
    const struct filter_chain *only = listener->config->filter_count ? NULL : chains->only;
    filter_chain_table_attach(chains, listener);
    listener->undecided = (struct connection_info){.listener = listener, .shared = true};
    listener->first = only ? &only->info : &listener->undecided;
    listener->is_plain = only && filter_chain_is_plain(only);
}

struct listener *listener_open(const struct listener_options *options, int *rc,
                               char where[ADDRESS_TEXT_MAX]) {
    const struct cfg_listener *cfg = options->config->config;
    unsigned per_address = most_per_address(options);
    unsigned count = per_address * options->config->address_count;
    bool reuse_port =
        per_address > 1 && !(cfg && cfg->enable_reuse_port.set && !cfg->enable_reuse_port.value);
    struct listener *listener = calloc(1, sizeof *listener + count * sizeof(struct listener_fd));
    if (listener)
        listener->addresses = calloc(options->config->address_count, sizeof *listener->addresses);
    address_text(&options->config->addresses[0].address, where);
    if (!listener || !listener->addresses || !init_limits(listener, options)) {
        *rc = -ENOMEM;
        goto fail;
    }
    listener->config = options->config;
    listener->is_admin = !cfg;
    listener->bypass_overload = !cfg || cfg->bypass_overload_manager;
    init_chains(listener);
    listener->sockets = options->sockets;
    listener->count = count;
    listener->address_count = options->config->address_count;
    listener->accepts_per_turn = cfg && cfg->max_connections_to_accept_per_socket_event.set
                                     ? cfg->max_connections_to_accept_per_socket_event.value
                                     : ACCEPTS_PER_TURN;
    for (unsigned i = 0; i < count; i++) {
        unsigned number = i % per_address;
        listener->fds[i] = (struct listener_fd){.listener = listener,
                                                .p_index = number % rt_p_count(),
                                                .which = i / per_address,
                                                .number = number,
                                                .fd = -1};
        timer_init(&listener->fds[i].retry, accept_retry);
    }
    *rc = open_fds(listener, reuse_port, where);
    if (*rc < 0)
        goto fail;
    name_it(listener, cfg);
    listener->snapshot = options->snapshot ? snapshot_ref(options->snapshot) : NULL;
    init_stats(listener);
    return listener;
fail:
    if (listener) {
        quota_free(listener->quota);
        free(listener->limit);
        free(listener->addresses);
    }
    free(listener);
    return NULL;
}

struct listener_message {
    struct rt_post post;
    struct listener_fd *lfd;
};

static void start_on_p(struct rt_post *post) {
    struct listener_message *message = container_of(post, struct listener_message, post);
    struct listener_fd *lfd = message->lfd;
    free(message);
    if (lfd->fd < 0)
        return; /* this address has fewer than another one */
    int rc = socket_listen(&lfd->socket, lfd->fd, listener_event);
    if (rc != 0) {
        LOG(log_listener, LOG_ERROR, "listener %s: cannot poll: %s", lfd->listener->name,
            strerror(-rc));
        return;
    }
    lfd->open = true;
    list_push_back(&worker_here()->listeners, &lfd->node);
    accept_now(lfd); /* what came before the registration */
}

static void stop_on_p(struct rt_post *post) {
    struct listener_message *message = container_of(post, struct listener_message, post);
    struct listener_fd *lfd = message->lfd;
    free(message);
    if (!lfd->open)
        return;
    accept_stop(lfd);
    lfd->open = false;
    list_remove(&lfd->node);
    socket_close(&lfd->socket);
    lfd->fd = -1;
    const struct listener *listener = lfd->listener;
    if (listener->sockets)
        listener->sockets->closed(listener->config->name,
                                  &listener->config->addresses[lfd->which].address, lfd->number);
}

static void post_to_all(struct listener *listener, void (*fn)(struct rt_post *)) {
    for (unsigned i = 0; i < listener->count; i++) {
        struct listener_message *message = malloc(sizeof *message);
        ASSERT(message); /* a few bytes at start and stop */
        *message = (struct listener_message){.post.fn = fn, .lfd = &listener->fds[i]};
        rt_post(listener->fds[i].p_index, &message->post);
    }
}

void listener_start(struct listener *listener) {
    post_to_all(listener, start_on_p);
}

void listener_stop(struct listener *listener) {
    post_to_all(listener, stop_on_p);
}
