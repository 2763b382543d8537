/* native_host: the table. What a plug-in hands in may be wrong as to the exchange (a header that may not be sent, a body
 * that is past), which is an error; what it hands in as pointers is believed. */
#include "ext/native/native_host.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "config/native_config.h"
#include "ext/native/native_filter.h"
#include "http/header_id.h"
#include "http/header_map_internal.h"
#include "proxy/format.h"
#include "rt/foreign.h"
#include "rt/sync.h"

/* ---- headers and trailers ---- */

static struct header_map *map_of(struct sluice_exchange *e, enum sluice_part part) {
    switch (part) {
    case SLUICE_REQUEST:
        return &e->x->request.headers;
    case SLUICE_RESPONSE:
        return &e->x->response.headers;
    case SLUICE_REQUEST_TRAILERS:
        return &e->x->request.trailers;
    default:
        return &e->x->response.trailers;
    }
}

static bool header(struct sluice_exchange *e, enum sluice_part part, struct sluice_span name,
                   size_t index, struct sluice_span *value) {
    const struct header_map *map = map_of(e, part);
    struct span wanted = native_span(name);
    enum header_id id = header_id_of(wanted);
    int at = header_find(map, id, wanted, 0);
    for (; at >= 0 && index > 0; index--)
        at = header_find(map, id, wanted, (uint32_t)at + 1);
    if (at < 0)
        return false;
    *value = native_span_of(header_value(&map->entries[at]));
    return true;
}

static bool header_at(struct sluice_exchange *e, enum sluice_part part, size_t index,
                      struct sluice_field *field) {
    const struct header_map *map = map_of(e, part);
    if (index >= map->count)
        return false;
    *field = (struct sluice_field){native_span_of(header_name(&map->entries[index])),
                                   native_span_of(header_value(&map->entries[index]))};
    return true;
}

static bool is_pseudo(struct span name) {
    return name.len > 0 && name.ptr[0] == ':';
}

/* Of the pseudo headers those that are there may be changed. */
static int put(struct sluice_exchange *e, enum sluice_part part, struct sluice_span name,
               struct sluice_span value, bool adds) {
    struct header_map *map = map_of(e, part);
    struct span key = native_span(name), text = native_span(value);
    enum header_id id = header_id_of(key);
    if (e->looks_on || (is_pseudo(key) && (adds || !header_has(map, id))))
        return -EINVAL;
    key = id == HDR_OTHER ? arena_copy(&e->x->arena, key) : header_name_of(id);
    text = arena_copy(&e->x->arena, span_is_none(text) ? span_make("", 0) : text);
    if (span_is_none(key) || span_is_none(text))
        return -ENOMEM;
    return adds ? header_add(map, id, key, text) : header_set(map, id, key, text);
}

static int set_header(struct sluice_exchange *e, enum sluice_part part, struct sluice_span name,
                      struct sluice_span value) {
    return put(e, part, name, value, false);
}

static int add_header(struct sluice_exchange *e, enum sluice_part part, struct sluice_span name,
                      struct sluice_span value) {
    return put(e, part, name, value, true);
}

static size_t remove_header(struct sluice_exchange *e, enum sluice_part part,
                            struct sluice_span name) {
    struct span key = native_span(name);
    if (e->looks_on || is_pseudo(key))
        return 0;
    return header_remove(map_of(e, part), header_id_of(key), key);
}

/* ---- the exchange ---- */

static struct sluice_reply whole_reply(const struct sluice_reply *theirs) {
    struct sluice_reply reply = {.status = 500};
    memcpy(&reply, theirs, theirs->size < sizeof reply ? theirs->size : sizeof reply);
    return reply;
}

static void reply(struct sluice_exchange *e, const struct sluice_reply *theirs) {
    enum { FIELDS_MAX = 32 };
    const struct sluice_reply wanted = whole_reply(theirs);
    struct header fields[FIELDS_MAX];
    struct local_reply local = {
        .status = wanted.status >= 200 && wanted.status <= 599 ? wanted.status : 500,
        .body = native_span(wanted.body),
        .details =
            wanted.details.len ? native_span(wanted.details) : SPAN_LIT("native_filter_reply"),
        .headers = fields,
        .grpc_status = wanted.grpc_status ? *wanted.grpc_status : GRPC_STATUS_UNSET,
    };
    for (size_t i = 0; i < wanted.field_count && local.header_count < FIELDS_MAX; i++) {
        struct span name = native_span(wanted.fields[i].name);
        struct span value = native_span(wanted.fields[i].value);
        if (header_name_is_valid(name) && header_value_is_valid(value))
            fields[local.header_count++] = header_make(header_id_of(name), name, value);
    }
    exchange_reply(e->x, &local);
}

