/* stream_inflate.c, stream_deflate.c: what one makes small the other makes what it was, in any pieces; beside zlib
 * itself; and what is malformed, cut off or a bomb is an error and no more. */
#include <stdlib.h>

#include <zlib.h>

#include "io/stream_copy.h"
#include "io/stream_deflate.h"
#include "io/stream_inflate.h"
#include "io_story.h"
#include "stream_story.h"

static unsigned allocations;
static int allocations_left = -1; /* that work; -1: all */

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
    allocations++;
    if (allocations_left == 0)
        return NULL;
    if (allocations_left > 0)
        allocations_left--;
    return __real_malloc(size);
}

static const struct inflate_limits no_limits = {UINT64_MAX, INFLATE_RATIO_MAX};
static uint64_t seed = 99;
static char text[1 << 16], small[1 << 17], got[TOLD_BYTES_MAX];

static size_t random_below(size_t n) {
    return next_random(&seed) % n;
}

/* Somewhat compressible. */
static struct span some_text(size_t size) {
    for (size_t i = 0; i < size; i++)
        text[i] =
            i > 40 && random_below(4) ? text[i - 1 - random_below(40)] : (char)random_below(256);
    return span_make(text, size);
}

/* By zlib, in one go. */
static struct span compressed(struct span bytes, enum zlib_format format) {
    z_stream z = {.next_in = (z_const Bytef *)(uintptr_t)bytes.ptr,
                  .avail_in = (uInt)bytes.len,
                  .next_out = (Bytef *)small,
                  .avail_out = sizeof small};
    int bits = format == ZLIB_RAW ? -15 : format == ZLIB_ZLIB ? 15 : 31;
    CHECK(deflateInit2(&z, 6, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
    struct span result = span_make(small, z.total_out);
    CHECK(deflateEnd(&z) == Z_OK);
    return result;
}

/* Reads all of it in pieces of up to max bytes (0: of any size): how it ended. */
static ssize_t read_all(struct reader reader, size_t max, size_t *size) {
    struct span out;
    ssize_t n;
    *size = 0;
    for (;;) {
        size_t most = max ? max : 1 + random_below(5000);
        n = random_below(2) ? reader_try_next(reader, most, &out) : reader_next(reader, most, &out);
        if (n == -EAGAIN || n == -EOPNOTSUPP)
            continue;
        if (n <= 0)
            return n;
        CHECK((size_t)n == out.len && out.len <= most && *size + out.len <= sizeof got);
        memcpy(got + *size, out.ptr, out.len);
        *size += out.len;
    }
}

static ssize_t inflate_told(struct told_reader *told, enum zlib_format format,
                            struct inflate_limits limits, size_t max, size_t *size) {
    struct inflate_reader inflate;
    CHECK(inflate_reader_init(&inflate, told_reader(told), format, limits) == 0);
    struct reader reader = inflate_reader(&inflate);
    unsigned before = allocations;
    ssize_t rc = read_all(reader, max, size);
    struct span out;
    CHECK(reader_next(reader, 1, &out) == rc); /* it sticks */
    CHECK(allocations == before);
    CHECK(inflate.inflater.out_bytes >= *size);
    CHECK(blocks_in_use() == 0);
    reader_close(reader);
    reader_close(reader);
    CHECK(told->closes == 1);
    return rc;
}

static ssize_t inflate_span(struct span bytes, enum zlib_format format, size_t *size) {
    struct told_reader told;
    told_reader_init(&told, bytes);
    return inflate_told(&told, format, no_limits, 0, size);
}

static bool is_text(size_t size, struct span bytes) {
    return size == bytes.len && memcmp(got, bytes.ptr, size) == 0;
}

/* ---- Round trips ---- */

static void splits_story(void *arg) {
    struct span bytes = some_text(300);
    for (enum zlib_format format = ZLIB_RAW; format <= ZLIB_AUTO; format++) {
        struct span packed = compressed(bytes, format);
        for (size_t first = 0; first <= packed.len; first++) {
            struct told_reader told;
            size_t size;
            told_reader_init(&told, packed);
            told.runs[0] = first;
            told.runs[1] = packed.len - first;
            told.run_count = 2;
            CHECK(inflate_told(&told, format, no_limits, 1 + first % 50, &size) == 0);
            CHECK(is_text(size, bytes));
        }
        struct told_reader told; /* byte by byte */
        size_t size;
        told_reader_init(&told, packed);
        told.runs[0] = 1;
        told.runs[1] = 0;
        told.run_count = 2;
        CHECK(inflate_told(&told, format, no_limits, 1, &size) == 0);
        CHECK(is_text(size, bytes));
    }
    rt_stop(0);
}

static void test_every_split_inflates_to_the_same(void **state) {
    story(1, splits_story);
}

static void trips_story(void *arg) {
    for (unsigned round = 0; round < 100; round++) {
        struct span bytes = some_text(random_below(round % 4 ? 2000 : sizeof text));
        enum zlib_format format = (enum zlib_format)random_below(ZLIB_AUTO);
        struct told_reader told;
        struct deflate_reader deflate;
        struct inflate_reader inflate;
        size_t size;
        told_reader_init(&told, bytes);
        told.run_count = 1 + random_below(6);
        for (size_t i = 0; i < told.run_count; i++)
            told.runs[i] = random_below(random_below(2) ? 10 : 3000);
        told.runs[0] = 500;
        CHECK(deflate_reader_init(&deflate, told_reader(&told), format, 1 + (int)random_below(9),
                                  random_below(2) ? DEFLATE_FLUSHES : DEFLATE_AT_END) == 0);
        CHECK(inflate_reader_init(&inflate, deflate_reader(&deflate), format, no_limits) == 0);
        unsigned before = allocations;
        CHECK(read_all(inflate_reader(&inflate), 0, &size) == 0);
        CHECK(allocations == before);
        CHECK(is_text(size, bytes));
        CHECK(deflate.deflater.in_bytes == bytes.len);
        CHECK(deflate.deflater.out_bytes == inflate.inflater.in_bytes);
        reader_close(inflate_reader(&inflate));
        CHECK(told.closes == 1 && blocks_in_use() == 0);

        /* The same by writers, in pieces of all sizes. */
        struct told_writer sink;
        struct inflate_writer inflate_w;
        struct deflate_writer deflate_w;
        told_writer_init(&sink, got);
        CHECK(inflate_writer_init(&inflate_w, told_writer(&sink), format, no_limits) == 0);
        CHECK(deflate_writer_init(&deflate_w, inflate_writer(&inflate_w), format, 6,
                                  random_below(2) ? DEFLATE_FLUSHES : DEFLATE_AT_END) == 0);
        struct writer writer = deflate_writer(&deflate_w);
        before = allocations;
        for (struct span rest = bytes; rest.len;) {
            struct iovec pieces[3];
            for (int i = 0; i < 3; i++) {
                size_t n = random_below(3000);
                pieces[i] =
                    (struct iovec){(void *)(uintptr_t)rest.ptr, n < rest.len ? n : rest.len};
                rest = span_from(rest, pieces[i].iov_len);
            }
            CHECK(writer_write(writer, pieces, 3) == 0);
            CHECK(deflate_w.deflater.flush == DEFLATE_AT_END || sink.size == bytes.len - rest.len);
        }
        CHECK(writer_finish(writer) == 0);
        CHECK(allocations == before);
        CHECK(is_text(sink.size, bytes) && sink.finishes == 1);
        writer_close(writer);
        writer_close(writer);
        CHECK(sink.closes == 1 && blocks_in_use() == 0);
    }
    rt_stop(0);
}

static void test_what_was_made_small_becomes_what_it_was(void **state) {
    story(1, trips_story);
}

/* Whoever waits at the other end sees what there is. */
static void flush_story(void *arg) {
    struct told_reader told;
    struct deflate_reader deflate;
    struct inflate_reader inflate;
    struct span out;
    told_reader_init(&told, SPAN_LIT("first|second"));
    told.runs[0] = 6;
    told.runs[1] = 0;
    told.run_count = 2;
    CHECK(deflate_reader_init(&deflate, told_reader(&told), ZLIB_GZIP, 6, DEFLATE_FLUSHES) == 0);
    CHECK(inflate_reader_init(&inflate, deflate_reader(&deflate), ZLIB_GZIP, no_limits) == 0);
    struct reader reader = inflate_reader(&inflate);
    CHECK(reader_next(reader, 100, &out) == 6 && memcmp(out.ptr, "first|", 6) == 0);
    CHECK(reader_try_next(reader, 100, &out) == -EAGAIN);
    CHECK(blocks_in_use() == 0); /* who waits holds none */
    CHECK(reader_next(reader, 100, &out) == 6 && memcmp(out.ptr, "second", 6) == 0);
    CHECK(reader_next(reader, 100, &out) == 0);
    CHECK(reader_peek(reader) == READER_END);
    reader_close(reader);
    rt_stop(0);
}

static void test_nothing_is_held_back_from_who_waits(void **state) {
    story(1, flush_story);
}

/* ---- What is wrong ---- */

static void broken_story(void *arg) {
    struct span bytes = some_text(200);
    static char copy[1 << 12];
    size_t size;
    for (enum zlib_format format = ZLIB_RAW; format <= ZLIB_AUTO; format++) {
        struct span packed = compressed(bytes, format);
        CHECK(packed.len * 2 < sizeof copy);
        CHECK(inflate_span(span_make("", 0), format, &size) == 0 && size == 0);
        for (size_t cut = 1; cut < packed.len; cut++)
            CHECK(inflate_span(span_make(packed.ptr, cut), format, &size) == -EPROTO);
        memcpy(copy, packed.ptr, packed.len);
        copy[packed.len] = 'x';
        CHECK(inflate_span(span_make(copy, packed.len + 1), format, &size) == -EPROTO);
        if (format == ZLIB_RAW)
            continue; /* has no checksum */
        for (size_t at = 0; at < packed.len; at++) {
            memcpy(copy, packed.ptr, packed.len);
            copy[at] = (char)(copy[at] ^ 0x55);
            ssize_t rc = inflate_span(span_make(copy, packed.len), format, &size);
            CHECK(rc == -EPROTO || (rc == 0 && is_text(size, bytes))); /* time, system */
        }
    }
    /* Of gzip several may follow one another; and a writer knows, too, what is cut off. */
    struct span packed = compressed(bytes, ZLIB_GZIP);
    memcpy(copy, packed.ptr, packed.len);
    memcpy(copy + packed.len, packed.ptr, packed.len);
    CHECK(inflate_span(span_make(copy, 2 * packed.len), ZLIB_AUTO, &size) == 0);
    CHECK(size == 2 * bytes.len && memcmp(got + bytes.len, text, bytes.len) == 0);
    CHECK(inflate_span(span_make(copy, 2 * packed.len - 1), ZLIB_GZIP, &size) == -EPROTO);
    struct told_writer sink;
    struct inflate_writer inflate_w;
    told_writer_init(&sink, got);
    CHECK(inflate_writer_init(&inflate_w, told_writer(&sink), ZLIB_GZIP, no_limits) == 0);
    struct writer writer = inflate_writer(&inflate_w);
    CHECK(writer_write_span(writer, span_make(copy, packed.len - 1)) == 0);
    CHECK(writer_finish(writer) == -EPROTO);
    CHECK(sink.finishes == 0);
    writer_abort(writer);
    CHECK(sink.aborts == 1);
    writer_close(writer);
    CHECK(sink.closes == 1);
    rt_stop(0);
}

static void test_what_is_broken_is_an_error(void **state) {
    story(1, broken_story);
}

static void bomb_story(void *arg) {
    struct told_reader told;
    size_t size;
    memset(text, 0, sizeof text);
    struct span packed = compressed(span_make(text, sizeof text), ZLIB_GZIP);
    CHECK(packed.len < 200);
    /* To the byte. */
    told_reader_init(&told, packed);
    CHECK(inflate_told(&told, ZLIB_GZIP, (struct inflate_limits){sizeof text, INFLATE_RATIO_MAX}, 0,
                       &size) == 0);
    CHECK(size == sizeof text);
    told_reader_init(&told, packed);
    CHECK(inflate_told(&told, ZLIB_GZIP,
                       (struct inflate_limits){sizeof text - 1, INFLATE_RATIO_MAX}, 0,
                       &size) == -EMSGSIZE);
    CHECK(size < sizeof text);
    /* By what comes out for a byte that goes in: not at the start, where it is no harm. */
    told_reader_init(&told, packed);
    CHECK(inflate_told(&told, ZLIB_GZIP, (struct inflate_limits){UINT64_MAX, 100}, 0, &size) == 0);
    static char twice[1 << 10];
    memcpy(twice, packed.ptr, packed.len);
    memcpy(twice + packed.len, packed.ptr, packed.len);
    told_reader_init(&told, span_make(twice, 2 * packed.len));
    CHECK(inflate_told(&told, ZLIB_GZIP, (struct inflate_limits){UINT64_MAX, 100}, 0, &size) ==
          -EMSGSIZE);
    CHECK(size < sizeof text + BLOCK_DATA_SIZE);
    rt_stop(0);
}

static void test_a_bomb_does_not_go_off(void **state) {
    story(1, bomb_story);
}

static void errors_story(void *arg) {
    struct span bytes = some_text(2000), packed = compressed(bytes, ZLIB_ZLIB);
    size_t size;
    for (size_t at = 0; at <= packed.len; at += 1 + packed.len / 60) {
        struct told_reader told;
        told_reader_init(&told, packed);
        told.fails_at = at;
        CHECK(inflate_told(&told, ZLIB_ZLIB, no_limits, 0, &size) == -ECONNRESET);
        CHECK(size <= bytes.len && memcmp(got, text, size) == 0);
        struct deflate_reader deflate;
        told_reader_init(&told, bytes);
        told.fails_at = at;
        CHECK(deflate_reader_init(&deflate, told_reader(&told), ZLIB_ZLIB, 1, DEFLATE_AT_END) == 0);
        CHECK(read_all(deflate_reader(&deflate), 0, &size) == -ECONNRESET);
        reader_close(deflate_reader(&deflate));
        CHECK(told.closes == 1 && blocks_in_use() == 0);
        struct told_writer sink;
        struct deflate_writer deflate_w;
        told_writer_init(&sink, got);
        sink.fails_at = at / 2;
        CHECK(deflate_writer_init(&deflate_w, told_writer(&sink), ZLIB_ZLIB, 1, DEFLATE_FLUSHES) ==
              0);
        CHECK(writer_write_span(deflate_writer(&deflate_w), bytes) == -EPIPE);
        CHECK(writer_finish(deflate_writer(&deflate_w)) == -EPIPE);
        writer_close(deflate_writer(&deflate_w));
        CHECK(sink.closes == 1 && sink.finishes == 0 && blocks_in_use() == 0);
    }
    /* Memory that is short is so at the start, and nowhere else. */
    struct told_reader told;
    struct inflate_reader inflate;
    struct deflate_reader deflate;
    told_reader_init(&told, packed);
    allocations_left = 0;
    CHECK(inflate_reader_init(&inflate, told_reader(&told), ZLIB_ZLIB, no_limits) == -ENOMEM);
    CHECK(deflate_reader_init(&deflate, told_reader(&told), ZLIB_ZLIB, 6, DEFLATE_AT_END) ==
          -ENOMEM);
    allocations_left = 1; /* for the stream; what it needs later is part of that */
    CHECK(inflate_reader_init(&inflate, told_reader(&told), ZLIB_ZLIB, no_limits) == 0);
    CHECK(read_all(inflate_reader(&inflate), 0, &size) == 0);
    allocations_left = -1;
    reader_close(inflate_reader(&inflate));
    rt_stop(0);
}

static void test_errors_anywhere(void **state) {
    story(1, errors_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split_inflates_to_the_same),
        cmocka_unit_test(test_what_was_made_small_becomes_what_it_was),
        cmocka_unit_test(test_nothing_is_held_back_from_who_waits),
        cmocka_unit_test(test_what_is_broken_is_an_error),
        cmocka_unit_test(test_a_bomb_does_not_go_off),
        cmocka_unit_test(test_errors_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
