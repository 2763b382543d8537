/* go_floor: what the SDK of Go filters costs by itself. A program that only calls it, as a proxy has to, and does
 * nothing else: no network, no request of its own, no checks.
 *
 *     go_floor LIBRARY PLUGIN COUNT [BYTES [PIECES [FLIGHT]]]
 *
 * A request is: request headers, of which the plugin has five copied, gets one and sets one; PIECES of a body, and its end,
 * unless there are none; response headers, and BYTES of a body and its end; stream complete; log; destroy. Go's garbage
 * collector runs meanwhile, as it does in a proxy, and its time is in the figure. Memory that Go has finalized is used
 * again. Prints what measure.h says.
 *
 * With FLIGHT the plugin decides about the request's headers in a goroutine, and so many requests are under way: what is
 * continued goes to the thread that calls by a list, and by an eventfd in its epoll set if that thread sleeps.
 *
 *     caller   header 1, 2, ... FLIGHT ──► sleeps ............ wakes: the rest of 1, header FLIGHT+1, the rest of 2, ...
 *     Go           └ a thread is woken ──► continues 1, 2, ... sleeps */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

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
    struct block *next; /* of those that were continued, or that Go gave back */
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

/* ---- what a goroutine continued ---- */

static _Atomic(struct block *) continued;
static _Atomic bool is_asleep;
static int epoll_fd, event_fd;

EXPORT int envoyGoFilterHttpContinue(void *s, int status) {
    (void)status;
    const struct state *state = s;
    struct block *block = (struct block *)state->request;
    block->next = atomic_load(&continued);
    while (!atomic_compare_exchange_weak(&continued, &block->next, block))
        ;
    if (atomic_exchange(&is_asleep, false) &&
        write(event_fd, &(uint64_t){1}, sizeof(uint64_t)) != sizeof(uint64_t))
        abort();
    return 0;
}

static struct block *await_continued(void) {
    for (;;) {
        struct block *list = atomic_exchange(&continued, NULL);
        if (list)
            return list;
        atomic_store(&is_asleep, true);
        struct epoll_event event;
        if (!atomic_load(&continued))
            (void)epoll_wait(epoll_fd, &event, 1, -1); /* after a signal we look again */
        atomic_store(&is_asleep, false);
    }
}

static void open_events(void) {
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    /* An edge for each write: nobody reads it. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    if (epoll_fd < 0 || event_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, event_fd, &event) != 0)
        abort();
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
    static _Thread_local char kept[256];
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
static uint64_t config_id, response_bytes, request_pieces, flight;

enum { PROCESSING_HEADER = 1, PROCESSING_DATA = 4, DONE = 7, LOG_END = 6 };
enum { RUNNING = 0, CONTINUE = 2, PIECE_BYTES = 32 << 10 };

static void headers(struct state *state, uint64_t count, uint64_t bytes, bool end,
                    uint64_t wanted) {
    state->state = PROCESSING_HEADER;
    if (on_header(state, end, count, bytes) != wanted)
        abort();
}

static void data(struct state *state, uint64_t bytes, bool end) {
    state->state = PROCESSING_DATA;
    if (on_data(state, end, (uint64_t)(uintptr_t)state, bytes) != CONTINUE)
        abort();
}

static struct block *begin(void) {
    struct block *block = take_block();
    block->request = (struct request){
        .plugin_name = plugin, .plugin_name_len = strlen(plugin), .config_id = config_id};
    for (int side = 0; side < 2; side++)
        block->states[side] = (struct state){.request = &block->request, .is_encoding = side};
    headers(&block->states[0], FIELDS, bytes_of_fields(), request_pieces == 0,
            flight ? RUNNING : CONTINUE);
    return block;
}

static void finish(struct block *block) {
    for (uint64_t i = 0; i < request_pieces; i++)
        data(&block->states[0], PIECE_BYTES, false);
    if (request_pieces)
        data(&block->states[0], 0, true);
    block->states[0].state = DONE;
    headers(&block->states[1], 2, 20, response_bytes == 0, CONTINUE);
    if (response_bytes) {
        data(&block->states[1], response_bytes, false);
        data(&block->states[1], 0, true);
    }
    block->states[1].state = DONE;
    block->request.in_log = 1;
    on_complete(&block->request);
    on_log(&block->request, LOG_END, &block->states[0], &block->states[1], FIELDS,
           bytes_of_fields(), 0, 0, 2, 20, 0, 0);
    block->request.in_log = 0;
    on_destroy(&block->request, 0);
}

static void run(uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        finish(begin());
}

static void run_in_flight(uint64_t n) {
    uint64_t begun = 0, finished = 0;
    for (; begun < n && begun < flight; begun++)
        (void)begin();
    while (finished < n)
        for (struct block *next, *block = await_continued(); block; block = next, finished++) {
            next = block->next;
            finish(block);
            if (begun < n) {
                begun++;
                (void)begin();
            }
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
    bool has_arguments = argc >= 4 && argc <= 7;
    void *library = has_arguments ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library) {
        fprintf(stderr, "usage: go_floor LIBRARY PLUGIN COUNT [BYTES [PIECES [FLIGHT]]]%s%s\n",
                has_arguments ? ": " : "", has_arguments ? dlerror() : "");
        return 2;
    }
    plugin = argv[2];
    uint64_t *const numbers[] = {&response_bytes, &request_pieces, &flight};
    for (int i = 4; i < argc; i++)
        *numbers[i - 4] = strtoull(argv[i], NULL, 10);
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
    open_events();
    measure(flight ? run_in_flight : run, strtoull(argv[3], NULL, 10));
    return 0;
}
