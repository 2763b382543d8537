/* The Go host's ownership state machine, in every order within a bound of preemptions: an exchange that
 * goes through its phases, threads of Go's that act on it, a client that hangs up at any moment, and a
 * garbage collector that gives a request back the moment it may.
 *
 * What always holds, checked after each run and by the stage while it goes on:
 *   - nobody waits for ever: no continue, reply or hand-over of a seat gets lost
 *   - nothing is freed twice, touched after it was freed or after its exchange ended, or left over:
 *     allocations, blocks, loans, handles, places in seats
 *   - whoever is woken has not ended; one thread at a time is in a seat
 *   - Go hears of every stream's end once, and only of streams it knows
 * and per story:
 *   - a call that answered OK did act: its header, buffer, data or reply is what goes on; what was
 *     refused did not
 *   - a continue lets one thing go, and never one that came after it had returned
 * SLUICE_LONG=yes allows each story one preemption more.
 *
 * Mutations  Each was made by hand, and is found:
 *   ext_stream.c  a continue is left for the next loan (take_back and lend keep it); a continue or a reply wakes
 *                 nobody; `waiter` is set after the lock was given up; it is left set by who was cancelled; a
 *                 reply gives way to a continue; take_back drops the reply; a released buffer keeps its handle;
 *                 take_back or abandon without the lock; abandon does not say so; a late view is the map
 *                 itself; taken edits are not freed; a side that is taken back shows nothing to a log in between
 *   ext_edit.c    edits in reverse
 *   go_gate.c     the block is unlocked after its lease ended, or not leased; the loan is let go before the
 *                 call is done; calls do not take the lock
 *   go_end.c      OnDestroy for a stream that Go never heard of, or none; the seat is not left; what describes
 *                 the coroutine is freed first
 *   seat.c        no waiting for a seat that is held; one is taken while it is held; its waiter forgets what it
 *                 got when its deadline came together with it; it is given away and freed, too
 *   sync.c        a seat that is given up wakes nobody
 *   handle.c      what is over can be leased, or destroyed twice
 * Not found, as another line does the same: that ext_stream_end takes all away (no side is lent by then),
 * and that ext_side_release has the lock (take_back had it). */
#include <errno.h>

#include "../../rt/rt_story.h"
#undef CHECK
#define CHECK MODEL_CHECK
#include "../fake_exchange.h"
#include "../fake_go.h"

#include "ext/ext_handles.h"
#include "ext/seat.h"
#include "go_stage.h"
#include "mem/handle_slot.h"

enum { TASKS = 2 };

/* One request, as the story follows it. */
struct served {
    struct fake_exchange *fake;
    void *self;
    struct seat *seat;
    bool is_served; /* somebody may hang up */
    bool passed;    /* the request's headers went on */
    bool client_gone;
    bool is_over;
    /* The edit of a late goroutine was answered before the log phase, is in what went on, and in what the
     * access log shows. */
    bool is_answered, is_there, is_logged;
    size_t out;    /* bytes of the body that went on */
    char text[64]; /* these */
};

static struct served served[2];
static struct seat_set *seats;
/* What Go's callbacks leave for its goroutines: flag i wakes the i-th. */
static bool told[TASKS], destroyed;
static struct go_process_state *states[TASKS];
static uint64_t handle;
static unsigned in_seat, entered_streams, finalized;
/* What was answered, in the order of the story. */
static int codes[8];
static unsigned continues_begun, continues_ended;
static unsigned ended_before_data; /* is pulled, for Go to be shown it */
static bool data_is_shown;

/* ---- Go's side ---- */

static void enter_seat(void) {
    MODEL_CHECK(in_seat++ == 0);
    model_step("in Go");
}

static void leave_seat(void) {
    model_step("out of Go");
    in_seat--;
}

static void tell(unsigned task, struct go_process_state *state) {
    states[task] = state;
    model_wake(&told[task]);
}

