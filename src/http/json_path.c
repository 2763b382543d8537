/* json_path: the text of a path is cut into segments; then the masks are made that a scan looks at. */
#include "http/json_path.h"

#include <stdlib.h>

#include "http/json_scan.h"

struct reading {
    const char *p, *end;
    char *names; /* where the next key goes */
};

static const char *read_index(struct reading *r, struct json_segment *segment) {
    uint32_t index = 0;
    const char *start = r->p;
    for (; r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++) {
        index = index * 10 + (uint32_t)(*r->p - '0');
        if (index > JSON_INDEX_MAX)
            return "an element's number is too large";
    }
    if (r->p == start || (*start == '0' && r->p - start > 1))
        return "in brackets there must be a number, * or a quoted key";
    *segment = (struct json_segment){.kind = JSON_SEGMENT_INDEX, .index = index};
    return NULL;
}

static const char *keep_key(struct reading *r, struct json_segment *segment, struct span key) {
    if (key.len > JSON_KEY_MAX)
        return "a key is longer than 128 bytes";
    if (key.len)
        memcpy(r->names, key.ptr, key.len);
    *segment = (struct json_segment){.kind = JSON_SEGMENT_KEY, .key = span_make(r->names, key.len)};
    r->names += key.len;
    return NULL;
}

/* The quoted text is judged by the scanner itself, as the only element of an array. */
struct quoted {
    struct span key;
    bool is_long;
};

static bool on_quoted(void *arg, const struct json_value *value) {
    struct quoted *quoted = arg;
    if (value->kind == JSON_STRING) {
        quoted->key = value->text;
        quoted->is_long = value->too_long;
    }
    return false;
}

static const char *read_quoted(struct reading *r, struct json_segment *segment) {
    const char *start = r->p++;
    while (r->p < r->end && *r->p != '"')
        r->p += *r->p == '\\' ? 2 : 1;
    if (r->p >= r->end)
        return "a quoted key has no end";
    r->p++;

    _Alignas(struct json_paths) char room[sizeof(struct json_paths) + sizeof(struct json_path)] = {
        0};
    struct json_paths *first = (struct json_paths *)(void *)room;
    first->kernel = json_kernels()[0];
    first->count = first->all = first->single = first->indexes[0] = first->lengths[1] = 1;
    first->paths[0].count = 1;
    first->paths[0].segments[0].kind = JSON_SEGMENT_INDEX;
    char text[JSON_KEY_MAX];
    struct quoted quoted = {0};
    struct json_scan_options options = {
        .text = text, .text_size = sizeof text, .on_value = on_quoted, .arg = &quoted};
    struct json_scan scan;
    json_scan_init(&scan, first, options);
    /* In pieces, so that the key is copied to text. */
    (void)json_scan_feed(&scan, SPAN_LIT("["));
    (void)json_scan_feed(&scan, span_make(start, 1));
    (void)json_scan_feed(&scan, span_make(start + 1, (size_t)(r->p - start) - 1));
    (void)json_scan_feed(&scan, SPAN_LIT("]"));
    if (json_scan_end(&scan) != JSON_DONE)
        return "a quoted key is no JSON string";
    if (quoted.is_long)
        return "a key is longer than 128 bytes";
    return keep_key(r, segment, quoted.key);
}

static const char *read_bracket(struct reading *r, struct json_segment *segment) {
    r->p++;
    const char *problem = NULL;
    if (r->p < r->end && *r->p == '*') {
        r->p++;
        *segment = (struct json_segment){.kind = JSON_SEGMENT_ANY};
    } else if (r->p < r->end && *r->p == '"') {
        problem = read_quoted(r, segment);
    } else {
        problem = read_index(r, segment);
    }
    if (problem)
        return problem;
    if (r->p >= r->end || *r->p++ != ']')
        return "a bracket is not closed";
    return NULL;
}

static bool is_plain(char c) {
    return (unsigned char)c >= 0x20 && !strchr(".[]\"\\*", c);
}

static const char *read_key(struct reading *r, struct json_segment *segment) {
    const char *start = r->p;
    while (r->p < r->end && is_plain(*r->p))
        r->p++;
    if (r->p == start)
        return "a key is missing; one with dots, brackets, quotes, backslashes, asterisks or "
               "control "
               "characters is written as [\"...\"]";
    return keep_key(r, segment, span_make(start, (size_t)(r->p - start)));
}

static const char *read_path(struct reading *r, struct json_path *path) {
    if (r->p == r->end)
        return "a path must not be empty";
    while (r->p < r->end) {
        if (path->count == JSON_SEGMENTS_MAX)
            return "a path has more than 8 parts";
        const char *problem;
        if (*r->p == '[') {
            problem = read_bracket(r, &path->segments[path->count]);
        } else {
            if (path->count && *r->p++ != '.')
                return "behind a bracket there must be a dot, another bracket or the end";
            problem = read_key(r, &path->segments[path->count]);
        }
        if (problem)
            return problem;
        path->count++;
    }
    return NULL;
}

static void note_masks(struct json_paths *paths, uint32_t i) {
    const struct json_path *path = &paths->paths[i];
    uint32_t bit = UINT32_C(1) << i;
    bool any = false;
    paths->all |= bit;
    paths->lengths[path->count] |= bit;
    for (uint32_t at = 0; at < path->count; at++) {
        switch (path->segments[at].kind) {
        case JSON_SEGMENT_KEY:
            paths->keys[at] |= bit;
            break;
        case JSON_SEGMENT_INDEX:
            paths->indexes[at] |= bit;
            break;
        case JSON_SEGMENT_ANY:
            paths->any[at] |= bit;
            any = true;
            break;
        }
    }
    if (!any)
        paths->single |= bit;
}

struct json_paths *json_paths_new(const struct span *texts, uint32_t count, const char **problem,
                                  uint32_t *bad) {
    *bad = 0;
    if (count > JSON_PATHS_MAX) {
        *bad = JSON_PATHS_MAX;
        *problem = "there are more than 32 paths";
        return NULL;
    }
    size_t bytes = 1;
    for (uint32_t i = 0; i < count; i++)
        bytes += texts[i].len;
    struct json_paths *paths = calloc(1, sizeof *paths + count * sizeof paths->paths[0]);
    char *names = malloc(bytes);
    *problem = "out of memory";
    if (!paths || !names) {
        free(names);
        free(paths);
        return NULL;
    }
    paths->kernel = json_kernels()[0];
    paths->names = names;
    for (uint32_t i = 0; i < count; i++) {
        struct reading r = {texts[i].ptr, texts[i].ptr + texts[i].len, names};
        const char *found = read_path(&r, &paths->paths[i]);
        if (found) {
            *problem = found;
            *bad = i;
            json_paths_free(paths);
            return NULL;
        }
        names = r.names;
        paths->count++;
        note_masks(paths, i);
    }
    *problem = NULL;
    return paths;
}

void json_paths_free(struct json_paths *paths) {
    if (!paths)
        return;
    free(paths->names);
    free(paths);
}
