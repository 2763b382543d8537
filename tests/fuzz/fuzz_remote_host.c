/* A hostile host process, above its ring: whatever records it writes, in whatever state the exchanges are that it speaks
 * of, nothing is touched that it was not lent, limits hold, and what an exchange gets of it may go on the wire.
 *
 * The input is a list of steps: the host says something, or the coroutine of an exchange does what it does. Where
 * records want numbers of exchanges, or handles, the input chooses among those that are, and were. */
#include <errno.h>

#include "fuzz_choices.h"
#include "fuzz_runtime.h"

#include "../unit/ext/fake_remote.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STREAMS = 3, HANDLES = 4, STEPS_MAX = 400, TEXT_MAX = 200 };

enum step {
    SAY_BYTES, /* any, as any kind */
    SAY_BYTES_OF,
    SAY_RESULT,
    SAY_RESULT_TOO,
    SAY_LOGGED,
    SAY_ASK,
    SAY_ASK_TOO,
    SAY_METRIC,
    SAY_TEXT,
    LEND,
    LEND_TOO,
    TAKE, /* if it was decided */
    ABANDON,
    LOG,   /* begins, or ends */
    RENEW, /* ends, and there is another */
    ENTER, /* that the host hears of it, if it has not */
    SAY_NAMED,
    SPECIFY, /* a question of its own */
    STEPS
};

struct play {
    struct fuzz_choices choices;
    struct fake_remote_host host;
    struct fake_remote streams[STREAMS];
    struct remote_party question;
    uint64_t last_number, handles[HANDLES];
    unsigned next_handle;
    bool broken;
};

/* ---- choices ---- */

static const uint64_t far[] = {UINT64_MAX, INT64_MAX,  1ULL << 63, UINT32_MAX,
                               INT32_MAX,  1ULL << 16, 1ULL << 30, 1000};

static struct span some_text(struct play *play) {
    static const struct span known[] = {
        SPAN_LIT("x-a"),
        SPAN_LIT("host"),
        SPAN_LIT(":path"),
        SPAN_LIT(":status"),
        SPAN_LIT("request.path"),
        SPAN_LIT("request.headers.x-a"),
        SPAN_LIT("response.code"),
        SPAN_LIT("response.trailers.x-end"),
        SPAN_LIT("503"),
        SPAN_LIT("metadata.filter_metadata.ns.k"),
        SPAN_LIT("ns"),
        SPAN_LIT("k"),
        SPAN_LIT("\032\003abc"),
        SPAN_LIT("filter_state.k"),
        SPAN_LIT("connection.id"),
        SPAN_LIT("xds.route_name"),
    };
    static char much[1 << 16];
    unsigned which = fuzz_byte(&play->choices);
    if (which < 64)
        return known[which % 16];
    return which == 64 ? span_make(much, sizeof much) : fuzz_bytes(&play->choices, TEXT_MAX);
}

static struct fake_remote *some_stream(struct play *play) {
    return &play->streams[fuzz_byte(&play->choices) % STREAMS];
}

static uint64_t some_number(struct play *play) {
    unsigned which = fuzz_byte(&play->choices);
    uint64_t number = which % (STREAMS + 1) < STREAMS
                          ? play->streams[which % (STREAMS + 1)].remote.party.number
                          : play->question.number;
    switch (which >> 5) {
    case 0:
        return play->last_number;
    case 1: /* another use of the entry */
        return number ^ (1ULL << 32);
    case 2: /* another P's */
        return number ^ (1ULL << REMOTE_INDEX_BITS);
    default:
        return number;
    }
}

static uint64_t some_handle(struct play *play) {
    unsigned which = fuzz_byte(&play->choices);
    uint64_t handle = play->handles[which % HANDLES];
    return which < 0xf0 ? handle : handle + fuzz_word(&play->choices);
}

/* ---- what the host says ---- */

static void hear(struct play *play, unsigned kind, struct span record) {
    if (play->broken)
        return;
    char *exact = malloc(record.len ? record.len : 1); /* ASan sees its very end */
    CHECK(exact);
    if (record.len)
        memcpy(exact, record.ptr, record.len);
    play->broken = remote_lane_hear(play->host.lane, kind, span_make(exact, record.len)) != 0;
    free(exact);
}