static bool was_told(unsigned task) {
    model_wait_or_quiet(&told[task]);
    return told[task];
}

/* As a collector that runs right after OnDestroy, or with the last call still on its way. */
static void finalize(void *request) {
    finalized++;
    envoyGoFilterHttpFinalize(request, 0);
}

static void go_destroys(struct go_request *request, uint64_t reason) {
    enter_seat();
    leave_seat();
    destroyed = true;
    finalize(request);
}

static int add(void *s, const char *value) {
    return envoyGoFilterHttpSetHeaderHelper(s, (void *)(uintptr_t) "x-t", 3,
                                            (void *)(uintptr_t)value, 1, GO_HEADER_ADD);
}

static void continues(void *s, int status) {
    continues_begun++;
    MODEL_CHECK(envoyGoFilterHttpContinue(s, status) != GO_INTERNAL_FAILURE);
    continues_ended++;
}

static void may_refuse(int code) {
    MODEL_CHECK(code == GO_OK || code == GO_NOT_IN_GO || code == GO_FILTER_IS_DESTROYED ||
                code == GO_FILTER_IS_GONE);
    MODEL_CHECK(code != GO_FILTER_IS_GONE || destroyed);
}

static void looks_at_headers(void *s) {
    uint64_t value = 0;
    int len = 0;
    int code = envoyGoFilterHttpGetHeader(s, (void *)(uintptr_t) "x-a", 3, &value, &len);
    /* The log phase may show another, and what Finalize has taken cannot be looked at. */
    if (code == GO_OK && !destroyed && served[0].is_served)
        MODEL_CHECK(len == 3 && memcmp((const void *)(uintptr_t)value, "one", 3) == 0);
    if (code != GO_INVALID_PHASE)
        may_refuse(code);
}

static void copies_headers(void *s, unsigned at_least) {
    struct go_string strings[64] = {0};
    char room[1024];
    int code = envoyGoFilterHttpCopyHeaders(s, strings, room);
    if (code == GO_INVALID_PHASE)
        return;
    may_refuse(code);
    for (unsigned i = 0; code == GO_OK && i < at_least; i++)
        MODEL_CHECK(strings[2 * i].len > 0 && strings[2 * i].len < 16 &&
                    strings[2 * i].ptr[0] >= ':' && strings[2 * i].ptr[0] <= 'z');
}

/* ---- the exchange's side ---- */

static ssize_t counted_next(void *data, size_t max, struct span *out) {
    ssize_t n = pieces_itab.next(data, max, out);
    if (n > 0)
        ended_before_data = continues_ended;
    return n;
}

static void counted_close(void *data) {
    pieces_itab.close(data);
}

static const struct reader_itab counted_itab = {.next = counted_next, .close = counted_close};

static void setup_seats(unsigned requests, unsigned seat_count, const char *const *pieces,
                        bool has_trailers) {
    go_stage_setup();
    memset(served, 0, sizeof served);
    memset(told, 0, sizeof told);
    memset(states, 0, sizeof states);
    memset(codes, 0x7f, sizeof codes);
    handle = in_seat = entered_streams = finalized = 0;
    continues_begun = continues_ended = ended_before_data = 0;
    destroyed = data_is_shown = false;
    fake_go.header = NULL;
    fake_go.data = NULL;
    fake_go.log = NULL;
    fake_go.destroy = go_destroys;
    fake_go.destroys = fake_go.logs = fake_go.completes = 0;
    seat_set_free(seats);
    seats = seat_set_new(1, seat_count);
    fake_go.config.seats = seats;
    fake_go.config.seat_wait_ns = RT_FOREVER;
    for (unsigned i = 0; i < requests; i++) {
        served[i].fake = fake_new(&fake_go.filter, pieces, has_trailers);
        struct exchange *x = &served[i].fake->x;
        x->shard = 0;
        if (x->request.body.itab)
            x->request.body.itab = &counted_itab;
        served[i].self = served[i].fake->factory.itab->create(x, &served[i].fake->factory);
        MODEL_CHECK(served[i].self);
    }
}

