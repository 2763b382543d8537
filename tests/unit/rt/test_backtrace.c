/* backtrace.c: the frames of coroutines that wait, that run on another thread, and that are away. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>

#include "rt/backtrace.h"
#include "rt/foreign.h"
#include "rt/poll.h"
#include "rt/rt_internal.h"
#include "rt_story.h"

/* A chain of calls that ends in a way to wait. The addresses of the three functions are known, their
 * sizes are not: a return address belongs to the nearest one below it. */
typedef void (*wait_fn)(void *arg);

static struct {
    wait_fn wait;
    void *arg;
    struct g *g;
    _Atomic bool go_on;
} chain;

static NOINLINE void inner(void) {
    chain.wait(chain.arg);
    __asm__ volatile("" ::: "memory"); /* no tail call */
}

static NOINLINE void middle(void) {
    inner();
    __asm__ volatile("" ::: "memory");
}

static NOINLINE void outer(void *arg) {
    chain.g = rt_self();
    middle();
    __asm__ volatile("" ::: "memory");
}

/* The one of the three that a return address lies in, by the nearest start below it; else NULL. */
static void *caller_of(uintptr_t pc) {
    enum { FN_BYTES = 128 }; /* more than any of them has, also with a sanitizer */
    void *const fns[] = {(void *)inner, (void *)middle, (void *)outer};
    void *nearest = NULL;
    for (int i = 0; i < 3; i++)
        if (pc - 1 - (uintptr_t)fns[i] < FN_BYTES && fns[i] > nearest)
            nearest = fns[i];
    return nearest;
}

/* All three, in order, next to each other. */
static void check_chain(const uintptr_t *pcs, unsigned count) {
    for (unsigned i = 0; i + 3 <= count; i++)
        if (caller_of(pcs[i]) == (void *)inner && caller_of(pcs[i + 1]) == (void *)middle &&
            caller_of(pcs[i + 2]) == (void *)outer)
            return;
    CHECK(!"the chain is there");
}

static void check_suspended_chain(void) {
    uintptr_t pcs[BACKTRACE_MAX];
    check_chain(pcs, backtrace_suspended(chain.g, pcs, BACKTRACE_MAX));
    CHECK(backtrace_suspended(chain.g, pcs, 2) == 2);
    CHECK(backtrace_suspended(chain.g, pcs, 0) == 0);
}

/* Starts the chain on this P and lets it come to where it waits. */
static void start_chain(wait_fn wait, void *arg) {
    chain.wait = wait;
    chain.arg = arg;
    chain.g = NULL;
    CHECK(go_here("chain", outer, NULL) == 0);
    while (!chain.g)
        rt_yield();
}

/* ---- Suspended ---- */

static void parks(void *arg) {
    while (!atomic_load(&chain.go_on))
        CHECK(rt_park("test park", RT_FOREVER) == 0);
}

static void sleeps(void *arg) {
    CHECK(rt_sleep_until(clock_mono_ns() + 3600 * NS_PER_S) == -ECANCELED);
}

static void polls(void *arg) {
    CHECK(poll_wait_readable(arg, "test poll", RT_FOREVER) == -ECANCELED);
}

static void yields(void *arg) {
    while (!atomic_load(&chain.go_on))
        rt_yield();
}

static void suspended_story(void *arg) {
    start_chain(parks, NULL);
    check_suspended_chain();
    atomic_store(&chain.go_on, true);
    rt_ready(chain.g);
    rt_yield();

    atomic_store(&chain.go_on, false);
    start_chain(yields, NULL);
    check_suspended_chain();
    atomic_store(&chain.go_on, true);
    rt_yield();

    start_chain(sleeps, NULL);
    check_suspended_chain();
    rt_cancel(chain.g);
    rt_yield();

    struct poll_fd pd = {.fd = -1};
    CHECK(poll_open(&pd, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), NULL) == 0);
    poll_not_readable(&pd);
    start_chain(polls, &pd);
    check_suspended_chain();
    rt_cancel(chain.g);
    rt_yield();
    poll_close(&pd);
    rt_stop(0);
}

static void a_parked_coroutine_shows_its_calls_in_order(void **state) {
    story(1, suspended_story);
}

static struct g *fresh;

static void notes_fresh(struct g *g, void *arg) {
    const char *name = atomic_load(&g->name);
    if (atomic_load(&g->id) && name && strcmp(name, "fresh") == 0)
        fresh = g;
}

static void fresh_story(void *arg) {
    CHECK(go_here("fresh", outer, NULL) == 0);
    stack_each(notes_fresh, NULL);
    CHECK(fresh);
    uintptr_t pcs[BACKTRACE_MAX];
    CHECK(backtrace_suspended(fresh, pcs, BACKTRACE_MAX) == 1);
    CHECK(pcs[0] - 1 == (uintptr_t)outer);
    CHECK(fresh->created_by - 1 - (uintptr_t)fresh_story < 512);
    rt_stop(0);
}

