/* remote_exchange.c and remote_link.c: what a host process says of exchanges, and what becomes of it. */
#include <errno.h>

#include "fake_remote.h"
#include "ext/go/go_side.h"

static struct fake_remote_host host;
static struct fake_remote one, two;

static void begin(void) {
    fake_go_init();
    fake_remote_host_open(&host);
    fake_remote_new(&one);
    fake_remote_new(&two);
    fake_remote_enter(&one, &host);
    fake_remote_enter(&two, &host);
}

static void end(void) {
    fake_remote_free(&one);
    fake_remote_free(&two);
    if (host.lane)
        fake_remote_host_close(&host);
    rt_stop(0);
}

static struct ext_side *side_of(struct fake_remote *r, enum ext_direction direction) {
    return &r->block->stream.sides[direction];
}

static struct remote_result result_of(const struct fake_remote *r) {
    return (struct remote_result){.number = r->remote.party.number};
}

/* The callback returns, and decides. */
static struct remote_result decided(const struct fake_remote *r, int status) {
    return (struct remote_result){
        .number = r->remote.party.number, .returned = true, .decided = true, .status = status};
}

static int says(const struct remote_result *result, const struct remote_op *ops, unsigned count) {
    struct remote_out out = {0};
    remote_put_result(&out, result);
    for (unsigned i = 0; i < count; i++)
        remote_put_op(&out, &ops[i]);
    return fake_remote_hear(&host, REMOTE_RESULT, &out);
}

static int decides(const struct fake_remote *r, int status) {
    const struct remote_result result = decided(r, status);
    return says(&result, NULL, 0);
}

static struct remote_op edit(enum ext_edit_kind kind, const char *name, const char *value) {
    return (struct remote_op){.kind = REMOTE_OP_EDIT,
                              .edit = {(uint8_t)kind, false, span_of(name), span_of(value)},
                              .bytes = span_make("", 0)};
}

static struct remote_op buffer_op(uint64_t handle, enum remote_buffer_action action,
                                  const char *bytes, uint64_t drain) {
    return (struct remote_op){.kind = REMOTE_OP_BUFFER,
                              .buffer = {handle, drain, (uint8_t)action},
                              .bytes = span_of(bytes)};
}

static int64_t refused(void) {
    return stat_value(go_stats.refused_edits);
}

/* What is there now, for the coroutine. */
static int awaited(struct fake_remote *r, int *status) {
    bool prompt;
    return ext_side_await(&r->block->stream, &r->fake->x, EXT_REQUEST, RT_FOREVER, status, &prompt);
}

/* ---- changes ---- */

static void changes_story(void *arg) {
    begin();
    struct ext_taken taken;
    int status = 0;
    (void)fake_remote_lend(&one, EXT_REQUEST, EXT_HEADERS, span_none());
    int64_t before = refused();

    struct remote_result result = result_of(&one); /* from a goroutine, while the callback runs */
    result.counts = (struct go_counts){.crossings = 2, .header_bytes_from_go = 10};
    const struct remote_op early[] = {
        edit(EXT_EDIT_SET, "X-A", "two"),
        edit(EXT_EDIT_ADD, "no name", "it has a blank"),
        edit(EXT_EDIT_REMOVE, ":path", ""),
        {.kind = REMOTE_OP_ADD, .bytes = SPAN_LIT("added")},
    };
    CHECK(says(&result, early, 4) == 0);
    CHECK(refused() == before + 2);
    CHECK(!side_of(&one, EXT_REQUEST)->continued);

    result = decided(&one, GO_CONTINUE);
    result.counts = (struct go_counts){.crossings = 1, .panics = 1};
    const struct remote_op late[] = {{.kind = REMOTE_OP_CLEAR_ROUTE, .bytes = SPAN_LIT("")}};
    CHECK(says(&result, late, 1) == 0);
    CHECK(side_of(&one, EXT_REQUEST)->prompt);
    CHECK(awaited(&one, &status) == 1 && status == GO_CONTINUE);
    ext_side_take_back(&one.block->stream, EXT_REQUEST, &taken);
    struct header_map *headers = &one.fake->x.request.headers;
    CHECK(ext_edits_apply(taken.edits, EXT_REQUEST, headers, NULL) == 0);
    CHECK(span_eq(header_get_name(headers, SPAN_LIT("x-a")), SPAN_LIT("two")));
    CHECK(taken.clear_route && !taken.refresh_route);
    CHECK(ext_buffers_bytes(&taken.added) == 5);
    ext_taken_fini(&taken);
    CHECK(one.block->counts.crossings == 3 && one.block->counts.panics == 1 &&
          one.block->counts.header_bytes_from_go == 10);

    /* It has come back: what is said of it now is void. */
    result = result_of(&one);
    CHECK(says(&result, early, 4) == 0);
    CHECK(!side_of(&one, EXT_REQUEST)->edits && !side_of(&one, EXT_REQUEST)->added.head);
    CHECK(refused() == before + 2);
    end();
}

