/* The host process's side of exchanges, as it is, in one process with a Go library made of C functions and a proxy played by the
 * test (fake_proxy.h): through real rings, real seats' threads, and calls of any thread. */
#include <errno.h>

#include "ext/go/go_log.h"
#include "fake_proxy.h"

/* ---- what Go does with it ---- */

static struct go_process_state *_Atomic seen; /* of the callback that came last */
static char got[64];

static const char *get(struct go_process_state *state, const char *name) {
    uint64_t value = 0;
    int len = 0;
    int code =
        envoyGoFilterHttpGetHeader(state, (void *)(uintptr_t)name, (int)strlen(name), &value, &len);
    (void)snprintf(got, sizeof got, "%d:%.*s", code, len, (const char *)(uintptr_t)value);
    return got;
}

static int set(struct go_process_state *state, const char *name, const char *value) {
    return envoyGoFilterHttpSetHeaderHelper(state, (void *)(uintptr_t)name, (int)strlen(name),
                                            (void *)(uintptr_t)value, (int)strlen(value),
                                            GO_HEADER_SET);
}

static enum go_state state_of(const struct go_process_state *state) {
    return (enum go_state)atomic_load(&state->state);
}

static uint64_t returns_running(struct go_process_state *state, uint64_t end, uint64_t count,
                                uint64_t bytes) {
    seen = state;
    return GO_RUNNING;
}

static uint64_t status_to_return;
static uint64_t returns_a_status(struct go_process_state *state, uint64_t end, uint64_t count,
                                 uint64_t bytes) {
    seen = state;
    return status_to_return;
}

static uint64_t data_handle, data_len;
static uint64_t returns_a_data_status(struct go_process_state *state, uint64_t end, uint64_t handle,
                                      uint64_t len) {
    seen = state;
    data_handle = handle;
    data_len = len;
    return status_to_return;
}

/* ---- headers ---- */

static uint64_t gets_and_sets(struct go_process_state *state, uint64_t end, uint64_t count,
                              uint64_t bytes) {
    CHECK(count == 2 && end == 1);
    CHECK(strcmp(get(state, "x-b"), "0:two") == 0);
    CHECK(set(state, "X-New", "1") == GO_OK);
    CHECK(strcmp(get(state, "x-new"), "0:1") == 0);
    CHECK(envoyGoFilterHttpRemoveHeader(state, (void *)(uintptr_t) "x-a", 3) == GO_OK);
    CHECK(set(state, "bad name", "1") == GO_OK);
    CHECK(envoyGoFilterHttpAddData(state, (void *)(uintptr_t) "more", 4, false) == GO_OK);
    seen = state;
    return GO_CONTINUE;
}

static void test_headers_are_read_here_and_changes_go_back_with_the_decision(void **data) {
    struct remote_stream stream = fake_stream(1);
    fake_go.header = gets_and_sets;
    fake_lend_headers(&stream, EXT_REQUEST, true);
    assert_string_equal(fake_hear(), "returned decided 2; request set x-new=1; request remove x-a=;"
                                     " request data more");
    assert_int_equal(fake_proxy.counted[GO_REFUSED_EDITS], 1);
    assert_int_equal(state_of(seen), GO_DONE);
    /* Not in Go any more. */
    assert_string_equal(get(seen, "x-b"), "-3:");
    fake_end(&stream, GO_DESTROY_NORMAL);
    assert_int_equal(fake_go.last_reason, GO_DESTROY_NORMAL);
}

static uint64_t copies(struct go_process_state *state, uint64_t end, uint64_t count,
                       uint64_t bytes) {
    struct go_string strings[4];
    char text[256];
    CHECK(envoyGoFilterHttpCopyHeaders(state, strings, text) == GO_OK);
    CHECK(strings[0].len == 3 && memcmp(strings[0].ptr, "x-a", 3) == 0);
    CHECK(strings[3].len == 3 && memcmp(strings[3].ptr, "two", 3) == 0);
    return GO_STOP_AND_BUFFER;
}

static void test_a_copy_of_all_headers_and_what_is_counted(void **data) {
    struct remote_stream stream = fake_stream(2);
    struct remote_result result;
    struct remote_in ops;
    fake_go.header = copies;
    fake_lend_headers(&stream, EXT_REQUEST, false);
    assert_string_equal(fake_hear(), "returned decided 3");
    assert_int_equal(remote_read_result(fake_proxy.record.payload, &result, &ops), 0);
    assert_int_equal(result.counts.crossings, 1);
    assert_int_equal(result.counts.header_copies, 1);
    assert_int_equal(result.counts.header_bytes_to_go, 12);
    fake_end(&stream, GO_DESTROY_NORMAL);
}

/* ---- later ---- */

static void test_a_thread_continues_after_the_callback_returned(void **data) {
    struct remote_stream stream = fake_stream(0);
    fake_go.header = returns_running;
    fake_lend_headers(&stream, EXT_REQUEST, false);
    assert_string_equal(fake_hear(), "returned");
    assert_int_equal(state_of(seen), GO_PROCESSING_HEADER);
    assert_int_equal(set(seen, "x-late", "yes"), GO_OK);
    assert_int_equal(envoyGoFilterHttpContinue(seen, GO_CONTINUE), GO_OK);
    assert_string_equal(fake_hear(), " decided 2; request set x-late=yes");
    assert_int_equal(state_of(seen), GO_WAITING_DATA);
    /* The side is not in Go, but its headers may be looked at in the next phase. */
    assert_string_equal(get(seen, "x-late"), "-3:");
    struct remote_lend lend = fake_lend(&stream, EXT_REQUEST, EXT_BODY, false);
    lend.carried = true;
    lend.size = 2;
    lend.bytes = SPAN_LIT("ab");
    fake_go.data = returns_a_data_status;
    status_to_return = GO_RUNNING;
    fake_lend_it(&lend);
    assert_string_equal(fake_hear(), "returned");
    assert_string_equal(get(seen, "x-late"), "0:yes");
    assert_string_equal(get(seen, "x-b"), "0:two");
    assert_int_equal(envoyGoFilterHttpContinue(seen, GO_CONTINUE), GO_OK);
    assert_string_equal(fake_hear(), " decided 2");
    fake_end(&stream, GO_DESTROY_NORMAL);
}