static void hear_out(struct play *play, unsigned kind, struct remote_out *out) {
    CHECK(!out->failed);
    unsigned cut = fuzz_byte(&play->choices); /* seldom */
    if (cut > 0xf0 && out->len)
        out->len -= cut % out->len;
    hear(play, kind, span_make(out->data, out->len));
    remote_out_fini(out);
}

static void put_headers(struct play *play, struct remote_out *headers, unsigned count) {
    while (count--) {
        struct span name = some_text(play);
        remote_put_reply_header(headers, name, some_text(play));
    }
}

static void put_some_op(struct play *play, struct remote_out *out) {
    unsigned what = fuzz_byte(&play->choices);
    struct remote_out headers = {0};
    struct remote_op op = {
        .kind = REMOTE_OP_EDIT + what % 6, .direction = what >> 7, .bytes = span_make("", 0)};
    switch (op.kind) {
    case REMOTE_OP_EDIT:
        op.edit.kind = what >> 3 & 3 ? (what >> 3 & 3) - 1 : 0;
        op.edit.trailers = what >> 6 & 1;
        op.edit.name = some_text(play);
        op.edit.value = some_text(play);
        break;
    case REMOTE_OP_BUFFER:
        op.buffer.handle = some_handle(play);
        op.buffer.action = what >> 3 & 3;
        op.buffer.drain = fuzz_word(&play->choices);
        op.bytes = some_text(play);
        break;
    case REMOTE_OP_CLEAR_ROUTE:
        op.refresh = what >> 6 & 1;
        break;
    case REMOTE_OP_REPLY:
        op.reply.status = (uint32_t)(2 * fuzz_word(&play->choices));
        op.reply.panic = what >> 6 & 1;
        op.reply.grpc_status = (int64_t)fuzz_word(&play->choices);
        op.reply.details = some_text(play);
        put_headers(play, &headers, fuzz_byte(&play->choices) % 4);
        op.reply.header_count = (uint32_t)fuzz_word(&play->choices);
        op.reply.headers = span_make(headers.data, headers.len);
        op.bytes = some_text(play);
        break;
    default:
        op.bytes = some_text(play);
        break;
    }
    remote_put_op(out, &op);
    remote_out_fini(&headers);
}

static void say_result(struct play *play, enum remote_kind kind) {
    struct remote_out out = {0};
    unsigned flags = fuzz_byte(&play->choices);
    struct remote_result result = {
        .direction = flags & 1,
        .returned = flags >> 1 & 1,
        .decided = flags >> 2 & 1,
        .status = GO_CONTINUE,
        .counts = {.body_bytes_to_go = flags >> 5},
    };
    result.number = some_number(play);
    if (!(flags >> 3 & 3))
        result.status = (int32_t)fuzz_word(&play->choices);
    result.calls = (uint8_t)(flags >> 5 & 3);
    result.took_ns = fuzz_word(&play->choices);
    result.counts.panics = (uint32_t)fuzz_word(&play->choices);
    remote_put_result(&out, &result);
    for (unsigned count = fuzz_byte(&play->choices) % 8; count > 0; count--)
        put_some_op(play, &out);
    hear_out(play, kind, &out);
}

static void say_ask(struct play *play) {
    struct remote_out out = {0};
    unsigned what = fuzz_byte(&play->choices);
    struct remote_ask ask = {.question = (uint8_t)(what % (REMOTE_QUESTIONS + 1))};
    ask.subject = what >> 7 ? fuzz_word(&play->choices) : some_number(play);
    ask.slot = (uint32_t)fuzz_word(&play->choices);
    ask.n = ask.question == REMOTE_ASK_BUFFER ? some_handle(play) : fuzz_word(&play->choices);
    ask.m = fuzz_word(&play->choices);
    ask.a = some_text(play);
    ask.b = some_text(play);
    ask.c = some_text(play);
    remote_put_ask(&out, &ask);
    hear_out(play, REMOTE_ASK, &out);
}

