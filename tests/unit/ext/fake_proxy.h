/* fake_proxy: the proxy's end of a host process, played by a test in the same process: it writes records to seats and hears
 * what comes on the ring of its only P, written out as one line each:
 *
 *     returned decided 2; request set x-a=1; counts 3 0
 *
 * Threads  Those of the test take turns. */
#pragma once
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "../rt/rt_story.h"
#include "base/clock.h"
#include "ext/ext_handles.h"
#include "ext/remote/host_config.h"
#include "ext/remote/host_serve.h"
#include "ext/remote/remote_message.h"
#include "ext/remote/shm.h"
#include "fake_go.h"

enum { FAKE_CONFIG = 70, FAKE_SEATS_SERVED = 4, FAKE_RING_SIZE = REMOTE_RING_SIZE_MIN };

/* Of what another thread does, and nobody tells. */
#define FAKE_AWAIT(condition)                                                                      \
    do {                                                                                           \
        for (int64_t fake_until = story_soon(); !(condition);) {                                   \
            CHECK(clock_mono_ns() < fake_until);                                                   \
            (void)sched_yield();                                                                   \
        }                                                                                          \
    } while (0)

static struct {
    struct remote_shm *shm;
    struct remote_ring_in in;
    struct remote_out out;
    uint64_t last_stream;
    /* Of the record heard last. */
    struct remote_record record;
    bool has_record;
    /* The body that questions of buffers are answered from. */
    struct span body;
    char line[1 << 20];
    size_t line_len;
    unsigned questions;
    uint64_t counted[GO_COUNTED];
} fake_proxy;

/* What the test and callbacks share besides: each end of the rings has a mapping of its own, so a sanitizer does not see that
 * a record orders anything. */
static _Atomic unsigned fake_turn;

static uint64_t fake_header_in_turn(struct go_process_state *state, uint64_t end, uint64_t count,
                                    uint64_t bytes) {
    fake_turn++;
    uint64_t status = fake_on_header(state, end, count, bytes);
    fake_turn++;
    return status;
}

static uint64_t fake_data_in_turn(struct go_process_state *state, uint64_t end, uint64_t handle,
                                  uint64_t len) {
    fake_turn++;
    uint64_t status = fake_on_data(state, end, handle, len);
    fake_turn++;
    return status;
}

static void fake_log_in_turn(struct go_request *request, uint64_t type,
                             struct go_process_state *decode, struct go_process_state *encode,
                             uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes, uint64_t c,
                             uint64_t c_bytes, uint64_t d, uint64_t d_bytes) {
    fake_turn++;
    fake_on_log(request, type, decode, encode, a, a_bytes, b, b_bytes, c, c_bytes, d, d_bytes);
    fake_turn++;
}

static void fake_destroy_in_turn(struct go_request *request, uint64_t reason) {
    fake_turn++;
    fake_on_destroy(request, reason);
    fake_turn++;
}

static void fake_proxy_init(void) {
    const struct remote_shm_layout layout = {.seat_count = FAKE_SEATS_SERVED,
                                             .p_count = 1,
                                             .slot_count = 4,
                                             .seat_ring_size = 2 * FAKE_RING_SIZE,
                                             .p_ring_size = FAKE_RING_SIZE};
    int fds[REMOTE_SHM_FDS_MAX];
    struct remote_shm *host_shm;
    CHECK(remote_shm_new(&layout, &fake_proxy.shm) == 0);
    unsigned count = remote_shm_fds(fake_proxy.shm, fds);
    for (unsigned i = 0; i < count; i++)
        fds[i] = dup(fds[i]);
    CHECK(remote_shm_open(fds, count, &host_shm) == 0);
    remote_ring_in_init(&fake_proxy.in, remote_shm_p_ring(fake_proxy.shm, 0));
    fake_go.library.concurrency = FAKE_SEATS_SERVED;
    fake_go.library.fn.on_header = fake_header_in_turn;
    fake_go.library.fn.on_data = fake_data_in_turn;
    fake_go.library.fn.on_log_32 = fake_log_in_turn;
    fake_go.library.fn.on_destroy = fake_destroy_in_turn;
    const struct host_config config = {
        .id = FAKE_CONFIG, .go_id = 7, .plugin = fake_go.config.plugin};
    CHECK(host_config_keep(&config) == 0);
    CHECK(host_serve_start(&fake_go.library, host_shm) == 0);
}

