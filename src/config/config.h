/* config: loads a bootstrap and keeps it, immutable, behind a reference count.
 *
 * Ownership  config_load returns one owned reference; everything reachable from it is borrowed.
 * Threads    References from any thread (atomic count); contents are read-only.
 * Errors     All problems of a file are reported in one go, each as one line
 *            "file:line: path: what is wrong, what would be right". */
#pragma once
#include <stdio.h>

#include "base/check.h"
#include "config/bootstrap.h"

struct config;

enum cfg_problem_kind {
    CFG_PROBLEM_INVALID,     /* syntax, type, range, missing */
    CFG_PROBLEM_UNKNOWN,     /* no such field in Envoy either, as far as the tables know */
    CFG_PROBLEM_UNSUPPORTED, /* Envoy has it, this release does not */
    CFG_PROBLEM_WARNING,     /* accepted: an unknown field under --allow-unknown-static-fields */
};
struct cfg_problem {
    enum cfg_problem_kind kind;
    struct cfg_mark mark;
    char *text; /* owned by the list */
};
struct cfg_problems {
    struct cfg_problem *items;
    size_t count, capacity;
    bool lost; /* memory was short for one: the list refuses, whatever is in it */
};
void cfg_problems_fini(struct cfg_problems *problems);
/* For checks that come after loading (regexes, cluster names, libraries): same shape, same list.
 * Copies the mark's strings. */
void cfg_problem_add(struct cfg_problems *problems, enum cfg_problem_kind kind,
                     const struct cfg_mark *mark, const char *format, ...) PRINTF_LIKE(4, 5);
/* Those of from behind those of into; from is empty then. */
void cfg_problems_move(struct cfg_problems *into, struct cfg_problems *from);
/* True when one of them refuses the config. */
bool cfg_problems_refuse(const struct cfg_problems *problems);
void cfg_problems_print(const struct cfg_problems *problems, FILE *out);
/* The same under headings (invalid, unknown, not supported yet, warnings) with how many there are:
 * for --mode validate, where people judge whether to move a config here. */
void cfg_problems_print_sorted(const struct cfg_problems *problems, FILE *out);

struct config_source {
    const char *path;           /* file, or NULL; .json, .yaml, .yml, else YAML */
    const char *yaml;           /* --config-yaml: merged over the file as Envoy does, or NULL */
    const char *descriptor_set; /* file of a serialised FileDescriptorSet, or NULL */
    bool allow_unknown;
};

/* 0 and *out set (transferred), -EINVAL or -ENOMEM with problems filled (warnings may be there with 0). */
MUST_CHECK int config_load(const struct config_source *source, struct config **out,
                           struct cfg_problems *problems);
/* The same for a file of another kind: its root is a message of schema. partial, unless NULL: with -EINVAL what could be
 * read of an object all the same (transferred), to tell which part of it is wrong, and for nothing else; or NULL. */
MUST_CHECK int config_load_as(const struct cfg_schema *schema, const struct config_source *source,
                              struct config **out, struct config **partial,
                              struct cfg_problems *problems);
/* The same from memory, for tests and fuzzing. name is what messages call it; one that ends in .json
 * is read as JSON. descriptor_set: the bytes of one, or the absent span. All are borrowed for the
 * call. */
MUST_CHECK int config_load_text_as(const struct cfg_schema *schema, struct span name,
                                   struct span text, struct span descriptor_set,
                                   struct config **out, struct config **partial,
                                   struct cfg_problems *problems);
MUST_CHECK int config_load_text(struct span name, struct span text, struct span descriptor_set,
                                struct config **out, struct cfg_problems *problems);
/* For who builds an item out of `from` by what `bootstrap` says besides: to him it is the bootstrap, and both stay as
 * long as it does. Owned; NULL: memory is short. */
struct config *config_beside(struct config *bootstrap, struct config *from);
struct config *config_ref(struct config *config);
void config_unref(struct config *config);
const struct cfg_bootstrap *config_bootstrap(const struct config *config);
/* Of any kind: the struct of its schema. */
const void *config_root(const struct config *config);
/* Of the text it was read from: two loads with the same one read the same. */
uint64_t config_text_hash(const struct config *config);

/* JSON in protobuf's mapping (snake_case). Owned, free with free(); NULL when memory is short. message is one of the
 * structs of schema. */
char *cfg_to_json(const struct cfg_schema *schema, const void *message, unsigned indent);
/* The same for people's eyes, /config_dump: keys and passwords that stand in the configuration itself are left out. */
char *cfg_to_json_without_secrets(const struct cfg_schema *schema, const void *message,
                                  unsigned indent);
/* Of two messages the same, each without the items at the ends of its lists that the other has there, too. */
void cfg_to_json_of_differences(const struct cfg_schema *schema, const void *const messages[2],
                                unsigned indent, char *out[2]);

/* The message in protobuf's wire format, deterministic. Owned, free with free(); NULL when memory
 * is short. */
char *cfg_to_wire(const struct cfg_schema *schema, const void *message, size_t *size_bytes);

/* Whether both say the same, NULL being a message that is not there. */
bool cfg_is_same(const struct cfg_schema *schema, const void *a, const void *b);

/* Markdown of all tables: docs/config.md. */
void cfg_print_docs(FILE *out);
/* The tables as JSON, for the comparison with Envoy's descriptors (tests/schema-go). */
void cfg_print_schema_json(FILE *out);
