/* sched.c, queues.c, steal.c, idle.c and foreign.c's way back: what runs next, where, and who wakes up.
 *
 * A hog keeps its P from looking for work for as long as a test wants. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

#include "rt/foreign.h"
#include "rt/idle.h"
#include "rt_story.h"

/* Without a runtime call: the P stays with the caller. */
#define BUSY_AWAIT(condition)                                                                      \
    do {                                                                                           \
        for (int64_t busy_until = story_soon(); !(condition); sched_yield())                       \
            CHECK(clock_mono_ns() < busy_until);                                                   \
    } while (0)

struct hog {
    _Atomic bool runs, may_end;
};

static void hog_main(void *arg) {
    struct hog *hog = arg;
    atomic_store(&hog->runs, true);
    BUSY_AWAIT(atomic_load(&hog->may_end));
}

static void hog_take(struct hog *hog, unsigned p_index) {
    CHECK(go_on(p_index, "hog", hog_main, hog) == 0);
    BUSY_AWAIT(atomic_load(&hog->runs));
}

static void hog_release(struct hog *hog) {
    atomic_store(&hog->may_end, true);
}

/* ---- Priorities ---- */

enum { LOG_MAX = 4000, RUNS = 1500 };
static char run_log[LOG_MAX + 1];
static unsigned run_count, crowd_left;
static struct g *crowd_main;

static void logs_runs(void *arg) {
    char class = *(const char *)arg;
    while (run_count < RUNS) {
        run_log[run_count++] = class;
        rt_yield();
    }
    if (--crowd_left == 0)
        rt_ready(crowd_main);
}

static void start_logging(enum rt_place place, enum rt_priority priority, const char *class,
                          unsigned count) {
    const struct go_options options = {.name = "crowd", .place = place, .priority = priority};
    for (unsigned i = 0; i < count; i++, crowd_left++)
        CHECK(go_with(&options, logs_runs, (void *)(uintptr_t) class) == 0);
}

/* Of any window of so many runs one is of the class. */
static unsigned longest_gap(const char *log, char class) {
    unsigned longest = 0, gap = 0;
    for (; *log; log++) {
        gap = *log == class ? 0 : gap + 1;
        longest = gap > longest ? gap : longest;
    }
    return longest;
}

static unsigned count_of(const char *log, char class) {
    unsigned count = 0;
    for (; *log; log++)
        count += *log == class;
    return count;
}

static void run_crowd(enum rt_place place, unsigned high, unsigned normal, unsigned low) {
    memset(run_log, 0, sizeof run_log);
    run_count = 0;
    crowd_main = rt_self();
    start_logging(place, RT_LOW, "l", low);
    start_logging(place, RT_NORMAL, "n", normal);
    start_logging(place, RT_HIGH, "h", high);
    while (crowd_left > 0)
        CHECK(rt_park("the crowd", story_soon()) == 0);
}

static void crowds(enum rt_place place) {
    run_crowd(place, 3, 3, 3);
    CHECK(run_log[0] == 'h');
    CHECK(longest_gap(run_log, 'n') == RT_NORMAL_TURN - 1);
    CHECK(longest_gap(run_log, 'l') <= RT_LOW_TURN - 1);
    CHECK(count_of(run_log, 'l') <= RUNS / (RT_LOW_TURN - 2) + 3);
    CHECK(longest_gap(run_log, 'h') <= 2);

    run_crowd(place, 0, 3, 1); /* low against normal */
    CHECK(longest_gap(run_log, 'l') <= RT_LOW_TURN - 1);
    CHECK(longest_gap(run_log, 'n') <= 1);

    run_crowd(place, 2, 0, 2); /* low against high */
    CHECK(longest_gap(run_log, 'l') <= RT_LOW_TURN - 1);

    run_crowd(place, 2, 1, 0);
    CHECK(longest_gap(run_log, 'n') == RT_NORMAL_TURN - 1);

    run_crowd(place, 0, 0, 2); /* nobody else */
    CHECK(count_of(run_log, 'l') >= RUNS);
}

static void pinned_crowd_story(void *arg) {
    crowds(RT_HERE);
    rt_stop(0);
}

static void stealable_crowd_story(void *arg) {
    static struct hog hog;
    hog_take(&hog, 1); /* or it would take part */
    crowds(RT_ANYWHERE);
    hog_release(&hog);
    rt_stop(0);
}

static void no_priority_starves(void **state) {
    story(1, pinned_crowd_story);
    story(2, stealable_crowd_story);
}

