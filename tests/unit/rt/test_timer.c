/* timer.c and wheel.c: never early, in order, cheap to move. */
#include <errno.h>
#include <string.h>

#include "rt/timer.h"
#include "rt/wheel.h"
#include "rt_story.h"

/* ---- The wheel alone, on a clock that the test drives ---- */

enum { TIMERS = 4000 };
static struct wheel wheel;
static struct timer timers[TIMERS];
static int64_t wheel_clock_ns;
static unsigned fired_count;

static void note_fired(struct timer *timer) {
    assert_true(timer->deadline_ns <= wheel_clock_ns); /* never early */
    fired_count++;
}

static void check_wheel(void) {
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        assert_true(!(wheel.levels >> level & 1) == !wheel.occupied[level]);
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++)
            assert_true(!(wheel.occupied[level] >> slot & 1) ==
                        list_is_empty(&wheel.slots[level][slot]));
    }
}

/* Deadlines from 1 ms to 200 years, so that every level takes part in cascades. */
static void each_timer_fires_once_on_time_on_every_level(void **state) {
    for (int start = 0; start < 3; start++) {
        wheel_clock_ns = start * (4095 * NS_PER_MS + 999999);
        wheel_init(&wheel, wheel_clock_ns);
        fired_count = 0;
        uint64_t seed = 42 + (uint64_t)start;
        for (int i = 0; i < TIMERS; i++) {
            unsigned bits = 20 + (unsigned)i % 43;
            int64_t wait_ns = (int64_t)(next_random(&seed) & ((1ULL << bits) - 1));
            timer_init(&timers[i], note_fired);
            timers[i].deadline_ns = wheel_clock_ns + wait_ns;
            wheel_add(&wheel, &timers[i]);
        }
        check_wheel();
        unsigned removed = 0;
        for (int i = 0; i < TIMERS; i += 7, removed++)
            wheel_remove(&wheel, &timers[i]);
        check_wheel();
        unsigned steps = 0;
        while (wheel_next(&wheel) != WHEEL_NEVER) {
            /* Sometimes exactly to the event, sometimes past it, sometimes just short of it. */
            int64_t event_ns = (int64_t)wheel_next(&wheel) * NS_PER_MS;
            int64_t late_ns = (int64_t)(next_random(&seed) % 3) * 700000;
            wheel_clock_ns = steps % 5 == 4 ? event_ns - 1 : event_ns + late_ns;
            wheel_advance(&wheel, wheel_clock_ns);
            if (++steps % 64 == 0)
                check_wheel();
            for (int i = steps % 50; i < TIMERS; i += 50) /* none is overdue by a tick */
                if (timer_is_armed(&timers[i]))
                    assert_true(timers[i].deadline_ns > wheel_clock_ns - NS_PER_MS);
        }
        assert_int_equal(fired_count, TIMERS - removed);
        check_wheel();
    }
}

static struct timer again;
static unsigned again_count;

static void arm_again(struct timer *timer) {
    again_count++;
    timer->deadline_ns = 0; /* long past */
    wheel_add(&wheel, timer);
}

static void a_timer_that_arms_itself_in_the_past_cannot_hold_up_the_wheel(void **state) {
    wheel_init(&wheel, 0);
    again_count = 0;
    timer_init(&again, arm_again);
    again.deadline_ns = 5 * NS_PER_MS;
    wheel_add(&wheel, &again);
    wheel_advance(&wheel, 10 * NS_PER_MS);
    assert_int_equal(again_count, 6); /* ticks 5 to 10 */
    wheel_remove(&wheel, &again);
    assert_true(wheel_next(&wheel) == WHEEL_NEVER);
    check_wheel();
}

static struct timer killer, sibling;
static void remove_sibling(struct timer *timer) {
    wheel_remove(&wheel, timer == &killer ? &sibling : &killer);
    fired_count++;
}

