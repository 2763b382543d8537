/* message.c: message files as people write them, and what goes out of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tool/message.h"

struct fixture {
    struct cfg_arena arena;
    struct message message;
    struct message_error error;
};

static bool reads(struct fixture *f, enum message_kind kind, const char *text) {
    cfg_arena_init(&f->arena, NULL);
    return message_read(&f->arena, kind, span_of(text), &f->message, &f->error);
}

static void sends(enum message_kind kind, const char *text, const char *head, const char *body,
                  const char *end) {
    struct fixture f;
    assert_true(reads(&f, kind, text));
    struct span wire = message_head(&f.arena, &f.message);
    assert_int_equal(wire.len, strlen(head));
    assert_memory_equal(wire.ptr, head, wire.len);
    assert_true(span_eq(f.message.body, span_of(body)));
    assert_int_equal(f.message.chunked, end != NULL);
    if (end)
        assert_true(span_eq(message_chunked_end(&f.arena, &f.message), span_of(end)));
    cfg_arena_fini(&f.arena);
}

static void refuses(enum message_kind kind, const char *text, unsigned line, const char *what) {
    struct fixture f;
    assert_false(reads(&f, kind, text));
    assert_int_equal(f.error.line, line);
    assert_non_null(strstr(f.error.text.ptr, what));
    cfg_arena_fini(&f.arena);
}

static void what_is_missing_is_computed(void **state) {
    sends(MESSAGE_REQUEST, "GET /", "GET / HTTP/1.1\r\nhost: filter.test\r\n\r\n", "", NULL);
    sends(MESSAGE_REQUEST, "\nPOST /a HTTP/1.1\nHost: x\n\nhello",
          "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n", "hello", NULL);
    sends(MESSAGE_RESPONSE, "HTTP/1.1 200 OK\r\nA:  b \r\n\r\nx\r\ny",
          "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 4\r\n\r\n", "x\r\ny", NULL);
    sends(MESSAGE_RESPONSE, "204\n", "HTTP/1.1 204 \r\n\r\n", "", NULL);
}

static void a_length_leaves_out_the_editors_line_end(void **state) {
    sends(MESSAGE_REQUEST, "PUT / HTTP/1.1\nhost: x\ncontent-length: 2\n\nhi\n",
          "PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n", "hi", NULL);
    refuses(MESSAGE_REQUEST, "PUT /\ncontent-length: 2\n\nhi!\n", 3, "longer than content-length");
    refuses(MESSAGE_REQUEST, "PUT /\ncontent-length: 9\n\nhi\n", 3, "more than there is");
}

static void trailers_stand_behind_a_line_of_their_own(void **state) {
    static const char head[] = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    sends(MESSAGE_REQUEST, "POST /\nhost: x\ntransfer-encoding: chunked\n\na\n--trailers--\nT: 1\n",
          head, "a", "0\r\nt: 1\r\n\r\n");
    sends(MESSAGE_REQUEST, "POST /\nhost: x\ntransfer-encoding: chunked\n\na\n", head, "a\n",
          "0\r\n\r\n");
    refuses(MESSAGE_REQUEST, "POST /\ntransfer-encoding: chunked\n\na\n--trailers--\nno field\n", 6,
            "name: value");
}

static void what_cannot_be_sent_is_refused_with_its_line(void **state) {
    refuses(MESSAGE_REQUEST, "", 1, "no message");
    refuses(MESSAGE_REQUEST, "\n\nGET\n", 3, "request line");
    refuses(MESSAGE_REQUEST, "GET / HTTP/2\n", 1, "only be HTTP/1.1");
    refuses(MESSAGE_REQUEST, "GET / HTTP/1.1\na b: c\n", 2, "no name");
    refuses(MESSAGE_REQUEST, "GET / HTTP/1.1\na: \x01\n", 2, "control characters");
    refuses(MESSAGE_RESPONSE, "HTTP/1.1 99 Low\n", 1, "status line");
    refuses(MESSAGE_RESPONSE, "304\n\nbody", 2, "no body");
    refuses(MESSAGE_RESPONSE, "200\ntransfer-encoding: gzip\n\n", 3, "only be chunked");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_missing_is_computed),
        cmocka_unit_test(a_length_leaves_out_the_editors_line_end),
        cmocka_unit_test(trailers_stand_behind_a_line_of_their_own),
        cmocka_unit_test(what_cannot_be_sent_is_refused_with_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
