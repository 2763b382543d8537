/* go_peer_call: a call as the library's function that it is, and who is in one: what the plugin asks for meanwhile is known
 * to come of it. */
#include "ext/go/go_peer.h"

/* Of this thread: the call that it is in. Touched by the functions below only, none of which parks. */
static _Thread_local struct go_peer_call *current;

static NOINLINE void enter(struct go_peer_call *call) {
    current = call;
}

NOINLINE const struct go_peer *go_peer_here(void) {
    return current ? current->peer : NULL;
}

NOINLINE void go_peer_note_full(uint64_t handle) {
    if (current)
        current->full = handle;
}

void go_peer_call_make(struct go_peer_call *call) {
    const struct go_plugin *plugin = call->peer->plugin;
    const struct go_network_functions *fn = &plugin->library->fn.network;
    void *w = call->peer->lent;
    const uint64_t slices = (uint64_t)(uintptr_t)call->slices;
    enter(call);
    switch (call->kind) {
    case GO_CALL_CONNECTION:
        call->status = fn->on_connection(w, (uint64_t)(uintptr_t)plugin->name.ptr, plugin->name.len,
                                         call->config_id);
        break;
    case GO_CALL_DATA:
        call->status = fn->on_data(w, call->size, slices, call->slice_count, call->end);
        break;
    case GO_CALL_WRITE:
        call->status = fn->on_write(w, call->size, slices, call->slice_count, call->end);
        break;
    case GO_CALL_EVENT:
        fn->on_event(w, call->number);
        break;
    case GO_CALL_READY:
        fn->on_upstream_ready(w, call->conn_id);
        break;
    case GO_CALL_FAILURE:
        fn->on_upstream_failure(w, call->number, call->conn_id);
        break;
    case GO_CALL_UPSTREAM_DATA:
        fn->on_upstream_data(w, call->size, slices, call->slice_count, call->end);
        break;
    case GO_CALL_UPSTREAM_EVENT:
        fn->on_upstream_event(w, call->number);
        break;
    }
    enter(NULL);
}
