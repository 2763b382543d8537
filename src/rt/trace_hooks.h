/* trace_hooks: what the runtime says to trace.c, as in if (trace_is_on()) trace_run(p, g). */
#pragma once
#include "rt/rt_internal.h"

extern _Atomic bool trace_on;
static inline bool trace_is_on(void) {
    return __builtin_expect(atomic_load_explicit(&trace_on, memory_order_relaxed), 0);
}

/* By the M that holds p. */
void trace_run(struct p *p, struct g *g);
void trace_stopped_running(struct p *p, struct m *m, struct g *g); /* as m->request says */
void trace_handed(struct p *p); /* the caller's M has just got it */
void trace_sleeps(struct p *p);
void trace_awakes(struct p *p);
void trace_steals(struct p *p, struct g *g, struct p *from);
void trace_timers(struct p *p, unsigned fired);
void trace_foreign_begins(struct p *p, struct m *m, struct g *g);
void trace_quick_begins(struct p *p, const char *site);
void trace_quick_ends(struct p *p);
/* By the M, which may have lost its P: NULL. */
void trace_foreign_ends(struct p *p, struct m *m, struct g *g);
/* Any thread, before g is queued: it is new, or was woken. */
void trace_starts(struct g *g);
void trace_readies(struct g *g);
/* On g's P: the token that was sent from elsewhere found it awake. */
void trace_token_unused(struct g *g);
/* sysmon. */
void trace_retakes(struct p *p);