static void say_metric(struct play *play) {
    struct remote_out out = {0};
    struct remote_metric metric = {.config_id = fuzz_word(&play->choices)};
    metric.id = (uint32_t)fuzz_word(&play->choices);
    metric.action = (uint8_t)(fuzz_byte(&play->choices) % 3);
    metric.value = fuzz_word(&play->choices);
    remote_put_metric(&out, &metric);
    hear_out(play, REMOTE_METRIC, &out);
}

static void say_text(struct play *play) {
    struct remote_out out = {0};
    struct remote_text text = {.level = (uint8_t)(fuzz_byte(&play->choices) % 9)};
    text.text = some_text(play);
    remote_put_text(&out, &text);
    hear_out(play, REMOTE_TEXT, &out);
}

static void say_named(struct play *play) {
    struct remote_out out = {0};
    struct remote_named named = {.number = some_number(play), .took_ns = fuzz_word(&play->choices)};
    unsigned flags = fuzz_byte(&play->choices);
    named.panicked = flags & 1;
    named.name = some_text(play);
    named.len = flags >> 6 ? named.name.len : fuzz_word(&play->choices);
    remote_put_named(&out, &named);
    hear_out(play, REMOTE_NAMED, &out);
}

static void say_bytes(struct play *play, bool of_a_stream) {
    static const uint8_t kinds[] = {REMOTE_RESULT, REMOTE_LOGGED, REMOTE_ASK,   REMOTE_METRIC,
                                    REMOTE_TEXT,   REMOTE_LEND,   REMOTE_NAMED, 0xff};
    unsigned kind = kinds[fuzz_byte(&play->choices) % sizeof kinds];
    struct remote_out out = {0};
    uint64_t number = some_number(play);
    if (of_a_stream)
        remote_out_put(&out, span_make((const char *)&number, sizeof number));
    remote_out_put(&out, fuzz_bytes(&play->choices, 255));
    hear_out(play, kind, &out);
}

/* ---- what the exchanges do ---- */

/* As go_ahead.c does. The piece's handle. */
static uint64_t offer(struct fake_remote *r, enum ext_direction direction, unsigned kind,
                      const char *body) {
    const char *pieces[] = {body, ""};
    uint64_t handle = 0;
    unsigned count = kind < 3 ? kind : 0; /* REMOTE_AHEAD_PIECE has two, WHOLE one */
    for (unsigned i = 0; i < count; i++) {
        struct ext_buffer *buffer = ext_buffer_new(span_of(pieces[i]));
        CHECK(buffer &&
              ext_side_lend_more(&r->block->stream, rt_p_index(), direction, buffer) == 0);
        handle = handle ? handle : buffer->handle;
    }
    r->remote.ahead[direction].offered = count == 2   ? REMOTE_AHEAD_PIECE
                                         : count == 1 ? REMOTE_AHEAD_WHOLE
                                                      : REMOTE_AHEAD_NONE;
    r->remote.ahead[direction].calls = 0;
    return handle;
}

static void lend(struct play *play) {
    static const char bodies[2][40] = {"", "what the client sent, in one piece"};
    struct fake_remote *r = some_stream(play);
    unsigned what = fuzz_byte(&play->choices);
    enum ext_direction direction = what & 1;
    const struct ext_stream *stream = &r->block->stream;
    const struct ext_side *side = &stream->sides[direction];
    if (side->phase != EXT_NOT_LENT || side->abandoned || side->replied || stream->logging ||
        (r->remote.party.lane && play->broken))
        return;
    const char *body = bodies[what >> 4 & 1];
    enum ext_phase phase = EXT_HEADERS + (what >> 1) % 3;
    uint64_t handle = fake_remote_lend(r, direction, phase, span_make(body, strlen(body)));
    if (phase == EXT_HEADERS)
        handle = offer(r, direction, what >> 5 & 3, body);
    if (handle)
        play->handles[play->next_handle++ % HANDLES] = handle;
}

