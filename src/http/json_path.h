/* json_path: which values of a document are asked for, compiled once and shared.
 *
 * Syntax     Keys joined by dots, elements in brackets: `model`, `messages[0].role`, `messages[*].role`,
 *            `labels["a.b"]` for a key that holds a dot, a bracket, a quote, a backslash or an asterisk; the
 *            quoted text is a JSON string, escapes and all. Keys are compared decoded, byte by byte.
 * Ownership  json_paths_new returns one owned set, which json_paths_free gives back.
 * Threads    Immutable once made: any number of scans use one at the same time.
 * Limits     Each is a configuration error, with a reason that says so. */
#pragma once
#include "base/span.h"

enum {
    JSON_PATHS_MAX = 32,   /* a set of paths is one word */
    JSON_SEGMENTS_MAX = 8, /* of a path; what a scan keeps grows with it */
    JSON_KEY_MAX = 128,    /* bytes of an asked key: a scan has room for one that comes in pieces */
    JSON_INDEX_MAX = 1 << 30,
};

struct json_segment {
    enum json_segment_kind { JSON_SEGMENT_KEY, JSON_SEGMENT_INDEX, JSON_SEGMENT_ANY } kind;
    uint32_t index;
    struct span key; /* in the set's own memory */
};

struct json_path {
    uint32_t count;
    struct json_segment segments[JSON_SEGMENTS_MAX];
};

struct json_kernel;

/* Bit i of a mask is path i. Segments count from 0. */
struct json_paths {
    const struct json_kernel *kernel; /* what this machine scans with (json_scan.h) */
    uint32_t count;
    uint32_t all;
    uint32_t single;                         /* without a wildcard: one value answers them */
    uint32_t keys[JSON_SEGMENTS_MAX];        /* whose segment there is a key */
    uint32_t indexes[JSON_SEGMENTS_MAX];     /* ... an element */
    uint32_t any[JSON_SEGMENTS_MAX];         /* ... every element */
    uint32_t lengths[JSON_SEGMENTS_MAX + 1]; /* that have so many segments */
    char *names;
    struct json_path paths[];
};

/* NULL with *problem telling why, in words for whoever wrote path *bad; memory is short: "out of memory". */
MUST_CHECK struct json_paths *json_paths_new(const struct span *paths, uint32_t count,
                                             const char **problem, uint32_t *bad);
void json_paths_free(struct json_paths *paths);
