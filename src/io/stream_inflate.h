/* stream_inflate: compressed bytes made what they were: RFC 1950 (zlib), 1951 (raw deflate) and 1952 (gzip, several
 * members one after the other too).
 *
 * Bombs     A few bytes may become very many. Two limits, both -EMSGSIZE: what comes out in all, and what comes out
 *           for each byte that went in, once more than INFLATE_RATIO_FREE came out.
 * Errors    -EPROTO: malformed, cut off in the middle, or followed by something else. A stream without any byte is an
 *           empty one.
 * Borrows   A reader lends from a block of its own, until the next call; what the reader inside lends it uses up
 *           where it lies.
 * Memory    48 KiB by malloc, from init to close, and a block of the P while there is something in it. Reads and
 *           writes allocate nothing. */
#pragma once
#include "io/stream_block.h"
#include "io/stream_layer.h"

enum zlib_format {
    ZLIB_RAW,
    ZLIB_ZLIB,
    ZLIB_GZIP,
    ZLIB_AUTO, /* of inflating: gzip or zlib, by the first byte */
};

enum {
    INFLATE_RATIO_FREE = 64 * 1024,
    INFLATE_RATIO_MAX = 1032, /* more than deflate can do: no limit */
};

struct inflate_limits {
    uint64_t bytes; /* UINT64_MAX: no limit */
    uint32_t ratio; /* INFLATE_RATIO_MAX: no limit */
};

struct z_stream_s;
struct inflater { /* private, but for the counts */
    struct z_stream_s *z;
    struct inflate_limits limits;
    enum zlib_format format;
    uint64_t in_bytes, out_bytes; /* public: so far */
    int error;
    bool full;     /* there may be more to come out without anything going in */
    bool between;  /* at the start of a member */
    bool finished; /* nothing may follow */
};

/* What both of those below are made of, for who has memory of their own to inflate into. 0 or -ENOMEM. */
MUST_CHECK int inflater_init(struct inflater *inflater, enum zlib_format format,
                             struct inflate_limits limits);
/* What comes out for *in, of which it uses up what it can: > 0: how much; 0: it wants more; -errno, sticky. */
MUST_CHECK ssize_t inflater_run(struct inflater *inflater, struct span *in BORROWED_BY(inflater),
                                char *out, size_t room);
/* Nothing more goes in, and inflater_run said 0: 0 if the stream is whole, or the sticky error. */
MUST_CHECK int inflater_end(struct inflater *inflater);
void inflater_fini(struct inflater *inflater);

struct inflate_reader {
    struct reader_layer layer;
    struct inflater inflater;
    struct span in; /* the rest of what the reader inside lent */
    struct stream_block made;
    bool ended;
};

/* 0 or -ENOMEM: then it must not be used, and inner is still the caller's. */
MUST_CHECK int inflate_reader_init(struct inflate_reader *inflate,
                                   struct reader inner BORROWED_BY(inflate),
                                   enum zlib_format format, struct inflate_limits limits);
struct reader inflate_reader(struct inflate_reader *inflate BORROWED_BY(result));

/* What is written is compressed, what the writer inside gets is not. finish() of a stream that is cut off is -EPROTO,
 * and that of the writer inside is not called. Only a coroutine can write. */
struct inflate_writer {
    struct writer_layer layer;
    struct inflater inflater;
    int error;
};

MUST_CHECK int inflate_writer_init(struct inflate_writer *inflate,
                                   struct writer inner BORROWED_BY(inflate),
                                   enum zlib_format format, struct inflate_limits limits);
struct writer inflate_writer(struct inflate_writer *inflate BORROWED_BY(result));
