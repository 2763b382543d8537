/* stream_inflate: see the header.
 *
 *     bytes that went in ─► [ zlib: state, window ] ─► block ─► lent, or written
 *
 * Input is used where it lies. zlib is asked again without any when it filled the block: it may have more.
 * After the end of a member of gzip another may begin, which only its first byte, or the end, tells.
 * Nothing is held while the reader inside is waited for but zlib's own memory. */
#include "io/stream_inflate.h"

#include "io/zlib_memory.h"
#include "rt/rt.h"

enum {
    ASK = 64 * 1024,
    AREA = 48 * 1024, /* a state of 7 KiB and a window of 32 */
    GZIP_FIRST_BYTE = 0x1f,
};

/* ---- Inflating ---- */

static int window_bits(enum zlib_format format) {
    switch (format) {
    case ZLIB_RAW:
        return -MAX_WBITS;
    case ZLIB_ZLIB:
        return MAX_WBITS;
    case ZLIB_GZIP:
        return MAX_WBITS + 16;
    case ZLIB_AUTO:
        break;
    }
    return MAX_WBITS + 32;
}

int inflater_init(struct inflater *inflater, enum zlib_format format,
                  struct inflate_limits limits) {
    z_stream *z = zlib_memory_new(AREA);
    if (!z)
        return -ENOMEM;
    if (inflateInit2(z, window_bits(format)) != Z_OK) {
        zlib_memory_free(z);
        return -ENOMEM;
    }
    zlib_memory_seal(z);
    *inflater = (struct inflater){.z = z, .limits = limits, .format = format, .between = true};
    return 0;
}

void inflater_fini(struct inflater *inflater) {
    if (inflater->z)
        (void)inflateEnd(inflater->z);
    zlib_memory_free(inflater->z);
    inflater->z = NULL;
    if (!inflater->error)
        inflater->error = -ECANCELED;
}

static ssize_t fail(struct inflater *inflater, int error) {
    return inflater->error = error;
}

static bool is_bomb(const struct inflater *inflater) {
    if (inflater->out_bytes > inflater->limits.bytes)
        return true;
    return inflater->out_bytes > INFLATE_RATIO_FREE && inflater->limits.ratio < INFLATE_RATIO_MAX &&
           inflater->out_bytes / inflater->limits.ratio >= inflater->in_bytes;
}

/* A member is whole. */
static int end_member(struct inflater *inflater) {
    if (inflater->format != ZLIB_GZIP) {
        inflater->finished = true;
        return 0;
    }
    inflater->between = true;
    return inflateReset(inflater->z) == Z_OK ? 0 : -EPROTO;
}

/* zlib's answer. */
static int inflate_once(struct inflater *inflater, struct span *in, char *out, size_t room,
                        size_t *made) {
    z_stream *z = inflater->z;
    uInt size = in->len < UINT32_MAX ? (uInt)in->len : UINT32_MAX;
    z->next_in = (const Bytef *)in->ptr;
    z->avail_in = size;
    z->next_out = (Bytef *)out;
    z->avail_out = (uInt)room;
    int rc = inflate(z, Z_NO_FLUSH);
    *made = room - z->avail_out;
    inflater->in_bytes += size - z->avail_in;
    inflater->out_bytes += *made;
    *in = span_from(*in, size - z->avail_in);
    inflater->full = z->avail_out == 0 && rc != Z_STREAM_END;
    return rc;
}

ssize_t inflater_run(struct inflater *inflater, struct span *in, char *out, size_t room) {
    while (inflater->error == 0 && (in->len || inflater->full)) {
        if (inflater->finished)
            return fail(inflater, -EPROTO); /* something follows */
        if (inflater->format == ZLIB_AUTO)
            inflater->format = (uint8_t)*in->ptr == GZIP_FIRST_BYTE ? ZLIB_GZIP : ZLIB_ZLIB;
        inflater->between = inflater->between && in->len == 0;
        size_t made;
        int rc = inflate_once(inflater, in, out, room, &made);
        if (rc == Z_STREAM_END)
            rc = end_member(inflater);
        else if (rc == Z_MEM_ERROR)
            rc = -ENOMEM;
        else if (rc != Z_OK && rc != Z_BUF_ERROR)
            rc = -EPROTO;
        if (is_bomb(inflater))
            return fail(inflater, -EMSGSIZE); /* whatever is wrong behind it */
        if (rc < 0 && rc != Z_BUF_ERROR)
            return fail(inflater, rc);
        if (made)
            return (ssize_t)made;
    }
    return inflater->error;
}

int inflater_end(struct inflater *inflater) {
    if (inflater->error == 0 && !inflater->finished && !inflater->between)
        inflater->error = -EPROTO;
    return inflater->error;
}

/* ---- Reading ---- */

