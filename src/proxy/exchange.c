/* exchange: the filter chain and the life of one request.
 *
 * Everything here runs on one P. Three parties may want an exchange to stop: the client (it hung up),
 * a timer, and the pump coroutine (an extension replied while it saw the request body). Each sets its
 * mark on the exchange and cancels the main coroutine, whose parks then return -ECANCELED; it
 * looks at the marks and goes on accordingly. Marks are plain fields because a P runs one thing
 * at a time. */
#include "proxy/exchange.h"

#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster.h"
#include "proxy/cluster_specifier.h"
#include "proxy/connection_info.h"
#include "proxy/downstream_wait.h"
#include "proxy/exchange_log.h"
#include "proxy/filter_state.h"
#include "proxy/former_routes.h"
#include "proxy/local_reply.h"
#include "proxy/metadata.h"
#include "proxy/rollout.h"
#include "proxy/route.h"
#include "proxy/route_rollout.h"
#include "proxy/tls_info.h"

LOG_COMPONENT(http, "http");

bool exchange_alive(const struct exchange *x) {
    return !x->client_gone && !x->reply_pending && !x->reset_pending;
}

/* Before its first turn the pump has no coroutine to cancel yet: it looks at the mark itself. */
static void cancel_pump(struct exchange *x) {
    x->pump_cancelled = true;
    if (x->pump)
        rt_cancel(x->pump);
}

/* Whoever waits in the exchange's name stops waiting. The caller itself is not cancelled: it returns
 * by itself, and its own cleanup may have to park. */
static COLD void stop_waiting(struct exchange *x) {
    struct g *self = rt_self();
    if (x->main && x->main != self)
        rt_cancel(x->main);
    if (x->pump_started && x->pump != self)
        cancel_pump(x);
}

void exchange_client_gone(struct exchange *x) {
    if (x->client_gone || x->state == EXCHANGE_DONE)
        return;
    x->client_gone = true;
    x->info.flags |= FLAG_DOWNSTREAM_CONNECTION_TERMINATION;
    x->info.response_code_details = SPAN_LIT("downstream_remote_disconnect");
    stop_waiting(x);
}

void exchange_reset(struct exchange *x, struct span details) {
    if (x->reset_pending || x->state == EXCHANGE_DONE)
        return;
    x->reset_pending = true;
    x->close_after = true;
    if (details.len)
        x->info.response_code_details = arena_copy(&x->arena, details);
    stop_waiting(x);
}

void exchange_reply(struct exchange *x, const struct local_reply *reply) {
    if (!exchange_alive(x) || x->state == EXCHANGE_DONE)
        return;
    x->info.flags |= reply->flags;
    if (x->state == EXCHANGE_HEADERS_SENT) {
        stat_inc(x->hcm->stats.rq_reset_after_downstream_response_started, x->shard);
        exchange_reset(x, reply->details);
        return;
    }
    struct local_reply limited;
    if (x->arena.refused && reply->status == 500) { /* not ours to fix, as a 500 would say */
        limited = *reply;
        limited.status = 503;
        limited.body = SPAN_LIT(EXCHANGE_MEMORY_LIMIT_TEXT);
        limited.details = SPAN_LIT(EXCHANGE_MEMORY_LIMIT_DETAILS);
        reply = &limited;
    }
    if (local_reply_copy(&x->arena, reply, &x->reply) != 0) {
        exchange_reset(x, SPAN_LIT("out_of_memory"));
        return;
    }
    x->reply_pending = true;
    stop_waiting(x);
}

/* ---- the pump ---- */

struct pump_start {
    struct exchange *x;
    void (*fn)(struct exchange *x, void *arg);
    void *arg;
    struct doing doing;
};

static void run_pump(void *arg) {
    struct pump_start *start = arg; /* in the arena */
    struct exchange *x = start->x;
    x->pump = rt_self();
    x->pump_doing = &start->doing;
    if (x->pump_cancelled)
        rt_cancel(x->pump);
    start->fn(x, start->arg);
    x->pump = NULL;
    x->pump_started = false;
    rt_ready(x->main);
}

