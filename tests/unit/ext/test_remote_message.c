/* Messages between a proxy and a host process: what is written is read, and what was cut anywhere, or has more than it should, is
 * refused. */
#include "remote_record.h"

#include "ext/ext_stream.h"
#include "ext/go/go_abi.h"

enum { ENTRIES = 8 };
static struct header entries[ENTRIES];

static int reads_lend(struct span record) {
    struct remote_lend lend;
    return remote_read_lend(record, entries, ENTRIES, &lend);
}
static int reads_log(struct span record) {
    struct remote_log log;
    return remote_read_log(record, entries, ENTRIES, &log);
}
static int reads_body(struct span record) {
    struct remote_body body;
    return remote_read_body(record, &body);
}
static int reads_end(struct span record) {
    struct remote_end end;
    return remote_read_end(record, &end);
}
static int reads_ask(struct span record) {
    struct remote_ask ask;
    return remote_read_ask(record, &ask);
}
static int reads_answer(struct span record) {
    struct remote_answer answer;
    return remote_read_answer(record, &answer);
}
static int reads_metric(struct span record) {
    struct remote_metric metric;
    return remote_read_metric(record, &metric);
}
static int reads_text(struct span record) {
    struct remote_text text;
    return remote_read_text(record, &text);
}

static struct header fields[] = {
    {.value_ptr = "/path", .value_len = 5, .id = HDR_PATH},
    {.name_ptr = "x-a", .name_len = 3, .value_ptr = "one", .value_len = 3},
};
static const struct ext_view view = {fields, 2, 16};
static const struct ext_view empty_map = {fields, 0, 0};

static void test_a_loan_with_its_maps_and_bytes(void **state) {
    struct remote_out out = {0};
    struct remote_lend lend = {.stream = {remote_number(3, 70, 9), 5, 2, true},
                               .direction = EXT_RESPONSE,
                               .phase = EXT_BODY,
                               .state = GO_PROCESSING_DATA,
                               .end = true,
                               .headers = view,
                               .trailers = empty_map,
                               .buffer = 12,
                               .size = 10,
                               .carried = true,
                               .bytes = SPAN_LIT("half.")};
    struct remote_lend read;
    remote_put_lend(&out, &lend);
    assert_int_equal(remote_read_lend(bytes_of(&out), entries, ENTRIES, &read), 0);
    assert_int_equal(remote_number_p(read.stream.number), 3);
    assert_int_equal(remote_number_index(read.stream.number), 70);
    assert_int_equal(read.stream.config_id, 5);
    assert_int_equal(read.stream.worker_id, 2);
    assert_true(read.stream.lenient && read.end && read.carried);
    assert_int_equal(read.direction, EXT_RESPONSE);
    assert_int_equal(read.state, GO_PROCESSING_DATA);
    assert_int_equal(read.headers.count, 2);
    assert_span(header_name(&read.headers.entries[0]), ":path");
    assert_span(header_value(&read.headers.entries[0]), "/path");
    assert_span(header_name(&read.headers.entries[1]), "x-a");
    assert_int_equal(read.headers.bytes, 16);
    assert_non_null(read.trailers.entries); /* empty, and there */
    assert_int_equal(read.buffer, 12);
    assert_int_equal(read.size, 10);
    assert_span(read.bytes, "half.");
    /* One entry too many. */
    assert_int_equal(remote_read_lend(bytes_of(&out), entries, 1, &read), -EPROTO);
    is_whole_or_refused(&out, reads_lend);
    /* More bytes than the piece has. */
    lend.size = 4;
    remote_put_lend(&out, &lend);
    assert_int_equal(reads_lend(bytes_of(&out)), -EPROTO);
    remote_out_fini(&out);
}

static void test_headers_with_what_is_ahead(void **state) {
    struct remote_out out = {0};
    struct remote_lend lend = {.phase = EXT_HEADERS,
                               .headers = view,
                               .ahead = REMOTE_AHEAD_PIECE,
                               .buffer = 12,
                               .end_buffer = 13,
                               .size = 5,
                               .carried = true,
                               .bytes = SPAN_LIT("piece")};
    struct remote_lend read;
    remote_put_lend(&out, &lend);
    assert_int_equal(remote_read_lend(bytes_of(&out), entries, ENTRIES, &read), 0);
    assert_int_equal(read.ahead, REMOTE_AHEAD_PIECE);
    assert_int_equal(read.buffer, 12);
    assert_int_equal(read.end_buffer, 13);
    assert_span(read.bytes, "piece");
    is_whole_or_refused(&out, reads_lend);
    lend.phase = EXT_BODY; /* of which nothing is ahead */
    remote_put_lend(&out, &lend);
    assert_int_equal(reads_lend(bytes_of(&out)), -EPROTO);
    remote_out_fini(&out);
}

static void test_maps_that_are_not_shown(void **state) {
    struct remote_out out = {0};
    const struct remote_lend lend = {
        .phase = EXT_HEADERS, .state = GO_PROCESSING_HEADER, .headers = view};
    struct remote_lend read;
    remote_put_lend(&out, &lend);
    assert_int_equal(remote_read_lend(bytes_of(&out), entries, ENTRIES, &read), 0);
    assert_null(read.trailers.entries);
    is_whole_or_refused(&out, reads_lend);
}