/* Before it returns: the decision waits for that. */
static void *continues_now(void *arg) {
    (void)envoyGoFilterHttpContinue(arg, GO_STOP_AND_BUFFER);
    (void)envoyGoFilterHttpContinue(arg, GO_CONTINUE); /* the first one counts */
    return NULL;
}
static uint64_t is_continued_meanwhile(struct go_process_state *state, uint64_t end, uint64_t count,
                                       uint64_t bytes) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, continues_now, state) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(state_of(state) == GO_PROCESSING_HEADER);
    seen = state;
    return GO_RUNNING;
}

static void test_a_thread_continues_before_the_callback_returns(void **data) {
    struct remote_stream stream = fake_stream(3);
    fake_go.header = is_continued_meanwhile;
    fake_lend_headers(&stream, EXT_RESPONSE, false);
    assert_string_equal(fake_hear(), "returned decided 3");
    assert_int_equal(state_of(seen), GO_WAITING_ALL_DATA);
    fake_end(&stream, GO_DESTROY_NORMAL);
}

static void test_a_status_that_does_not_fit_decides_nothing(void **data) {
    struct remote_stream stream = fake_stream(0);
    fake_go.header = returns_a_status;
    status_to_return = GO_STOP_NO_BUFFER; /* of headers there is nothing to drop */
    fake_lend_headers(&stream, EXT_REQUEST, false);
    assert_string_equal(fake_hear(), "returned");
    assert_int_equal(envoyGoFilterHttpContinue(seen, GO_STOP_NO_BUFFER), GO_OK);
    assert_int_equal(envoyGoFilterHttpContinue(seen, GO_STOP_AND_BUFFER_WATERMARK), GO_OK);
    assert_string_equal(fake_hear(), " decided 4");
    fake_end(&stream, GO_DESTROY_NORMAL);
}

/* ---- replies ---- */

static int reply(struct go_process_state *state, const char *body, int len) {
    const char *headers[] = {"X-One", "1", "Content-Length", "7", NULL};
    return envoyGoFilterHttpSendLocalReply(state, 418, (void *)(uintptr_t)body, len, headers, 4, -1,
                                           (void *)(uintptr_t) "tea", 3);
}

static void test_a_reply_decides_and_what_comes_after_it_is_void(void **data) {
    struct remote_stream stream = fake_stream(0);
    fake_go.header = returns_running;
    fake_lend_headers(&stream, EXT_REQUEST, true);
    assert_string_equal(fake_hear(), "returned");
    assert_int_equal(reply(seen, "short", 5), GO_OK);
    assert_string_equal(fake_hear(), "; request reply 418 grpc -1 (tea) x-one=1 short");
    assert_int_equal(state_of(seen), GO_WAITING_HEADER);
    assert_int_equal(reply(seen, "again", 5), GO_OK);
    assert_int_equal(envoyGoFilterHttpContinue(seen, GO_CONTINUE), GO_OK);
    fake_end(&stream, GO_DESTROY_NORMAL);
    assert_int_equal(reply(seen, "again", 5), GO_FILTER_IS_GONE); /* it was given back */
}

static void test_a_large_reply_comes_in_pieces(void **data) {
    static char body[50000];
    struct remote_stream stream = fake_stream(0);
    memset(body, 'b', sizeof body);
    fake_go.header = returns_running;
    fake_lend_headers(&stream, EXT_RESPONSE, false);
    assert_string_equal(fake_hear(), "returned");
    assert_int_equal(reply(seen, body, sizeof body), GO_OK);
    size_t total = 0;
    for (bool is_over = false; !is_over;) {
        struct remote_result result;
        struct remote_in ops;
        struct remote_op op;
        fake_next_record();
        assert_int_equal(remote_read_result(fake_proxy.record.payload, &result, &ops), 0);
        while (remote_next_op(&ops, &op) == 1) {
            assert_true(op.kind == REMOTE_OP_REPLY_BODY || op.kind == REMOTE_OP_REPLY);
            total += op.bytes.len;
            is_over |= op.kind == REMOTE_OP_REPLY;
        }
    }
    assert_int_equal(total, sizeof body);
    assert_int_equal(state_of(seen), GO_DONE);
    fake_end(&stream, GO_DESTROY_NORMAL);
}

static uint64_t panics(struct go_process_state *state, uint64_t end, uint64_t count,
                       uint64_t bytes) {
    CHECK(envoyGoFilterHttpSendPanicReply(state, (void *)(uintptr_t) "oops", 4) == GO_OK);
    return GO_LOCAL_REPLY;
}

static void test_a_panic_is_a_reply_that_says_so(void **data) {
    struct remote_stream stream = fake_stream(0);
    fake_go.header = panics;
    fake_lend_headers(&stream, EXT_REQUEST, true);
    assert_string_equal(fake_hear(), "returned; request reply 500 panic grpc 13 () error happened "
                                     "in filter\r\n");
    fake_end(&stream, GO_DESTROY_NORMAL);
}

/* ---- bodies ---- */

static void lend_body(const struct remote_stream *stream, const char *text, uint64_t handle,
                      bool end) {
    struct remote_lend lend = fake_lend(stream, EXT_REQUEST, EXT_BODY, end);
    lend.buffer = handle;
    lend.size = strlen(text);
    lend.carried = true;
    lend.bytes = span_of(text);
    fake_lend_it(&lend);
}

static const char *text_of(uint64_t handle, size_t len) {
    static char text[64];
    memset(text, 0, sizeof text);
    (void)snprintf(got, sizeof got, "%d:", envoyGoFilterHttpGetBuffer(seen, handle, text));
    (void)snprintf(got + strlen(got), sizeof got - strlen(got), "%.*s", (int)len, text);
    return got;
}