static char happened[16];

static void happens(void *arg) {
    happened[strlen(happened)] = *(const char *)arg;
}

static void parks_then_happens(void *arg) {
    CHECK(rt_park("for its turn", story_soon()) == 0);
    happens(arg);
}

static struct g *parked_g;
static void tells_self(void *arg) {
    parked_g = rt_self();
    parks_then_happens(arg);
}

static void runnext_story(void *arg) {
    const struct go_options high = {.name = "high", .place = RT_HERE, .priority = RT_HIGH};
    const struct go_options low = {.name = "low", .place = RT_HERE, .priority = RT_LOW};
    CHECK(go_here("next", tells_self, (char[]){"x"}) == 0);
    rt_yield();
    CHECK(go_with(&low, happens, (char[]){"l"}) == 0);
    CHECK(go_here("queued", happens, (char[]){"q"}) == 0);
    rt_ready(parked_g);
    CHECK(go_with(&high, happens, (char[]){"h"}) == 0);
    STORY_AWAIT(strlen(happened) == 4);
    CHECK(strcmp(happened, "hxql") == 0);
    rt_stop(0);
}

static void high_runs_before_runnext(void **state) {
    story(1, runnext_story);
}

/* ---- The global queue ---- */

static struct g *global_g;
static unsigned yields_seen, yields_at_ready, yields_at_run;
static bool global_ran;

static void waits_in_global(void *arg) {
    global_g = rt_self();
    CHECK(rt_park("the global queue", story_soon()) == 0);
    CHECK(rt_p_index() == 0);
    yields_at_run = yields_seen;
    global_ran = true;
}

static void readies_from_outside(void *arg) {
    rt_ready(global_g); /* foreign code has no P: there is only the global queue */
}

static void never_runs_dry(void *arg) {
    while (!global_ran) {
        yields_seen++;
        rt_yield();
    }
}

static void global_story(void *arg) {
    static struct hog hog;
    hog_take(&hog, 1);
    CHECK(go("in the global queue", waits_in_global, NULL) == 0);
    STORY_AWAIT(global_g);
    for (int i = 0; i < 5; i++)
        CHECK(go_here("busy", never_runs_dry, NULL) == 0);
    rt_yield();
    foreign_call(readies_from_outside, NULL);
    yields_at_ready = yields_seen;
    STORY_AWAIT(global_ran);
    CHECK(yields_at_run - yields_at_ready <= 61);
    hog_release(&hog);
    rt_stop(0);
}

static void a_busy_p_looks_at_the_global_queue(void **state) {
    story(2, global_story);
}

/* ---- Stealing ---- */

enum { LOOT = 8 };
static _Atomic unsigned loot_taken;

static void is_loot(void *arg) {
    CHECK(rt_p_index() == 1);
    atomic_fetch_add(&loot_taken, 1);
}

static void half_story(void *arg) {
    static struct hog hog;
    hog_take(&hog, 1);
    for (int i = 0; i < LOOT; i++)
        CHECK(go("loot", is_loot, NULL) == 0);
    struct rt_p_stats stats;
    rt_p_stats(0, &stats);
    CHECK(stats.queue_depth == LOOT);
    hog_release(&hog);
    BUSY_AWAIT(atomic_load(&loot_taken) == LOOT);
    rt_p_stats(0, &stats);
    CHECK(stats.queue_depth == 0);
    rt_p_stats(1, &stats);
    CHECK(stats.steals == 4); /* 4, 2, 1, 1 */
    rt_stop(0);
}

static void a_thief_takes_half(void **state) {
    story(2, half_story);
}

static char loot_order[8];
static _Atomic unsigned loot_count;

static void is_ordered_loot(void *arg) {
    unsigned at = atomic_load(&loot_count);
    loot_order[at] = *(const char *)arg;
    atomic_store(&loot_count, at + 1);
}

static void loot_order_story(void *arg) {
    static const struct {
        enum rt_priority priority;
        char class[2];
    } loot[] = {{RT_LOW, "l"}, {RT_NORMAL, "n"}, {RT_HIGH, "h"}};
    static struct hog hog;
    hog_take(&hog, 1);
    for (int i = 0; i < 6; i++) {
        const struct go_options options = {.name = "loot", .priority = loot[i % 3].priority};
        CHECK(go_with(&options, is_ordered_loot, (void *)(uintptr_t)loot[i % 3].class) == 0);
    }
    hog_release(&hog);
    BUSY_AWAIT(atomic_load(&loot_count) == 6);
    CHECK(strcmp(loot_order, "hhnnll") == 0);
    rt_stop(0);
}