static void test_the_other_messages_to_a_host(void **state) {
    struct remote_out out = {0};
    struct remote_log log = {.type = GO_LOG_END,
                             .complete = true,
                             .ends = true,
                             .reason = GO_DESTROY_TERMINATE},
                      read;
    log.maps[EXT_RESPONSE][1] = view;
    remote_put_log(&out, &log);
    assert_int_equal(remote_read_log(bytes_of(&out), entries, ENTRIES, &read), 0);
    assert_true(read.complete && read.ends);
    assert_int_equal(read.reason, GO_DESTROY_TERMINATE);
    assert_null(read.maps[EXT_REQUEST][0].entries);
    assert_int_equal(read.maps[EXT_RESPONSE][1].count, 2);
    is_whole_or_refused(&out, reads_log);

    remote_put_body(&out, &(struct remote_body){7, EXT_RESPONSE, SPAN_LIT("bytes")});
    is_whole_or_refused(&out, reads_body);
    remote_put_end(&out, &(struct remote_end){7, GO_DESTROY_TERMINATE});
    is_whole_or_refused(&out, reads_end);
    remote_put_end(&out, &(struct remote_end){7, GO_DESTROY_TERMINATE + 1});
    assert_int_equal(reads_end(bytes_of(&out)), -EPROTO);
    remote_out_fini(&out);
}

/* All kinds of changes, one after the other. */
static void put_changes(struct remote_out *out) {
    struct remote_out headers = {0};
    remote_put_reply_header(&headers, SPAN_LIT("x-r"), SPAN_LIT("1"));
    remote_put_reply_header(&headers, SPAN_LIT("x-s"), SPAN_LIT(""));
    const struct remote_op ops[] = {
        {.kind = REMOTE_OP_EDIT,
         .direction = EXT_RESPONSE,
         .edit = {EXT_EDIT_ADD, true, SPAN_INIT("x-a"), SPAN_INIT("v")}},
        {.kind = REMOTE_OP_ADD, .bytes = SPAN_INIT("more")},
        {.kind = REMOTE_OP_BUFFER, .buffer = {8, 3, REMOTE_BUFFER_DRAIN}, .bytes = SPAN_INIT("")},
        {.kind = REMOTE_OP_CLEAR_ROUTE, .refresh = true},
        {.kind = REMOTE_OP_REPLY_BODY, .bytes = SPAN_INIT("a")},
        {.kind = REMOTE_OP_REPLY,
         .reply = {.status = 418,
                   .panic = true,
                   .grpc_status = -1,
                   .details = SPAN_INIT("tea"),
                   .header_count = 2,
                   .headers = bytes_of(&headers)},
         .bytes = SPAN_INIT("b")},
    };
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        remote_put_op(out, &ops[i]);
    remote_out_fini(&headers);
}

static const struct remote_result result = {.number = 3,
                                            .returned = true,
                                            .decided = true,
                                            .status = -7,
                                            .took_ns = 5,
                                            .counts = {1, 2, 3, 4, 5, 6, 7, 8}};

static void test_a_result_and_its_changes(void **state) {
    struct remote_out out = {0};
    struct remote_result read;
    struct remote_in ops;
    struct remote_op op;
    struct span rest, name, value;
    remote_put_result(&out, &result);
    put_changes(&out);
    assert_int_equal(remote_read_result(bytes_of(&out), &read, &ops), 0);
    assert_int_equal(read.status, -7);
    assert_int_equal(read.counts.local_replies, 4);
    assert_int_equal(read.counts.body_bytes_from_go, 8);
    assert_int_equal(remote_next_op(&ops, &op), 1);
    assert_int_equal(op.edit.kind, EXT_EDIT_ADD);
    assert_true(op.edit.trailers);
    assert_span(op.edit.name, "x-a");
    assert_int_equal(remote_next_op(&ops, &op), 1);
    assert_span(op.bytes, "more");
    assert_int_equal(remote_next_op(&ops, &op), 1);
    assert_int_equal(op.buffer.handle, 8);
    assert_int_equal(op.buffer.drain, 3);
    assert_int_equal(remote_next_op(&ops, &op), 1);
    assert_true(op.refresh);
    assert_int_equal(remote_next_op(&ops, &op), 1);
    assert_int_equal(remote_next_op(&ops, &op), 1);
    assert_int_equal(op.reply.status, 418);
    assert_int_equal(op.reply.grpc_status, -1);
    assert_span(op.reply.details, "tea");
    rest = op.reply.headers;
    assert_true(remote_next_header(&rest, &name, &value));
    assert_span(name, "x-r");
    assert_true(remote_next_header(&rest, &name, &value));
    assert_span(value, "");
    assert_false(remote_next_header(&rest, &name, &value));
    assert_int_equal(remote_next_op(&ops, &op), 0);
    remote_out_fini(&out);
}