static void changes_are_done_and_a_decision_ends_the_loan(void **state) {
    story(1, changes_story);
}

static void body_story(void *arg) {
    begin();
    int status = 0;
    uint64_t handle = fake_remote_lend(&one, EXT_REQUEST, EXT_BODY, SPAN_LIT("body"));
    uint64_t others = fake_remote_lend(&two, EXT_REQUEST, EXT_BODY, SPAN_LIT("untouched"));
    int64_t before = refused();
    const struct remote_op ops[] = {
        buffer_op(handle, REMOTE_BUFFER_APPEND, "-end", 0),
        buffer_op(handle, REMOTE_BUFFER_DRAIN, "", 2),
        buffer_op(handle, REMOTE_BUFFER_PREPEND, "bo", 0),
        buffer_op(others, REMOTE_BUFFER_SET, "hers", 0),
        buffer_op(handle + 1, REMOTE_BUFFER_SET, "nobody's", 0),
        buffer_op(0, REMOTE_BUFFER_DRAIN, "", UINT64_MAX),
        {.kind = REMOTE_OP_ADD, .bytes = SPAN_LIT("out of its phase")},
    };
    struct remote_result result = result_of(&one);
    CHECK(says(&result, ops, 7) == 0);
    CHECK(refused() == before + 4);
    const struct ext_buffer *buffer = side_of(&one, EXT_REQUEST)->shown.last;
    CHECK(span_eq(span_make(buffer->data, buffer->len), SPAN_LIT("body-end")));
    buffer = side_of(&two, EXT_REQUEST)->shown.last;
    CHECK(span_eq(span_make(buffer->data, buffer->len), SPAN_LIT("untouched")));

    const struct remote_op all[] = {buffer_op(handle, REMOTE_BUFFER_SET, "new", 0),
                                    buffer_op(handle, REMOTE_BUFFER_DRAIN, "", UINT64_MAX)};
    result = decided(&one, GO_STOP_NO_BUFFER);
    CHECK(says(&result, all, 2) == 0);
    CHECK(side_of(&one, EXT_REQUEST)->shown.last->len == 0);
    CHECK(awaited(&one, &status) == 1 && status == GO_STOP_NO_BUFFER);
    end();
}

static void a_buffer_is_changed_by_its_handle_only(void **state) {
    story(1, body_story);
}

static bool goes_along(enum ext_direction direction) {
    return atomic_load(&fake_go.config.remote.looks_at_bodies[direction]);
}

static void shows_a_piece(enum ext_direction direction, struct span bytes, bool looks) {
    struct ext_taken taken;
    (void)fake_remote_lend(&one, direction, EXT_BODY, bytes);
    struct remote_result result = decided(&one, GO_CONTINUE);
    result.direction = (uint8_t)direction;
    result.counts.body_bytes_to_go = looks ? bytes.len : 0;
    CHECK(says(&result, NULL, 0) == 0);
    ext_side_take_back(&one.block->stream, direction, &taken);
    CHECK(taken.looked_at == looks);
    ext_taken_fini(&taken);
    ext_side_release(&one.block->stream, direction, NULL);
}

