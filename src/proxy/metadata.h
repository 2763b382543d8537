/* metadata: dynamic metadata, what filters note of an exchange or a connection for other filters, routes and the
 * access log: values by namespace (a filter's name) and key, each as google.protobuf.Struct has them.
 *
 * Ownership  Counted. What is set is copied; what is replaced is freed.
 * Threads    Any, under its own lock: extensions set and ask from threads of their own while coroutines go on.
 *            Whoever looks with metadata_find holds the lock as long as he looks.
 * Limits     METADATA_BYTES_MAX of copies: a filter in a loop fails before memory does. They are not charged to the
 *            listener's memory limit, since who sets them may have no coroutine that could wait for it. */
#pragma once
#include "config/bootstrap.h"
#include "config/value_wire.h"

struct metadata;
enum { METADATA_DEPTH_MAX = VALUE_DEPTH_MAX, METADATA_BYTES_MAX = 1 << 20 };

/* Owned. NULL when memory is short. */
struct metadata *metadata_new(void);
/* One more owner. */
struct metadata *metadata_ref(struct metadata *metadata);
/* The last one frees it. NULL: nothing. */
void metadata_unref(struct metadata *metadata);

/* Sets, or replaces. 0, -ENOMEM, -E2BIG, or -EINVAL: nested deeper than METADATA_DEPTH_MAX. */
MUST_CHECK int metadata_set(struct metadata *metadata, struct span name_space, struct span key,
                            const struct cfg_value *value);
MUST_CHECK int metadata_set_text(struct metadata *metadata, struct span name_space, struct span key,
                                 struct span text);

/* NULL is nobody's: nothing happens. */
void metadata_lock(struct metadata *metadata);
void metadata_unlock(struct metadata *metadata);
/* With the lock. One level of a path: keys in Structs. NULL when there is none, or metadata is NULL. Borrowed until the
 * lock is given up. count 0: all of the namespace, as a Struct. */
const struct cfg_value *metadata_find(const struct metadata *metadata, struct span name_space,
                                      const struct span *keys, size_t count);
/* With the lock: a Struct of the namespaces, borrowed likewise. */
const struct cfg_value *metadata_all(const struct metadata *metadata);

/* A field of what is a Struct; NULL: there is none, or it is something else. */
const struct cfg_value *metadata_field(const struct cfg_value *value, struct span key);
