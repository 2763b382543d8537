/* g_switch: stands in for src/rt/g_switch.h when a source is explored. The loop of the M is the stage's. */
#pragma once
#include "rt/rt_internal.h"

void g_switch_out(struct m *m, struct g *g);
