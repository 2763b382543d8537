/* Messages about connections: what is written is read, and what was cut anywhere, has more than it should, or names what
 * there is not, is refused. */
#include "remote_record.h"

#include "ext/remote/remote_peer_message.h"

static int reads_bytes(struct span record) {
    struct remote_peer_bytes bytes;
    return remote_read_peer_bytes(record, &bytes);
}
static int reads_call(struct span record) {
    struct remote_peer_call call;
    return remote_read_peer_call(record, &call);
}
static int reads_returned(struct span record) {
    struct remote_peer_returned returned;
    return remote_read_peer_returned(record, &returned);
}
static int reads_write(struct span record) {
    struct remote_peer_write write;
    return remote_read_peer_write(record, &write);
}
static int reads_close(struct span record) {
    struct remote_peer_close close;
    return remote_read_peer_close(record, &close);
}
static int reads_half_close(struct span record) {
    struct remote_peer_half_close half_close;
    return remote_read_peer_half_close(record, &half_close);
}

static struct remote_peer_call some_call(void) {
    return (struct remote_peer_call){.number = 11,
                                     .call = 12,
                                     .kind = GO_CALL_CONNECTION,
                                     .end = true,
                                     .what = -1,
                                     .conn_id = 13,
                                     .handle = 14,
                                     .config_id = 15,
                                     .info = {SPAN_LIT("127.0.0.1:1"), SPAN_LIT("127.0.0.1:2")},
                                     .bytes = SPAN_LIT("bytes")};
}

static void test_a_call_with_its_bytes(void **state) {
    struct remote_out out = {0};
    struct remote_peer_call read, call = some_call();
    remote_put_peer_call(&out, &call);
    assert_int_equal(remote_read_peer_call(bytes_of(&out), &read), 0);
    assert_int_equal(read.number, 11);
    assert_int_equal(read.call, 12);
    assert_int_equal(read.kind, GO_CALL_CONNECTION);
    assert_true(read.end && !read.last);
    assert_int_equal(read.what, -1);
    assert_int_equal(read.conn_id, 13);
    assert_int_equal(read.handle, 14);
    assert_int_equal(read.config_id, 15);
    assert_span(read.info[GO_PEER_REMOTE], "127.0.0.1:2");
    assert_span(read.bytes, "bytes");
    is_whole_or_refused(&out, reads_call);

    remote_put_peer_bytes(&out, &(struct remote_peer_bytes){11, SPAN_LIT("more")});
    is_whole_or_refused(&out, reads_bytes);
}

static void test_a_call_of_no_kind_or_of_an_address_that_is_none(void **state) {
    static const char much[ADDRESS_TEXT_MAX + 1];
    struct remote_out out = {0};
    struct remote_peer_call call = some_call();
    call.kind = GO_CALL_UPSTREAM_EVENT + 1;
    remote_put_peer_call(&out, &call);
    assert_int_equal(reads_call(bytes_of(&out)), -EPROTO);
    remote_out_clear(&out);
    call = some_call();
    call.info[0] = span_make(much, sizeof much);
    remote_put_peer_call(&out, &call);
    assert_int_equal(reads_call(bytes_of(&out)), -EPROTO);
    remote_out_fini(&out);
}

static void test_what_the_host_says_of_a_connection(void **state) {
    struct remote_out out = {0};
    const struct remote_peer_returned returned = {
        .call = 1, .status = 2, .took_ns = 3, .crossings = 4, .wrote_to = 5};
    struct remote_peer_returned read;
    remote_put_peer_returned(&out, &returned);
    assert_int_equal(remote_read_peer_returned(bytes_of(&out), &read), 0);
    assert_int_equal(read.call, 1);
    assert_int_equal(read.status, 2);
    assert_int_equal(read.took_ns, 3);
    assert_int_equal(read.crossings, 4);
    assert_int_equal(read.wrote_to, 5);
    is_whole_or_refused(&out, reads_returned);
    remote_put_peer_close(&out, &(struct remote_peer_close){1, GO_CLOSE_RESET});
    is_whole_or_refused(&out, reads_close);
    remote_put_peer_close(&out, &(struct remote_peer_close){1, GO_CLOSE_RESET + 1});
    assert_int_equal(reads_close(bytes_of(&out)), -EPROTO);
    remote_out_clear(&out);
    remote_put_peer_half_close(&out, &(struct remote_peer_half_close){1, true});
    is_whole_or_refused(&out, reads_half_close);
}

/* Its bytes are what is left of the record. */
static void test_a_part_of_what_was_written(void **state) {
    struct remote_out out = {0};
    struct remote_peer_write read;
    remote_put_peer_write(&out, &(struct remote_peer_write){.number = 7, .left = 9, .end = true});
    is_refused_when_cut(&out, reads_write);
    remote_out_put(&out, SPAN_LIT("part"));
    assert_int_equal(remote_read_peer_write(bytes_of(&out), &read), 0);
    assert_int_equal(read.number, 7);
    assert_int_equal(read.left, 9);
    assert_true(read.end);
    assert_span(read.bytes, "part");
    remote_out_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_with_its_bytes),
        cmocka_unit_test(test_a_call_of_no_kind_or_of_an_address_that_is_none),
        cmocka_unit_test(test_what_the_host_says_of_a_connection),
        cmocka_unit_test(test_a_part_of_what_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
