/* trace_hooks: stands in for src/rt/trace_hooks.h when a source is explored. Nobody traces, and that is no step. */
#pragma once
#include "rt/rt_internal.h"

static inline bool trace_is_on(void) {
    return false;
}
static inline void trace_readies(struct g *g) {
    (void)g;
}
static inline void trace_token_unused(struct g *g) {
    (void)g;
}
