/* mutex.c: exclusion across Ps, deadlines, and who is next when somebody starves. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "rt/mutex.h"
#include "order_story.h"

static struct mutex mutex;

static bool is_unused(struct mutex *m) {
    return atomic_load(&m->state) == 0 && waiters_is_empty(&m->waiters);
}

/* ---- Exclusion ---- */

enum { LOCKERS = 8, ROUNDS = 1000, THREADS = 2 };
static long counter;

static void adds(void *arg) {
    for (int i = 0; i < ROUNDS; i++) {
        CHECK(mutex_lock(&mutex, story_soon()) == 0);
        counter++;
        if (i % 64 == 0)
            rt_yield(); /* while it is held, so that all the others queue up */
        mutex_unlock(&mutex);
    }
    waitgroup_done(&group);
}

static void *adds_from_a_thread(void *arg) {
    for (int i = 0; i < ROUNDS; i++) {
        while (!mutex_try_lock(&mutex))
            sched_yield();
        counter++;
        mutex_unlock(&mutex);
    }
    waitgroup_done(&group);
    return NULL;
}

static void exclusion_story(void *arg) {
    waitgroup_add(&group, LOCKERS + THREADS);
    pthread_t threads[THREADS];
    for (int i = 0; i < LOCKERS; i++)
        CHECK((i % 2 ? go("adds", adds, NULL) : go_on((unsigned)i / 2 % 2, "adds", adds, NULL)) ==
              0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, adds_from_a_thread, NULL) == 0);
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(counter == (long)(LOCKERS + THREADS) * ROUNDS);
    CHECK(is_unused(&mutex));
    rt_stop(0);
}

static void one_at_a_time_whatever_it_runs_on(void **state) {
    story(2, exclusion_story);
}

/* ---- Deadlines and cancellation ---- */

static void locks_and_notes(void *arg) {
    CHECK(mutex_lock(&mutex, story_soon()) == 0);
    note(arg);
    mutex_unlock(&mutex);
}

static struct g *victim;

static void is_cancelled_waiting(void *arg) {
    victim = rt_self();
    CHECK(mutex_lock(&mutex, RT_FOREVER) == -ECANCELED);
    note("x");
}

static void is_shielded(void *arg) {
    victim = rt_self();
    mutex_lock_shielded(&mutex);
    note("s");
    CHECK(rt_cancelled()); /* put off, not lost */
    mutex_unlock(&mutex);
}

static void giving_up_story(void *arg) {
    CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
    CHECK(!mutex_try_lock(&mutex));
    CHECK(mutex_lock(&mutex, clock_mono_ns() + NS_PER_MS) == -ETIMEDOUT);
    CHECK(atomic_load(&mutex.state) == MUTEX_LOCKED);

    CHECK(go_here("victim", is_cancelled_waiting, NULL) == 0);
    STORY_AWAIT(victim);
    rt_cancel(victim);
    STORY_AWAIT(strcmp(order, "x") == 0);
    CHECK(atomic_load(&mutex.state) == MUTEX_LOCKED);

    victim = NULL;
    CHECK(go_here("shielded", is_shielded, NULL) == 0);
    STORY_AWAIT(victim);
    rt_cancel(victim);
    for (int i = 0; i < 10; i++)
        rt_yield();
    CHECK(strcmp(order, "x") == 0);
    mutex_unlock(&mutex);
    STORY_AWAIT(strcmp(order, "xs") == 0);
    CHECK(is_unused(&mutex));
    rt_stop(0);
}

static void who_gives_up_leaves_no_trace(void **state) {
    story(1, giving_up_story);
}

/* B is woken, loses to a newcomer, and gives up: C must not sleep on. */
static void wake_up_passed_on_story(void *arg) {
    CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
    CHECK(go_here("b", is_cancelled_waiting, NULL) == 0);
    CHECK(go_here("c", locks_and_notes, (char[]){"c"}) == 0);
    rt_yield();
    CHECK(victim);
    mutex_unlock(&mutex);
    CHECK(mutex_try_lock(&mutex)); /* b is awake, but has not run */
    rt_cancel(victim);
    STORY_AWAIT(strcmp(order, "x") == 0);
    mutex_unlock(&mutex);
    STORY_AWAIT(strcmp(order, "xc") == 0);
    CHECK(is_unused(&mutex));
    rt_stop(0);
}

static void a_wake_up_of_one_that_gives_up_goes_on(void **state) {
    story(1, wake_up_passed_on_story);
}

static void *unlocks_from_a_thread(void *arg) {
    mutex_unlock(&mutex);
    return NULL;
}

static void foreign_unlock_story(void *arg) {
    for (int i = 0; i < 8; i++) {
        order[0] = '\0';
        CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
        CHECK((i % 2 ? go_here : go)("w", locks_and_notes, (char[]){"w"}) == 0);
        STORY_AWAIT(atomic_load(&mutex.state) & MUTEX_QUEUED);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, unlocks_from_a_thread, NULL) == 0);
        STORY_AWAIT(order[0] == 'w');
        pthread_join(thread, NULL);
    }
    rt_stop(0);
}

static void a_thread_may_unlock(void **state) {
    story(1, foreign_unlock_story);
}

/* ---- Starvation ---- */

/* Main takes the mutex past a waiter again and again, until that has waited for so long that it says
 * so: the next unlock hands over, and main cannot be faster any more. */
