/* go_exports_http.c and go_filter.c: what plugins may call, when, and what comes of it. */
#include <errno.h>
#include <semaphore.h>

#include "fake_exchange.h"
#include "fake_go.h"

static struct fake_exchange *fake;
static void *self;

static void begin_with(const char *const *pieces, bool trailers) {
    fake = fake_new(&fake_go.filter, pieces, trailers);
    self = fake->factory.itab->create(&fake->x, &fake->factory);
    CHECK(self);
}

static void run_request(void) {
    fake->factory.itab->request(&fake->x, self);
}

/* Length, or the error. */
static ssize_t drain(char *out, size_t size) {
    size_t len = 0;
    for (;;) {
        struct span chunk;
        ssize_t n = reader_next(fake->x.request.body, 1 << 20, &chunk);
        if (n <= 0)
            return n < 0 ? n : (ssize_t)len;
        CHECK(len + (size_t)n < size);
        memcpy(out + len, chunk.ptr, chunk.len);
        len += chunk.len;
        out[len] = 0;
    }
}

static void end_exchange(void) {
    fake->factory.itab->log(&fake->x, self, FILTER_LOG_END);
    fake->factory.itab->destroy(&fake->x, self);
    fake_free(fake);
}

static void has_header(struct header_map *map, const char *name, const char *value) {
    struct span found = header_get_name(map, span_of(name));
    if (value ? !span_eq(found, span_of(value)) : !span_is_none(found)) {
        fprintf(stderr, "%s is '%.*s', not '%s'\n", name, (int)found.len, found.ptr, value);
        _exit(99);
    }
}

static int set(void *s, const char *name, const char *value) {
    return envoyGoFilterHttpSetHeaderHelper(s, (void *)(uintptr_t)name, (int)strlen(name),
                                            (void *)(uintptr_t)value, (int)strlen(value),
                                            GO_HEADER_SET);
}

static int set_trailer(void *s, const char *name, const char *value) {
    return envoyGoFilterHttpSetTrailer(s, (void *)(uintptr_t)name, (int)strlen(name),
                                       (void *)(uintptr_t)value, (int)strlen(value), GO_HEADER_ADD);
}

static int del(void *s, const char *name) {
    return envoyGoFilterHttpRemoveHeader(s, (void *)(uintptr_t)name, (int)strlen(name));
}

static int get(void *s, const char *name, const char **value) {
    static _Thread_local char text[256];
    uint64_t ptr = 0;
    int len = 0;
    int code =
        envoyGoFilterHttpGetHeader(s, (void *)(uintptr_t)name, (int)strlen(name), &ptr, &len);
    (void)snprintf(text, sizeof(text), "%.*s", len, (const char *)(uintptr_t)ptr);
    *value = text;
    return code;
}

static int reply(void *s, int status, const char *body, char **headers, int strings) {
    return envoyGoFilterHttpSendLocalReply(s, status, (void *)(uintptr_t)body, (int)strlen(body),
                                           headers, strings, -1, (void *)(uintptr_t) "why", 3);
}

static void join_copy(void *s, uint64_t count, uint64_t bytes, char *out, size_t size,
                      bool trailers) {
    struct go_string *strings = calloc(2 * count, sizeof(*strings));
    char *buffer =
        malloc(bytes ? bytes : 1); /* exactly what Go allocates: ASan sees one byte more */
    CHECK((trailers ? envoyGoFilterHttpCopyTrailers
                    : envoyGoFilterHttpCopyHeaders)(s, strings, buffer) == GO_OK);
    size_t at = 0;
    for (uint64_t i = 0; i < 2 * count; i++) {
        CHECK(strings[i].len > 0 || strings[i].ptr == NULL);
        at += (size_t)snprintf(out + at, size - at, "%.*s%c", (int)strings[i].len, strings[i].ptr,
                               i % 2 ? ';' : '=');
    }
    free(buffer);
    free(strings);
}

/* ---- headers ---- */

