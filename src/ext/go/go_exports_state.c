/* go_exports_state: what a Go library may ask and note of a request, beside its messages.
 *
 * Everything is answered in place, under the stream's lock (ext_query.c), never with "wait" (-6): a callback that waits
 * for a goroutine which asks would wait for ever. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ext/go/go_exports.h"
#include "ext/go/go_gate.h"
#include "ext/go/go_log.h"
#include "ext/go/go_stats.h"
#include "ext/go/go_value.h"
#include "ext/remote/remote_state.h"
#include "proxy/metadata.h"
#include "proxy/route.h"

/* Callers older than 1.33 leave the refresh register to chance. */
int envoyGoFilterHttpClearRouteCache(void *r, bool refresh) {
    struct go_gate gate;
    int code = go_gate_request(r, &gate);
    if (code)
        return code;
    ext_stream_clear_route_locked(gate.stream,
                                  gate.block->library->elf.level >= GO_LEVEL_33 && refresh);
    return go_gate_leave(&gate, GO_OK);
}

/* Lends what is in made, and frees it. */
static int lend_made(struct go_gate *gate, struct format_out *made, uint64_t *value, int *len) {
    struct span text = span_none();
    if (!made->failed)
        text = go_lent_value_locked(gate->lent, span_make(made->data, made->len));
    free(made->data);
    if (span_is_none(text))
        return go_gate_leave(gate, GO_INTERNAL_FAILURE);
    go_gate_lend_out(text, value, len);
    return go_gate_leave(gate, GO_OK);
}

/* ---- of a stream whose exchange is in another process ---- */

/* Asks for a text, lends it, and gives up the gate. */
static int far_text(struct go_gate *gate, struct remote_ask *ask, uint64_t *value, int *len) {
    struct ext_far *far = gate->stream->far;
    struct remote_answer answer;
    int code = far->itab->ask(far, ask, &answer);
    if (code == GO_OK) {
        struct span text = go_lent_value_locked(gate->lent, answer.text);
        if (span_is_none(text))
            code = GO_INTERNAL_FAILURE;
        else
            go_gate_lend_out(text, value, len);
    }
    far->itab->asked(far, ask);
    return go_gate_leave(gate, code);
}

/* What is absent is empty. */
static int far_text_or_empty(struct go_gate *gate, struct remote_ask *ask, uint64_t *value,
                             int *len) {
    int code = far_text(gate, ask, value, len);
    return code == GO_VALUE_NOT_FOUND ? GO_OK : code;
}

static int far_number(struct go_gate *gate, int id, uint64_t *value) {
    struct ext_far *far = gate->stream->far;
    struct remote_ask ask = {.question = REMOTE_ASK_NUMBER, .n = (uint64_t)id};
    struct remote_answer answer;
    int code = far->itab->ask(far, &ask, &answer);
    if (code == GO_OK)
        *value = answer.number;
    far->itab->asked(far, &ask);
    return go_gate_leave(gate, code);
}

/* ---- values by number ---- */

int envoyGoFilterHttpGetStringValue(void *r, int id, uint64_t *value, int *value_len) {
    struct go_gate gate;
    struct attribute_subject of;
    char address[ADDRESS_TEXT_MAX];
    int code = go_gate_request(r, &gate);
    if (code)
        return code;
    if (go_gate_far(&gate))
        return far_text(&gate, &(struct remote_ask){.question = REMOTE_ASK_TEXT, .n = (uint64_t)id},
                        value, value_len);
    ext_stream_subject_locked(gate.stream, &of);
    struct span text = go_value_text(&of, id, address);
    if (!span_is_none(text))
        text = go_lent_value_locked(gate.lent, text);
    if (span_is_none(text))
        return go_gate_leave(&gate, GO_VALUE_NOT_FOUND);
    go_gate_lend_out(text, value, value_len);
    return go_gate_leave(&gate, GO_OK);
}

