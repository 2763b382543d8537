/* config_diff: what one configuration changed of another, for people: a line for each resource that came, went or is
 * another one, and of those the lines that differ, as JSON, without secrets.
 *
 * Threads  Any; it may take a while for large ones. */
#pragma once
#include "base/check.h"
#include "config/resources.h"

struct config_diff {
    char *summary; /* "listeners: 1 added, 2 changed; clusters: none", owned */
    char *text;    /* lines, each ending in a newline, owned */
};

/* after was made of before, so that what says the same has the same edition. 0 or -ENOMEM. */
MUST_CHECK int config_diff_make(const struct resources *before, const struct resources *after,
                                struct config_diff *out);
void config_diff_fini(struct config_diff *diff);