static void test_pieces_are_kept_dropped_and_let_go_as_the_status_says(void **data) {
    struct remote_stream stream = fake_stream(1);
    fake_go.header = returns_a_status;
    fake_go.data = returns_a_data_status;
    status_to_return = GO_STOP_AND_BUFFER_WATERMARK;
    fake_lend_headers(&stream, EXT_REQUEST, false);
    assert_string_equal(fake_hear(), "returned decided 4");
    lend_body(&stream, "kept", 11, false);
    assert_string_equal(fake_hear(), "returned decided 4");
    const uint64_t kept = data_handle;
    status_to_return = GO_STOP_NO_BUFFER;
    lend_body(&stream, "dropped", 12, false);
    assert_string_equal(fake_hear(), "returned decided 5");
    const uint64_t dropped = data_handle;
    status_to_return = GO_RUNNING;
    lend_body(&stream, "last", 13, true);
    assert_string_equal(fake_hear(), "returned");
    assert_int_equal(data_len, 4);
    assert_string_equal(text_of(kept, 4), "0:kept");
    assert_string_equal(text_of(dropped, 7), "-4:");
    assert_string_equal(text_of(data_handle, 4), "0:last");
    /* All that was shown may be changed until something is let go. */
    char plus[] = "+";
    assert_int_equal(envoyGoFilterHttpSetBufferHelper(seen, kept, plus, 1, GO_BUFFER_APPEND),
                     GO_OK);
    assert_int_equal(envoyGoFilterHttpDrainBuffer(seen, data_handle, 2), GO_OK);
    assert_int_equal(
        envoyGoFilterHttpSetBufferHelper(seen, data_handle, plus, 1, GO_BUFFER_PREPEND), GO_OK);
    assert_string_equal(text_of(data_handle, 3), "0:+st");
    assert_int_equal(envoyGoFilterHttpContinue(seen, GO_CONTINUE), GO_OK);
    assert_string_equal(fake_hear(), " decided 2; request buffer 11 append +; request buffer 13 "
                                     "drain 2; request buffer 13 prepend +");
    assert_int_equal(state_of(seen), GO_DONE);
    assert_int_equal(handle_count(&ext_handles), 1); /* the stream's */
    fake_end(&stream, GO_DESTROY_NORMAL);
    assert_int_equal(handle_count(&ext_handles), 0);
}

/* What a body was gathered for, is followed by trailers. */
static void test_states_of_a_whole_body_and_trailers(void **data) {
    struct remote_stream stream = fake_stream(1);
    fake_go.header = returns_a_status;
    fake_go.data = returns_a_data_status;
    status_to_return = GO_STOP_AND_BUFFER;
    fake_lend_headers(&stream, EXT_REQUEST, false);
    assert_string_equal(fake_hear(), "returned decided 3");
    assert_int_equal(state_of(seen), GO_WAITING_ALL_DATA);
    lend_body(&stream, "all", 1, false);
    assert_string_equal(fake_hear(), "returned decided 3");
    assert_int_equal(state_of(seen), GO_WAITING_TRAILER);
    struct remote_lend trailers = fake_lend(&stream, EXT_REQUEST, EXT_TRAILERS, true);
    trailers.headers = fake_view; /* held by the first status */
    status_to_return = GO_CONTINUE;
    fake_lend_it(&trailers);
    assert_string_equal(fake_hear(), "returned decided 2");
    assert_int_equal(state_of(seen), GO_DONE);
    fake_end(&stream, GO_DESTROY_NORMAL);
}

static char large[100000];

/* Seldom looked at, so not sent along; fetched once, as changes have made it by then. */
static void *looks(void *arg) {
    static char copy[sizeof large + 3];
    char seq[] = "abc";
    uint64_t handle = data_handle;
    CHECK(envoyGoFilterHttpSetBufferHelper(seen, handle, seq, 3, GO_BUFFER_PREPEND) == GO_OK);
    CHECK(envoyGoFilterHttpDrainBuffer(seen, handle, 3) == GO_OK);
    for (int i = 0; i < 2; i++) {
        memset(copy, 0, sizeof copy);
        CHECK(envoyGoFilterHttpGetBuffer(seen, handle, copy) == GO_OK);
        CHECK(memcmp(copy, large, sizeof large) == 0);
    }
    CHECK(envoyGoFilterHttpSetBufferHelper(seen, handle, copy, sizeof large, GO_BUFFER_SET) ==
          GO_OK);
    CHECK(envoyGoFilterHttpContinue(seen, GO_CONTINUE) == GO_OK);
    return NULL;
}

static void test_a_body_that_stayed_in_the_proxy_is_fetched_when_it_is_looked_at(void **data) {
    struct remote_stream stream = fake_stream(1);
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)('a' + i % 23);
    fake_go.header = returns_a_status;
    fake_go.data = returns_a_data_status;
    status_to_return = GO_CONTINUE;
    fake_lend_headers(&stream, EXT_REQUEST, false);
    assert_string_equal(fake_hear(), "returned decided 2");
    struct remote_lend lend = fake_lend(&stream, EXT_REQUEST, EXT_BODY, false);
    lend.buffer = 5;
    lend.size = sizeof large;
    status_to_return = GO_RUNNING;
    fake_lend_it(&lend);
    assert_string_equal(fake_hear(), "returned");
    fake_proxy.body = span_make(large, sizeof large);
    fake_goroutine(looks, NULL);
    assert_string_equal(fake_hear(), "; request buffer 5 prepend abc; request buffer 5 drain 3");
    assert_string_equal(fake_hear(), "asks 8:,, n 5 m 0");
    assert_string_equal(fake_hear(), "asks 8:,, n 5 m 40000");
    assert_string_equal(fake_hear(), "asks 8:,, n 5 m 80000");
    /* And goes back in parts that a record holds. */
    char all[4096] = "";
    while (!strstr(fake_hear(), "decided 2"))
        (void)snprintf(all + strlen(all), sizeof all - strlen(all), "%.600s", fake_proxy.line);
    assert_non_null(strstr(all, "; request buffer 5 set"));
    assert_non_null(strstr(all, "; request buffer 5 append"));
    fake_end(&stream, GO_DESTROY_NORMAL);
}