/* Between two changes a result may end; nowhere else. */
static void test_a_result_that_was_cut(void **state) {
    struct remote_out out = {0};
    unsigned whole = 0;
    remote_put_result(&out, &result);
    put_changes(&out);
    for (size_t len = 0; len <= out.len; len++) {
        struct remote_result read;
        struct remote_in ops;
        struct remote_op op;
        char *cut = malloc(len ? len : 1);
        assert_non_null(cut);
        memcpy(cut, out.data, len);
        int more = remote_read_result(span_make(cut, len), &read, &ops);
        while (more == 0 && (more = remote_next_op(&ops, &op)) == 1)
            more = 0;
        whole += more == 0;
        free(cut);
    }
    assert_int_equal(whole, 1 + 6);
    remote_out_fini(&out);
}

static void test_questions_and_what_nobody_waits_for(void **state) {
    struct remote_out out = {0};
    const struct remote_ask ask = {.subject = 1,
                                   .slot = 2,
                                   .question = REMOTE_SET_METADATA,
                                   .n = 4,
                                   .m = 5,
                                   .a = SPAN_INIT("space"),
                                   .b = SPAN_INIT("key"),
                                   .c = SPAN_INIT("value")};
    struct remote_ask read;
    remote_put_ask(&out, &ask);
    assert_int_equal(remote_read_ask(bytes_of(&out), &read), 0);
    assert_span(read.c, "value");
    assert_int_equal(read.m, 5);
    is_whole_or_refused(&out, reads_ask);
    remote_put_answer(&out, &(struct remote_answer){GO_VALUE_NOT_FOUND, 9, SPAN_LIT("text")});
    is_whole_or_refused(&out, reads_answer);
    remote_put_metric(&out, &(struct remote_metric){1, 2, REMOTE_METRIC_RECORD, 3});
    is_whole_or_refused(&out, reads_metric);
    remote_put_text(&out, &(struct remote_text){1, SPAN_LIT("said")});
    is_whole_or_refused(&out, reads_text);
}

static int reads_specify(struct span record) {
    struct remote_specify read;
    return remote_read_specify(record, entries, ENTRIES, &read);
}

static int reads_named(struct span record) {
    struct remote_named read;
    return remote_read_named(record, &read);
}

static void test_a_question_to_a_cluster_specifier(void **state) {
    struct remote_out out = {0};
    struct remote_specify specify, asked = {.number = 7, .config_id = 8, .headers = view};
    remote_put_specify(&out, &asked);
    assert_int_equal(remote_read_specify(bytes_of(&out), entries, ENTRIES, &specify), 0);
    assert_int_equal(specify.config_id, 8);
    assert_int_equal(specify.headers.count, view.count);
    is_whole_or_refused(&out, reads_specify);

    struct remote_named read, named = {.number = 7,
                                       .took_ns = 5,
                                       .counts = {1, 2, 3, 4, 5, 6, 7, 8},
                                       .len = 5,
                                       .name = SPAN_LIT("alpha")};
    remote_put_named(&out, &named);
    assert_int_equal(remote_read_named(bytes_of(&out), &read), 0);
    assert_span(read.name, "alpha");
    assert_int_equal(read.counts.header_bytes_to_go, 5);
    is_whole_or_refused(&out, reads_named);
}

/* Whoever uses a name need not look at its length: that is what it says it is, and what a name may have. */
static void test_names_that_are_none(void **state) {
    static char long_name[REMOTE_NAME_MAX + 1];
    static const struct {
        struct remote_named named;
        int err;
    } table[] = {
        {{.name = SPAN_INIT("")}, 0},
        {{.panicked = true, .name = SPAN_INIT("")}, 0},
        {{.len = REMOTE_NAME_MAX + 1, .name = SPAN_INIT("")}, 0},
        {{.len = UINT64_MAX, .name = SPAN_INIT("")}, 0},
        {{.len = REMOTE_NAME_MAX, .name = {long_name, REMOTE_NAME_MAX}}, 0},
        {{.len = REMOTE_NAME_MAX + 1, .name = {long_name, REMOTE_NAME_MAX + 1}}, -EPROTO},
        {{.len = 4, .name = SPAN_INIT("alpha")}, -EPROTO},
        {{.len = 0, .name = SPAN_INIT("alpha")}, -EPROTO},
        {{.len = 5, .name = SPAN_INIT("")}, -EPROTO},
        {{.panicked = true, .len = 5, .name = SPAN_INIT("alpha")}, -EPROTO},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct remote_out out = {0};
        remote_put_named(&out, &table[i].named);
        assert_int_equal(reads_named(bytes_of(&out)), table[i].err);
        remote_out_fini(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_question_to_a_cluster_specifier),
        cmocka_unit_test(test_names_that_are_none),
        cmocka_unit_test(test_a_loan_with_its_maps_and_bytes),
        cmocka_unit_test(test_headers_with_what_is_ahead),
        cmocka_unit_test(test_maps_that_are_not_shown),
        cmocka_unit_test(test_the_other_messages_to_a_host),
        cmocka_unit_test(test_a_result_and_its_changes),
        cmocka_unit_test(test_a_result_that_was_cut),
        cmocka_unit_test(test_questions_and_what_nobody_waits_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