static void starvation_story(void *arg) {
    CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
    int64_t since_ns = clock_mono_ns();
    CHECK(go_here("b", locks_and_notes, (char[]){"b"}) == 0);
    CHECK(go_here("c", locks_and_notes, (char[]){"c"}) == 0);
    rt_yield();
    CHECK(order[0] == '\0');
    do {
        mutex_unlock(&mutex);
        CHECK(mutex_try_lock(&mutex)); /* b is awake, but has not run: who is faster has it */
        CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0); /* b runs, and loses */
    } while (!(atomic_load(&mutex.state) & MUTEX_STARVING));
    CHECK(clock_mono_ns() - since_ns >= MUTEX_STARVING_NS);
    mutex_unlock(&mutex);
    CHECK(!mutex_try_lock(&mutex)); /* it is b's */
    CHECK(mutex_lock(&mutex, story_soon()) == 0);
    CHECK(strcmp(order, "bc") == 0); /* and c, who has waited as long, was served before main */
    CHECK(!(atomic_load(&mutex.state) & MUTEX_STARVING)); /* main did not wait: the old way again */
    mutex_unlock(&mutex);
    CHECK(is_unused(&mutex));
    rt_stop(0);
}

static void a_starving_waiter_is_handed_the_mutex(void **state) {
    story(1, starvation_story);
}

/* What starves may also give up; the mutex must not wait for it. */
static void starving_one_gives_up_story(void *arg) {
    CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
    CHECK(go_here("b", is_cancelled_waiting, NULL) == 0);
    rt_yield();
    int64_t until_ns = clock_mono_ns() + MUTEX_STARVING_NS;
    STORY_AWAIT(clock_mono_ns() > until_ns);
    mutex_unlock(&mutex);
    CHECK(mutex_try_lock(&mutex));
    rt_yield();
    CHECK(atomic_load(&mutex.state) & MUTEX_STARVING);
    rt_cancel(victim);
    STORY_AWAIT(strcmp(order, "x") == 0);
    CHECK(atomic_load(&mutex.state) == MUTEX_LOCKED);
    mutex_unlock(&mutex);
    CHECK(is_unused(&mutex));
    rt_stop(0);
}

static void a_starving_waiter_that_gives_up_starves_nobody(void **state) {
    story(1, starving_one_gives_up_story);
}

/* ---- The object may go ---- */

enum { OBJECTS = 300 };
struct object {
    struct mutex mutex;
    int users;
};

/* Who finds itself the last user, under the object's own lock, frees it right after the unlock. */
static void uses(void *arg) {
    struct object *object = arg;
    CHECK(mutex_lock(&object->mutex, story_soon()) == 0);
    bool last = --object->users == 0;
    mutex_unlock(&object->mutex);
    if (last)
        free(object);
    waitgroup_done(&group);
}

static void freed_story(void *arg) {
    for (int i = 0; i < OBJECTS; i++) {
        struct object *object = calloc(1, sizeof *object);
        CHECK(object);
        object->users = 4;
        waitgroup_add(&group, 4);
        CHECK(mutex_lock(&object->mutex, RT_FOREVER) == 0);
        for (unsigned j = 0; j < 4; j++)
            CHECK(go_on(j % 2, "user", uses, object) == 0);
        rt_yield();
        mutex_unlock(&object->mutex);
        CHECK(waitgroup_wait(&group, story_soon()) == 0);
    }
    rt_stop(0);
}

static void the_last_to_unlock_may_free(void **state) {
    story(2, freed_story);
}

/* ---- Everything at once ---- */

static _Atomic long impatient_got, impatient_left;

static void is_impatient(void *arg) {
    for (int i = 0; i < ROUNDS / 5; i++) {
        int err = mutex_lock(&mutex, clock_mono_ns() + i % 50 * NS_PER_US);
        if (err == 0) {
            counter++;
            if (i % 7 == 0)
                rt_yield();
            mutex_unlock(&mutex);
            atomic_fetch_add(&impatient_got, 1);
        } else {
            CHECK(err == -ETIMEDOUT);
            atomic_fetch_add(&impatient_left, 1);
        }
        if (i % 3 == 0)
            rt_yield();
    }
    waitgroup_done(&group);
}

static void impatience_story(void *arg) {
    waitgroup_add(&group, 2 * LOCKERS);
    for (unsigned i = 0; i < 2 * LOCKERS; i++)
        CHECK((i % 2 ? go("hasty", is_impatient, NULL)
                     : go_on(i / 2 % 2, "hasty", is_impatient, NULL)) == 0);
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    CHECK(counter == atomic_load(&impatient_got));
    CHECK(counter + atomic_load(&impatient_left) == 2 * LOCKERS * (ROUNDS / 5));
    CHECK(is_unused(&mutex));
    rt_stop(0);
}

static void deadlines_that_race_with_wake_ups_lose_nothing(void **state) {
    story(2, impatience_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_at_a_time_whatever_it_runs_on),
        cmocka_unit_test(who_gives_up_leaves_no_trace),
        cmocka_unit_test(a_wake_up_of_one_that_gives_up_goes_on),
        cmocka_unit_test(a_thread_may_unlock),
        cmocka_unit_test(a_starving_waiter_is_handed_the_mutex),
        cmocka_unit_test(a_starving_waiter_that_gives_up_starves_nobody),
        cmocka_unit_test(the_last_to_unlock_may_free),
        cmocka_unit_test(deadlines_that_race_with_wake_ups_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