static uint64_t edits_in_headers(struct go_process_state *state, uint64_t end, uint64_t count,
                                 uint64_t bytes) {
    char all[512];
    const char *value;
    join_copy(state, count, bytes, all, sizeof(all), false);
    CHECK(strcmp(all,
                 ":method=GET;:path=/path;:authority=example;:scheme=http;x-a=one;x-empty=;") == 0);
    CHECK(set(state, "x-a", "two") == GO_OK);
    CHECK(get(state, "x-a", &value) == GO_OK && strcmp(value, "two") == 0);
    CHECK(set(state, "x-new", "n") == GO_OK);
    CHECK(del(state, "x-empty") == GO_OK);
    CHECK(get(state, "x-empty", &value) == GO_OK && value[0] == 0);
    CHECK(get(state, "host", &value) == GO_OK && strcmp(value, "example") == 0);
    CHECK(set(state, ":path", "/other") == GO_OK);
    CHECK(set(state, "x-bad", "a\r\nb") == GO_OK); /* left out, not an error to the plugin */
    CHECK(del(state, ":method") == GO_OK);
    CHECK(set(state, "x-bad2\n", "a") == GO_OK);
    /* the map itself is untouched while Go has it */
    has_header(&fake->x.request.headers, "x-a", "one");
    CHECK(envoyGoFilterHttpSetHeaderHelper(state, (void *)(uintptr_t) "a", 1, NULL, -5, 9) ==
          GO_INTERNAL_FAILURE);
    CHECK(set_trailer(state, "a", "b") == GO_INVALID_PHASE);
    CHECK(envoyGoFilterHttpCopyTrailers(state, NULL, NULL) == GO_INVALID_PHASE);
    CHECK(envoyGoFilterHttpClearRouteCache(state->req, true) == GO_OK);
    return GO_CONTINUE;
}

static uint64_t headers_are_gone(struct go_process_state *state, uint64_t end, uint64_t handle,
                                 uint64_t len) {
    const char *value;
    CHECK(set(state, "x-late", "1") == GO_INVALID_PHASE);
    CHECK(get(state, "x-a", &value) == GO_INVALID_PHASE);
    return GO_CONTINUE;
}

static void headers_story(void *arg) {
    fake_go_init();
    fake_go.header = edits_in_headers;
    fake_go.data = headers_are_gone;
    begin_with((const char *const[]){"ab", NULL}, false);
    run_request();
    struct header_map *headers = &fake->x.request.headers;
    has_header(headers, "x-a", "two");
    has_header(headers, "x-new", "n");
    has_header(headers, "x-empty", NULL);
    has_header(headers, ":path", "/other");
    has_header(headers, ":method", "GET");
    has_header(headers, "x-bad", NULL);
    CHECK(fake->route_clears == 1 && fake->route_choices == 1);
    char out[16];
    CHECK(drain(out, sizeof(out)) == 2);
    end_exchange();
    rt_stop(0);
}

static void header_edits_arrive_after_the_loan(void **state) {
    story(1, headers_story);
}

/* ---- headers after the fact ---- */

static void *goroutine_sets_and_continues(void *arg) {
    CHECK(set(arg, "x-a", "async") == GO_OK);
    CHECK(envoyGoFilterHttpContinue(arg, GO_CONTINUE) == GO_OK);
    return NULL;
}

static uint64_t continues_from_elsewhere(struct go_process_state *state, uint64_t end,
                                         uint64_t count, uint64_t bytes) {
    fake_goroutine(goroutine_sets_and_continues, state);
    return GO_RUNNING;
}

static uint64_t looks_at_headers_once_more(struct go_process_state *state, uint64_t end,
                                           uint64_t handle, uint64_t len) {
    const char *value;
    char all[512];
    CHECK(get(state, "x-a", &value) == GO_OK && strcmp(value, "async") == 0);
    CHECK(get(state, "x-router", &value) == GO_OK && value[0] == 0);
    CHECK(set(state, "x-late", "1") == GO_OK); /* taken, and too late */
    join_copy(state, 6, 69, all, sizeof(all), false);
    return GO_CONTINUE;
}

