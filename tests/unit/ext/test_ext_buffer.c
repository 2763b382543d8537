/* ext_buffer.c against a plain string that has the same done to it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <cmocka.h>

#include "ext/ext_buffer.h"

static void same(const struct ext_buffer *buffer, const char *text) {
    assert_int_equal(buffer->len, strlen(text));
    assert_memory_equal(buffer->data, text, buffer->len);
}

static void borrowed_bytes_are_copied_at_the_first_change(void **state) {
    char lent[] = "hello";
    struct ext_buffer *buffer = ext_buffer_new(span_of(lent));
    ext_buffer_drain(buffer, 1);
    assert_ptr_equal(buffer->data, lent + 1);
    assert_int_equal(ext_buffer_append(buffer, SPAN_LIT("!")), 0);
    memset(lent, '#', sizeof(lent) - 1);
    same(buffer, "ello!");
    assert_int_equal(ext_buffer_prepend(buffer, SPAN_LIT("h")), 0);
    same(buffer, "hello!");
    ext_buffer_drain(buffer, 100);
    same(buffer, "");
    assert_int_equal(ext_buffer_prepend(buffer, SPAN_LIT("b")), 0);
    assert_int_equal(ext_buffer_append(buffer, SPAN_LIT("c")), 0);
    assert_int_equal(ext_buffer_prepend(buffer, SPAN_LIT("a")), 0);
    same(buffer, "abc");
    assert_int_equal(ext_buffer_set(buffer, SPAN_LIT("")), 0);
    same(buffer, "");
    ext_buffer_free(buffer);
}

static void random_changes_match_a_model(void **state) {
    static char model[1 << 16];
    size_t len = 0;
    unsigned seed = 1;
    struct ext_buffer *buffer = ext_buffer_new(span_make("", 0));
    for (int i = 0; i < 20000; i++) {
        char word[33];
        size_t n = (size_t)rand_r(&seed) % 33;
        for (size_t k = 0; k < n; k++)
            word[k] = (char)('a' + rand_r(&seed) % 26);
        struct span bytes = span_make(word, n);
        int what = len > sizeof(model) / 2 ? 3 : rand_r(&seed) % 16;
        if (what == 0) {
            assert_int_equal(ext_buffer_set(buffer, bytes), 0);
            memcpy(model, word, n);
            len = n;
        } else if (what < 8) {
            assert_int_equal(ext_buffer_append(buffer, bytes), 0);
            memcpy(model + len, word, n);
            len += n;
        } else if (what < 12) {
            assert_int_equal(ext_buffer_prepend(buffer, bytes), 0);
            memmove(model + n, model, len);
            memcpy(model, word, n);
            len += n;
        } else {
            size_t gone = n * n < len ? n * n : len;
            ext_buffer_drain(buffer, n * n);
            memmove(model, model + gone, len - gone);
            len -= gone;
        }
        assert_int_equal(buffer->len, len);
        assert_memory_equal(buffer->data, model, len);
    }
    ext_buffer_free(buffer);
}

static void too_much_is_refused_and_changes_nothing(void **state) {
    struct ext_buffer *buffer = ext_buffer_new(SPAN_LIT("x"));
    struct span huge = span_make("", EXT_BUFFER_BYTES_MAX);
    assert_true(ext_buffer_append(buffer, huge) < 0);
    assert_true(ext_buffer_prepend(buffer, huge) < 0);
    huge.len++;
    assert_true(ext_buffer_set(buffer, huge) < 0);
    same(buffer, "x");
    ext_buffer_free(buffer);
}

/* ---- In a pipe ---- */

static int ends[2];

static struct ext_buffer *in_pipe(const char *bytes) {
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    size_t len = strlen(bytes);
    assert_int_equal(write(ends[1], bytes, len), len);
    struct ext_buffer *buffer = ext_buffer_new_in_pipe(ends[0], len);
    assert_int_equal(buffer->len, len);
    return buffer;
}

