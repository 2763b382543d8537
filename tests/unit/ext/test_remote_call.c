/* remote_call.c: records of calls of filters in C say what was put into them, and nothing else passes. */
#include "remote_record.h"

#include "base/stats.h"
#include "ext/remote/remote_call.h"

enum { ENTRIES = 16 };

static struct header entries[ENTRIES];

static int reads_call(struct span record) {
    struct remote_call call;
    return remote_read_call(record, entries, ENTRIES, &call);
}
static int reads_want(struct span record) {
    struct remote_want want;
    return remote_read_want(record, &want);
}

static void calls_arrive(void **state) {
    struct header own[] = {header_make(HDR_OTHER, SPAN_LIT("x-a"), SPAN_LIT("one")),
                           header_make(HDR_PATH, header_name_of(HDR_PATH), SPAN_LIT("/"))};
    struct remote_call got, call = {.number = 7,
                                    .id = 3,
                                    .function = REMOTE_REQUEST,
                                    .bodies = {true, false},
                                    .config_id = 9,
                                    .handle = 11,
                                    .error = -5,
                                    .bytes = SPAN_LIT("run"),
                                    .shown = true,
                                    .maps = {{own, 2, 12}}};
    struct remote_out out = {0};
    remote_put_call(&out, &call);
    assert_true(remote_read_call(bytes_of(&out), entries, ENTRIES, &got) == 0);
    assert_true(got.number == 7 && got.id == 3 && got.function == REMOTE_REQUEST &&
                got.error == -5);
    assert_true(got.bodies[0] && !got.bodies[1] && got.config_id == 9 && got.handle == 11);
    assert_true(got.maps[0].count == 2 && !got.maps[1].entries);
    assert_true(span_eq(header_value(&got.maps[0].entries[0]), SPAN_LIT("one")));
    assert_true(span_eq(header_name(&got.maps[0].entries[1]), SPAN_LIT(":path")));
    assert_true(remote_read_call(bytes_of(&out), entries, 1, &got) ==
                -EPROTO); /* no room for both */
    is_refused_when_cut(&out, reads_call);
    remote_out_fini(&out);
}

static void a_hosts_words_are_checked(void **state) {
    struct remote_out out = {0}, edits = {0}, counts = {0};
    const struct remote_edit edit = {
        .part = 1, .kind = REMOTE_EDIT_ADD, .name = SPAN_LIT("x-b"), .value = SPAN_LIT("two")};
    const struct remote_count count = {
        .kind = STAT_GAUGE, .is_set = true, .value = -4, .name = SPAN_LIT("native.a.b")};
    remote_put_edit(&edits, &edit);
    remote_put_count(&counts, &count);
    const struct remote_return said = {.number = 1,
                                       .id = 2,
                                       .ending = REMOTE_FAULTED,
                                       .rc = -12,
                                       .merges = 3,
                                       .edits = bytes_of(&edits),
                                       .bytes = SPAN_LIT("abc"),
                                       .counts = bytes_of(&counts)};
    remote_put_return(&out, &said);
    struct remote_return got;
    assert_true(remote_read_return(bytes_of(&out), &got) == 0);
    assert_true(got.ending == REMOTE_FAULTED && got.rc == -12 && got.merges == 3);
    struct remote_edit one;
    struct span rest = got.edits;
    assert_true(remote_next_edit(&rest, &one) == 1 && one.part == 1 && one.kind == REMOTE_EDIT_ADD);
    assert_true(span_eq(one.value, SPAN_LIT("two")) && remote_next_edit(&rest, &one) == 0);
    struct remote_count two;
    rest = got.counts;
    assert_true(remote_next_count(&rest, &two) == 1 && two.is_set && two.value == -4);
    assert_true(remote_next_count(&rest, &two) == 0);
    rest = span_make(got.edits.ptr, got.edits.len - 1);
    assert_true(remote_next_edit(&rest, &one) == -EPROTO);
    out.data[12] = REMOTE_ENDINGS;
    assert_true(remote_read_return(bytes_of(&out), &got) == -EPROTO);
    remote_out_clear(&out);
    const struct remote_want want = {.number = 1,
                                     .id = 2,
                                     .question = REMOTE_WANT_BODY_NEXT,
                                     .part = 1,
                                     .n = 5,
                                     .a = SPAN_LIT("a"),
                                     .b = SPAN_LIT("b"),
                                     .c = SPAN_LIT("c"),
                                     .edits = SPAN_LIT("")};
    struct remote_want asked;
    remote_put_want(&out, &want);
    assert_true(remote_read_want(bytes_of(&out), &asked) == 0 && asked.n == 5 && asked.part == 1);
    is_refused_when_cut(&out, reads_want);
    out.data[12] = 0; /* no question */
    assert_true(remote_read_want(bytes_of(&out), &asked) == -EPROTO);
    out.data[12] = REMOTE_WANTS;
    assert_true(remote_read_want(bytes_of(&out), &asked) == -EPROTO);
    remote_out_fini(&out);
    remote_out_fini(&edits);
    remote_out_fini(&counts);
}

static void what_is_given_arrives(void **state) {
    struct remote_out out = {0};
    struct header own[] = {header_make(HDR_OTHER, SPAN_LIT("x-end"), SPAN_LIT("yes"))};
    const struct remote_give give = {.number = 1,
                                     .id = 2,
                                     .alive = true,
                                     .rc = -2,
                                     .value = 6,
                                     .text = SPAN_LIT("text"),
                                     .trailers = {own, 1, 8}};
    struct remote_give got;
    remote_put_give(&out, &give);
    assert_true(remote_read_give(bytes_of(&out), entries, ENTRIES, &got) == 0);
    assert_true(got.alive && got.rc == -2 && got.value == 6 && got.trailers.count == 1);
    remote_out_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_arrive),
        cmocka_unit_test(a_hosts_words_are_checked),
        cmocka_unit_test(what_is_given_arrives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
