/* go_filter: the two functions of the filter, and how a call into Go begins and ends; go_end.c has the
 * end of a stream. */
#include "ext/go/go_filter.h"

#include <errno.h>

#include "config/golang_config.h"
#include "ext/go/go_end.h"
#include "ext/go/go_log.h"
#include "ext/go/go_remote.h"
#include "ext/go/go_stats.h"
#include "proxy/exchange.h"
#include "proxy/hcm.h"

/* ---- calls ---- */

static uint64_t config_id_of(struct go_filter *filter) {
    struct exchange *x = filter->x;
    const void *levels[FILTER_ROUTE_LEVELS];
    bool has_route = x->route_chosen || x->state == EXCHANGE_REQUEST;
    unsigned count = has_route ? exchange_route_configs(x, filter->factory, levels) : 0;
    return go_config_for(filter->config, levels, count); /* may park: the first of its kind */
}

/* Who may begin, and how long it waits for that. */
enum begin { BEGIN_CALLBACK, BEGIN_LOG, BEGIN_LAST_LOG };

/* Takes the stream's seat, or holds the one it has. */
static int hold_seat(struct go_filter *filter, enum begin what) {
    struct go_sitting *sitting = &filter->sitting;
    int err = -ETIMEDOUT;
    if (!filter->no_seat)
        err = go_sitting_hold(sitting, 0);
    if (__builtin_expect(err == 0, 1))
        return 0;
    if (what == BEGIN_LAST_LOG) {
        if (!filter->block->entered)
            stat_inc(filter->config->edition.library->stats.ends_untold, filter->x->shard);
        else /* go_end has not got the memory to do it later */
            err = seat_lock(sitting->seat, RT_FOREVER);
    } else if (!filter->no_seat) {
        err = go_sitting_wait(sitting, filter->config->seat_wait_ns);
        filter->no_seat = err == -ETIMEDOUT && !sitting->seat;
    }
    return err;
}

static bool may_begin(const struct go_filter *filter, enum begin what) {
    return what != BEGIN_CALLBACK || exchange_alive(filter->x);
}

static int begin_remote(struct go_filter *filter, enum begin what) {
    struct remote_exchange *remote = filter->remote;
    if (!remote->config_id)
        remote->config_id = config_id_of(filter);
    if (!remote->config_id)
        return -ENOMEM;
    /* Of a stream that its host knows the log goes with the end, whatever blocks their seat. */
    if (what == BEGIN_LAST_LOG && remote->party.lane)
        return 0;
    int err = go_remote_begin(filter, what != BEGIN_LAST_LOG);
    return err || may_begin(filter, what) ? err : -ECANCELED;
}

/* It may be asked for twice: when the exchange ends while it waits for the seat, Go was not entered, and the
 * log phase is the first to do so. */
static int begin(struct go_filter *filter, enum begin what) {
    ASSERT(filter->block);
    if (filter->remote)
        return begin_remote(filter, what);
    bool first = !filter->block->entered;
    uint64_t config_id = 0;
    if (first) {
        config_id = config_id_of(filter);
        if (config_id == 0)
            return -ENOMEM;
    }
    int err = hold_seat(filter, what);
    if (err)
        return err;
    if (!may_begin(filter, what)) {
        go_filter_end(filter);
        return -ECANCELED;
    }
    /* Only now: Go must not be told of the end of a stream that it never heard of. */
    if (first)
        go_block_enter(filter->block, config_id, filter->sitting.seat->number);
    return 0;
}

int go_filter_begin(struct go_filter *filter) {
    return begin(filter, BEGIN_CALLBACK);
}

int go_filter_begin_log(struct go_filter *filter, bool at_end) {
    return begin(filter, at_end ? BEGIN_LAST_LOG : BEGIN_LOG);
}

void go_filter_end(struct go_filter *filter) {
    if (filter->remote)
        return; /* its host holds seats */
    seat_unlock(filter->sitting.seats, filter->sitting.seat);
}

/* ---- replies ---- */

void go_filter_fail(struct go_filter *filter, unsigned status, struct span details) {
    LOG(log_golang, LOG_DEBUG, "plugin %.*s: replying %u: %.*s",
        (int)filter->config->plugin_name.len, filter->config->plugin_name.ptr, status,
        (int)details.len, details.ptr);
    struct local_reply reply = {
        .status = status,
        .body = status == 413 ? SPAN_LIT("Payload Too Large") : SPAN_LIT("Internal Server Error"),
        .details = details,
        .grpc_status = GRPC_STATUS_UNSET,
    };
    if (status == 503)
        reply.body = SPAN_LIT(EXCHANGE_MEMORY_LIMIT_TEXT);
    else if (status != 413 && status != 500)
        reply.body = span_make("", 0);
    exchange_reply(filter->x, &reply);
}

static void reply_unavailable(struct go_filter *filter, struct span body, struct span details,
                              uint32_t flags) {
    const struct local_reply reply = {
        .status = 503,
        .body = body,
        .details = details,
        .grpc_status = GRPC_STATUS_UNSET,
        .flags = flags,
    };
    exchange_reply(filter->x, &reply);
}

