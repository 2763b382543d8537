/* seat.c: who sits where, who waits, and that nobody is forgotten. */
#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

#include "../rt/rt_story.h"
#include "ext/seat.h"

static struct seat_set *set;

static struct seat *take(bool wary) {
    struct seat *seat = NULL;
    CHECK(seat_take(set, wary, 0, &seat) == 0);
    CHECK(seat_is_held(seat));
    return seat;
}

static void gives_up(struct seat *seat) {
    seat_unlock(set, seat);
    seat_leave(set, seat);
}

/* ---- choice ---- */

/* One P with eight seats: calm 0 and 1, wary 2 and 3, the rest in the pool. */
static void choice_story(void *arg) {
    set = seat_set_new(1, 8);
    CHECK(set && seat_set_size(set) == 8);
    struct seat *seats[8];
    seats[0] = take(false);
    seat_unlock(set, seats[0]);
    seats[1] = take(false);
    CHECK(seats[0]->number == 0 && seats[1]->number == 1); /* spread, although 0 is free */
    seat_unlock(set, seats[1]);
    seats[2] = take(true);
    CHECK(seats[2]->number == 2);
    struct seat *again = take(false); /* both calm seats have a stream: the first, shared */
    CHECK(again->number == 0);

    /* One who blocks in 0 does not hinder the others: they share 1, then take from the pool. */
    for (int i = 0; i < 3; i++) {
        struct seat *other = take(false);
        CHECK(other->number == 1);
        gives_up(other);
    }
    CHECK(seat_lock(seats[1], 0) == 0);
    struct seat *wary = take(true); /* 2 is held, too */
    CHECK(wary->number == 3);
    struct seat *lent[4];
    for (int i = 0; i < 4; i++) {
        lent[i] = take(i % 2);
        CHECK(lent[i]->number == (unsigned)(4 + i));
    }
    gives_up(wary);
    CHECK(take(false) == wary); /* better than none */
    struct seat *none;
    CHECK(seat_take(set, false, 0, &none) == -ETIMEDOUT);
    CHECK(seat_lock(lent[0], 0) == -ETIMEDOUT);

    /* What the pool lent is shared while it is there, and goes back with its last stream. */
    seat_unlock(set, lent[2]);
    CHECK(take(false) == lent[2]);
    gives_up(lent[2]);
    seat_leave(set, lent[2]);
    CHECK(take(true)->number == 6);
    rt_stop(0);
}

static void streams_are_spread_and_the_wary_are_apart(void **state) {
    story(1, choice_story);
}

/* ---- waiting ---- */

static unsigned order[8], ended;
static struct g *waiters[8];

static void waits_for_a_seat(void *arg) {
    unsigned i = (unsigned)(uintptr_t)arg;
    waiters[i] = rt_self();
    struct seat *seat = NULL;
    int err = seat_take(set, false, 60 * NS_PER_S, &seat);
    if (i == 1) { /* is cancelled */
        CHECK(err == -ECANCELED);
    } else {
        CHECK(err == 0 && seat_is_held(seat));
        order[ended] = i;
        rt_yield(); /* the next one must not come in meanwhile */
        gives_up(seat);
    }
    ended++;
}

static void queue_story(void *arg) {
    set = seat_set_new(1, 2);
    struct seat *own = take(false), *lent = take(false);
    CHECK(own->number == 0 && lent->number == 1);
    for (uintptr_t i = 0; i < 4; i++) {
        CHECK(go_here("waits", waits_for_a_seat, (void *)i) == 0);
        rt_yield();
    }
    rt_cancel(waiters[1]);
    STORY_AWAIT(ended == 1);
    gives_up(own); /* one seat is enough for all who wait */
    STORY_AWAIT(ended == 4);
    CHECK(order[1] == 0 && order[2] == 2 && order[3] == 3);

    struct seat *seat;
    own = take(false);
    CHECK(seat_take(set, false, NS_PER_MS, &seat) == -ETIMEDOUT);
    CHECK(seat_lock(own, NS_PER_MS) == -ETIMEDOUT);
    gives_up(own);
    gives_up(lent);
    CHECK(take(true)->number == 1); /* P 0 has no seat for the wary of its own */
    rt_stop(0);
}

static void who_waits_comes_in_turn(void **state) {
    story(1, queue_story);
}

static _Atomic bool p1_has_all, p1_may_leave, p0_got;

static void takes_all(void *arg) {
    struct seat *seats[3];
    for (int i = 0; i < 3; i++)
        seats[i] = take(false);
    CHECK(seats[0]->number == 1 && seats[2]->number == 3);
    atomic_store(&p1_has_all, true);
    while (!atomic_load(&p1_may_leave))
        CHECK(rt_sleep_until(rt_now_ns() + NS_PER_MS) == 0);
    for (int i = 0; i < 3; i++)
        gives_up(seats[i]);
}

static void waits_on_p0(void *arg) {
    struct seat *seat = NULL;
    CHECK(seat_take(set, true, 60 * NS_PER_S, &seat) == 0);
    CHECK(seat->number >= 2);
    gives_up(seat);
    atomic_store(&p0_got, true);
}

/* Two Ps with four seats: one each, and two in the pool, which P 1 has. */
static void pool_story(void *arg) {
    set = seat_set_new(2, 4);
    struct seat *own = take(false);
    CHECK(own->number == 0);
    CHECK(go_on(1, "takes all", takes_all, NULL) == 0);
    STORY_AWAIT(atomic_load(&p1_has_all));
    CHECK(go_here("waits", waits_on_p0, NULL) == 0);
    rt_yield();
    atomic_store(&p1_may_leave, true);
    STORY_AWAIT(atomic_load(&p0_got));
    CHECK(take(true)->number >= 2); /* it went back to the pool from here */
    rt_stop(0);
}