static void setup(const char *const *pieces, bool has_trailers) {
    setup_seats(1, 1, pieces, has_trailers);
}

/* The literals that it points at live on. */
static void scribble_map(struct header_map *map) {
    if (map->count)
        go_stage_scribble(map->entries, map->count * sizeof(map->entries[0]));
    map->count = 0;
}

static void read_out(struct served *s, struct message *message) {
    struct span chunk;
    ssize_t n = 1;
    while (n > 0 && message_has_body(message)) {
        n = reader_next(message->body, 1 << 16, &chunk);
        if (n <= 0)
            break;
        MODEL_CHECK(s->out + (size_t)n < sizeof s->text);
        memcpy(s->text + s->out, chunk.ptr, (size_t)n);
        s->out += (size_t)n;
        if (data_is_shown) /* somebody let it go who was not done before it was pulled */
            MODEL_CHECK(continues_begun > ended_before_data);
    }
}

static struct span header_at(const struct header_map *map, const char *name, unsigned nth) {
    for (uint32_t i = 0; i < map->count; i++)
        if (span_eq(header_name(&map->entries[i]), span_of(name)) && nth-- == 0)
            return header_value(&map->entries[i]);
    return span_none();
}

static void ends(struct served *s) {
    struct exchange *x = &s->fake->x;
    struct go_filter *filter = s->self;
    s->is_served = false;
    stage_cancel_clear();
    s->is_answered = codes[1] == GO_OK;
    s->is_there = !span_is_none(header_at(&x->request.headers, "x-t", 0));
    s->fake->factory.itab->log(x, s->self, FILTER_LOG_END);
    s->is_logged = !span_is_none(header_at(&x->request.headers, "x-t", 0));
    entered_streams += filter->block->entered;
    s->seat = filter->sitting.seat;
    s->fake->factory.itab->destroy(x, s->self);
    scribble_map(&x->request.headers);
    scribble_map(&x->request.trailers);
    scribble_map(&x->response.headers);
    scribble_map(&x->response.trailers);
    fake_free(s->fake);
    s->is_over = true;
}

/* What the router would, with the request's headers as they go on. */
static void (*goes_on)(struct served *s);

static void serves_request(struct served *s) {
    struct exchange *x = &s->fake->x;
    s->is_served = true;
    if (exchange_alive(x))
        s->fake->factory.itab->request(x, s->self);
    s->passed = exchange_alive(x);
    if (s->passed && goes_on)
        goes_on(s);
    if (s->passed)
        read_out(s, &x->request);
}

static void serves(void) {
    go_stage_enter();
    serves_request(&served[0]);
    ends(&served[0]);
    go_stage_leave();
}

static void hangs_up_on(struct served *s, unsigned thread) {
    go_stage_enter();
    if (s->is_served) {
        s->client_gone = true;
        s->fake->x.client_gone = true;
        stage_cancel(go_stage_g(thread));
    }
    go_stage_leave();
}

static void hangs_up(void) {
    hangs_up_on(&served[0], 0);
}

static unsigned threads_of_story;

static void nothing_is_left(void) {
    for (unsigned i = 0; i < 2; i++) {
        if (!served[i].fake)
            continue;
        MODEL_CHECK(served[i].is_over);
        MODEL_CHECK(!served[i].seat || !seat_is_held(served[i].seat));
        MODEL_CHECK(!served[i].seat || served[i].seat->streams == 0);
    }
    MODEL_CHECK(fake_go.destroys == entered_streams);
    MODEL_CHECK(finalized >= entered_streams);
    MODEL_CHECK(in_seat == 0);
    MODEL_CHECK(handle_count(&ext_handles) == 0);
    MODEL_CHECK(loan_count(&go_lent_requests) == 0);
    go_stage_check(threads_of_story);
}

/* ---- a callback that says "later", a goroutine that edits and continues ---- */