int inflate_reader_init(struct inflate_reader *inflate, struct reader inner,
                        enum zlib_format format, struct inflate_limits limits) {
    *inflate = (struct inflate_reader){.layer.inner = inner};
    return inflater_init(&inflate->inflater, format, limits);
}

/* Fills the block from what is there: > 0, 0 or -errno. */
static ssize_t fill_block(struct inflate_reader *inflate) {
    if (!inflate->in.len && !inflate->inflater.full)
        return 0;
    char *room = stream_block_room(&inflate->made);
    if (!room)
        return fail(&inflate->inflater, -ENOMEM);
    ssize_t n = inflater_run(&inflate->inflater, &inflate->in, room, BLOCK_DATA_SIZE);
    stream_block_fill(&inflate->made, n > 0 ? (size_t)n : 0);
    return n;
}

/* > 0: there is something in the block; 0: the end; -errno. */
static inline ssize_t fill(struct inflate_reader *inflate, reader_step step) {
    if (inflate->ended || inflate->inflater.error)
        return inflate->inflater.error;
    for (;;) {
        ssize_t n = fill_block(inflate);
        if (n != 0)
            return n;
        stream_block_drop(&inflate->made);
        n = step(inflate->layer.inner, ASK, &inflate->in);
        if (n < 0) {
            inflate->in = span_none();
            return reader_is_over(n) ? fail(&inflate->inflater, (int)n) : n;
        }
        if (n == 0) {
            inflate->ended = true;
            return inflater_end(&inflate->inflater);
        }
    }
}

static inline ssize_t pull(struct inflate_reader *inflate, size_t max, struct span *out,
                           reader_step step) {
    *out = span_make("", 0);
    if (stream_block_is_empty(&inflate->made)) {
        ssize_t n = fill(inflate, step);
        if (n <= 0) {
            if (reader_is_over(n))
                stream_block_drop(&inflate->made);
            return n;
        }
    }
    return stream_block_lend(&inflate->made, max, out);
}

static ssize_t next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_next);
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_try_next);
}

static enum reader_peek peek(void *data) {
    const struct inflate_reader *inflate = data;
    if (!stream_block_is_empty(&inflate->made) || inflate->inflater.error)
        return READER_READY;
    return inflate->ended ? READER_END : READER_MAY_PARK;
}

static void close_reader(void *data) {
    struct inflate_reader *inflate = data;
    stream_block_drop(&inflate->made);
    inflate->in = span_none();
    if (inflate->layer.closed)
        return;
    inflater_fini(&inflate->inflater);
    reader_layer_close(data);
}

struct reader inflate_reader(struct inflate_reader *inflate) {
    static const struct reader_itab itab = {
        .next = next, .close = close_reader, .peek = peek, .try_next = try_next};
    return (struct reader){&itab, inflate};
}

/* ---- Writing ---- */

int inflate_writer_init(struct inflate_writer *inflate, struct writer inner,
                        enum zlib_format format, struct inflate_limits limits) {
    *inflate = (struct inflate_writer){.layer.inner = inner};
    return inflater_init(&inflate->inflater, format, limits);
}

static int write_through(struct inflate_writer *inflate, struct block *block, struct span in) {
    ssize_t n;
    while ((n = inflater_run(&inflate->inflater, &in, block->data, BLOCK_DATA_SIZE)) > 0) {
        int rc = writer_write_span(inflate->layer.inner, span_make(block->data, (size_t)n));
        if (rc != 0)
            return rc;
    }
    return (int)n;
}

static int write_pieces(void *data, struct iovec *pieces, int count) {
    struct inflate_writer *inflate = data;
    if (inflate->error)
        return inflate->error;
    struct block *block = block_get(rt_blocks());
    if (!block)
        return inflate->error = -ENOMEM;
    for (int i = 0; i < count && inflate->error == 0; i++)
        if (pieces[i].iov_len)
            inflate->error =
                write_through(inflate, block, span_make(pieces[i].iov_base, pieces[i].iov_len));
    block_put(rt_blocks(), block);
    return inflate->error;
}

static int finish(void *data) {
    struct inflate_writer *inflate = data;
    if (inflate->error == 0)
        inflate->error = inflater_end(&inflate->inflater);
    return inflate->error ? inflate->error : writer_finish(inflate->layer.inner);
}

static void close_writer(void *data) {
    struct inflate_writer *inflate = data;
    if (inflate->layer.closed)
        return;
    inflater_fini(&inflate->inflater);
    writer_layer_close(data);
}

struct writer inflate_writer(struct inflate_writer *inflate) {
    static const struct writer_itab itab = {.write = write_pieces,
                                            .finish = finish,
                                            .abort = writer_layer_abort,
                                            .close = close_writer};
    return (struct writer){&itab, inflate};
}
