/* queues: stands in for src/rt/queues.h when a source is explored. Whose turn it is is the explorer's
 * choice; stage.c has these. */
#pragma once
#include "rt/rt_internal.h"

void queue_push(struct p *p, struct g *g);
void queue_push_next(struct p *p, struct g *g);
void queue_push_global(struct g *g);
uint64_t queue_depth(struct p *p);
