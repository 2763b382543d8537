/* foreign.c, blocking.c: code that blocks, and Ps that go on without it. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "rt/foreign.h"
#include "rt_story.h"

/* ---- Plain calls ---- */

static int plain_calls;
static pthread_t plain_thread;

static void plain(void *arg) {
    CHECK(foreign_is_active());
    CHECK(rt_self() == NULL);
    char on_thread_stack[200 * 1024]; /* more than any coroutine has */
    memset(on_thread_stack, plain_calls, sizeof on_thread_stack);
    __asm__ volatile("" : : "r"(on_thread_stack) : "memory");
    plain_thread = pthread_self();
    plain_calls += *(int *)arg;
}

static void plain_story(void *arg) {
    CHECK(!foreign_is_active());
    int one = 1;
    for (int i = 0; i < 1000; i++)
        foreign_call(plain, &one);
    CHECK(plain_calls == 1000);
    CHECK(!foreign_is_active());
    CHECK(rt_self() != NULL);
    rt_stop(0);
}

static void foreign_code_runs_on_a_thread_stack(void **state) {
    story(1, plain_story);
}

/* ---- All Ps blocked ---- */

enum { PS = 2 };
static sem_t gate[PS];
static _Atomic unsigned entered, left, served_during[PS];
static _Atomic bool blocking;

static void waits_at_gate(void *arg) {
    atomic_fetch_add(&entered, 1);
    while (sem_wait(arg) < 0) {
    }
}

static void blocked(void *arg) {
    unsigned home = rt_p_index();
    foreign_call(waits_at_gate, &gate[home]);
    CHECK(rt_p_index() == home);
    atomic_fetch_add(&left, 1);
}

/* Pinned to the same P as a blocked one, and served meanwhile. */
static void served(void *arg) {
    unsigned home = rt_p_index();
    while (atomic_load(&blocking)) {
        if (atomic_load(&entered) == PS)
            atomic_fetch_add(&served_during[home], 1);
        CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
        CHECK(rt_p_index() == home);
    }
    atomic_fetch_add(&left, 1);
}

/* Without a P of its own to depend on: a plain thread opens the gates. */
static void *opens_gates(void *arg) {
    while (atomic_load(&served_during[0]) < 20 || atomic_load(&served_during[1]) < 20)
        sched_yield();
    CHECK(atomic_load(&left) == 0);
    atomic_store(&blocking, false);
    for (int i = 0; i < PS; i++)
        sem_post(&gate[i]);
    return NULL;
}

static void blocked_story(void *arg) {
    struct rt_p_stats stats[PS];
    atomic_store(&blocking, true);
    for (unsigned i = 0; i < PS; i++) {
        sem_init(&gate[i], 0, 0);
        CHECK(go_on(i, "served", served, NULL) == 0);
        CHECK(go_on(i, "blocked", blocked, NULL) == 0);
    }
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, opens_gates, NULL) == 0);
    STORY_AWAIT(atomic_load(&left) == 2 * PS);
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < PS; i++) {
        rt_p_stats(i, &stats[i]);
        CHECK(stats[i].retakes >= 1);
        CHECK(stats[i].foreign_calls >= 1);
    }
    rt_stop(0);
}

static void blocked_foreign_code_does_not_hold_its_p(void **state) {
    story(PS, blocked_story);
}

/* ---- Messages while blocked ---- */

static _Atomic bool posted_ran, readied;
static struct g *stealable_self;

static void post_runs(struct rt_post *post) {
    atomic_store(&posted_ran, true);
}

/* The P is retaken while we are here, or the post would never run. */
static void posts_and_waits(void *arg) {
    static struct rt_post post = {.fn = post_runs};
    rt_post((unsigned)(uintptr_t)arg, &post);
    while (!atomic_load(&posted_ran))
        sched_yield();
    rt_ready(stealable_self); /* a token for the one that waits for us */
    atomic_store(&readied, true);
}

static void stealable_blocks(void *arg) {
    stealable_self = rt_self();
    foreign_call(posts_and_waits, (void *)(uintptr_t)rt_p_index());
    CHECK(rt_self() == stealable_self);
    CHECK(atomic_load(&readied));
    CHECK(rt_park("token from foreign code", story_soon()) == 0);
    rt_stop(0);
}

