/* native_notes: what a plug-in asks about an exchange, and notes of it. What it gets is copied into the exchange's memory:
 * metadata and filter state may be replaced by anybody, at any time. */
#include <errno.h>
#include <stdlib.h>

#include "config/native_config.h"
#include "config/value_json.h"
#include "ext/native/native_filter.h"
#include "ext/native/native_host.h"
#include "proxy/attribute.h"
#include "proxy/downstream.h"
#include "proxy/filter_state.h"
#include "proxy/metadata.h"
#include "rt/stack_call.h"

/* Takes what was made. */
static int keep(struct sluice_exchange *e, struct format_out *made, struct sluice_span *out) {
    struct span text = span_none();
    if (!made->failed)
        text = arena_copy(&e->x->arena, span_make(made->len ? made->data : "", made->len));
    free(made->data);
    if (span_is_none(text))
        return -ENOMEM;
    *out = native_span_of(text);
    return 0;
}

/* ---- attributes ---- */

int native_attribute(struct sluice_exchange *e, struct sluice_span path, struct sluice_span *text) {
    struct format_out made = {0};
    int err = 0;
    switch (attribute_of_exchange(e->x, native_span(path), &made)) {
    case ATTRIBUTE_TEXT:
        return keep(e, &made, text);
    case ATTRIBUTE_ABSENT:
        err = -ENOENT;
        break;
    case ATTRIBUTE_NO_TEXT:
        err = -EINVAL;
        break;
    case ATTRIBUTE_NO_MEMORY:
        err = -ENOMEM;
        break;
    }
    free(made.data);
    return err;
}

/* ---- filter state ---- */

static struct filter_state *of_connection(const struct sluice_exchange *e) {
    const struct downstream *downstream = e->x->downstream;
    return downstream ? downstream->info->filter_state : NULL;
}

/* False: two of them exclude each other, or one is unknown. */
static bool read_flags(unsigned flags, struct filter_state_object *out) {
    enum {
        SPANS = SLUICE_STATE_OF_REQUEST | SLUICE_STATE_OF_CONNECTION,
        SHARES = SLUICE_STATE_SHARED_UPSTREAM | SLUICE_STATE_SHARED_UPSTREAM_ONCE,
        KNOWN = SLUICE_STATE_MUTABLE | SPANS | SHARES
    };
    if (flags & ~(unsigned)KNOWN || (flags & SPANS) == SPANS || (flags & SHARES) == SHARES)
        return false;
    out->type = flags & SLUICE_STATE_MUTABLE ? FILTER_STATE_MUTABLE : FILTER_STATE_READ_ONLY;
    out->span = flags & SLUICE_STATE_OF_CONNECTION ? FILTER_STATE_OF_CONNECTION
                : flags & SLUICE_STATE_OF_REQUEST  ? FILTER_STATE_OF_REQUEST
                                                   : FILTER_STATE_OF_CHAIN;
    out->sharing = flags & SLUICE_STATE_SHARED_UPSTREAM        ? FILTER_STATE_SHARED_UPSTREAM
                   : flags & SLUICE_STATE_SHARED_UPSTREAM_ONCE ? FILTER_STATE_SHARED_UPSTREAM_ONCE
                                                               : FILTER_STATE_UNSHARED;
    return true;
}

int native_filter_state_set(struct sluice_exchange *e, struct sluice_span key,
                            struct sluice_span text, unsigned flags) {
    struct filter_state_object object = {.key = native_span(key), .text = native_span(text)};
    if (!read_flags(flags, &object))
        return -EINVAL;
    struct filter_state *state = exchange_filter_state(e->x);
    return state ? filter_state_set(state, of_connection(e), &object) : -ENOMEM;
}

int native_filter_state(struct sluice_exchange *e, struct sluice_span key,
                        struct sluice_span *text) {
    struct format_out made = {0};
    if (!filter_state_get(exchange_filter_state_if(e->x), of_connection(e), native_span(key), false,
                          &made)) {
        free(made.data);
        return -ENOENT;
    }
    return keep(e, &made, text);
}

