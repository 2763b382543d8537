#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "http/field_line.h"
#include "http1_describe.h"

/* What the bytes at text make: the machine of http1_fields.c in a few lines, for plain lines only. */
static bool reference(const char *text, size_t len, struct field_line *line, char *after) {
    size_t at = 0;
    memcpy(after, text, len);
    for (; at < len && text[at] != ':'; at++) {
        char c = text[at];
        bool upper = c >= 'A' && c <= 'Z';
        if (!upper && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-')
            return false;
        after[at] = (char)(upper ? c + 32 : c);
    }
    if (at < 2 || at == len || at > 30 || (at > 15 && len < 32))
        return false;
    line->name_len = (uint32_t)at;
    line->id = header_id_of(span_make(after, at));
    while (at < len && !chars_is_control(text[at]))
        at++;
    if (len - at < 2 || text[at] != '\r' || text[at + 1] != '\n')
        return false;
    line->end = text + at;
    return true;
}

struct fixture {
    struct guarded bytes;
    unsigned read;
};

/* The line ends at the unreadable page; what stands in front of it must stay. */
static void compare(struct fixture *f, const char *text, size_t len) {
    char after[512];
    char *p = f->bytes.end - len;
    ASSERT(len >= FIELD_LINE_MIN && len <= sizeof after);
    p[-1] = '~';
    memcpy(p, text, len);
    struct field_line line = {0}, expected = {0};
    bool plain = reference(p, len, &expected, after);
#ifdef __SSE2__
    bool read = field_line_read(p, f->bytes.end, &line);
    if (read != plain)
        fail_msg("read %d, not %d: %.*s", read, plain, (int)len, text);
    if (read) {
        f->read++;
        assert_int_equal(line.name_len, expected.name_len);
        assert_int_equal(line.id, expected.id);
        assert_ptr_equal(line.end, expected.end);
    }
    assert_memory_equal(p, read ? after : text, len);
    assert_int_equal(p[-1], '~');
#else
    (void)plain; /* plain or not, the byte machine does it all */
    assert_false(field_line_read(p, f->bytes.end, &line));
    assert_memory_equal(p, text, len);
#endif
}

/* Every byte value at every place of a line, for names and values of many lengths. */
static void every_byte_everywhere(void **state) {
    struct fixture f = {guarded_new(), 0};
    for (size_t name = 1; name <= 34; name++)
        for (size_t value = 0; value <= 40; value += value < 20 ? 1 : 7) {
            char text[128];
            memset(text, 'Q', sizeof text);
            text[name] = ':';
            size_t len = name + 1 + value;
            text[len++] = '\r';
            text[len++] = '\n';
            size_t total = len < FIELD_LINE_MIN ? (size_t)FIELD_LINE_MIN : len + value % 3;
            for (size_t at = 0; at < len; at++) {
                char was = text[at];
                for (int c = 0; c < 256; c++) {
                    text[at] = (char)c;
                    compare(&f, text, total);
                }
                text[at] = was;
            }
        }
    guarded_free(&f.bytes);
}

static void known_names_in_any_case(void **state) {
    struct fixture f = {guarded_new(), 0};
    unsigned lines = 0;
    for (unsigned i = HDR_HOST; i < HDR_COUNT; i++)
        for (unsigned every = 1; every <= 4; every++) {
            struct span name = header_name_of((enum header_id)i);
            char text[96];
            memset(text, ':', sizeof text);
            for (size_t k = 0; k < name.len; k++)
                text[k] = (char)(name.ptr[k] >= 'a' && k % every ? name.ptr[k] - 32 : name.ptr[k]);
            memcpy(text + 60, "\r\n", 2);
            compare(&f, text, 62);
            compare(&f, text, 61);
            lines++;
            text[name.len - 1] ^= 0x40; /* not that name */
            compare(&f, text, 62);
        }
#ifdef __SSE2__
    assert_true(f.read >= lines);
#endif
    guarded_free(&f.bytes);
}

/* Lines put together at random of what heads are made of. */
static void random_lines(void **state) {
    static const char *const pieces[] = {"Host",
                                         "content-length",
                                         "X-Forwarded-For",
                                         "x-envoy-upstream-rq-timeout-ms",
                                         ":",
                                         ": ",
                                         "\r\n",
                                         "\n",
                                         "\t",
                                         "a",
                                         "Z-9",
                                         "\x80\xff",
                                         "_",
                                         "0123456789abcdef0123456789",
                                         ":\r\n"};
    struct fixture f = {guarded_new(), 0};
    uint32_t seed = 7;
    for (int i = 0; i < 200000; i++) {
        char text[256];
        size_t len = 0;
        for (int k = 0; k < 6; k++) {
            seed = seed * 1664525 + 1013904223;
            const char *piece = pieces[(seed >> 8) % (sizeof pieces / sizeof *pieces)];
            memcpy(text + len, piece, strlen(piece));
            len += strlen(piece);
        }
        if (len >= FIELD_LINE_MIN)
            compare(&f, text, len);
    }
#ifdef __SSE2__
    assert_true(f.read > 1000);
#endif
    guarded_free(&f.bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_everywhere),
        cmocka_unit_test(known_names_in_any_case),
        cmocka_unit_test(random_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
