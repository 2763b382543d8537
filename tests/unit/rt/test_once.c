/* once.c: once, whoever comes first and however it ends. */
#include <stdatomic.h>

#include "rt/once.h"
#include "rt/panic.h"
#include "rt/waitgroup.h"
#include "rt_story.h"

static struct once once;
static struct waitgroup group;
static _Atomic int runs;
static int made; /* plain: its maker happens before whoever returns from once_do */

static void makes(void *arg) {
    atomic_fetch_add(&runs, 1);
    for (int i = 0; i < 10; i++)
        rt_yield(); /* everybody else has come by now */
    made = 42;
}

static void needs_it(void *arg) {
    once_do(&once, makes, NULL);
    CHECK(made == 42);
    waitgroup_done(&group);
}

static void crowd_story(void *arg) {
    enum { PEOPLE = 64 };
    waitgroup_add(&group, PEOPLE);
    for (unsigned i = 0; i < PEOPLE; i++)
        CHECK(go_on(i % 2, "needs it", needs_it, NULL) == 0);
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    CHECK(atomic_load(&runs) == 1);
    once_do(&once, makes, NULL);
    CHECK(atomic_load(&runs) == 1);
    rt_stop(0);
}

static void it_runs_once_and_everybody_finds_it_done(void **state) {
    story(2, crowd_story);
}

static struct g *maker, *waiter;
static bool may_go_on, waiter_done;

static void takes_long(void *arg) {
    maker = rt_self();
    while (!may_go_on)
        (void)rt_park("making", story_soon());
    made = 42;
}

static void first(void *arg) {
    once_do(&once, takes_long, NULL);
}

static void second(void *arg) {
    waiter = rt_self();
    once_do(&once, takes_long, NULL);
    CHECK(made == 42);
    CHECK(rt_cancelled());
    waiter_done = true;
}

static void cancelled_story(void *arg) {
    CHECK(go_here("first", first, NULL) == 0);
    CHECK(go_here("second", second, NULL) == 0);
    rt_yield();
    CHECK(maker && waiter);
    rt_cancel(waiter);
    for (int i = 0; i < 10; i++)
        rt_yield();
    CHECK(!waiter_done);
    may_go_on = true;
    rt_ready(maker);
    STORY_AWAIT(waiter_done);
    rt_stop(0);
}

static void who_is_cancelled_waiting_finds_it_done_too(void **state) {
    story(1, cancelled_story);
}

static void panics(void *arg) {
    atomic_fetch_add(&runs, 1);
    panic("cannot be made", NULL);
}

static void tries(void *arg) {
    once_do(&once, panics, NULL);
}

static void recovers(void *arg) {
    struct panic_value value;
    CHECK(panic_recover(&value));
}

static void tries_and_recovers(void *arg) {
    DEFER(recovering, recovers, NULL);
    tries(NULL);
}

static void panic_story(void *arg) {
    CHECK(!panic_scope(tries_and_recovers, NULL));
    tries(NULL); /* done: no second panic */
    CHECK(atomic_load(&runs) == 1);
    CHECK(atomic_load(&once.mutex.state) == 0);
    rt_stop(0);
}

static void a_panic_counts_as_done(void **state) {
    story(1, panic_story);
}

static void exits(void *arg) {
    rt_exit();
}

static void ends_in_it(void *arg) {
    once_do(&once, exits, NULL);
}

static void exit_story(void *arg) {
    CHECK(go_here("exits", ends_in_it, NULL) == 0);
    rt_yield();
    once_do(&once, panics, NULL);
    CHECK(atomic_load(&runs) == 0);
    rt_stop(0);
}

static void an_exit_counts_as_done(void **state) {
    story(1, exit_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_runs_once_and_everybody_finds_it_done),
        cmocka_unit_test(who_is_cancelled_waiting_finds_it_done_too),
        cmocka_unit_test(a_panic_counts_as_done),
        cmocka_unit_test(an_exit_counts_as_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