static void a_thief_takes_high_priority_first(void **state) {
    story(2, loot_order_story);
}

static struct g *timed_g;
static _Atomic bool timed_ran;

static void parks_with_a_deadline(void *arg) {
    CHECK(rt_p_index() == 0);
    timed_g = rt_self();
    CHECK(rt_park("a deadline on P 0", story_soon()) == 0);
    CHECK(rt_p_index() == 1);
    atomic_store(&timed_ran, true);
}

static void wakes_it(void *arg) {
    rt_ready(timed_g);
}

/* P 0, whose timer it has, computes: whoever wakes the coroutine takes it out of there. */
static void deadline_story(void *arg) {
    static struct hog hog;
    hog_take(&hog, 1);
    CHECK(go("timed", parks_with_a_deadline, NULL) == 0);
    STORY_AWAIT(timed_g);
    hog_release(&hog);
    CHECK(go_on(1, "waker", wakes_it, NULL) == 0);
    BUSY_AWAIT(atomic_load(&timed_ran));
    rt_stop(0);
}

static void a_deadline_ties_nobody_to_a_p(void **state) {
    story(2, deadline_story);
}

static _Atomic(struct g *) next_g;
static _Atomic unsigned next_runs;

static void runs_elsewhere(void *arg) {
    for (;;) {
        atomic_store(&next_g, rt_self());
        CHECK(rt_park("to be runnext", RT_FOREVER) == 0);
        if (rt_p_index() == 1)
            atomic_fetch_add(&next_runs, 1);
    }
}

/* Main wakes it into runnext and goes on without ever giving the P up. */
static void stolen_next_story(void *arg) {
    CHECK(go("runnext", runs_elsewhere, NULL) == 0);
    STORY_AWAIT(atomic_load(&next_g));
    for (unsigned i = 1; i <= 20; i++) {
        struct rt_stats stats;
        STORY_AWAIT((rt_stats(&stats), stats.parked >= 1));
        rt_ready(atomic_load(&next_g));
        BUSY_AWAIT(atomic_load(&next_runs) == i);
    }
    rt_stop(0);
}

static void runnext_of_a_p_that_runs_long_is_stolen(void **state) {
    story(2, stolen_next_story);
}

/* ---- Waking ---- */

/* Each round needs all Ps at once: nobody may sleep while something is ready. */
enum { CROWD_PS = 4, CROWD_ROUNDS = 300 };
static _Atomic unsigned together;
static struct g *round_main;

static void needs_all_ps(void *arg) {
    unsigned target = (unsigned)(uintptr_t)arg;
    atomic_fetch_add(&together, 1);
    BUSY_AWAIT(atomic_load(&together) >= target);
    if (atomic_fetch_add(&together, CROWD_PS) + CROWD_PS == target + CROWD_PS * CROWD_PS)
        rt_ready(round_main);
}

static void all_ps_story(void *arg) {
    round_main = rt_self();
    for (unsigned round = 0; round < CROWD_ROUNDS; round++) {
        atomic_store(&together, 0);
        for (unsigned i = 0; i < CROWD_PS; i++)
            CHECK(go("one of all", needs_all_ps, (void *)(uintptr_t)CROWD_PS) == 0);
        while (atomic_load(&together) != CROWD_PS + CROWD_PS * CROWD_PS)
            CHECK(rt_park("all Ps", story_soon()) == 0);
    }
    rt_stop(0);
}

/* The same from the global queue. */
static _Atomic(struct g *) sleepers[CROWD_PS];
static _Atomic unsigned sleeping, rounds_done, awake;

static void sleeps_and_meets(void *arg) {
    unsigned me = (unsigned)(uintptr_t)arg;
    atomic_store(&sleepers[me], rt_self());
    for (unsigned round = 1; round <= CROWD_ROUNDS; round++) {
        atomic_fetch_add(&sleeping, 1);
        while (atomic_load(&rounds_done) < round)
            CHECK(rt_park("the next round", RT_FOREVER) == 0);
        atomic_fetch_add(&awake, 1);
        BUSY_AWAIT(atomic_load(&awake) >= round * CROWD_PS);
    }
    if (atomic_fetch_add(&sleeping, 1) + 1 == CROWD_PS * (CROWD_ROUNDS + 1))
        rt_stop(0);
}

