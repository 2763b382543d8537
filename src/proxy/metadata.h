/* metadata: dynamic metadata, what filters note of an exchange or a connection for other filters, routes and the
 * access log: values by namespace (a filter's name) and key, each as google.protobuf.Struct has them.
 *
 * Ownership  Its memory is of an arena (an exchange's), or is kept with a connection_info, and lives as long as that.
 *            What is set is copied.
 * Threads    The P of the exchange or connection. */
#pragma once
#include "config/bootstrap.h"

struct arena;
struct connection_info;
struct metadata;

/* NULL when memory is short. */
struct metadata *metadata_in_arena(struct arena *arena BORROWED_BY(result));
struct metadata *metadata_of_connection(struct connection_info *info BORROWED_BY(result));

/* Sets, or replaces. 0, -ENOMEM, or -EINVAL: nested deeper than METADATA_DEPTH_MAX. */
enum { METADATA_DEPTH_MAX = 32 };
MUST_CHECK int metadata_set(struct metadata *metadata, struct span name_space, struct span key,
                            const struct cfg_value *value);
MUST_CHECK int metadata_set_text(struct metadata *metadata, struct span name_space, struct span key,
                                 struct span text);

/* One level of a path: keys in Structs. NULL when there is none, or metadata is NULL. Borrowed until it is replaced.
 * count 0: all of the namespace, as a Struct. */
const struct cfg_value *metadata_find(const struct metadata *metadata, struct span name_space,
                                      const struct span *keys, size_t count);
