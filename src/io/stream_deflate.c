#include "io/stream_deflate.h"

#include "io/zlib_memory.h"
#include "rt/rt.h"

enum {
    ASK = 64 * 1024,
    AREA = 296 * 1024, /* a state of 6 KiB, a window of 64, and tables */
    MEM_LEVEL = 8,     /* zlib's default */
};

/* ---- Deflating ---- */

static int deflater_init(struct deflater *deflater, enum zlib_format format, int level,
                         enum deflate_flush flush) {
    ASSERT(level >= Z_BEST_SPEED);
    ASSERT(level <= Z_BEST_COMPRESSION);
    ASSERT(format != ZLIB_AUTO);
    int bits = format == ZLIB_RAW ? -MAX_WBITS : format == ZLIB_ZLIB ? MAX_WBITS : MAX_WBITS + 16;
    z_stream *z = zlib_memory_new(AREA);
    if (!z)
        return -ENOMEM;
    if (deflateInit2(z, level, Z_DEFLATED, bits, MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK) {
        zlib_memory_free(z);
        return -ENOMEM;
    }
    zlib_memory_seal(z);
    *deflater = (struct deflater){.z = z, .flush = flush};
    return 0;
}

static void deflater_fini(struct deflater *deflater) {
    if (deflater->z)
        (void)deflateEnd(deflater->z);
    zlib_memory_free(deflater->z);
    deflater->z = NULL;
}

/* What comes out for *in, of which it uses up what it can. how: Z_NO_FLUSH, or what is to come out besides: until it
 * says 0. */
static size_t deflater_run(struct deflater *deflater, struct span *in, char *out, size_t room,
                           int how) {
    z_stream *z = deflater->z;
    uInt size = in->len < UINT32_MAX ? (uInt)in->len : UINT32_MAX;
    z->next_in = (const Bytef *)in->ptr;
    z->avail_in = size;
    z->next_out = (Bytef *)out;
    z->avail_out = (uInt)room;
    int rc = deflate(z, how);
    ASSERT(rc == Z_OK || rc == Z_BUF_ERROR || rc == Z_STREAM_END); /* the rest are our mistakes */
    size_t made = room - z->avail_out, used = size - z->avail_in;
    deflater->in_bytes += used;
    deflater->out_bytes += made;
    *in = span_from(*in, used);
    deflater->full = z->avail_out == 0;
    deflater->finished = rc == Z_STREAM_END;
    if (used)
        deflater->dirty = true;
    if (how == Z_SYNC_FLUSH && !deflater->full)
        deflater->dirty = false;
    return made;
}

/* ---- Reading ---- */

int deflate_reader_init(struct deflate_reader *deflate, struct reader inner,
                        enum zlib_format format, int level, enum deflate_flush flush) {
    *deflate = (struct deflate_reader){.layer.inner = inner};
    return deflater_init(&deflate->deflater, format, level, flush);
}

/* What zlib is to be asked now; -1: nothing, the reader inside has to be asked. */
static int what_to_do(const struct deflate_reader *deflate) {
    const struct deflater *deflater = &deflate->deflater;
    if (deflate->in.len)
        return Z_NO_FLUSH;
    if (deflate->inner_ended)
        return Z_FINISH;
    if (deflater->flush == DEFLATE_FLUSHES && deflater->dirty &&
        reader_peek(deflate->layer.inner) == READER_MAY_PARK)
        return Z_SYNC_FLUSH;
    return deflater->full ? Z_NO_FLUSH : -1;
}

/* > 0: there is something in the block; 0: the end; -errno. */
static inline ssize_t fill(struct deflate_reader *deflate, reader_step step) {
    if (deflate->error)
        return deflate->error;
    while (!deflate->deflater.finished) {
        int what = what_to_do(deflate);
        if (what >= 0) {
            char *room = stream_block_room(&deflate->made);
            if (!room)
                return deflate->error = -ENOMEM;
            size_t n = deflater_run(&deflate->deflater, &deflate->in, room, BLOCK_DATA_SIZE, what);
            stream_block_fill(&deflate->made, n);
            if (n)
                return (ssize_t)n;
            continue;
        }
        stream_block_drop(&deflate->made);
        ssize_t n = step(deflate->layer.inner, ASK, &deflate->in);
        if (n > 0)
            continue;
        deflate->in = span_make("", 0);
        if (n == 0)
            deflate->inner_ended = true;
        else if (reader_is_over(n))
            return deflate->error = (int)n;
        else
            return n;
    }
    stream_block_drop(&deflate->made);
    return 0;
}

static inline ssize_t pull(struct deflate_reader *deflate, size_t max, struct span *out,
                           reader_step step) {
    *out = span_make("", 0);
    if (stream_block_is_empty(&deflate->made)) {
        ssize_t n = fill(deflate, step);
        if (n <= 0)
            return n;
    }
    return stream_block_lend(&deflate->made, max, out);
}

static ssize_t next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_next);
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_try_next);
}

