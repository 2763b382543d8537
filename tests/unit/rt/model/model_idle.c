/* idle: no P sleeps while there is work that nobody is bound to find. idle.c and runq.c as they are; the
 * loop around them is that of sched.c, with what it does not need for this left out.
 *
 * Thread i is the M of P i, but for a STRANGER. Work is counted: what a busy P leaves in its ring, what a
 * stranger puts into the global queue (a counter here) and what arrives in an inbox. The check at the end,
 * when all that can sleep sleeps, is that all of it was done. */
#include <string.h>

#include "explorer.h"
#include "rt/idle.h"
#include "rt/runq.h"

enum { PS = 3, WORKS = 3 };

struct g {
    struct model_cell payload;
};

struct p {
    struct idle_p idle;
    struct runq ring;
    _Atomic uint32_t inbox;
    bool interrupted;
};

static struct p ps[PS];
static struct g works[WORKS];
static _Atomic uint32_t global_count;
static unsigned done, given, inboxes_done;
static unsigned p_count;

_Noreturn void assert_failed(const char *file, int line, const char *condition) {
    model_fail(file, line, condition);
}

/* ---- What idle.c calls ---- */

static struct p *p_of(struct idle_p *idle) {
    return &ps[idle->index];
}

bool sched_sees_own_work(struct idle_p *idle) {
    return atomic_load(&p_of(idle)->inbox) != 0;
}

bool sched_sees_shared_work(bool patient) {
    (void)patient;
    if (atomic_load(&global_count))
        return true;
    for (unsigned i = 0; i < p_count; i++)
        if (!runq_is_empty(&ps[i].ring))
            return true;
    return false;
}

void poller_interrupt(struct idle_p *idle) {
    model_wake(&p_of(idle)->interrupted);
}

/* ---- The loop of a P ---- */

static void works_off(struct g *g) {
    MODEL_CHECK(model_cell_read(&g->payload) == 5);
    done++;
}

static bool take_global(void) {
    uint32_t count = atomic_load_explicit(&global_count, memory_order_relaxed);
    while (count > 0)
        if (atomic_compare_exchange_strong(&global_count, &count, count - 1))
            return true;
    return false;
}

/* False when nothing was found, and the P is to sleep. */
static bool find_and_do(struct p *self) {
    if (atomic_load_explicit(&self->inbox, memory_order_relaxed)) {
        inboxes_done += atomic_exchange_explicit(&self->inbox, 0, memory_order_acquire);
        return true;
    }
    struct g *g = runq_take(&self->ring);
    bool global = !g && take_global();
    if (!g && !global && idle_may_spin(&self->idle))
        for (unsigned i = 0; i < p_count && !g; i++)
            if (&ps[i] != self)
                g = runq_steal(&self->ring, &ps[i].ring);
    if (!g && !global)
        return false;
    idle_found(&self->idle);
    if (g)
        works_off(g);
    else
        done++;
    return true;
}

static void loop(struct p *self) {
    for (;;) {
        while (find_and_do(self)) {
        }
        if (!idle_fall_asleep(&self->idle))
            continue;
        model_wait(&self->interrupted); /* for ever, when there is no more work */
        self->interrupted = false;
        idle_awake(&self->idle);
    }
}

static void p0_loops(void) {
    loop(&ps[0]);
}

static void p1_loops(void) {
    loop(&ps[1]);
}

/* What it finds first computes for ever. */
static void p1_is_busy_with_the_first(void) {
    while (!find_and_do(&ps[1])) {
        if (!idle_fall_asleep(&ps[1].idle))
            continue;
        model_wait(&ps[1].interrupted);
        ps[1].interrupted = false;
        idle_awake(&ps[1].idle);
    }
}

static void p2_loops(void) {
    loop(&ps[2]);
}

/* ---- Who gives work ---- */

static void push_and_announce(struct p *p) {
    struct g *g = &works[given++];
    model_cell_write(&g->payload, 5);
    MODEL_CHECK(runq_push(&p->ring, g));
    idle_new_work();
}

/* A coroutine of P 0 makes two others ready and then computes for ever: somebody else must run them. */
static void p0_gives_two_and_is_busy(void) {
    push_and_announce(&ps[0]);
    push_and_announce(&ps[0]);
}