int envoyGoFilterHttpGetIntegerValue(void *r, int id, uint64_t *value) {
    struct go_gate gate;
    struct attribute_subject of;
    int code = go_gate_request(r, &gate);
    if (code)
        return code;
    if (go_gate_far(&gate))
        return far_number(&gate, id, value);
    ext_stream_subject_locked(gate.stream, &of);
    if (!go_value_number(&of, id, value))
        code = GO_VALUE_NOT_FOUND;
    return go_gate_leave(&gate, code);
}

/* ---- properties ---- */

/* code is for who answers later, which we never do. */
int envoyGoFilterHttpGetStringProperty(void *r, void *key, int key_len, uint64_t *value,
                                       int *value_len, int *code) {
    struct go_gate gate;
    struct format_out text = {0};
    int err = go_gate_request(r, &gate);
    if (err)
        return err;
    if (go_gate_far(&gate))
        return far_text(&gate,
                        &(struct remote_ask){.question = REMOTE_ASK_ATTRIBUTE,
                                             .a = go_gate_input(key, key_len)},
                        value, value_len);
    switch (ext_stream_attribute_locked(gate.stream, go_gate_input(key, key_len), &text)) {
    case ATTRIBUTE_TEXT:
        return lend_made(&gate, &text, value, value_len);
    case ATTRIBUTE_ABSENT:
        err = GO_VALUE_NOT_FOUND;
        break;
    case ATTRIBUTE_NO_TEXT:
        err = GO_SERIALIZATION_FAILURE;
        break;
    case ATTRIBUTE_NO_MEMORY:
        err = GO_INTERNAL_FAILURE;
        break;
    }
    free(text.data);
    return go_gate_leave(&gate, err);
}

/* ---- dynamic metadata ---- */

/* A set that is refused is logged: the SDK does not tell the plugin. */
static int refused(struct go_gate *gate, const char *what, struct span key, int err) {
    go_stats_count(GO_REFUSED_EDITS, 1);
    struct span plugin = go_gate_plugin(gate);
    LOG(log_golang, LOG_WARN, "plugin %.*s: %s %.*s is not set: %s", (int)plugin.len, plugin.ptr,
        what, (int)(key.len < 200 ? key.len : 200), key.ptr, strerror(-err));
    return go_gate_leave(gate, err == -EPERM || err == -E2BIG ? GO_OK : GO_INTERNAL_FAILURE);
}

/* The number of the answer is an errno, or 0. */
static int far_set(struct go_gate *gate, const char *what, struct span key,
                   struct remote_ask *ask) {
    struct ext_far *far = gate->stream->far;
    struct remote_answer answer;
    int code = far->itab->ask(far, ask, &answer);
    int err = code == GO_OK ? (int)(int64_t)answer.number : 0;
    far->itab->asked(far, ask);
    return err ? refused(gate, what, key, err) : go_gate_leave(gate, code);
}

int envoyGoFilterHttpGetDynamicMetadata(void *r, void *name, int name_len, uint64_t *value,
                                        int *value_len) {
    struct go_gate gate;
    struct cfg_buf wire = {0};
    int code = go_gate_request(r, &gate);
    if (code)
        return code;
    if (go_gate_far(&gate))
        return far_text_or_empty(&gate,
                                 &(struct remote_ask){.question = REMOTE_ASK_METADATA,
                                                      .a = go_gate_input(name, name_len)},
                                 value, value_len);
    if (!ext_stream_metadata_locked(gate.stream, go_gate_input(name, name_len), &wire))
        return go_gate_leave(&gate, GO_OK); /* what is absent is empty */
    struct span text = span_none();
    if (!wire.failed)
        text = go_lent_value_locked(gate.lent, cfg_buf_view(&wire));
    cfg_buf_fini(&wire);
    if (span_is_none(text))
        return go_gate_leave(&gate, GO_INTERNAL_FAILURE);
    go_gate_lend_out(text, value, value_len);
    return go_gate_leave(&gate, GO_OK);
}

