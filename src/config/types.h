/* types: how the values of a config message look in C, for every schema table.
 *
 *   string, bytes      struct span, NUL-terminated beyond len; {NULL, 0} when absent
 *   message            pointer, NULL when absent
 *   repeated           pointer to an array and a count: `T *x; size_t x_count;`
 *                      (repeated messages are arrays of structs, not of pointers)
 *   Duration           struct cfg_duration
 *   wrapper types      struct cfg_bool / cfg_u32 / cfg_u64 / cfg_double, `set` tells presence
 *   enum               int with the numbers of the .proto
 *   oneof              the members as above and `int <name>_case`: the field number set, 0 if none
 *   map<string, M>     array of {struct span key; M value}, sorted as written
 *   Any                struct cfg_any
 *   Value, Struct      struct cfg_value *
 *
 * Ownership  Everything belongs to the struct config it was loaded into: borrowed until
 *            config_unref drops the last reference. Nothing is changed after loading, so any thread
 *            that holds a reference may read. */
#pragma once
#include "base/span.h"

struct cfg_duration {
    bool set;
    int64_t ns;
};
struct cfg_bool {
    bool set, value;
};
struct cfg_u32 {
    bool set;
    uint32_t value;
};
struct cfg_u64 {
    bool set;
    uint64_t value;
};
struct cfg_double {
    bool set;
    double value;
};

/* Where something stood in its file, for messages: "demo.yaml:12: static_resources...". */
struct cfg_mark {
    struct span file; /* "(inline)" for --config-yaml */
    uint32_t line;    /* from 1; 0 when unknown (binary input) */
    struct span path; /* "static_resources.listeners[0].address"; NUL-terminated */
};

/* A google.protobuf.Value tree, and Struct and ListValue as kinds of it. */
struct cfg_value {
    enum {
        CFG_VALUE_NULL,
        CFG_VALUE_NUMBER,
        CFG_VALUE_STRING,
        CFG_VALUE_BOOL,
        CFG_VALUE_STRUCT,
        CFG_VALUE_LIST
    } kind;
    double number;
    bool boolean;
    struct span string;
    struct cfg_value_field *fields; /* STRUCT */
    size_t fields_count;
    struct cfg_value *items; /* LIST */
    size_t items_count;
};
struct cfg_value_field {
    struct span key;
    struct cfg_value value;
};

struct cfg_schema;

/* google.protobuf.Any. For a type with a schema table `message` points at its struct, filled and
 * checked. `type_url` and `value` are always there as well: the serialised form, which is what Go
 * receives; for Struct, TypedStruct and types from --descriptor-set that is the only form. */
struct cfg_any {
    struct cfg_mark mark;
    struct span type_url;
    struct span value;
    const struct cfg_schema *schema; /* NULL: no table of ours */
    const void *message;
    struct span serialised; /* the Any message itself, type_url and value, on the wire */
    /* For /config_dump only: what was decoded, also for types without a table of ours. */
    const struct cfg_schema *shown_schema;
    const void *shown;
};