static void late_story(void *arg) {
    fake_go_init();
    fake_go.header = continues_from_elsewhere;
    fake_go.data = looks_at_headers_once_more;
    begin_with((const char *const[]){"ab", NULL}, false);
    run_request();
    has_header(&fake->x.request.headers, "x-a", "async");
    /* what a router does meanwhile */
    CHECK(header_set(&fake->x.request.headers, HDR_OTHER, SPAN_LIT("x-router"), SPAN_LIT("r")) ==
          0);
    for (int i = 0; i < 100; i++)
        CHECK(header_add(&fake->x.request.headers, HDR_OTHER, SPAN_LIT("x-more"), SPAN_LIT("m")) ==
              0);
    char out[16];
    CHECK(drain(out, sizeof(out)) == 2);
    has_header(&fake->x.request.headers, "x-late", NULL);
    end_exchange();
    rt_stop(0);
}

static void headers_may_be_read_after_an_async_continue(void **state) {
    story(1, late_story);
}

static uint64_t stops_with_headers(struct go_process_state *state, uint64_t end, uint64_t count,
                                   uint64_t bytes) {
    if (state->state == GO_PROCESSING_TRAILER) {
        char all[128];
        const char *value;
        join_copy(state, count, bytes, all, sizeof(all), true);
        CHECK(strcmp(all, "x-end=yes;") == 0);
        CHECK(get(state, "x-end", &value) == GO_OK && strcmp(value, "yes") == 0);
        CHECK(set_trailer(state, "x-end", "again") == GO_OK);
        CHECK(set_trailer(state, ":path", "/") == GO_OK);
        CHECK(envoyGoFilterHttpRemoveTrailer(state, (void *)(uintptr_t) "x-none", 6) == GO_OK);
        return GO_CONTINUE;
    }
    return GO_STOP_AND_BUFFER;
}

static uint64_t edits_held_headers(struct go_process_state *state, uint64_t end, uint64_t handle,
                                   uint64_t len) {
    CHECK(set(state, "x-body", "seen") == GO_OK);
    return GO_CONTINUE;
}

static void held_story(void *arg) {
    fake_go_init();
    fake_go.header = stops_with_headers;
    fake_go.data = edits_held_headers;
    begin_with((const char *const[]){"ab", NULL}, true);
    run_request();
    has_header(&fake->x.request.headers, "x-body", "seen");
    char out[16];
    CHECK(drain(out, sizeof(out)) == 2);
    CHECK(fake->x.request.trailers.count == 2);
    end_exchange();
    rt_stop(0);
}

static void held_headers_take_edits_from_the_body_phase(void **state) {
    story(1, held_story);
}

/* ---- body ---- */

static uint64_t changes_body(struct go_process_state *state, uint64_t end, uint64_t handle,
                             uint64_t len) {
    char room[64];
    CHECK(envoyGoFilterHttpDrainBuffer(state, handle, 1) == GO_OK);
    CHECK(envoyGoFilterHttpSetBufferHelper(state, handle, (void *)(uintptr_t) "<<", 2,
                                           GO_BUFFER_PREPEND) == GO_OK);
    CHECK(envoyGoFilterHttpSetBufferHelper(state, handle, (void *)(uintptr_t) ">", 1,
                                           GO_BUFFER_APPEND) == GO_OK);
    CHECK(envoyGoFilterHttpGetBuffer(state, handle, room) == GO_OK);
    size_t left = len ? len - 1 : 0;
    CHECK(memcmp(room, "<<", 2) == 0 && room[2 + left] == '>');
    CHECK(envoyGoFilterHttpSetBufferHelper(state, handle, room, 1, 7) == GO_INTERNAL_FAILURE);
    CHECK(envoyGoFilterHttpAddData(state, room, 1, false) == GO_INVALID_PHASE);
    if (end)
        CHECK(envoyGoFilterHttpSetBufferHelper(state, handle, (void *)(uintptr_t) "end", 3,
                                               GO_BUFFER_SET) == GO_OK);
    return GO_CONTINUE;
}

