/* envoy_module: what bench/gofilter_go has, for Envoy's dynamic modules: a library that Envoy loads and calls without
 * a language between. Its filters, by the name in the configuration:
 *
 *     headers    gets a request header and sets one
 *     read       has the whole body in its hands: looks through its pieces, where they are
 *     rewrite    puts another one of the same length in its place
 *     hop        what headers does, after another thread has been there and back
 *
 * Nothing is made for a request: a filter is its configuration. Headers are Envoy's and may be touched only on the
 * worker's thread, so hop's other thread does no more than to say "go on" (a scheduler carries that to the worker),
 * where a goroutine gets and sets there.
 *
 *     worker    request_headers ── STOP_ALL                 scheduled: gets, sets, continues
 *                     │  scheduler                                ▲
 *     other           └──────────────► take ── commit ────────────┘
 *
 * What of the interface is used is declared here; Envoy warns of a version that it is not told and checks no more. */
#include <ctype.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CALL(name) envoy_dynamic_module_callback_##name
#define HOOK(type, name, ...)                                                                      \
    type envoy_dynamic_module_on_##name(__VA_ARGS__);                                              \
    type envoy_dynamic_module_on_##name(__VA_ARGS__)

struct text {
    const char *ptr;
    size_t len;
};
#define TEXT(literal) ((struct text){literal, sizeof literal - 1})

enum { REQUEST_HEADER = 0 }; /* kinds of headers */
enum {
    RECEIVED_BODY = 0,
    BUFFERED_BODY = 1
}; /* of a request: this call's piece, those of the calls before */
/* What hooks return. Of a body, STOP keeps what came for the next call; STOP_ALL holds the body back as well. */
enum { CONTINUE = 0, STOP = 1, STOP_ALL = 4 };

extern bool CALL(http_get_header)(void *envoy, uint32_t kind, struct text key, struct text *out,
                                  size_t index, size_t *count);
extern bool CALL(http_set_header)(void *envoy, uint32_t kind, struct text key, struct text value);
extern size_t CALL(http_get_body_chunks_size)(void *envoy, uint32_t kind);
extern bool CALL(http_get_body_chunks)(void *envoy, uint32_t kind, struct text *out);
extern bool CALL(http_drain_body)(void *envoy, uint32_t kind, size_t bytes);
extern bool CALL(http_append_body)(void *envoy, uint32_t kind, struct text bytes);
extern void *CALL(http_filter_scheduler_new)(void *envoy);
extern void CALL(http_filter_scheduler_commit)(void *scheduler, uint64_t event);
extern void CALL(http_filter_scheduler_delete)(void *scheduler);
extern void CALL(http_filter_continue_decoding)(void *envoy);

struct filter {
    const char *name;
    uint32_t (*on_headers)(void *envoy, bool is_end);
    void (*on_body)(void *envoy); /* the whole of it is here */
};

/* ---- headers ---- */

static void get_and_set(void *envoy) {
    struct text host = {0};
    if (!CALL(http_get_header)(envoy, REQUEST_HEADER, TEXT(":authority"), &host, 0, NULL) ||
        !CALL(http_set_header)(envoy, REQUEST_HEADER, TEXT("x-bench"), host))
        abort();
}

static uint32_t get_and_set_at_once(void *envoy, bool is_end) {
    (void)is_end;
    get_and_set(envoy);
    return CONTINUE;
}

/* ---- bodies ---- */

enum { PIECES = 256 };
static const uint32_t kinds[] = {BUFFERED_BODY, RECEIVED_BODY};

static uint32_t wait_for_body(void *envoy, bool is_end) {
    (void)envoy;
    return is_end ? CONTINUE : STOP;
}

static size_t pieces_of(void *envoy, uint32_t kind, struct text *out) {
    size_t count = CALL(http_get_body_chunks_size)(envoy, kind);
    if (count > PIECES)
        abort();
    return CALL(http_get_body_chunks)(envoy, kind, out) ? count : 0;
}

static _Atomic uint64_t newlines;

static void read_body(void *envoy) {
    struct text pieces[PIECES];
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t count = pieces_of(envoy, kinds[k], pieces);
        for (size_t i = 0; i < count; i++)
            if (memchr(pieces[i].ptr, '\n', pieces[i].len)) {
                newlines++;
                return;
            }
    }
}

static size_t bytes_of(const struct text *pieces, size_t count) {
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += pieces[i].len;
    return bytes;
}

static char *upper_case(char *to, const struct text *pieces, size_t count) {
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < pieces[i].len; k++)
            *to++ = (char)toupper((unsigned char)pieces[i].ptr[k]);
    return to;
}