int exchange_pump_start(struct exchange *x, void (*fn)(struct exchange *x, void *arg), void *arg) {
    struct pump_start *start = arena_alloc(&x->arena, sizeof *start);
    if (!start)
        return -ENOMEM;
    *start = (struct pump_start){.x = x, .fn = fn, .arg = arg};
    doing_init_like(&start->doing, x->doing);
    x->pump_cancelled = false;
    const struct go_options options = {
        .name = "request body", .place = RT_HERE, .describer = &start->doing.describer};
    int rc = go_with(&options, run_pump, start);
    x->pump_started = rc == 0;
    return rc;
}

void exchange_pump_stop(struct exchange *x) {
    if (!x->pump_started)
        return;
    cancel_pump(x);
    while (x->pump_started) {
        rt_cancel_clear(); /* we must wait for it, however often somebody wants us to stop */
        (void)rt_park("end of the request body's coroutine", RT_FOREVER);
    }
}

void exchange_request_read(struct exchange *x) {
    if (x->request_complete)
        return;
    x->request_complete = true;
    x->info.request_received_ns = rt_now_ns();
    x->request_deadline_ns = RT_FOREVER;
}

/* ---- timers ----
 *
 * A request has up to four deadlines, and hardly one is ever met. So nothing is armed for them: the
 * timer stays armed from exchange to exchange, of whatever connection, for a time no later than any of
 * them, and when it fires it looks which are due and sleeps until the next. */

static COLD void idle_expired(struct exchange *x) {
    stat_inc(x->hcm->stats.rq_idle_timeout, x->shard);
    /* 408 while the request still comes, 504 when the upstream is silent, as on Envoy. */
    struct local_reply reply = {.status = x->request_complete ? 504 : 408,
                                .body = SPAN_LIT("stream timeout"),
                                .details = SPAN_LIT("stream_idle_timeout"),
                                .grpc_status = GRPC_STATUS_UNSET,
                                .flags = FLAG_STREAM_IDLE_TIMEOUT,
                                .close_connection = !x->request_complete};
    exchange_reply(x, &reply);
}

static COLD void request_expired(struct exchange *x) {
    stat_inc(x->hcm->stats.rq_timeout, x->shard);
    struct local_reply reply = {.status = 408,
                                .body = SPAN_LIT("request timeout"),
                                .details = SPAN_LIT("request_overall_timeout"),
                                .grpc_status = GRPC_STATUS_UNSET,
                                .flags = FLAG_DOWNSTREAM_PROTOCOL_ERROR,
                                .close_connection = true};
    exchange_reply(x, &reply);
}

static COLD void duration_expired(struct exchange *x) {
    stat_inc(x->hcm->stats.rq_max_duration_reached, x->shard);
    struct local_reply reply = {.status = x->request_complete ? 504 : 408,
                                .body = SPAN_LIT("downstream duration timeout"),
                                .details = SPAN_LIT("max_duration_timeout"),
                                .grpc_status = 4, /* DEADLINE_EXCEEDED */
                                .close_connection = !x->request_complete};
    exchange_reply(x, &reply);
}

static int64_t earlier(int64_t a_ns, int64_t b_ns) {
    return a_ns < b_ns ? a_ns : b_ns;
}

/* After a deadline was set: the timer must fire no later than that. */
static void watch(struct exchange *x) {
    struct timer *timer = &x->serving->timer;
    int64_t due_ns = earlier(x->request_deadline_ns, x->filter_deadline_ns);
    due_ns = earlier(due_ns, x->duration_deadline_ns);
    if (x->idle_timeout_ns)
        due_ns = earlier(due_ns, x->active_ns + x->idle_timeout_ns);
    if (__builtin_expect(x->log_due_ns != 0, false))
        due_ns = earlier(due_ns, x->log_due_ns);
    if (due_ns != RT_FOREVER && (!timer_is_armed(timer) || due_ns < timer->deadline_ns))
        timer_arm(timer, due_ns);
}