static void a_callback_may_disarm_one_that_is_due_with_it(void **state) {
    wheel_init(&wheel, 0);
    fired_count = 0;
    timer_init(&killer, remove_sibling);
    timer_init(&sibling, remove_sibling);
    killer.deadline_ns = sibling.deadline_ns = 3 * NS_PER_MS;
    wheel_add(&wheel, &killer);
    wheel_add(&wheel, &sibling);
    wheel_advance(&wheel, 4 * NS_PER_MS);
    assert_int_equal(fired_count, 1);
    check_wheel();
}

static void the_timeout_for_epoll_is_rounded_up(void **state) {
    wheel_init(&wheel, 0);
    assert_int_equal(wheel_timeout_ms(&wheel, 0), -1);
    timer_init(&again, note_fired);
    again.deadline_ns = 7 * NS_PER_MS + 1;
    wheel_add(&wheel, &again);
    assert_int_equal(wheel_timeout_ms(&wheel, 0), 8);
    assert_int_equal(wheel_timeout_ms(&wheel, 1), 8);
    assert_int_equal(wheel_timeout_ms(&wheel, 8 * NS_PER_MS), 0);
    wheel_remove(&wheel, &again);
}

/* ---- On a P ---- */

struct on_p {
    struct timer timer;
    int64_t fired_ns;
};
static struct on_p early, late, moved, disarmed;
static int fired_on_p;

static void fire_on_p(struct timer *timer) {
    struct on_p *it = container_of(timer, struct on_p, timer);
    CHECK(rt_self() == NULL);
    CHECK(it->fired_ns == 0);
    it->fired_ns = clock_mono_ns();
    CHECK(it->fired_ns >= timer->deadline_ns);
    CHECK(!timer_is_armed(timer));
    fired_on_p++;
}

static void timer_story(void *arg) {
    int64_t now_ns = clock_mono_ns();
    timer_init(&early.timer, fire_on_p);
    timer_init(&late.timer, fire_on_p);
    timer_init(&moved.timer, fire_on_p);
    timer_init(&disarmed.timer, fire_on_p);
    timer_arm(&late.timer, now_ns + 90 * NS_PER_MS);
    timer_arm(&early.timer, now_ns + 3 * NS_PER_MS);
    timer_arm(&moved.timer, now_ns + 1 * NS_PER_MS);
    timer_arm(&moved.timer, now_ns + 30 * NS_PER_MS);
    timer_arm(&disarmed.timer, now_ns + 2 * NS_PER_MS);
    CHECK(timer_is_armed(&disarmed.timer));
    timer_disarm(&disarmed.timer);
    timer_disarm(&disarmed.timer);
    CHECK(!timer_is_armed(&disarmed.timer));
    STORY_AWAIT(fired_on_p == 3);
    CHECK(early.fired_ns <= moved.fired_ns);
    CHECK(moved.fired_ns <= late.fired_ns);
    CHECK(disarmed.fired_ns == 0);
    timer_arm(&early.timer, RT_FOREVER);
    CHECK(!timer_is_armed(&early.timer));
    rt_stop(0);
}

static void timers_fire_in_order_and_never_early(void **state) {
    story(1, timer_story);
}

static void sleep_story(void *arg) {
    for (int64_t ms = 1; ms < 100; ms *= 3) {
        int64_t until_ns = rt_now_ns() + ms * NS_PER_MS;
        CHECK(rt_sleep_until(until_ns) == 0);
        CHECK(clock_mono_ns() >= until_ns);
        CHECK(rt_now_ns() >= until_ns);
    }
    rt_stop(0);
}

static void sleep_lasts_until_its_deadline(void **state) {
    story(1, sleep_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_timer_fires_once_on_time_on_every_level),
        cmocka_unit_test(a_timer_that_arms_itself_in_the_past_cannot_hold_up_the_wheel),
        cmocka_unit_test(a_callback_may_disarm_one_that_is_due_with_it),
        cmocka_unit_test(the_timeout_for_epoll_is_rounded_up),
        cmocka_unit_test(timers_fire_in_order_and_never_early),
        cmocka_unit_test(sleep_lasts_until_its_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