static void *wakes_all(void *arg) {
    for (unsigned round = 1; round <= CROWD_ROUNDS; round++) {
        BUSY_AWAIT(atomic_load(&sleeping) == round * CROWD_PS);
        atomic_store(&rounds_done, round);
        for (unsigned i = 0; i < CROWD_PS; i++)
            rt_ready(atomic_load(&sleepers[i]));
    }
    return NULL;
}

static void all_ps_from_outside_story(void *arg) {
    for (uintptr_t i = 0; i < CROWD_PS; i++)
        CHECK(go("one of all", sleeps_and_meets, (void *)i) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wakes_all, NULL) == 0);
    pthread_detach(thread);
}

/* The same from one scheduler callback, which wakes all of them on its own P. */
static void meets_once(void *arg) {
    atomic_store(&sleepers[(uintptr_t)arg], rt_self());
    atomic_fetch_add(&sleeping, 1);
    CHECK(rt_park("the callback", RT_FOREVER) == 0);
    atomic_fetch_add(&awake, 1);
    BUSY_AWAIT(atomic_load(&awake) == CROWD_PS);
    rt_stop(0);
}

static void wakes_all_at_once(struct rt_post *post) {
    for (unsigned i = 0; i < CROWD_PS; i++)
        rt_ready(atomic_load(&sleepers[i]));
}

static void all_ps_from_a_callback_story(void *arg) {
    static struct rt_post post = {.fn = wakes_all_at_once};
    for (uintptr_t i = 0; i < CROWD_PS; i++)
        CHECK(go("one of all", meets_once, (void *)i) == 0);
    struct rt_stats stats;
    STORY_AWAIT((rt_stats(&stats), atomic_load(&sleeping) == CROWD_PS && stats.parked == CROWD_PS));
    BUSY_AWAIT(idle_count() == CROWD_PS - 1);
    rt_post(0, &post);
}

static void no_p_sleeps_while_something_is_ready(void **state) {
    story(CROWD_PS, all_ps_story);
    story(CROWD_PS, all_ps_from_outside_story);
    story(CROWD_PS, all_ps_from_a_callback_story);
}

static uint64_t polls_of_all(void) {
    uint64_t polls = 0;
    for (unsigned i = 0; i < rt_p_count(); i++) {
        struct rt_p_stats stats;
        rt_p_stats(i, &stats);
        polls += stats.polls;
    }
    return polls;
}

static _Atomic bool observed;

/* Main is parked for ever. All Ps go to sleep, and then none of them turns any more. */
static void *observes_sleep(void *arg) {
    BUSY_AWAIT(idle_count() == CROWD_PS && idle_spinning_count() == 0);
    uint64_t polls;
    do { /* one that was woken for nothing may be on its way back */
        polls = polls_of_all();
        for (int i = 0; i < 1000; i++)
            sched_yield();
    } while (polls_of_all() != polls || idle_count() != CROWD_PS);
    struct timespec while_ = {.tv_nsec = 30 * NS_PER_MS};
    nanosleep(&while_, NULL); /* not to wait for something: a time in which nothing may happen */
    CHECK(polls_of_all() == polls);
    atomic_store(&observed, true);
    rt_ready(arg);
    return NULL;
}

static void yields_often(void *arg) {
    for (int i = 0; i < 1000; i++)
        rt_yield();
}

static void idle_story(void *arg) {
    for (int i = 0; i < 20; i++)
        CHECK(go("busy for a while", yields_often, NULL) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, observes_sleep, rt_self()) == 0);
    while (!atomic_load(&observed))
        CHECK(rt_park("nothing to do", RT_FOREVER) == 0);
    pthread_join(thread, NULL);
    struct rt_stats stats;
    rt_stats(&stats);
    CHECK(stats.spinning == 0);
    rt_stop(0);
}

static void idle_ps_sleep(void **state) {
    story(CROWD_PS, idle_story);
}

/* One coroutine is ready at a time: it never takes more than one other P to run it. */
static _Atomic unsigned bounces;
static void bounces_once(void *arg) {
    atomic_fetch_add(&bounces, 1);
    rt_ready(arg);
}