/* A plugin that reads requests and lets responses pass would be guessed wrong each time, were there one guess. */
static void guess_story(void *arg) {
    begin();
    shows_a_piece(EXT_REQUEST, SPAN_LIT("read"), true);
    shows_a_piece(EXT_REQUEST, SPAN_LIT(""),
                  false); /* the end, of which nobody has anything to look at */
    shows_a_piece(EXT_RESPONSE, SPAN_LIT("passes"), false);
    CHECK(goes_along(EXT_REQUEST) && !goes_along(EXT_RESPONSE));
    shows_a_piece(EXT_REQUEST, SPAN_LIT("passes now"), false);
    CHECK(!goes_along(EXT_REQUEST));
    end();
}

static void what_is_guessed_of_bodies(void **state) {
    story(1, guess_story);
}

/* What is ahead of headers is changed by its handle, and decided as a body is; the host says how far it came. */
static void ahead_story(void *arg) {
    begin();
    int status = 0;
    struct ext_taken taken;
    const struct ext_loan loan = {.phase = EXT_HEADERS, .headers = &one.fake->x.request.headers};
    struct ext_buffer *piece = ext_buffer_new(SPAN_LIT("piece"));
    struct ext_stream *stream = &one.block->stream;
    uint64_t none;
    CHECK(piece);
    CHECK(ext_side_lend(stream, &one.fake->x, EXT_REQUEST, &loan, &none) == 0);
    CHECK(ext_side_lend_more(stream, rt_p_index(), EXT_REQUEST, piece) == 0);
    CHECK(remote_lane_send(&one.remote.party, REMOTE_LEND, SPAN_LIT("lend"), RT_FOREVER) == 0);

    struct remote_result result = decided(&one, GO_STOP_NO_BUFFER);
    CHECK(says(&result, NULL, 0) == -EPROTO); /* headers are not dropped */
    result.returned = false;
    result.calls = 1;
    CHECK(says(&result, NULL, 0) == -EPROTO); /* nothing was offered */
    one.remote.ahead[EXT_REQUEST].offered = REMOTE_AHEAD_WHOLE;
    result.calls = 2;
    CHECK(says(&result, NULL, 0) == -EPROTO); /* not so much */
    result.decided = false;
    result.calls = 1;
    const struct remote_op ops[] = {edit(EXT_EDIT_SET, "x-a", "two"),
                                    buffer_op(piece->handle, REMOTE_BUFFER_APPEND, "-end", 0)};
    CHECK(says(&result, ops, 2) == 0);
    CHECK(one.remote.ahead[EXT_REQUEST].calls == 1);
    result.calls = 0;
    CHECK(says(&result, NULL, 0) == 0); /* said of another side's change */
    result.decided = true;
    CHECK(says(&result, NULL, 0) == 0);
    CHECK(awaited(&one, &status) == 1 && status == GO_STOP_NO_BUFFER);
    CHECK(span_eq(span_make(piece->data, piece->len), SPAN_LIT("piece-end")));
    ext_side_take_back(stream, EXT_REQUEST, &taken);
    CHECK(taken.edits && !taken.edits->next);
    ext_taken_fini(&taken);
    CHECK(ext_side_recall_newest(stream, EXT_REQUEST) == piece && !piece->handle);
    ext_buffer_free(piece);
    end();
}

static void what_is_ahead_of_headers_is_decided_as_a_body(void **state) {
    story(1, ahead_story);
}

static const struct ext_reply *replied(struct fake_remote *r) {
    int status;
    CHECK(awaited(r, &status) == 2);
    return side_of(r, EXT_REQUEST)->reply;
}