static void one_that_never_ran_shows_what_it_will_run(void **state) {
    story(1, fresh_story);
}

/* Whatever lies on the stack, the walk stays inside it. */
static void damaged_story(void *arg) {
    start_chain(parks, NULL);
    uintptr_t pcs[BACKTRACE_MAX];
    struct g copy = {.stack = chain.g->stack, .stack_size = chain.g->stack_size};
    uintptr_t low = (uintptr_t)copy.stack, high = low + copy.stack_size;
    const uintptr_t bad_sps[] = {0,       low - 8,           high, high - 8, high - 48,
                                 low + 3, UINTPTR_MAX & ~7UL};
    for (size_t i = 0; i < sizeof bad_sps / sizeof *bad_sps; i++) {
        copy.sp = (void *)bad_sps[i];
        CHECK(backtrace_suspended(&copy, pcs, BACKTRACE_MAX) == 0);
    }
    /* A frame pointer that is a loop, is unaligned or leaves the stack ends the list. */
    uintptr_t frames[64];
    copy.stack = (char *)frames;
    copy.stack_size = sizeof frames;
    copy.sp = frames;
    uintptr_t loop = (uintptr_t)&frames[40];
    const uintptr_t bad_fps[] = {loop, loop + 1, (uintptr_t)&frames[63], low, UINTPTR_MAX, 8};
    for (size_t i = 0; i < sizeof bad_fps / sizeof *bad_fps; i++) {
        for (int word = 0; word < 64; word++)
            frames[word] = bad_fps[i];
        unsigned count = backtrace_suspended(&copy, pcs, BACKTRACE_MAX);
        CHECK(count >= 1);
        CHECK(count <= 2);
    }
    rt_stop(0);
}

static void a_damaged_stack_ends_the_walk(void **state) {
    story(1, damaged_story);
}

/* ---- Running on another thread ---- */

/* ThreadSanitizer holds back a signal until the thread makes a call that it knows. */
static void skip_if_signals_wait(void) {
#ifdef RT_HAS_TSAN
    skip();
#endif
}

static _Atomic bool spinning;

static void spins(void *arg) {
    atomic_store(&spinning, true);
    while (!atomic_load_explicit(&chain.go_on, memory_order_relaxed)) {
    }
}

static struct m *m_of(unsigned p_index) {
    uintptr_t owner = atomic_load(&rt_sched.ps[p_index]->owner);
    return (struct m *)(owner & ~P_OWNER_FOREIGN);
}

static int64_t patience_ns = 10 * NS_PER_S;

/* One at a time: who watches for coroutines that run for long asks as well. */
static int ask(struct m *m, struct backtrace *bt, int64_t timeout_ns) {
    int err;
    while ((err = backtrace_running(m, bt, timeout_ns)) == -EBUSY)
        sched_yield();
    return err;
}

static void asks_about_itself(void *arg) {
    struct backtrace bt;
    CHECK(ask(m_of(0), &bt, patience_ns) == 0);
    CHECK(bt.where == BACKTRACE_RUNNING);
    CHECK(bt.g_id == atomic_load(&rt_self()->id));
    check_chain(bt.pcs, bt.count);
}

static void running_story(void *arg) {
    chain.wait = spins;
    CHECK(go_on(1, "spinner", outer, NULL) == 0);
    while (!atomic_load(&spinning))
        rt_yield();
    struct backtrace bt;
    for (int i = 0; i < 100; i++) {
        CHECK(ask(m_of(1), &bt, patience_ns) == 0);
        CHECK(bt.where == BACKTRACE_RUNNING);
        CHECK(strcmp(bt.name, "spinner") == 0);
        CHECK(bt.g_id == atomic_load(&chain.g->id));
        CHECK(bt.pcs[0] - (uintptr_t)spins < 128);
        check_chain(bt.pcs, bt.count);
    }
    chain.wait = asks_about_itself;
    outer(NULL);
    atomic_store(&chain.go_on, true);
    rt_stop(0);
}

static void a_running_coroutine_is_seen_from_another_thread(void **state) {
    skip_if_signals_wait();
    story(2, running_story);
}

static sem_t gate;
static _Atomic bool away;

static void waits(void *arg) {
    atomic_store(&away, true);
    while (sem_wait(&gate) < 0) {
    }
}

static void goes_foreign(void *arg) {
    foreign_call(waits, NULL);
}

static struct m *foreign_m;