static void pinned_only_story(void *arg) {
    struct rt_p_stats stats;
    for (unsigned i = 1; i < CROWD_PS; i++)
        STORY_AWAIT((rt_p_stats(i, &stats), stats.sleeping));
    uint64_t polls[CROWD_PS];
    for (unsigned i = 1; i < CROWD_PS; i++) {
        rt_p_stats(i, &stats);
        polls[i] = stats.polls;
    }
    for (unsigned i = 1; i <= 1000; i++) {
        CHECK(go_here("bounces", bounces_once, rt_self()) == 0);
        while (atomic_load(&bounces) < i)
            CHECK(rt_park("a bounce", story_soon()) == 0);
    }
    for (unsigned i = 1; i < CROWD_PS; i++) {
        rt_p_stats(i, &stats);
        CHECK(stats.polls == polls[i]);
    }
    CHECK(idle_count() == 0); /* while nothing is stealable nobody is listed */
    rt_stop(0);
}

static void pinned_work_wakes_nobody(void **state) {
    story(CROWD_PS, pinned_only_story);
}

/* ---- Foreign calls coming back ---- */

struct caller {
    sem_t may_return;
    _Atomic int before, after; /* index of the P, -1: not there yet */
};

static void blocks_outside(void *arg) {
    struct caller *caller = arg;
    while (sem_wait(&caller->may_return) < 0) {
    }
}

static void calls_outside(void *arg) {
    struct caller *caller = arg;
    atomic_store(&caller->before, (int)rt_p_index());
    foreign_call(blocks_outside, caller);
    atomic_store(&caller->after, (int)rt_p_index());
}

static void caller_init(struct caller *caller) {
    sem_init(&caller->may_return, 0, 0);
    atomic_store(&caller->before, -1);
    atomic_store(&caller->after, -1);
}

/* The caller is inside its foreign call, and its P, which is P 1, has a new M. */
static void call_from_p1(struct caller *caller) {
    caller_init(caller);
    struct rt_p_stats stats;
    rt_p_stats(1, &stats);
    uint64_t retakes = stats.retakes;
    CHECK(go("caller", calls_outside, caller) == 0);
    BUSY_AWAIT(atomic_load(&caller->before) == 1); /* main keeps P 0 busy: P 1 steals it */
    BUSY_AWAIT((rt_p_stats(1, &stats), stats.retakes > retakes));
    BUSY_AWAIT((rt_p_stats(1, &stats), stats.handoffs >= stats.retakes));
}

static struct g *idle_main;
static void calls_and_wakes_main(void *arg) {
    calls_outside(arg);
    rt_ready(idle_main);
}

/* All that many are asleep, and not on their way out of a poll that an old interrupt ends. */
static void await_idle_ps(unsigned count) {
    uint64_t polls;
    do {
        BUSY_AWAIT(idle_count() == count);
        polls = polls_of_all();
        for (int i = 0; i < 100; i++)
            sched_yield();
    } while (polls_of_all() != polls || idle_count() != count);
}

static void *lets_return_when_two_are_idle(void *arg) {
    struct caller *caller = arg;
    await_idle_ps(2);
    sem_post(&caller->may_return);
    return NULL;
}

/* P 0 comes first by number. A P may wake for nothing just then, so once or twice it may be P 0. */
static void old_p_story(void *arg) {
    struct caller caller;
    int came_back = 0;
    idle_main = rt_self();
    for (int i = 0; i < 10; i++) {
        caller_init(&caller);
        CHECK(go("caller", calls_and_wakes_main, &caller) == 0);
        BUSY_AWAIT(atomic_load(&caller.before) == 1); /* main keeps P 0 busy: P 1 steals it */
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, lets_return_when_two_are_idle, &caller) == 0);
        while (atomic_load(&caller.after) < 0)
            CHECK(rt_park("the caller", RT_FOREVER) == 0);
        came_back += atomic_load(&caller.after) == 1;
        pthread_join(thread, NULL);
    }
    CHECK(came_back >= 8);
    rt_stop(0);
}

static void a_caller_comes_back_to_its_old_p(void **state) {
    story(2, old_p_story);
}

static void *lets_return_when_one_is_idle(void *arg) {
    struct caller *caller = arg;
    await_idle_ps(1);
    sem_post(&caller->may_return);
    return NULL;
}

static void idle_p_story(void *arg) {
    static struct hog hog;
    struct caller caller;
    caller_init(&caller);
    idle_main = rt_self();
    CHECK(go("caller", calls_and_wakes_main, &caller) == 0);
    BUSY_AWAIT(atomic_load(&caller.before) == 1);
    hog_take(&hog, 1); /* runs when P 1 has a new M */
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, lets_return_when_one_is_idle, &caller) == 0);
    while (atomic_load(&caller.after) < 0)
        CHECK(rt_park("the caller", RT_FOREVER) == 0); /* P 0 is idle */
    CHECK(atomic_load(&caller.after) == 0);
    pthread_join(thread, NULL);
    hog_release(&hog);
    rt_stop(0);
}