static void reply_story(void *arg) {
    begin();
    struct remote_out headers = {0};
    remote_put_reply_header(&headers, SPAN_LIT("X-Up"), SPAN_LIT("yes"));
    remote_put_reply_header(&headers, SPAN_LIT("content-length"), SPAN_LIT("7"));
    (void)fake_remote_lend(&one, EXT_REQUEST, EXT_HEADERS, span_none());
    const struct remote_op ops[] = {
        {.kind = REMOTE_OP_REPLY_BODY, .bytes = SPAN_LIT("in ")},
        {.kind = REMOTE_OP_REPLY_BODY, .bytes = SPAN_LIT("three ")},
        {.kind = REMOTE_OP_REPLY,
         .reply = {.status = 7,
                   .grpc_status = 3,
                   .details = SPAN_LIT("why"),
                   .header_count = UINT32_MAX, /* there are two */
                   .headers = {headers.data, headers.len}},
         .bytes = SPAN_LIT("parts")},
    };
    struct remote_result result = result_of(&one);
    result.returned = true;
    CHECK(says(&result, ops, 3) == 0);
    remote_out_fini(&headers);
    const struct ext_reply *reply = replied(&one);
    CHECK(reply->status == 500 && reply->grpc_status == 3 && !reply->panic);
    CHECK(span_eq(reply->body, SPAN_LIT("in three parts")));
    CHECK(span_eq(reply->details, SPAN_LIT("why")));
    CHECK(reply->header_count == 1);
    CHECK(span_eq(header_name(&reply->headers[0]), SPAN_LIT("x-up")));
    CHECK(one.remote.reply.len == 0);
    CHECK(decides(&two, GO_CONTINUE) == -EPROTO); /* it has no callback to return from */
    end();
}

static void a_reply_comes_in_parts(void **state) {
    story(1, reply_story);
}

/* A body that is cut would look whole to the client. */
static void large_reply_story(void *arg) {
    begin();
    enum { PART = 1 << 20 };
    char *part = calloc(1, PART);
    CHECK(part);
    (void)fake_remote_lend(&one, EXT_REQUEST, EXT_HEADERS, span_none());
    const struct remote_op more = {.kind = REMOTE_OP_REPLY_BODY, .bytes = {part, PART}};
    const struct remote_op last[] = {
        {.kind = REMOTE_OP_REPLY_BODY, .bytes = SPAN_LIT("!")},
        {.kind = REMOTE_OP_REPLY, .reply = {.status = 200}, .bytes = SPAN_LIT("")}};
    struct remote_result result = result_of(&one);
    for (size_t sent = 0; sent < EXT_ADDED_BYTES_MAX; sent += PART)
        CHECK(says(&result, &more, 1) == 0);
    CHECK(one.remote.reply.len == EXT_ADDED_BYTES_MAX);
    int64_t before = refused();
    CHECK(says(&result, last, 2) == 0);
    CHECK(refused() == before + 2);
    const struct ext_reply *reply = replied(&one);
    CHECK(reply->status == 500 && reply->body.len == 0 && reply->header_count == 0);
    CHECK(span_eq(reply->details, SPAN_LIT("golang_reply_too_large")));
    CHECK(one.remote.reply.room == 0 && !one.remote.reply.failed);
    free(part);
    end();
}

static void a_reply_that_is_too_large_is_not_cut(void **state) {
    story(1, large_reply_story);
}

/* ---- nonsense ---- */

static void nonsense_story(void *arg) {
    begin();
    static const int bad[] = {GO_STOP_NO_BUFFER, GO_RUNNING, -1, 99, INT32_MIN};
    (void)fake_remote_lend(&one, EXT_REQUEST, EXT_HEADERS, span_none());
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct remote_result result = decided(&one, bad[i]);
        result.returned = false;
        CHECK(says(&result, NULL, 0) == -EPROTO);
        CHECK(!side_of(&one, EXT_REQUEST)->continued);
    }
    CHECK(remote_lane_hear(host.lane, REMOTE_RESULT, SPAN_LIT("short")) == -EPROTO);
    CHECK(remote_lane_hear(host.lane, REMOTE_ASK, SPAN_LIT("")) == -EPROTO);
    CHECK(remote_lane_hear(host.lane, REMOTE_LEND, SPAN_LIT("ours")) == -EPROTO);
    CHECK(remote_lane_hear(host.lane, 0, SPAN_LIT("")) == -EPROTO);
    struct remote_out out = {0}; /* a log that is off has no level that is always on */
    remote_put_text(&out, &(struct remote_text){.level = LOG_OFF, .text = SPAN_LIT("loud")});
    CHECK(fake_remote_hear(&host, REMOTE_TEXT, &out) == -EPROTO);
    remote_put_ask(&out, &(struct remote_ask){.slot = UINT32_MAX,
                                              .question = REMOTE_ASK_TEXT,
                                              .a = SPAN_LIT(""),
                                              .b = SPAN_LIT(""),
                                              .c = SPAN_LIT("")});
    CHECK(fake_remote_hear(&host, REMOTE_ASK, &out) == -EPROTO);

    CHECK(decides(&one, GO_CONTINUE) == 0);
    CHECK(decides(&one, GO_CONTINUE) == -EPROTO); /* it returns once */
    end();
}