void exchange_timer_fired(struct timer *timer) {
    struct exchange *x = container_of(timer, struct serving, timer)->exchange;
    if (!x)
        return;
    int64_t now_ns = rt_now_ns();
    if (x->request_deadline_ns <= now_ns) {
        x->request_deadline_ns = RT_FOREVER;
        request_expired(x);
    }
    if (x->filter_deadline_ns <= now_ns) {
        x->filter_deadline_ns = RT_FOREVER;
        x->on_filter_deadline(x, x->filter_deadline_arg);
    }
    if (x->duration_deadline_ns <= now_ns) {
        x->duration_deadline_ns = RT_FOREVER;
        duration_expired(x);
    }
    if (x->idle_timeout_ns && x->active_ns + x->idle_timeout_ns <= now_ns) {
        x->idle_timeout_ns = 0;
        idle_expired(x);
    }
    if (x->log_due_ns && x->log_due_ns <= now_ns) {
        x->log_due_ns = now_ns + x->hcm->log_interval_ns;
        exchange_log_periodic(x);
    }
    watch(x);
}

void exchange_set_deadline(struct exchange *x, int64_t deadline_ns,
                           void (*fn)(struct exchange *x, void *arg), void *arg) {
    x->filter_deadline_ns = deadline_ns;
    x->on_filter_deadline = fn;
    x->filter_deadline_arg = arg;
    if (deadline_ns != RT_FOREVER)
        watch(x);
}

static void start_timers(struct exchange *x) {
    x->active_ns = x->info.start_ns; /* nothing has parked since */
    x->idle_timeout_ns = x->hcm->stream_idle_timeout_ns;
    if (x->hcm->request_timeout_ns && !x->request_complete)
        x->request_deadline_ns = x->active_ns + x->hcm->request_timeout_ns;
    if (x->hcm->max_stream_duration_ns)
        x->duration_deadline_ns = x->active_ns + x->hcm->max_stream_duration_ns;
    watch(x);
}

static void stop_timers(struct exchange *x) {
    x->request_deadline_ns = x->filter_deadline_ns = x->duration_deadline_ns = RT_FOREVER;
    x->idle_timeout_ns = x->log_due_ns = 0;
}

/* ---- routes ---- */

static NOINLINE void choose_cluster(struct exchange *x) {
    const struct cluster_specifier *specifier = x->route->specifier;
    const struct doing_labels *asker = doing_swap_filter(x->doing, &specifier->labels);
    x->choice =
        specifier->kind->choose(specifier->config, &x->request.headers, &x->arena, x->shard);
    doing_filter(x->doing, asker);
}

const struct route_entry *exchange_route(struct exchange *x) {
    if (!x->route_chosen) {
        x->route_chosen = true;
        const struct route_table *routes = exchange_routes(x);
        x->route = routes ? route_match(routes, &x->request.headers, x->random,
                                        tls_peer_bits(&x->downstream->socket))
                          : NULL;
        if (x->route) {
            doing_route(x->doing, &x->route->labels);
            x->info.route_name = x->route->name;
            x->info.virtual_host = x->route->virtual_host_name;
            if (x->route->idle_timeout_ns >= 0) {
                x->idle_timeout_ns = x->route->idle_timeout_ns;
                watch(x);
            }
            if (__builtin_expect(!x->route->cluster && x->route->specifier, false))
                choose_cluster(x);
        }
    }
    return x->route;
}

void exchange_clear_route(struct exchange *x) {
    x->route_chosen = false;
    x->route = NULL;
    doing_route(x->doing, NULL);
}

unsigned exchange_route_configs(struct exchange *x, const struct filter_factory *factory,
                                const void *out[FILTER_ROUTE_LEVELS]) {
    const struct route_entry *route = exchange_route(x);
    return route ? route_filter_configs(route, factory->index, out) : 0;
}

size_t exchange_buffer_limit(const struct exchange *x) {
    return x->hcm->buffer_limit;
}

