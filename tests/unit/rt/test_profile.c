/* profile.c: who used the processor is in the profile, in proportion, with its name and its labels. Work
 * is measured by the thread's own CPU clock, as the profile does, so a busy machine changes nothing. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "rt/foreign.h"
#include "rt/labels.h"
#include "rt/profile.h"
#include "rt/rt_internal.h"
#include "rt/signals.h"
#include "rt_story.h"

/* ---- Work ---- */

static NOINLINE int64_t cpu_ns(void) {
    struct timespec now;
    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static _Atomic unsigned sink;

/* Leaf functions that compute for some microseconds; who calls them looks at the clock. */
static NOINLINE void compute(void) {
    for (unsigned i = 0; i < 20000; i++)
        atomic_store_explicit(&sink, i, memory_order_relaxed);
}

/* Each in a section of its own, whose ends the linker knows. */
#define SITE(name) NOINLINE __attribute__((section("site_" #name)))
#define SITE_ENDS(name)                                                                            \
    extern const char __start_site_##name[] __attribute__((visibility("hidden")));                 \
    extern const char __stop_site_##name[] __attribute__((visibility("hidden")))
SITE_ENDS(much);
SITE_ENDS(little);
SITE_ENDS(labelled);

static SITE(much) void burn_much(int64_t ns) {
    for (int64_t until = cpu_ns() + ns; cpu_ns() < until;)
        compute();
    __asm__ volatile("" ::: "memory"); /* no tail call */
}

static SITE(little) void burn_little(int64_t ns) {
    for (int64_t until = cpu_ns() + ns; cpu_ns() < until;)
        compute();
    __asm__ volatile("" ::: "memory");
}

/* ---- What was found ---- */

/* Whether a call in this function led to it. */
#define LED_THROUGH(stack, name)                                                                   \
    led_through(stack, (uintptr_t)__start_site_##name, (uintptr_t)__stop_site_##name)
static bool led_through(const struct stack_count *stack, uintptr_t from, uintptr_t end) {
    for (unsigned i = 0; i < stack->depth; i++)
        if (stack->pcs[i] - 1 >= from && stack->pcs[i] - 1 < end)
            return true;
    return false;
}

struct found {
    uint64_t much, little, named, labelled, led, all;
    unsigned stacks;
    const char *name; /* what `named` counts */
};

static void add(void *arg, const struct stack_count *stack) {
    struct found *found = arg;
    CHECK(stack->count > 0 && stack->depth > 0 && stack->is_first_exact);
    found->all += stack->count;
    found->stacks++;
    bool is_much = LED_THROUGH(stack, much), is_little = LED_THROUGH(stack, little);
    CHECK(!(is_much && is_little));
    found->much += is_much ? stack->count : 0;
    found->little += is_little ? stack->count : 0;
    found->led += (is_much || is_little) && LED_THROUGH(stack, labelled) ? stack->count : 0;
    if (found->name && stack->name && strcmp(stack->name, found->name) == 0 &&
        (is_much || is_little))
        found->named += stack->count;
    if (stack->labels && stack->labels->count == 1 &&
        strcmp(stack->labels->items[0].value, "api") == 0)
        found->labelled += stack->count;
}

static struct profile_info info;

static void read_in_thread(void *found) {
    CHECK(profile_read(add, found, &info) == 0);
}

static void stop_and_read(struct found *found) {
    CHECK(profile_stop() == 0);
    CHECK(blocking_call(read_in_thread, found) == 0);
    CHECK(found->all == info.samples);
    CHECK(info.unseen_threads == 0);
}

static unsigned timers_of_process(void) {
    unsigned count = 0;
    char line[256];
    FILE *file = fopen("/proc/self/timers", "re");
    CHECK(file);
    while (fgets(line, sizeof line, file))
        count += strncmp(line, "ID: ", 4) == 0;
    fclose(file);
    return count;
}

/* ThreadSanitizer holds back a signal until the thread makes a call that it knows: it comes at another
 * time, and the stack is another one by then. */
static void skip_if_signals_wait(void) {
    story_skip_if_emulated("timers of a thread's processor time");
#ifdef RT_HAS_TSAN
    skip();
#endif
}

/* ---- Shares ---- */

enum { LONG_NS = 900 * NS_PER_MS, SHORT_NS = 300 * NS_PER_MS };

/* 120 samples at 100 Hz, 3 of 4 in one function. Kernels tick 100 to 1000 times a second, and timers of
 * CPU time fire at ticks, so some periods are long; what is missing is missing everywhere. */
static void check_shares(const struct found *found) {
    uint64_t all = found->much + found->little;
    CHECK(all >= 40);
    CHECK(all <= 125);
    CHECK(found->much * 100 >= all * 63);
    CHECK(found->much * 100 <= all * 87);
}

static void burn_both(void) {
    for (int i = 0; i < 30; i++) { /* in turns: other load would meet one alone */
        /* Of half to one and a half the length: equal ones of whole periods would be in step with the
         * timer, and where the border falls into its tick would decide. */
        int64_t percent = 50 + i * 37 % 101;
        burn_much(LONG_NS / 30 * percent / 100);
        burn_little(SHORT_NS / 30 * percent / 100);
    }
}

static void shares_story(void *arg) {
    struct found found = {.name = "main"};
    CHECK(timers_of_process() == 0);
    CHECK(profile_start(0, 0) == 0);
    CHECK(timers_of_process() >= 1); /* this M's; sysmon may still be starting */
    burn_both();
    stop_and_read(&found);
    check_shares(&found);
    CHECK(found.named == found.much + found.little);
    CHECK(info.lost == 0 && info.period_ns == 10 * NS_PER_MS);
    CHECK(timers_of_process() == 0);
    rt_stop(0);
}

static void two_functions_have_their_shares(void **state) {
    skip_if_signals_wait();
    story(1, shares_story);
}

/* ---- Everywhere ---- */

static void burns(void *arg) {
    burn_both();
}

static void in_foreign_call(void *arg) {
    foreign_call(burns, NULL);
}

static void in_blocking_call(void *arg) {
    CHECK(blocking_call(burns, NULL) == 0);
}

static SITE(labelled) void burns_labelled(void *arg) {
    rt_fn how = *(rt_fn *)arg;
    how(NULL);
    __asm__ volatile("" ::: "memory");
}

/* Each way to run a function shows the coroutine that does, with its labels and its own calls. */
static void profile_labelled(rt_fn how) {
    struct found found = {.name = "main"};
    CHECK(profile_start(0, 0) == 0);
    labels_do(&(struct label){"route", "api"}, 1, burns_labelled, &how);
    stop_and_read(&found);
    check_shares(&found);
    CHECK(found.named == found.much + found.little);
    CHECK(found.labelled >= found.named);
    CHECK(found.led * 10 >= found.named * 9); /* interrupted between two frames, it lacks some */
}

static void everywhere_story(void *arg) {
    profile_labelled(burns);
    profile_labelled(in_foreign_call);
    profile_labelled(in_blocking_call);
    rt_stop(0);
}

static void a_coroutine_is_seen_wherever_it_works(void **state) {
    skip_if_signals_wait();
    story(2, everywhere_story);
}

/* ---- Threads that come and go ---- */

static _Atomic unsigned done;

static void burns_a_little(void *arg) {
    burn_little(SHORT_NS);
}

static void burns_alone(void *arg) {
    CHECK(blocking_call(burns_a_little, NULL) == 0);
    atomic_fetch_add(&done, 1);
}

static void late_story(void *arg) {
    struct found found = {.name = "late"};
    CHECK(profile_start(0, 0) == 0);
    /* Threads that are not there yet. */
    for (int i = 0; i < 3; i++)
        CHECK(go("late", burns_alone, NULL) == 0);
    STORY_AWAIT(atomic_load(&done) == 3);
    stop_and_read(&found);
    CHECK(found.named >= 3 * 10);
    CHECK(timers_of_process() == 0);
    rt_stop(0);
}

static void threads_that_come_later_are_seen(void **state) {
    skip_if_signals_wait();
    story(2, late_story);
}

/* ---- States and limits ---- */

static void states_story(void *arg) {
    CHECK(profile_stop() == -EINVAL);
    CHECK(profile_read(NULL, NULL, &info) == -EINVAL);
    CHECK(profile_start(PROFILE_HZ_MAX + 1, 0) == -EINVAL);
    CHECK(profile_start(0, 0) == 0);
    CHECK(profile_start(0, 0) == -EBUSY);
    CHECK(profile_read(NULL, NULL, &info) == -EINVAL);
    CHECK(profile_stop() == 0);
    CHECK(profile_stop() == -EINVAL);
    CHECK(profile_start(0, 0) == 0); /* drops the one that nobody read */
    CHECK(profile_stop() == 0);
    CHECK(profile_read(NULL, NULL, &info) == 0);
    CHECK(profile_read(NULL, NULL, &info) == -EINVAL);
    rt_stop(0);
}

static void one_at_a_time(void **state) {
    story(1, states_story);
}

static void full_story(void *arg) {
    struct found found = {0};
    CHECK(profile_start(0, 4096) == 0); /* room for some dozen stacks */
    burn_both();
    stop_and_read(&found);
    CHECK(info.lost > 0);
    CHECK(found.all > 0);
    CHECK(found.all <= 4096 / 32);
    CHECK(found.all + info.lost >= 40);
    rt_stop(0);
}

static void what_does_not_fit_is_counted(void **state) {
    skip_if_signals_wait();
    story(1, full_story);
}

/* A signal that is not the timer's, one of another session, and one to a thread outside the runtime. */
static void *signals_itself(void *arg) {
    CHECK(pthread_kill(pthread_self(), signals_profile_signo()) == 0);
    return NULL;
}

static void forged_story(void *arg) {
    struct found found = {0};
    CHECK(profile_start(1, 0) == 0);
    for (int i = 0; i < 1000; i++)
        CHECK(pthread_kill(pthread_self(), signals_profile_signo()) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, signals_itself, NULL) == 0);
    pthread_join(thread, NULL);
    stop_and_read(&found);
    CHECK(found.all < 100);
    rt_stop(0);
}

static void signals_of_others_are_no_samples(void **state) {
    story(1, forged_story);
}

/* ---- Nobody reads what nobody may ---- */

static _Atomic bool must_end;

static void changes_labels(void *arg) {
    char text[16];
    for (unsigned i = 0; !atomic_load(&must_end); i++) {
        snprintf(text, sizeof text, "%u", i % 1000);
        CHECK(labels_add(&(struct label){"turn", text}, 1) == 0);
        if (i % 64 == 0)
            rt_yield();
    }
    atomic_fetch_add(&done, 1);
}

static void computes(void *arg) {
    compute();
}

static void calls_around(void *arg) {
    while (!atomic_load(&must_end)) {
        foreign_call(computes, NULL);
        foreign_call_quick("test", computes, NULL);
        rt_yield();
    }
    atomic_fetch_add(&done, 1);
}

static void ends_at_once(void *arg) {}

/* Profiles at the highest rate, again and again, while all that they look at changes. */
static void unrest_story(void *arg) {
    for (int i = 0; i < 2; i++) {
        CHECK(go("changes labels", changes_labels, NULL) == 0);
        CHECK(go("calls around", calls_around, NULL) == 0);
    }
    uint64_t all = 0;
    for (int turn = 0; turn < 20 || all < 50; turn++) {
        struct found found = {0};
        CHECK(profile_start(PROFILE_HZ_MAX, 0) == 0);
        for (int i = 0; i < 200; i++) {
            CHECK(go("ends", ends_at_once, NULL) == 0);
            rt_yield();
        }
        stop_and_read(&found);
        all += found.all;
    }
    atomic_store(&must_end, true);
    STORY_AWAIT(atomic_load(&done) == 4);
    rt_stop(0);
}

static void profiles_stand_their_ground_while_all_changes(void **state) {
    story_skip_if_emulated("timers of a thread's processor time");
    story(2, unrest_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_functions_have_their_shares),
        cmocka_unit_test(a_coroutine_is_seen_wherever_it_works),
        cmocka_unit_test(threads_that_come_later_are_seen),
        cmocka_unit_test(one_at_a_time),
        cmocka_unit_test(what_does_not_fit_is_counted),
        cmocka_unit_test(signals_of_others_are_no_samples),
        cmocka_unit_test(profiles_stand_their_ground_while_all_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