static void foreign_story(void *arg) {
    sem_init(&gate, 0, 0);
    STORY_AWAIT((foreign_m = m_of(1)));
    chain.wait = goes_foreign;
    CHECK(go_on(1, "foreigner", outer, NULL) == 0);
    STORY_AWAIT(atomic_load(&away));
    struct backtrace bt;
    CHECK(ask(foreign_m, &bt, patience_ns) == 0);
    CHECK(bt.where == BACKTRACE_FOREIGN);
    CHECK(strcmp(bt.name, "foreigner") == 0);
    check_chain(bt.pcs, bt.count);
    sem_post(&gate);
    rt_stop(0);
}

static void in_foreign_code_the_call_to_it_is_shown(void **state) {
    story(2, foreign_story);
}

static void idle_story(void *arg) {
    struct backtrace bt;
    STORY_AWAIT(m_of(1) && backtrace_running(m_of(1), &bt, patience_ns) == 0);
    CHECK(bt.where == BACKTRACE_THREAD);
    CHECK(bt.name == NULL);
    CHECK(bt.count >= 1);
    rt_stop(0);
}

static void an_idle_thread_shows_the_scheduler(void **state) {
    story(2, idle_story);
}

/* ---- No answer ---- */

static _Atomic bool deaf;

static void is_deaf(void *arg) {
    sigset_t all;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_BLOCK, &all, NULL) == 0);
    atomic_store(&deaf, true);
    while (!atomic_load(&chain.go_on)) {
    }
    CHECK(pthread_sigmask(SIG_UNBLOCK, &all, NULL) == 0);
    atomic_store(&deaf, false);
    while (atomic_load(&chain.go_on)) {
    }
}

static void deaf_story(void *arg) {
    CHECK(go_on(1, "deaf", is_deaf, NULL) == 0);
    STORY_AWAIT(atomic_load(&deaf));
    struct m *m = m_of(1);
    struct backtrace bt = {.count = 77};
    CHECK(ask(m, &bt, NS_PER_MS) == -ETIMEDOUT);
    CHECK(ask(m, &bt, NS_PER_MS) == -ETIMEDOUT);
    CHECK(bt.count == 77);
    atomic_store(&chain.go_on, true);
    STORY_AWAIT(!atomic_load(&deaf)); /* the late signals have come and found nobody */
    CHECK(ask(m, &bt, patience_ns) == 0);
    CHECK(strcmp(bt.name, "deaf") == 0);
    atomic_store(&chain.go_on, false);
    rt_stop(0);
}

static void a_thread_that_does_not_answer_is_given_up(void **state) {
    skip_if_signals_wait();
    story(2, deaf_story);
}

/* ---- Many askers, busy Ps ---- */

enum { ASKERS = 3, ASKS = 300 };
static _Atomic unsigned answers, askers_left;

static void *asks(void *arg) {
    struct backtrace bt;
    for (unsigned i = 0; i < ASKS; i++)
        for (unsigned p = 0; p < 2; p++)
            if (m_of(p) && backtrace_running(m_of(p), &bt, 50 * NS_PER_MS) == 0) {
                CHECK(bt.count >= 1);
                CHECK(bt.count <= BACKTRACE_MAX);
                atomic_fetch_add(&answers, 1);
            }
    atomic_fetch_sub(&askers_left, 1);
    return NULL;
}

static void short_lived(void *arg) {
    rt_yield();
}

static void quick_away(void *arg) {}

static void churns(void *arg) {
    while (atomic_load(&askers_left) > 0) {
        CHECK(go("short", short_lived, NULL) == 0);
        CHECK(go_here("short", short_lived, NULL) == 0);
        foreign_call(quick_away, NULL);
        rt_yield();
    }
}

static void churn_story(void *arg) {
    atomic_store(&askers_left, ASKERS);
    pthread_t threads[ASKERS];
    for (int i = 0; i < ASKERS; i++)
        CHECK(pthread_create(&threads[i], NULL, asks, NULL) == 0);
    CHECK(go_on(1, "churns", churns, NULL) == 0);
    churns(NULL);
    for (int i = 0; i < ASKERS; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&answers) > 0);
    rt_stop(0);
}

static void questions_from_many_threads_disturb_nobody(void **state) {
    story(2, churn_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_parked_coroutine_shows_its_calls_in_order),
        cmocka_unit_test(one_that_never_ran_shows_what_it_will_run),
        cmocka_unit_test(a_damaged_stack_ends_the_walk),
        cmocka_unit_test(a_running_coroutine_is_seen_from_another_thread),
        cmocka_unit_test(in_foreign_code_the_call_to_it_is_shown),
        cmocka_unit_test(an_idle_thread_shows_the_scheduler),
        cmocka_unit_test(a_thread_that_does_not_answer_is_given_up),
        cmocka_unit_test(questions_from_many_threads_disturb_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
