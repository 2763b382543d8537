/* stream_rate: see the header.
 *
 * Filling   Tokens are added when somebody asks. Of the time since the last filling only that is used up which made
 *           whole tokens, so none is lost however often one asks. The time that counts is bounded by what fills the
 *           bucket, which also keeps rate * time within 64 bits.
 * Waiting   Who finds the bucket empty waits until there are tokens for WORTH of time (or a burst, if that is
 *           less), and not for one, which would be a wake-up per byte.
 * Writes    are cut into what the tokens allow, and wait in between. */
#include "io/stream_rate.h"

#include "base/clock.h"
#include "io/splice.h"
#include "rt/rt.h"
#include "rt/sync.h"

enum { WORTH_MS = 10 };

void rate_bucket_init(struct rate_bucket *bucket, uint64_t rate_per_s, uint32_t burst) {
    ASSERT(rate_per_s > 0);
    ASSERT(burst > 0);
    *bucket = (struct rate_bucket){
        .rate_per_s = rate_per_s, .burst = burst, .tokens = burst, .filled_ns = rt_now_ns()};
}

static uint64_t in_time(uint64_t rate_per_s, uint64_t ns) {
    return (uint64_t)((unsigned __int128)rate_per_s * ns / NS_PER_S);
}

static int64_t time_for(uint64_t rate_per_s, uint64_t tokens) {
    return (int64_t)(((unsigned __int128)tokens * NS_PER_S + rate_per_s - 1) / rate_per_s);
}

/* Whether there are any. */
static bool fill(struct rate_bucket *bucket) {
    int64_t now_ns = rt_now_ns();
    uint64_t since = now_ns > bucket->filled_ns ? (uint64_t)(now_ns - bucket->filled_ns) : 0;
    uint64_t made = in_time(bucket->rate_per_s, since);
    if (made >= (uint64_t)(bucket->burst - bucket->tokens)) {
        bucket->tokens = bucket->burst;
        bucket->filled_ns = now_ns;
    } else if (made) {
        bucket->tokens += (int64_t)made;
        bucket->filled_ns += time_for(bucket->rate_per_s, made);
    }
    return bucket->tokens > 0;
}

static ssize_t take(struct rate_bucket *bucket, ssize_t n) {
    if (n > 0)
        bucket->tokens -= n;
    return n;
}

/* Until there are some: 0 or -ECANCELED. */
static int wait_for_tokens(struct rate_bucket *bucket, const char *reason) {
    while (!fill(bucket)) {
        uint64_t worth = in_time(bucket->rate_per_s, WORTH_MS * NS_PER_MS);
        if (worth > (uint64_t)bucket->burst)
            worth = (uint64_t)bucket->burst;
        uint64_t wanted = (worth ? worth : 1) + (uint64_t)-bucket->tokens;
        int rc = rt_park(reason, bucket->filled_ns + time_for(bucket->rate_per_s, wanted));
        if (rc == -ECANCELED)
            return rc;
    }
    return 0;
}

static size_t at_most(const struct rate_bucket *bucket, size_t max) {
    return max < (uint64_t)bucket->tokens ? max : (size_t)bucket->tokens;
}

/* ---- Reading ---- */

void rate_reader_init(struct rate_reader *rate, struct reader inner, struct rate_bucket *bucket) {
    *rate = (struct rate_reader){.layer.inner = inner, .bucket = bucket};
}

static ssize_t next(void *data, size_t max, struct span *out) {
    struct rate_reader *rate = data;
    *out = span_make("", 0);
    if (rate->error == 0 && reader_peek(rate->layer.inner) != READER_END)
        rate->error = wait_for_tokens(rate->bucket, "rate of reads");
    if (rate->error)
        return rate->error;
    size_t most = rate->bucket->tokens > 0 ? at_most(rate->bucket, max) : max; /* at the end */
    return take(rate->bucket, reader_next(rate->layer.inner, most, out));
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    struct rate_reader *rate = data;
    *out = span_make("", 0);
    if (rate->error)
        return rate->error;
    if (!fill(rate->bucket))
        return reader_peek(rate->layer.inner) == READER_END ? 0 : -EOPNOTSUPP;
    return take(rate->bucket, reader_try_next(rate->layer.inner, at_most(rate->bucket, max), out));
}

static enum reader_peek peek(void *data) {
    const struct rate_reader *rate = data;
    if (rate->error)
        return READER_READY;
    enum reader_peek inner = reader_peek(rate->layer.inner);
    return inner == READER_READY && rate->bucket->tokens <= 0 ? READER_MAY_PARK : inner;
}

static uint64_t unread(void *data) {
    const struct rate_reader *rate = data;
    return rate->error ? 0 : reader_unread(rate->layer.inner);
}