static void what_no_host_of_ours_says_ends_it(void **state) {
    story(1, nonsense_story);
}

/* ---- questions to cluster specifiers ---- */

static struct {
    unsigned heard, lost;
    char name[16];
} asker;

static int hears_a_name(struct remote_party *party, const struct remote_named *named) {
    asker.heard++;
    (void)snprintf(asker.name, sizeof asker.name, "%.*s", (int)named->name.len, named->name.ptr);
    return 0;
}

static void is_lost(struct remote_party *party) {
    CHECK(!party->lane);
    asker.lost++;
}

static int names(uint64_t number, const char *name) {
    struct remote_out out = {0};
    struct span text = span_of(name);
    remote_put_named(&out, &(struct remote_named){.number = number, .len = text.len, .name = text});
    return fake_remote_hear(&host, REMOTE_NAMED, &out);
}

static void names_story(void *arg) {
    static const struct remote_party_itab itab = {.named = hears_a_name, .lose = is_lost};
    begin();
    struct remote_party party = {.itab = &itab, .plugin = fake_go.config.plugin};
    CHECK(remote_lane_enter(host.lane, &party, true) == 0);
    CHECK(names(party.number, "early") == -EPROTO); /* nobody has asked */
    CHECK(remote_lane_send(&party, REMOTE_SPECIFY, SPAN_LIT("specify"), RT_FOREVER) == 0);
    CHECK(names(party.number ^ (1ULL << 32), "of another") == 0 && asker.heard == 0);
    CHECK(names(party.number, "alpha") == 0);
    CHECK(asker.heard == 1 && strcmp(asker.name, "alpha") == 0);
    CHECK(names(party.number, "twice") == -EPROTO);

    /* Who has left does not hear it; what it left behind is over then. */
    CHECK(remote_lane_send(&party, REMOTE_SPECIFY, SPAN_LIT("specify"), RT_FOREVER) == 0);
    uint64_t left = party.number;
    remote_lane_leave(&party);
    CHECK(names(left, "late") == 0 && asker.heard == 1);
    CHECK(names(left, "later") == 0 && asker.heard == 1);

    /* Each kind is told what is of its kind. */
    CHECK(remote_lane_enter(host.lane, &party, true) == 0);
    CHECK(remote_lane_send(&party, REMOTE_SPECIFY, SPAN_LIT("specify"), RT_FOREVER) == 0);
    const struct remote_result result = {.number = party.number};
    CHECK(says(&result, NULL, 0) == -EPROTO);
    (void)fake_remote_lend(&one, EXT_REQUEST, EXT_HEADERS, span_none());
    CHECK(names(one.remote.party.number, "of an exchange") == -EPROTO);
    fake_remote_host_close(&host);
    CHECK(asker.lost == 1 && !party.lane && party.unheard);
    end();
}

static void names_go_to_who_asked(void **state) {
    story(1, names_story);
}

/* ---- what the library logs ---- */

