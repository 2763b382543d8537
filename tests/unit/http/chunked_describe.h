/* chunked_describe: decodes a chunked body in pieces and tells its bytes, trailers and verdict. */
#pragma once
#include "http1_describe.h"

/* Feeds input in pieces of `first`, then `step` bytes, as a connection would: what is consumed is
 * forgotten, what is not comes again with more behind it, and always ends at an unreadable page. */
static inline const char *describe_chunked(struct describe *d, const struct http1_limits *limits,
                                           struct span input, size_t first, size_t step,
                                           bool keep_trailers) {
    struct arena arena;
    arena_init(&arena, &d->cache, 4 << 20);
    struct header_map trailers;
    header_map_init(&trailers, &arena);
    struct http1_chunked chunked;
    http1_chunked_init(&chunked, limits);
    d->story.len = 0;

    size_t at = 0, kept = 0;
    size_t len = first < input.len ? first : input.len;
    enum http1_verdict verdict = HTTP1_MORE;
    for (;;) {
        char *buf = d->bytes.end - (len - at);
        memmove(buf, d->bytes.end - kept, kept);
        memcpy(buf + kept, input.ptr + at + kept, len - at - kept);
        for (;;) {
            size_t consumed = 0;
            struct span data;
            verdict = http1_chunked_next(&chunked, buf, len - at, &consumed, &data,
                                         keep_trailers ? &trailers : NULL);
            ASSERT(consumed + data.len <= len - at);
            if (verdict != HTTP1_BAD) {
                tell_span(&d->story, data);
                buf += consumed + data.len;
                at += consumed + data.len;
            }
            if (verdict != HTTP1_MORE || consumed + data.len == 0)
                break;
        }
        if (verdict != HTTP1_MORE || len == input.len)
            break;
        kept = len - at;
        len = len + step < input.len ? len + step : input.len;
    }
    if (verdict == HTTP1_MORE)
        tell(&d->story, "|MORE");
    else if (verdict == HTTP1_BAD)
        tell(&d->story, "|BAD %d", chunked.error);
    else
        tell(&d->story, "|DONE, %zu left|", input.len - at);
    if (verdict == HTTP1_DONE)
        tell_fields(&d->story, &trailers);
    arena_fini(&arena);
    ASSERT(d->cache.in_use == 0);
    return d->story.text;
}
