/* host_native_table: what a plug-in in a host process can ask for. Heads and memory are the mirror's, and so are
 * configurations, sleeps and blocking calls; what only the proxy knows or has is asked for. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "config/cfg_buf.h"
#include "ext/native/native_host.h"
#include "ext/remote/host_config.h"
#include "ext/remote/host_native.h"
#include "http/header_id.h"
#include "proxy/format.h"

static int ask(struct sluice_exchange *e, const struct remote_want *want) {
    struct remote_want whole = *want;
    struct remote_give give;
    return host_native_ask(e, &whole, &give);
}

static struct span text_of(struct sluice_span span) {
    return span.ptr ? native_span(span) : span_make("", 0);
}

/* Copies last as long as the exchange. */
static int keep(struct sluice_exchange *e, struct span text, struct sluice_span *out) {
    struct span copy = arena_copy(&e->x->arena, text);
    if (span_is_none(copy))
        return -ENOMEM;
    *out = native_span_of(copy);
    return 0;
}

static int ask_text(struct sluice_exchange *e, const struct remote_want *want,
                    struct sluice_span *out) {
    struct remote_want whole = *want;
    struct remote_give give;
    if (whole.a.len + whole.b.len + whole.c.len > REMOTE_PIECE_MAX)
        return -E2BIG;
    int rc = host_native_ask(e, &whole, &give);
    return rc == 0 ? keep(e, give.text, out) : rc;
}

/* ---- headers ---- */

static void note(struct sluice_exchange *e, enum sluice_part part, enum remote_edit_kind kind,
                 struct sluice_span name, struct sluice_span value) {
    struct host_native *n = host_native_of(e);
    remote_put_edit(&n->edits, &(struct remote_edit){.part = (uint8_t)part,
                                                     .kind = (uint8_t)kind,
                                                     .name = text_of(name),
                                                     .value = text_of(value)});
    host_native_edited(e);
}

static int set_header(struct sluice_exchange *e, enum sluice_part part, struct sluice_span name,
                      struct sluice_span value) {
    int rc = native_host.header_set(e, part, name, value);
    if (rc == 0)
        note(e, part, REMOTE_EDIT_SET, name, value);
    return rc;
}

static int add_header(struct sluice_exchange *e, enum sluice_part part, struct sluice_span name,
                      struct sluice_span value) {
    int rc = native_host.header_add(e, part, name, value);
    if (rc == 0)
        note(e, part, REMOTE_EDIT_ADD, name, value);
    return rc;
}

static size_t remove_header(struct sluice_exchange *e, enum sluice_part part,
                            struct sluice_span name) {
    size_t count = native_host.header_remove(e, part, name);
    if (count)
        note(e, part, REMOTE_EDIT_REMOVE, name, SLUICE_LIT(""));
    return count;
}

/* ---- the exchange ---- */

static int send_pieces(struct sluice_exchange *e, struct span bytes) {
    int rc = 0;
    while (bytes.len && rc == 0) {
        size_t len = bytes.len < REMOTE_PIECE_MAX ? bytes.len : REMOTE_PIECE_MAX;
        const struct remote_want piece = {.question = REMOTE_WANT_PIECE,
                                          .a = span_make(bytes.ptr, len)};
        rc = ask(e, &piece);
        bytes = span_from(bytes, len);
    }
    return rc;
}

static void reply(struct sluice_exchange *e, const struct sluice_reply *theirs) {
    struct sluice_reply wanted = {.status = 500};
    struct remote_out fields = {0};
    memcpy(&wanted, theirs, theirs->size < sizeof wanted ? theirs->size : sizeof wanted);
    for (size_t i = 0; i < wanted.field_count; i++)
        remote_put_reply_header(&fields, text_of(wanted.fields[i].name),
                                text_of(wanted.fields[i].value));
    if (!fields.failed && fields.len <= REMOTE_PIECE_MAX &&
        send_pieces(e, text_of(wanted.body)) == 0)
        (void)ask(e, &(struct remote_want){
                         .question = REMOTE_WANT_REPLY,
                         .n = wanted.status,
                         .m = wanted.grpc_status ? 1 + (uint64_t)(uint32_t)*wanted.grpc_status : 0,
                         .a = text_of(wanted.details),
                         .b = span_make(fields.data ? fields.data : "", fields.len)});
    remote_out_fini(&fields);
    host_native_of(e)->alive = false;
}

static bool alive(struct sluice_exchange *e) {
    return host_native_of(e)->alive && e->state == NATIVE_RUNS;
}

static int clear_route(struct sluice_exchange *e) {
    if (e->looks_on)
        return -EINVAL;
    host_native_of(e)->has_levels = false;
    return ask(e, &(struct remote_want){.question = REMOTE_WANT_CLEAR_ROUTE});
}

