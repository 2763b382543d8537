/* pprof_read.c: what was written by pprof.c, by hand, and by nobody who means well. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin/pprof_read.h"

static const struct pprof_type wanted[] = {{"inuse_space", "bytes"}, {"alloc_space", "bytes"}};

/* What was told, as text that a test can name whole. */
static struct text told;

static void note(void *arg, const struct told_stack *stack, const int64_t *values) {
    for (unsigned i = 0; i < stack->depth; i++)
        for (unsigned k = 0; k < stack->frames[i].count; k++) {
            const struct symbol *symbol = &stack->frames[i].symbols[k];
            text_printf(&told, "%s%s@%s:%u", i || k ? (k ? "<" : " ") : "", symbol->function,
                        symbol->file ? symbol->file : "-", symbol->line);
        }
    for (unsigned i = 0; i < stack->label_count; i++)
        text_printf(&told, " %s=%s", stack->labels[i].key, stack->labels[i].value);
    if (stack->number.key)
        text_printf(&told, " %s:%lld", stack->number.key, (long long)stack->number.value);
    text_printf(&told, " %lld %lld\n", (long long)values[0], (long long)values[1]);
}

static int read_profile(struct span file) {
    told.len = 0;
    return pprof_read(file, wanted, 2, note, NULL);
}

static void assert_told(const char *expected) {
    text_putc(&told, '\0');
    assert_false(told.failed);
    assert_string_equal(told.data, expected);
}

static const struct pprof_head head = {
    .values = {{"alloc_objects", "count"}, {"alloc_space", "bytes"}, {"inuse_space", "bytes"}},
    .value_count = 3,
};
static const struct told_frame frames[] = {
    {0x10, (struct symbol[]){{"inlined", 0, "a.go", 7}, {"outer", 0, "a.go", 9}}, 2},
    {0x20, (struct symbol[]){{"main", 0, "m.go", 1}}, 1},
};

static struct text written(void) {
    struct pprof *pprof = pprof_new(&head);
    assert_non_null(pprof);
    struct told_stack stack = {.frames = frames,
                               .depth = 2,
                               .labels = {{"library", "x"}},
                               .label_count = 1,
                               .number = {"bytes", "", 512}};
    pprof_add_told(pprof, &stack, (int64_t[]){3, 300, -1});
    stack = (struct told_stack){.frames = frames + 1, .depth = 1};
    pprof_add_told(pprof, &stack, (int64_t[]){1, 1LL << 40, 8});
    struct text file = {0};
    pprof_write(pprof, &file);
    assert_false(file.failed);
    pprof_free(pprof);
    return file;
}

static void what_was_written_is_read(void **state) {
    struct text file = written();
    assert_int_equal(read_profile(text_span(&file)), 0);
    assert_told("inlined@a.go:7<outer@a.go:9 main@m.go:1 library=x bytes:512 -1 300\n"
                "main@m.go:1 8 1099511627776\n");
    text_fini(&file);
}

/* A message of a profile, by hand: sample type inuse_space/bytes, numbers that are not packed, ids in no
 * order, a field of another kind in between, a location without lines. */
#define PROFILE_BY_HAND                                                                            \
    "\x32\x00" /* string 0 */                                                                      \
    "\x32\x0b"                                                                                     \
    "inuse_space"                                                                                  \
    "\x32\x05"                                                                                     \
    "bytes"                                                                                        \
    "\x32\x01"                                                                                     \
    "f"                                                                                            \
    "\x0a\x04\x08\x01\x10\x02"             /* sample type */                                       \
    "\x12\x06\x08\x09\x08\x03\x10\x05"     /* locations 9 and 3; value 5 */                        \
    "\x22\x06\x08\x09\x22\x02\x08\x07"     /* location 9: function 7 */                            \
    "\x79\x01\x02\x03\x04\x05\x06\x07\x08" /* a number of eight bytes */                           \
    "\x22\x02\x08\x03"                     /* location 3 */                                        \
    "\x2a\x04\x08\x07\x10\x03"             /* function 7 */

static void the_order_of_fields_means_nothing(void **state) {
    assert_int_equal(read_profile(SPAN_LIT(PROFILE_BY_HAND)), 0);
    assert_told("f@-:0 ?@-:0 5 0\n");
}

static void what_is_not_there_is_an_error(void **state) {
    assert_int_equal(read_profile(SPAN_LIT("")), -EINVAL);
    assert_int_equal(read_profile(SPAN_LIT("no profile at all")), -EINVAL);
    /* Location 4, function string 9, two values of one type, and no type that was asked for. */
    char bytes[] = PROFILE_BY_HAND;
    struct span file = span_make(bytes, sizeof bytes - 1);
    char *sample = memchr(bytes, '\x12', sizeof bytes),
         *function = memrchr(bytes, '\x2a', sizeof bytes);
    sample[3] = 4;
    assert_int_equal(read_profile(file), -EINVAL);
    sample[3] = 9;
    function[5] = 9;
    assert_int_equal(read_profile(file), -EINVAL);
    function[5] = 3;
    sample[4] = 0x10;
    assert_int_equal(read_profile(file), -EINVAL);
    sample[4] = 8;
    assert_int_equal(read_profile(file), 0);
    const struct pprof_type other = {"cpu", "nanoseconds"};
    assert_int_equal(pprof_read(file, &other, 1, note, NULL), -EINVAL);
}

/* Cut off anywhere, and with any one byte changed: an error or another profile, no matter which. */
static void broken_files_are_harmless(void **state) {
    struct text file = written();
    for (size_t len = 0; len < file.len; len++)
        assert_int_not_equal(read_profile(span_make(file.data, len)), 0);
    text_fini(&file);
    for (size_t at = 0; at < sizeof PROFILE_BY_HAND - 1; at++)
        for (unsigned value = 0; value < 256; value++) {
            char *bytes = malloc(sizeof PROFILE_BY_HAND - 1); /* where ASan sees its end */
            assert_non_null(bytes);
            memcpy(bytes, PROFILE_BY_HAND, sizeof PROFILE_BY_HAND - 1);
            bytes[at] = (char)value;
            int err = read_profile(span_make(bytes, sizeof PROFILE_BY_HAND - 1));
            assert_true(err == 0 || err == -EINVAL);
            free(bytes);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(the_order_of_fields_means_nothing),
        cmocka_unit_test(what_is_not_there_is_an_error),
        cmocka_unit_test(broken_files_are_harmless),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    text_fini(&told);
    return failed;
}