static void message_story(void *arg) {
    CHECK(go("blocks", stealable_blocks, NULL) == 0);
}

static void foreign_code_may_post_and_ready(void **state) {
    story(1, message_story);
    story(2, message_story);
}

/* ---- Many at once ---- */

enum { CALLERS = 50, CALLS = 40 };
static _Atomic unsigned many_left;

static void sometimes_blocks(void *arg) {
    unsigned i = (unsigned)(uintptr_t)arg;
    if (i % 20 == 0) {
        struct timespec pause = {.tv_nsec = 3 * NS_PER_MS}; /* what is being tested: a slow call */
        nanosleep(&pause, NULL);
    }
}

static void calls_often(void *arg) {
    for (unsigned i = 0; i < CALLS; i++) {
        foreign_call(sometimes_blocks, (void *)(uintptr_t)((unsigned)(uintptr_t)arg + i));
        if (i % 3 == 0)
            rt_yield();
    }
    atomic_fetch_add(&many_left, 1);
}

static void many_story(void *arg) {
    for (unsigned i = 0; i < CALLERS; i++) {
        CHECK(go_on(i % 2, "pinned caller", calls_often, (void *)(uintptr_t)i) == 0);
        CHECK(go("caller", calls_often, (void *)(uintptr_t)i) == 0);
    }
    STORY_AWAIT(atomic_load(&many_left) == 2 * CALLERS);
    rt_stop(0);
}

static void many_callers_come_back(void **state) {
    story(2, many_story);
}

/* ---- Ms ---- */

enum { BLOCKING_CALLS = 1000 };

/* Longer than sysmon waits: what is being tested. */
static void outlasts_sysmon(void *arg) {
    uint64_t retakes = *(const uint64_t *)arg;
    struct rt_p_stats stats;
    for (int64_t until = story_soon();;) {
        rt_p_stats(0, &stats);
        if (stats.retakes > retakes)
            return;
        CHECK(clock_mono_ns() < until);
        struct timespec pause = {.tv_nsec = 100 * NS_PER_US};
        nanosleep(&pause, NULL);
    }
}

static void reuse_story(void *arg) {
    for (uint64_t i = 0; i < BLOCKING_CALLS; i++) {
        foreign_call(outlasts_sysmon, &i);
        CHECK(rt_p_index() == 0);
    }
    struct rt_stats stats;
    rt_stats(&stats);
    CHECK(stats.ms <= 3); /* the P's, the one that was stuck, and one on its way back */
    struct rt_p_stats p_stats;
    rt_p_stats(0, &p_stats);
    CHECK(p_stats.retakes == BLOCKING_CALLS);
    CHECK(p_stats.handoffs >= BLOCKING_CALLS);
    CHECK(p_stats.foreign_calls == BLOCKING_CALLS);
    rt_stop(0);
}

static void ms_are_used_again(void **state) {
    story(1, reuse_story);
}

static sem_t few_gate;
static _Atomic unsigned few_inside, few_left;

static void few_wait(void *arg) {
    atomic_fetch_add(&few_inside, 1);
    while (sem_wait(&few_gate) < 0) {
    }
}

static void few_caller(void *arg) {
    foreign_call(few_wait, NULL);
    atomic_fetch_add(&few_left, 1);
}

/* Sees that the runtime was refused an M, which only the outside can: the P is stuck. */
static void *opens_few(void *arg) {
    struct rt_stats stats;
    int64_t until = story_soon();
    do {
        CHECK(clock_mono_ns() < until);
        rt_stats(&stats);
    } while (stats.m_refused == 0);
    CHECK(atomic_load(&few_inside) == 3); /* the P's own M and two spares */
    CHECK(stats.ms == 3);
    CHECK(stats.foreign_ms == 3);
    for (int i = 0; i < 4; i++)
        sem_post(&few_gate);
    return NULL;
}

static void few_main(void *arg) {
    sem_init(&few_gate, 0, 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, opens_few, NULL) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(go_here("one of few", few_caller, NULL) == 0);
    STORY_AWAIT(atomic_load(&few_left) == 4);
    pthread_join(thread, NULL);
    rt_stop(0);
}