static bool alive(struct sluice_exchange *e) {
    return exchange_alive(e->x) && e->state == NATIVE_RUNS;
}

static int clear_route(struct sluice_exchange *e) {
    if (e->x->state != EXCHANGE_REQUEST || e->looks_on)
        return -EINVAL;
    exchange_clear_route(e->x);
    return 0;
}

static size_t route_configs(struct sluice_exchange *e, void **configs, size_t max) {
    const void *levels[FILTER_ROUTE_LEVELS];
    unsigned count = native_route_levels(e, levels);
    unsigned first = count > max ? count - (unsigned)max : 0; /* the most specific ones count */
    for (unsigned i = first; i < count; i++)
        configs[i - first] = ((const struct native_route_config *)levels[i])->made;
    return count - first;
}

static void *alloc(struct sluice_exchange *e, size_t size) {
    return arena_zalloc(&e->x->arena, size);
}

/* ---- formats ---- */

/* A format is a struct format; plug-ins have another name for it. */
static struct sluice_format *new_format(const struct sluice_config *config,
                                        struct sluice_span text) {
    struct format *format = format_compile(native_span(text), config->mark, config->problems);
    if (!format)
        ((struct sluice_config *)(uintptr_t)config)->reported = true;
    return (struct sluice_format *)format;
}

static void free_format(struct sluice_format *format) {
    format_free((struct format *)format);
}

static struct sluice_span write_format(struct sluice_exchange *e,
                                       const struct sluice_format *format) {
    struct format_out out = {0};
    const struct format_subject of = format_of_exchange(e->x);
    format_write((const struct format *)format, &of, span_make("", 0), &out, NULL);
    struct span text = span_none();
    if (!out.failed)
        text = arena_copy(&e->x->arena, span_make(out.len ? out.data : "", out.len));
    free(out.data);
    return native_span_of(text);
}

/* ---- configuration ---- */

static struct sluice_span config_json(const struct sluice_config *config) {
    return native_span_of(config->json);
}

static const struct cfg_value *config_field(const struct sluice_config *config,
                                            struct sluice_span key, int kind) {
    const struct cfg_value *all = config->value;
    for (size_t i = 0; all && i < all->fields_count; i++)
        if (span_eq(all->fields[i].key, native_span(key)) && (int)all->fields[i].value.kind == kind)
            return &all->fields[i].value;
    return NULL;
}

static bool config_text(const struct sluice_config *config, struct sluice_span key,
                        struct sluice_span *text) {
    const struct cfg_value *value = config_field(config, key, CFG_VALUE_STRING);
    if (value)
        *text = native_span_of(value->string);
    return value != NULL;
}

static bool config_number(const struct sluice_config *config, struct sluice_span key,
                          double *number) {
    const struct cfg_value *value = config_field(config, key, CFG_VALUE_NUMBER);
    if (value)
        *number = value->number;
    return value != NULL;
}

static bool config_bool(const struct sluice_config *config, struct sluice_span key, bool *out) {
    const struct cfg_value *value = config_field(config, key, CFG_VALUE_BOOL);
    if (value)
        *out = value->boolean;
    return value != NULL;
}

static void config_error(const struct sluice_config *config, struct sluice_span text) {
    ((struct sluice_config *)(uintptr_t)config)->reported = true;
    cfg_problem_add(config->problems, CFG_PROBLEM_INVALID, config->mark, "%s: %.*s",
                    config->library->name, (int)text.len, text.ptr);
}

/* ---- waiting, threads ---- */

static int sleep_for(struct sluice_exchange *e, int64_t ns) {
    if (e->looks_on)
        return -EINVAL;
    int rc = rt_sleep_until(rt_now_ns() + (ns > 0 ? ns : 0));
    return rc < 0 ? -ECANCELED : 0;
}

struct blocking {
    const struct native_text *text;
    void (*fn)(void *arg);
    void *arg;
    struct native_fault *fault;
    bool returned;
};

static NATIVE_ENTER void enter_blocking(void *arg) {
    struct blocking *call = arg;
    call->fn(call->arg);
    NATIVE_ENTERED();
}

static void guard_blocking(void *arg) {
    struct blocking *call = arg;
    call->returned = native_call(call->text, enter_blocking, call, call->fault);
}

int native_blocking_call(const struct sluice_exchange *e, void (*fn)(void *arg), void *arg,
                         struct native_fault *fault) {
    struct blocking call = {
        .text = &e->config->library->text, .fn = fn, .arg = arg, .fault = fault};
    if (e->looks_on)
        return -EINVAL;
    int rc = blocking_call(guard_blocking, &call);
    return rc != 0 ? rc : call.returned ? 0 : -EFAULT;
}

