/* park: no wake-up is lost, none is doubled, and what the waker wrote comes along. park.c and inbox.c
 * as they are, woken from no P, as foreign code does, and from other Ps. */
#include <errno.h>
#include <string.h>

#include "stage.h"

enum { WAKERS = 2 };

static struct model_cell letters[WAKERS];
static _Atomic uint32_t sent[WAKERS];
static int64_t deadline_ns;
static enum stage_role waiter_role, waker_role;

static void setup(void) {
    enum stage_role roles[MODEL_THREADS_MAX] = {waiter_role, waker_role};
    stage_setup(roles);
    memset(letters, 0, sizeof letters);
    for (unsigned i = 0; i < WAKERS; i++)
        atomic_store_explicit(&sent[i], 0, memory_order_relaxed);
    deadline_ns = RT_FOREVER;
}

static void setup_with_deadline(void) {
    setup();
    deadline_ns = stage_deadline();
}

/* Waits for every waker's letter, as all users of park do: on a condition of its own. The loads are
 * relaxed on purpose: only the token brings what was written before it was given. */
static void waits_for_letters(void) {
    for (unsigned i = 0; i < WAKERS; i++) {
        while (!atomic_load_explicit(&sent[i], memory_order_relaxed)) {
            int err = rt_park("letter", deadline_ns);
            if (err == -ETIMEDOUT)
                deadline_ns = RT_FOREVER; /* once; from then on only a wake-up helps */
            else
                MODEL_CHECK(err == 0);
        }
    }
}

/* Reads the letter without any help of a flag: park and ready alone order it. */
static void waits_for_one_token(void) {
    MODEL_CHECK(rt_park("token", RT_FOREVER) == 0);
    MODEL_CHECK(model_cell_read(&letters[0]) == 7);
}

/* A lock that the waker takes: once it has it, the coroutine is parked. */
static struct model_cell under_lock;
static _Atomic uint32_t lock;

static void unlock(void *arg) {
    (void)arg;
    atomic_store_explicit(&lock, 0, memory_order_release);
}

static void setup_locked(void) {
    setup();
    atomic_store_explicit(&lock, 1, memory_order_relaxed);
    model_cell_write(&under_lock, 0);
}

static void parks_and_unlocks(void) {
    model_cell_write(&under_lock, 1);
    int err = rt_park_unlock(unlock, NULL, "unlock", RT_FOREVER);
    MODEL_CHECK(err == 0);
    MODEL_CHECK(model_cell_read(&under_lock) == 2);
}

static void takes_the_lock_and_wakes(void) {
    while (atomic_exchange_explicit(&lock, 1, memory_order_acquire))
        model_yield();
    MODEL_CHECK(model_cell_read(&under_lock) == 1);
    model_cell_write(&under_lock, 2);
    uint32_t state = atomic_load_explicit(&stage_g(0)->state, memory_order_relaxed);
    MODEL_CHECK(state == G_PARKED || state == G_PARKED_ANY);
    rt_ready(stage_g(0));
}

static void wake_by(unsigned i) {
    model_cell_write(&letters[i], 7);
    atomic_store_explicit(&sent[i], 1, memory_order_relaxed);
    rt_ready(stage_g(0));
}

static void first_waker(void) {
    wake_by(0);
}

static void second_waker(void) {
    wake_by(1);
}

/* Two wake-ups in a row, the second perhaps before the first has arrived. */
static void eager_waker(void) {
    wake_by(0);
    wake_by(1);
}

/* A dump: whoever holds the claim reads what the coroutine last wrote, and nobody wakes it then. */
static struct model_cell on_stack;

static void writes_and_waits(void) {
    model_cell_write(&on_stack, 1);
    MODEL_CHECK(rt_park("token", RT_FOREVER) == 0);
    model_cell_write(&on_stack, 2);
    MODEL_CHECK(model_cell_read(&letters[0]) == 7);
}

static void scans(void) {
    enum g_scan scan = park_scan_begin(stage_g(0));
    if (scan == G_SCAN_NOT)
        return;
    MODEL_CHECK(scan == G_SCAN_PARKED);
    MODEL_CHECK(model_cell_read(&on_stack) == 1);
    model_yield();
    MODEL_CHECK(model_cell_read(&on_stack) == 1);
    park_scan_end(stage_g(0), scan);
}

static void scans_only(void) {
    enum g_scan scan = park_scan_begin(stage_g(0));
    if (scan != G_SCAN_NOT)
        park_scan_end(stage_g(0), scan);
}

/* A coroutine that P 1 wakes from P 0, and that parks anew on P 1 while P 0 still fires the deadline of
 * the first wait: that must not end the second. Nobody runs it here; its steps are the threads'. */
static void park_on(struct p *p) {
    struct g *g = stage_g(0);
    g->timed_out = false;
    g->deadline.deadline_ns = stage_deadline();
    deadlines_add(&p->deadlines, &g->deadline);
    g->deadline_p = p;
    atomic_store_explicit(&g->state, G_PARKED_ANY, memory_order_release);
}

