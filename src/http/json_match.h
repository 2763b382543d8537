/* json_match: finds asked values among the tokens of a block; what json_scan and its kernels share.
 *
 * Private to the scanner. Borrows the scan and the view for the call. */
#pragma once
#include "http/json_scan.h"

enum json_capture { JSON_CAPTURE_NONE, JSON_CAPTURE_KEY, JSON_CAPTURE_STRING, JSON_CAPTURE_SCALAR };

/* Values of match.wake that are no depth. */
enum { JSON_AWAKE = UINT16_MAX, JSON_WAKE_NEVER = UINT16_MAX - 1 };

/* Up to 64 bytes of the span, bit i of a mask being byte i. */
struct json_view {
    const char *span; /* the span's start */
    size_t at;        /* of the first of them in it */
    unsigned count;
    unsigned from; /* what lies before is nobody's concern */
    uint64_t good; /* bytes before the first that cannot be */
    uint64_t open, close;
    uint64_t strings, keys, scalars; /* first bytes; keys are strings too */
    uint64_t string_ends;            /* quotes */
    uint64_t scalar_bytes;
};

static inline bool json_match_is_awake(const struct json_match *match) {
    return match->wake == JSON_AWAKE;
}

/* Whether the scan may stop. */
bool json_match_block(struct json_scan *scan, const struct json_view *view);
void json_match_init(struct json_scan *scan);
/* The span is over: keeps what is captured of it. */
void json_match_keep(struct json_scan *scan, struct span span);
