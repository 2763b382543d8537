/* transport_tls: one object per transport socket of the configuration, with the context that new connections get.
 *
 *     files ──► tls_material ──► tls_context ──swap──► c->context ──lease──► connection, for its life
 *       │                            │ does not work
 *       └─ file_watch: changed       └─► a log line and a counter; the one that works stays
 *
 * A context is built whole before it takes the old one's place, so there is no moment without one, and connections keep
 * the one they began with. Ticket keys of our own making, and sessions that are kept by id, outlive it: a client that
 * resumes is not turned away because a certificate was renewed.
 *
 * Threads  `lock` of each guards `context` and `material`. It is held for some loads and stores, never over a park or
 *          over building, and a handshake costs ten thousand times as much. The list of all of them has its own lock. */
#include "filter/transport_tls.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "filter/tls_build.h"
#include "filter/tls_stats.h"
#include "io/file_watch.h"
#include "proxy/downstream.h"
#include "rt/foreign.h"

LOG_COMPONENT(tls, "tls");

struct transport_tls {
    struct list node;      /* of `all` */
    _Atomic unsigned refs; /* of the configuration, and of the watch */
    struct tls_build build;
    struct tls_stats stats;
    char *owner;       /* owned */
    struct span *alpn; /* owned: those that can be served */
    struct file_watch *watch;
    pthread_mutex_t lock;
    struct tls_context *context;  /* leased */
    struct tls_material material; /* it was built of */
};

static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list all = {&all, &all};

static void free_transport(struct transport_tls *c) {
    if (c->context)
        tls_context_unref(c->context);
    if (c->build.tickets)
        tls_tickets_unref(c->build.tickets);
    if (c->build.session_cache)
        tls_session_cache_unref(c->build.session_cache);
    tls_material_fini(&c->material);
    tls_stats_fini(&c->stats);
    config_unref(c->build.config);
    pthread_mutex_destroy(&c->lock);
    free(c->alpn);
    free(c->owner);
    free(c);
}

static void unref(void *arg) {
    struct transport_tls *c = arg;
    if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
        free_transport(c);
}

static struct tls_context *lease_context(struct transport_tls *c) {
    pthread_mutex_lock(&c->lock);
    struct tls_context *context = tls_context_ref(c->context);
    pthread_mutex_unlock(&c->lock);
    return context;
}

/* ---- what is offered by ALPN ---- */

/* Configs of Envoy say [h2, http/1.1] everywhere. To offer what nobody here speaks would be to get it. */
static int choose_alpn(struct transport_tls *c, bool serves_http, struct cfg_problems *problems) {
    const struct cfg_tls_common *common = c->build.common;
    c->alpn = calloc(common->alpn_protocols_count + 1, sizeof *c->alpn);
    if (!c->alpn)
        return -ENOMEM;
    bool left_out = false;
    for (size_t i = 0; i < common->alpn_protocols_count; i++) {
        if (serves_http && span_eq(common->alpn_protocols[i], SPAN_LIT("h2")))
            left_out = true;
        else
            c->alpn[c->build.alpn_count++] = common->alpn_protocols[i];
    }
    c->build.alpn = c->alpn;
    if (left_out)
        cfg_problem_add(problems, CFG_PROBLEM_WARNING, &common->mark,
                        "h2 of alpn_protocols is not offered: HTTP/2 is not spoken here yet");
    return 0;
}

/* ---- reloading ---- */

struct reload {
    struct transport_tls *c;
    struct cfg_problems problems;
    bool is_changed, is_good;
};

static void say(const struct transport_tls *c, const struct cfg_problems *problems) {
    for (size_t i = 0; i < problems->count; i++) {
        const struct cfg_problem *problem = &problems->items[i];
        bool refuses = problem->kind != CFG_PROBLEM_WARNING;
        LOG(log_tls, refuses ? LOG_ERROR : LOG_WARN, "%s: %.*s:%u: %s%s", c->owner,
            (int)problem->mark.file.len, problem->mark.file.ptr, problem->mark.line, problem->text,
            refuses ? " (what was loaded before stays)" : "");
    }
    if (problems->lost)
        LOG(log_tls, LOG_ERROR, "%s: out of memory (what was loaded before stays)", c->owner);
}