static uint64_t later_in_headers(struct go_process_state *state, uint64_t end, uint64_t count,
                                 uint64_t bytes) {
    enter_seat();
    tell(0, state);
    leave_seat();
    return GO_RUNNING;
}

static void both_edits_are_there(struct served *s) {
    const struct header_map *map = &s->fake->x.request.headers;
    MODEL_CHECK(codes[0] == GO_OK && codes[1] == GO_OK);
    MODEL_CHECK(span_eq(header_at(map, "x-t", 0), SPAN_LIT("1")));
    MODEL_CHECK(span_eq(header_at(map, "x-t", 1), SPAN_LIT("2")));
    MODEL_CHECK(span_is_none(header_at(map, "x-t", 2)));
    MODEL_CHECK(span_eq(header_at(map, "x-a", 0), SPAN_LIT("one")));
}

static void edits_and_continues(void) {
    if (!was_told(0))
        return;
    codes[0] = add(states[0], "1");
    looks_at_headers(states[0]);
    codes[1] = add(states[0], "2");
    may_refuse(codes[0]);
    may_refuse(codes[1]);
    continues(states[0], GO_CONTINUE);
    looks_at_headers(states[0]);
}

static void setup_async(void) {
    setup(NULL, false);
    fake_go.header = later_in_headers;
    goes_on = both_edits_are_there;
}

static void async_is_over(void) {
    MODEL_CHECK(served[0].passed || served[0].client_gone);
    nothing_is_left();
}

/* ---- a goroutine that is late with its continue, and a chunk that another one has ---- */

static const char *const one_piece[] = {"ab", NULL};

static uint64_t at_once_but_told(struct go_process_state *state, uint64_t end, uint64_t count,
                                 uint64_t bytes) {
    enter_seat();
    tell(0, state);
    leave_seat();
    return GO_CONTINUE;
}

static uint64_t later_in_data(struct go_process_state *state, uint64_t end, uint64_t buffer,
                              uint64_t len) {
    enter_seat();
    if (!end) {
        handle = buffer;
        data_is_shown = true;
        tell(1, state);
    }
    leave_seat();
    return end ? GO_CONTINUE : GO_RUNNING;
}

static void continues_late(void) {
    if (!was_told(0))
        return;
    codes[1] = add(states[0], "1");
    continues(states[0], GO_CONTINUE);
}

static int sets_buffer(void *s) {
    return envoyGoFilterHttpSetBufferHelper(s, handle, (void *)(uintptr_t) "new", 3, GO_BUFFER_SET);
}

static void rewrites_chunk(void) {
    if (!was_told(1))
        return;
    char room[8];
    int got = envoyGoFilterHttpGetBuffer(states[1], handle, room);
    if (got == GO_OK)
        MODEL_CHECK(memcmp(room, "ab", 2) == 0);
    codes[0] = sets_buffer(states[1]);
    continues(states[1], GO_CONTINUE);
}

static void setup_late(void) {
    setup(one_piece, false);
    fake_go.header = at_once_but_told;
    fake_go.data = later_in_data;
    goes_on = NULL;
}

static void chunk_is_over(void) {
    struct served *s = &served[0];
    if (!s->client_gone) {
        MODEL_CHECK(s->passed);
        bool is_new = codes[0] == GO_OK;
        MODEL_CHECK(s->out == (is_new ? 3U : 2U));
        MODEL_CHECK(memcmp(s->text, is_new ? "new" : "ab", s->out) == 0);
    }
    nothing_is_left();
}

/* It was made for what goes on, or for the log phase, or was refused. */
static void late_edit_is_there(struct served *s) {
    bool is_there = !span_is_none(header_at(&s->fake->x.request.headers, "x-t", 0));
    MODEL_CHECK(is_there || codes[1] != GO_OK);
    model_wait_or_quiet(&told[1]); /* so that the edit is not one of the log phase */
}

