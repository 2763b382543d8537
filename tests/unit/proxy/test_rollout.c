/* rollout.c: who is served by the new version, what is counted for which, and how it ends, by itself, by hand, and by both
 * at once. Exchanges are made by hand, with no connection behind them. */
#include "../rt/rt_story.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "base/log.h"
#include "mem/arena.h"
#include "proxy/exchange.h"
#include "proxy/rollout.h"
#include "rt/foreign.h"

enum { USERS = 2000 };

static uint32_t steps[] = {10, 50};
static struct cfg_rollout cfg = {
    .steps = steps,
    .steps_count = 2,
    .step_duration = {.set = true, .ns = 10 * NS_PER_MS},
    .min_requests = {.set = true, .value = 50},
    .hash_on_case = CFG_HASH_ON_HEADER,
    .header = SPAN_INIT("X-User"),
};

static struct rollout *rollout;
static _Atomic unsigned promoted, withdrawn;
static bool races;
static int adopts; /* what the user says to a new version */

static _Atomic bool settles_slowly, is_settling;
static bool cannot_serve; /* when it is promoted */

static bool settle(void *arg, bool is_promoted) {
    CHECK(arg == &promoted);
    is_settling = true;
    while (settles_slowly)
        sched_yield();
    is_settling = false;
    bool serves = is_promoted && !cannot_serve;
    (*(serves ? &promoted : &withdrawn))++;
    return serves;
}
static bool waits; /* until its user lets it serve all */
static _Atomic unsigned refusals;
static bool may_promote(void *arg) {
    CHECK(arg == &promoted);
    refusals += waits;
    return !waits;
}
static const struct rollout_itab itab = {.settle = settle, .may_promote = may_promote};

static int adopt(void *arg) {
    CHECK(arg == &adopts);
    return adopts;
}

struct beginning {
    const char *version;
    uint64_t salt;
    int err;
};
static void begin_there(void *arg) {
    struct beginning *beginning = arg;
    beginning->err = rollout_begin(rollout, beginning->version, beginning->salt, adopt, &adopts);
}
static int begin(const char *version, uint64_t salt) {
    struct beginning beginning = {version, salt, 0};
    CHECK(blocking_call(begin_there, &beginning) == 0);
    return beginning.err;
}

static void setup(void) {
    const struct rollout_options options = {.name = "it",
                                            .stat_prefix = "test",
                                            .stat_tag = "thing",
                                            .stat_value = SPAN_LIT("it"),
                                            .itab = &itab,
                                            .arg = &promoted};
    CHECK(stats_init(rt_p_count()) == 0);
    rollout = rollout_new(&options, &cfg);
    CHECK(rollout);
}

static enum rollout_state state(void) {
    struct rollout_view view;
    rollout_look(rollout, &view);
    return view.state;
}

/* One request that asks three times for its version; the new one answers so. True: it was that one's. */
static bool ask(const char *name, const char *value, uint16_t new_status) {
    struct exchange *x = calloc(1, sizeof *x);
    CHECK(x);
    arena_init(&x->arena, rt_blocks(), 1 << 16);
    header_map_init(&x->request.headers, &x->arena);
    x->shard = rt_p_index();
    CHECK(header_add(&x->request.headers, header_id_of(span_of(name)), span_of(name),
                     span_of(value)) == 0);
    bool is_new = rollout_takes(rollout, x);
    for (int i = 0; i < 2; i++)
        CHECK(rollout_takes(rollout, x) == is_new || state() != ROLLOUT_ROLLING || races);
    x->info.response_code = is_new ? new_status : 200;
    x->info.start_ns = 1;
    x->info.end_ns = NS_PER_MS;
    rollout_count(x);
    arena_fini(&x->arena);
    free(x);
    return is_new;
}

static bool user_is_new(unsigned number) {
    char user[32];
    (void)snprintf(user, sizeof user, "user-%u", number);
    return ask("x-user", user, 200);
}