static void setup_migration(void) {
    setup();
    park_on(stage_p(0));
}

static void p0_fires(void) {
    park_advance_deadlines(stage_p(0), stage_deadline() + WHEEL_TICK_NS);
}

static bool parked_anew;

static void p1_wakes_and_runs_it(void) {
    parked_anew = false;
    rt_ready(stage_g(0));
    if (stage_take(0)) {
        park_on(stage_p(1));
        parked_anew = true;
    }
}

static void check_migration(void) {
    struct g *g = stage_g(0);
    uint32_t state = atomic_load(&g->state);
    MODEL_CHECK(g->timed_out == !parked_anew);
    MODEL_CHECK(timer_is_armed(&g->deadline) == parked_anew);
    if (parked_anew)
        MODEL_CHECK(state == G_PARKED_ANY);
    else
        MODEL_CHECK(state == G_NOTIFIED || state == G_ACTIVE);
}

int main(void) {
    enum kind { ONE_TOKEN, ONE_TWICE, TWO, DEADLINE, UNLOCK, SCAN, SCAN_DEADLINE, MIGRATES };
    static const struct {
        const char *name;
        enum stage_role waiter, waker;
        enum kind kind;
    } rows[] = {
        {"pinned, a token from a thread", STAGE_PINNED, STAGE_FOREIGN, ONE_TOKEN},
        {"pinned, two threads wake it", STAGE_PINNED, STAGE_FOREIGN, TWO},
        {"pinned, one thread wakes it twice", STAGE_PINNED, STAGE_FOREIGN, ONE_TWICE},
        {"pinned, with a deadline, woken twice", STAGE_PINNED, STAGE_FOREIGN, DEADLINE},
        {"pinned, parks with an unlock", STAGE_PINNED, STAGE_FOREIGN, UNLOCK},
        {"stealable, a token from a thread", STAGE_STEALABLE, STAGE_FOREIGN, ONE_TOKEN},
        {"stealable, two threads wake it", STAGE_STEALABLE, STAGE_FOREIGN, TWO},
        {"stealable, one thread wakes it twice", STAGE_STEALABLE, STAGE_FOREIGN, ONE_TWICE},
        {"stealable, a token from another P", STAGE_STEALABLE, STAGE_STEALABLE, ONE_TOKEN},
        {"stealable, another P and a thread wake it", STAGE_STEALABLE, STAGE_STEALABLE, TWO},
        {"stealable, with a deadline, woken from a P", STAGE_STEALABLE, STAGE_STEALABLE, DEADLINE},
        {"stealable, with a deadline, woken from none", STAGE_STEALABLE, STAGE_FOREIGN, DEADLINE},
        {"stealable, parks with an unlock", STAGE_STEALABLE, STAGE_STEALABLE, UNLOCK},
        {"pinned, a dump keeps its hands off", STAGE_PINNED, STAGE_FOREIGN, SCAN},
        {"stealable, scanned while a thread wakes it", STAGE_STEALABLE, STAGE_FOREIGN, SCAN},
        {"stealable, scanned while another P wakes it", STAGE_STEALABLE, STAGE_STEALABLE, SCAN},
        {"stealable, scanned while its deadline fires", STAGE_STEALABLE, STAGE_FOREIGN,
         SCAN_DEADLINE},
        {"stealable, parks on another P while the first fires", STAGE_STEALABLE, STAGE_STEALABLE,
         MIGRATES},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        waiter_role = rows[i].waiter;
        waker_role = rows[i].waker;
        struct model_story story = {.name = rows[i].name,
                                    .setup = setup,
                                    .thread_count = 2,
                                    .threads = {waits_for_letters, first_waker, second_waker},
                                    .check = stage_check_all_ended,
                                    .preemptions = 3,
                                    .stale_reads = 2};
        switch (rows[i].kind) {
        case ONE_TOKEN:
            story.threads[0] = waits_for_one_token;
            break;
        case ONE_TWICE:
            story.threads[1] = eager_waker;
            break;
        case TWO:
            story.thread_count = 3;
            break;
        case DEADLINE:
            story.setup = setup_with_deadline;
            story.threads[1] = eager_waker;
            break;
        case SCAN:
            story.thread_count = 3;
            story.threads[0] = writes_and_waits;
            story.threads[2] = scans;
            break;
        case SCAN_DEADLINE:
            story.setup = setup_with_deadline;
            story.thread_count = 3;
            story.threads[1] = eager_waker;
            story.threads[2] = scans_only;
            break;
        case MIGRATES:
            story.setup = setup_migration;
            story.threads[0] = p0_fires;
            story.threads[1] = p1_wakes_and_runs_it;
            story.check = check_migration;
            break;
        case UNLOCK:
            story.setup = setup_locked;
            story.threads[0] = parks_and_unlocks;
            story.threads[1] = takes_the_lock_and_wakes;
            break;
        }
        model_explore(&story);
    }
    return 0;
}