static enum reader_peek peek(void *data) {
    const struct deflate_reader *deflate = data;
    if (!stream_block_is_empty(&deflate->made) || deflate->error)
        return READER_READY;
    return deflate->deflater.finished ? READER_END : READER_MAY_PARK;
}

static void close_reader(void *data) {
    struct deflate_reader *deflate = data;
    stream_block_drop(&deflate->made);
    deflate->in = span_none();
    if (deflate->layer.closed)
        return;
    if (!deflate->error)
        deflate->error = -ECANCELED;
    deflater_fini(&deflate->deflater);
    reader_layer_close(data);
}

struct reader deflate_reader(struct deflate_reader *deflate) {
    static const struct reader_itab itab = {
        .next = next, .close = close_reader, .peek = peek, .try_next = try_next};
    return (struct reader){&itab, deflate};
}

/* ---- Writing ---- */

int deflate_writer_init(struct deflate_writer *deflate, struct writer inner,
                        enum zlib_format format, int level, enum deflate_flush flush) {
    *deflate = (struct deflate_writer){.layer.inner = inner};
    return deflater_init(&deflate->deflater, format, level, flush);
}

/* Until all of `in` is used up, and what `how` says is out. */
static int write_through(struct deflate_writer *deflate, struct block *block, struct span in,
                         int how) {
    do {
        size_t n = deflater_run(&deflate->deflater, &in, block->data, BLOCK_DATA_SIZE, how);
        int rc = n ? writer_write_span(deflate->layer.inner, span_make(block->data, n)) : 0;
        if (rc != 0)
            return rc;
    } while (in.len || deflate->deflater.full || (how == Z_FINISH && !deflate->deflater.finished));
    return 0;
}

static int write_with(struct deflate_writer *deflate, const struct iovec *pieces, int count,
                      int how) {
    if (deflate->error)
        return deflate->error;
    struct block *block = block_get(rt_blocks());
    if (!block)
        return deflate->error = -ENOMEM;
    for (int i = 0; i < count && deflate->error == 0; i++)
        if (pieces[i].iov_len)
            deflate->error = write_through(
                deflate, block, span_make(pieces[i].iov_base, pieces[i].iov_len), Z_NO_FLUSH);
    if (deflate->error == 0 && how != Z_NO_FLUSH)
        deflate->error = write_through(deflate, block, span_make("", 0), how);
    block_put(rt_blocks(), block);
    return deflate->error;
}

static int write_pieces(void *data, struct iovec *pieces, int count) {
    struct deflate_writer *deflate = data;
    bool flushes = deflate->deflater.flush == DEFLATE_FLUSHES && pieces_size(pieces, count);
    return write_with(deflate, pieces, count, flushes ? Z_SYNC_FLUSH : Z_NO_FLUSH);
}

static int finish(void *data) {
    struct deflate_writer *deflate = data;
    int rc = write_with(deflate, NULL, 0, Z_FINISH);
    return rc != 0 ? rc : writer_finish(deflate->layer.inner);
}

static void close_writer(void *data) {
    struct deflate_writer *deflate = data;
    if (deflate->layer.closed)
        return;
    deflater_fini(&deflate->deflater);
    writer_layer_close(data);
}

struct writer deflate_writer(struct deflate_writer *deflate) {
    static const struct writer_itab itab = {.write = write_pieces,
                                            .finish = finish,
                                            .abort = writer_layer_abort,
                                            .close = close_writer};
    return (struct writer){&itab, deflate};
}
