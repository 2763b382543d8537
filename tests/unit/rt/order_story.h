/* order_story: what the stories about locks share: a letter for each thing as it happens. */
#pragma once
#include <string.h>

#include "rt/waitgroup.h"
#include "rt_story.h"

static struct waitgroup group; /* of the coroutines of a story */
static char order[32];

/* The first letter of it. Coroutines of one P, or under the lock that is tested. */
static inline void note(const char *what) {
    order[strlen(order)] = *what;
}
