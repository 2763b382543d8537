/* runtime_layers: what the static layers of layered_runtime say about a key.
 *
 * A layer is a Struct whose names are joined by dots, however they are nested: {a: {b.c: 1}} says 1 of
 * "a.b.c". A later layer hides what an earlier one says. Nothing changes while the process runs.
 *
 * Heeded   RUNTIME_LISTENER_PREFIX NAME RUNTIME_LISTENER_SUFFIX   connections of a listener
 *          RUNTIME_GLOBAL_CONNECTIONS                             of the process; deprecated on Envoy
 *          Others are accepted with a warning: a config of Envoy's is full of keys for its own features.
 * Threads  Any: a config is immutable. */
#pragma once
#include "base/check.h"
#include "config/bootstrap.h"

#define RUNTIME_LISTENER_PREFIX "envoy.resource_limits.listener."
#define RUNTIME_LISTENER_SUFFIX ".connection_limit"
#define RUNTIME_GLOBAL_CONNECTIONS "overload.global_downstream_max_connections"

/* A key that is heeded, which loading has checked to be a whole number. False, and *out untouched, when
 * no layer has it. runtime may be NULL. */
bool cfg_runtime_u64(const struct cfg_layered_runtime *runtime, struct span key, uint64_t *out);
/* connection_limit of the listener of that name: 1; 0 when no layer has it; -ENOMEM. */
MUST_CHECK int cfg_runtime_listener_limit(const struct cfg_layered_runtime *runtime,
                                          struct span listener, uint64_t *out);

/* A value as Envoy understands numbers: 2 and "2". False when it is no whole number from 0. */
bool cfg_runtime_number(const struct cfg_value *value, uint64_t *out);
