/* tree: a YAML or JSON document as a tree, each node with the line it came from.
 *
 * Ownership  Nodes and their text belong to the arena they were parsed into.
 * Shape      An alias is the same node again, so the tree may be a DAG; never a cycle. `weight`
 *            and `height` are those of the tree it stands for, and both are bounded.
 * Limits     NODE_DEPTH_MAX nested collections, as protobuf's JSON reader; NODE_ALIAS_WEIGHT_MAX
 *            nodes in all that come from aliases and merge keys, so that ten short lines cannot
 *            stand for a billion nodes; CFG_TEXT_MAX_BYTES of text. */
#pragma once
#include "config/cfg_arena.h"

enum {
    NODE_DEPTH_MAX = 100,
    NODE_ALIAS_WEIGHT_MAX = 1 << 18,
    CFG_TEXT_MAX_BYTES = 64 << 20,
};

enum cfg_tree_kind {
    NODE_NULL,
    NODE_STRING, /* quoted: a string and nothing else */
    NODE_PLAIN,  /* unquoted: a bool, a number or a string; the field decides */
    NODE_LIST,
    NODE_MAP,
};

struct cfg_tree_entry;
struct cfg_tree {
    enum cfg_tree_kind kind;
    bool is_json; /* came from JSON: a plain scalar is a number, true or false */
    uint32_t line;
    uint32_t height;  /* 0 for scalars */
    uint64_t weight;  /* nodes of the expanded tree */
    struct span file; /* for messages */
    struct span text; /* STRING, PLAIN */
    struct cfg_tree **items;
    struct cfg_tree_entry *entries;
    size_t count; /* of items or entries */
};
struct cfg_tree_entry {
    struct span key;
    uint32_t line;
    struct cfg_tree *value;
};

/* The value of a key of a NODE_MAP, or NULL. */
struct cfg_tree *cfg_tree_get(const struct cfg_tree *map, struct span key);
/* A scalar that reads as zero, however written: 0, "0", 0x0, 0.0. */
bool cfg_tree_is_zero(const struct cfg_tree *node);
/* "a list", "a string" ...: for messages. */
const char *cfg_tree_kind_name(const struct cfg_tree *node);

struct cfg_parse_error {
    uint32_t line;
    struct span text; /* the arena's */
};

/* Both: the document's root, NULL with *error filled. An empty document is a NODE_NULL. text is
 * borrowed for the call, file for as long as the tree. */
struct cfg_tree *cfg_yaml_parse(struct cfg_arena *arena, struct span file BORROWED_BY(result),
                                struct span text, struct cfg_parse_error *error);
enum cfg_json_scalars {
    CFG_JSON_SCALARS, /* a number is a number */
    CFG_YAML_SCALARS, /* JSON in a YAML file: scalars mean what YAML has them mean */
};
struct cfg_tree *cfg_json_parse(struct cfg_arena *arena, struct span file BORROWED_BY(result),
                                struct span text, enum cfg_json_scalars scalars,
                                struct cfg_parse_error *error);
