/* trace_hooks: stands in for src/rt/trace_hooks.h when a source is explored. Nobody traces, and that is no
 * step: what is declared here is called by nobody. */
#pragma once
#include "rt/rt_internal.h"

static inline bool trace_is_on(void) {
    return false;
}

void trace_readies(struct g *g);
void trace_token_unused(struct g *g);
void trace_foreign_begins(struct p *p, struct m *m, struct g *g);
void trace_foreign_ends(struct p *p, struct m *m, struct g *g);
void trace_quick_begins(struct p *p, const char *site);
void trace_quick_ends(struct p *p);
void trace_retakes(struct p *p);