static void shares_story(void *arg) {
    static bool was_in[USERS];
    setup();
    CHECK(!user_is_new(1)); /* nothing is rolling */
    adopts = -EINVAL;
    CHECK(begin("1", 7) == -EINVAL && state() == ROLLOUT_NONE);
    adopts = 0;
    cfg.min_requests.value = 1 << 30; /* a step for ever */
    rollout_free(rollout);
    setup();
    CHECK(begin("2", 7) == 0);
    unsigned in = 0;
    for (unsigned i = 0; i < USERS; i++)
        in += was_in[i] = user_is_new(i);
    CHECK(in > USERS / 10 - 60 && in < USERS / 10 + 60);
    for (unsigned i = 0; i < USERS; i++)
        CHECK(user_is_new(i) == was_in[i]);
    struct rollout_view view;
    rollout_look(rollout, &view);
    CHECK(view.of[ROLLOUT_NEW].requests ==
          2 * in); /* once for each exchange, however often it asked */
    CHECK(view.of[ROLLOUT_OLD].requests == 2 * (USERS - in));
    CHECK(view.share == 1000 && view.step == 1 && view.steps == 2);

    CHECK(begin("3", 8) == 0); /* another build: others, and the one before is withdrawn */
    CHECK(withdrawn == 1 && promoted == 0);
    unsigned both = 0;
    for (unsigned i = 0; i < USERS; i++)
        both += user_is_new(i) && was_in[i];
    CHECK(both < in / 2);
    rt_stop(0);
}
static void a_client_stays_where_it_is(void **test) {
    story(2, shares_story);
}

static void growing_story(void *arg) {
    static bool was_in[USERS];
    setup();
    CHECK(begin("2", 7) == 0);
    while (state() == ROLLOUT_ROLLING) {
        for (unsigned i = 0; i < USERS && state() == ROLLOUT_ROLLING; i++) {
            bool is_in = user_is_new(i);
            CHECK(is_in || !was_in[i] || state() != ROLLOUT_ROLLING); /* who is in stays in */
            was_in[i] = is_in;
        }
        CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
    }
    CHECK(state() == ROLLOUT_DONE);
    CHECK(promoted == 1 && withdrawn == 0);
    CHECK(!user_is_new(1)); /* nothing to choose from any more */
    rt_stop(0);
}
static void the_share_grows_until_all_have_it(void **test) {
    story(2, growing_story);
}

static _Atomic bool is_promoted;

static void promote_there(void *arg) {
    is_promoted = rollout_conclude(rollout, true, "by hand");
}
static void promote(void *arg) {
    CHECK(blocking_call(promote_there, NULL) == 0);
}

/* All are told to take it until they do without being told, and it is said to serve all no sooner. */
static void promoted_story(void *arg) {
    cfg.min_requests.value = 1 << 30;
    setup();
    CHECK(begin("2", 7) == 0);
    settles_slowly = true;
    CHECK(go_here("promote", promote, NULL) == 0);
    STORY_AWAIT(is_settling);
    for (unsigned i = 0; i < USERS; i++)
        CHECK(user_is_new(i));
    CHECK(state() == ROLLOUT_ROLLING);
    settles_slowly = false;
    STORY_AWAIT(is_promoted);
    CHECK(state() == ROLLOUT_DONE && promoted == 1);
    CHECK(!user_is_new(1)); /* nothing to choose from any more */

    cannot_serve = true;
    CHECK(begin("3", 8) == 0);
    promote(NULL);
    CHECK(state() == ROLLOUT_WITHDRAWN && withdrawn == 1 && !user_is_new(1));
    rt_stop(0);
}
static void one_that_is_promoted_serves_all_when_it_is_said(void **test) {
    story(2, promoted_story);
}

static void waiting_story(void *arg) {
    setup();
    waits = true;
    CHECK(begin("2", 7) == 0);
    CHECK(!rollout_conclude(rollout, true, "by hand"));
    for (unsigned i = 0; refusals < 3; i++) { /* it has done well, and says so again and again */
        (void)user_is_new(i % USERS);
        if (i % 100 == 0)
            CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
    }
    CHECK(state() == ROLLOUT_ROLLING && promoted == 0);
    waits = false;
    STORY_AWAIT(state() == ROLLOUT_DONE);
    CHECK(promoted == 1);
    CHECK(begin("3", 8) == 0);
    waits = true; /* that is no reason to keep one that fails */
    CHECK(rollout_conclude(rollout, false, "by hand") && withdrawn == 1);
    rt_stop(0);
}
static void its_user_says_when_it_may_serve_all(void **test) {
    story(2, waiting_story);
}