static void edits_late(void) {
    if (!was_told(0))
        return;
    codes[1] = add(states[0], "1");
    looks_at_headers(states[0]);
    copies_headers(states[0], 4);
    model_wake(&told[1]);
}

static void setup_late_edit(void) {
    setup(NULL, false);
    fake_go.header = at_once_but_told;
    goes_on = late_edit_is_there;
}

static void late_edit_is_over(void) {
    if (codes[1] != GO_OK)
        MODEL_CHECK(!served[0].is_logged);
    else if (served[0].passed)
        MODEL_CHECK(served[0].is_logged && (served[0].is_there || !served[0].is_answered));
    nothing_is_left();
}

/* ---- headers that went on are looked at once more, while the router has them ---- */

static void router_rewrites(struct served *s) {
    struct header_map *map = &s->fake->x.request.headers;
    for (uint32_t i = 0; i < map->count; i++)
        if (span_eq(header_name(&map->entries[i]), SPAN_LIT("x-a")))
            map->entries[i].value_ptr = "two";
}

static void continues_then_looks(void) {
    if (!was_told(0))
        return;
    continues(states[0], GO_CONTINUE);
    looks_at_headers(states[0]);
    if (!was_told(1))
        return;
    looks_at_headers(states[1]);
    copies_headers(states[1], 4);
    continues(states[1], GO_CONTINUE);
}

static void setup_once_more(void) {
    setup(one_piece, false);
    fake_go.header = later_in_headers;
    fake_go.data = later_in_data;
    goes_on = router_rewrites;
}

static void once_more_is_over(void) {
    MODEL_CHECK(served[0].client_gone || served[0].out == 2);
    nothing_is_left();
}

/* ---- one goroutine replies, another continues ---- */

static uint64_t later_for_two(struct go_process_state *state, uint64_t end, uint64_t count,
                              uint64_t bytes) {
    enter_seat();
    tell(0, state);
    tell(1, state);
    leave_seat();
    return GO_RUNNING;
}

static void replies(void) {
    if (!was_told(0))
        return;
    codes[0] = envoyGoFilterHttpSendLocalReply(states[0], 403, (void *)(uintptr_t) "no", 2, NULL, 0,
                                               -1, NULL, 0);
    may_refuse(codes[0]);
}

static void only_continues(void) {
    if (was_told(1))
        continues(states[1], GO_CONTINUE);
}

static unsigned reply_seen;

static void sees_no_reply(struct served *s) {
    MODEL_CHECK(s->fake->reply_status == 0);
    MODEL_CHECK(codes[0] != GO_OK); /* it may be answered so in the log phase, where it is void */
}

static void serves_and_looks_at_reply(void) {
    go_stage_enter();
    serves_request(&served[0]);
    reply_seen = served[0].fake->reply_status;
    ends(&served[0]);
    go_stage_leave();
}

static void setup_reply(void) {
    setup(NULL, false);
    fake_go.header = later_for_two;
    goes_on = sees_no_reply;
    reply_seen = 0;
}

static void reply_is_over(void) {
    const struct served *s = &served[0];
    MODEL_CHECK(reply_seen == 0 || reply_seen == 403);
    MODEL_CHECK(s->passed != (reply_seen != 0) || s->client_gone);
    if (codes[0] != GO_OK)
        MODEL_CHECK(reply_seen == 0);
    nothing_is_left();
}

/* ---- held headers: data added, the whole body changed, headers edited from the body's phase ---- */

static uint64_t whole_body_later(struct go_process_state *state, uint64_t end, uint64_t buffer,
                                 uint64_t len) {
    enter_seat();
    MODEL_CHECK(end && len == 2);
    handle = buffer;
    tell(1, state);
    leave_seat();
    return GO_RUNNING;
}

static void adds_and_holds(void) {
    if (!was_told(0))
        return;
    codes[0] = envoyGoFilterHttpAddData(states[0], (void *)(uintptr_t) "+", 1, false);
    continues(states[0], GO_STOP_AND_BUFFER);
    if (!was_told(1))
        return;
    codes[1] = sets_buffer(states[1]);
    codes[2] = add(states[1], "1");
    continues(states[1], GO_CONTINUE);
}