static int learn_levels(struct sluice_exchange *e) {
    struct host_native *n = host_native_of(e);
    struct remote_want want = {.question = REMOTE_WANT_ROUTE_CONFIGS};
    struct remote_give give;
    int rc = n->has_levels ? 0 : host_native_ask(e, &want, &give);
    if (rc != 0 || n->has_levels)
        return rc;
    n->level_count = 0;
    for (size_t at = 0; at + sizeof(uint64_t) <= give.text.len; at += sizeof(uint64_t)) {
        uint64_t id;
        struct host_config config;
        memcpy(&id, give.text.ptr + at, sizeof id);
        if (!host_config_find(id, &config) || n->level_count == FILTER_ROUTE_LEVELS)
            return -EINVAL;
        n->levels[n->level_count++] =
            ((const struct host_native_config *)(uintptr_t)config.go_id)->place;
    }
    n->has_levels = !e->looks_on; /* it is asked for what there is at its moment */
    return 0;
}

static size_t route_configs(struct sluice_exchange *e, void **configs, size_t max) {
    const struct host_native *n = host_native_of(e);
    if (learn_levels(e) != 0)
        return 0;
    unsigned count = n->level_count;
    unsigned first = count > max ? count - (unsigned)max : 0; /* the most specific ones count */
    for (unsigned i = first; i < count; i++)
        configs[i - first] = n->levels[i]->made;
    return count - first;
}

static void *merged_config(struct sluice_exchange *e) {
    struct host_native *n = host_native_of(e);
    void *config = e->config->made;
    if (!e->config->library->plugin.merge_config || learn_levels(e) != 0)
        return config;
    for (unsigned i = 0; i < n->level_count && config; i++) {
        struct native_fault fault;
        bool faulted = false;
        config = e->looks_on ? native_known_merge(n->levels[i], config) /* no time to merge */
                             : native_merge(n->levels[i], config, &fault, &faulted);
        if (faulted) {
            e->state = NATIVE_FAULTED;
            native_library_faulted(e->config->library, &fault, "merge_config", e->x->shard);
        }
        if (!config && !e->looks_on) {
            n->ending = faulted ? REMOTE_FAULTED : REMOTE_NO_MEMORY;
            n->alive = false; /* it is answered as soon as this returns */
        }
    }
    return config;
}

/* ---- bodies ---- */

static bool has_body(struct sluice_exchange *e, enum sluice_part part) {
    return part < 2 && host_native_of(e)->bodies[part];
}

static bool may_change(const struct sluice_exchange *e, enum sluice_part part) {
    return part < 2 && !e->looks_on && host_native_of(e)->phase == (unsigned)part;
}

static struct header_map *headers_of(struct sluice_exchange *e, enum sluice_part part) {
    return part == SLUICE_REQUEST ? &e->x->request.headers : &e->x->response.headers;
}

static int observe(struct sluice_exchange *e, enum sluice_part part,
                   const struct sluice_observer *given) {
    struct host_native *n = host_native_of(e);
    if (!may_change(e, part) || !given->bytes)
        return -EINVAL;
    if (!has_body(e, part))
        return 0;
    struct host_observer *observer = arena_alloc(&e->x->arena, sizeof *observer);
    if (!observer)
        return -ENOMEM;
    *observer = (struct host_observer){n->observers, ++n->last_handle, *given};
    n->observers = observer;
    return ask(e, &(struct remote_want){.question = REMOTE_WANT_OBSERVE,
                                        .part = (uint8_t)part,
                                        .n = observer->handle});
}

static int transform(struct sluice_exchange *e, enum sluice_part part, sluice_next_fn next,
                     void *arg BORROWED_BY(e)) {
    struct host_native *n = host_native_of(e);
    if (!may_change(e, part) || !next)
        return -EINVAL;
    if (!has_body(e, part))
        return 0;
    struct sluice_body *body = arena_alloc(&e->x->arena, sizeof *body);
    if (!body)
        return -ENOMEM;
    *body = (struct sluice_body){.next_made = n->bodies_made,
                                 .n = n,
                                 .handle = ++n->last_handle,
                                 .part = part,
                                 .next = next,
                                 .arg = arg,
                                 .rest = SPAN_INIT("")};
    n->bodies_made = body;
    int rc =
        ask(e, &(struct remote_want){
                   .question = REMOTE_WANT_TRANSFORM, .part = (uint8_t)part, .n = body->handle});
    if (rc == 0)
        (void)header_remove_id(headers_of(e, part), HDR_CONTENT_LENGTH);
    return rc;
}

static int body_next(struct sluice_body *body, struct sluice_span *out) {
    struct remote_want want = {
        .question = REMOTE_WANT_BODY_NEXT, .part = (uint8_t)body->part, .n = body->handle};
    struct remote_give give;
    if (body->n->e.looks_on)
        return -EINVAL;
    int rc = host_native_ask(&body->n->e, &want, &give);
    if (rc == 0)
        *out = native_span_of(give.text);
    return rc;
}