static void check_reply(const struct ext_reply *reply) {
    ASSERT(reply->status >= 200 && reply->status <= 599);
    ASSERT(reply->body.len <= EXT_ADDED_BYTES_MAX);
    for (size_t i = 0; i < reply->header_count; i++) {
        ASSERT(header_name_is_valid(header_name(&reply->headers[i])));
        ASSERT(header_value_is_valid(header_value(&reply->headers[i])));
    }
}

static void check_map(const struct header_map *map) {
    for (uint32_t i = 0; i < map->count; i++) {
        struct span name = header_name(&map->entries[i]);
        ASSERT(name.ptr[0] == ':' || header_name_is_valid(name));
        ASSERT(header_value_is_valid(header_value(&map->entries[i])));
    }
}

static void take_back(struct play *play) {
    struct fake_remote *r = some_stream(play);
    unsigned what = fuzz_byte(&play->choices);
    enum ext_direction direction = what & 1;
    struct ext_stream *stream = &r->block->stream;
    struct ext_side *side = &stream->sides[direction];
    struct message *message = direction == EXT_REQUEST ? &r->fake->x.request : &r->fake->x.response;
    struct ext_taken taken;
    int status;
    if (side->phase == EXT_NOT_LENT || side->abandoned || !(side->continued || side->reply))
        return;
    enum ext_phase phase = side->phase;
    bool prompt, body = r->remote.ahead[direction].calls > 0;
    int how = ext_side_await(stream, &r->fake->x, direction, RT_FOREVER, &status, &prompt);
    ASSERT(how == 2 || (how == 1 && go_status_fits(body ? EXT_BODY : phase, (uint64_t)status)));
    r->remote.ahead[direction].calls = 0;
    ext_side_take_back(stream, direction, &taken);
    if (taken.reply)
        check_reply(taken.reply);
    int err =
        ext_edits_apply(taken.edits, direction, phase == EXT_HEADERS ? &message->headers : NULL,
                        phase == EXT_TRAILERS ? &message->trailers : NULL);
    ASSERT(err == 0 || err == -ENOMEM); /* the arena has an end */
    check_map(&message->headers);
    check_map(&message->trailers);
    ext_taken_fini(&taken);
    if (what >> 1 & 1 && phase == EXT_HEADERS)
        ext_side_freeze(stream, direction, &message->headers);
    if (what >> 2 & 1)
        ext_side_release(stream, direction, NULL);
    else if (what >> 3 & 1)
        ext_side_drop_newest(stream, direction);
    size_t held;
    if (side->shown.last)
        ASSERT(ext_side_keep_newest(stream, direction, &held) == 0);
}

static void abandon(struct play *play) {
    struct fake_remote *r = some_stream(play);
    enum ext_direction direction = fuzz_byte(&play->choices) & 1;
    if (r->block->stream.sides[direction].phase != EXT_NOT_LENT)
        ext_side_abandon(&r->block->stream, direction);
}

static void log_some(struct play *play) {
    struct fake_remote *r = some_stream(play);
    struct ext_stream *stream = &r->block->stream;
    struct exchange *x = &r->fake->x;
    struct ext_edit *edits[2];
    if (stream->logging) {
        ext_stream_close_log(stream, edits);
        ext_edits_free(edits[0]);
        ext_edits_free(edits[1]);
        return;
    }
    for (int i = 0; i < 2; i++)
        if (stream->sides[i].phase != EXT_NOT_LENT && !stream->sides[i].abandoned)
            return;
    const struct header_map *maps[2][2] = {{&x->request.headers, NULL},
                                           {&x->response.headers, &x->response.trailers}};
    ext_stream_open_log(stream, x, maps, true);
    if (r->remote.party.lane && !play->broken)
        CHECK(remote_lane_send(&r->remote.party, REMOTE_LOG, SPAN_LIT("log"), RT_FOREVER) == 0);
}

static int hears_a_name(struct remote_party *party, const struct remote_named *named) {
    ASSERT(named->name.len <= REMOTE_NAME_MAX);
    ASSERT(named->name.len == 0 || (!named->panicked && named->len == named->name.len));
    return 0;
}