static void a_caller_goes_to_an_idle_p_when_its_own_is_busy(void **state) {
    story(2, idle_p_story);
}

static void busy_ps_story(void *arg) {
    static struct hog hog;
    struct caller caller;
    struct rt_stats stats;
    call_from_p1(&caller);
    rt_stats(&stats);
    CHECK(stats.foreign_ms == 1);
    CHECK(stats.ms >= 3);
    hog_take(&hog, 1);
    sem_post(&caller.may_return);
    BUSY_AWAIT((rt_stats(&stats), stats.global_queue_depth == 1));
    BUSY_AWAIT((rt_stats(&stats), stats.spare_ms == 1)); /* the M that came back */
    CHECK(stats.foreign_ms == 0);
    CHECK(atomic_load(&caller.after) < 0);
    STORY_AWAIT(atomic_load(&caller.after) == 0);
    hog_release(&hog);
    rt_stop(0);
}

static void a_caller_queues_up_when_all_ps_are_busy(void **state) {
    story(2, busy_ps_story);
}

static void pinned_caller_story(void *arg) {
    static struct hog hog;
    struct caller caller;
    caller_init(&caller);
    CHECK(go_on(1, "pinned caller", calls_outside, &caller) == 0);
    BUSY_AWAIT(atomic_load(&caller.before) == 1);
    hog_take(&hog, 1);
    sem_post(&caller.may_return);
    struct rt_stats stats;
    BUSY_AWAIT((rt_stats(&stats), stats.spare_ms == 1));
    CHECK(stats.global_queue_depth == 0);
    CHECK(atomic_load(&caller.after) < 0); /* P 0 could run it, and must not */
    hog_release(&hog);
    STORY_AWAIT(atomic_load(&caller.after) == 1);
    rt_stop(0);
}

static void a_pinned_caller_waits_for_its_p(void **state) {
    story(2, pinned_caller_story);
}

/* ---- The limit of threads ---- */

static struct caller limited[2];

static void *sees_the_limit(void *arg) {
    struct rt_stats stats;
    BUSY_AWAIT((rt_stats(&stats), stats.m_refused > 0));
    CHECK(stats.ms == 2);
    CHECK(stats.foreign_ms == 2);
    CHECK(stats.spare_ms == 0);
    sem_post(&limited[0].may_return);
    sem_post(&limited[1].may_return);
    return NULL;
}

/* One spare M: it takes P 0 over from the first caller, and nobody takes it over from the second. */
static void limit_story(void *arg) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, sees_the_limit, NULL) == 0);
    for (int i = 0; i < 2; i++) {
        caller_init(&limited[i]);
        CHECK(go_here("caller", calls_outside, &limited[i]) == 0);
    }
    STORY_AWAIT(atomic_load(&limited[0].after) == 0 && atomic_load(&limited[1].after) == 0);
    pthread_join(thread, NULL);
    rt_stop(0);
}

static void ms_are_limited(void **state) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct rt_options options = {.p_count = 1, .spare_m_max = 1};
        exit(rt_run(&options, limit_story, NULL) == 0 ? 0 : 98);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_priority_starves),
        cmocka_unit_test(high_runs_before_runnext),
        cmocka_unit_test(a_busy_p_looks_at_the_global_queue),
        cmocka_unit_test(a_thief_takes_half),
        cmocka_unit_test(a_thief_takes_high_priority_first),
        cmocka_unit_test(a_deadline_ties_nobody_to_a_p),
        cmocka_unit_test(runnext_of_a_p_that_runs_long_is_stolen),
        cmocka_unit_test(no_p_sleeps_while_something_is_ready),
        cmocka_unit_test(idle_ps_sleep),
        cmocka_unit_test(pinned_work_wakes_nobody),
        cmocka_unit_test(a_caller_comes_back_to_its_old_p),
        cmocka_unit_test(a_caller_goes_to_an_idle_p_when_its_own_is_busy),
        cmocka_unit_test(a_caller_queues_up_when_all_ps_are_busy),
        cmocka_unit_test(a_pinned_caller_waits_for_its_p),
        cmocka_unit_test(ms_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