int exchange_charge(struct exchange *x, size_t bytes) {
    if (!x->serving->purse)
        return 0;
    int rc = downstream_charge_more(x->serving, bytes);
    if (rc == 0)
        x->charged_bytes += bytes;
    return rc;
}

/* ---- the chain ---- */

static int create_filters(struct exchange *x) {
    const struct hcm *hcm = x->hcm;
    x->filters = arena_alloc(&x->arena, hcm->filter_count * sizeof *x->filters);
    if (!x->filters)
        return -ENOMEM;
    for (uint32_t i = 0; i < hcm->filter_count; i++) {
        const struct filter_factory *factory = hcm->filters[i];
        if (factory->disabled)
            continue;
        struct filter_instance *f = &x->filters[x->filter_count];
        *f = (struct filter_instance){.factory = factory, .self = factory->config};
        if (factory->itab->create) {
            doing_filter(x->doing, &factory->labels);
            f->self = factory->itab->create(x, factory);
            if (!f->self)
                return -ENOMEM;
        }
        x->filter_count++;
    }
    return 0;
}

static void run_request_side(struct exchange *x) {
    for (uint32_t i = 0; i < x->filter_count && exchange_alive(x); i++) {
        struct filter_instance *f = &x->filters[i];
        if (f->factory->itab->request) {
            doing_filter(x->doing, &f->factory->labels);
            f->factory->itab->request(x, f->self);
        }
    }
    doing_filter(x->doing, NULL);
}

/* Turns the pending reply into x->response. The old response, if any, is dropped. */
static COLD bool take_reply(struct exchange *x) {
    exchange_pump_stop(x);
    rt_cancel_clear();
    x->reply_pending = false;
    reader_close(x->response.body);
    message_init(&x->response, &x->arena);
    x->local = true;
    if (x->reply.close_connection)
        x->close_after = true;
    if (local_reply_fill(x, &x->reply) != 0) {
        exchange_reset(x, SPAN_LIT("out_of_memory"));
        return false;
    }
    return true;
}

static void run_response_side(struct exchange *x) {
    x->state = EXCHANGE_RESPONSE;
    for (uint32_t i = x->filter_count; i-- > 0 && exchange_alive(x);) {
        struct filter_instance *f = &x->filters[i];
        if (f->factory->itab->response) {
            doing_filter(x->doing, &f->factory->labels);
            f->factory->itab->response(x, f->self);
        }
    }
    doing_filter(x->doing, NULL);
    if (x->reply_pending)
        (void)take_reply(x); /* straight to the wire: no filter sees it */
}

/* What is to outlive the exchange goes to its connection. */
static void settle(struct exchange *x, struct filter_state *state) {
    if (!x->downstream || !filter_state_outlives(state))
        return;
    struct connection_info *info = connection_info_own(x->downstream);
    if (info && !info->filter_state)
        info->filter_state = filter_state_new();
    unsigned dropped = 1;
    if (info && info->filter_state)
        dropped = filter_state_settle(state, info->filter_state);
    if (dropped)
        LOG(log_http, LOG_WARN, "filter state of a connection: no memory, or more than %d bytes",
            (int)FILTER_STATE_BYTES_MAX);
}

static COLD void drop_notes(struct exchange *x) {
    struct filter_state *state = exchange_filter_state_if(x);
    metadata_unref(exchange_metadata_if(x));
    if (state)
        settle(x, state);
    filter_state_unref(state);
}

static void finish(struct exchange *x) {
    exchange_pump_stop(x);
    stop_timers(x);
    exchange_log_detach(x);
    rt_cancel_clear(); /* filters may have to park to clean up */
    x->state = EXCHANGE_DONE;
    x->info.end_ns = rt_now_ns();
    exchange_log(x, FILTER_LOG_END);
    for (uint32_t i = x->filter_count; i-- > 0;) {
        struct filter_instance *f = &x->filters[i];
        if (f->factory->itab->destroy) {
            doing_filter(x->doing, &f->factory->labels);
            f->factory->itab->destroy(x, f->self);
        }
    }
    doing_filter(x->doing, NULL);
    reader_close(x->request.body);
    reader_close(x->response.body);
    if (x->leased_cluster)
        cluster_unref(x->leased_cluster);
    if (exchange_metadata_if(x) || exchange_filter_state_if(x))
        drop_notes(x);
    if (x->charged_bytes)
        downstream_give_more(x->serving, x->charged_bytes);
    if (__builtin_expect(x->former_routes != NULL, false))
        former_routes_give_back(x);
}