static void body_story(void *arg) {
    fake_go_init();
    fake_go.data = changes_body;
    begin_with((const char *const[]){"abc", "d", NULL}, false);
    run_request();
    char out[64];
    CHECK(drain(out, sizeof(out)) == 11);
    CHECK(strcmp(out, "<<bc><<>end") == 0);
    end_exchange();
    rt_stop(0);
}

static void body_edits_follow_go_s_arithmetic(void **state) {
    story(1, body_story);
}

static uint64_t stops_all(struct go_process_state *state, uint64_t end, uint64_t count,
                          uint64_t bytes) {
    return GO_STOP_AND_BUFFER;
}

static void limit_story(void *arg) {
    fake_go_init();
    fake_go.header = stops_all;
    begin_with((const char *const[]){"0123456789", "0123456789", NULL}, false);
    fake->buffer_limit = 15;
    run_request();
    CHECK(fake->reply_status == 413);
    CHECK(strcmp(fake->reply_details, "request_payload_too_large") == 0);
    CHECK(fake_go.datas == 0);
    end_exchange();

    begin_with((const char *const[]){"012", NULL}, false);
    fake->body_error = -ECONNRESET;
    run_request();
    CHECK(fake->x.reset_pending);
    CHECK(fake_go.datas == 0);
    end_exchange();
    CHECK(stat_value(go_stats.unfinalized) == 0);
    rt_stop(0);
}

static void a_buffered_body_has_a_limit(void **state) {
    story(1, limit_story);
}

/* ---- odd continues ---- */

static void *continues_thrice(void *arg) {
    CHECK(envoyGoFilterHttpContinue(arg, GO_STOP_AND_BUFFER) == GO_OK);
    CHECK(envoyGoFilterHttpContinue(arg, 102) == GO_OK);
    CHECK(envoyGoFilterHttpContinue(arg, -1) == GO_OK);
    CHECK(envoyGoFilterHttpContinue(arg, GO_CONTINUE) == GO_OK);
    return NULL;
}

static uint64_t continues_oddly_in_trailers(struct go_process_state *state, uint64_t end,
                                            uint64_t count, uint64_t bytes) {
    if (state->state != GO_PROCESSING_TRAILER)
        return GO_CONTINUE;
    (void)continues_thrice(state); /* all posted before any is looked at */
    return 102;
}

/* A status that does not fit its phase once took the place of the one that did, and the request
 * waited for ever. */
static void odd_story(void *arg) {
    fake_go_init();
    fake_go.header = continues_oddly_in_trailers;
    begin_with((const char *const[]){"ab", NULL}, true);
    run_request();
    char out[16];
    CHECK(drain(out, sizeof(out)) == 2);
    CHECK(fake->reply_status == 0);
    end_exchange();
    rt_stop(0);
}

static void an_unfit_continue_does_not_keep_out_the_right_one(void **state) {
    story(1, odd_story);
}

/* ---- AddData ---- */

static uint64_t adds_data(struct go_process_state *state, uint64_t end, uint64_t count,
                          uint64_t bytes) {
    bool trailers = state->state == GO_PROCESSING_TRAILER;
    const char *text = trailers ? "|last" : "first|";
    CHECK(envoyGoFilterHttpAddData(state, (void *)(uintptr_t)text, (int)strlen(text), trailers) ==
          GO_OK);
    return GO_CONTINUE;
}

static void add_story(void *arg) {
    fake_go_init();
    fake_go.header = adds_data;
    char out[64];
    begin_with((const char *const[]){"ab", NULL}, true);
    run_request();
    CHECK(drain(out, sizeof(out)) == 13);
    CHECK(strcmp(out, "first|ab|last") == 0);
    end_exchange();
    begin_with(NULL, false); /* a message without a body gets one */
    run_request();
    CHECK(message_has_body(&fake->x.request));
    CHECK(drain(out, sizeof(out)) == 6);
    end_exchange();
    rt_stop(0);
}

static void added_data_stands_at_the_edges(void **state) {
    story(1, add_story);
}

/* ---- replies ---- */