/* ---- to the host ---- */

static void fake_send(uint32_t seat, enum remote_kind kind) {
    struct remote_ring_out *out = remote_shm_seat_out(fake_proxy.shm, seat);
    struct span record = span_make(fake_proxy.out.data, fake_proxy.out.len);
    CHECK(!fake_proxy.out.failed);
    fake_turn++;
    while (remote_ring_out_put(out, kind, record) == -EAGAIN)
        CHECK(remote_ring_out_wait(out, record.len, clock_mono_ns() + 60 * NS_PER_S) == 0);
    (void)remote_ring_out_wake(out);
    remote_out_clear(&fake_proxy.out);
}

/* A stream of its own, strict about late calls. */
static inline struct remote_stream fake_stream(uint32_t seat) {
    return (struct remote_stream){.number = remote_number(0, (uint32_t)++fake_proxy.last_stream, 1),
                                  .config_id = FAKE_CONFIG,
                                  .worker_id = seat};
}

static struct header fake_headers[] = {
    {.name_ptr = "x-a", .value_ptr = "one", .name_len = 3, .value_len = 3},
    {.name_ptr = "x-b", .value_ptr = "two", .name_len = 3, .value_len = 3},
};
static const struct ext_view fake_view = {fake_headers, 2, 12};

static struct remote_lend fake_lend(const struct remote_stream *stream, uint8_t direction,
                                    enum ext_phase phase, bool end) {
    return (struct remote_lend){
        .stream = *stream,
        .direction = direction,
        .phase = (uint8_t)phase,
        .state = phase == EXT_HEADERS ? GO_PROCESSING_HEADER
                 : phase == EXT_BODY  ? GO_PROCESSING_DATA
                                      : GO_PROCESSING_TRAILER,
        .end = end,
        .headers = phase == EXT_HEADERS ? fake_view : (struct ext_view){0},
        .trailers = phase == EXT_TRAILERS ? fake_view : (struct ext_view){0},
        .bytes = span_make("", 0),
    };
}

static void fake_lend_it(const struct remote_lend *lend) {
    remote_put_lend(&fake_proxy.out, lend);
    fake_send(lend->stream.worker_id, REMOTE_LEND);
}

static inline void fake_lend_headers(const struct remote_stream *stream, uint8_t direction,
                                     bool end) {
    struct remote_lend lend = fake_lend(stream, direction, EXT_HEADERS, end);
    fake_lend_it(&lend);
}

static inline void fake_log(const struct remote_stream *stream, enum go_log_type type) {
    struct remote_log log = {
        .stream = *stream, .type = (uint8_t)type, .complete = type == GO_LOG_END};
    log.maps[0][0] = log.maps[1][0] = fake_view;
    remote_put_log(&fake_proxy.out, &log);
    fake_send(stream->worker_id, REMOTE_LOG);
}

/* The last one, and OnDestroy. */
static inline void fake_log_and_end(const struct remote_stream *stream,
                                    enum go_destroy_reason reason) {
    struct remote_log log = {.stream = *stream,
                             .type = GO_LOG_END,
                             .complete = true,
                             .ends = true,
                             .reason = (uint8_t)reason};
    log.maps[0][0] = log.maps[1][0] = fake_view;
    remote_put_log(&fake_proxy.out, &log);
    fake_send(stream->worker_id, REMOTE_LOG);
}

/* ---- from the host ---- */

static void __attribute__((format(printf, 1, 2))) fake_say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    size_t room = sizeof(fake_proxy.line) - fake_proxy.line_len;
    int n = vsnprintf(fake_proxy.line + fake_proxy.line_len, room, format, args);
    va_end(args);
    CHECK(n >= 0 && (size_t)n < room);
    fake_proxy.line_len += (size_t)n;
}

