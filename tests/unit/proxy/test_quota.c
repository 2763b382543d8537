/* quota.c: never more than the limit on all Ps together, little kept by a P that is idle, and nothing from
 * one that starves. */
#include "../rt/rt_story.h"

#include <string.h>

#include "proxy/quota.h"

enum { LIMIT = 64 << 20, PIECE = 80 << 10, P_COUNT = 4 };

static struct quota *quota;
static _Atomic int64_t taken;
static _Atomic unsigned done, rooms;

static void on_room(struct quota_purse *purse) {
    CHECK(purse->p_index == rt_p_index());
    rooms++;
}

static int64_t all_credit(void) {
    int64_t sum = quota->pool;
    for (unsigned p = 0; p < quota->purse_count; p++)
        sum += quota->purses[p].credit;
    return sum;
}

/* Bounded on purpose: 1 and 4 Ps, and a piece that no batch divides. */
static void one_party_gets_all_of_it(void *arg) {
    quota = quota_new(LIMIT, 1, on_room);
    CHECK(quota);
    struct quota_purse *purse = &quota->purses[0];
    int count = 0;
    while (quota_take(purse, PIECE))
        count++;
    CHECK(count == LIMIT / PIECE);
    CHECK(!quota_take(purse, PIECE));
    CHECK(quota_take(purse, LIMIT % PIECE)); /* to the last byte */
    CHECK(all_credit() == 0);
    for (int i = 0; i < count; i++)
        quota_give(purse, PIECE);
    quota_give(purse, LIMIT % PIECE);
    CHECK(all_credit() == LIMIT);
    CHECK(quota_take(purse, LIMIT)); /* and again, in one piece */
    quota_free(quota);
    rt_stop(0);
}

/* Lowered below what is taken: nothing is to be had until that much came back, but for what a purse keeps. */
static void another_limit_holds_from_now_on(void *arg) {
    quota = quota_new(LIMIT, 1, on_room);
    CHECK(quota);
    struct quota_purse *purse = &quota->purses[0];
    CHECK(quota_take(purse, LIMIT));
    quota_set_limit(quota, LIMIT / 2);
    CHECK(!quota_take(purse, PIECE));
    quota_give(purse, LIMIT / 2);
    CHECK(!quota_take(purse, LIMIT / 2 / QUOTA_PURSE_PART));
    quota_give(purse, LIMIT / 4);
    CHECK(quota_take(purse, LIMIT / 4));
    quota_set_limit(quota, 2 * (int64_t)LIMIT);
    CHECK(quota_take(purse, LIMIT));
    quota_give(purse, LIMIT + LIMIT / 2);
    CHECK(all_credit() == 2 * (int64_t)LIMIT);
    quota_free(quota);
    rt_stop(0);
}

static void take_and_give(void *arg) {
    struct quota_purse *purse = &quota->purses[rt_p_index()];
    uint64_t seed = rt_p_index() + 1;
    int64_t mine = 0;
    for (int i = 0; i < 200000; i++) {
        int64_t bytes = (int64_t)(next_random(&seed) % (4 * PIECE)) + 1;
        if (next_random(&seed) % 2 && quota_take(purse, bytes)) {
            mine += bytes;
            CHECK(atomic_fetch_add(&taken, bytes) + bytes <= LIMIT);
        } else if (mine > 0) {
            bytes = bytes < mine ? bytes : mine;
            mine -= bytes;
            atomic_fetch_sub(&taken, bytes); /* before others can have it */
            quota_give(purse, bytes);
        }
        if (i % 64 == 0) {
            quota_starve(purse, i % 128 == 0);
            rt_yield();
        }
    }
    quota_starve(purse, false);
    atomic_fetch_sub(&taken, mine);
    quota_give(purse, mine);
    done++;
}

static void all_ps_stay_within_the_limit(void *arg) {
    quota = quota_new(LIMIT, P_COUNT, on_room);
    CHECK(quota);
    for (unsigned p = 0; p < P_COUNT; p++)
        CHECK(go_on(p, "taker", take_and_give, NULL) == 0);
    STORY_AWAIT(done == P_COUNT);
    CHECK(taken == 0);
    CHECK(all_credit() == LIMIT);
    CHECK(quota->starving == 0);
    rt_stop(0);
}

/* It had much and gave it all back; what it keeps is the slack that the header speaks of. */
static void use_much(void *arg) {
    struct quota_purse *purse = &quota->purses[rt_p_index()];
    int count = 0;
    while (quota_take(purse, PIECE))
        count++;
    while (count-- > 0)
        quota_give(purse, PIECE);
    done++;
}

static void an_idle_p_keeps_little(void *arg) {
    quota = quota_new(LIMIT, P_COUNT, on_room);
    CHECK(quota);
    for (unsigned p = 1; p < P_COUNT; p++) {
        CHECK(go_on(p, "user", use_much, NULL) == 0);
        STORY_AWAIT(done == p);
    }
    int64_t slack = (P_COUNT - 1) * (int64_t)LIMIT / (QUOTA_PURSE_PART * P_COUNT);
    CHECK(quota_take(&quota->purses[0], LIMIT - slack));
    CHECK(!quota_take(&quota->purses[0], slack + 1));
    rt_stop(0);
}

static void give_one(void *arg) {
    quota_give(&quota->purses[1], PIECE);
    done++;
}

static void take_one(void *arg) {
    CHECK(quota_take(&quota->purses[1], PIECE));
    done++;
}

/* Without starving, a piece that P 1 gets back stays with P 1. */
static void who_starves_is_offered_what_others_give(void *arg) {
    quota = quota_new(LIMIT, 2, on_room);
    CHECK(quota);
    CHECK(go_on(1, "taker", take_one, NULL) == 0);
    STORY_AWAIT(done == 1);
    struct quota_purse *purse = &quota->purses[0];
    int64_t rest = quota->pool;
    CHECK(quota_take(purse, rest));
    CHECK(!quota_take(purse, PIECE));

    quota_starve(purse, true);
    CHECK(!quota_take(purse, PIECE));
    CHECK(go_on(1, "giver", give_one, NULL) == 0);
    STORY_AWAIT(rooms > 0); /* on P 0, says on_room */
    CHECK(quota_take(purse, PIECE));

    quota_starve(purse, false);
    unsigned before = rooms;
    quota_give(purse, PIECE);
    CHECK(quota_take(purse, PIECE));
    CHECK(rooms == before);
    rt_stop(0);
}

static void one_party(void **state) {
    story(1, one_party_gets_all_of_it);
}
static void another_limit(void **state) {
    story(1, another_limit_holds_from_now_on);
}
static void all_ps(void **state) {
    story(P_COUNT, all_ps_stay_within_the_limit);
}
static void idle_p(void **state) {
    story(P_COUNT, an_idle_p_keeps_little);
}
static void starving(void **state) {
    story(2, who_starves_is_offered_what_others_give);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_party), cmocka_unit_test(another_limit), cmocka_unit_test(all_ps),
        cmocka_unit_test(idle_p),    cmocka_unit_test(starving),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