static void text_story(void *arg) {
    begin();
    static const char said[] = "first\n[critical] forged\n\nlast";
    char got[2000];
    int pipes[2], kept = dup(STDERR_FILENO);
    CHECK(pipe(pipes) == 0 && dup2(pipes[1], STDERR_FILENO) >= 0);
    struct remote_out out = {0};
    remote_put_text(&out, &(struct remote_text){.level = LOG_ERROR, .text = span_of(said)});
    int err = fake_remote_hear(&host, REMOTE_TEXT, &out);
    CHECK(dup2(kept, STDERR_FILENO) >= 0 && err == 0);
    (void)close(kept);
    (void)close(pipes[1]);
    ssize_t n = read(pipes[0], got, sizeof got - 1);
    CHECK(n > 0);
    (void)close(pipes[0]);
    got[n] = 0;
    unsigned lines = 0, of_the_proxy = 0;
    for (char *rest = got, *line; (line = strsep(&rest, "\n")) && rest; lines++)
        of_the_proxy += strstr(line, "[error][") != NULL;
    CHECK(lines == 4 && of_the_proxy == 4);
    end();
}

static void each_line_of_a_text_is_marked(void **state) {
    story(1, text_story);
}

/* ---- exchanges that are over ---- */

static void over_story(void *arg) {
    begin();
    const struct remote_op op = edit(EXT_EDIT_SET, "x-a", "two");
    (void)fake_remote_lend(&one, EXT_REQUEST, EXT_HEADERS, span_none());
    ext_side_abandon(&one.block->stream, EXT_REQUEST);
    int64_t before = refused();
    struct remote_result result = decided(&one, GO_CONTINUE);
    result.returned = false;
    CHECK(says(&result, &op, 1) == 0);
    CHECK(!side_of(&one, EXT_REQUEST)->edits && !side_of(&one, EXT_REQUEST)->continued);
    CHECK(refused() == before); /* it could not know */

    /* Nor does its log open it again for data. */
    const struct header_map *maps[2][2] = {{&one.fake->x.request.headers, NULL}, {NULL, NULL}};
    struct ext_edit *edits[2];
    const struct remote_op add = {.kind = REMOTE_OP_ADD, .bytes = SPAN_LIT("late")};
    ext_stream_open_log(&one.block->stream, &one.fake->x, maps, true);
    result.decided = false;
    CHECK(says(&result, &add, 1) == 0);
    CHECK(!side_of(&one, EXT_REQUEST)->added.head);
    CHECK(refused() == before + 1);
    ext_stream_close_log(&one.block->stream, edits);
    CHECK(!edits[0] && !edits[1]);

    /* The exchange ends while its callback runs: the number finds nobody, the return is heard. */
    const struct remote_result late = decided(&one, GO_CONTINUE);
    fake_remote_free(&one);
    CHECK(says(&result, &op, 1) == 0);
    fake_remote_new(&one);
    fake_remote_enter(&one, &host);
    CHECK(remote_number_index(one.remote.party.number) != remote_number_index(late.number));
    CHECK(says(&late, &op, 1) == 0);
    CHECK(says(&late, &op, 1) == 0); /* of nobody at all now */

    /* The next one in its place is another. */
    fake_remote_free(&two);
    fake_remote_new(&two);
    fake_remote_enter(&two, &host);
    (void)fake_remote_lend(&two, EXT_REQUEST, EXT_HEADERS, span_none());
    result.number = two.remote.party.number - (1ULL << 32); /* as it was */
    CHECK(says(&result, &op, 1) == 0);
    result.number = two.remote.party.number ^ 1ULL << REMOTE_INDEX_BITS; /* of another P */
    CHECK(says(&result, &op, 1) == 0);
    result.number = remote_number(0, REMOTE_STREAMS_MAX - 1, 1);
    CHECK(says(&result, &op, 1) == 0);
    CHECK(!side_of(&two, EXT_REQUEST)->edits && !side_of(&two, EXT_REQUEST)->continued);
    end();
}

static void who_is_over_hears_nothing(void **state) {
    story(1, over_story);
}

static _Atomic bool waits, went_on;
static int waited_status;

static void awaits(void *arg) {
    waits = true;
    CHECK(awaited(&one, &waited_status) == 1);
    went_on = true;
}

