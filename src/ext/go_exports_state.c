/* go_exports_state: what a Go library may ask and note of a request, beside its messages. */
#include "ext/go_exports.h"
#include "ext/go_gate.h"

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

static struct span text_value(const struct ext_info *info, int id) {
    switch (id) {
    case GO_VALUE_ROUTE_NAME: /* these two are never absent */
        return span_is_none(info->route_name) ? span_make("", 0) : info->route_name;
    case GO_VALUE_FILTER_CHAIN_NAME:
        return span_is_none(info->filter_chain) ? span_make("", 0) : info->filter_chain;
    case GO_VALUE_RESPONSE_CODE_DETAILS:
        return info->details;
    case GO_VALUE_DOWNSTREAM_LOCAL:
        return info->downstream_local;
    case GO_VALUE_DOWNSTREAM_REMOTE:
        return info->downstream_remote;
    case GO_VALUE_UPSTREAM_LOCAL:
        return info->upstream_local;
    case GO_VALUE_UPSTREAM_REMOTE:
        return info->upstream_remote;
    case GO_VALUE_UPSTREAM_CLUSTER:
        return info->upstream_cluster;
    default: /* virtual clusters are not configurable yet; other ids are not text */
        return span_none();
    }
}

int envoyGoFilterHttpGetStringValue(void *r, int id, uint64_t *value, int *value_len) {
    struct go_gate gate;
    int code = go_gate_request(r, &gate);
    if (code)
        return code;
    struct span text = text_value(&gate.stream->info, id);
    if (span_is_none(text))
        return go_gate_leave(&gate, GO_VALUE_NOT_FOUND);
    text = go_lent_value_locked(gate.lent, text);
    if (span_is_none(text))
        return go_gate_leave(&gate, GO_VALUE_NOT_FOUND);
    go_gate_lend_out(text, value, value_len);
    return go_gate_leave(&gate, GO_OK);
}

int envoyGoFilterHttpGetIntegerValue(void *r, int id, uint64_t *value) {
    struct go_gate gate;
    int code = go_gate_request(r, &gate);
    if (code)
        return code;
    const struct ext_info *info = &gate.stream->info;
    if (id == GO_VALUE_PROTOCOL)
        *value = info->protocol;
    else if (id == GO_VALUE_RESPONSE_CODE && info->response_code)
        *value = info->response_code;
    else if (id == GO_VALUE_ATTEMPT_COUNT && info->upstream_attempts)
        *value = info->upstream_attempts;
    else
        code = GO_VALUE_NOT_FOUND;
    return go_gate_leave(&gate, code);
}

void envoyGoFilterHttpFinalize(void *r, int reason) {
    go_lent_finalize(&go_lent_requests, r);
}
