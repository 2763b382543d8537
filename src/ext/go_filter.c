/* go_filter: the two functions of the filter, the log phase and the end.
 *
 * Order of a stream's end, as on Envoy: OnStreamComplete, OnLog, OnDestroy, each once and only if Go
 * was entered; the log phase itself enters Go if nothing else did. After OnDestroy nothing is
 * called for the stream: entering again would make Go build a second filter under the same key,
 * and OnData would find none and end the process. The block pointer is gone by then, and
 * go_filter_begin asserts it. */
#include "ext/go_filter.h"

#include <errno.h>

#include "ext/go_log.h"
#include "ext/go_stats.h"
#include "proxy/exchange.h"
#include "proxy/hcm.h"
#include "rt/foreign.h"

/* ---- calls ---- */

/* A seat and the config that a first entry needs. It may be asked for twice: when the exchange ends
 * while it waits for the seat, Go was not entered, and the log phase is the first to do so. */
static int prepare_entry(struct go_filter *filter, uint64_t *config_id) {
    struct exchange *x = filter->x;
    const void *levels[FILTER_ROUTE_LEVELS];
    bool has_route = x->route_chosen || x->state == EXCHANGE_REQUEST;
    unsigned count = has_route ? exchange_route_configs(x, filter->factory, levels) : 0;
    *config_id = go_config_for(filter->config, levels, count); /* may park: the first of its kind */
    if (*config_id == 0)
        return -ENOMEM;
    if (filter->seats)
        return 0;
    filter->seats = go_library_seats(filter->config->library);
    if (!filter->seats)
        return -ENOMEM;
    filter->seat = seat_bind(filter->seats);
    return 0;
}

int go_filter_begin(struct go_filter *filter, bool must_have) {
    ASSERT(filter->block);
    bool first = !filter->block->entered;
    uint64_t config_id = 0;
    if (first) {
        int err = prepare_entry(filter, &config_id);
        if (err)
            return err;
    }
    bool waited;
    int err = seat_lock(filter->seats, filter->seat, must_have, &waited);
    if (waited)
        stat_inc(go_stats.seat_waits, filter->x->shard);
    if (!err && !must_have && !exchange_alive(filter->x)) {
        seat_unlock(filter->seats, filter->seat);
        return -ECANCELED;
    }
    /* Only now: Go must not be told of the end of a stream that it never heard of. */
    if (!err && first)
        go_block_enter(filter->block, config_id, rt_p_index() * SEATS_PER_P + filter->seat);
    return err;
}

void go_filter_call(struct go_filter *filter, rt_fn fn, void *arg) {
    unsigned shard = filter->x->shard;
    stat_inc(go_stats.seats_busy, shard);
    foreign_call(fn, arg);
    stat_dec(go_stats.seats_busy, shard);
    seat_unlock(filter->seats, filter->seat);
}

void go_filter_end(struct go_filter *filter) {
    seat_unlock(filter->seats, filter->seat);
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
    struct go_config *config = factory->config;
    struct go_filter *filter = arena_zalloc(&x->arena, sizeof(*filter));
    if (!filter)
        return NULL;
    filter->block = go_block_new(config->library, config->plugin_name, x->shard);
    if (!filter->block)
        return NULL;
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
    go_side_run(&filter->sides[EXT_RESPONSE]);
}

struct log_call {
    struct go_block *block;
    uint64_t type;
    bool complete; /* OnStreamComplete first */
    const struct header_map *maps[2][2];
};

static uint64_t count_of(const struct header_map *map) {
    return map ? map->count : 0;
}

static uint64_t bytes_of(const struct header_map *map) {
    return map ? map->bytes : 0;
}

static void run_log(void *arg) {
    struct log_call *call = arg;
    struct go_block *block = call->block;
    const struct go_functions *fn = &block->library->fn;
    if (call->complete && fn->on_stream_complete)
        fn->on_stream_complete(&block->lent->request);
    const struct header_map *const *req = call->maps[0], *const *resp = call->maps[1];
    struct go_lent *lent = block->lent;
    if (fn->on_log_31)
        fn->on_log_31(&lent->request, call->type);
    else
        fn->on_log_32(&lent->request, call->type, &lent->states[0], &lent->states[1],
                      count_of(req[0]), bytes_of(req[0]), count_of(req[1]), bytes_of(req[1]),
                      count_of(resp[0]), bytes_of(resp[0]), count_of(resp[1]), bytes_of(resp[1]));
}

static struct header_map *or_absent(struct header_map *map) {
    return map->count ? map : NULL;
}

/* Periodic logs are not made: nothing configures a flush interval yet. */
static void log_phase(struct exchange *x, void *self, enum filter_log_phase phase) {
    struct go_filter *filter = self;
    if (phase == FILTER_LOG_PERIODIC || !filter->block)
        return;
    struct go_block *block = filter->block;
    bool at_end = phase == FILTER_LOG_END;
    struct log_call call = {
        .block = block,
        .type = at_end ? GO_LOG_END : GO_LOG_START,
        .complete = at_end && block->entered,
    };
    if (go_filter_begin(filter, true) != 0)
        return; /* no memory for the first entry: Go never hears of this stream */
    struct header_map *maps[2][2] = {
        {&x->request.headers, at_end ? or_absent(&x->request.trailers) : NULL},
        {at_end ? or_absent(&x->response.headers) : NULL,
         at_end ? or_absent(&x->response.trailers) : NULL}};
    for (int i = 0; i < 4; i++)
        call.maps[i / 2][i % 2] = maps[i / 2][i % 2];
    struct ext_edit *edits[2];
    ext_stream_open_log(&block->stream, x, call.maps);
    go_filter_call(filter, run_log, &call);
    ext_stream_close_log(&block->stream, edits);
    for (int i = 0; i < 2; i++) { /* the access log shows what OnLog changed */
        if (ext_edits_apply(edits[i], (enum ext_direction)i, maps[i][0], maps[i][1]) != 0)
            LOG(log_golang, LOG_ERROR, "no memory for header changes of OnLog");
        ext_edits_free(edits[i]);
    }
}

struct destroy_call {
    struct go_block *block;
    uint64_t reason;
};

static void run_destroy(void *arg) {
    struct destroy_call *call = arg;
    call->block->library->fn.on_destroy(&call->block->lent->request, call->reason);
}

static void destroy(struct exchange *x, void *self) {
    struct go_filter *filter = self;
    struct go_block *block = filter->block;
    if (!block)
        return;
    bool lent = ext_stream_end(&block->stream);
    if (block->entered) {
        struct destroy_call call = {block, lent ? GO_DESTROY_TERMINATE : GO_DESTROY_NORMAL};
        int err = go_filter_begin(filter, true);
        ASSERT(err == 0); /* entered already: only the seat is waited for */
        go_filter_call(filter, run_destroy, &call);
    }
    if (filter->seats)
        seat_unbind(filter->seats, filter->seat);
    go_side_fini(&filter->sides[EXT_REQUEST]);
    go_side_fini(&filter->sides[EXT_RESPONSE]);
    filter->block = NULL;
    go_block_end(block);
}

/* Both names live as long as the process. Several plugins may be in one library. The library is called what
 * its heap is (go_heap.c). */
static void label(const void *arg, struct doing_labels *labels) {
    const struct go_config *config = arg;
    doing_labels_add(labels, "library", span_of(config->library->id));
    doing_labels_add(labels, "plugin", config->plugin_name);
}

static const struct filter_itab golang_itab = {
    .name = "envoy.filters.http.golang",
    .create = create,
    .request = request,
    .response = response,
    .log = log_phase,
    .destroy = destroy,
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