static void test_a_body_larger_than_a_record_comes_in_parts(void **data) {
    struct remote_stream stream = fake_stream(1);
    static char copy[sizeof large];
    fake_go.header = returns_a_status;
    fake_go.data = returns_a_data_status;
    status_to_return = GO_CONTINUE;
    fake_lend_headers(&stream, EXT_REQUEST, false);
    assert_string_equal(fake_hear(), "returned decided 2");
    struct remote_lend lend = fake_lend(&stream, EXT_REQUEST, EXT_BODY, true);
    struct span rest = span_make(large, sizeof large);
    while (rest.len > 20000) {
        remote_put_body(&fake_proxy.out,
                        &(struct remote_body){.number = stream.number,
                                              .direction = EXT_REQUEST,
                                              .bytes = span_make(rest.ptr, 20000)});
        fake_send(1, REMOTE_BODY);
        rest = span_from(rest, 20000);
    }
    lend.carried = true;
    lend.size = sizeof large;
    lend.bytes = rest;
    status_to_return = GO_RUNNING;
    fake_lend_it(&lend);
    assert_string_equal(fake_hear(), "returned");
    assert_int_equal(envoyGoFilterHttpGetBuffer(seen, data_handle, copy), GO_OK);
    assert_memory_equal(copy, large, sizeof large);
    assert_int_equal(envoyGoFilterHttpContinue(seen, GO_CONTINUE), GO_OK);
    assert_string_equal(fake_hear(), " decided 2");
    fake_end(&stream, GO_DESTROY_NORMAL);
}

/* ---- questions ---- */

static struct go_request *request_of(struct go_process_state *state) {
    return state->req;
}

static uint64_t asks_in_the_callback(struct go_process_state *state, uint64_t end, uint64_t count,
                                     uint64_t bytes) {
    uint64_t value;
    int len, code;
    CHECK(set(state, "x-first", "1") == GO_OK);
    CHECK(envoyGoFilterHttpGetStringProperty(request_of(state), (void *)(uintptr_t) "a.b", 3,
                                             &value, &len, &code) == GO_OK);
    CHECK(len == 7 && memcmp((void *)(uintptr_t)value, "1:a.b,,", 7) == 0);
    CHECK(envoyGoFilterHttpGetIntegerValue(request_of(state), GO_VALUE_PROTOCOL, &value) == GO_OK);
    CHECK(value == 1003);
    CHECK(envoyGoFilterHttpGetStringProperty(request_of(state), (void *)(uintptr_t) "absent", 6,
                                             &value, &len, &code) == GO_VALUE_NOT_FOUND);
    CHECK(envoyGoFilterHttpClearRouteCache(request_of(state), true) == GO_OK);
    CHECK(envoyGoFilterHttpSetStringFilterState(request_of(state), (void *)(uintptr_t) "k", 1,
                                                (void *)(uintptr_t) "v", 1, 0, 0, 0) == GO_OK);
    return GO_CONTINUE;
}

static void test_a_callback_asks_and_its_changes_are_told_before(void **data) {
    struct remote_stream stream = fake_stream(1);
    fake_go.header = asks_in_the_callback;
    fake_lend_headers(&stream, EXT_REQUEST, true);
    assert_string_equal(fake_hear(), "; request set x-first=1");
    assert_string_equal(fake_hear(), "asks 1:a.b,, n 0 m 0");
    assert_string_equal(fake_hear(), "asks 3:,, n 3 m 0");
    assert_string_equal(fake_hear(), "asks 1:absent,, n 0 m 0");
    assert_string_equal(fake_hear(), "; request clear and refresh");
    assert_string_equal(fake_hear(), "asks 7:k,v, n 0 m 0");
    assert_string_equal(fake_hear(), "returned decided 2");
    fake_end(&stream, GO_DESTROY_NORMAL);
}

enum { ASKERS = 6, ASKED = 20 };
static _Atomic unsigned answered;
static void *asks_often(void *arg) {
    char key[8];
    uint64_t value;
    int len;
    (void)snprintf(key, sizeof key, "k%d", (int)(intptr_t)arg);
    for (int i = 0; i < ASKED; i++)
        CHECK(envoyGoFilterHttpGetStringFilterState(request_of(seen), key, (int)strlen(key), &value,
                                                    &len) == GO_OK);
    answered++;
    return NULL;
}

/* More threads than slots, on a stream that all of them know. */
static void test_many_threads_ask_at_once(void **data) {
    struct remote_stream stream = fake_stream(1);
    fake_go.header = returns_running;
    fake_lend_headers(&stream, EXT_REQUEST, true);
    assert_string_equal(fake_hear(), "returned");
    fake_proxy.questions = answered = 0;
    for (intptr_t i = 0; i < ASKERS; i++)
        fake_goroutine(asks_often, (void *)i);
    while (fake_proxy.questions < ASKERS * ASKED)
        (void)fake_hear();
    FAKE_AWAIT(answered == ASKERS);
    assert_int_equal(envoyGoFilterHttpContinue(seen, GO_CONTINUE), GO_OK);
    assert_string_equal(fake_hear(), " decided 2");
    fake_end(&stream, GO_DESTROY_NORMAL);
}

/* ---- what is ahead ---- */

static void lend_ahead(const struct remote_stream *stream, enum remote_ahead ahead) {
    struct remote_lend lend = fake_lend(stream, EXT_RESPONSE, EXT_HEADERS, false);
    lend.ahead = (uint8_t)ahead;
    lend.buffer = 21;
    lend.end_buffer = ahead == REMOTE_AHEAD_PIECE ? 22 : 0;
    lend.size = 4;
    lend.carried = true;
    lend.bytes = SPAN_LIT("body");
    fake_lend_it(&lend);
}

static uint64_t sets_one(struct go_process_state *state, uint64_t end, uint64_t count,
                         uint64_t bytes) {
    CHECK(count == 2 && end == 0);
    CHECK(set(state, "x-new", "1") == GO_OK);
    return status_to_return;
}