static uint64_t replies_and_continues(struct go_process_state *state, uint64_t end, uint64_t count,
                                      uint64_t bytes) {
    char key[] = "X-Why", value[] = "because", bad[] = "connection", bad_value[] = "close";
    char *headers[] = {key, value, bad, bad_value};
    CHECK(reply(state, 403, "no", headers, 4) == GO_OK);
    memset(value, '#', 4); /* Go frees them right after the call */
    CHECK(reply(state, 404, "second", NULL, 0) == GO_OK);
    CHECK(envoyGoFilterHttpContinue(state, GO_CONTINUE) == GO_OK);
    return GO_CONTINUE; /* plugins do that; the reply counts */
}

static uint64_t panics(struct go_process_state *state, uint64_t end, uint64_t handle,
                       uint64_t len) {
    CHECK(envoyGoFilterHttpSendPanicReply(state, (void *)(uintptr_t) "oops", 4) == GO_OK);
    return GO_RUNNING;
}

static void reply_story(void *arg) {
    fake_go_init();
    fake_go.header = replies_and_continues;
    begin_with((const char *const[]){"ab", NULL}, false);
    run_request();
    CHECK(fake->reply_status == 403);
    CHECK(strcmp(fake->reply_body, "no") == 0);
    CHECK(strcmp(fake->reply_headers, "x-why=because;") == 0);
    CHECK(strcmp(fake->reply_details, "why") == 0);
    CHECK(fake->reply_grpc == -1);
    CHECK(fake_go.headers == 1);
    /* A goroutine that is late with what it decides must not panic over it. */
    struct go_process_state *state = &((struct go_filter *)self)->block->lent->states[0];
    CHECK(envoyGoFilterHttpContinue(state, GO_CONTINUE) == GO_OK);
    CHECK(reply(state, 404, "third", NULL, 0) == GO_OK);
    CHECK(envoyGoFilterHttpSendPanicReply(state, NULL, 0) == GO_OK);
    CHECK(set(state, "x-a", "late") == GO_NOT_IN_GO);
    end_exchange();

    fake_go.header = NULL;
    fake_go.data = panics;
    begin_with((const char *const[]){"ab", NULL}, false);
    run_request();
    char out[16];
    CHECK(drain(out, sizeof(out)) == -ECANCELED);
    CHECK(fake->reply_status == 500);
    CHECK(strcmp(fake->reply_body, "error happened in filter\r\n") == 0);
    CHECK(stat_value(fake_go.config.panic_error) == 1);
    end_exchange();
    rt_stop(0);
}

static void a_reply_beats_a_status(void **state) {
    story(1, reply_story);
}

/* ---- stale calls ---- */

static struct go_process_state *kept;
static sem_t may_act;
static _Atomic int stale_done;

static void codes_are(void *s, int code) {
    const char *value;
    uint64_t number;
    struct go_process_state *state = s;
    CHECK(get(s, "x-a", &value) == code);
    CHECK(set(s, "x-a", "1") == code);
    CHECK(del(s, "x-a") == code);
    CHECK(envoyGoFilterHttpContinue(s, 2) == code);
    CHECK(reply(s, 200, "", NULL, 0) == code);
    CHECK(envoyGoFilterHttpSendPanicReply(s, NULL, 0) == code);
    CHECK(envoyGoFilterHttpCopyHeaders(s, NULL, NULL) == code);
    CHECK(envoyGoFilterHttpGetBuffer(s, 1, NULL) == code);
    CHECK(envoyGoFilterHttpAddData(s, NULL, 0, true) == code);
    CHECK(envoyGoFilterHttpGetIntegerValue(state ? state->req : NULL, GO_VALUE_PROTOCOL, &number) ==
          (state ? code : GO_FILTER_IS_GONE));
}

static void keep_request(struct go_request *request, uint64_t reason) {
    CHECK(envoyGoFilterHttpClearRouteCache(request, true) ==
          (reason == GO_DESTROY_TERMINATE ? GO_FILTER_IS_DESTROYED : GO_NOT_IN_GO));
}

