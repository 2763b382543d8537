/* pprof.c: its bytes, read back by another reader of protobuf and gzip than those who wrote them. What
 * `go tool pprof` makes of them is tests/e2e/test_profiles.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#include "admin/pprof.h"
#include "rt/labels.h"
#include "rt/symbol.h"

/* ---- Names for three addresses ---- */

enum { LEAF = 0x1000, CALL = 0x2000, TOP = 0x3000 };

static unsigned find(uintptr_t pc, struct symbol *out, unsigned max) {
    switch (pc) {
    case LEAF:
        out[0] = (struct symbol){"leaf", 0, "leaf.c", 300};
        return 1;
    case CALL:
        out[0] = (struct symbol){"inlined", 0, "call.h", 7};
        out[1] = (struct symbol){"outer", 4, "call.c", 9};
        return 2;
    case TOP:
        out[0] = (struct symbol){"top", 0, NULL, 0};
        return 1;
    }
    return 0;
}
static const struct symbolizer symbolizer = {.find = find};

/* ---- A reader ---- */

struct field {
    unsigned number;
    uint64_t value;    /* of a number */
    struct span bytes; /* of a message, a string or packed numbers */
};

static uint64_t take_varint(struct span *in) {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        assert_true(in->len > 0 && shift < 64);
        unsigned char byte = (unsigned char)in->ptr[0];
        *in = span_from(*in, 1);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
}

static bool take_field(struct span *in, struct field *out) {
    if (in->len == 0)
        return false;
    uint64_t tag = take_varint(in);
    *out = (struct field){.number = (unsigned)(tag >> 3)};
    uint64_t value = take_varint(in);
    if ((tag & 7) == 0) {
        out->value = value;
    } else {
        assert_int_equal(tag & 7, 2);
        assert_true(value <= in->len);
        out->bytes = span_make(in->ptr, value);
        *in = span_from(*in, value);
    }
    return true;
}

/* The nth one (from 0) with this number; false when there are not so many. */
static bool nth(struct span message, unsigned number, unsigned n, struct field *out) {
    while (take_field(&message, out))
        if (out->number == number && n-- == 0)
            return true;
    return false;
}

static struct span bytes_of(struct span message, unsigned number, unsigned n) {
    struct field field = {0};
    assert_true(nth(message, number, n, &field));
    return field.bytes;
}

static uint64_t number_of(struct span message, unsigned number) {
    struct field field = {0};
    return nth(message, number, 0, &field) ? field.value : 0;
}

static void assert_string(struct span profile, uint64_t index, const char *expected) {
    struct span text = bytes_of(profile, 6, (unsigned)index);
    assert_int_equal(text.len, strlen(expected));
    assert_memory_equal(text.ptr, expected, text.len);
}

/* The message among those of field that has this id. */
static struct span by_id(struct span profile, unsigned field, uint64_t id) {
    struct field found;
    for (unsigned n = 0; nth(profile, field, n, &found); n++)
        if (number_of(found.bytes, 1) == id)
            return found.bytes;
    fail();
    return span_none();
}

static void assert_line(struct span profile, struct span location, unsigned n, const char *name,
                        const char *file, uint64_t number) {
    struct span line = bytes_of(location, 4, n);
    struct span function = by_id(profile, 5, number_of(line, 1));
    assert_string(profile, number_of(function, 2), name);
    assert_string(profile, number_of(function, 4), file);
    assert_int_equal(number_of(line, 2), number);
}

static char unzipped[1 << 20];

static struct span unzip(struct pprof *pprof) {
    struct text file = {0};
    pprof_write(pprof, &file);
    assert_false(file.failed);
    z_stream zip = {.next_in = (Bytef *)file.data,
                    .avail_in = (uInt)file.len,
                    .next_out = (Bytef *)unzipped,
                    .avail_out = sizeof unzipped};
    assert_int_equal(inflateInit2(&zip, 15 + 16), Z_OK); /* gzip and nothing else */
    assert_int_equal(inflate(&zip, Z_FINISH), Z_STREAM_END);
    assert_int_equal(zip.avail_in, 0);
    assert_int_equal(inflateEnd(&zip), Z_OK);
    text_fini(&file);
    return span_make(unzipped, zip.total_out);
}

/* ---- Stories ---- */

static const struct pprof_head head = {
    .values = {{"samples", "count"}, {"cpu", "nanoseconds"}},
    .value_count = 2,
    .period_type = {"cpu", "nanoseconds"},
    .period = 10000000,
};

