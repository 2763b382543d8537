/* http1_describe: parses a head in one of several ways and tells all that came out of it as text,
 * so that two ways can be compared by comparing two strings. Used by unit tests and fuzz targets.
 *
 * The ways: whole; in two pieces; byte by byte. In all of them the bytes end at an unreadable page
 * and are moved there anew for each call, so reading ahead faults and a span into the old place
 * shows up as garbage. */
#pragma once
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/check.h"
#include "http/http1.h"

enum { DESCRIBE_PAGE = 4096, DESCRIBE_PAGES = 33, DESCRIBE_TEXT_MAX = 1 << 20 };

struct guarded { /* writable bytes in front of an unreadable page */
    char *map, *end;
};

static inline struct guarded guarded_new(void) {
    size_t size = (size_t)DESCRIBE_PAGE * DESCRIBE_PAGES;
    char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT(map != MAP_FAILED);
    struct guarded guarded = {map, map + size - DESCRIBE_PAGE};
    ASSERT(mprotect(guarded.end, DESCRIBE_PAGE, PROT_NONE) == 0);
    return guarded;
}

static inline void guarded_free(struct guarded *guarded) {
    munmap(guarded->map, (size_t)DESCRIBE_PAGE * DESCRIBE_PAGES);
}

struct story {
    char *text;
    size_t len;
};

__attribute__((format(printf, 2, 3))) static inline void tell(struct story *story,
                                                              const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(story->text + story->len, DESCRIBE_TEXT_MAX - story->len, format, args);
    va_end(args);
    ASSERT(n >= 0 && story->len + (size_t)n < DESCRIBE_TEXT_MAX);
    story->len += (size_t)n;
}

static inline void tell_span(struct story *story, struct span s) {
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c < ' ' || c >= 0x7f)
            tell(story, "\\x%02x", c);
        else
            tell(story, "%c", c);
    }
}

static inline void tell_fields(struct story *story, const struct header_map *map) {
    size_t bytes = 0;
    uint64_t known = 0;
    for (uint32_t i = 0; i < map->count; i++) {
        const struct header *entry = &map->entries[i];
        tell_span(story, header_name(entry));
        tell(story, ": ");
        tell_span(story, header_value(entry));
        tell(story, entry->flags & HEADER_WIRE_LINE                                 ? " [line]|"
                    : entry->id == HDR_AUTHORITY && entry->flags & HEADER_WIRE_HOST ? " [host]|"
                                                                                    : "|");
        ASSERT(header_id_of(header_name(entry)) == (enum header_id)entry->id);
        bytes += entry->name_len + entry->value_len;
        if (entry->id && !(known >> entry->id & 1))
            ASSERT(header_find(map, (enum header_id)entry->id, span_none(), 0) == (int)i);
        known |= UINT64_C(1) << entry->id;
    }
    ASSERT(bytes == map->bytes);
    ASSERT((known & ~UINT64_C(1)) == map->known);
}

enum message { REQUEST, RESPONSE };

struct describe {
    struct block_cache cache;
    struct guarded bytes;
    struct story story;
};

static inline void describe_init(struct describe *d) {
    block_cache_init(&d->cache);
    d->bytes = guarded_new();
    d->story = (struct story){malloc(DESCRIBE_TEXT_MAX), 0};
    ASSERT(d->story.text != NULL);
}

static inline void describe_fini(struct describe *d) {
    block_cache_fini(&d->cache);
    guarded_free(&d->bytes);
    free(d->story.text);
}

/* Parses input in pieces: the first ends at `first`, each later one is `step` bytes longer. The
 * text is valid until the next call. */
static inline const char *describe_head(struct describe *d, enum message message,
                                        struct span method, const struct http1_limits *limits,
                                        struct span input, size_t first, size_t step) {
    struct arena arena;
    arena_init(&arena, &d->cache, 4 << 20);
    struct header_map map;
    header_map_init(&map, &arena);
    struct http1_head head = {.headers = &map};
    struct http1_parser parser;
    http1_parser_init(&parser, limits);
    d->story.len = 0;

    size_t len = first < input.len ? first : input.len, before = 0;
    enum http1_verdict verdict;
    for (;;) {
        /* What was parsed before keeps its lower-cased names and moves down in front of what is
         * new, so that the end is the unreadable page again. */
        char *buf = d->bytes.end - len;
        memmove(buf, d->bytes.end - before, before);
        memcpy(buf + before, input.ptr + before, len - before);
        verdict = message == REQUEST ? http1_parse_request(&parser, buf, len, &head)
                                     : http1_parse_response(&parser, buf, len, method, &head);
        if (verdict != HTTP1_MORE || len == input.len)
            break;
        ASSERT(parser.scanned == len); /* nothing is left to be looked at again */
        before = len;
        len = len + step < input.len ? len + step : input.len;
    }
    if (verdict == HTTP1_MORE) {
        tell(&d->story, "MORE");
    } else if (verdict == HTTP1_BAD) {
        tell(&d->story, "BAD %d %s", parser.status, parser.details);
    } else {
        ASSERT(head.head_bytes <= len);
        ASSERT(head.head_bytes > before); /* it was not complete one call ago */
        /* The head ends with the first empty line behind its start line. */
        const char *start = head.start_line.ptr, *over = d->bytes.end - len + head.head_bytes;
        ASSERT(memmem(start, (size_t)(d->bytes.end - start), "\r\n\r\n", 4) == over - 4);
        tell(&d->story, "DONE 1.%u%s%s%s%s, ", head.minor_version, head.keep_alive ? "" : ", close",
             head.absolute_form ? ", absolute" : "", head.expect_continue ? ", expect" : "",
             head.upgrade ? ", upgrade" : "");
        if (message == RESPONSE)
            tell(&d->story, "status %u, ", head.status);
        switch (head.framing) {
        case HTTP1_BODY_NONE:
            tell(&d->story, "no body|");
            break;
        case HTTP1_BODY_LENGTH:
            tell(&d->story, "length %llu|", (unsigned long long)head.content_length);
            break;
        case HTTP1_BODY_CHUNKED:
            tell(&d->story, "chunked|");
            break;
        case HTTP1_BODY_UNTIL_CLOSE:
            tell(&d->story, "until close|");
            break;
        }
        tell_fields(&d->story, &map);
    }
    arena_fini(&arena);
    ASSERT(d->cache.in_use == 0);
    return d->story.text;
}

static inline const char *describe_whole(struct describe *d, enum message message,
                                         struct span method, const struct http1_limits *limits,
                                         struct span input) {
    return describe_head(d, message, method, limits, input, input.len, 1);
}

static inline const char *describe_bytewise(struct describe *d, enum message message,
                                            struct span method, const struct http1_limits *limits,
                                            struct span input) {
    return describe_head(d, message, method, limits, input, 0, 1);
}
