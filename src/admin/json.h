/* json: writes JSON into a text, either in one line or as protobuf's printer does (one space for
 * each level, ": " behind names).
 *
 * The caller opens and closes; commas, line ends and escapes are the writer's. Bytes that are no
 * UTF-8 become U+FFFD, so that the result is always well-formed.
 *
 * Ownership  Borrows the text. No memory of its own. */
#pragma once
#include "admin/text.h"

enum json_style { JSON_COMPACT, JSON_PRETTY };

struct json {
    struct text *out;
    enum json_style style;
    unsigned depth;
    bool has_items; /* the innermost open object or array is not empty */
    bool after_key;
};

/* open is '{' or '[', close the other half. */
void json_open(struct json *json, char open);
void json_close(struct json *json, char close);
void json_key(struct json *json, const char *name);

void json_string(struct json *json, struct span value);
void json_u64(struct json *json, uint64_t value);
void json_i64(struct json *json, int64_t value);
/* null for NaN. */
void json_double(struct json *json, double value);
void json_bool(struct json *json, bool value);
/* A value that is JSON already, pretty with an indent of one; its lines move to this depth. */
void json_raw(struct json *json, struct span value);

/* "name": value in one call. A 64-bit number as protobuf's JSON has it is a string. */
void json_field(struct json *json, const char *name, struct span value);
void json_field_u64(struct json *json, const char *name, uint64_t value);
void json_field_u64_string(struct json *json, const char *name, uint64_t value);

/* Seconds and milliseconds of protobuf's Timestamp: "2026-01-31T12:00:00.123Z". */
void json_field_time(struct json *json, const char *name, int64_t wall_ns);
