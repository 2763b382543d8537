/* discovery_file: what a file of listeners, clusters or routes holds: a DiscoveryResponse, as YAML or JSON.
 *
 * Ownership  The caller's until discovery_file_free. Names and messages are its config's, which who keeps them leases.
 * Threads    Loading reads a file: off the Ps. Then read-only.
 * Errors     Problems with file, line and path, as those of a bootstrap. */
#pragma once
#include "config/resources.h"

struct discovery_file {
    struct config *config;
    struct span version;         /* version_info; a hash of the text when there is none */
    struct resource_item *items; /* none when problems refuse the file */
    size_t count;
    struct span
        *names; /* of all resources as they stand there; none: it has none, or it cannot be read */
    size_t name_count;
    char hash_text[16];
};

/* NULL with problems: it cannot be read as a file of its kind. Problems with a file are warnings, or refuse it; then it
 * tells what they are about. All are borrowed for the call. */
struct discovery_file *discovery_file_load(enum resource_type type,
                                           const struct config_source *source,
                                           struct cfg_problems *problems);
/* The same from memory, for tests and fuzzing: see config_load_text. */
struct discovery_file *discovery_file_load_text(enum resource_type type, struct span name,
                                                struct span text, struct cfg_problems *problems);
void discovery_file_free(struct discovery_file *file); /* NULL is allowed */
