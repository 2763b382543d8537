/* round.c: what is put off until the end of a round is done then, once, and never forgotten. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/ticks.h"
#include "rt/foreign.h"
#include "rt/poll.h"
#include "rt_story.h"

struct noted {
    struct rt_round_work work;
    _Atomic unsigned runs;  /* how often */
    unsigned asleep;        /* with sleeps */
    unsigned again;         /* times to register itself */
    struct g *readies;      /* NULL: nobody */
    unsigned written_first; /* what `written` was at the first run */
};

static unsigned written;

static void note(struct rt_round_work *work, bool sleeps) {
    struct noted *noted = container_of(work, struct noted, work);
    CHECK(!rt_self());
    if (noted->runs++ == 0)
        noted->written_first = written;
    noted->asleep += sleeps;
    if (noted->again > 0) {
        noted->again--;
        rt_at_round_end(work);
    }
    if (noted->readies)
        rt_ready(noted->readies);
}

/* ---- once, behind all that was ready ---- */

static struct noted shared_note = {.work.fn = note};

static void writes(void *arg) {
    written++;
    rt_at_round_end(&shared_note.work);
}

/* No round takes long: the processor's clock stands still for round.c. */
static void stop_ticks(void) {
    ticks_rate.ns_per_tick_32 = 0;
}

static void once_story(void *arg) {
    stop_ticks();
    for (int i = 0; i < 5; i++)
        CHECK(go_here("writes", writes, NULL) == 0);
    STORY_AWAIT(shared_note.runs > 0);
    CHECK(written == 5);
    CHECK(shared_note.written_first == 5);
    CHECK(shared_note.runs == 1 && shared_note.asleep == 1);
    writes(NULL); /* and again for the next round */
    STORY_AWAIT(shared_note.runs == 2);
    rt_stop(0);
}

static void a_round_s_work_is_done_once_behind_all_of_it(void **state) {
    story(1, once_story);
}

/* ---- the last look before the sleep ---- */

/* What it finds there runs: a P that slept on it would sleep for ever. */
static void last_look_story(void *arg) {
    stop_ticks();
    struct noted noted = {.work.fn = note, .readies = rt_self()};
    rt_at_round_end(&noted.work);
    CHECK(rt_park("what the last look finds", RT_FOREVER) == 0);
    CHECK(noted.runs == 1 && noted.asleep == 1);
    rt_stop(0);
}

static void a_p_does_not_sleep_on_what_its_last_look_found(void **state) {
    story(1, last_look_story);
    story(2, last_look_story);
}

static void again_story(void *arg) {
    struct noted noted = {.work.fn = note, .again = 10};
    rt_at_round_end(&noted.work);
    CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
    STORY_AWAIT(noted.runs == 11); /* no event was needed for any of them */
    rt_stop(0);
}

static void a_p_does_not_sleep_on_registered_work(void **state) {
    story(1, again_story);
}

/* ---- taking back ---- */

static struct noted taken_back = {.work.fn = note};

static void takes_back(struct rt_round_work *work, bool sleeps) {
    rt_not_at_round_end(&taken_back.work); /* due in this very run */
}

static void take_back_story(void *arg) {
    struct noted other = {.work.fn = note};
    struct rt_round_work first = {.fn = takes_back};
    rt_at_round_end(&taken_back.work);
    rt_not_at_round_end(&taken_back.work);
    rt_not_at_round_end(&taken_back.work); /* it is not registered: nothing happens */
    CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
    rt_at_round_end(&first);
    rt_at_round_end(&taken_back.work);
    rt_at_round_end(&other.work);
    STORY_AWAIT(other.runs == 1);
    CHECK(taken_back.runs == 0);
    rt_stop(0);
}

static void what_is_taken_back_does_not_run(void **state) {
    story(1, take_back_story);
}

/* ---- rounds without end ---- */

static void busy_story(void *arg) {
    struct noted noted = {.work.fn = note};
    rt_at_round_end(&noted.work);
    for (int64_t until = story_soon(); noted.runs == 0; rt_yield()) /* always ready */
        CHECK(clock_mono_ns() < until);
    CHECK(noted.asleep == 0);
    rt_stop(0);
}

static void a_round_without_end_does_not_hold_it_up(void **state) {
    story(1, busy_story);
}

static void blocks_until_it_ran(void *arg) {
    const struct noted *noted = arg;
    for (int64_t until = story_soon(); noted->runs == 0;)
        CHECK(clock_mono_ns() < until);
}

/* The thread is away in foreign code; whoever gets its P does it. */
static void foreign_story(void *arg) {
    static struct noted noted = {.work.fn = note};
    rt_at_round_end(&noted.work);
    foreign_call(blocks_until_it_ran, &noted);
    CHECK(noted.runs == 1);
    rt_stop(0);
}

static void foreign_code_does_not_hold_it_up(void **state) {
    story(1, foreign_story);
    story(2, foreign_story);
}

/* From a coroutine that has been running for long, on the way into foreign code. */
static void ran_before(void *arg) {
    CHECK(((struct noted *)arg)->runs == 1);
}

static void old_story(void *arg) {
    struct noted before_call = {.work.fn = note}, before_short = {.work.fn = note};
    rt_at_round_end(&before_call.work);
    for (int64_t until = clock_mono_ns() + 2 * RT_ROUND_NS; clock_mono_ns() < until;)
        ;
    foreign_call(ran_before, &before_call);
    rt_at_round_end(&before_short.work);
    for (int64_t until = clock_mono_ns() + 2 * RT_ROUND_NS; clock_mono_ns() < until;)
        ;
    foreign_call_short(ran_before, &before_short);
    rt_stop(0);
}

static void what_has_waited_runs_before_foreign_code(void **state) {
    story(1, old_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_round_s_work_is_done_once_behind_all_of_it),
        cmocka_unit_test(a_p_does_not_sleep_on_what_its_last_look_found),
        cmocka_unit_test(a_p_does_not_sleep_on_registered_work),
        cmocka_unit_test(what_is_taken_back_does_not_run),
        cmocka_unit_test(a_round_without_end_does_not_hold_it_up),
        cmocka_unit_test(foreign_code_does_not_hold_it_up),
        cmocka_unit_test(what_has_waited_runs_before_foreign_code),
    };
    return cmocka_run_group_tests_name("round", tests, NULL, NULL);
}