static void held_edit_is_there(struct served *s) {
    MODEL_CHECK(codes[2] == GO_OK);
    MODEL_CHECK(span_eq(header_at(&s->fake->x.request.headers, "x-t", 0), SPAN_LIT("1")));
}

static void setup_held(void) {
    setup(one_piece, false);
    fake_go.header = later_in_headers;
    fake_go.data = whole_body_later;
    goes_on = held_edit_is_there;
}

static void held_is_over(void) {
    const struct served *s = &served[0];
    if (!s->client_gone) {
        MODEL_CHECK(codes[0] == GO_OK && codes[1] == GO_OK);
        MODEL_CHECK(s->out == 4 && memcmp(s->text, "+new", 4) == 0);
    }
    nothing_is_left();
}

/* ---- both sides at once: a coroutine pumps the request's body while the response is in Go ---- */

static bool pump_may_run, pump_runs, pump_is_done, pump_is_to_stop;

static uint64_t later_in_the_response(struct go_process_state *state, uint64_t end, uint64_t count,
                                      uint64_t bytes) {
    if (!state->is_encoding)
        return GO_CONTINUE;
    tell(0, state);
    return GO_RUNNING;
}

static void pumps(void) {
    model_wait(&pump_may_run);
    go_stage_enter();
    pump_runs = true;
    if (pump_is_to_stop)
        stage_cancel(go_stage_g(1));
    read_out(&served[0], &served[0].fake->x.request);
    pump_runs = false;
    pump_is_done = true;
    stage_ready(go_stage_g(0));
    go_stage_leave();
}

static void serves_both_sides(void) {
    struct served *s = &served[0];
    struct exchange *x = &s->fake->x;
    go_stage_enter();
    s->is_served = true;
    s->fake->factory.itab->request(x, s->self);
    model_wake(&pump_may_run);
    if (exchange_alive(x)) {
        MODEL_CHECK(header_add_id(&x->response.headers, HDR_STATUS, SPAN_LIT("200")) == 0);
        s->fake->factory.itab->response(x, s->self);
        s->passed = exchange_alive(x);
        if (s->passed)
            codes[2] = span_is_none(header_at(&x->response.headers, "x-t", 0)) ? 0 : 1;
    }
    /* The response is through: whoever pumps is told to stop, wherever he is. */
    s->is_served = false;
    pump_is_to_stop = true;
    while (!pump_is_done) {
        stage_cancel_clear();
        if (pump_runs)
            stage_cancel(go_stage_g(1));
        (void)stage_park("end of the pump", RT_FOREVER);
    }
    ends(s);
    go_stage_leave();
}

static void edits_response(void) {
    if (!was_told(0))
        return;
    codes[1] = add(states[0], "1");
    continues(states[0], GO_CONTINUE);
}

static void setup_both(void) {
    setup(one_piece, false);
    pump_may_run = pump_runs = pump_is_done = pump_is_to_stop = false;
    fake_go.header = later_in_the_response;
    fake_go.data = later_in_data;
    goes_on = NULL;
}

static void both_are_over(void) {
    const struct served *s = &served[0];
    if (!s->client_gone) {
        MODEL_CHECK(s->passed && codes[1] == GO_OK && codes[2] == 1);
        if (s->out) /* the pump was in time */
            MODEL_CHECK(memcmp(s->text, codes[0] == GO_OK ? "new" : "ab", s->out) == 0);
    }
    nothing_is_left();
}

/* ---- the log phase, the end, and calls that come after it ---- */

static void told_of_the_log(struct go_request *request, uint64_t type,
                            struct go_process_state *decode, struct go_process_state *encode,
                            uint64_t counts[4], uint64_t bytes[4]) {
    enter_seat();
    tell(0, decode);
    leave_seat();
}

