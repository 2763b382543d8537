/* recycle.c: a P's free memory goes back to the OS by the runtime's own clock, or when it is asked for.
 * The clock is ours to move (--wrap). */
#include <pthread.h>
#include <stdatomic.h>

#include "mem/poison.h"
#include "rt/rt_internal.h"
#include "rt_story.h"

static _Atomic int64_t clock_ahead_ns;

int64_t __real_clock_mono_ns(void);
int64_t __wrap_clock_mono_ns(void);
int64_t __wrap_clock_mono_ns(void) {
    return __real_clock_mono_ns() + atomic_load(&clock_ahead_ns);
}

/* The Ps see the new time. */
static void advance(int64_t passed_ns) {
    atomic_fetch_add(&clock_ahead_ns, passed_ns);
    CHECK(rt_sleep_until(clock_mono_ns() + 1) == 0);
}

static struct recycler_stats stats(void) {
    struct recycler_stats stats;
    recycler_stats(&stats);
    return stats;
}

static uint64_t kept(void) {
    struct recycler_stats now = stats();
    return now.heap_idle - now.heap_released;
}

/* More than a P's own list takes, so that the recycler's shelves and the depot have some as well. */
enum { BURST = BLOCK_CACHE_MAX + 100 };

static void burst(void) {
    struct block *blocks[BURST];
    for (int i = 0; i < BURST; i++) {
        blocks[i] = block_get(rt_blocks());
        CHECK(blocks[i]);
    }
    for (int i = 0; i < BURST; i++)
        block_put(rt_blocks(), blocks[i]);
}

static void traffic(void) {
    struct block *block = block_get(rt_blocks());
    CHECK(block);
    block_put(rt_blocks(), block);
}

static void await_rest(struct p *p) {
    for (int64_t until = story_soon() + atomic_load(&clock_ahead_ns);
         timer_is_armed(&p->recycle);) {
        CHECK(clock_mono_ns() < until + 10 * RECYCLER_IDLE_NS);
        advance(RECYCLER_AGE_PAUSE_NS);
    }
}

static void minute_story(void *arg) {
    struct p *p = p_self();
    CHECK(!timer_is_armed(&p->recycle)); /* nothing is free, nothing ticks */
    for (int round = 0; round < 2; round++) {
        uint64_t frees = stats().frees;
        burst();
        CHECK(kept() >= (uint64_t)BURST * BLOCK_SIZE);
        CHECK(timer_is_armed(&p->recycle));
        for (int64_t passed_ns = 0; passed_ns < RECYCLER_IDLE_NS - RECYCLER_AGE_NS;
             passed_ns += RECYCLER_AGE_NS)
            advance(RECYCLER_AGE_NS);
        CHECK(stats().frees == frees); /* not before its time */
        advance(3 * RECYCLER_AGE_NS);
        await_rest(p);
        CHECK(stats().heap_sys == 0);
        CHECK(stats().frees - frees == BURST);
        CHECK(p->wheel.levels == 0);
    }
    rt_stop(0);
}

static void blocks_idle_for_a_minute_go_back_by_the_ps_own_timer(void **state) {
    story(1, minute_story);
}

static void busy_story(void *arg) {
    burst();
    uint64_t kept_at_first = kept();
    for (int second = 0; second < 90; second++) {
        advance(NS_PER_S);
        traffic();
    }
    for (int step = 0; step < BURST / RECYCLER_STEP + 1; step++)
        advance(RECYCLER_AGE_PAUSE_NS);
    CHECK(kept() <= kept_at_first / BURST * (MEM_HARDENED ? 128 : 1));
    CHECK(timer_is_armed(&p_self()->recycle)); /* for what the traffic uses */
    rt_stop(0);
}

static void blocks_that_traffic_does_not_reach_go_back_while_it_goes_on(void **state) {
    story(1, busy_story);
}

/* ---- A trim ---- */

enum { PS = 3 };
static _Atomic unsigned ready_count;
static _Atomic bool trimmed;

static void holds_free_blocks(void *arg) {
    burst();
    struct block *held = block_get(rt_blocks());
    CHECK(held);
    held->data[0] = 'h';
    atomic_fetch_add(&ready_count, 1);
    STORY_AWAIT(atomic_load(&trimmed));
    CHECK(held->data[0] == 'h');
    block_put(rt_blocks(), held);
    atomic_fetch_sub(&ready_count, 1);
}

static void *asks_for_a_trim(void *arg) {
    rt_trim_memory();
    return NULL;
}

static void trim_story(void *arg) {
    for (unsigned i = 0; i < PS; i++)
        CHECK(go_on(i, "holder", holds_free_blocks, NULL) == 0);
    STORY_AWAIT(atomic_load(&ready_count) == PS);
    CHECK(kept() > (uint64_t)PS * BURST / 2 * BLOCK_SIZE);
    pthread_t asker; /* foreign, as whoever watches the process's memory may be */
    CHECK(pthread_create(&asker, NULL, asks_for_a_trim, NULL) == 0);
    CHECK(pthread_join(asker, NULL) == 0);
    /* Before anything ages. */
    for (int64_t until = clock_mono_ns() + RECYCLER_IDLE_NS / 2; kept() > 0;) {
        CHECK(clock_mono_ns() < until);
        CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
    }
    CHECK(stats().bytes == (uint64_t)PS * BLOCK_SIZE);
    atomic_store(&trimmed, true);
    STORY_AWAIT(atomic_load(&ready_count) == 0);
    rt_stop(0);
}

static void a_trim_reaches_all_ps_and_takes_what_is_young(void **state) {
    story(PS, trim_story);
}

enum { ROUNDS = 200 };
static _Atomic unsigned busy_count;

static void bursts(void *arg) {
    for (int i = 0; i < ROUNDS; i++) {
        burst();
        rt_yield();
    }
    atomic_fetch_sub(&busy_count, 1);
}

static void *asks_for_many_trims(void *arg) {
    while (atomic_load(&busy_count) > 0)
        rt_trim_memory();
    return NULL;
}

static void trims_and_bursts_story(void *arg) {
    atomic_store(&busy_count, PS);
    for (unsigned i = 0; i < PS; i++)
        CHECK(go_on(i, "bursts", bursts, NULL) == 0);
    pthread_t askers[2];
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&askers[i], NULL, asks_for_many_trims, NULL) == 0);
    STORY_AWAIT(atomic_load(&busy_count) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(askers[i], NULL) == 0);
    rt_trim_memory(); /* the last one to ask is heard too */
    for (int64_t until = clock_mono_ns() + RECYCLER_IDLE_NS / 2; kept() > 0;) {
        CHECK(clock_mono_ns() < until);
        CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
    }
    rt_stop(0);
}

static void trims_from_all_sides_disturb_nobody(void **state) {
    story(PS, trims_and_bursts_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_idle_for_a_minute_go_back_by_the_ps_own_timer),
        cmocka_unit_test(blocks_that_traffic_does_not_reach_go_back_while_it_goes_on),
        cmocka_unit_test(a_trim_reaches_all_ps_and_takes_what_is_young),
        cmocka_unit_test(trims_from_all_sides_disturb_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
