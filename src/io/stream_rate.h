/* stream_rate: so many bytes per second and no more, by a token bucket: what was not used is saved up to `burst`.
 *
 *     rate_per_s ─► [ tokens <= burst ] ─► a byte each
 *
 * Several streams may share a bucket, which bounds them together; each waits for itself, so none is
 * served before another. It does not look at the bytes, so they may be spliced.
 *
 * Borrows  A reader lends what the reader inside lends, and for as long.
 * Parks    Where the bucket is empty, with reasons of its own ("rate of reads", "rate of writes"): without a
 *          coroutine such a stream gets on only while there are tokens (-EOPNOTSUPP).
 * Memory   None but the structs, which their owner keeps until all that use them were closed. */
#pragma once
#include "io/stream_layer.h"

struct rate_bucket { /* private; of one P */
    uint64_t rate_per_s;
    int64_t burst;
    int64_t
        tokens; /* below 0: of bytes that went before they were there, which the next ones wait for */
    int64_t filled_ns; /* all up to then are in `tokens` */
};

/* Full at first. rate_per_s: more than 0; burst: at least 1. */
void rate_bucket_init(struct rate_bucket *bucket, uint64_t rate_per_s, uint32_t burst);

struct rate_reader {
    struct reader_layer layer;
    struct rate_bucket *bucket;
    int error;
};

void rate_reader_init(struct rate_reader *rate, struct reader inner BORROWED_BY(rate),
                      struct rate_bucket *bucket BORROWED_BY(rate));
struct reader rate_reader(struct rate_reader *rate BORROWED_BY(result));

struct rate_writer {
    struct writer_layer layer;
    struct rate_bucket *bucket;
    int error;
};

void rate_writer_init(struct rate_writer *rate, struct writer inner BORROWED_BY(rate),
                      struct rate_bucket *bucket BORROWED_BY(rate));
struct writer rate_writer(struct rate_writer *rate BORROWED_BY(result));