static void a_profile_has_what_was_put_in(void **state) {
    symbol_set_finder(&symbolizer);
    struct pprof *pprof = pprof_new(&head);
    assert_non_null(pprof);
    struct labels *labels = labels_with(NULL, (struct label[]){{"route", "api"}, {"empty", ""}}, 2);
    assert_non_null(labels);
    const uintptr_t pcs[] = {LEAF, CALL + 1, TOP + 1};
    const struct stack_count stack = {
        .pcs = pcs, .depth = 3, .is_first_exact = true, .name = "downstream", .labels = labels};
    pprof_add(pprof, &stack, (int64_t[]){300, 3000000000});
    const struct stack_count unseen = {.name = "other"};
    pprof_add(pprof, &unseen, (int64_t[]){1, 10000000});
    const int64_t began_ns = 1700000000123456789, duration_ns = 5000000000;
    pprof_when(pprof, began_ns, duration_ns);
    pprof_comment(pprof, "a comment");
    labels_unref(labels);
    struct span profile = unzip(pprof);
    pprof_free(pprof);

    assert_string(profile, 0, "");
    assert_string(profile, number_of(bytes_of(profile, 1, 0), 1), "samples");
    assert_string(profile, number_of(bytes_of(profile, 1, 0), 2), "count");
    assert_string(profile, number_of(bytes_of(profile, 1, 1), 1), "cpu");
    assert_string(profile, number_of(bytes_of(profile, 11, 0), 2), "nanoseconds");
    assert_int_equal(number_of(profile, 9), began_ns);
    assert_int_equal(number_of(profile, 10), duration_ns);
    assert_int_equal(number_of(profile, 12), head.period);
    assert_string(profile, number_of(profile, 13), "a comment");

    struct span sample = bytes_of(profile, 2, 0);
    struct span ids = bytes_of(sample, 1, 0);
    struct span leaf = by_id(profile, 4, take_varint(&ids));
    assert_int_equal(number_of(leaf, 3), LEAF);
    assert_line(profile, leaf, 0, "leaf", "leaf.c", 300);
    struct span call = by_id(profile, 4, take_varint(&ids));
    assert_int_equal(number_of(call, 3), CALL); /* the call and not where it returns to */
    assert_line(profile, call, 0, "inlined", "call.h", 7);
    assert_line(profile, call, 1, "outer", "call.c", 9);
    struct span top = by_id(profile, 4, take_varint(&ids));
    assert_line(profile, top, 0, "top", "", 0);
    assert_int_equal(ids.len, 0);
    struct span values = bytes_of(sample, 2, 0);
    assert_int_equal(take_varint(&values), 300);
    assert_int_equal(take_varint(&values), 3000000000);
    assert_int_equal(values.len, 0);
    assert_string(profile, number_of(bytes_of(sample, 3, 0), 1), "coroutine");
    assert_string(profile, number_of(bytes_of(sample, 3, 0), 2), "downstream");
    assert_string(profile, number_of(bytes_of(sample, 3, 1), 1), "route");
    assert_string(profile, number_of(bytes_of(sample, 3, 1), 2), "api");
    struct field none;
    assert_false(nth(sample, 3, 2, &none));

    ids = bytes_of(bytes_of(profile, 2, 1), 1, 0);
    assert_line(profile, by_id(profile, 4, take_varint(&ids)), 0, "stack unavailable", "", 0);
}

static void what_is_loaded_has_its_place_and_its_build_id(void **state) {
    struct pprof *pprof = pprof_new(&head);
    assert_non_null(pprof);
    const uintptr_t here = (uintptr_t)what_is_loaded_has_its_place_and_its_build_id;
    const struct stack_count stack = {.pcs = &here, .depth = 1, .is_first_exact = true};
    pprof_add(pprof, &stack, (int64_t[]){1, 1});
    struct span profile = unzip(pprof);
    pprof_free(pprof);

    struct span main = bytes_of(profile, 3, 0); /* the executable is the first */
    assert_true(number_of(main, 2) <= here && here < number_of(main, 3));
    assert_int_equal(number_of(bytes_of(profile, 4, 0), 2), number_of(main, 1));
    struct span path = bytes_of(profile, 6, (unsigned)number_of(main, 5));
    assert_true(path.len > 0 && path.ptr[0] == '/');
    /* Of the C library there is one in every build. */
    struct field mapping;
    unsigned with_id = 0;
    for (unsigned n = 0; nth(profile, 3, n, &mapping); n++) {
        struct span id = bytes_of(profile, 6, (unsigned)number_of(mapping.bytes, 6));
        assert_true(id.len % 2 == 0 && strspn(id.ptr, "0123456789abcdef") >= id.len);
        with_id += id.len > 0;
    }
    assert_true(with_id > 0);
}

static void equal_things_are_written_once_however_many_there_are(void **state) {
    enum { STACKS = 5000 };
    struct pprof *pprof = pprof_new(&head);
    assert_non_null(pprof);
    for (uintptr_t i = 0; i < STACKS; i++) {
        const uintptr_t pcs[] = {LEAF, 0x100000 + 16 * i, TOP + 1};
        const struct stack_count stack = {.pcs = pcs, .depth = 3, .is_first_exact = true};
        pprof_add(pprof, &stack, (int64_t[]){1, 1});
    }
    struct span profile = unzip(pprof);
    pprof_free(pprof);
    unsigned count[14] = {0};
    for (struct field field; take_field(&profile, &field);)
        count[field.number]++;
    assert_int_equal(count[2], STACKS);
    assert_int_equal(count[4], STACKS + 2);
    assert_true(count[5] <= 3);
    assert_true(count[6] < 50);
}

