/* sema.c: permits, their order, and that none is lost. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "rt/sema.h"
#include "order_story.h"

static struct sema sema;
static void acquires(void *arg) {
    CHECK(sema_acquire(&sema, "in a test", story_soon()) == 0);
    note(arg);
}

static struct g *victim;

static void is_cancelled(void *arg) {
    victim = rt_self();
    CHECK(sema_acquire(&sema, "to be cancelled", RT_FOREVER) == -ECANCELED);
    note("x");
}

static void order_story(void *arg) {
    sema_init(&sema, 2);
    CHECK(sema_acquire(&sema, "free", 1) == 0); /* a free permit needs no time */
    CHECK(sema_try_acquire(&sema));
    CHECK(!sema_try_acquire(&sema));
    CHECK(sema_acquire(&sema, "taken", clock_mono_ns() + NS_PER_MS) == -ETIMEDOUT);
    CHECK(atomic_load(&sema.count) == 0);

    CHECK(go_here("a", acquires, (char[]){"a"}) == 0);
    CHECK(go_here("x", is_cancelled, NULL) == 0);
    CHECK(go_here("b", acquires, (char[]){"b"}) == 0);
    CHECK(go_here("c", acquires, (char[]){"c"}) == 0);
    rt_yield();
    CHECK(atomic_load(&sema.count) == -4);
    rt_cancel(victim);
    STORY_AWAIT(strcmp(order, "x") == 0);
    sema_release(&sema, 1);
    CHECK(!sema_try_acquire(&sema)); /* it is a's, who has not run yet */
    STORY_AWAIT(strcmp(order, "xa") == 0);
    sema_release(&sema, 5); /* b, c, and three over; which of them runs first is not ours to say */
    CHECK(atomic_load(&sema.count) == 3);
    STORY_AWAIT(strlen(order) == 4);
    rt_stop(0);
}

static void permits_go_to_who_waits_longest(void **state) {
    story(1, order_story);
}

/* ---- Foreign threads ---- */

enum { PERMITS = 1000 };

static void *releases(void *arg) {
    for (int i = 0; i < PERMITS; i++) {
        sema_release(&sema, 1);
        if (i % 16 == 0)
            sched_yield();
    }
    return NULL;
}

static void takes_many(void *arg) {
    for (int i = 0; i < PERMITS; i++)
        CHECK(sema_acquire(&sema, "from a thread", story_soon()) == 0);
    waitgroup_done(&group);
}

static void thread_story(void *arg) {
    sema_init(&sema, 0);
    waitgroup_add(&group, 2);
    CHECK(go_on(1, "pinned", takes_many, NULL) == 0);
    CHECK(go("stealable", takes_many, NULL) == 0);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, releases, NULL) == 0);
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&sema.count) == 0);
    rt_stop(0);
}

static void foreign_threads_release(void **state) {
    story(2, thread_story);
}

/* ---- Races ---- */

enum { TAKERS = 12, TRIES = 200 };
static _Atomic long taken, timed_out;

/* Deadlines about as long as a turn of the others, so that both come at once often. */
static void takes_in_haste(void *arg) {
    for (int i = 0; i < TRIES; i++) {
        int err = sema_acquire(&sema, "in haste", clock_mono_ns() + i % 40 * NS_PER_US);
        if (err == 0) {
            atomic_fetch_add(&taken, 1);
            if (i % 2)
                rt_yield();
            sema_release(&sema, 1);
        } else {
            CHECK(err == -ETIMEDOUT);
            atomic_fetch_add(&timed_out, 1);
        }
    }
    waitgroup_done(&group);
}

static void haste_story(void *arg) {
    sema_init(&sema, 2);
    waitgroup_add(&group, TAKERS);
    for (unsigned i = 0; i < TAKERS; i++)
        CHECK((i % 2 ? go("hasty", takes_in_haste, NULL)
                     : go_on(i / 2 % 2, "hasty", takes_in_haste, NULL)) == 0);
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    CHECK(atomic_load(&taken) + atomic_load(&timed_out) == TAKERS * TRIES);
    CHECK(atomic_load(&sema.count) == 2); /* what was handed over too late was not lost */
    rt_stop(0);
}

static void a_permit_that_meets_a_deadline_is_not_lost(void **state) {
    story(2, haste_story);
}

/* A waiter that ends right after its wake-up: whoever woke it must be done with it. Under ASan the
 * stack of the next coroutine would tell. */
static void takes_one_and_ends(void *arg) {
    CHECK(sema_acquire(&sema, "once", story_soon()) == 0);
    waitgroup_done(&group);
}

static void short_lives_story(void *arg) {
    sema_init(&sema, 0);
    for (int round = 0; round < 50; round++) {
        waitgroup_add(&group, 8);
        for (unsigned i = 0; i < 8; i++)
            CHECK((i % 4 ? go_on(i % 2, "short", takes_one_and_ends, NULL)
                         : go("short", takes_one_and_ends, NULL)) == 0);
        for (unsigned i = 0; i < 4; i++) {
            rt_yield();
            sema_release(&sema, 2);
        }
        CHECK(waitgroup_wait(&group, story_soon()) == 0);
    }
    CHECK(atomic_load(&sema.count) == 0);
    rt_stop(0);
}

static void the_awakened_may_end_at_once(void **state) {
    story(2, short_lives_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permits_go_to_who_waits_longest),
        cmocka_unit_test(foreign_threads_release),
        cmocka_unit_test(a_permit_that_meets_a_deadline_is_not_lost),
        cmocka_unit_test(the_awakened_may_end_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
