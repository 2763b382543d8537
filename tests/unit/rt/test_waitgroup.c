/* waitgroup.c: waits end with the last done, and the group may go right then. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "rt/waitgroup.h"
#include "rt_story.h"

static struct waitgroup group;
static int plain; /* written before done, read after wait */

static void does_its_part(void *arg) {
    rt_yield();
    plain++;
    waitgroup_done(&group);
}

static _Atomic int waited;
static struct g *victim;

static void waits(void *arg) {
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    CHECK(plain == 3);
    atomic_fetch_add(&waited, 1);
}

static void is_cancelled(void *arg) {
    victim = rt_self();
    CHECK(waitgroup_wait(&group, RT_FOREVER) == -ECANCELED);
    atomic_fetch_add(&waited, 1);
}

static void basics_story(void *arg) {
    CHECK(waitgroup_wait(&group, 1) == 0); /* nothing to wait for */
    waitgroup_add(&group, 3);
    CHECK(waitgroup_wait(&group, clock_mono_ns() + NS_PER_MS) == -ETIMEDOUT);
    CHECK(go_here("cancelled", is_cancelled, NULL) == 0);
    CHECK(go_here("waits", waits, NULL) == 0);
    CHECK(go_on(1, "waits", waits, NULL) == 0);
    rt_yield();
    rt_cancel(victim);
    STORY_AWAIT(atomic_load(&waited) == 1);
    for (int i = 0; i < 3; i++)
        CHECK(go_here("part", does_its_part, NULL) == 0);
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    CHECK(plain == 3);
    STORY_AWAIT(atomic_load(&waited) == 3);

    waitgroup_add(&group, 2); /* again, as in Go */
    waitgroup_add(&group, -1);
    waitgroup_done(&group);
    CHECK(waitgroup_wait(&group, 1) == 0);
    rt_stop(0);
}

static void a_wait_ends_with_the_last_done(void **state) {
    story(2, basics_story);
}

/* ---- Freed at once ---- */

enum { GROUPS = 300 };

static void done_with(void *arg) {
    waitgroup_done(arg);
}

static _Atomic(struct waitgroup *) for_thread;

static void *done_from_a_thread(void *arg) {
    for (int i = 0; i < GROUPS; i++) {
        struct waitgroup *wg;
        while (!(wg = atomic_exchange(&for_thread, NULL)))
            sched_yield();
        waitgroup_done(wg);
    }
    return NULL;
}

/* Half the time the waiter comes before the last done, half the time after it. */
static void freed_story(void *arg) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, done_from_a_thread, NULL) == 0);
    for (int i = 0; i < GROUPS; i++) {
        struct waitgroup *wg = malloc(sizeof *wg);
        CHECK(wg);
        waitgroup_init(wg);
        waitgroup_add(wg, 3);
        CHECK(go_on(1, "done", done_with, wg) == 0);
        CHECK(go("done", done_with, wg) == 0);
        atomic_store(&for_thread, wg);
        if (i % 2)
            rt_yield();
        CHECK(waitgroup_wait(wg, story_soon()) == 0);
        free(wg);
    }
    pthread_join(thread, NULL);
    rt_stop(0);
}

static void the_waiter_may_free_it_at_once(void **state) {
    story(2, freed_story);
}

/* ---- Deadlines that come with the last done ---- */

static _Atomic long ended;

static void waits_in_haste(void *arg) {
    struct waitgroup *wg = arg;
    int err = waitgroup_wait(wg, clock_mono_ns() + 20 * NS_PER_US);
    CHECK(err == 0 || err == -ETIMEDOUT);
    atomic_fetch_add(&ended, 1);
}

static void haste_story(void *arg) {
    for (int i = 0; i < 200; i++) {
        struct waitgroup wg = {0};
        atomic_store(&ended, 0);
        waitgroup_add(&wg, 1);
        for (unsigned j = 0; j < 4; j++)
            CHECK(go_on(j % 2, "hasty", waits_in_haste, &wg) == 0);
        rt_yield();
        int64_t until_ns = clock_mono_ns() + 20 * NS_PER_US;
        while (clock_mono_ns() < until_ns) {
        }
        waitgroup_done(&wg);
        int64_t patience_ns = story_soon();
        while (atomic_load(&ended) < 4) {
            CHECK(clock_mono_ns() < patience_ns);
            rt_yield();
        }
    }
    rt_stop(0);
}

static void a_done_that_meets_deadlines_frees_everybody(void **state) {
    story(2, haste_story);
}

static void once_too_often_story(void *arg) {
    waitgroup_add(&group, 1);
    waitgroup_done(&group);
    waitgroup_done(&group);
    rt_stop(0);
}

static void done_once_too_often_asserts(void **state) {
    story_asserts(once_too_often_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wait_ends_with_the_last_done),
        cmocka_unit_test(the_waiter_may_free_it_at_once),
        cmocka_unit_test(a_done_that_meets_deadlines_frees_everybody),
        cmocka_unit_test(done_once_too_often_asserts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