static void failing_story(void *arg) {
    char user[32];
    setup();
    CHECK(begin("2", 7) == 0);
    for (unsigned i = 0; state() == ROLLOUT_ROLLING; i++) {
        (void)snprintf(user, sizeof user, "user-%u", i % USERS);
        (void)ask("x-user", user, 503);
        if (i % 100 == 0)
            CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
    }
    CHECK(state() == ROLLOUT_WITHDRAWN);
    STORY_AWAIT(withdrawn == 1);
    CHECK(promoted == 0 && !user_is_new(1));
    struct rollout_view view;
    rollout_look(rollout, &view);
    CHECK(strstr(view.why, "requests failed") && view.share == 0);
    rt_stop(0);
}
static void one_that_fails_is_withdrawn(void **test) {
    story(2, failing_story);
}

static void cookie_story(void *arg) {
    cfg.hash_on_case = CFG_HASH_ON_COOKIE;
    cfg.header = span_none();
    cfg.cookie = SPAN_LIT("sid");
    cfg.min_requests.value = 1 << 30;
    setup();
    CHECK(begin("2", 7) == 0);
    unsigned in = 0;
    for (unsigned i = 0; i < USERS; i++) {
        char alone[64], among[64];
        (void)snprintf(alone, sizeof alone, "sid=%u", i);
        (void)snprintf(among, sizeof among, "a=b; xsid=no; sid=%u; sidx=no", i);
        bool is_in = ask("cookie", alone, 200);
        CHECK(ask("cookie", among, 200) == is_in);
        in += is_in;
    }
    CHECK(in > USERS / 10 - 60 && in < USERS / 10 + 60);
    rt_stop(0);
}
static void a_cookie_is_found_among_others(void **test) {
    story(1, cookie_story);
}

/* ---- ends that come at once ---- */

static _Atomic bool over;
static _Atomic unsigned begun, by_hand;

static void *promote_and_withdraw(void *arg) {
    while (!over)
        by_hand += rollout_conclude(rollout, by_hand % 2, "by hand");
    return NULL;
}

static void *begin_again_and_again(void *arg) {
    for (unsigned i = 0; i < 500; i++) {
        CHECK(rollout_begin(rollout, "next", i, adopt, &adopts) == 0);
        begun++;
        while (i % 3 && state() == ROLLOUT_ROLLING) /* two of three are ended by others */
            sched_yield();
    }
    over = true;
    return NULL;
}

static _Atomic unsigned asking;

static void ask_on(void *arg) {
    for (unsigned i = 0; !over; i++) {
        (void)user_is_new(i % USERS);
        rt_yield();
    }
    asking--;
}

static void race_story(void *arg) {
    pthread_t hand, beginner;
    cfg.step_duration.ns = NS_PER_MS;
    log_set_level(LOG_OFF);
    races = true; /* it may end between two questions, and the next one begin */
    setup();
    for (unsigned p = 0; p < 3; p++) {
        asking++;
        CHECK(go_on(p, "client", ask_on, NULL) == 0);
    }
    CHECK(pthread_create(&hand, NULL, promote_and_withdraw, NULL) == 0);
    CHECK(pthread_create(&beginner, NULL, begin_again_and_again, NULL) == 0);
    STORY_AWAIT(over && asking == 0);
    pthread_join(hand, NULL);
    pthread_join(beginner, NULL);
    STORY_AWAIT(state() != ROLLOUT_ROLLING || rollout_conclude(rollout, false, "the end"));
    STORY_AWAIT(promoted + withdrawn == begun); /* each has one end */
    CHECK(by_hand > 100 && by_hand <= begun);
    rt_stop(0);
}
static void each_has_one_end(void **test) {
    story(3, race_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_stays_where_it_is),
        cmocka_unit_test(the_share_grows_until_all_have_it),
        cmocka_unit_test(one_that_is_promoted_serves_all_when_it_is_said),
        cmocka_unit_test(its_user_says_when_it_may_serve_all),
        cmocka_unit_test(one_that_fails_is_withdrawn),
        cmocka_unit_test(a_cookie_is_found_among_others),
        cmocka_unit_test(each_has_one_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
