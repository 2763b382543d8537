/* go_abi: what crosses the border between Sluice and a library built on Envoy's Go SDK: structs,
 * numbers and the names of the functions that a library exports.
 *
 * One layout serves SDK 1.31, 1.32 and 1.33. Their differences (docs/go-abi-notes.md) are few enough
 * to be told by one number, the level of the library. The functions that the library calls are
 * declared in go_exports.h. */
#pragma once
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum go_level { GO_LEVEL_31 = 31, GO_LEVEL_32 = 32, GO_LEVEL_33 = 33 };

/* Of one request on one filter. Go keys a map by the address, reads plugin_name, config_id and
 * worker_id, and holds both process states' addresses. */
struct go_request {
    const char *plugin_name;
    uint64_t plugin_name_len;
    uint64_t config_id;
    uint32_t worker_id;
    _Atomic int32_t in_log; /* is_golang_processing_log; Go never reads it */
};
static_assert(sizeof(struct go_request) == 32, "httpRequest of the SDK");
static_assert(offsetof(struct go_request, config_id) == 16, "httpRequest.configId");
static_assert(offsetof(struct go_request, worker_id) == 24, "httpRequest.worker_id");

/* One direction of it. */
struct go_process_state {
    struct go_request *req;
    int32_t is_encoding;
    _Atomic int32_t state; /* enum go_state; goroutines read it at any time */
};
static_assert(sizeof(struct go_process_state) == 16, "processState of the SDK");
static_assert(offsetof(struct go_process_state, state) == 12, "processState.state");

enum go_state {
    GO_WAITING_HEADER = 0,
    GO_PROCESSING_HEADER = 1, /* in Go */
    GO_WAITING_DATA = 2,
    GO_WAITING_ALL_DATA = 3,
    GO_PROCESSING_DATA = 4, /* in Go */
    GO_WAITING_TRAILER = 5,
    GO_PROCESSING_TRAILER = 6, /* in Go */
    GO_DONE = 7,
};

/* What callbacks return and Continue is given. The SDK names more; Envoy supports none of them. */
enum go_status {
    GO_RUNNING = 0,
    GO_LOCAL_REPLY = 1,
    GO_CONTINUE = 2,
    GO_STOP_AND_BUFFER = 3,
    GO_STOP_AND_BUFFER_WATERMARK = 4,
    GO_STOP_NO_BUFFER = 5,
};

/* Handed over by NewHttpPluginConfig: Go's garbage collector gives it back. */
struct go_http_config {
    uint64_t plugin_name_ptr, plugin_name_len;
    uint64_t config_ptr, config_len;
    int32_t is_route_config;
    uint32_t concurrency;
};
static_assert(sizeof(struct go_http_config) == 40, "httpConfig of the SDK");

struct go_string {
    const char *ptr;
    int64_t len;
};

enum go_buffer_action { GO_BUFFER_SET, GO_BUFFER_APPEND, GO_BUFFER_PREPEND };
enum go_header_action { GO_HEADER_SET, GO_HEADER_ADD };
enum go_log_type { GO_LOG_START = 4, GO_LOG_PERIODIC = 5, GO_LOG_END = 6 };
enum go_destroy_reason { GO_DESTROY_NORMAL = 0, GO_DESTROY_TERMINATE = 1 };

/* CAPIStatus: what the library's calls return. */
enum go_code {
    GO_OK = 0,
    GO_FILTER_IS_GONE = -1,
    GO_FILTER_IS_DESTROYED = -2,
    GO_NOT_IN_GO = -3,
    GO_INVALID_PHASE = -4,
    GO_VALUE_NOT_FOUND = -5,
    GO_YIELD = -6, /* never answered: all our getters answer in place */
    GO_INTERNAL_FAILURE = -7,
    GO_SERIALIZATION_FAILURE = -8,
};

