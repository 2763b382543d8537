/* load: what the parts of one config_load share. Internal to src/config.
 *
 * Ownership  Everything is the config_load call's; what lands in the config is allocated from
 *            `arena`, what only the loading needs (nodes, paths) from `scratch`.
 * Threads    One per load. */
#pragma once
#include "config/config.h"
#include "config/tree.h"
#include "config/schema.h"

struct cfg_descriptors;

struct cfg_loader {
    struct cfg_arena *arena;   /* lives as long as the config */
    struct cfg_arena *scratch; /* lives as long as the load */
    struct cfg_problems *problems;
    const struct cfg_descriptors *descriptors; /* types of --descriptor-set, or NULL */
    bool allow_unknown;
};

/* A place in the message tree: a chain of stack frames, written out only for a problem or a mark. */
struct cfg_path {
    const struct cfg_path *up;
    const char *name; /* a field; or NULL: an index, or a key when there is one */
    size_t index;
    struct span key;
    const struct cfg_tree *within; /* the object whose field this is, when name is set */
    struct span *text; /* of a mark, where it is kept for what is below; empty: not yet */
};
struct span cfg_path_text(struct cfg_arena *arena, const struct cfg_path *path);

/* Adds a problem at node's line and at path (NULL: the root). */
void cfg_report(struct cfg_loader *loader, enum cfg_problem_kind kind, const struct cfg_tree *node,
                const struct cfg_path *path, const char *format, ...) PRINTF_LIKE(5, 6);
void cfg_report_line(struct cfg_loader *loader, enum cfg_problem_kind kind,
                     const struct cfg_tree *node, uint32_t line, const struct cfg_path *path,
                     const char *format, ...) PRINTF_LIKE(6, 7);
struct cfg_mark cfg_mark_at(struct cfg_loader *loader, const struct cfg_tree *node,
                            const struct cfg_path *path);

/* ---- decode.c ---- */

/* Fills the zeroed struct of schema from an object. Problems are collected; what was wrong stays
 * zero. skip_type: a key "@type" belongs to an Any around it. */
void cfg_decode_message(struct cfg_loader *loader, const struct cfg_schema *schema,
                        const struct cfg_tree *node, const struct cfg_path *path, bool skip_type,
                        void *message);
/* One value of field's type, not its list or map, into the storage at out. */
void cfg_decode_value(struct cfg_loader *loader, const struct cfg_field *field,
                      const struct cfg_tree *node, const struct cfg_path *path, void *out);

/* ---- scalar.c ---- */
void cfg_decode_scalar(struct cfg_loader *loader, const struct cfg_field *field,
                       const struct cfg_tree *node, const struct cfg_path *path, void *out);

/* ---- value.c: google.protobuf.Struct, Value, ListValue ---- */
void cfg_decode_json_value(struct cfg_loader *loader, const struct cfg_field *field,
                           const struct cfg_tree *node, const struct cfg_path *path,
                           struct cfg_value **out);

/* ---- rules.c ---- */

/* After a value was decoded. node is the value's. */
void cfg_check_value(struct cfg_loader *loader, const struct cfg_field *field,
                     const struct cfg_tree *node, const struct cfg_path *path, const void *value);
/* For a field that node, the message, does not have. */
void cfg_check_absent(struct cfg_loader *loader, const struct cfg_schema *schema,
                      const struct cfg_field *field, const struct cfg_tree *node,
                      const struct cfg_path *path);

/* ---- any.c ---- */
void cfg_decode_any(struct cfg_loader *loader, const struct cfg_field *field,
                    const struct cfg_tree *node, const struct cfg_path *path, struct cfg_any *out);

/* ---- merge.c ---- */

/* over's fields over base's as protobuf's MergeFrom has it: messages merge, lists append, maps
 * take over's entries, everything else takes over's value. */
struct cfg_tree *cfg_merge(struct cfg_loader *loader, const struct cfg_schema *schema,
                           struct cfg_tree *base, struct cfg_tree *over);

/* ---- descriptor_set.c ---- */

/* NULL with problems added. bytes are borrowed for the call. */
const struct cfg_descriptors *cfg_descriptors_load(struct cfg_loader *loader, struct span file,
                                                   struct span bytes);
const struct cfg_schema *cfg_descriptors_find(const struct cfg_descriptors *descriptors,
                                              struct span full_name);

/* ---- same.c ---- */

/* Of one value of field's type each: whether they say the same. */
bool cfg_value_is_same(const struct cfg_field *field, const void *a, const void *b);

/* ---- wire.c, json_out.c ---- */
void cfg_wire_message(struct cfg_buf *buf, const struct cfg_schema *schema, const void *message);
/* The fields of an Any message. */
void cfg_wire_any(struct cfg_buf *buf, const struct cfg_any *any);
void cfg_json_message(struct cfg_buf *buf, const struct cfg_schema *schema, const void *message,
                      unsigned indent, unsigned level);
void cfg_json_string(struct cfg_buf *buf, struct span s);
/* On one line. */
void cfg_json_tree(struct cfg_buf *buf, const struct cfg_value *value);
/* As protobuf prints: "1s", "0.250s", "0.000001s". */
void cfg_json_duration(struct cfg_buf *buf, int64_t seconds, int32_t nanos);

/* Fault injection: how many allocations of an arena succeed in the loads that follow; -1: all. */
extern long cfg_fail_after_for_tests;
