/* json_scan: values at asked paths, out of a JSON document that comes in spans, where it lies.
 *
 * The document is checked as a whole, whatever is asked of it: RFC 8259's grammar, UTF-8, escapes (a lone
 * surrogate has no meaning and is refused), numbers, depth. A value is told as soon as its last byte is seen, and only
 * if everything before it was right; what is told never depends on how the document was cut into spans.
 *
 * Ownership  The paths, the buffer and arg are borrowed for as long as the scan is fed. A span, for the call
 *            only: what has to be kept of it lies in the scan and in the buffer. Nothing is allocated,
 *            and there is nothing to release.
 * Threads    One at a time; of paths any number.
 * Parks      Never.
 * Twice      Of a key that an object has twice, RFC 8259 says nothing. The first value at a path counts, because
 *            somebody waits for it. A scan that goes on to the end tells the others as well, with `again`
 *            set: most parsers take the last one, so who decides about what they will see must look. */
#pragma once
#include "http/json_path.h"
#include "http/json_text.h"

enum {
    /* Of open arrays and objects. Beyond, recursive parsers behind us would be in trouble sooner than we. */
    JSON_DEPTH_MAX = 256,
    JSON_BLOCK = 64, /* bytes that are looked at together */
};

enum json_kind {
    JSON_STRING,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL,
    JSON_OBJECT,
    JSON_ARRAY,
};

struct json_value {
    uint32_t path; /* index of the asked path */
    enum json_kind kind;
    bool again;    /* the path was answered before */
    bool too_long; /* for the buffer: text is absent */
    /* A string decoded, a number or a literal as it stands; absent for objects and arrays, which are told when
     * they open. Borrowed until the callback returns. May hold any byte, NUL too. */
    struct span text;
};

/* Whether more values of that path are wanted; asked of paths with a wildcard only. It must not touch the scan. */
typedef bool (*json_value_fn)(void *arg, const struct json_value *value);

enum json_verdict {
    JSON_MORE,
    JSON_FOUND, /* no path wants any more; only with stop_when_found */
    JSON_DONE,  /* by json_scan_end: a whole document */
    JSON_BAD,   /* no JSON; json_scan_offset says from where on */
};

struct json_scan_options {
    char *text; /* where values are decoded */
    uint32_t text_size;
    bool stop_when_found;
    json_value_fn on_value;
    void *arg;
};

/* Private: what is known of the bytes before, by json_kernel.h. */
struct json_carry {
    uint64_t in_string, in_object; /* all ones, or 0 */
    uint64_t escaped;              /* bits of the last byte: see there */
    uint64_t scalar, zero, minus, dot, exponents;
    uint64_t depth;
    uint64_t continuations; /* bits of the next 3 */
    uint64_t lead_e0, lead_ed, lead_f0, lead_f4;
    const char *literal; /* what must follow of true, false or null; NULL: in none of them */
    uint8_t fraction_run, for_key, opened, due;
    uint32_t
        pairs; /* halves of surrogates: three times bits of the last 8 bytes, the last one on top */
};

/* Private: json_match.c. */
struct json_match {
    uint32_t
        active[JSON_SEGMENTS_MAX + 1]; /* paths that lead into the container open at that level */
    uint32_t index[JSON_SEGMENTS_MAX + 1]; /* of the next element */
    uint32_t arrays;                       /* bit: that level is one */
    uint32_t pending;                      /* paths that lead to the value after the key */
    uint32_t answered, closed;             /* had a value; want no more */
    uint16_t level, wake;
    uint8_t capture, kind; /* enum json_capture; enum json_kind of the value that is captured */
    bool pieces;           /* of what is captured, text holds the beginning */
    size_t from;           /* where in this span it goes on */
    struct json_text text;
    char key[JSON_KEY_MAX];
};

struct json_scan {
    const struct json_paths *paths;
    struct json_scan_options options;
    enum json_verdict verdict;
    uint64_t offset;
    struct json_carry carry;
    struct json_match match;
    /* Of the open containers, with room for a block's brackets at both ends: they are pushed and popped before
     * it is known that there are too many. */
    int8_t kinds[JSON_BLOCK + 1 + JSON_DEPTH_MAX + JSON_BLOCK];
};

void json_scan_init(struct json_scan *scan, const struct json_paths *paths BORROWED_BY(scan),
                    struct json_scan_options options BORROWED_BY(scan));
/* The next bytes. After a verdict other than JSON_MORE the same comes again. */
enum json_verdict json_scan_feed(struct json_scan *scan, struct span bytes);
/* There are no more: JSON_DONE, JSON_FOUND if that was told before, or JSON_BAD. */
enum json_verdict json_scan_end(struct json_scan *scan);
/* Whether every path without a wildcard has its value. */
static inline bool json_scan_all_answered(const struct json_scan *scan) {
    return (scan->paths->all & ~scan->match.closed) == 0;
}
/* Of the first byte that cannot be, after JSON_BAD; the length, if the document is not complete. Else how many
 * bytes were looked at. */
static inline uint64_t json_scan_offset(const struct json_scan *scan) {
    return scan->offset;
}

/* What scans: the fastest that the machine has is chosen when paths are made. The others are there for tests and
 * benches. */
struct json_kernel {
    const char *name;
    enum json_verdict (*run)(struct json_scan *scan, const char *bytes, size_t len);
};
/* Those that this machine can run, the best one first; ends in NULL. */
const struct json_kernel *const *json_kernels(void);
