/* cond.c: who is woken, and that a signal is not lost to a deadline. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "rt/cond.h"
#include "order_story.h"

static struct mutex mutex;
static struct cond cond;
static void waits(void *arg) {
    CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
    CHECK(cond_wait(&cond, &mutex, story_soon()) == 0);
    CHECK(!mutex_try_lock(&mutex));
    note(arg);
    mutex_unlock(&mutex);
}

static struct g *victim;

static void is_cancelled(void *arg) {
    victim = rt_self();
    CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
    CHECK(cond_wait(&cond, &mutex, RT_FOREVER) == -ECANCELED);
    CHECK(!mutex_try_lock(&mutex)); /* has it, although every park fails now */
    note("x");
    mutex_unlock(&mutex);
}

static void order_story(void *arg) {
    cond_signal(&cond); /* nobody: it is not remembered */
    cond_broadcast(&cond);
    CHECK(go_here("a", waits, (char[]){"a"}) == 0);
    CHECK(go_here("x", is_cancelled, NULL) == 0);
    CHECK(go_here("b", waits, (char[]){"b"}) == 0);
    CHECK(go_here("c", waits, (char[]){"c"}) == 0);
    rt_yield();
    CHECK(mutex_lock(&mutex, RT_FOREVER) == 0); /* waiting, they do not have it */
    rt_cancel(victim);
    rt_yield();
    CHECK(order[0] == '\0'); /* first it waits for the mutex, cancelled or not */
    mutex_unlock(&mutex);
    STORY_AWAIT(strcmp(order, "x") == 0);
    cond_signal(&cond);
    STORY_AWAIT(strcmp(order, "xa") == 0);
    CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
    cond_broadcast(&cond); /* under the mutex is fine too */
    mutex_unlock(&mutex);
    STORY_AWAIT(strlen(order) == 4);

    CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
    CHECK(cond_wait(&cond, &mutex, clock_mono_ns() + NS_PER_MS) == -ETIMEDOUT);
    mutex_unlock(&mutex);
    CHECK(atomic_load(&mutex.state) == 0);
    rt_stop(0);
}

static void a_signal_wakes_who_waits_longest(void **state) {
    story(1, order_story);
}

/* ---- A signal and a deadline ---- */

static _Atomic int outcome; /* 0: waits; else 1 - err of the wait */
static _Atomic bool waiting;

static void waits_until(void *arg) {
    CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
    atomic_store(&waiting, true);
    int err = cond_wait(&cond, &mutex, *(int64_t *)arg);
    mutex_unlock(&mutex);
    atomic_store(&outcome, 1 - err);
}

/* The deadline is over when the signal comes, but the P has not noticed yet. */
static void signal_in_time_story(void *arg) {
    int64_t deadline_ns = clock_mono_ns() + 2 * NS_PER_MS;
    CHECK(go_here("waits", waits_until, &deadline_ns) == 0);
    rt_yield();
    CHECK(atomic_load(&waiting));
    while (clock_mono_ns() < deadline_ns) {
    }
    cond_signal(&cond);
    STORY_AWAIT(atomic_load(&outcome));
    CHECK(atomic_load(&outcome) == 1);
    rt_stop(0);
}

static void a_signal_counts_while_the_waiter_waits(void **state) {
    story(1, signal_in_time_story);
}

enum { ROUNDS = 300 };
static _Atomic long signals_got;
static _Atomic int still_waiting;

static void waits_briefly_on_p1(void *arg) {
    for (int i = 0; i < ROUNDS; i++) {
        CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
        int err = cond_wait(&cond, &mutex, clock_mono_ns() + i % 30 * NS_PER_US);
        mutex_unlock(&mutex);
        CHECK(err == 0 || err == -ETIMEDOUT);
        if (err == 0)
            atomic_fetch_add(&signals_got, 1);
    }
    waitgroup_done(&group);
}

static void waits_for_good(void *arg) {
    CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
    atomic_fetch_add(&still_waiting, 1);
    CHECK(cond_wait(&cond, &mutex, RT_FOREVER) == 0);
    mutex_unlock(&mutex);
    atomic_fetch_add(&signals_got, 1);
    waitgroup_done(&group);
}

/* As many patient waiters as signals: each signal is got by somebody, and those that nobody hasty
 * took are got by a patient one. */
static void signals_are_kept_story(void *arg) {
    enum { SIGNALS = 300 };
    waitgroup_add(&group, 1);
    CHECK(go_on(1, "hasty", waits_briefly_on_p1, NULL) == 0);
    waitgroup_add(&group, SIGNALS);
    for (int i = 0; i < SIGNALS; i++)
        CHECK(go("patient", waits_for_good, NULL) == 0);
    STORY_AWAIT(atomic_load(&still_waiting) == SIGNALS);
    for (int i = 0; i < SIGNALS; i++) {
        cond_signal(&cond);
        if (i % 4 == 0)
            rt_yield();
    }
    STORY_AWAIT(atomic_load(&signals_got) >= SIGNALS);
    CHECK(atomic_load(&signals_got) == SIGNALS);
    cond_broadcast(&cond); /* the patient ones whose signal a hasty one got */
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    CHECK(atomic_load(&mutex.state) == 0);
    rt_stop(0);
}

static void no_signal_is_lost_to_a_deadline(void **state) {
    story(2, signals_are_kept_story);
}

/* ---- A queue, the usual use ---- */

enum { ITEMS = 400, CAPACITY = 4 };
static struct cond not_full, not_empty;
static int items;
static long consumed;

static void produces(void *arg) {
    for (int i = 0; i < ITEMS; i++) {
        CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
        while (items == CAPACITY)
            CHECK(cond_wait(&not_full, &mutex, story_soon()) == 0);
        items++;
        mutex_unlock(&mutex);
        cond_signal(&not_empty);
    }
    waitgroup_done(&group);
}

static void consumes(void *arg) {
    for (int i = 0; i < ITEMS; i++) {
        CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
        while (items == 0)
            CHECK(cond_wait(&not_empty, &mutex, story_soon()) == 0);
        items--;
        consumed++;
        mutex_unlock(&mutex);
        cond_signal(&not_full);
    }
    waitgroup_done(&group);
}

static void queue_story(void *arg) {
    waitgroup_add(&group, 8);
    for (unsigned i = 0; i < 4; i++) {
        CHECK((i % 2 ? go("producer", produces, NULL) : go_on(0, "producer", produces, NULL)) == 0);
        CHECK((i % 2 ? go("consumer", consumes, NULL)
                     : go_on(rt_p_count() - 1, "consumer", consumes, NULL)) == 0);
    }
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    CHECK(consumed == 4 * ITEMS && items == 0);
    rt_stop(0);
}

static void a_bounded_queue_works_on_it(void **state) {
    story(1, queue_story);
    story(2, queue_story);
}

static void *signals_from_a_thread(void *arg) {
    while (!atomic_load(&outcome)) {
        cond_broadcast(&cond);
        sched_yield();
    }
    return NULL;
}

static void foreign_story(void *arg) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, signals_from_a_thread, NULL) == 0);
    int64_t deadline_ns = story_soon();
    waits_until(&deadline_ns);
    CHECK(atomic_load(&outcome) == 1);
    pthread_join(thread, NULL);
    rt_stop(0);
}

static void a_thread_may_signal(void **state) {
    story(1, foreign_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_wakes_who_waits_longest),
        cmocka_unit_test(a_signal_counts_while_the_waiter_waits),
        cmocka_unit_test(no_signal_is_lost_to_a_deadline),
        cmocka_unit_test(a_bounded_queue_works_on_it),
        cmocka_unit_test(a_thread_may_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
