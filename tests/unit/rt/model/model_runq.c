/* runq: whatever is in a ring leaves it exactly once, and its memory comes along. */
#include <string.h>

#include "explorer.h"
#include "rt/runq.h"

struct g {
    struct model_cell payload; /* written before the push, read by whoever takes it */
};

enum { GS = 4 };
static struct g gs[GS];
static struct runq ring, thief_ring[2];
static unsigned taken[GS];
static uint32_t start;

static void setup(void) {
    memset(&ring, 0, sizeof ring);
    memset(thief_ring, 0, sizeof thief_ring);
    memset(gs, 0, sizeof gs);
    memset(taken, 0, sizeof taken);
    ring.head = ring.tail = start;
}

static void setup_at_the_wrap(void) {
    start = UINT32_MAX - 1;
    setup();
    start = 0;
}

static void took(struct g *g) {
    unsigned i = (unsigned)(g - gs);
    MODEL_CHECK(model_cell_read(&g->payload) == i + 100);
    taken[i]++;
}

static void push(unsigned i) {
    model_cell_write(&gs[i].payload, i + 100);
    MODEL_CHECK(runq_push(&ring, &gs[i]));
}

static void owner_pushes_and_takes(void) {
    push(0);
    push(1);
    struct g *g = runq_take(&ring);
    if (g)
        took(g);
    push(2);
    push(3);
    g = runq_take(&ring);
    if (g)
        took(g);
}

static void steal_into(struct runq *own) {
    struct g *g = runq_steal(own, &ring);
    if (!g)
        return;
    took(g);
    while ((g = runq_take(own)))
        took(g);
}

static void first_thief(void) {
    steal_into(&thief_ring[0]);
}

static void second_thief(void) {
    steal_into(&thief_ring[1]);
}

static void thief_of_the_thief(void) {
    struct runq own;
    memset(&own, 0, sizeof own);
    struct g *g = runq_steal(&own, &thief_ring[0]);
    if (g)
        took(g);
    while ((g = runq_take(&own)))
        took(g);
}

static void each_left_once(void) {
    struct g *g;
    while ((g = runq_take(&ring)))
        taken[g - gs]++;
    for (unsigned i = 0; i < 2; i++)
        while ((g = runq_take(&thief_ring[i])))
            taken[g - gs]++;
    for (unsigned i = 0; i < GS; i++)
        MODEL_CHECK(taken[i] == 1);
}

int main(void) {
    static const struct model_story stories[] = {
        {.name = "an owner and two thieves",
         .setup = setup,
         .thread_count = 3,
         .threads = {owner_pushes_and_takes, first_thief, second_thief},
         .check = each_left_once,
         .preemptions = 2,
         .stale_reads = 1},
        {.name = "an owner and a thief, more switches, at the wrap of the indices",
         .setup = setup_at_the_wrap,
         .thread_count = 2,
         .threads = {owner_pushes_and_takes, first_thief},
         .check = each_left_once,
         .preemptions = 3,
         .stale_reads = 2},
        {.name = "a thief that is robbed while it steals",
         .setup = setup,
         .thread_count = 3,
         .threads = {owner_pushes_and_takes, first_thief, thief_of_the_thief},
         .check = each_left_once,
         .preemptions = 2,
         .stale_reads = 1},
    };
    for (unsigned i = 0; i < sizeof stories / sizeof stories[0]; i++)
        model_explore(&stories[i]);
    return 0;
}