static void p0_gives_one_and_is_busy(void) {
    push_and_announce(&ps[0]);
}

static void p0_gives_one_and_loops(void) {
    push_and_announce(&ps[0]);
    loop(&ps[0]);
}

static void stranger_gives_one(void) {
    given++;
    atomic_fetch_add(&global_count, 1);
    idle_new_work();
}

static void stranger_posts_to_p1(void) {
    atomic_store(&ps[1].inbox, 1);
    idle_wake(&ps[1].idle);
}

static void stranger_claims_one(void) {
    int index = idle_claim(0);
    if (index < 0) { /* all are busy: then as queue_push_global does */
        stranger_gives_one();
        return;
    }
    atomic_store(&ps[index].inbox, 1);
    idle_wake(&ps[index].idle);
}

/* The first coroutine that may be stolen comes when the others sleep already, unlisted. */
static void p0_shares_and_is_busy(void) {
    idle_share(1);
    push_and_announce(&ps[0]);
}

/* ---- The stories ---- */

static bool share_first;

static void setup(void) {
    memset(ps, 0, sizeof ps);
    memset(works, 0, sizeof works);
    idle_init(p_count);
    for (unsigned i = 0; i < p_count; i++)
        idle_p_init(&ps[i].idle, i);
    if (share_first)
        idle_share(1);
    atomic_store_explicit(&global_count, 0, memory_order_relaxed);
    done = given = inboxes_done = 0;
}

static void all_is_done(void) {
    MODEL_CHECK(done == given);
    MODEL_CHECK(atomic_load(&global_count) == 0);
    for (unsigned i = 0; i < p_count; i++) {
        MODEL_CHECK(!atomic_load(&ps[i].inbox));
        MODEL_CHECK(!ps[i].interrupted);
    }
    MODEL_CHECK(idle_spinning_count() == 0);
}

int main(void) {
    static const struct {
        const char *name;
        unsigned p_count;
        bool share_first;
        unsigned preemptions;
        void (*threads[3])(void);
    } rows[] = {
        {"a busy P gives two, one other P", 2, true, 3, {p0_gives_two_and_is_busy, p1_loops}},
        {"a busy P gives two, two other Ps",
         3,
         true,
         2,
         {p0_gives_two_and_is_busy, p1_loops, p2_loops}},
        {"a busy P gives two, another is busy with the first",
         3,
         true,
         2,
         {p0_gives_two_and_is_busy, p1_is_busy_with_the_first, p2_loops}},
        {"a P gives one and both look", 2, true, 3, {p0_gives_one_and_loops, p1_loops}},
        {"a stranger gives one to two Ps", 2, true, 2, {p0_loops, p1_loops, stranger_gives_one}},
        {"a busy P and a stranger give",
         2,
         true,
         2,
         {p0_gives_two_and_is_busy, p1_loops, stranger_gives_one}},
        {"a message to a P that others want",
         2,
         true,
         2,
         {p0_gives_two_and_is_busy, p1_loops, stranger_posts_to_p1}},
        {"a stranger claims an idle P", 2, true, 2, {p0_loops, p1_loops, stranger_claims_one}},
        {"a claimed P is wanted for shared work",
         2,
         true,
         2,
         {p0_gives_two_and_is_busy, p1_loops, stranger_claims_one}},
        {"the only idle P is claimed meanwhile",
         2,
         true,
         2,
         {p0_gives_one_and_is_busy, p1_loops, stranger_claims_one}},
        {"the first that may be stolen", 2, false, 3, {p0_shares_and_is_busy, p1_loops}},
        {"the first that may be stolen, two Ps",
         3,
         false,
         2,
         {p0_shares_and_is_busy, p1_loops, p2_loops}},
        {"pinned work only", 2, false, 2, {p0_loops, p1_loops, stranger_posts_to_p1}},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        p_count = rows[i].p_count;
        share_first = rows[i].share_first;
        struct model_story story = {.name = rows[i].name,
                                    .setup = setup,
                                    .check = all_is_done,
                                    .preemptions = rows[i].preemptions,
                                    .stale_reads = 1};
        while (story.thread_count < 3 && rows[i].threads[story.thread_count]) {
            story.threads[story.thread_count] = rows[i].threads[story.thread_count];
            story.thread_count++;
        }
        model_explore(&story);
    }
    return 0;
}