static int body_read(struct sluice_exchange *e, enum sluice_part part, size_t limit,
                     struct sluice_span *out) {
    struct remote_want want = {
        .question = REMOTE_WANT_BODY_READ, .part = (uint8_t)part, .n = limit};
    struct remote_give give;
    if (!may_change(e, part))
        return -EINVAL;
    int rc = host_native_ask(e, &want, &give);
    if (rc != 0)
        return rc;
    size_t size = give.value, len = 0;
    char *all = arena_alloc(&e->x->arena, size ? size : 1);
    if (!all)
        return -ENOMEM;
    while (len < size) {
        want = (struct remote_want){
            .question = REMOTE_WANT_BODY_PIECE, .part = (uint8_t)part, .n = len};
        rc = host_native_ask(e, &want, &give);
        if (rc != 0 || give.text.len == 0 || give.text.len > size - len)
            return rc ? rc : -EIO;
        memcpy(all + len, give.text.ptr, give.text.len);
        len += give.text.len;
    }
    *out = sluice_bytes(all, size);
    return 0;
}

static int body_set(struct sluice_exchange *e, enum sluice_part part, struct sluice_span bytes) {
    if (!may_change(e, part))
        return -EINVAL;
    int rc = send_pieces(e, text_of(bytes));
    if (rc == 0)
        rc = ask(e, &(struct remote_want){.question = REMOTE_WANT_BODY_SET, .part = (uint8_t)part});
    struct span length = arena_decimal(&e->x->arena, bytes.len);
    if (rc != 0 || span_is_none(length))
        return rc ? rc : -ENOMEM;
    host_native_of(e)->bodies[part] = bytes.len > 0;
    header_map_clear(part == SLUICE_REQUEST ? &e->x->request.trailers : &e->x->response.trailers);
    return header_set_id(headers_of(e, part), HDR_CONTENT_LENGTH, length);
}

/* ---- what is known, and notes ---- */

static int attribute(struct sluice_exchange *e, struct sluice_span path, struct sluice_span *text) {
    return ask_text(e, &(struct remote_want){.question = REMOTE_WANT_ATTRIBUTE, .a = text_of(path)},
                    text);
}

static int state(struct sluice_exchange *e, struct sluice_span key, struct sluice_span *text) {
    return ask_text(e, &(struct remote_want){.question = REMOTE_WANT_STATE, .a = text_of(key)},
                    text);
}

static int set_state(struct sluice_exchange *e, struct sluice_span key, struct sluice_span text,
                     unsigned flags) {
    if (key.len + text.len > REMOTE_PIECE_MAX)
        return -E2BIG;
    return ask(e, &(struct remote_want){.question = REMOTE_WANT_SET_STATE,
                                        .a = text_of(key),
                                        .b = text_of(text),
                                        .n = flags});
}

static int set_note(struct sluice_exchange *e, enum remote_question_c question,
                    struct sluice_span name_space, struct sluice_span key,
                    struct sluice_span text) {
    if (name_space.len + key.len + text.len > REMOTE_PIECE_MAX)
        return -E2BIG;
    return ask(e, &(struct remote_want){.question = (uint8_t)question,
                                        .a = text_of(name_space),
                                        .b = text_of(key),
                                        .c = text_of(text)});
}

static int set_text(struct sluice_exchange *e, struct sluice_span name_space,
                    struct sluice_span key, struct sluice_span text) {
    return set_note(e, REMOTE_WANT_SET_TEXT, name_space, key, text);
}

static int set_json(struct sluice_exchange *e, struct sluice_span name_space,
                    struct sluice_span key, struct sluice_span json) {
    return set_note(e, REMOTE_WANT_SET_JSON, name_space, key, json);
}

static int set_number(struct sluice_exchange *e, struct sluice_span name_space,
                      struct sluice_span key, double number) {
    struct remote_want want = {
        .question = REMOTE_WANT_SET_NUMBER, .a = text_of(name_space), .b = text_of(key)};
    memcpy(&want.n, &number, sizeof number);
    return ask(e, &want);
}

static bool text_note(struct sluice_exchange *e, struct sluice_span name_space,
                      struct sluice_span key, struct sluice_span *text) {
    return ask_text(e,
                    &(struct remote_want){
                        .question = REMOTE_WANT_TEXT, .a = text_of(name_space), .b = text_of(key)},
                    text) == 0;
}

static bool number_note(struct sluice_exchange *e, struct sluice_span name_space,
                        struct sluice_span key, double *number) {
    struct remote_want want = {
        .question = REMOTE_WANT_NUMBER, .a = text_of(name_space), .b = text_of(key)};
    struct remote_give give;
    int rc = host_native_ask(e, &want, &give);
    if (rc == 0)
        memcpy(number, &give.value, sizeof *number);
    return rc == 0;
}

