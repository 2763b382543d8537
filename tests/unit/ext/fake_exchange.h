/* fake_exchange: the part of proxy/exchange.h that filters call, without a connection behind it. */
#pragma once
#include <string.h>

#include "../rt/rt_story.h"
#include "ext/go/go_filter.h"
#include "ext/go/go_log.h"
#include "ext/go/go_stats.h"
#include "proxy/exchange.h"
#include "proxy/filter_state.h"
#include "proxy/hcm.h"
#include "proxy/metadata.h"
#include "proxy/route.h"
#include "proxy/route_rollout.h"

struct fake_exchange {
    struct exchange x;
    struct filter_factory factory;
    struct doing doing;
    struct hcm hcm;
    size_t buffer_limit;
    /* what the filter asked for */
    unsigned reply_status;
    char reply_body[256], reply_details[128], reply_headers[256];
    int64_t reply_grpc;
    unsigned route_clears, route_choices;
    const void *levels[FILTER_ROUTE_LEVELS];
    unsigned level_count;
    /* the body that comes in */
    const char *const *pieces;
    unsigned next_piece;
    bool has_trailers;
    int body_error;    /* instead of the end */
    char piece[65536]; /* lent: overwritten by the next step, as a real one may be */
};

/* For cmocka_run_group_tests: the statistics that the host counts in. */
static inline int fake_stats_init(void **state) {
    CHECK(stats_init(4) == 0);
    CHECK(go_lent_init() == 0);
    return 0;
}

static struct fake_exchange *fake_of(struct exchange *x) {
    return container_of(x, struct fake_exchange, x);
}

bool exchange_alive(const struct exchange *x) {
    return !x->client_gone && !x->reply_pending && !x->reset_pending;
}

static void copy_text(char *out, size_t size, struct span text) {
    (void)snprintf(out, size, "%.*s", (int)text.len, text.ptr ? text.ptr : "");
}

void exchange_reply(struct exchange *x, const struct local_reply *reply) {
    struct fake_exchange *fake = fake_of(x);
    if (!exchange_alive(x))
        return;
    x->reply_pending = true;
    fake->reply_status = reply->status;
    fake->reply_grpc = reply->grpc_status;
    copy_text(fake->reply_body, sizeof(fake->reply_body), reply->body);
    copy_text(fake->reply_details, sizeof(fake->reply_details), reply->details);
    size_t at = 0;
    for (size_t i = 0; i < reply->header_count && at < sizeof(fake->reply_headers); i++)
        at += (size_t)snprintf(fake->reply_headers + at, sizeof(fake->reply_headers) - at,
                               "%.*s=%.*s;", (int)reply->headers[i].name_len,
                               reply->headers[i].name_ptr, (int)reply->headers[i].value_len,
                               reply->headers[i].value_ptr);
}

void exchange_reset(struct exchange *x, struct span details) {
    x->reset_pending = true;
    copy_text(fake_of(x)->reply_details, sizeof(fake_of(x)->reply_details), details);
}

/* A listener with as much memory as one likes. */
int exchange_charge(struct exchange *x, size_t bytes) {
    x->charged_bytes += bytes;
    return 0;
}

const struct route_entry *exchange_route(struct exchange *x) {
    fake_of(x)->route_choices++;
    x->route_chosen = true;
    return x->route;
}

/* Nothing is on trial. */
const struct route_table *route_trial_choose(const struct hcm *hcm, struct exchange *x) {
    return hcm->routes;
}

void exchange_clear_route(struct exchange *x) {
    fake_of(x)->route_clears++;
    x->route_chosen = false;
}

unsigned exchange_route_configs(struct exchange *x, const struct filter_factory *factory,
                                const void *out[FILTER_ROUTE_LEVELS]) {
    struct fake_exchange *fake = fake_of(x);
    memcpy(out, fake->levels, fake->level_count * sizeof(out[0]));
    return fake->level_count;
}

size_t exchange_buffer_limit(const struct exchange *x) {
    return ((const struct fake_exchange *)x)->buffer_limit;
}

static ssize_t pieces_next(void *data, size_t max, struct span *out) {
    struct fake_exchange *fake = data;
    memset(fake->piece, '#', 64); /* whoever kept a borrowed span sees it now */
    const char *text = fake->pieces ? fake->pieces[fake->next_piece] : NULL;
    if (!text) {
        if (fake->body_error)
            return fake->body_error;
        if (fake->has_trailers && fake->x.request.trailers.count == 0)
            CHECK(header_add(&fake->x.request.trailers, HDR_OTHER, SPAN_LIT("x-end"),
                             SPAN_LIT("yes")) == 0);
        *out = span_make("", 0);
        return 0;
    }
    fake->next_piece++;
    size_t len = strlen(text);
    CHECK(len < sizeof(fake->piece) && len <= max);
    memcpy(fake->piece, text, len);
    *out = span_make(fake->piece, len);
    return (ssize_t)len;
}

static void pieces_close(void *data) {
    struct fake_exchange *fake = data;
    memset(fake->piece, '!', sizeof(fake->piece));
}

static const struct reader_itab pieces_itab = {.next = pieces_next, .close = pieces_close};

/* A GET of / with four headers; pieces NULL and no trailers: no body. */
static inline struct fake_exchange *fake_new(struct go_filter_config *config,
                                             const char *const *pieces, bool has_trailers) {
    struct fake_exchange *fake = calloc(1, sizeof(*fake));
    CHECK(fake);
    struct exchange *x = &fake->x;
    arena_init(&x->arena, rt_blocks(), 1 << 22);
    header_map_init(&x->request.headers, &x->arena);
    header_map_init(&x->request.trailers, &x->arena);
    header_map_init(&x->response.headers, &x->arena);
    header_map_init(&x->response.trailers, &x->arena);
    struct header_map *headers = &x->request.headers;
    CHECK(header_add_id(headers, HDR_METHOD, SPAN_LIT("GET")) == 0);
    CHECK(header_add_id(headers, HDR_PATH, SPAN_LIT("/path")) == 0);
    CHECK(header_add_id(headers, HDR_AUTHORITY, SPAN_LIT("example")) == 0);
    CHECK(header_add_id(headers, HDR_SCHEME, SPAN_LIT("http")) == 0);
    CHECK(header_add(headers, HDR_OTHER, SPAN_LIT("x-a"), SPAN_LIT("one")) == 0);
    CHECK(header_add(headers, HDR_OTHER, SPAN_LIT("x-empty"), SPAN_LIT("")) == 0);
    fake->pieces = pieces;
    fake->has_trailers = has_trailers;
    if (pieces || has_trailers)
        x->request.body = (struct reader){&pieces_itab, fake};
    fake->buffer_limit = 1 << 20;
    x->hcm = &fake->hcm;
    x->doing = &fake->doing;
    x->shard = rt_p_index();
    x->info.downstream_remote = SPAN_LIT("1.2.3.4:5");
    x->info.protocol = 1;
    fake->factory = (struct filter_factory){.config = config, .itab = filter_kind_golang.itab};
    return fake;
}

static inline void fake_free(struct fake_exchange *fake) {
    reader_close(fake->x.request.body);
    reader_close(fake->x.response.body);
    metadata_unref(exchange_metadata_if(&fake->x));
    filter_state_unref(exchange_filter_state_if(&fake->x));
    arena_fini(&fake->x.arena);
    free(fake);
}