static void fake_wait_for_record(void) {
    struct pollfd bell = {.fd = remote_shm_p_bell(fake_proxy.shm, 0), .events = POLLIN};
    if (fake_proxy.has_record)
        remote_ring_in_done(&fake_proxy.in);
    int err;
    while ((err = remote_ring_in_next(&fake_proxy.in, &fake_proxy.record)) == -EAGAIN) {
        uint64_t rung;
        if (!remote_ring_in_fall_asleep(&fake_proxy.in))
            continue;
        CHECK(poll(&bell, 1, 60000) == 1); /* the host has something to say */
        CHECK(read(bell.fd, &rung, sizeof rung) == sizeof rung);
        remote_ring_in_awake(&fake_proxy.in);
    }
    CHECK(err == 0);
    fake_turn++;
    fake_proxy.has_record = true;
}

/* The next one that is not a count of the process's: these are counted. */
static void fake_next_record(void) {
    struct remote_metric metric = {0};
    for (;;) {
        fake_wait_for_record();
        if (fake_proxy.record.kind != REMOTE_METRIC)
            return;
        CHECK(remote_read_metric(fake_proxy.record.payload, &metric) == 0);
        if (metric.config_id)
            return;
        CHECK(metric.id < GO_COUNTED && metric.action == REMOTE_METRIC_ADD);
        fake_proxy.counted[metric.id] += metric.value;
    }
}

/* OnDestroy has returned. */
static void fake_hear_end(const struct remote_stream *stream) {
    struct remote_result result;
    struct remote_in ops;
    fake_next_record();
    CHECK(fake_proxy.record.kind == REMOTE_RESULT);
    CHECK(remote_read_result(fake_proxy.record.payload, &result, &ops) == 0);
    CHECK(result.number == stream->number && result.returned && !result.decided);
}

static inline void fake_end(const struct remote_stream *stream, enum go_destroy_reason reason) {
    remote_put_end(&fake_proxy.out, &(struct remote_end){stream->number, (uint8_t)reason});
    fake_send(stream->worker_id, REMOTE_END);
    fake_hear_end(stream);
    FAKE_AWAIT(handle_count(&ext_handles) == 0); /* there is one stream at a time */
    fake_turn++;
}

static void fake_say_bytes(const char *what, struct span bytes) {
    if (bytes.len > 64)
        fake_say("%s %zu bytes", what, bytes.len);
    else
        fake_say("%s %.*s", what, (int)bytes.len, bytes.ptr);
}

static void fake_say_op(const struct remote_op *op) {
    static const char *const edits[] = {"set", "add", "remove"};
    static const char *const actions[] = {"set", "append", "prepend", "drain"};
    struct span rest, name, value;
    fake_say("; %s ", op->direction == EXT_REQUEST ? "request" : "response");
    switch (op->kind) {
    case REMOTE_OP_EDIT:
        fake_say("%s %s%.*s=%.*s", edits[op->edit.kind], op->edit.trailers ? "trailer " : "",
                 (int)op->edit.name.len, op->edit.name.ptr, (int)op->edit.value.len,
                 op->edit.value.ptr);
        break;
    case REMOTE_OP_ADD:
        fake_say_bytes("data", op->bytes);
        break;
    case REMOTE_OP_BUFFER:
        fake_say("buffer %u %s", (unsigned)op->buffer.handle, actions[op->buffer.action]);
        if (op->buffer.action == REMOTE_BUFFER_DRAIN)
            fake_say(" %u", (unsigned)op->buffer.drain);
        else
            fake_say_bytes("", op->bytes);
        break;
    case REMOTE_OP_CLEAR_ROUTE:
        fake_say("clear%s", op->refresh ? " and refresh" : "");
        break;
    case REMOTE_OP_REPLY_BODY:
        fake_say_bytes("reply body", op->bytes);
        break;
    case REMOTE_OP_REPLY:
        fake_say("reply %u%s grpc %d (%.*s)", op->reply.status, op->reply.panic ? " panic" : "",
                 (int)op->reply.grpc_status, (int)op->reply.details.len, op->reply.details.ptr);
        rest = op->reply.headers;
        for (uint32_t i = 0; i < op->reply.header_count; i++) {
            CHECK(remote_next_header(&rest, &name, &value));
            fake_say(" %.*s=%.*s", (int)name.len, name.ptr, (int)value.len, value.ptr);
        }
        CHECK(rest.len == 0);
        fake_say_bytes("", op->bytes);
        break;
    }
}

