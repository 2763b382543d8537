/* line_diff.c: what is told of two texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tool/line_diff.h"

static void note(void *arg, enum line_diff_mark mark, struct span line) {
    cfg_buf_byte(arg, (char)mark);
    cfg_buf_span(arg, line);
    cfg_buf_byte(arg, '|');
}

static void differs(const char *from, const char *to, const char *wanted) {
    struct cfg_arena arena;
    cfg_arena_init(&arena, NULL);
    struct cfg_buf story = {.arena = &arena};
    const struct line_diff_sink sink = {note, &story};
    size_t from_count, to_count;
    struct span *a = line_diff_split(&arena, span_of(from), &from_count);
    struct span *b = line_diff_split(&arena, span_of(to), &to_count);
    bool is = line_diff(&arena, a, from_count, b, to_count, &sink);
    assert_int_equal(is, strpbrk(wanted, "+-") != NULL);
    cfg_buf_byte(&story, '\0');
    assert_string_equal(story.ptr, wanted);
    cfg_arena_fini(&arena);
}

static void lines_are_kept_removed_and_added(void **state) {
    differs("a\nb\nc\n", "a\nb\nc\n", " a| b| c|");
    differs("a\nb\nc\n", "a\nB\nc\n", " a|-b|+B| c|");
    differs("a\nb\nc\nd\n", "x\na\nc\ny\nd\n", "+x| a|-b| c|+y| d|");
    differs("", "a\n", "+a|");
    differs("a\n", "", "-a|");
    differs("", "", "");
}

static void the_longest_common_part_stays(void **state) {
    differs("1\na\n2\nb\n3\nc\n", "a\nb\nc\n4\n", "-1| a|-2| b|-3| c|+4|");
    differs("x\nx\ny\n", "x\ny\ny\n", " x|-x|+y| y|");
}

static void a_last_line_may_have_no_end(void **state) {
    differs("a\nb", "a\nb\n", " a| b|");
    differs("a\n\nb", "a\nb", " a|-| b|");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_kept_removed_and_added),
        cmocka_unit_test(the_longest_common_part_stays),
        cmocka_unit_test(a_last_line_may_have_no_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