static void rewrite_body(void *envoy) {
    struct text old[PIECES], new[PIECES];
    size_t old_count = pieces_of(envoy, BUFFERED_BODY, old);
    size_t new_count = pieces_of(envoy, RECEIVED_BODY, new);
    size_t old_bytes = bytes_of(old, old_count), new_bytes = bytes_of(new, new_count);
    char *body = malloc(old_bytes + new_bytes + 1);
    if (!body)
        abort();
    upper_case(upper_case(body, old, old_count), new, new_count);
    struct text whole = {body, old_bytes + new_bytes};
    if ((old_bytes && !CALL(http_drain_body)(envoy, BUFFERED_BODY, old_bytes)) ||
        (new_bytes && !CALL(http_drain_body)(envoy, RECEIVED_BODY, new_bytes)) ||
        !CALL(http_append_body)(envoy, RECEIVED_BODY, whole))
        abort();
    free(body);
}

/* ---- another thread ---- */

enum { WAITING_MAX = 4096 }; /* more than there are connections */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t has_some;
    void *schedulers[WAITING_MAX];
    size_t first, count;
} waiting = {.lock = PTHREAD_MUTEX_INITIALIZER, .has_some = PTHREAD_COND_INITIALIZER};

static void *say_go_on(void *unused) {
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&waiting.lock);
        while (waiting.count == 0)
            pthread_cond_wait(&waiting.has_some, &waiting.lock);
        void *scheduler = waiting.schedulers[waiting.first];
        waiting.first = (waiting.first + 1) % WAITING_MAX;
        waiting.count--;
        pthread_mutex_unlock(&waiting.lock);
        CALL(http_filter_scheduler_commit)(scheduler, 0);
        CALL(http_filter_scheduler_delete)(scheduler);
    }
    return NULL;
}

static void start_other_thread(void) {
    pthread_t other;
    if (pthread_create(&other, NULL, say_go_on, NULL) != 0)
        abort();
    pthread_detach(other);
}

static uint32_t go_there(void *envoy, bool is_end) {
    (void)is_end;
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_other_thread);
    void *scheduler = CALL(http_filter_scheduler_new)(envoy);
    pthread_mutex_lock(&waiting.lock);
    if (waiting.count == WAITING_MAX)
        abort();
    waiting.schedulers[(waiting.first + waiting.count++) % WAITING_MAX] = scheduler;
    pthread_cond_signal(&waiting.has_some);
    pthread_mutex_unlock(&waiting.lock);
    return STOP_ALL;
}

/* ---- what Envoy calls ---- */

static const struct filter filters[] = {
    {"headers", get_and_set_at_once, NULL},
    {"read", wait_for_body, read_body},
    {"rewrite", wait_for_body, rewrite_body},
    {"hop", go_there, NULL},
};

HOOK(const char *, program_init, void) {
    return "v0.2.0"; /* of Envoy 1.40 */
}

/* NULL is an error. */
HOOK(const void *, http_filter_config_new, void *envoy, struct text name, struct text config) {
    (void)envoy, (void)config;
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (strlen(filters[i].name) == name.len && !memcmp(filters[i].name, name.ptr, name.len))
            return &filters[i];
    return NULL;
}
HOOK(void, http_filter_config_destroy, const void *config) {
    (void)config;
}
HOOK(const void *, http_filter_new, const void *config, void *envoy) {
    (void)envoy;
    return config;
}
HOOK(void, http_filter_destroy, const void *filter) {
    (void)filter;
}
HOOK(uint32_t, http_filter_request_headers, void *envoy, const struct filter *filter, bool is_end) {
    return filter->on_headers(envoy, is_end);
}
HOOK(uint32_t, http_filter_request_body, void *envoy, const struct filter *filter, bool is_end) {
    if (!filter->on_body)
        return CONTINUE;
    if (!is_end)
        return STOP;
    filter->on_body(envoy);
    return CONTINUE;
}
HOOK(void, http_filter_scheduled, void *envoy, const struct filter *filter, uint64_t event) {
    (void)filter, (void)event;
    get_and_set(envoy);
    CALL(http_filter_continue_decoding)(envoy);
}

/* Nothing to do; what they return is "go on". */
#define IGNORED(name)                                                                              \
    HOOK(uint32_t, http_filter_##name, void) {                                                     \
        return CONTINUE;                                                                           \
    }
IGNORED(request_trailers)
IGNORED(response_headers)
IGNORED(response_body)
IGNORED(response_trailers)
IGNORED(stream_complete)
IGNORED(local_reply)
IGNORED(downstream_above_write_buffer_high_watermark)
IGNORED(downstream_below_write_buffer_low_watermark)

/* Answers to what no filter here asks for; Envoy looks for them all the same. */
#define UNASKED(name)                                                                              \
    HOOK(void, http_filter_##name, void) {                                                         \
        abort();                                                                                   \
    }
UNASKED(http_callout_done)
UNASKED(http_stream_headers)
UNASKED(http_stream_data)
UNASKED(http_stream_trailers)
UNASKED(http_stream_complete)
UNASKED(http_stream_reset)