static const struct told_frame told_frames[] = {
    {LEAF, (struct symbol[]){{"main.inlined", 0, "main.go", 5}, {"main.make", 0, "main.go", 12}},
     2},
    {TOP, (struct symbol[]){{"main.main", 0, "main.go", 3}}, 1},
};
static const struct told_stack told = {.frames = told_frames,
                                       .depth = 2,
                                       .labels = {{"library", "demo"}},
                                       .label_count = 1,
                                       .number = {"bytes", "", 4096}};

/* What stands at an address by our look-up and by somebody else's word are two things. */
static void a_stack_that_somebody_tells_of_has_the_names_that_it_was_told_with(void **state) {
    symbol_set_finder(&symbolizer);
    struct pprof *pprof = pprof_new(&head);
    assert_non_null(pprof);
    const uintptr_t pcs[] = {LEAF, TOP + 1};
    const struct stack_count ours = {.pcs = pcs, .depth = 2, .is_first_exact = true};
    pprof_add(pprof, &ours, (int64_t[]){1, 2});
    pprof_add_told(pprof, &told, (int64_t[]){3, 4});
    pprof_add_told(pprof, &told, (int64_t[]){30, 40});
    struct span profile = unzip(pprof);
    pprof_free(pprof);

    struct span ids = bytes_of(bytes_of(profile, 2, 0), 1, 0);
    struct span leaf = by_id(profile, 4, take_varint(&ids));
    assert_line(profile, leaf, 0, "leaf", "leaf.c", 300);
    struct span sample = bytes_of(profile, 2, 1);
    ids = bytes_of(sample, 1, 0);
    leaf = by_id(profile, 4, take_varint(&ids));
    assert_int_equal(number_of(leaf, 3), LEAF);
    assert_line(profile, leaf, 0, "main.inlined", "main.go", 5);
    assert_line(profile, leaf, 1, "main.make", "main.go", 12);
    assert_line(profile, by_id(profile, 4, take_varint(&ids)), 0, "main.main", "main.go", 3);
    struct span values = bytes_of(sample, 2, 0);
    assert_int_equal(take_varint(&values), 33);
    assert_int_equal(take_varint(&values), 44);
    assert_string(profile, number_of(bytes_of(sample, 3, 0), 2), "demo");
    assert_string(profile, number_of(bytes_of(sample, 3, 1), 1), "bytes");
    assert_int_equal(number_of(bytes_of(sample, 3, 1), 3), 4096);
    struct field none;
    assert_false(nth(profile, 2, 2, &none)); /* both were one */
}

static void a_difference_is_one_reading_negated_and_then_the_other(void **state) {
    struct pprof *pprof = pprof_new(&head);
    assert_non_null(pprof);
    struct labels *edge = labels_with(NULL, &(struct label){"listener", "edge"}, 1);
    assert_non_null(edge);
    const uintptr_t pcs[] = {LEAF, TOP + 1};
    struct stack_count same = {.pcs = pcs, .depth = 2}, grown = {.pcs = pcs, .depth = 1};
    struct stack_count other = same;
    other.labels = edge;
    for (int sign = -1; sign <= 1; sign += 2) {
        pprof_add(pprof, &same, (int64_t[]){sign * 5, sign * 500});
        pprof_add(pprof, &grown, (int64_t[]){sign * 5 + (sign > 0), sign * 500});
        pprof_add_told(pprof, &told, (int64_t[]){sign * 7, sign * 700});
    }
    pprof_add(pprof, &other, (int64_t[]){-1, -8}); /* less than before */
    struct span profile = unzip(pprof);
    pprof_free(pprof);
    labels_unref(edge);

    struct span values = bytes_of(bytes_of(profile, 2, 0), 2, 0);
    assert_int_equal(take_varint(&values), 1);
    assert_int_equal(take_varint(&values), 0);
    values = bytes_of(bytes_of(profile, 2, 1), 2, 0);
    assert_int_equal((int64_t)take_varint(&values), -1);
    assert_int_equal((int64_t)take_varint(&values), -8);
    struct field none;
    assert_false(nth(profile, 2, 2, &none)); /* the rest came to nothing */
}

static void readers_are_told_what_to_show_and_what_not(void **state) {
    struct pprof_head with_default = head;
    with_default.default_type = "samples";
    with_default.drop_frames = "malloc|free";
    struct pprof *pprof = pprof_new(&with_default);
    struct span profile = unzip(pprof);
    pprof_free(pprof);
    assert_string(profile, number_of(profile, 14), "samples");
    assert_string(profile, number_of(profile, 7), "malloc|free");
    pprof = pprof_new(&head);
    struct field none;
    profile = unzip(pprof);
    assert_false(nth(profile, 14, 0, &none));
    assert_false(nth(profile, 7, 0, &none));
    pprof_free(pprof);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_profile_has_what_was_put_in),
        cmocka_unit_test(what_is_loaded_has_its_place_and_its_build_id),
        cmocka_unit_test(equal_things_are_written_once_however_many_there_are),
        cmocka_unit_test(a_stack_that_somebody_tells_of_has_the_names_that_it_was_told_with),
        cmocka_unit_test(a_difference_is_one_reading_negated_and_then_the_other),
        cmocka_unit_test(readers_are_told_what_to_show_and_what_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
