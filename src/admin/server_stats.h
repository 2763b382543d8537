/* server_stats: the stats of the process itself: server.*, rt.* of the runtime and rt.p<N>.* of each P.
 *
 * They are read where they arise (the allocator, the runtime, the hooks) when somebody asks, and
 * set as gauges and counters like any other, so that every format and filter sees them.
 *
 * Threads  Any P; two at a time only make the same numbers twice.
 * Parks    Both do: asking for memory takes longer than a P has. */
#pragma once
#include "heap/memory_use.h"

void server_stats_refresh(void);
struct memory_use server_memory(void);