static uint64_t adds_to_it(struct go_process_state *state, uint64_t end, uint64_t handle,
                           uint64_t len) {
    char plus[] = "+";
    CHECK(state_of(state) == GO_PROCESSING_DATA);
    CHECK(envoyGoFilterHttpSetBufferHelper(state, handle, plus, 1, GO_BUFFER_APPEND) == GO_OK);
    bool waits = end && len;
    CHECK((set(state, "x-late", "1") == GO_OK) == waits);
    seen = state;
    data_len = len;
    return GO_CONTINUE;
}

static void test_a_body_that_is_there_is_shown_with_the_headers(void **data) {
    struct remote_stream stream = fake_stream(1);
    unsigned calls = fake_go.headers + fake_go.datas;
    fake_go.header = sets_one;
    fake_go.data = adds_to_it;
    status_to_return = GO_CONTINUE;
    lend_ahead(&stream, REMOTE_AHEAD_PIECE);
    assert_string_equal(fake_hear(),
                        "returned ahead 2 decided 2; response set x-new=1; response buffer 21 "
                        "append +; response buffer 22 append +");
    assert_int_equal(fake_go.headers + fake_go.datas, calls + 3);
    assert_int_equal(data_len, 0);
    assert_int_equal(state_of(seen), GO_DONE);
    fake_end(&stream, GO_DESTROY_NORMAL);

    stream = fake_stream(1); /* headers that wait are shown still */
    status_to_return = GO_STOP_AND_BUFFER;
    lend_ahead(&stream, REMOTE_AHEAD_WHOLE);
    assert_string_equal(fake_hear(),
                        "returned ahead 1 decided 2; response buffer 21 append +; response set "
                        "x-new=1; response set x-late=1");
    assert_int_equal(data_len, 4);
    assert_int_equal(state_of(seen), GO_DONE);
    fake_end(&stream, GO_DESTROY_NORMAL);
}

/* What it was guessed for does not come: it is not shown. */
static void test_a_filter_that_decides_otherwise_is_not_called_again(void **data) {
    struct remote_stream stream = fake_stream(1);
    unsigned datas = fake_go.datas;
    fake_go.header = returns_a_status;
    fake_go.data = returns_a_data_status;
    status_to_return = GO_STOP_AND_BUFFER;
    lend_ahead(&stream, REMOTE_AHEAD_PIECE);
    assert_string_equal(fake_hear(), "returned decided 3");
    status_to_return = GO_CONTINUE;
    stream = (fake_end(&stream, GO_DESTROY_NORMAL), fake_stream(1));
    lend_ahead(&stream, REMOTE_AHEAD_WHOLE);
    assert_string_equal(fake_hear(), "returned decided 2");
    fake_end(&stream, GO_DESTROY_NORMAL);
    assert_int_equal(fake_go.datas, datas);
}

static uint64_t runs_on(struct go_process_state *state, uint64_t end, uint64_t handle,
                        uint64_t len) {
    seen = state;
    data_handle = handle;
    return GO_RUNNING;
}

static void test_a_thread_decides_of_a_piece_that_came_with_the_headers(void **data) {
    struct remote_stream stream = fake_stream(1);
    fake_go.header = returns_a_status;
    fake_go.data = runs_on;
    status_to_return = GO_CONTINUE;
    lend_ahead(&stream, REMOTE_AHEAD_PIECE);
    assert_string_equal(fake_hear(), "returned ahead 1");
    assert_string_equal(text_of(data_handle, 4), "0:body");
    assert_int_equal(envoyGoFilterHttpContinue(seen, GO_STOP_NO_BUFFER), GO_OK);
    assert_string_equal(fake_hear(), " ahead 1 decided 5");
    fake_end(&stream, GO_DESTROY_NORMAL);
}

/* ---- the log and the end ---- */

static void logs(struct go_request *request, uint64_t type, struct go_process_state *decode,
                 struct go_process_state *encode, uint64_t counts[4], uint64_t bytes[4]) {
    CHECK(counts[0] == 2 && counts[2] == 2 && counts[1] == 0);
    CHECK(strcmp(get(decode, "x-b"), "0:two") == 0);
    CHECK(set(encode, "x-logged", "1") == GO_OK);
    CHECK(envoyGoFilterHttpContinue(decode, GO_CONTINUE) == GO_OK); /* void */
    seen = decode;
}

static void test_the_log_is_answered_with_what_it_changed(void **data) {
    struct remote_stream stream = fake_stream(1);
    unsigned completes = fake_go.completes;
    fake_go.log = logs;
    fake_log(&stream, GO_LOG_START);
    assert_string_equal(fake_hear(), "logged returned; response set x-logged=1");
    assert_int_equal(fake_go.completes, completes);
    fake_log(&stream, GO_LOG_END);
    assert_string_equal(fake_hear(), "logged returned; response set x-logged=1");
    assert_int_equal(fake_go.completes, completes + 1);
    assert_string_equal(get(seen, "x-b"), "-3:");
    fake_end(&stream, GO_DESTROY_NORMAL);
}

static void test_the_last_log_is_the_end_if_it_says_so(void **data) {
    struct remote_stream stream = fake_stream(1);
    unsigned completes = fake_go.completes, destroys = fake_go.destroys;
    fake_go.header = returns_running;
    fake_go.log = logs;
    fake_lend_headers(&stream, EXT_REQUEST, true);
    assert_string_equal(fake_hear(), "returned");
    fake_log_and_end(&stream, GO_DESTROY_TERMINATE);
    assert_string_equal(fake_hear(), "logged returned; response set x-logged=1");
    fake_hear_end(&stream);
    FAKE_AWAIT(handle_count(&ext_handles) == 0);
    assert_int_equal(fake_go.completes, completes + 1);
    assert_int_equal(fake_go.destroys, destroys + 1);
    assert_int_equal(fake_go.last_reason, GO_DESTROY_TERMINATE);
    assert_int_not_equal(envoyGoFilterHttpContinue(seen, GO_CONTINUE), GO_OK);
    fake_end(&stream, GO_DESTROY_NORMAL); /* of nobody */
    assert_int_equal(fake_go.destroys, destroys + 1);
}

