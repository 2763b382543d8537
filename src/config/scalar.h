/* scalar: the textual forms of protobuf's JSON mapping. Pure functions; internal to src/config. */
#pragma once
#include "config/tree.h"
#include "config/schema.h"

enum cfg_scalar_kind {
    CFG_SCALAR_STRING,
    CFG_SCALAR_BOOL,
    CFG_SCALAR_INTEGER, /* a plain YAML integer: `integer` has its value */
    CFG_SCALAR_NUMBER,  /* a JSON number: `text` */
};
struct cfg_scalar {
    enum cfg_scalar_kind kind;
    bool boolean;
    int64_t integer;
    struct span text; /* as written */
};
/* node is a STRING or PLAIN. */
struct cfg_scalar cfg_scalar_of(const struct cfg_tree *node);

/* google.protobuf.Duration's limit: about 10,000 years. */
#define CFG_DURATION_SECONDS_MAX 315576000000ULL

/* All take NUL-terminated spans and return false on anything that is not of the form. */
bool cfg_parse_double(struct span text, double *out);
bool cfg_parse_duration(struct span text, int64_t *seconds, int32_t *nanos);
bool cfg_parse_base64(struct cfg_arena *arena, struct span text, struct span *out);
bool cfg_parse_timestamp(struct span text, struct cfg_timestamp *out);
bool cfg_parse_field_mask(struct cfg_arena *arena, struct span text, struct cfg_field_mask *out);