/* ---- metadata ---- */

static int set(struct sluice_exchange *e, struct sluice_span name_space, struct sluice_span key,
               const struct cfg_value *value) {
    struct metadata *metadata = exchange_metadata(e->x);
    if (!metadata)
        return -ENOMEM;
    return metadata_set(metadata, native_span(name_space), native_span(key), value);
}

int native_metadata_set_text(struct sluice_exchange *e, struct sluice_span name_space,
                             struct sluice_span key, struct sluice_span text) {
    const struct cfg_value value = {.kind = CFG_VALUE_STRING, .string = native_span(text)};
    return set(e, name_space, key, &value);
}

int native_metadata_set_number(struct sluice_exchange *e, struct sluice_span name_space,
                               struct sluice_span key, double number) {
    const struct cfg_value value = {.kind = CFG_VALUE_NUMBER, .number = number};
    return set(e, name_space, key, &value);
}

struct set_json {
    struct sluice_exchange *e;
    struct sluice_span name_space, key, json;
    int rc;
};

static void set_json(void *arg) {
    struct set_json *call = arg;
    struct cfg_arena arena;
    struct cfg_value value;
    call->rc = value_json_read(&arena, native_span(call->json), &value);
    if (call->rc == 0)
        call->rc = set(call->e, call->name_space, call->key, &value);
    cfg_arena_fini(&arena);
}

int native_metadata_set_json(struct sluice_exchange *e, struct sluice_span name_space,
                             struct sluice_span key, struct sluice_span json) {
    struct set_json call = {e, name_space, key, json, 0};
    if (json.len > METADATA_BYTES_MAX)
        return -E2BIG;
    int err = 0;
    if (rt_self())
        err = stack_call(VALUE_JSON_STACK, set_json, &call);
    else
        set_json(&call); /* a thread's stack, in a host process */
    return err ? err : call.rc;
}

/* key empty: all of the namespace. With the lock. */
static const struct cfg_value *find(struct metadata *metadata, struct sluice_span name_space,
                                    struct sluice_span key) {
    struct span path = native_span(key);
    return metadata_find(metadata, native_span(name_space), &path, key.len > 0);
}

bool native_metadata_text(struct sluice_exchange *e, struct sluice_span name_space,
                          struct sluice_span key, struct sluice_span *text) {
    struct metadata *metadata = exchange_metadata_if(e->x);
    metadata_lock(metadata);
    const struct cfg_value *value = find(metadata, name_space, key);
    bool is_text = value && value->kind == CFG_VALUE_STRING;
    struct span copy = is_text ? arena_copy(&e->x->arena, value->string) : span_none();
    metadata_unlock(metadata);
    if (!span_is_none(copy))
        *text = native_span_of(copy);
    return !span_is_none(copy);
}

bool native_metadata_number(struct sluice_exchange *e, struct sluice_span name_space,
                            struct sluice_span key, double *number) {
    struct metadata *metadata = exchange_metadata_if(e->x);
    metadata_lock(metadata);
    const struct cfg_value *value = find(metadata, name_space, key);
    bool is_number = value && value->kind == CFG_VALUE_NUMBER;
    if (is_number)
        *number = value->number;
    metadata_unlock(metadata);
    return is_number;
}

int native_metadata_json(struct sluice_exchange *e, struct sluice_span name_space,
                         struct sluice_span key, struct sluice_span *json) {
    struct metadata *metadata = exchange_metadata_if(e->x);
    struct cfg_buf made = {0};
    metadata_lock(metadata);
    const struct cfg_value *value = find(metadata, name_space, key);
    if (value)
        cfg_native_json(&made, value);
    metadata_unlock(metadata);
    struct span text = span_none();
    if (value && !made.failed)
        text = arena_copy(&e->x->arena, cfg_buf_view(&made));
    cfg_buf_fini(&made);
    if (!value)
        return -ENOENT;
    if (span_is_none(text))
        return -ENOMEM;
    *json = native_span_of(text);
    return 0;
}