/* GetStringValue and GetIntegerValue */
enum go_value {
    GO_VALUE_ROUTE_NAME = 1,
    GO_VALUE_FILTER_CHAIN_NAME = 2,
    GO_VALUE_PROTOCOL = 3,
    GO_VALUE_RESPONSE_CODE = 4,
    GO_VALUE_RESPONSE_CODE_DETAILS = 5,
    GO_VALUE_ATTEMPT_COUNT = 6,
    GO_VALUE_DOWNSTREAM_LOCAL = 7,
    GO_VALUE_DOWNSTREAM_REMOTE = 8,
    GO_VALUE_UPSTREAM_LOCAL = 9,
    GO_VALUE_UPSTREAM_REMOTE = 10,
    GO_VALUE_UPSTREAM_CLUSTER = 11,
    GO_VALUE_VIRTUAL_CLUSTER = 12,
};

/* Of network filters. w: what the connection is known by. One call at a time for each. */
struct go_network_functions {
    uint64_t (*on_config)(uint64_t library_id, uint64_t library_id_len, uint64_t config,
                          uint64_t config_len);
    uint64_t (*on_connection)(void *w, uint64_t name, uint64_t name_len, uint64_t config_id);
    uint64_t (*on_data)(void *w, uint64_t size, uint64_t slices, int64_t count, int64_t end);
    uint64_t (*on_write)(void *w, uint64_t size, uint64_t slices, int64_t count, int64_t end);
    void (*on_event)(void *w, int64_t event);
    void (*on_upstream_ready)(void *w, uint64_t conn_id);
    void (*on_upstream_failure)(void *w, int64_t reason, uint64_t conn_id);
    void (*on_upstream_data)(void *w, uint64_t size, uint64_t slices, int64_t count, int64_t end);
    void (*on_upstream_event)(void *w, int64_t event);
};
static inline bool go_network_functions_are_there(const struct go_network_functions *fn) {
    return fn->on_config && fn->on_connection && fn->on_data && fn->on_write && fn->on_event &&
           fn->on_upstream_ready && fn->on_upstream_failure && fn->on_upstream_data &&
           fn->on_upstream_event;
}

/* Of the cluster specifier. Any thread. */
struct go_cluster_functions {
    uint64_t (*new_plugin)(uint64_t config_ptr, uint64_t config_len); /* 0: refused */
    void (*destroy_plugin)(uint64_t id);
    /* The name's length; more than room: it was not written. 0: none; GO_CLUSTER_PANIC. */
    int64_t (*specify)(uint64_t plugin, uint64_t header, uint64_t id, uint64_t buffer,
                       uint64_t room);
};
enum { GO_CLUSTER_PANIC = -1 };

/* The functions of a library. All but config ones are called with the stream's seat held. */
struct go_functions {
    uint64_t (*new_config)(struct go_http_config *config);
    void (*destroy_config)(uint64_t id, int64_t need_delay);
    uint64_t (*merge_config)(uint64_t name_ptr, uint64_t name_len, uint64_t parent, uint64_t child);
    uint64_t (*on_header)(struct go_process_state *state, uint64_t end_stream, uint64_t count,
                          uint64_t bytes);
    uint64_t (*on_data)(struct go_process_state *state, uint64_t end_stream, uint64_t handle,
                        uint64_t len);
    void (*on_log_31)(struct go_request *req, uint64_t type); /* NULL from level 32 on */
    void (*on_log_32)(struct go_request *req, uint64_t type, struct go_process_state *decode,
                      struct go_process_state *encode, uint64_t request_count,
                      uint64_t request_bytes, uint64_t request_trailer_count,
                      uint64_t request_trailer_bytes, uint64_t response_count,
                      uint64_t response_bytes, uint64_t response_trailer_count,
                      uint64_t response_trailer_bytes); /* NULL at level 31 */
    void (*on_stream_complete)(struct go_request *req); /* NULL at level 31 */
    /* Ours and not the SDK's, go_heap.h: NULL where the author left it out. */
    int32_t (*heap_profile)(int32_t fd, int32_t gc);
    void (*on_destroy)(struct go_request *req, uint64_t reason);
    struct go_network_functions network; /* NULL where there are no network filters */
    struct go_cluster_functions cluster; /* NULL where there is no cluster specifier */
};