static int json_note(struct sluice_exchange *e, struct sluice_span name_space,
                     struct sluice_span key, struct sluice_span *json) {
    return ask_text(e,
                    &(struct remote_want){
                        .question = REMOTE_WANT_JSON, .a = text_of(name_space), .b = text_of(key)},
                    json);
}

/* A format is compiled to see what is wrong with it, and goes to the proxy as text. */
struct sluice_format {
    size_t len;
    char text[];
};

static struct sluice_format *new_format(const struct sluice_config *config,
                                        struct sluice_span text) {
    struct sluice_format *compiled = native_host.format_new(config, text);
    if (!compiled)
        return NULL;
    native_host.format_free(compiled);
    struct sluice_format *format = malloc(sizeof *format + text.len);
    if (!format)
        return NULL;
    format->len = text.len;
    memcpy(format->text, text.ptr, text.len);
    return format;
}

static void free_format(struct sluice_format *format) {
    free(format);
}

static struct sluice_span write_format(struct sluice_exchange *e,
                                       const struct sluice_format *format) {
    struct sluice_span text = {NULL, 0};
    (void)ask_text(e,
                   &(struct remote_want){.question = REMOTE_WANT_FORMAT,
                                         .a = span_make(format->text, format->len)},
                   &text);
    return text;
}

/* ---- statistics: counted here as well, and told with what returns next ---- */

static pthread_mutex_t uncounted_lock = PTHREAD_MUTEX_INITIALIZER;
static struct remote_out uncounted; /* by the lock */

static void tell_count(const struct statistic *stat, bool is_set, int64_t value) {
    const struct remote_count count = {
        .kind = (uint8_t)stat->kind, .is_set = is_set, .value = value, .name = stat->name};
    pthread_mutex_lock(&uncounted_lock);
    if (uncounted.len < REMOTE_EDITS_MAX) /* else it is too much to be told */
        remote_put_count(&uncounted, &count);
    if (uncounted.failed)
        remote_out_fini(&uncounted);
    pthread_mutex_unlock(&uncounted_lock);
}

void host_native_take_counts(struct remote_out *out) {
    pthread_mutex_lock(&uncounted_lock);
    *out = uncounted;
    uncounted = (struct remote_out){0};
    pthread_mutex_unlock(&uncounted_lock);
}

static void count(struct sluice_exchange *e, struct sluice_stat *theirs, int64_t n) {
    native_host.count(e, theirs, n);
    tell_count((const struct statistic *)theirs, false, n);
}

static void set_gauge(struct sluice_stat *theirs, int64_t value) {
    const struct statistic *stat = (const struct statistic *)theirs;
    native_host.gauge_set(theirs, value);
    if (stat->kind == STAT_GAUGE)
        tell_count(stat, true, value);
}

/* ---- */

static int sleep_for(struct sluice_exchange *e, int64_t ns) {
    int rc = native_host.sleep(e, ns);
    if (!e->looks_on)
        host_native_await_turn(e);
    return rc;
}

static int call_blocking(struct sluice_exchange *e, void (*fn)(void *arg), void *arg) {
    struct native_fault fault;
    int rc = native_blocking_call(e, fn, arg, &fault);
    if (!e->looks_on)
        host_native_await_turn(e);
    if (rc != -EFAULT)
        return rc;
    e->state = NATIVE_FAULTED;
    host_native_of(e)->ending = REMOTE_FAULTED;
    native_library_faulted(e->config->library, &fault, "blocking call", e->x->shard);
    return rc;
}

const struct sluice_host *host_native_table(void) {
    static struct sluice_host table;
    table = native_host;
    table.header_set = set_header;
    table.header_add = add_header;
    table.header_remove = remove_header;
    table.reply = reply;
    table.alive = alive;
    table.clear_route = clear_route;
    table.has_body = has_body;
    table.body_observe = observe;
    table.body_transform = transform;
    table.body_next = body_next;
    table.body_read = body_read;
    table.body_set = body_set;
    table.metadata_set_text = set_text;
    table.metadata_set_number = set_number;
    table.metadata_text = text_note;
    table.metadata_number = number_note;
    table.metadata_set_json = set_json;
    table.metadata_json = json_note;
    table.format_new = new_format;
    table.format_free = free_format;
    table.format = write_format;
    table.route_configs = route_configs;
    table.merged_config = merged_config;
    table.attribute = attribute;
    table.filter_state = state;
    table.filter_state_set = set_state;
    table.count = count;
    table.gauge_set = set_gauge;
    table.sleep = sleep_for;
    table.blocking_call = call_blocking;
    return &table;
}