static void acts_to_the_end(void) {
    if (!was_told(0))
        return;
    struct go_process_state *s = states[0];
    struct go_request *request = (struct go_request *)(void *)s->req;
    looks_at_headers(s);
    copies_headers(s, 4);
    may_refuse(add(s, "1"));
    uint64_t value;
    int len;
    may_refuse(envoyGoFilterHttpGetStringValue(request, GO_VALUE_ROUTE_NAME, &value, &len));
    finalize(request); /* with the collector's, one too many */
}

static void setup_log(void) {
    setup(NULL, false);
    fake_go.log = told_of_the_log;
    goes_on = NULL;
}

/* ---- a log in between, while a goroutine has the headers ---- */

static bool log_may_run, log_is_done;

static void logs_between(void) {
    model_wait(&log_may_run);
    go_stage_enter();
    if (!served[0].is_over)
        served[0].fake->factory.itab->log(&served[0].fake->x, served[0].self, FILTER_LOG_PERIODIC);
    log_is_done = true;
    go_stage_leave();
    go_stage_run_started(); /* an end that had to wait for the log */
}

static uint64_t later_and_logged(struct go_process_state *state, uint64_t end, uint64_t count,
                                 uint64_t bytes) {
    enter_seat();
    tell(0, state);
    leave_seat();
    model_wake(&log_may_run);
    return GO_RUNNING;
}

/* What it is shown is there until it returns, however the side comes and goes. */
static void looks_in_between(struct go_request *request, uint64_t type,
                             struct go_process_state *decode, struct go_process_state *encode,
                             uint64_t counts[4], uint64_t bytes[4]) {
    enter_seat();
    if (type == GO_LOG_PERIODIC) {
        struct go_string strings[64] = {0};
        char room[1024];
        uint64_t value = 0;
        int len = 0;
        MODEL_CHECK(envoyGoFilterHttpGetHeader(decode, (void *)(uintptr_t) "x-a", 3, &value,
                                               &len) == GO_OK);
        MODEL_CHECK(len == 3 && memcmp((const void *)(uintptr_t)value, "one", 3) == 0);
        MODEL_CHECK(envoyGoFilterHttpCopyHeaders(decode, strings, room) == GO_OK);
        for (uint64_t i = 0; i < 2 * counts[0]; i += 2)
            MODEL_CHECK(strings[i].len > 0 && (size_t)strings[i].len < sizeof room);
    }
    leave_seat();
}

static void setup_between(void) {
    setup(NULL, false);
    log_may_run = log_is_done = false;
    fake_go.header = later_and_logged;
    fake_go.log = looks_in_between;
    goes_on = NULL;
}

static void between_is_over(void) {
    const struct served *s = &served[0];
    MODEL_CHECK(log_is_done);
    if (!s->client_gone)
        MODEL_CHECK(s->passed && s->is_there);
    nothing_is_left();
}

/* ---- one seat, two requests ---- */

static uint64_t sits_in_headers(struct go_process_state *state, uint64_t end, uint64_t count,
                                uint64_t bytes) {
    enter_seat();
    leave_seat();
    return GO_CONTINUE;
}

static void serves_second(void) {
    go_stage_enter();
    serves_request(&served[1]);
    ends(&served[1]);
    go_stage_leave();
}

static void hangs_up_on_second(void) {
    hangs_up_on(&served[1], 1);
}

static void logs_in_seat(struct go_request *request, uint64_t type, struct go_process_state *decode,
                         struct go_process_state *encode, uint64_t counts[4], uint64_t bytes[4]) {
    enter_seat();
    leave_seat();
}

static void setup_seat(void) {
    setup_seats(2, 1, NULL, false);
    fake_go.config.seat_wait_ns = NS_PER_S;
    fake_go.header = sits_in_headers;
    fake_go.log = logs_in_seat;
    goes_on = NULL;
}

/* ---- */

