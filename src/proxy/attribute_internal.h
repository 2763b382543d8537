/* attribute_internal: values on the way of a path; shared by attribute.c and attribute_groups.c only. */
#pragma once
#include "config/bootstrap.h"
#include "proxy/attribute.h"

enum value_kind {
    VALUE_ABSENT,
    VALUE_TEXT,
    VALUE_INTEGER,
    VALUE_BOOLEAN,
    VALUE_DURATION,
    VALUE_TIME,
    VALUE_GROUP,   /* group */
    VALUE_HEADERS, /* map; NULL: an empty one */
    VALUE_TREE,    /* tree, of metadata that is locked or does not change */
    VALUE_DYNAMIC, /* the message: of the subject */
    VALUE_SPACES,  /* its namespaces */
    VALUE_CONFIG,  /* the message: config, NULL is an empty one */
    VALUE_CONFIG_SPACES,
    VALUE_STATE, /* objects of the filter state; number: only what the upstream's side is shown */
};

struct walk;
struct value {
    enum value_kind kind;
    union {
        struct span text;
        int64_t number;
        struct value (*group)(struct walk *walk, struct span field);
        const struct header_map *headers;
        const struct cfg_value *tree;
        const struct cfg_metadata *config;
    };
};

struct walk {
    const struct attribute_subject *of;
    struct span rest;       /* of the path */
    struct format_out made; /* text that is nowhere as it is asked for */
};

static const struct value value_absent = {.kind = VALUE_ABSENT};

/* What walk->made holds. */
static inline struct value value_made(const struct walk *walk) {
    return (struct value){.kind = VALUE_TEXT,
                          .text = walk->made.len ? span_make(walk->made.data, walk->made.len)
                                                 : SPAN_LIT("")};
}

/* All headers of that name, joined; `host` of a request is the pseudo header. */
struct value value_of_header(struct walk *walk, const struct header_map *map, struct span name);
/* The first name of a path, if it is a group's; else absent. */
struct value value_of_group(struct span name);