static void is_lost(struct remote_party *party) {
    ASSERT(!party->lane);
}

static void specify(struct play *play) {
    static const struct remote_party_itab itab = {.named = hears_a_name, .lose = is_lost};
    struct remote_party *party = &play->question;
    if (play->broken)
        return;
    remote_lane_leave(party);
    *party = (struct remote_party){.itab = &itab, .plugin = fake_go.config.plugin};
    CHECK(remote_lane_enter(play->host.lane, party, true) == 0);
    CHECK(remote_lane_send(party, REMOTE_SPECIFY, SPAN_LIT("specify"), RT_FOREVER) == 0);
}

static void enter(struct play *play) {
    struct fake_remote *r = some_stream(play);
    if (!r->remote.party.lane && !play->broken)
        fake_remote_enter(r, &play->host);
}

static void renew(struct play *play) {
    struct fake_remote *r = some_stream(play);
    play->last_number = r->remote.party.number;
    fake_remote_free(r);
    fake_remote_new(r);
}

/* ---- what holds at any time ---- */

static void check_side(const struct fake_remote *r, const struct ext_side *side) {
    ASSERT(side->edit_count <= EXT_EDITS_MAX && side->edit_bytes <= EXT_EDIT_BYTES_MAX);
    ASSERT(side->added_bytes <= EXT_ADDED_BYTES_MAX);
    bool held = side->phase != EXT_NOT_LENT && !side->abandoned;
    ASSERT(held || (!side->continued && !side->reply && !side->added.head));
    ASSERT(held || r->block->stream.logging || !side->edits);
    ASSERT(!side->continued || go_status_fits(side->phase, (uint64_t)side->status));
}

static void check_all(const struct play *play) {
    for (unsigned i = 0; i < STREAMS; i++) {
        const struct fake_remote *r = &play->streams[i];
        ASSERT(r->remote.reply.len <= EXT_ADDED_BYTES_MAX);
        check_side(r, &r->block->stream.sides[0]);
        check_side(r, &r->block->stream.sides[1]);
    }
}

static void do_step(struct play *play, enum step step) {
    switch (step) {
    case SAY_BYTES:
    case SAY_BYTES_OF:
        say_bytes(play, step == SAY_BYTES_OF);
        break;
    case SAY_RESULT:
    case SAY_RESULT_TOO:
        say_result(play, REMOTE_RESULT);
        break;
    case SAY_LOGGED:
        say_result(play, REMOTE_LOGGED);
        break;
    case SAY_ASK:
    case SAY_ASK_TOO:
        say_ask(play);
        break;
    case SAY_METRIC:
        say_metric(play);
        break;
    case SAY_TEXT:
        say_text(play);
        break;
    case LEND:
    case LEND_TOO:
        lend(play);
        break;
    case TAKE:
        take_back(play);
        break;
    case ABANDON:
        abandon(play);
        break;
    case LOG:
        log_some(play);
        break;
    case RENEW:
        renew(play);
        break;
    case SAY_NAMED:
        say_named(play);
        break;
    case SPECIFY:
        specify(play);
        break;
    case ENTER:
        enter(play);
        break;
    case STEPS:
        break;
    }
}

static void run(const uint8_t *data, size_t size) {
    struct play play = {.choices = {data, data + size, far}};
    fake_remote_host_open(&play.host);
    for (unsigned i = 0; i < STREAMS; i++)
        fake_remote_new(&play.streams[i]);
    for (unsigned i = 0; i < 2; i++)
        fake_remote_enter(&play.streams[i], &play.host);
    for (unsigned i = 0; i < STEPS_MAX && play.choices.at < play.choices.end; i++) {
        do_step(&play, fuzz_byte(&play.choices) % STEPS);
        check_all(&play);
    }
    fake_remote_host_close(&play.host);
    check_all(&play);
    for (unsigned i = 0; i < STREAMS; i++) {
        ASSERT(!play.streams[i].remote.party.lane);
        fake_remote_free(&play.streams[i]);
    }
}

static void init(void) {
    fake_go_init();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return fuzz_on_runtime(init, run, data, size);
}