static void close_pipe(struct ext_buffer *buffer) {
    ext_buffer_free(buffer);
    close(ends[0]);
    close(ends[1]);
}

static unsigned left_in_pipe(void) {
    int left;
    assert_int_equal(ioctl(ends[0], FIONREAD, &left), 0);
    return (unsigned)left;
}

static void what_is_in_a_pipe_stays_there_until_it_is_needed(void **state) {
    struct ext_buffer *buffer = in_pipe("hello");
    assert_true(buffer->in_pipe);
    assert_int_equal(left_in_pipe(), 5);
    assert_int_equal(ext_buffer_look(buffer), 0);
    same(buffer, "hello");
    assert_int_equal(left_in_pipe(), 0);
    assert_int_equal(ext_buffer_look(buffer), 0); /* once is enough */
    same(buffer, "hello");
    close_pipe(buffer);
}

static void what_is_in_a_pipe_can_be_changed(void **state) {
    struct ext_buffer *buffer = in_pipe("hello");
    assert_int_equal(ext_buffer_append(buffer, SPAN_LIT("!")), 0);
    same(buffer, "hello!");
    close_pipe(buffer);
    buffer = in_pipe("hello");
    assert_int_equal(ext_buffer_prepend(buffer, SPAN_LIT("oh ")), 0);
    same(buffer, "oh hello");
    close_pipe(buffer);
    buffer = in_pipe("hello");
    assert_int_equal(ext_buffer_set(buffer, SPAN_LIT("bye")), 0);
    same(buffer, "bye");
    close_pipe(buffer);
    buffer = in_pipe("hello");
    ext_buffer_drain(buffer, 3);
    assert_int_equal(buffer->len, 2);
    assert_int_equal(ext_buffer_own(buffer), 0);
    same(buffer, "lo");
    ext_buffer_drain(buffer, 1);
    same(buffer, "o");
    close_pipe(buffer);
    buffer = in_pipe("hello");
    ext_buffer_drain(buffer, 7);
    assert_int_equal(ext_buffer_append(buffer, SPAN_LIT("new")), 0);
    same(buffer, "new");
    close_pipe(buffer);
}

static void a_pipe_that_holds_too_little_is_an_error(void **state) {
    struct ext_buffer *buffer = in_pipe("hello");
    buffer->len++;
    assert_int_equal(ext_buffer_look(buffer), -EIO);
    close_pipe(buffer);
}

static void lists_keep_order(void **state) {
    struct ext_buffers list = {0}, other = {0};
    for (int i = 0; i < 3; i++)
        ext_buffers_push(&list, ext_buffer_new(span_make("abcdef" + i, 3)));
    assert_int_equal(ext_buffers_bytes(&list), 9);
    struct ext_buffer *last = ext_buffers_pop_last(&list);
    same(last, "cde");
    ext_buffer_free(last);
    ext_buffers_move(&other, &list);
    assert_null(list.head);
    ext_buffers_push(&list, ext_buffer_new(SPAN_LIT("d")));
    ext_buffers_move(&other, &list);
    ext_buffers_move(&other, &list);
    assert_int_equal(ext_buffers_bytes(&other), 7);
    ext_buffer_free(ext_buffers_pop(&other));
    same(other.head, "bcd");
    ext_buffers_clear(&other);
    assert_null(ext_buffers_pop_last(&other));
    assert_null(ext_buffers_pop(&other));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(borrowed_bytes_are_copied_at_the_first_change),
        cmocka_unit_test(random_changes_match_a_model),
        cmocka_unit_test(too_much_is_refused_and_changes_nothing),
        cmocka_unit_test(what_is_in_a_pipe_stays_there_until_it_is_needed),
        cmocka_unit_test(what_is_in_a_pipe_can_be_changed),
        cmocka_unit_test(a_pipe_that_holds_too_little_is_an_error),
        cmocka_unit_test(lists_keep_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
