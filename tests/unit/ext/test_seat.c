/* seat.c: who sits where, and that a stream's end gets its seat whatever was cancelled. */
#include <errno.h>

#include "../rt/rt_story.h"
#include "ext/seat.h"

static struct seat_table table;
static bool inside, got, ended;
static struct g *waiter;

static void wants_seat_0(void *must_have) {
    bool waited;
    waiter = rt_self();
    int err = seat_lock(&table, 0, must_have != NULL, &waited);
    CHECK(waited);
    if (must_have) {
        CHECK(err == 0);
        CHECK(!inside);
        CHECK(rt_cancelled()); /* told again, now that it may matter */
        seat_unlock(&table, 0);
    } else {
        CHECK(err == -ECANCELED);
    }
    got = err == 0;
    ended = true;
}

static void seats_story(void *arg) {
    seat_table_init(&table);
    bool waited;
    CHECK(seat_bind(&table) == 0);
    CHECK(seat_bind(&table) == 0); /* free seats are shared before new ones are warmed */
    CHECK(seat_lock(&table, 0, false, &waited) == 0 && !waited);
    CHECK(seat_bind(&table) == 1); /* 0 is busy */
    for (unsigned i = 1; i < SEATS_PER_P; i++)
        CHECK(seat_lock(&table, i, false, &waited) == 0);
    CHECK(seat_bind(&table) == 2); /* all busy: nobody is bound to 2 */
    for (unsigned i = 1; i < SEATS_PER_P; i++)
        seat_unlock(&table, i);

    inside = true;
    CHECK(go_here("gives up", wants_seat_0, NULL) == 0);
    rt_yield();
    rt_cancel(waiter);
    STORY_AWAIT(ended);
    CHECK(!got);

    ended = false;
    CHECK(go_here("must have", wants_seat_0, &table) == 0);
    rt_yield();
    rt_cancel(waiter);
    rt_yield();
    CHECK(!ended);
    inside = false;
    seat_unlock(&table, 0);
    STORY_AWAIT(ended);
    CHECK(got);
    rt_stop(0);
}

static void seats(void **state) {
    story(1, seats_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(seats)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
