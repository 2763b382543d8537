/* go_floor: what the SDK of Go filters costs by itself. A program that only calls it, as a proxy has to for
 * a request without a body, and does nothing else: no network, no request of its own, no checks.
 *
 *     go_floor LIBRARY PLUGIN COUNT
 *
 * A request is: request headers, of which the plugin has five copied, gets one and sets one; response headers; stream
 * complete; log; destroy. Go's garbage collector runs meanwhile, as it does in a proxy, and its time is in the figure.
 * Memory that Go has finalized is used again. Prints what measure.h says. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"

#define EXPORT __attribute__((visibility("default")))

struct request {
    const char *plugin_name;
    uint64_t plugin_name_len, config_id;
    uint32_t worker_id;
    _Atomic int32_t in_log;
};
struct state {
    struct request *request;
    int32_t is_encoding;
    _Atomic int32_t state;
};
struct block {
    struct request request; /* first: Finalize is given its address */
    struct state states[2];
    struct block *next;
};
struct config {
    uint64_t name_ptr, name_len, config_ptr, config_len;
    int32_t is_route;
    uint32_t concurrency;
};
struct text {
    const char *ptr;
    int64_t len;
};

static const struct field {
    const char *name, *value;
} fields[] = {
    {":method", "GET"},      {":path", "/"},    {":scheme", "http"},
    {":authority", "bench"}, {"accept", "*/*"},
};
enum { FIELDS = sizeof fields / sizeof *fields };

static uint64_t bytes_of_fields(void) {
    uint64_t bytes = 0;
    for (int i = 0; i < FIELDS; i++)
        bytes += strlen(fields[i].name) + strlen(fields[i].value);
    return bytes;
}

/* ---- what Go gave back: on its finalizer's thread ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *returned;

EXPORT void envoyGoFilterHttpFinalize(void *r, int reason) {
    (void)reason;
    struct block *block = r;
    pthread_mutex_lock(&lock);
    block->next = returned;
    returned = block;
    pthread_mutex_unlock(&lock);
}

static struct block *take_block(void) {
    static struct block *mine;
    if (!mine) {
        pthread_mutex_lock(&lock);
        mine = returned;
        returned = NULL;
        pthread_mutex_unlock(&lock);
    }
    struct block *block = mine;
    if (block)
        mine = block->next;
    else if (!(block = malloc(sizeof *block)))
        abort();
    return block;
}

/* ---- what the plugin asks for ---- */

EXPORT int envoyGoFilterHttpCopyHeaders(void *s, void *strings, void *bytes) {
    (void)s;
    struct text *out = strings;
    char *at = bytes;
    for (int i = 0; i < FIELDS; i++) {
        const char *const both[] = {fields[i].name, fields[i].value};
        for (int k = 0; k < 2; k++, out++) {
            size_t len = strlen(both[k]);
            memcpy(at, both[k], len);
            *out = (struct text){at, (int64_t)len};
            at += len;
        }
    }
    return 0;
}

EXPORT int envoyGoFilterHttpSetHeaderHelper(void *s, void *key, int key_len, void *value,
                                            int value_len, int action) {
    (void)s, (void)action;
    static char kept[256];
    if ((size_t)key_len + (size_t)value_len > sizeof kept)
        abort();
    memcpy(kept, key, (size_t)key_len);
    memcpy(kept + key_len, value, (size_t)value_len);
    return 0;
}

EXPORT uint32_t envoyGoFilterLogLevel(void) {
    return 6; /* off */
}

/* The plugin measured calls none of these; the library names them all. */
#define UNUSED(name)                                                                               \
    EXPORT int name(void) {                                                                        \
        abort();                                                                                   \
    }