/* The value is read before the stream is locked: it may be large. */
int envoyGoFilterHttpSetDynamicMetadata(void *r, void *name, int name_len, void *key, int key_len,
                                        void *value, int value_len) {
    struct go_gate gate;
    struct cfg_value parsed;
    void *block = NULL;
    int err = value_wire_read(go_gate_input(value, value_len), METADATA_BYTES_MAX, &parsed, &block);
    int code = go_gate_request(r, &gate);
    if (code == GO_OK && go_gate_far(&gate)) {
        struct remote_ask ask = {.question = REMOTE_SET_METADATA,
                                 .a = go_gate_input(name, name_len),
                                 .b = go_gate_input(key, key_len),
                                 .c = go_gate_input(value, value_len)};
        code = far_set(&gate, "dynamic metadata", ask.b, &ask);
    } else if (code == GO_OK) {
        struct span field = go_gate_input(key, key_len);
        if (!err)
            err = ext_stream_set_metadata_locked(gate.stream, go_gate_input(name, name_len), field,
                                                 &parsed);
        code = err ? refused(&gate, "dynamic metadata", field, err) : go_gate_leave(&gate, GO_OK);
    }
    free(block);
    return code;
}

/* ---- filter state ---- */

/* The SDK has a fourth life span, which on Envoy ends the process; it is taken for the longest there is. */
static enum filter_state_span known_span(int span) {
    return span <= FILTER_STATE_OF_CHAIN       ? FILTER_STATE_OF_CHAIN
           : span < FILTER_STATE_OF_CONNECTION ? FILTER_STATE_OF_REQUEST
                                               : FILTER_STATE_OF_CONNECTION;
}

int envoyGoFilterHttpSetStringFilterState(void *r, void *key, int key_len, void *value,
                                          int value_len, int type, int span, int sharing) {
    struct go_gate gate;
    int code = go_gate_request(r, &gate);
    if (code)
        return code;
    const struct filter_state_object object = {
        .key = go_gate_input(key, key_len),
        .text = go_gate_input(value, value_len),
        .type = type == FILTER_STATE_MUTABLE ? FILTER_STATE_MUTABLE : FILTER_STATE_READ_ONLY,
        .span = known_span(span),
        .sharing = sharing == FILTER_STATE_SHARED_UPSTREAM ? FILTER_STATE_SHARED_UPSTREAM
                   : sharing == FILTER_STATE_SHARED_UPSTREAM_ONCE
                       ? FILTER_STATE_SHARED_UPSTREAM_ONCE
                       : FILTER_STATE_UNSHARED,
    };
    if (go_gate_far(&gate)) {
        struct remote_ask ask = remote_state_ask(&object);
        return far_set(&gate, "filter state", object.key, &ask);
    }
    int err = ext_stream_set_state_locked(gate.stream, &object);
    return err ? refused(&gate, "filter state", object.key, err) : go_gate_leave(&gate, GO_OK);
}

int envoyGoFilterHttpGetStringFilterState(void *r, void *key, int key_len, uint64_t *value,
                                          int *value_len) {
    struct go_gate gate;
    struct format_out text = {0};
    int code = go_gate_request(r, &gate);
    if (code)
        return code;
    if (go_gate_far(&gate))
        return far_text_or_empty(
            &gate,
            &(struct remote_ask){.question = REMOTE_ASK_STATE, .a = go_gate_input(key, key_len)},
            value, value_len);
    if (!ext_stream_state_locked(gate.stream, go_gate_input(key, key_len), &text)) {
        free(text.data);
        return go_gate_leave(&gate, GO_OK); /* what is absent is empty */
    }
    return lend_made(&gate, &text, value, value_len);
}

void envoyGoFilterHttpFinalize(void *r, int reason) {
    go_lent_finalize(&go_lent_requests, r);
}