static int call_blocking(struct sluice_exchange *e, void (*fn)(void *arg), void *arg) {
    struct native_fault fault;
    int rc = native_blocking_call(e, fn, arg, &fault);
    if (rc == -EFAULT)
        native_filter_faulted(e, &fault, "blocking call");
    return rc;
}

static unsigned worker(struct sluice_exchange *e) {
    return e->x->shard;
}

static unsigned announced_workers; /* 0: the runtime's */

void native_workers_announce(unsigned count) {
    announced_workers = count;
}

static unsigned workers(void) {
    return announced_workers ? announced_workers : rt_p_count();
}

/* ---- to be seen ---- */

static enum log_level level_of(enum sluice_level level) {
    return level <= SLUICE_CRITICAL ? (enum log_level)level : LOG_CRITICAL;
}

static void write_log(enum sluice_level level, struct sluice_span text) {
    LOG(log_native, level_of(level), "%.*s", (int)text.len, text.ptr);
}

static bool is_logged(enum sluice_level level) {
    return log_enabled(&log_native, level_of(level));
}

static struct sluice_stat *stat_of(const struct sluice_config *config, enum stat_kind kind,
                                   struct sluice_span name) {
    char suffix[128];
    size_t len = name.len < sizeof suffix ? name.len : sizeof suffix - 1;
    memcpy(suffix, name.ptr, len);
    suffix[len] = 0;
    return (struct sluice_stat *)stats_get_tagged(kind, "native", "sluice.native_filter",
                                                  span_of(config->library->name), suffix);
}

static struct sluice_stat *counter(const struct sluice_config *config, struct sluice_span name) {
    return stat_of(config, STAT_COUNTER, name);
}

static struct sluice_stat *gauge(const struct sluice_config *config, struct sluice_span name) {
    return stat_of(config, STAT_GAUGE, name);
}

static struct sluice_stat *histogram(const struct sluice_config *config, struct sluice_span name) {
    return stat_of(config, STAT_HISTOGRAM, name);
}

static void count(struct sluice_exchange *e, struct sluice_stat *theirs, int64_t n) {
    const struct statistic *stat = (const struct statistic *)theirs;
    unsigned shard = e ? e->x->shard : STATS_SHARD_FOREIGN;
    if (stat->kind == STAT_HISTOGRAM)
        stat_record_us(stat, shard, n > 0 ? (uint64_t)n : 0);
    else
        stat_add(stat, shard, n);
}

static void set_gauge(struct sluice_stat *theirs, int64_t value) {
    const struct statistic *stat = (const struct statistic *)theirs;
    if (stat->kind == STAT_GAUGE)
        stat_set(stat, value);
}

static int64_t value_of(struct sluice_stat *theirs) {
    const struct statistic *stat = (const struct statistic *)theirs;
    return stat->kind == STAT_HISTOGRAM ? 0 : stat_value(stat);
}

const struct sluice_host native_host = {
    .major = SLUICE_ABI_MAJOR,
    .minor = SLUICE_ABI_MINOR,
    .size = sizeof(struct sluice_host),
    .header = header,
    .header_at = header_at,
    .header_set = set_header,
    .header_add = add_header,
    .header_remove = remove_header,
    .reply = reply,
    .alive = alive,
    .clear_route = clear_route,
    .has_body = native_has_body,
    .body_observe = native_body_observe,
    .body_transform = native_body_transform,
    .body_next = native_body_next,
    .body_read = native_body_read,
    .body_set = native_body_set,
    .alloc = alloc,
    .metadata_set_text = native_metadata_set_text,
    .metadata_set_number = native_metadata_set_number,
    .metadata_text = native_metadata_text,
    .metadata_number = native_metadata_number,
    .format_new = new_format,
    .format_free = free_format,
    .format = write_format,
    .config_json = config_json,
    .config_text = config_text,
    .config_number = config_number,
    .config_bool = config_bool,
    .config_error = config_error,
    .route_configs = route_configs,
    .sleep = sleep_for,
    .blocking_call = call_blocking,
    .worker = worker,
    .workers = workers,
    .now_ns = clock_mono_ns,
    .log = write_log,
    .log_enabled = is_logged,
    .counter = counter,
    .gauge = gauge,
    .histogram = histogram,
    .count = count,
    .attribute = native_attribute,
    .filter_state_set = native_filter_state_set,
    .filter_state = native_filter_state,
    .metadata_set_json = native_metadata_set_json,
    .metadata_json = native_metadata_json,
    .merged_config = native_merged_config,
    .gauge_set = set_gauge,
    .stat_value = value_of,
};