static uint64_t keeps_state(struct go_process_state *state, uint64_t end, uint64_t count,
                            uint64_t bytes) {
    kept = state;
    CHECK(envoyGoFilterHttpContinue(NULL, 2) == GO_NOT_IN_GO);
    codes_are(NULL, GO_NOT_IN_GO);
    /* the other side has not begun: the plugin gets a state, but nothing is lent */
    CHECK(envoyGoFilterHttpContinue(state + 1, 2) == GO_NOT_IN_GO);
    return GO_CONTINUE;
}

static void never_finalizes(struct go_request *request, uint64_t reason) {}

static void stale_story(void *arg) {
    fake_go_init();
    fake_go.header = keeps_state;
    fake_go.destroy = keep_request;
    begin_with(NULL, false);
    run_request();
    codes_are(kept, GO_NOT_IN_GO);
    end_exchange();
    codes_are(kept, GO_NOT_IN_GO);
    CHECK(stat_value(go_stats.unfinalized) == 1);
    envoyGoFilterHttpFinalize(kept->req, 0);
    CHECK(stat_value(go_stats.unfinalized) == 0);
    rt_stop(0);
}

/* The same of a filter that spares goroutines without RecoverPanic: absent, which the SDK's setters
 * ignore. While the stream goes on a call out of turn is refused either way. */
static void lenient_story(void *arg) {
    fake_go_init();
    fake_go.config.lenient = true;
    fake_go.header = keeps_state;
    fake_go.destroy = never_finalizes;
    begin_with(NULL, false);
    run_request();
    codes_are(kept, GO_NOT_IN_GO);
    end_exchange();
    codes_are(kept, GO_VALUE_NOT_FOUND);
    void *address = kept->req;
    CHECK(envoyGoFilterHttpClearRouteCache(address, true) == GO_VALUE_NOT_FOUND);
    envoyGoFilterHttpFinalize(address, 0);
    CHECK(envoyGoFilterHttpClearRouteCache(address, true) == GO_FILTER_IS_GONE);
    atomic_store(&go_lent_strict, false); /* as without any strict filter */
    CHECK(envoyGoFilterHttpClearRouteCache(address, true) == GO_VALUE_NOT_FOUND);
    rt_stop(0);
}

static void late_calls_of_a_lenient_filter_do_nothing(void **state) {
    story(1, lenient_story);
}

static void calls_out_of_turn_get_their_code(void **state) {
    story(1, stale_story);
}

static void *acts_after_the_abort(void *arg) {
    while (sem_wait(&may_act) < 0) {
    }
    codes_are(arg, GO_FILTER_IS_DESTROYED);
    atomic_store(&stale_done, 1);
    envoyGoFilterHttpFinalize(((struct go_process_state *)arg)->req, 0);
    return NULL;
}

static enum { ABORT_HEADERS, ABORT_DATA, ABORT_TRAILERS } abort_at;

static uint64_t hangs(struct go_process_state *state) {
    fake_goroutine(acts_after_the_abort, state);
    return GO_RUNNING;
}

static uint64_t hangs_in_headers(struct go_process_state *state, uint64_t end, uint64_t count,
                                 uint64_t bytes) {
    bool trailers = state->state == GO_PROCESSING_TRAILER;
    return abort_at == (trailers ? ABORT_TRAILERS : ABORT_HEADERS) ? hangs(state) : GO_CONTINUE;
}

static uint64_t hangs_in_data(struct go_process_state *state, uint64_t end, uint64_t handle,
                              uint64_t len) {
    return abort_at == ABORT_DATA ? hangs(state) : GO_CONTINUE;
}

static bool aborted_side_over;

static void serves(void *arg) {
    char out[64];
    run_request();
    ssize_t n = exchange_alive(&fake->x) ? drain(out, sizeof(out)) : -ECANCELED;
    CHECK(n == -ECANCELED);
    rt_cancel_clear();
    end_exchange();
    aborted_side_over = true;
}

