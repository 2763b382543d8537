/* json_describe: what a scan tells of a document, as text, so that ways of cutting it, kernels and the reference can be
 * compared. Documents end at an unreadable page. */
#pragma once
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "json_reference.h"

enum { DESCRIBE_BYTES = 1 << 17, DESCRIBE_TEXT = 24 };

struct json_story {
    char text[1 << 14];
    size_t len;
    uint32_t enough; /* paths with a wildcard that want one value */
};

static inline void story_add(struct json_story *story, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (story->len < sizeof story->text - 1)
        story->len += (size_t)vsnprintf(story->text + story->len, sizeof story->text - story->len,
                                        format, args);
    va_end(args);
}

static inline bool story_value(void *arg, const struct json_value *value) {
    struct json_story *story = arg;
    story_add(story, "%u%s=%c", value->path, value->again ? "again" : "", "snTF0oa"[value->kind]);
    if (value->too_long)
        story_add(story, "(too long)");
    for (size_t i = 0; i < value->text.len; i++) {
        unsigned char c = (unsigned char)value->text.ptr[i];
        story_add(story, c > 0x20 && c < 0x7f ? "%c" : "\\x%02x", c);
    }
    story_add(story, "|");
    return !(story->enough >> value->path & 1);
}

static inline void story_end(struct json_story *story, enum json_verdict verdict, uint64_t offset) {
    if (verdict == JSON_BAD)
        story_add(story, "BAD %llu", (unsigned long long)offset);
    else
        story_add(story, verdict == JSON_FOUND ? "FOUND" : "DONE");
}

/* Where a document of len bytes has to begin to end at an unreadable page. */
static inline char *describe_place(size_t len) {
    static char *end;
    if (!end) {
        long page = sysconf(_SC_PAGESIZE);
        char *all = mmap(NULL, DESCRIBE_BYTES + (size_t)page, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        ASSERT(all != MAP_FAILED);
        end = all + DESCRIBE_BYTES;
        ASSERT(mprotect(end, (size_t)page, PROT_NONE) == 0);
    }
    ASSERT(len <= DESCRIBE_BYTES);
    return end - len;
}

/* The first span has `first` bytes, the others `step`. */
static inline const char *describe_scan(struct json_story *story, const struct json_kernel *kernel,
                                        struct json_paths *paths, struct span input, size_t first,
                                        size_t step, bool stop) {
    char text[DESCRIBE_TEXT];
    struct json_scan_options options = {.text = text,
                                        .text_size = sizeof text,
                                        .stop_when_found = stop,
                                        .on_value = story_value,
                                        .arg = story};
    struct json_scan scan;
    memset(&scan, 0xa5, sizeof scan);
    story->len = 0;
    paths->kernel = kernel;
    json_scan_init(&scan, paths, options);
    for (size_t at = 0, n = first; at < input.len; at += n, n = step) {
        if (n > input.len - at)
            n = input.len - at;
        char *piece = describe_place(n);
        memcpy(piece, input.ptr + at, n);
        (void)json_scan_feed(&scan, span_make(piece, n));
        memset(piece, 'x', n); /* it was lent for the call */
    }
    enum json_verdict verdict = json_scan_end(&scan);
    story_end(story, verdict, json_scan_offset(&scan));
    return story->text;
}

static inline const char *describe_reference(struct json_story *story,
                                             const struct json_paths *paths, struct span input,
                                             bool stop) {
    struct reference *r = reference_run(paths, input);
    uint32_t answered = 0, closed = 0;
    story->len = 0;
    for (size_t i = 0; i < r->count; i++) {
        struct json_value value = r->events[i].value;
        uint32_t bit = UINT32_C(1) << value.path;
        if ((r->bad && r->events[i].at >= r->i) || (stop && (closed & bit)))
            continue;
        value.again = (answered & bit) != 0;
        value.too_long = value.text.len > DESCRIBE_TEXT;
        if (value.too_long)
            value.text = span_none();
        if (!story_value(story, &value) || (paths->single & bit))
            closed |= bit;
        answered |= bit;
    }
    bool found = stop && paths->count && closed == paths->all;
    story_end(story, found ? JSON_FOUND : r->bad ? JSON_BAD : JSON_DONE, r->i);
    reference_free(r);
    return story->text;
}