/* The loan is over, whatever its goroutine still does. */
static void test_the_log_of_an_exchange_that_ended_while_it_was_lent(void **data) {
    struct remote_stream stream = fake_stream(1);
    fake_go.header = returns_running;
    fake_go.log = logs;
    fake_lend_headers(&stream, EXT_REQUEST, true);
    assert_string_equal(fake_hear(), "returned");
    fake_log(&stream, GO_LOG_END);
    assert_string_equal(fake_hear(), "logged returned; response set x-logged=1");
    assert_string_equal(get(seen, "x-b"), "-2:");
    assert_int_equal(envoyGoFilterHttpContinue(seen, GO_CONTINUE), GO_FILTER_IS_DESTROYED);
    fake_end(&stream, GO_DESTROY_TERMINATE);
    assert_int_equal(fake_go.last_reason, GO_DESTROY_TERMINATE);
}

static void logs_nothing_else(struct go_request *request, uint64_t type,
                              struct go_process_state *decode, struct go_process_state *encode,
                              uint64_t counts[4], uint64_t bytes[4]) {
    CHECK(strcmp(get(decode, "x-mine"), "0:1") == 0); /* the loan's, with its changes */
    CHECK(set(encode, "x-copy", "1") == GO_OK);       /* of copies: goes nowhere */
}

static void test_a_log_in_between_leaves_what_is_lent(void **data) {
    struct remote_stream stream = fake_stream(1);
    fake_go.header = returns_running;
    fake_go.log = logs_nothing_else;
    fake_lend_headers(&stream, EXT_REQUEST, true);
    assert_string_equal(fake_hear(), "returned");
    assert_int_equal(set(seen, "x-mine", "1"), GO_OK);
    fake_log(&stream, GO_LOG_PERIODIC);
    assert_string_equal(fake_hear(), "logged returned; request set x-mine=1");
    assert_string_equal(get(seen, "x-mine"), "0:1");
    assert_int_equal(envoyGoFilterHttpContinue(seen, GO_CONTINUE), GO_OK);
    assert_string_equal(fake_hear(), " decided 2");
    fake_end(&stream, GO_DESTROY_NORMAL);
}

static void keeps(struct go_request *request, uint64_t reason) {}

/* Go has given nothing back, and its goroutines call. */
static void test_late_calls(void **data) {
    for (int lenient = 0; lenient < 2; lenient++) {
        struct remote_stream stream = fake_stream(1);
        uint64_t value;
        int len;
        stream.lenient = lenient;
        fake_go.header = returns_running;
        fake_go.destroy = keeps;
        fake_lend_headers(&stream, EXT_REQUEST, true);
        assert_string_equal(fake_hear(), "returned");
        fake_end(&stream, GO_DESTROY_TERMINATE);
        FAKE_AWAIT(handle_count(&ext_handles) == 0);
        const int code = lenient ? GO_VALUE_NOT_FOUND : GO_FILTER_IS_DESTROYED;
        assert_int_equal(set(seen, "x-late", "1"), code);
        assert_int_equal(envoyGoFilterHttpContinue(seen, GO_CONTINUE), code);
        assert_int_equal(envoyGoFilterHttpGetStringValue(request_of(seen), 1, &value, &len), code);
        envoyGoFilterHttpFinalize(request_of(seen), 0);
    }
}

/* ---- what nobody waits for ---- */

static struct go_http_config *configured; /* of the configuration FAKE_EARLY */
static uint32_t early;                    /* a metric of it */
enum { FAKE_EARLY = 71 };

static uint64_t defines_a_metric(struct go_http_config *config) {
    configured = config;
    CHECK(envoyGoFilterHttpDefineMetric(config, STAT_COUNTER, (void *)(uintptr_t) "early", 5,
                                        &early) == GO_OK);
    CHECK(envoyGoFilterHttpIncrementMetric(config, early, 5) == GO_OK);
    return 8;
}

static void test_metrics_of_configurations_that_came_before_the_proxy_listened(void **data) {
    uint64_t value = 0;
    assert_string_equal(fake_hear(), "asks 9:early,, n 0 m 0");
    assert_string_equal(fake_hear(), "metric 1000 of 71 add 5");
    assert_int_equal(envoyGoFilterHttpIncrementMetric(configured, early, 2), GO_OK);
    assert_string_equal(fake_hear(), "metric 1000 of 71 add 2");
    assert_int_equal(envoyGoFilterHttpRecordMetric(configured, early, 9), GO_OK);
    assert_string_equal(fake_hear(), "metric 1000 of 71 record 9");
    assert_int_equal(envoyGoFilterHttpIncrementMetric(configured, early + 4, 2), GO_OK);
    (void)value;
}

static void *asks_for_a_metric(void *arg) {
    uint64_t value = 0;
    uint32_t gauge = 0;
    CHECK(envoyGoFilterHttpDefineMetric(configured, STAT_GAUGE, (void *)(uintptr_t) "late", 4,
                                        &gauge) == GO_OK);
    CHECK(envoyGoFilterHttpGetMetric(configured, gauge, &value) == GO_OK);
    CHECK(value == 1000 + 1001); /* n of the question: the proxy's id, which was 1000 + the kind */
    answered++;
    return NULL;
}

static void test_metrics_that_are_defined_later(void **data) {
    answered = 0;
    fake_goroutine(asks_for_a_metric, NULL);
    assert_string_equal(fake_hear(), "asks 9:late,, n 1 m 0");
    assert_string_equal(fake_hear(), "asks 10:,, n 1001 m 0");
    FAKE_AWAIT(answered == 1);
}

static void test_what_the_library_logs_goes_to_the_log_of_the_proxy(void **data) {
    char hello[] = "hello", quiet[] = "quiet";
    envoyGoFilterLog(LOG_TRACE, quiet, 5);
    envoyGoFilterLog(LOG_ERROR, hello, 5);
    assert_string_equal(fake_hear(), "text 4 hello");
}

