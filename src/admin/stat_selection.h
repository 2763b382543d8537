/* stat_selection: which stats a request asks for, by ?usedonly, ?filter, ?type, and those that are.
 *
 * Ownership  selection_fini frees the list; the stats in it live as long as the process.
 * Limits     Patterns of FILTER_LEN_MAX bytes and FILTER_NESTING_MAX groups deep: compiling
 *            recurses on a coroutine's stack. Matching stops after FILTER_TIME_NS: a pattern that
 *            backtracks must not hold up the P. */
#pragma once
#include "admin/page.h"
#include "base/clock.h"
#include "base/stats.h"
#include "proxy/regex.h"

enum { FILTER_LEN_MAX = 1024, FILTER_NESTING_MAX = 20 };
#define FILTER_TIME_NS (100 * NS_PER_MS)

struct selection {
    const struct statistic **items; /* sorted by name */
    size_t count;
};

/* False when the request is wrong or memory is short: the page then says so. */
MUST_CHECK bool selection_make(struct selection *selection, const struct query *query,
                               struct page *page);
void selection_fini(struct selection *selection);

/* A filter pattern within the limits, NULL when it is none: the page then says so. */
struct regex *filter_compile(struct span pattern, struct page *page);