static ssize_t splice_in(void *data, struct splice *splice, size_t max) {
    struct rate_reader *rate = data;
    if (rate->error == 0)
        rate->error = wait_for_tokens(rate->bucket, "rate of reads");
    if (rate->error)
        return rate->error;
    return take(rate->bucket, reader_splice(rate->layer.inner, splice, at_most(rate->bucket, max)));
}

static ssize_t try_splice_in(void *data, struct splice *splice, size_t max) {
    struct rate_reader *rate = data;
    if (rate->error || !fill(rate->bucket))
        return -EOPNOTSUPP;
    return take(rate->bucket,
                reader_try_splice(rate->layer.inner, splice, at_most(rate->bucket, max)));
}

struct reader rate_reader(struct rate_reader *rate) {
    static const struct reader_itab itab = {.next = next,
                                            .close = reader_layer_close,
                                            .peek = peek,
                                            .unread = unread,
                                            .splice = splice_in,
                                            .try_next = try_next,
                                            .try_splice = try_splice_in};
    return (struct reader){&itab, rate};
}

/* ---- Writing ---- */

enum { AT_ONCE = 16 };

void rate_writer_init(struct rate_writer *rate, struct writer inner, struct rate_bucket *bucket) {
    *rate = (struct rate_writer){.layer.inner = inner, .bucket = bucket};
}

/* The first of the pieces, as far as there are tokens and room in `out`; *count is of those. How many bytes. */
static size_t allowed(const struct rate_bucket *bucket, const struct iovec *pieces, int n_pieces,
                      struct iovec out[AT_ONCE], int *count) {
    size_t size = 0;
    for (*count = 0; *count < n_pieces && *count < AT_ONCE && size < (uint64_t)bucket->tokens;
         ++*count) {
        size_t n = at_most(bucket, size + pieces[*count].iov_len) - size;
        out[*count] = (struct iovec){pieces[*count].iov_base, n};
        size += n;
    }
    return size;
}

static int write_pieces(void *data, struct iovec *pieces, int count) {
    struct rate_writer *rate = data;
    pieces_advance(&pieces, &count, 0);
    while (count > 0 && rate->error == 0) {
        rate->error = wait_for_tokens(rate->bucket, "rate of writes");
        if (rate->error)
            break;
        struct iovec now[AT_ONCE];
        int now_count;
        size_t size = allowed(rate->bucket, pieces, count, now, &now_count);
        rate->error = writer_write(rate->layer.inner, now, now_count);
        if (rate->error == 0)
            pieces_advance(&pieces, &count, (size_t)take(rate->bucket, (ssize_t)size));
    }
    return rate->error;
}

static ssize_t tried(struct rate_writer *rate, ssize_t n) {
    if (n < 0 && reader_is_over(n))
        rate->error = (int)n;
    return take(rate->bucket, n);
}

static ssize_t try_write(void *data, const struct iovec *pieces, int count) {
    struct rate_writer *rate = data;
    if (rate->error)
        return rate->error;
    if (!fill(rate->bucket))
        return -EOPNOTSUPP;
    struct iovec now[AT_ONCE];
    int now_count;
    if (allowed(rate->bucket, pieces, count, now, &now_count) == 0)
        return 0;
    return tried(rate, writer_try_write(rate->layer.inner, now, now_count));
}

/* The size of a pipe's content is not ours to cut: what is more than the tokens is owed, and paid by waiting before
 * the next. */
static ssize_t splice_out(void *data, struct splice *splice) {
    struct rate_writer *rate = data;
    if (rate->error == 0)
        rate->error = wait_for_tokens(rate->bucket, "rate of writes");
    return rate->error ? rate->error : tried(rate, writer_splice(rate->layer.inner, splice));
}

static ssize_t try_splice_out(void *data, struct splice *splice) {
    struct rate_writer *rate = data;
    if (rate->error)
        return rate->error;
    if (!fill(rate->bucket))
        return -EOPNOTSUPP;
    return tried(rate, writer_try_splice(rate->layer.inner, splice));
}

static int finish(void *data) {
    struct rate_writer *rate = data;
    return rate->error ? rate->error : writer_finish(rate->layer.inner);
}

struct writer rate_writer(struct rate_writer *rate) {
    static const struct writer_itab itab = {.write = write_pieces,
                                            .try_write = try_write,
                                            .can_splice = writer_layer_can_splice,
                                            .splice = splice_out,
                                            .try_splice = try_splice_out,
                                            .finish = finish,
                                            .abort = writer_layer_abort,
                                            .close = writer_layer_close};
    return (struct writer){&itab, rate};
}