static void fake_say_result(struct span record) {
    struct remote_result result;
    struct remote_in ops;
    struct remote_op op;
    int more;
    CHECK(remote_read_result(record, &result, &ops) == 0);
    CHECK(result.number == remote_number(0, (uint32_t)fake_proxy.last_stream, 1));
    fake_say("%s", result.returned ? "returned" : "");
    if (result.calls)
        fake_say(" ahead %d", result.calls);
    if (result.decided)
        fake_say(" decided %d", (int)result.status);
    while ((more = remote_next_op(&ops, &op)) == 1)
        fake_say_op(&op);
    CHECK(more == 0);
}

static void fake_answer(const struct remote_ask *ask, const struct remote_answer *answer) {
    struct remote_out out = {0};
    char *room = remote_shm_answer_room(fake_proxy.shm, ask->slot);
    CHECK(room);
    remote_put_answer(&out, answer);
    CHECK(!out.failed && out.len <= REMOTE_SLOT_SIZE);
    memcpy(room, out.data, out.len);
    remote_shm_answer(fake_proxy.shm, ask->slot, out.len);
    remote_out_fini(&out);
}

/* Answers with what was asked: "3:a,b,c"; bytes of the body; 1000 + n. */
static void fake_answer_ask(struct span record, bool says) {
    struct remote_ask ask;
    struct remote_answer answer = {.code = GO_OK};
    char text[256];
    CHECK(remote_read_ask(record, &ask) == 0);
    fake_proxy.questions++;
    int len = snprintf(text, sizeof text, "%u:%.*s,%.*s,%.*s", ask.question, (int)ask.a.len,
                       ask.a.ptr, (int)ask.b.len, ask.b.ptr, (int)ask.c.len, ask.c.ptr);
    CHECK(len > 0 && (size_t)len < sizeof text);
    answer.text = span_make(text, (size_t)len);
    answer.number = 1000 + ask.n;
    if (says)
        fake_say("asks %s n %u m %u", text, (unsigned)ask.n, (unsigned)ask.m);
    if (ask.question == REMOTE_ASK_BUFFER) {
        struct span rest =
            ask.m <= fake_proxy.body.len ? span_from(fake_proxy.body, ask.m) : span_make("", 0);
        answer.text = span_make(rest.ptr, rest.len < 40000 ? rest.len : 40000);
    }
    if (ask.question == REMOTE_SET_STATE || ask.question == REMOTE_SET_METADATA)
        answer.number = 0;
    if (span_eq(ask.a, SPAN_LIT("absent")))
        answer = (struct remote_answer){.code = GO_VALUE_NOT_FOUND, .text = span_make("", 0)};
    fake_answer(&ask, &answer);
}

/* The next record, as a line. Questions are answered. */
static inline const char *fake_hear(void) {
    fake_next_record();
    struct span record = fake_proxy.record.payload;
    struct remote_metric metric;
    struct remote_text text;
    struct remote_named named;
    fake_proxy.line_len = 0;
    fake_proxy.line[0] = 0;
    switch (fake_proxy.record.kind) {
    case REMOTE_RESULT:
        fake_say_result(record);
        break;
    case REMOTE_LOGGED:
        fake_say("logged ");
        fake_say_result(record);
        break;
    case REMOTE_ASK:
        fake_answer_ask(record, true);
        break;
    case REMOTE_METRIC:
        CHECK(remote_read_metric(record, &metric) == 0);
        fake_say("metric %u of %u %s %lld", metric.id, (unsigned)metric.config_id,
                 metric.action == REMOTE_METRIC_ADD ? "add" : "record", (long long)metric.value);
        break;
    case REMOTE_NAMED:
        CHECK(remote_read_named(record, &named) == 0);
        fake_say("named %u %s%.*s of %u; counts %u %u", (unsigned)named.number,
                 named.panicked ? "panic" : "", (int)named.name.len, named.name.ptr,
                 (unsigned)named.len, named.counts.crossings,
                 (unsigned)named.counts.header_bytes_to_go);
        break;
    case REMOTE_TEXT:
        CHECK(remote_read_text(record, &text) == 0);
        fake_say("text %u %.*s", text.level, (int)text.text.len, text.text.ptr);
        break;
    default:
        CHECK(false);
    }
    return fake_proxy.line;
}