static void count(struct exchange *x) {
    const struct hcm_stats *s = &x->hcm->stats;
    const struct hcm_request_slots *slots = &x->hcm->slots;
    uint64_t *cells = stats_cells(x->shard);
    stats_bump(cells, slots->rq_active, (uint64_t)-1);
    unsigned code = x->info.response_code;
    if (code >= 100 && code < 600) {
        stats_bump(cells, slots->rq_completed, 1);
        stats_bump(cells, slots->rq_class[code / 100 - 1], 1);
        stat_record_us(s->rq_time, x->shard, (uint64_t)(x->info.end_ns - x->info.start_ns) / 1000);
    }
    if (x->upgrade)
        stat_dec(s->cx_upgrades_active, x->shard);
    if (x->client_gone)
        stat_inc(s->rq_rx_reset, x->shard);
    else if (x->reset_pending)
        stat_inc(s->rq_tx_reset, x->shard);
    if (__builtin_expect(x->rollouts != NULL, false))
        rollout_count(x);
}

/* Envoy's place for it: what its codec or its connection manager refuses without filters is logged at its end only; an
 * upgrade that is not allowed comes behind it. */
static COLD void log_start(struct exchange *x) {
    bool refuses_upgrade =
        x->reply_pending && span_eq(x->reply.details, SPAN_LIT("upgrade_failed"));
    if (!exchange_alive(x) && !refuses_upgrade)
        return;
    if (x->route && x->route->cluster) /* as far as is known */
        x->info.upstream_cluster = x->route->cluster->name;
    exchange_log(x, FILTER_LOG_START);
}

/* Behind the log at the start, in which a filter may wait: it comes first. */
static COLD void log_periodically(struct exchange *x) {
    x->log_due_ns = x->info.start_ns + x->hcm->log_interval_ns;
    watch(x);
}

bool exchange_run(struct exchange *x) {
    const struct hcm_request_slots *slots = &x->hcm->slots;
    uint64_t *cells = stats_cells(x->shard);
    stats_bump(cells, slots->rq_total, 1);
    stats_bump(cells, slots->rq_http1_total, 1);
    stats_bump(cells, slots->rq_active, 1);
    start_timers(x);
    if (!x->refused && create_filters(x) != 0) {
        struct local_reply reply = {.status = 500,
                                    .details = SPAN_LIT("filter_chain_failed"),
                                    .grpc_status = GRPC_STATUS_UNSET};
        exchange_reply(x, &reply);
    }
    doing_filter(x->doing, NULL);
    if (!x->refused)
        (void)exchange_route(x);
    if (__builtin_expect(x->hcm->logs_start, false))
        log_start(x);
    if (__builtin_expect(x->hcm->log_interval_ns != 0, false))
        log_periodically(x);
    run_request_side(x);

    bool answered = false;
    if (x->reply_pending)
        answered = take_reply(x);
    else if (exchange_alive(x))
        answered = header_has(&x->response.headers, HDR_STATUS);
    if (exchange_alive(x) && !answered) {
        LOG(log_http, LOG_ERROR, "no filter answered the request; is the last one terminal?");
        exchange_reset(x, SPAN_LIT("no_response"));
    }
    if (answered)
        run_response_side(x);
    if (exchange_alive(x) && downstream_send(x->serving, x) != 0)
        exchange_reset(x, SPAN_LIT("response_headers_failed"));
    bool reusable = !x->client_gone && !x->reset_pending && !x->close_after;
    finish(x);
    count(x);
    return reusable;
}