static void abort_story(void *arg) {
    CHECK(sem_init(&may_act, 0, 0) == 0);
    fake_go_init();
    fake_go.header = hangs_in_headers;
    fake_go.data = hangs_in_data;
    fake_go.destroy = keep_request;
    for (abort_at = ABORT_HEADERS; abort_at <= ABORT_TRAILERS; abort_at++) {
        fake_go.headers = fake_go.datas = 0;
        atomic_store(&stale_done, 0);
        aborted_side_over = false;
        begin_with((const char *const[]){"ab", "cd", NULL}, true);
        struct exchange *x = &fake->x;
        CHECK(go_here("serves", serves, NULL) == 0);
        rt_yield(); /* a sync run up to the park */
        unsigned entered = fake_go.headers + fake_go.datas;
        STORY_AWAIT(fake_go.headers + fake_go.datas == entered && entered > 0);
        struct go_filter *filter = self;
        STORY_AWAIT(filter->block->stream.sides[0].waiter);
        x->client_gone = true;
        rt_cancel(filter->block->stream.sides[0].waiter);
        STORY_AWAIT(aborted_side_over);
        CHECK(fake_go.last_reason == GO_DESTROY_TERMINATE);
        CHECK(sem_post(&may_act) == 0); /* the exchange's memory is gone by now */
        STORY_AWAIT(stale_done);
        STORY_AWAIT(stat_value(go_stats.unfinalized) == 0);
    }
    rt_stop(0);
}

static void a_client_that_vanishes_leaves_goroutines_alone(void **state) {
    story(1, abort_story);
}

/* ---- log phase, versions, merges ---- */

static char log_seen[512];

static void logs(struct go_request *request, uint64_t type, struct go_process_state *decode,
                 struct go_process_state *encode, uint64_t counts[4], uint64_t bytes[4]) {
    uint64_t code = 0;
    CHECK(type == GO_LOG_END);
    CHECK(counts[1] == 0 && counts[2] == 1 && counts[3] == 0);
    join_copy(encode, counts[2], bytes[2], log_seen, sizeof(log_seen), false);
    CHECK(set(decode, "x-logged", "1") == GO_OK);
    CHECK(envoyGoFilterHttpContinue(decode, 2) == GO_OK); /* nothing to continue */
    CHECK(reply(encode, 200, "", NULL, 0) == GO_OK);
    CHECK(envoyGoFilterHttpCopyTrailers(decode, NULL, NULL) == GO_INVALID_PHASE);
    CHECK(envoyGoFilterHttpGetIntegerValue(request, GO_VALUE_RESPONSE_CODE, &code) == GO_OK);
    CHECK(code == 204);
}

static void log_story(void *arg) {
    fake_go_init();
    fake_go.log = logs;
    begin_with(NULL, false); /* the request side never ran: the log phase makes the filter */
    CHECK(header_add_id(&fake->x.response.headers, HDR_STATUS, SPAN_LIT("204")) == 0);
    fake->x.info.response_code = 204;
    fake->factory.itab->log(&fake->x, self, FILTER_LOG_END);
    CHECK(strcmp(log_seen, ":status=204;") == 0);
    has_header(&fake->x.request.headers, "x-logged", "1");
    CHECK(fake_go.completes == 0);
    fake->factory.itab->destroy(&fake->x, self);
    CHECK(fake_go.destroys == 1 && fake_go.last_reason == GO_DESTROY_NORMAL);
    fake_free(fake);

    begin_with(NULL, false); /* neither ran nor logged: Go never hears of it */
    fake->factory.itab->destroy(&fake->x, self);
    CHECK(fake_go.destroys == 1);
    fake_free(fake);
    CHECK(stat_value(go_stats.unfinalized) == 0);
    rt_stop(0);
}

static void the_log_phase_sees_both_sides(void **state) {
    story(1, log_story);
}