static void lost_story(void *arg) {
    begin();
    (void)fake_remote_lend(&one, EXT_REQUEST, EXT_HEADERS, span_none());
    (void)fake_remote_lend(&two, EXT_REQUEST, EXT_HEADERS, span_none());
    CHECK(decides(&two, GO_CONTINUE) == 0);
    CHECK(go_here("awaits", awaits, NULL) == 0);
    STORY_AWAIT(waits);
    CHECK(!went_on);
    fake_remote_host_close(&host);
    STORY_AWAIT(went_on);
    CHECK(waited_status == GO_CONTINUE && one.remote.undecided[EXT_REQUEST]);
    CHECK(!one.remote.undecided[EXT_RESPONSE]);
    CHECK(one.remote.party.unheard && !one.remote.party.lost &&
          !one.remote.party.lane);             /* nobody read its ring */
    CHECK(!two.remote.undecided[EXT_REQUEST]); /* it had decided before */
    end();
}

static void a_lost_host_leaves_its_loans_undecided(void **state) {
    story(1, lost_story);
}

/* ---- questions ---- */

static struct remote_answer answer;
static void *memory;

static bool asks(struct fake_remote *r, enum remote_question question, const char *a, const char *b,
                 struct span c, uint64_t n, uint64_t m) {
    const struct remote_ask ask = {.subject = r->remote.party.number,
                                   .question = (uint8_t)question,
                                   .n = n,
                                   .m = m,
                                   .a = span_of(a),
                                   .b = span_of(b),
                                   .c = c};
    free(memory);
    r->remote.party.itab->answer(&r->remote.party, &ask, 100, &answer, &memory);
    return answer.code == GO_OK;
}

static bool says_text(const char *text) {
    return span_eq(answer.text, span_of(text));
}

static void questions_story(void *arg) {
    begin();
    const struct span none = SPAN_LIT("");
    char body[300];
    memset(body, 'b', sizeof body);
    uint64_t handle = fake_remote_lend(&one, EXT_REQUEST, EXT_BODY, span_make(body, sizeof body));
    CHECK(asks(&one, REMOTE_ASK_ATTRIBUTE, "request.headers.x-a", "", none, 0, 0));
    CHECK(says_text("one"));
    CHECK(!asks(&one, REMOTE_ASK_ATTRIBUTE, "request", "", none, 0, 0));
    CHECK(!asks(&one, REMOTE_ASK_TEXT, "", "", none, UINT64_MAX, 0));
    CHECK(!asks(&one, REMOTE_ASK_NUMBER, "", "", none, INT64_MAX, 0));

    CHECK(asks(&one, REMOTE_SET_METADATA, "ns", "k", SPAN_LIT("\032\003abc"), 0, 0));
    CHECK(answer.number == 0);
    CHECK(asks(&one, REMOTE_ASK_ATTRIBUTE, "metadata.filter_metadata.ns.k", "", none, 0, 0));
    CHECK(says_text("abc"));
    CHECK(asks(&one, REMOTE_SET_METADATA, "ns", "k", SPAN_LIT("\032\005abc"), 0, 0));
    CHECK((int64_t)answer.number < 0); /* no value: it stays what it was */
    CHECK(asks(&one, REMOTE_SET_STATE, "s", "kept", none, 0, 0) && answer.number == 0);
    CHECK(asks(&one, REMOTE_ASK_STATE, "s", "", none, 0, 0) && says_text("kept"));
    for (unsigned shift = 0; shift < 24; shift += 8) {
        CHECK(asks(&one, REMOTE_SET_STATE, "t", "no", none, 0xffULL << shift, 0));
        CHECK((int64_t)answer.number == -EINVAL);
    }

    /* As much of a body as an answer has room for, from anywhere in it, and not more. */
    CHECK(asks(&one, REMOTE_ASK_BUFFER, "", "", none, handle, 0) && answer.text.len == 100);
    CHECK(asks(&one, REMOTE_ASK_BUFFER, "", "", none, handle, 250) && answer.text.len == 50);
    CHECK(asks(&one, REMOTE_ASK_BUFFER, "", "", none, handle, 300) && answer.text.len == 0);
    CHECK(!asks(&one, REMOTE_ASK_BUFFER, "", "", none, handle, 301));
    CHECK(!asks(&one, REMOTE_ASK_BUFFER, "", "", none, handle, UINT64_MAX));
    CHECK(!asks(&one, REMOTE_ASK_BUFFER, "", "", none, handle + 1, 0));
    (void)fake_remote_lend(&two, EXT_REQUEST, EXT_HEADERS, span_none());
    CHECK(!asks(&two, REMOTE_ASK_BUFFER, "", "", none, handle, 0)); /* another's */
    CHECK(!asks(&one, REMOTE_DEFINE_METRIC, "m", "", none, 0, 0));  /* no exchange has any */

    ext_side_abandon(&one.block->stream, EXT_REQUEST);
    CHECK(!asks(&one, REMOTE_ASK_ATTRIBUTE, "request.path", "", none, 0, 0));
    CHECK(answer.code == GO_FILTER_IS_DESTROYED && answer.text.len == 0);
    CHECK(!asks(&one, REMOTE_ASK_BUFFER, "", "", none, handle, 0));
    free(memory);
    end();
}