/* Off the Ps. */
static void reload(void *arg) {
    struct reload *task = arg;
    struct transport_tls *c = task->c;
    struct tls_material material;
    int rc = tls_material_read(c->build.common, c->build.downstream, c->build.config,
                               &task->problems, &material);
    /* Nobody but us changes c->material. */
    if (rc == 0 && tls_material_same(&material, &c->material)) {
        tls_material_fini(&material);
        return;
    }
    task->is_changed = true;
    struct tls_build build = c->build;
    build.tickets = NULL;
    if (rc == 0 && c->build.tickets) {
        build.tickets = material.has_ticket_keys ? NULL : tls_tickets_ref(c->build.tickets);
        if (material.has_ticket_keys) {
            struct span keys[TLS_TICKET_KEYS_MAX];
            size_t count = 0;
            for (; count < material.ticket_key_count && count < TLS_TICKET_KEYS_MAX; count++)
                keys[count] = material.ticket_keys[count].bytes;
            build.tickets = tls_tickets_new(keys, count);
        }
        rc = build.tickets ? 0 : -ENOMEM;
    }
    struct tls_context *context = rc == 0 ? tls_build(&build, &material, &task->problems) : NULL;
    if (!context) {
        if (build.tickets)
            tls_tickets_unref(build.tickets);
        tls_material_fini(&material);
        return;
    }
    task->is_good = true;
    pthread_mutex_lock(&c->lock);
    struct tls_context *old = c->context;
    struct tls_material old_material = c->material;
    struct tls_tickets *old_tickets = c->build.tickets;
    c->context = context;
    c->material = material;
    c->build.tickets = build.tickets;
    pthread_mutex_unlock(&c->lock);
    tls_context_unref(old);
    if (old_tickets)
        tls_tickets_unref(old_tickets);
    tls_material_fini(&old_material);
}

/* On the coroutine of file_watch. */
static void files_changed(void *arg) {
    struct transport_tls *c = arg;
    struct reload task = {.c = c};
    if (blocking_call(reload, &task) != 0) {
        LOG(log_tls, LOG_ERROR, "%s: changed files were not read: no thread to be had", c->owner);
        return;
    }
    if (task.is_changed) {
        const struct statistic *stat = task.is_good ? c->stats.update : c->stats.update_failed;
        stat_add(stat, STATS_SHARD_FOREIGN, 1);
        if (task.is_good)
            LOG(log_tls, LOG_INFO, "%s: certificates and keys were read anew", c->owner);
    }
    say(c, &task.problems);
    cfg_problems_fini(&task.problems);
}

static int start_watching(struct transport_tls *c, struct cfg_problems *problems) {
    if (c->material.file_count == 0 && c->material.directory_count == 0)
        return 0;
    const struct file_watch_options options = {
        .files = c->material.files,
        .file_count = c->material.file_count,
        .directories = c->material.directories,
        .directory_count = c->material.directory_count,
        .changed = files_changed,
        .release = unref,
        .arg = c,
    };
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    int rc;
    c->watch = file_watch_add(&options, &rc);
    if (c->watch)
        return 0;
    atomic_fetch_sub_explicit(&c->refs, 1, memory_order_relaxed);
    cfg_problem_add(problems, CFG_PROBLEM_INVALID, &c->build.common->mark,
                    "its files cannot be watched: %s; see fs.inotify in sysctl",
                    strerrordesc_np(-rc));
    return -EINVAL;
}

/* ---- building ---- */

