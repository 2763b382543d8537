/* heap_page: what profile_page.c, which has the flame graph's data, needs of the heap profile. */
#pragma once
#include "admin/page.h"

/* The heap as data for the flame graph, flame.h: "heap", "allocs" or "cycle". False when what is none of
 * these; the page is then as it was. Parks. */
bool heap_flame(struct span what, const struct query *query, struct page *page);