static void without_a_spare_m_the_p_waits(void **state) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct rt_options options = {.p_count = 1, .spare_m_max = 2};
        exit(rt_run(&options, few_main, NULL));
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* ---- Call-backs ---- */

static void adds_one(void *arg) {
    (*(unsigned *)arg)++;
}

/* C code that calls what it was given, as a library does with a callback of ours. */
static void calls_back(void *arg) {
    for (int i = 0; i < 100; i++)
        adds_one(arg);
}

static void callback_story(void *arg) {
    unsigned count = 0;
    foreign_call(calls_back, &count);
    foreign_call_quick("test", calls_back, &count);
    CHECK(count == 200);
    rt_stop(0);
}

static void foreign_code_calls_back(void **state) {
    story(1, callback_story);
}

/* ---- Quick calls ---- */

static _Atomic unsigned quick_ran, quick_posted, quick_woken;
static struct g *quick_sleeper;

static void quick_post_ran(struct rt_post *post) {
    atomic_fetch_add(&quick_posted, 1);
}

static void started_by_quick(void *arg) {
    atomic_fetch_add(&quick_woken, 1);
}

static void in_quick(void *arg) {
    static struct rt_post post = {.fn = quick_post_ran};
    CHECK(rt_self() == NULL);
    CHECK(!foreign_is_active());
    CHECK(rt_p_index() == 0); /* unlike in foreign_call there is a P */
    char on_thread_stack[200 * 1024];
    memset(on_thread_stack, 1, sizeof on_thread_stack);
    __asm__ volatile("" : : "r"(on_thread_stack) : "memory");
    rt_post(0, &post);
    rt_ready(quick_sleeper);
    CHECK(go_here("started", started_by_quick, NULL) == 0);
    atomic_fetch_add(&quick_ran, 1);
}

static void sleeps_until_quick(void *arg) {
    quick_sleeper = rt_self();
    while (atomic_load(&quick_ran) == 0)
        CHECK(rt_park("until the quick call", RT_FOREVER) == 0);
    atomic_fetch_add(&quick_woken, 1);
}

static void calls_keeping_the_p(bool promises_to_be_quick) {
    CHECK(go_here("sleeper", sleeps_until_quick, NULL) == 0);
    STORY_AWAIT(quick_sleeper);
    struct g *self = rt_self();
    if (promises_to_be_quick)
        foreign_call_quick("test", in_quick, NULL);
    else
        foreign_call_short(in_quick, NULL);
    CHECK(rt_self() == self);
    STORY_AWAIT(atomic_load(&quick_posted) == 1 && atomic_load(&quick_woken) == 2);
    struct rt_p_stats stats;
    rt_p_stats(0, &stats);
    CHECK(stats.quick_calls == promises_to_be_quick); /* sysmon has no eye on others */
    CHECK(stats.foreign_calls == 0);
    CHECK(stats.retakes == 0);
    rt_stop(0);
}

static void calls_quick(void *arg) {
    calls_keeping_the_p(true);
}

static void calls_short(void *arg) {
    calls_keeping_the_p(false);
}

static void quick_stealable_story(void *arg) {
    CHECK(go("calls quick", calls_quick, NULL) == 0);
}

static void a_quick_call_keeps_its_p(void **state) {
    story(1, calls_quick);
    story(1, quick_stealable_story);
}

static void a_short_call_keeps_its_p(void **state) {
    story(1, calls_short);
}

/* ---- Forbidden ---- */

static void parks(void *arg) {
    (void)rt_park("forbidden", RT_FOREVER);
}

static void nests(void *arg) {
    foreign_call(parks, NULL);
}

static void nests_quick(void *arg) {
    foreign_call_quick("test", parks, NULL);
}

static void nests_short(void *arg) {
    foreign_call_short(parks, NULL);
}