UNUSED(envoyGoFilterHttpContinue)
UNUSED(envoyGoFilterHttpSendLocalReply)
UNUSED(envoyGoFilterHttpSendPanicReply)
UNUSED(envoyGoFilterHttpAddData)
UNUSED(envoyGoFilterHttpGetHeader)
UNUSED(envoyGoFilterHttpRemoveHeader)
UNUSED(envoyGoFilterHttpGetBuffer)
UNUSED(envoyGoFilterHttpDrainBuffer)
UNUSED(envoyGoFilterHttpSetBufferHelper)
UNUSED(envoyGoFilterHttpCopyTrailers)
UNUSED(envoyGoFilterHttpSetTrailer)
UNUSED(envoyGoFilterHttpRemoveTrailer)
UNUSED(envoyGoFilterHttpClearRouteCache)
UNUSED(envoyGoFilterHttpGetStringValue)
UNUSED(envoyGoFilterHttpGetIntegerValue)
UNUSED(envoyGoFilterHttpGetDynamicMetadata)
UNUSED(envoyGoFilterHttpSetDynamicMetadata)
UNUSED(envoyGoFilterHttpSetStringFilterState)
UNUSED(envoyGoFilterHttpGetStringFilterState)
UNUSED(envoyGoFilterHttpGetStringProperty)
UNUSED(envoyGoFilterHttpDefineMetric)
UNUSED(envoyGoFilterHttpIncrementMetric)
UNUSED(envoyGoFilterHttpGetMetric)
UNUSED(envoyGoFilterHttpRecordMetric)
EXPORT void envoyGoConfigHttpFinalize(void *config) {
    (void)config;
}
EXPORT void envoyGoFilterLog(uint32_t level, void *text, int len) {
    (void)level, (void)text, (void)len;
}

/* ---- the run ---- */

static uint64_t (*new_config)(struct config *config);
static uint64_t (*on_header)(struct state *state, uint64_t end, uint64_t count, uint64_t bytes);
static uint64_t (*on_data)(struct state *state, uint64_t end, uint64_t buffer, uint64_t bytes);
static void (*on_complete)(struct request *request);
static void (*on_log)(struct request *request, uint64_t type, struct state *decode,
                      struct state *encode, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                      uint64_t, uint64_t, uint64_t);
static void (*on_destroy)(struct request *request, uint64_t reason);
static const char *plugin;
static uint64_t config_id, response_bytes;

enum { PROCESSING_HEADER = 1, PROCESSING_DATA = 4, DONE = 7, CONTINUE = 2, LOG_END = 6 };

static void one_side(struct state *state, uint64_t count, uint64_t bytes, uint64_t body) {
    state->state = PROCESSING_HEADER;
    if (on_header(state, body == 0, count, bytes) != CONTINUE)
        abort();
    state->state = PROCESSING_DATA;
    if (body && on_data(state, 1, (uint64_t)(uintptr_t)state, body) != CONTINUE)
        abort();
    state->state = DONE;
}

static void run(uint64_t n) {
    uint64_t bytes = bytes_of_fields();
    for (uint64_t i = 0; i < n; i++) {
        struct block *block = take_block();
        block->request = (struct request){
            .plugin_name = plugin, .plugin_name_len = strlen(plugin), .config_id = config_id};
        for (int side = 0; side < 2; side++)
            block->states[side] = (struct state){.request = &block->request, .is_encoding = side};
        one_side(&block->states[0], FIELDS, bytes, 0);
        one_side(&block->states[1], 2, 20, response_bytes);
        block->request.in_log = 1;
        on_complete(&block->request);
        on_log(&block->request, LOG_END, &block->states[0], &block->states[1], FIELDS, bytes, 0, 0,
               2, 20, 0, 0);
        block->request.in_log = 0;
        on_destroy(&block->request, 0);
    }
}

static void find(void *library, const char *name, void *out) {
    void *symbol = dlsym(library, name);
    if (!symbol) {
        fprintf(stderr, "go_floor: %s\n", dlerror());
        exit(1);
    }
    memcpy(out, &symbol, sizeof symbol);
}

int main(int argc, char **argv) {
    bool has_arguments = argc == 4 || argc == 5;
    void *library = has_arguments ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library) {
        fprintf(stderr, "usage: go_floor LIBRARY PLUGIN COUNT [BYTES]%s%s\n",
                has_arguments ? ": " : "", has_arguments ? dlerror() : "");
        return 2;
    }
    plugin = argv[2];
    response_bytes = argc == 5 ? strtoull(argv[4], NULL, 10) : 0;
    find(library, "envoyGoFilterNewHttpPluginConfig", &new_config);
    find(library, "envoyGoFilterOnHttpHeader", &on_header);
    find(library, "envoyGoFilterOnHttpData", &on_data);
    find(library, "envoyGoFilterOnHttpStreamComplete", &on_complete);
    find(library, "envoyGoFilterOnHttpLog", &on_log);
    find(library, "envoyGoFilterOnHttpDestroy", &on_destroy);
    static struct config config;
    config = (struct config){
        .name_ptr = (uint64_t)(uintptr_t)plugin, .name_len = strlen(plugin), .concurrency = 1};
    config_id = new_config(&config);
    if (!config_id)
        return 1;
    measure(run, strtoull(argv[3], NULL, 10));
    return 0;
}