static int prepare(struct transport_tls *c, bool serves_http, struct cfg_problems *problems) {
    int rc = choose_alpn(c, serves_http, problems);
    if (rc == 0)
        rc = tls_material_read(c->build.common, c->build.downstream, c->build.config, problems,
                               &c->material);
    if (rc != 0)
        return rc;
    bool has_tickets = c->build.downstream &&
                       c->build.downstream->session_ticket_keys_type_case != CFG_TICKETS_DISABLED;
    if (has_tickets) {
        struct span keys[TLS_TICKET_KEYS_MAX];
        size_t count = 0;
        for (; count < c->material.ticket_key_count && count < TLS_TICKET_KEYS_MAX; count++)
            keys[count] = c->material.ticket_keys[count].bytes;
        c->build.tickets = tls_tickets_new(keys, count);
        if (!c->build.tickets)
            return -ENOMEM;
    }
    if (c->build.downstream && !c->build.downstream->disable_stateful_session_resumption) {
        c->build.session_cache = tls_session_cache_new(TLS_SESSION_CACHE_BYTES);
        if (!c->build.session_cache)
            return -ENOMEM;
    }
    c->context = tls_build(&c->build, &c->material, problems);
    if (!c->context)
        return -EINVAL;
    return start_watching(c, problems);
}

static int build_transport_tls(const struct cfg_any *typed_config, const struct config *config,
                               struct span owner, bool serves_http, struct cfg_problems *problems,
                               void **out) {
    struct transport_tls *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    c->refs = 1;
    pthread_mutex_init(&c->lock, NULL);
    list_init(&c->node);
    c->build.config = config_ref((struct config *)(uintptr_t)config);
    if (typed_config->schema == &cfg_schema_downstream_tls) {
        c->build.downstream = typed_config->message;
        c->build.common = &c->build.downstream->common;
    } else {
        c->build.upstream = typed_config->message;
        c->build.common = &c->build.upstream->common;
    }
    c->owner = strndup(owner.ptr, owner.len);
    int rc = c->owner ? tls_stats_init(&c->stats, owner) : -ENOMEM;
    c->build.truncated = c->stats.truncated;
    if (rc == 0)
        rc = prepare(c, serves_http, problems);
    if (rc != 0) {
        if (rc == -ENOMEM)
            problems->lost = true;
        free_transport(c);
        return rc;
    }
    pthread_mutex_lock(&all_lock);
    list_push_back(&all, &c->node);
    pthread_mutex_unlock(&all_lock);
    *out = c;
    return 0;
}

static void free_config(void *config) {
    struct transport_tls *c = config;
    pthread_mutex_lock(&all_lock);
    list_remove(&c->node);
    pthread_mutex_unlock(&all_lock);
    if (c->watch)
        file_watch_remove(c->watch);
    unref(c);
}

/* ---- connections ---- */

/* What has only been counted so far also says why: for logs of the connection. */
static void note_failure(struct downstream *d, const struct tls_fault *fault) {
    struct connection_info *info = fault->text[0] ? connection_info_own(d) : NULL;
    if (info)
        info->transport_failure = connection_info_keep(info, span_of(fault->text));
}

static int accept_tls(const void *config, struct downstream *d, struct inbuf *in,
                      int64_t deadline_ns) {
    struct transport_tls *c = (struct transport_tls *)(uintptr_t)config;
    struct tls_fault fault = {.kind = TLS_FAULT_NONE};
    struct tls_context *context = lease_context(c);
    int rc = tls_accept(&d->socket, context, in, deadline_ns, &fault);
    tls_context_unref(context);
    if (rc != 0) {
        tls_stats_fault(&c->stats, d->p_index, fault.kind);
        LOG(log_tls, LOG_DEBUG, "%s: handshake failed: %s: %s", c->owner, strerrordesc_np(-rc),
            fault.text);
        note_failure(d, &fault);
        return rc;
    }
    struct tls_facts facts;
    if (tls_facts(&d->socket, &facts))
        tls_stats_handshake(&c->stats, d->p_index, &facts);
    return 0;
}