void go_filter_fail_begin(struct go_filter *filter, int err) {
    if (err == -ENOMEM)
        go_filter_fail(filter, 500, SPAN_LIT("golang_out_of_memory"));
    if (err == -EPIPE)
        reply_unavailable(filter, SPAN_LIT("extension failed"), SPAN_LIT("golang_host_lost"), 0);
    if (err != -ETIMEDOUT)
        return;
    bool first = filter->remote ? !filter->remote->party.lane : !filter->sitting.seat;
    LOG(log_golang, LOG_DEBUG, "plugin %.*s: %s", (int)filter->config->plugin_name.len,
        filter->config->plugin_name.ptr,
        first ? "all seats are blocked" : "the request's seat is blocked");
    reply_unavailable(filter, SPAN_LIT("extension is blocked"),
                      first ? SPAN_LIT("golang_no_free_seat") : SPAN_LIT("golang_seat_blocked"),
                      FLAG_OVERLOAD);
}

bool go_filter_is_bypassed(const struct go_filter *filter, int err) {
    return err == -EPIPE && filter->config->remote.is_open;
}

/* Not by on_failure: what it has changed until now, it has changed, and a message that is half another one goes nowhere. */
void go_filter_cut(struct go_filter *filter) {
    const struct go_plugin_stats *stats = &filter->config->plugin->stats;
    const struct local_reply reply = {
        .status = 504,
        .body = SPAN_LIT("extension took too long"),
        .details = SPAN_LIT("golang_phase_timeout"),
        .grpc_status = 4, /* DEADLINE_EXCEEDED */
    };
    LOG(log_golang, LOG_DEBUG, "plugin %.*s: a phase took longer than phase_timeout",
        (int)filter->config->plugin_name.len, filter->config->plugin_name.ptr);
    stats_bump(stats_cells(filter->x->shard), stats->slots[GO_STAT_PHASE_TIMEOUTS], 1);
    filter->cut = true;
    ext_stream_cut(&filter->block->stream);
    exchange_reply(filter->x, &reply);
}

static void count_panic(struct go_filter *filter) {
    stat_inc(atomic_load_explicit(&filter->config->panic_error, memory_order_acquire),
             filter->x->shard);
}

void go_filter_reply(struct go_filter *filter, const struct ext_reply *reply) {
    if (reply->panic)
        count_panic(filter);
    struct local_reply local = {
        .status = reply->status,
        .body = reply->body,
        .headers = reply->headers,
        .header_count = reply->header_count,
        .details = reply->details,
        .grpc_status = reply->grpc_status,
    };
    exchange_reply(filter->x, &local);
}

/* ---- the filter's functions ---- */

static void *create(struct exchange *x, const struct filter_factory *factory) {
    struct go_filter *filter = arena_zalloc(&x->arena, sizeof(*filter));
    if (!filter)
        return NULL;
    struct go_config *config = go_config_current_for(factory->config, x); /* to be leased below */
    if (config->edition.library->isolated && !(filter->remote = go_remote_new(config, x)))
        return NULL;
    filter->block = go_block_new(config->plugin, x->shard);
    if (!filter->block)
        return NULL;
    go_library_lease(config->edition.library, x->shard); /* until go_end.c has told the end */
    if (filter->remote)
        filter->remote->block = filter->block;
    filter->block->lent->lenient = config->lenient; /* Go does not know it yet */
    filter->sitting =
        (struct go_sitting){.plugin = config->plugin, .seats = config->seats, .shard = x->shard};
    filter->x = x;
    filter->factory = factory;
    filter->config = config;
    go_side_init(&filter->sides[EXT_REQUEST], filter, EXT_REQUEST, &x->request);
    go_side_init(&filter->sides[EXT_RESPONSE], filter, EXT_RESPONSE, &x->response);
    if (!atomic_load_explicit(&config->panic_error, memory_order_relaxed))
        atomic_store_explicit(
            &config->panic_error,
            stats_get_tagged(STAT_COUNTER, "http", "envoy.http_conn_manager_prefix",
                             x->hcm->config ? x->hcm->config->stat_prefix : SPAN_LIT("admin"),
                             "golang.panic_error"),
            memory_order_release);
    return filter;
}

static void request(struct exchange *x, void *self) {
    struct go_filter *filter = self;
    go_side_run(&filter->sides[EXT_REQUEST]);
}

static void response(struct exchange *x, void *self) {
    struct go_filter *filter = self;
    if (!filter->cut)
        go_side_run(&filter->sides[EXT_RESPONSE]);
}

/* Several plugins may be in one library. The library is called what its heap is (go_heap.c). */
static void label(const void *arg, struct doing_labels *labels) {
    const struct go_config *config = go_config_current(arg);
    if (!config)
        return; /* built dry */
    const struct doing_labels *known = &config->plugin->labels;
    for (unsigned i = 0; i < known->count; i++)
        doing_labels_add(labels, known->items[i].key, span_of(known->items[i].value));
}

static const struct filter_itab golang_itab = {
    .name = "envoy.filters.http.golang",
    .create = create,
    .request = request,
    .response = response,
    .log = go_end_log,
    .destroy = go_end_destroy,
};

const struct filter_kind filter_kind_golang = {
    .itab = &golang_itab,
    .schema = &cfg_schema_golang,
    .route_schema = &cfg_schema_golang_per_route,
    .build = go_config_new,
    .free_config = go_config_free,
    .label = label,
    .build_route = go_route_config_new,
    .free_route = go_route_config_free,
};