static void questions_are_answered_while_a_side_is_lent(void **state) {
    story(1, questions_story);
}

/* ---- logs ---- */

static void awaits_log(void *arg) {
    struct remote_log_wait wait = {.g = rt_self()};
    list_push_back(&one.remote.logs, &wait.node);
    waits = true;
    while (list_is_linked(&wait.node))
        CHECK(rt_park("log", RT_FOREVER) == 0);
    went_on = true;
}

static void log_story(void *arg) {
    begin();
    struct exchange *x = &one.fake->x;
    const struct header_map *maps[2][2] = {{&x->request.headers, NULL},
                                           {&x->response.headers, NULL}};
    struct ext_edit *edits[2];
    struct remote_out out = {0};
    ext_stream_open_log(&one.block->stream, x, maps, true);
    CHECK(remote_lane_send(&one.remote.party, REMOTE_LOG, SPAN_LIT("log"), RT_FOREVER) == 0);
    CHECK(go_here("awaits a log", awaits_log, NULL) == 0);
    STORY_AWAIT(waits);
    struct remote_result result = result_of(&one);
    remote_put_result(&out, &result);
    struct remote_op op = edit(EXT_EDIT_SET, "x-a", "logged");
    remote_put_op(&out, &op);
    CHECK(fake_remote_hear(&host, REMOTE_LOGGED, &out) == 0);
    STORY_AWAIT(went_on);
    ext_stream_close_log(&one.block->stream, edits);
    CHECK(edits[0] && !edits[0]->next && !edits[1]);
    ext_edits_free(edits[0]);
    remote_put_result(&out, &result);
    CHECK(fake_remote_hear(&host, REMOTE_LOGGED, &out) == -EPROTO); /* there was one */
    end();
}

static void a_log_is_over_when_the_host_says_so(void **state) {
    story(1, log_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_are_done_and_a_decision_ends_the_loan),
        cmocka_unit_test(a_buffer_is_changed_by_its_handle_only),
        cmocka_unit_test(what_is_guessed_of_bodies),
        cmocka_unit_test(what_is_ahead_of_headers_is_decided_as_a_body),
        cmocka_unit_test(a_reply_comes_in_parts),
        cmocka_unit_test(a_reply_that_is_too_large_is_not_cut),
        cmocka_unit_test(what_no_host_of_ours_says_ends_it),
        cmocka_unit_test(names_go_to_who_asked),
        cmocka_unit_test(each_line_of_a_text_is_marked),
        cmocka_unit_test(who_is_over_hears_nothing),
        cmocka_unit_test(a_lost_host_leaves_its_loans_undecided),
        cmocka_unit_test(questions_are_answered_while_a_side_is_lent),
        cmocka_unit_test(a_log_is_over_when_the_host_says_so),
    };
    return cmocka_run_group_tests(tests, fake_stats_init, NULL);
}