/* As at the start of the process: what a run takes from it would be another's choice. */
static void reset_table(struct handle_table *table) {
    memset(table->slots, 0, table->used * sizeof(struct handle_slot));
    table->used = 0;
    memset(table->shards, 0, sizeof table->shards);
}

static void (*story_setup)(void);

static void setup_story(void) {
    reset_table(&ext_handles);
    reset_table(&go_lent_requests.handles);
    story_setup();
}

int main(void) {
    static const struct model_story stories[] = {
        {.name = "a log in between, an edit, and the client hangs up",
         .setup = setup_between,
         .thread_count = 4,
         .threads = {serves, edits_and_continues, hangs_up, logs_between},
         .check = between_is_over,
         .preemptions = 1},
        {.name = "a goroutine edits and continues, the client hangs up",
         .setup = setup_async,
         .thread_count = 3,
         .threads = {serves, edits_and_continues, hangs_up},
         .check = async_is_over,
         .preemptions = 2},
        {.name = "a late continue and a chunk that another goroutine has",
         .setup = setup_late,
         .thread_count = 3,
         .threads = {serves, continues_late, rewrites_chunk},
         .check = chunk_is_over,
         .preemptions = 2},
        {.name = "a chunk, and the client hangs up",
         .setup = setup_late,
         .thread_count = 3,
         .threads = {serves, rewrites_chunk, hangs_up},
         .check = chunk_is_over,
         .preemptions = 2},
        {.name = "an edit against the end of its loan",
         .setup = setup_late_edit,
         .thread_count = 3,
         .threads = {serves, edits_late, hangs_up},
         .check = late_edit_is_over,
         .preemptions = 2},
        {.name = "headers that went on, once more",
         .setup = setup_once_more,
         .thread_count = 3,
         .threads = {serves, continues_then_looks, hangs_up},
         .check = once_more_is_over,
         .preemptions = 2},
        {.name = "a reply against a continue",
         .setup = setup_reply,
         .thread_count = 3,
         .threads = {serves_and_looks_at_reply, replies, only_continues},
         .check = reply_is_over,
         .preemptions = 2},
        {.name = "a reply against a continue, and the client hangs up",
         .setup = setup_reply,
         .thread_count = 4,
         .threads = {serves_and_looks_at_reply, replies, only_continues, hangs_up},
         .check = reply_is_over,
         .preemptions = 1},
        {.name = "held headers",
         .setup = setup_held,
         .thread_count = 3,
         .threads = {serves, adds_and_holds, hangs_up},
         .check = held_is_over,
         .preemptions = 2},
        {.name = "both sides at once",
         .setup = setup_both,
         .thread_count = 4,
         .threads = {serves_both_sides, pumps, edits_response, rewrites_chunk},
         .check = both_are_over,
         .preemptions = 1},
        {.name = "both sides at once, and the client hangs up",
         .setup = setup_both,
         .thread_count = 4,
         .threads = {serves_both_sides, pumps, edits_response, hangs_up},
         .check = both_are_over,
         .preemptions = 1},
        {.name = "calls in the log phase, after the end and after Finalize",
         .setup = setup_log,
         .thread_count = 2,
         .threads = {serves, acts_to_the_end},
         .check = nothing_is_left,
         .preemptions = 3},
        {.name = "two requests and one seat",
         .setup = setup_seat,
         .thread_count = 4,
         .threads = {serves, serves_second, go_stage_run_started, hangs_up_on_second},
         .check = nothing_is_left,
         .preemptions = 1},
    };
    const char *is_long = getenv("SLUICE_LONG");
    log_set_level(LOG_CRITICAL);
    MODEL_CHECK(fake_stats_init(NULL) == 0);
    fake_go_init();
    for (unsigned i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        struct model_story story = stories[i];
        if (is_long && strcmp(is_long, "yes") == 0) /* minutes */
            story.preemptions++;
        threads_of_story = story.thread_count;
        story_setup = story.setup;
        story.setup = setup_story;
        model_explore(&story);
    }
    return 0;
}