static uint64_t reads_values(struct go_process_state *state, uint64_t end, uint64_t count,
                             uint64_t bytes) {
    uint64_t ptr, number = 99;
    int len;
    CHECK(envoyGoFilterHttpGetStringValue(state->req, GO_VALUE_DOWNSTREAM_REMOTE, &ptr, &len) ==
          GO_OK);
    CHECK(len == 9 && memcmp((void *)(uintptr_t)ptr, "1.2.3.4:5", 9) == 0);
    CHECK(envoyGoFilterHttpGetStringValue(state->req, GO_VALUE_ROUTE_NAME, &ptr, &len) == GO_OK);
    CHECK(len == 0);
    CHECK(envoyGoFilterHttpGetStringValue(state->req, GO_VALUE_UPSTREAM_CLUSTER, &ptr, &len) ==
          GO_VALUE_NOT_FOUND);
    CHECK(envoyGoFilterHttpGetStringValue(state->req, GO_VALUE_PROTOCOL, &ptr, &len) ==
          GO_VALUE_NOT_FOUND);
    CHECK(envoyGoFilterHttpGetIntegerValue(state->req, GO_VALUE_PROTOCOL, &number) == GO_OK);
    CHECK(number == 1);
    CHECK(envoyGoFilterHttpGetIntegerValue(state->req, GO_VALUE_RESPONSE_CODE, &number) ==
          GO_VALUE_NOT_FOUND);
    CHECK(envoyGoFilterHttpGetIntegerValue(state->req, 77, &number) == GO_VALUE_NOT_FOUND);
    CHECK(envoyGoFilterHttpClearRouteCache(state->req, true) == GO_OK);
    return GO_CONTINUE;
}

static void values_story(void *arg) {
    fake_go_init();
    fake_go.header = reads_values;
    fake_go.library.elf.level = GO_LEVEL_32; /* its refresh register is left to chance */
    begin_with(NULL, false);
    run_request();
    CHECK(fake->route_clears == 1 && fake->route_choices == 0);
    CHECK(((struct go_filter *)self)->block->lent->request.config_id == 7);
    end_exchange();
    rt_stop(0);
}

static void values_of_the_stream(void **state) {
    story(1, values_story);
}

/* ---- both sides at once ---- */

/* A goroutine of the request clears the route while the response, another filter's reply, goes by. */
static uint64_t response_goes_by(struct go_process_state *state, uint64_t end, uint64_t count,
                                 uint64_t bytes) {
    struct ext_stream *stream = &((struct go_filter *)self)->block->stream;
    const struct ext_loan loan = {.phase = EXT_HEADERS, .headers = &fake->x.response.headers};
    struct ext_taken taken;
    uint64_t handle;
    CHECK(ext_side_lend(stream, &fake->x, EXT_RESPONSE, &loan, &handle) == 0);
    CHECK(envoyGoFilterHttpClearRouteCache(state->req, true) == GO_OK);
    ext_side_take_back(stream, EXT_RESPONSE, &taken);
    CHECK(!taken.clear_route && !taken.refresh_route);
    ext_taken_fini(&taken);
    return GO_CONTINUE;
}

static void both_sides_story(void *arg) {
    fake_go_init();
    fake_go.header = response_goes_by;
    begin_with(NULL, false);
    run_request();
    CHECK(fake->route_clears == 1 && fake->route_choices == 1);
    end_exchange();
    rt_stop(0);
}

static void a_cleared_route_is_the_requests_to_take_back(void **state) {
    story(1, both_sides_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_edits_arrive_after_the_loan),
        cmocka_unit_test(headers_may_be_read_after_an_async_continue),
        cmocka_unit_test(held_headers_take_edits_from_the_body_phase),
        cmocka_unit_test(body_edits_follow_go_s_arithmetic),
        cmocka_unit_test(a_buffered_body_has_a_limit),
        cmocka_unit_test(an_unfit_continue_does_not_keep_out_the_right_one),
        cmocka_unit_test(added_data_stands_at_the_edges),
        cmocka_unit_test(a_reply_beats_a_status),
        cmocka_unit_test(calls_out_of_turn_get_their_code),
        cmocka_unit_test(late_calls_of_a_lenient_filter_do_nothing),
        cmocka_unit_test(a_client_that_vanishes_leaves_goroutines_alone),
        cmocka_unit_test(the_log_phase_sees_both_sides),
        cmocka_unit_test(values_of_the_stream),
        cmocka_unit_test(a_cleared_route_is_the_requests_to_take_back),
    };
    return cmocka_run_group_tests(tests, fake_stats_init, NULL);
}
