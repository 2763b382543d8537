/* fake_go: a Go library made of C functions: each entry point runs what the test put there, and any
 * thread may call the exports, as goroutines do. */
#pragma once
#include <pthread.h>

#include "ext/go/go_exports.h"
#include "ext/go/go_filter.h"

struct fake_go {
    struct go_origin origin; /* of which `library` is the current copy */
    struct go_library library;
    struct go_config config;
    struct go_filter_config filter; /* of which `config` is the current edition */
    uint64_t (*header)(struct go_process_state *state, uint64_t end, uint64_t count,
                       uint64_t bytes);
    uint64_t (*data)(struct go_process_state *state, uint64_t end, uint64_t handle, uint64_t len);
    void (*log)(struct go_request *request, uint64_t type, struct go_process_state *decode,
                struct go_process_state *encode, uint64_t counts[4], uint64_t bytes[4]);
    void (*destroy)(struct go_request *request, uint64_t reason);
    _Atomic unsigned headers, datas, logs, completes, destroys, merges, destroyed_ids;
    _Atomic uint64_t last_reason;
};
static struct fake_go fake_go;

static uint64_t fake_on_header(struct go_process_state *state, uint64_t end, uint64_t count,
                               uint64_t bytes) {
    fake_go.headers++;
    return fake_go.header ? fake_go.header(state, end, count, bytes) : GO_CONTINUE;
}

static uint64_t fake_on_data(struct go_process_state *state, uint64_t end, uint64_t handle,
                             uint64_t len) {
    fake_go.datas++;
    return fake_go.data ? fake_go.data(state, end, handle, len) : GO_CONTINUE;
}

static void fake_on_log(struct go_request *request, uint64_t type, struct go_process_state *decode,
                        struct go_process_state *encode, uint64_t a, uint64_t a_bytes, uint64_t b,
                        uint64_t b_bytes, uint64_t c, uint64_t c_bytes, uint64_t d,
                        uint64_t d_bytes) {
    fake_go.logs++;
    uint64_t counts[4] = {a, b, c, d}, bytes[4] = {a_bytes, b_bytes, c_bytes, d_bytes};
    if (fake_go.log)
        fake_go.log(request, type, decode, encode, counts, bytes);
}

static void fake_on_complete(struct go_request *request) {
    fake_go.completes++;
}

/* Finalizes at once, as a garbage collection right after OnDestroy would, unless the test does. */
static void fake_on_destroy(struct go_request *request, uint64_t reason) {
    fake_go.destroys++;
    fake_go.last_reason = reason;
    if (fake_go.destroy)
        fake_go.destroy(request, reason);
    else
        envoyGoFilterHttpFinalize(request, 0);
}

static uint64_t fake_merge(uint64_t name, uint64_t len, uint64_t parent, uint64_t child) {
    fake_go.merges++;
    return parent * 1000 + child;
}

static void fake_destroy_config(uint64_t id, int64_t delay) {
    fake_go.destroyed_ids++;
}

enum { FAKE_PS = 4, FAKE_SEATS = FAKE_PS * 4 };

/* With so many seats for FAKE_PS. */
static inline void fake_go_init_seats(unsigned seats) {
    atomic_store(&go_lent_strict, true); /* most tests look at the codes */
    static struct seat_set *set;
    seat_set_free(set);
    set = seat_set_new(FAKE_PS, seats);
    CHECK(set);
    memset(&fake_go, 0, sizeof(fake_go));
    static struct p_lease leases[RT_P_MAX];
    memset(leases, 0, sizeof(leases));
    fake_go.library.id = (char *)(uintptr_t) "fakes";
    fake_go.library.origin = &fake_go.origin;
    fake_go.library.leases.at = leases;
    fake_go.origin.id = fake_go.library.id;
    atomic_store(&fake_go.origin.current, &fake_go.library);
    (void)pthread_mutex_init(&fake_go.origin.lock, NULL);
    list_init(&fake_go.origin.users);
    fake_go.library.elf.level = GO_LEVEL_33;
    fake_go.library.concurrency = seats;
    atomic_store(&fake_go.library.seats, set);
    go_library_stats_init(&fake_go.library.stats, SPAN_LIT("fakes"));
    fake_go.library.fn = (struct go_functions){
        .merge_config = fake_merge,
        .destroy_config = fake_destroy_config,
        .on_header = fake_on_header,
        .on_data = fake_on_data,
        .on_log_32 = fake_on_log,
        .on_stream_complete = fake_on_complete,
        .on_destroy = fake_on_destroy,
    };
    struct go_plugin *plugin = go_plugin_get(&fake_go.library, GO_PLUGIN_HTTP, SPAN_LIT("fake"));
    CHECK(plugin);
    fake_go.config = (struct go_config){.edition = {.library = &fake_go.library},
                                        .plugin = plugin,
                                        .seats = set,
                                        .seat_wait_ns = 60 * NS_PER_S,
                                        .plugin_name = SPAN_LIT("fake"),
                                        .id = 7};
    fake_go.filter.plugin_name = SPAN_LIT("fake");
    fake_go.filter.user.origin = &fake_go.origin;
    atomic_store(&fake_go.filter.user.current, &fake_go.config.edition);
    atomic_store(&fake_go.filter.user.newest, &fake_go.config.edition);
}

static inline void fake_go_init(void) {
    fake_go_init_seats(FAKE_SEATS);
}

/* "go fn(arg)". */
static inline void fake_goroutine(void *(*fn)(void *arg), void *arg) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fn, arg) == 0);
    CHECK(pthread_detach(thread) == 0);
}