static void a_seat_that_one_p_gives_back_wakes_another(void **state) {
    story(2, pool_story);
}

/* ---- calls ---- */

static sem_t go_on_now;
static unsigned inside, served;

static void blocks(void *arg) {
    while (sem_wait(&go_on_now) < 0) {
    }
}

static void calls_a_blocking_function(void *arg) {
    struct seat *seat = take(false);
    inside++;
    CHECK(seat_call(seat, &inside, false, blocks, NULL) >= seat_blocked_ns);
    inside--;
    gives_up(seat);
    served++;
}

static void nothing(void *arg) {
    (*(unsigned *)arg)++;
}

static void call_story(void *arg) {
    CHECK(sem_init(&go_on_now, 0, 0) == 0);
    set = seat_set_new(1, 4);
    for (int i = 0; i < 3; i++)
        CHECK(go_here("blocks", calls_a_blocking_function, NULL) == 0);
    STORY_AWAIT(seat_set_count(set, NULL).blocked == 3);
    CHECK(inside == 3 && seat_set_count(set, NULL).busy == 3);
    CHECK(seat_set_count(set, &inside).blocked == 3);
    CHECK(seat_set_count(set, &served).busy == 0);
    unsigned calls = 0;
    for (int i = 0; i < 5; i++) { /* the fourth seat serves everybody else */
        struct seat *seat = take(i % 2);
        (void)seat_call(seat, NULL, false, nothing, &calls);
        gives_up(seat);
    }
    CHECK(calls == 5 && served == 0);
    for (int i = 0; i < 3; i++)
        CHECK(sem_post(&go_on_now) == 0);
    STORY_AWAIT(served == 3);
    CHECK(seat_set_count(set, NULL).busy == 0);
    rt_stop(0);
}

static void blocked_seats_are_counted_and_leave_the_others_alone(void **state) {
    story(1, call_story);
}

static void calls_what_is_known_to_block(void *arg) {
    struct seat *seat = take(true);
    inside++;
    CHECK(seat_call(seat, NULL, true, blocks, NULL) > 0);
    inside--;
    gives_up(seat);
    served++;
}

/* The one P goes on at once, and is not taken from anybody. */
static void known_story(void *arg) {
    CHECK(sem_init(&go_on_now, 0, 0) == 0);
    set = seat_set_new(1, 4);
    inside = served = 0;
    CHECK(go_here("blocks", calls_what_is_known_to_block, NULL) == 0);
    STORY_AWAIT(inside == 1);
    CHECK(served == 0 && seat_set_count(set, NULL).busy == 1);
    CHECK(sem_post(&go_on_now) == 0);
    STORY_AWAIT(served == 1);
    struct rt_p_stats stats;
    rt_p_stats(0, &stats);
    CHECK(stats.retakes == 0 && stats.foreign_calls == 0);
    rt_stop(0);
}

static void what_is_known_to_block_costs_no_p(void **state) {
    story(1, known_story);
}

/* ---- all at once ---- */

enum { PS = 4, COROUTINES = 16, ROUNDS = 60 };
static _Atomic unsigned rounds_done, in_seat[2 * PS];
static unsigned plain[2 * PS]; /* what an extension keeps per seat, without a lock */

static void works(void *arg) {
    unsigned *number = arg;
    CHECK(atomic_fetch_add_explicit(&in_seat[*number], 1, memory_order_relaxed) == 0);
    plain[*number]++;
    if (plain[*number] % 32 == 0)
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){0, 3 * NS_PER_MS}, NULL);
    CHECK(atomic_fetch_sub_explicit(&in_seat[*number], 1, memory_order_relaxed) == 1);
}

static void uses_seats(void *arg) {
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct seat *seat = NULL;
        int err = seat_take(set, i % 3 == 0, i % 5 ? RT_FOREVER : NS_PER_MS, &seat);
        if (err == -ETIMEDOUT)
            continue;
        CHECK(err == 0);
        unsigned number = seat->number;
        (void)seat_call(seat, NULL, i % 7 == 0, works, &number);
        seat_unlock(set, seat);
        rt_yield();
        CHECK(seat_lock(seat, RT_FOREVER) == 0);
        (void)seat_call(seat, NULL, false, works, &number);
        gives_up(seat);
    }
    atomic_fetch_add(&rounds_done, 1);
}

static void starts_many(void *arg) {
    for (int i = 0; i < COROUTINES; i++)
        CHECK(go_here("uses seats", uses_seats, NULL) == 0);
}

static void storm_story(void *arg) {
    set = seat_set_new(PS, 2 * PS);
    for (unsigned p = 0; p < PS; p++)
        CHECK(go_on(p, "starts", starts_many, NULL) == 0);
    STORY_AWAIT(atomic_load(&rounds_done) == PS * COROUTINES);
    CHECK(seat_set_count(set, NULL).busy == 0);
    rt_stop(0);
}

static void one_at_a_time_whatever_happens(void **state) {
    story(PS, storm_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_spread_and_the_wary_are_apart),
        cmocka_unit_test(who_waits_comes_in_turn),
        cmocka_unit_test(a_seat_that_one_p_gives_back_wakes_another),
        cmocka_unit_test(blocked_seats_are_counted_and_leave_the_others_alone),
        cmocka_unit_test(what_is_known_to_block_costs_no_p),
        cmocka_unit_test(one_at_a_time_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