static void forbidden_story(void *arg) {
    static const rt_fn forbidden[] = {parks, nests, nests_quick, nests_short};
    enum { INSIDE = sizeof forbidden / sizeof forbidden[0] };
    unsigned which = *(const unsigned *)arg;
    if (which / INSIDE == 0)
        foreign_call(forbidden[which % INSIDE], NULL);
    else if (which / INSIDE == 1)
        foreign_call_quick("test", forbidden[which % INSIDE], NULL);
    else
        foreign_call_short(forbidden[which % INSIDE], NULL);
    rt_stop(0);
}

static void dies(unsigned which) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        (void)freopen("/dev/null", "w", stderr);
        struct rt_options options = {.p_count = 1};
        exit(rt_run(&options, forbidden_story, &which));
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void foreign_code_neither_parks_nor_nests(void **state) {
    for (unsigned which = 0; which < 12; which++)
        dies(which);
}

/* ---- Stop while blocked ---- */

static void never_returns(void *arg) {
    rt_stop(0);
    for (;;)
        pause();
}

static void stop_blocked_story(void *arg) {
    foreign_call(never_returns, NULL);
}

static void rt_run_ends_though_foreign_code_hangs(void **state) {
    story(1, stop_blocked_story);
}

/* ---- blocking_call ---- */

static _Atomic unsigned jobs_done;

static void job(void *arg) {
    CHECK(rt_self() == NULL);
    CHECK(!foreign_is_active());
    (*(int *)arg)++;
}

static void calls_job(void *arg) {
    int count = 0;
    for (int i = 0; i < 100; i++) {
        CHECK(blocking_call(job, &count) == 0);
        CHECK(count == i + 1);
    }
    atomic_fetch_add(&jobs_done, 1);
}

static void blocking_story(void *arg) {
    for (int i = 0; i < 10; i++) {
        CHECK(go_here("calls job", calls_job, NULL) == 0);
        CHECK(go("calls job", calls_job, NULL) == 0);
    }
    STORY_AWAIT(atomic_load(&jobs_done) == 20);
    struct rt_p_stats stats;
    rt_p_stats(0, &stats);
    CHECK(stats.retakes == 0);
    rt_stop(0);
}

static void a_blocking_call_runs_beside_the_ps(void **state) {
    story(1, blocking_story);
    story(2, blocking_story);
}

static sem_t limit_gate;
static _Atomic unsigned limit_inside, limit_left;

static void limit_job(void *arg) {
    atomic_fetch_add(&limit_inside, 1);
    while (sem_wait(&limit_gate) < 0) {
    }
}

static void limit_caller(void *arg) {
    CHECK(blocking_call(limit_job, NULL) == 0);
    atomic_fetch_add(&limit_left, 1);
}

static void limited_main(void *arg) {
    sem_init(&limit_gate, 0, 0);
    for (int i = 0; i < 2; i++)
        CHECK(go_here("at the limit", limit_caller, NULL) == 0);
    STORY_AWAIT(atomic_load(&limit_inside) == 2);
    int count = 0;
    CHECK(blocking_call(job, &count) == -EAGAIN);
    CHECK(count == 0);
    sem_post(&limit_gate);
    sem_post(&limit_gate);
    STORY_AWAIT(atomic_load(&limit_left) == 2);
    CHECK(blocking_call(job, &count) == 0);
    rt_stop(0);
}

static void past_the_limit_of_threads_the_caller_is_told(void **state) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct rt_options options = {.p_count = 1, .spare_m_max = 2};
        exit(rt_run(&options, limited_main, NULL));
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(foreign_code_runs_on_a_thread_stack),
        cmocka_unit_test(blocked_foreign_code_does_not_hold_its_p),
        cmocka_unit_test(foreign_code_may_post_and_ready),
        cmocka_unit_test(many_callers_come_back),
        cmocka_unit_test(ms_are_used_again),
        cmocka_unit_test(without_a_spare_m_the_p_waits),
        cmocka_unit_test(foreign_code_calls_back),
        cmocka_unit_test(a_quick_call_keeps_its_p),
        cmocka_unit_test(a_short_call_keeps_its_p),
        cmocka_unit_test(foreign_code_neither_parks_nor_nests),
        cmocka_unit_test(rt_run_ends_though_foreign_code_hangs),
        cmocka_unit_test(a_blocking_call_runs_beside_the_ps),
        cmocka_unit_test(past_the_limit_of_threads_the_caller_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