static int connect_tls(const void *config, struct socket *socket,
                       const struct transport_wishes *wishes, int64_t deadline_ns,
                       char failure[256]) {
    struct transport_tls *c = (struct transport_tls *)(uintptr_t)config;
    const struct cfg_upstream_tls *tls = c->build.upstream;
    struct span name = tls->sni.len ? tls->sni : span_none();
    if (tls->auto_host_sni && wishes->host_name.len)
        name = wishes->host_name;
    if (wishes->server_name.len)
        name = wishes->server_name;
    struct tls_peer peer = {
        .server_name = name,
        .verify_name = tls->auto_sni_san_validation && name.len ? name : wishes->verify_name,
        .alpn =
            wishes->application_protocol_count ? wishes->application_protocols[0] : span_none()};
    struct tls_fault fault = {.kind = TLS_FAULT_NONE};
    struct inbuf room;
    inbuf_init(&room, rt_blocks());
    struct tls_context *context = lease_context(c);
    int rc = tls_connect(socket, context, &peer, &room, deadline_ns, &fault);
    tls_context_unref(context);
    inbuf_drop(&room);
    unsigned shard = rt_p_index();
    if (rc != 0) {
        tls_stats_fault(&c->stats, shard, fault.kind);
        snprintf(failure, 256, "%.255s", fault.text);
        return rc;
    }
    struct tls_facts facts;
    if (tls_facts(socket, &facts))
        tls_stats_handshake(&c->stats, shard, &facts);
    return 0;
}

static const struct transport_socket_itab downstream_itab = {
    .name = "envoy.transport_sockets.tls", .accept = accept_tls, .is_secure = true};
static const struct transport_socket_itab upstream_itab = {
    .name = "envoy.transport_sockets.tls", .connect = connect_tls, .is_secure = true};

const struct transport_socket_kind transport_tls_downstream = {
    .itab = &downstream_itab,
    .schema = &cfg_schema_downstream_tls,
    .build = build_transport_tls,
    .free_config = free_config,
};
const struct transport_socket_kind transport_tls_upstream = {
    .itab = &upstream_itab,
    .schema = &cfg_schema_upstream_tls,
    .build = build_transport_tls,
    .free_config = free_config,
};

/* ---- for the admin ---- */

void transport_tls_each(void (*fn)(const struct transport_tls_view *view, void *arg), void *arg) {
    pthread_mutex_lock(&all_lock);
    for (struct list *node = all.next; node != &all; node = node->next) {
        struct transport_tls *c = container_of(node, struct transport_tls, node);
        pthread_mutex_lock(&c->lock);
        struct transport_tls_view view = {.owner = span_of(c->owner)};
        view.certificates = tls_context_certificates(c->context, &view.certificate_count);
        view.authorities = tls_context_authorities(c->context, &view.authority_count);
        view.authority_path = c->material.validation.trusted_ca.source;
        struct span *paths = calloc(view.certificate_count + 1, sizeof *paths);
        for (size_t i = 0; paths && i < view.certificate_count; i++)
            paths[i] = i < c->material.certificate_count ? c->material.certificates[i].chain.source
                                                         : span_none();
        view.paths = paths;
        if (paths)
            fn(&view, arg);
        free(paths);
        pthread_mutex_unlock(&c->lock);
    }
    pthread_mutex_unlock(&all_lock);
}

static void take_earliest(const struct tls_identity *list, size_t count, int64_t *earliest_s) {
    for (size_t i = 0; i < count; i++)
        if (list[i].not_after_s < *earliest_s)
            *earliest_s = list[i].not_after_s;
}

static void find_earliest(const struct transport_tls_view *view, void *arg) {
    take_earliest(view->certificates, view->certificate_count, arg);
    take_earliest(view->authorities, view->authority_count, arg);
}

int64_t transport_tls_days_left(void) {
    int64_t earliest_s = INT64_MAX;
    transport_tls_each(find_earliest, &earliest_s);
    if (earliest_s == INT64_MAX)
        return INT64_MAX;
    return (earliest_s - clock_wall_ns() / NS_PER_S) / 86400;
}