/* ---- questions to a cluster specifier ---- */

enum { SPECIFIER = 72 };
static uint64_t asked_by, asked_of;

static int64_t names_a_cluster(uint64_t plugin, uint64_t header, uint64_t id, uint64_t buffer,
                               uint64_t room) {
    struct go_string key = {"X-B", 3}, value = {NULL, 0};
    fake_turn++;
    asked_by = header;
    asked_of = id;
    CHECK(room == REMOTE_NAME_MAX);
    CHECK(envoyGoClusterSpecifierGetHeader(header, &key, &value) == 1);
    memcpy((char *)(uintptr_t)buffer, value.ptr, (size_t)value.len);
    fake_turn++;
    return value.len;
}

static int64_t names_one_that_is_too_long(uint64_t plugin, uint64_t header, uint64_t id,
                                          uint64_t buffer, uint64_t room) {
    return REMOTE_NAME_MAX + 1;
}

static int64_t names_none_in_a_panic(uint64_t plugin, uint64_t header, uint64_t id, uint64_t buffer,
                                     uint64_t room) {
    return -1;
}

typedef int64_t (*specify_fn)(uint64_t plugin, uint64_t header, uint64_t id, uint64_t buffer,
                              uint64_t room);
static _Atomic(specify_fn) specifies;

static int64_t specify_as_told(uint64_t plugin, uint64_t header, uint64_t id, uint64_t buffer,
                               uint64_t room) {
    return atomic_load(&specifies)(plugin, header, id, buffer, room);
}

static const char *asks_for_a_cluster(specify_fn fn) {
    specifies = fn;
    remote_put_specify(&fake_proxy.out, &(struct remote_specify){5, SPECIFIER, fake_view});
    fake_send(1, REMOTE_SPECIFY);
    return fake_hear();
}

static void test_a_cluster_specifier_is_asked_and_its_answer_told(void **data) {
    struct go_plugin *plugin =
        go_plugin_get(&fake_go.library, GO_PLUGIN_CLUSTER, SPAN_LIT("specifier"));
    const struct host_config config = {.id = SPECIFIER, .go_id = 9, .plugin = plugin};
    assert_int_equal(host_config_keep(&config), 0);
    assert_string_equal(asks_for_a_cluster(names_a_cluster), "named 5 two of 3; counts 1 3");
    assert_int_equal(asked_of, 9);
    struct go_string key = {"x-b", 3}, value;
    uint64_t stale = fake_proxy.counted[GO_STALE_HANDLES];
    assert_int_equal(envoyGoClusterSpecifierGetHeader(asked_by, &key, &value), 0); /* it is over */
    assert_string_equal(asks_for_a_cluster(names_one_that_is_too_long),
                        "named 5  of 8193; counts 0 0");
    assert_int_equal(fake_proxy.counted[GO_STALE_HANDLES], stale + 1);
    assert_string_equal(asks_for_a_cluster(names_none_in_a_panic),
                        "named 5 panic of 0; counts 0 0");
    assert_int_equal(handle_count(&ext_handles), 0);
}

/* ---- all at once ---- */

enum { STREAMS = 400, IN_FLIGHT = 24, TENDERS = 3 };

struct task {
    struct task *next;
    /* Addresses alone: the memory may have been given back. */
    struct go_process_state *state;
    struct go_request *request;
    unsigned seed;
};
static pthread_mutex_t tasks_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t tasks_wake = PTHREAD_COND_INITIALIZER;
static struct task *tasks;
static bool tasks_over;

/* Any of what goroutines do, on streams that may have ended. */
static void act(struct go_process_state *state, struct go_request *request, unsigned *seed) {
    uint64_t value;
    int len;
    switch (rand_r(seed) % 5) {
    case 0:
        (void)set(state, "x-task", "1");
        break;
    case 1: {
        char name[] = "x-b";
        (void)envoyGoFilterHttpGetHeader(state, name, 3, &value, &len);
        break;
    }
    case 2: {
        char key[] = "key";
        (void)envoyGoFilterHttpGetStringFilterState(request, key, 3, &value, &len);
        break;
    }
    case 3: {
        char more[] = "more";
        (void)envoyGoFilterHttpAddData(state, more, 4, false);
        break;
    }
    default:
        (void)envoyGoFilterHttpClearRouteCache(request, rand_r(seed) % 2);
        break;
    }
}

static void *tends(void *arg) {
    pthread_mutex_lock(&tasks_lock);
    for (;;) {
        struct task *task = tasks;
        if (!task && tasks_over)
            break;
        if (!task) {
            pthread_cond_wait(&tasks_wake, &tasks_lock);
            continue;
        }
        tasks = task->next;
        pthread_mutex_unlock(&tasks_lock);
        act(task->state, task->request, &task->seed);
        act(task->state, task->request, &task->seed);
        char body[] = "no";
        if (rand_r(&task->seed) % 8 == 0)
            (void)reply(task->state, body, 2);
        (void)envoyGoFilterHttpContinue(task->state, GO_CONTINUE);
        free(task);
        pthread_mutex_lock(&tasks_lock);
    }
    pthread_mutex_unlock(&tasks_lock);
    return NULL;
}

static uint64_t does_anything(struct go_process_state *state, uint64_t end, uint64_t count,
                              uint64_t bytes) {
    static _Atomic unsigned calls;
    unsigned seed = ++calls;
    act(state, state->req, &seed);
    if (calls % 3 == 0)
        return GO_CONTINUE;
    struct task *task = malloc(sizeof(*task));
    CHECK(task);
    *task = (struct task){.state = state, .request = state->req, .seed = seed};
    pthread_mutex_lock(&tasks_lock);
    task->next = tasks;
    tasks = task;
    pthread_cond_signal(&tasks_wake);
    pthread_mutex_unlock(&tasks_lock);
    return GO_RUNNING;
}

