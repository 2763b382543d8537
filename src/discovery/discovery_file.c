#include "discovery/discovery_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/bootstrap.h"
#include "config/discovery_config.h"
#include "config/schema.h"

void discovery_file_free(struct discovery_file *file) {
    if (!file)
        return;
    config_unref(file->config);
    free(file->items);
    free(file->names);
    free(file);
}

/* What a resource is wrapped in is taken off. */
static const struct cfg_any *unwrap(const struct cfg_any *any) {
    if (any->schema != &cfg_schema_discovery_resource)
        return any;
    return &((const struct cfg_discovery_resource *)any->message)->resource;
}

static struct span name_of(enum resource_type type, const void *message) {
    switch (type) {
    case RESOURCE_LISTENER:
        return ((const struct cfg_listener *)message)->name;
    case RESOURCE_CLUSTER:
        return ((const struct cfg_cluster *)message)->name;
    default:
        return ((const struct cfg_route_configuration *)message)->name;
    }
}

/* NULL: it was reported. */
static const void *message_of(enum resource_type type, const struct cfg_any *any,
                              struct cfg_problems *problems) {
    if (any->schema == resource_schema(type))
        return any->message;
    if (any->schema == &cfg_schema_discovery_resource)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &any->mark,
                        "a resource is wrapped once, not twice");
    else
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &any->mark,
                        "is of type %s; this file is one of %s", any->schema->name,
                        resource_schema(type)->name);
    return NULL;
}

static void read_items(struct discovery_file *file, enum resource_type type,
                       const struct cfg_discovery_response *response,
                       struct cfg_problems *problems) {
    for (size_t i = 0; i < response->resources_count; i++) {
        const struct cfg_any *any = unwrap(&response->resources[i]);
        const void *message = message_of(type, any, problems);
        if (!message)
            continue;
        struct span name = name_of(type, message);
        if (type == RESOURCE_ROUTES && name.len == 0)
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &any->mark,
                            "name is required: listeners ask for it by route_config_name");
        file->items[file->count++] = (struct resource_item){.name = name, .message = message};
    }
}

static void read_names(struct discovery_file *file, enum resource_type type,
                       const struct cfg_discovery_response *response) {
    for (size_t i = 0; i < response->resources_count; i++) {
        const struct cfg_any *any = unwrap(&response->resources[i]);
        if (any->schema == resource_schema(type))
            file->names[i] = name_of(type, any->message);
    }
    file->name_count = response->resources_count;
}

/* Takes over config. */
static struct discovery_file *new_file(struct config *config) {
    const struct cfg_discovery_response *response = config_root(config);
    struct discovery_file *file = calloc(1, sizeof *file);
    if (!file) {
        config_unref(config);
        return NULL;
    }
    file->config = config;
    file->items = calloc(response->resources_count + 1, sizeof *file->items);
    file->names = calloc(response->resources_count + 1, sizeof *file->names);
    if (file->items && file->names)
        return file;
    discovery_file_free(file);
    return NULL;
}

/* Takes over config, or what could be read of one that is refused; NULL: nothing. */
static struct discovery_file *read_file(enum resource_type type, struct config *config,
                                        struct cfg_problems *problems) {
    if (!config)
        return NULL;
    struct discovery_file *file = new_file(config);
    if (!file) {
        problems->lost = true;
        return NULL;
    }
    const struct cfg_discovery_response *response = config_root(config);
    file->version = response->version_info;
    if (file->version.len == 0) {
        uint64_t hash = config_text_hash(config);
        size_t len = span_put_hex(file->hash_text, &hash, sizeof hash);
        file->version = span_make(file->hash_text, len);
    }
    read_names(file, type, response);
    if (!cfg_problems_refuse(problems))
        read_items(file, type, response, problems);
    if (cfg_problems_refuse(problems))
        file->count = 0;
    return file;
}

struct discovery_file *discovery_file_load(enum resource_type type,
                                           const struct config_source *source,
                                           struct cfg_problems *problems) {
    struct config *config = NULL;
    (void)!config_load_as(&cfg_schema_discovery_response, source, &config, &config, problems);
    return read_file(type, config, problems);
}

struct discovery_file *discovery_file_load_text(enum resource_type type, struct span name,
                                                struct span text, struct cfg_problems *problems) {
    struct config *config = NULL;
    (void)!config_load_text_as(&cfg_schema_discovery_response, name, text, span_none(), &config,
                               &config, problems);
    return read_file(type, config, problems);
}
