/* stack_call.c: a coroutine borrows a larger stack, waits on it, is looked at on it, and comes back. */
#include <errno.h>

#include "rt/labels.h"
#include "rt/rt_internal.h"
#include "rt/stack_call.h"
#include "rt/waitgroup.h"
#include "rt_story.h"

enum { LARGE = 1024 * 1024, USED = LARGE / 2 };

static uintptr_t own_low;
static int calls;

static void is_here(bool expected) {
    uintptr_t low, high, frame = (uintptr_t)__builtin_frame_address(0);
    stack_call_bounds(&low, &high);
    CHECK(frame > low && frame < high);
    CHECK((low == own_low) == expected);
}

static NOINLINE void use_much(void *arg) {
    volatile char room[USED];
    struct g *self = rt_self();
    for (size_t i = 0; i < sizeof room; i += 512)
        room[i] = (char)i;
    CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
    CHECK(rt_self() == self);
    for (size_t i = 0; i < sizeof room; i += 512)
        CHECK(room[i] == (char)i);
    calls++;
}

static void on_large(void *arg) {
    is_here(false);
    use_much(NULL);
    CHECK(stack_call(1024, use_much, NULL) == 0); /* more is there: no other stack */
    is_here(false);
}

static void on_own(void *arg) {
    is_here(true);
    calls++;
}

static void borrows(void *arg) {
    uintptr_t high;
    stack_call_bounds(&own_low, &high);
    for (int i = 0; i < 3; i++) { /* the second time it is a stack that was given back */
        calls = 0;
        CHECK(stack_call(LARGE, on_large, NULL) == 0);
        CHECK(calls == 2);
        is_here(true);
    }
    CHECK(stack_call(1024, on_own, NULL) == 0);
    CHECK(stack_call((size_t)RT_STACK_MAX + 1, on_own, NULL) == -EINVAL);
    CHECK(calls == 3);
    rt_stop(0);
}

static void a_coroutine_borrows_a_larger_stack_and_parks_on_it(void **state) {
    story(1, borrows);
}

/* ---- Somebody looks at it meanwhile ---- */

static struct g *sleeper;
static bool woken;

static NOINLINE void wait_on_large(void *arg) {
    while (!woken)
        CHECK(rt_park("until it was looked at", RT_FOREVER) == 0);
}

static void sleeps(void *arg) {
    sleeper = rt_self();
    CHECK(stack_call(LARGE, wait_on_large, NULL) == 0);
    waitgroup_done(arg);
}

static void looks(void *arg) {
    static struct waitgroup group;
    uintptr_t pcs[8];
    waitgroup_add(&group, 1);
    CHECK(go_here("sleeper", sleeps, &group) == 0);
    rt_yield();
    unsigned count = backtrace_suspended(sleeper, pcs, 8);
    bool found = false;
    for (unsigned i = 0; i < count; i++)
        found |= pcs[i] - (uintptr_t)wait_on_large < 4096;
    CHECK(found);
    woken = true;
    rt_ready(sleeper);
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    rt_stop(0);
}

static void its_backtrace_is_of_the_stack_that_it_stands_on(void **state) {
    story(1, looks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_coroutine_borrows_a_larger_stack_and_parks_on_it),
        cmocka_unit_test(its_backtrace_is_of_the_stack_that_it_stands_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