struct flight {
    struct remote_stream stream;
    bool is_there, returned, decided, ends_early;
};
static struct flight flights[IN_FLIGHT];

static void begin(struct flight *flight) {
    unsigned n = (unsigned)fake_proxy.last_stream;
    *flight = (struct flight){
        .stream = fake_stream(n % FAKE_SEATS_SERVED), .is_there = true, .ends_early = n % 5 == 0};
    flight->stream.lenient = true;
    fake_lend_headers(&flight->stream, n % 2 ? EXT_RESPONSE : EXT_REQUEST, false);
}

static void end(struct flight *flight) {
    remote_put_end(&fake_proxy.out, &(struct remote_end){.number = flight->stream.number});
    fake_send(flight->stream.worker_id, REMOTE_END);
    flight->is_there = false;
}

/* 1: of one that has ended, OnDestroy has returned. */
static unsigned hear_of_flights(void) {
    struct remote_result result;
    struct remote_in ops;
    struct remote_op op;
    fake_next_record();
    if (fake_proxy.record.kind == REMOTE_ASK) {
        fake_answer_ask(fake_proxy.record.payload, false);
        return 0;
    }
    CHECK(fake_proxy.record.kind == REMOTE_RESULT);
    CHECK(remote_read_result(fake_proxy.record.payload, &result, &ops) == 0);
    int more;
    bool replied = false;
    while ((more = remote_next_op(&ops, &op)) == 1)
        replied |= op.kind == REMOTE_OP_REPLY;
    CHECK(more == 0);
    for (int i = 0; i < IN_FLIGHT; i++) {
        struct flight *flight = &flights[i];
        if (!flight->is_there || flight->stream.number != result.number)
            continue;
        CHECK(!flight->decided);
        CHECK(!(flight->returned && result.returned));
        flight->returned |= result.returned;
        flight->decided = result.decided || replied;
        CHECK(flight->returned || !flight->decided);
        if (flight->decided || (flight->returned && flight->ends_early))
            end(flight);
        return 0;
    }
    return result.returned;
}

/* Every exchange is decided once, or ended before; nothing is left. */
static void test_a_storm(void **data) {
    pthread_t threads[TENDERS];
    fake_go.header = does_anything;
    fake_go.destroy = NULL;
    for (int i = 0; i < TENDERS; i++)
        CHECK(pthread_create(&threads[i], NULL, tends, NULL) == 0);
    unsigned begun = 0, there = 0, ended = 0;
    const unsigned destroys = fake_go.destroys;
    do {
        there = 0;
        for (int i = 0; i < IN_FLIGHT; i++) {
            if (!flights[i].is_there && begun < STREAMS) {
                begin(&flights[i]);
                begun++;
            }
            there += flights[i].is_there;
        }
        if (there || ended < begun)
            ended += hear_of_flights();
    } while (there || ended < begun);
    pthread_mutex_lock(&tasks_lock);
    tasks_over = true;
    pthread_cond_broadcast(&tasks_wake);
    pthread_mutex_unlock(&tasks_lock);
    answered = 0;
    for (int i = 0; i < TENDERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    FAKE_AWAIT(fake_go.destroys == destroys + STREAMS);
    FAKE_AWAIT(handle_count(&ext_handles) == 0);
}

/* ---- */

static int setup(void **state) {
    char said[GO_LIBRARY_WHY_MAX];
    CHECK(stats_init(4) == 0);
    CHECK(go_lent_init() == 0);
    fake_go_init();
    fake_go.library.fn.new_config = defines_a_metric;
    const struct go_config_source source = {
        .name = SPAN_LIT("fake"), .bytes = SPAN_LIT(""), .far_id = FAKE_EARLY};
    CHECK(go_config_parse(&fake_go.library, &source, said) == 8);
    fake_go.library.fn.cluster.specify = specify_as_told; /* before there are seats */
    fake_proxy_init();
    return 0;
}

static int forget(void **state) {
    fake_go.header = NULL;
    fake_go.data = NULL;
    fake_go.log = NULL;
    fake_go.destroy = NULL;
    return 0;
}

int main(void) {
#define TELL(test) cmocka_unit_test_setup(test, forget)
    const struct CMUnitTest tests[] = {
        TELL(test_metrics_of_configurations_that_came_before_the_proxy_listened),
        TELL(test_metrics_that_are_defined_later),
        TELL(test_what_the_library_logs_goes_to_the_log_of_the_proxy),
        TELL(test_headers_are_read_here_and_changes_go_back_with_the_decision),
        TELL(test_a_copy_of_all_headers_and_what_is_counted),
        TELL(test_a_thread_continues_after_the_callback_returned),
        TELL(test_a_thread_continues_before_the_callback_returns),
        TELL(test_a_status_that_does_not_fit_decides_nothing),
        TELL(test_a_reply_decides_and_what_comes_after_it_is_void),
        TELL(test_a_large_reply_comes_in_pieces),
        TELL(test_a_panic_is_a_reply_that_says_so),
        TELL(test_pieces_are_kept_dropped_and_let_go_as_the_status_says),
        TELL(test_states_of_a_whole_body_and_trailers),
        TELL(test_a_body_that_stayed_in_the_proxy_is_fetched_when_it_is_looked_at),
        TELL(test_a_body_larger_than_a_record_comes_in_parts),
        TELL(test_a_callback_asks_and_its_changes_are_told_before),
        TELL(test_many_threads_ask_at_once),
        TELL(test_a_body_that_is_there_is_shown_with_the_headers),
        TELL(test_a_filter_that_decides_otherwise_is_not_called_again),
        TELL(test_a_thread_decides_of_a_piece_that_came_with_the_headers),
        TELL(test_the_log_is_answered_with_what_it_changed),
        TELL(test_the_last_log_is_the_end_if_it_says_so),
        TELL(test_the_log_of_an_exchange_that_ended_while_it_was_lent),
        TELL(test_a_log_in_between_leaves_what_is_lent),
        TELL(test_late_calls),
        TELL(test_a_cluster_specifier_is_asked_and_its_answer_told),
        TELL(test_a_storm),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
