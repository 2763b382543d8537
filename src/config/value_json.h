/* value_json: google.protobuf.Value from JSON text.
 *
 * Threads  Pure. It recurses: VALUE_JSON_STACK bytes must be there. */
#pragma once
#include "config/bootstrap.h"
#include "config/cfg_arena.h"

enum { VALUE_JSON_STACK = 96 * 1024 };

/* 0 and *out, whose parts are in *arena, which the caller ends with cfg_arena_fini, also after an error; -EINVAL: it is
 * no JSON, or nested deeper than NODE_DEPTH_MAX; -ENOMEM. */
MUST_CHECK int value_json_read(struct cfg_arena *arena, struct span text, struct cfg_value *out);
