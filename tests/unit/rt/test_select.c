/* select.c: one of several channel operations, with Go's fairness, default and nil channels. */
#include "rt/select.h"

#include "chan_story.h"

static struct select_case sends(struct chan *ch, const int *value) {
    return (struct select_case){.op = SELECT_SEND, .ch = ch, .elem = (void *)(uintptr_t)value};
}

static struct select_case receives(struct chan *ch, int *value) {
    return (struct select_case){.op = SELECT_RECV, .ch = ch, .elem = value};
}

static struct chan *left, *right; /* of most stories */

static void new_pair(uint32_t capacity) {
    left = new_chan(capacity);
    right = new_chan(capacity);
}

static void drop_pair(void) {
    chan_unref(left);
    chan_unref(right);
}

/* ---- Without waiting ---- */

static void default_story(void *arg) {
    int value = 9;
    const int four = 4;
    new_pair(1);
    struct select_case cases[] = {receives(left, &value), receives(NULL, &value),
                                  sends(NULL, &four), receives(right, &value)};
    CHECK(select_try(cases, 4) == -EAGAIN);
    CHECK(value == 9);
    CHECK(send_int(right, 7) == 0);
    CHECK(select_try(cases, 4) == 3);
    CHECK(value == 7 && !cases[3].closed);
    CHECK(select_try(cases, 4) == -EAGAIN);
    CHECK(select_try(NULL, 0) == -EAGAIN);

    struct select_case full[] = {sends(left, &four), receives(right, &value)};
    CHECK(select_wait(full, 2, RT_FOREVER) == 0);
    CHECK(select_try(full, 2) == -EAGAIN);
    CHECK(recv_int(left) == 4);
    drop_pair();
    rt_stop(0);
}

static void try_takes_what_is_ready_or_nothing(void **state) {
    story(1, default_story);
}

static void closed_story(void *arg) {
    int value = 9;
    const int four = 4;
    new_pair(1);
    CHECK(send_int(right, 1) == 0);
    chan_close(right);
    struct select_case cases[] = {receives(left, &value), receives(right, &value)};
    CHECK(select_wait(cases, 2, RT_FOREVER) == 1);
    CHECK(value == 1 && !cases[1].closed); /* first what was sent */
    value = 9;
    CHECK(select_wait(cases, 2, RT_FOREVER) == 1);
    CHECK(value == 9 && cases[1].closed);
    struct select_case into_closed[] = {receives(left, &value), sends(right, &four)};
    CHECK(select_try(into_closed, 2) == 1);
    CHECK(into_closed[1].closed);
    drop_pair();
    rt_stop(0);
}

static void a_closed_channel_is_ready_and_says_so(void **state) {
    story(1, closed_story);
}

/* ---- Fairness ---- */

enum { WAYS = 4, ROUNDS = 10000 };

/* Pearson's statistic of equal chances. With WAYS - 1 = 3 degrees of freedom a fair choice exceeds
 * 30 once in 700,000 runs; one case chosen 6 % too often exceeds it. */
static double unfairness(const int *chosen, int ways, int rounds) {
    double expected = (double)rounds / ways, sum = 0;
    for (int i = 0; i < ways; i++)
        sum += (chosen[i] - expected) * (chosen[i] - expected) / expected;
    return sum;
}

static void fair_story(void *arg) {
    bool waits = arg != NULL;
    struct chan *channels[WAYS];
    struct select_case cases[2 * WAYS];
    int value, chosen[WAYS] = {0};
    for (int i = 0; i < WAYS; i++) {
        channels[i] = new_chan(1);
        CHECK(send_int(channels[i], i) == 0);
        cases[2 * i] = receives(NULL, &value); /* takes no part */
        cases[2 * i + 1] = receives(channels[i], &value);
    }
    for (int round = 0; round < ROUNDS; round++) {
        int i = waits ? select_wait(cases, 2 * WAYS, RT_FOREVER) : select_try(cases, 2 * WAYS);
        CHECK(i >= 0 && i % 2 == 1 && value == i / 2);
        chosen[i / 2]++;
        CHECK(send_int(channels[i / 2], i / 2) == 0);
    }
    CHECK(unfairness(chosen, WAYS, ROUNDS) < 30);
    for (int i = 0; i < WAYS; i++)
        chan_unref(channels[i]);
    rt_stop(0);
}

static void fair_wait_story(void *arg) {
    fair_story((char[]){""});
}

static void each_ready_case_has_the_same_chance(void **state) {
    story(1, fair_story);
    story(1, fair_wait_story);
}

static void same_channel_story(void *arg) {
    new_pair(1);
    int first, second, chosen[2] = {0};
    struct select_case cases[] = {receives(left, &first), receives(left, &second)};
    for (int round = 0; round < ROUNDS; round++) {
        CHECK(send_int(left, round) == 0);
        int i = select_try(cases, 2);
        CHECK(i >= 0);
        CHECK((i ? second : first) == round);
        chosen[i]++;
    }
    CHECK(unfairness(chosen, 2, ROUNDS) < 30);
    drop_pair();
    rt_stop(0);
}

static void a_channel_may_stand_in_several_cases(void **state) {
    story(1, same_channel_story);
}

/* ---- Waiting ---- */

static struct g *waiter;
static int waiter_chose, waiter_value;
static bool waiter_saw_close;
static int64_t waiter_deadline_ns;

/* Would take from left, give 4 to right, take from right, or give 5 to left. */
static void waits_both_ways(void *arg) {
    const int four = 4, five = 5;
    struct select_case cases[] = {receives(left, &waiter_value), sends(right, &four),
                                  receives(right, &waiter_value), sends(left, &five)};
    waiter = rt_self();
    waiter_chose = select_wait(cases, 4, waiter_deadline_ns);
    if (waiter_chose >= 0)
        waiter_saw_close = cases[waiter_chose].closed;
    waiter = NULL;
}

static void start_waiter(int64_t deadline_ns) {
    waiter_value = 9;
    waiter_deadline_ns = deadline_ns;
    CHECK(go_here("waiter", waits_both_ways, NULL) == 0);
    let_others_park();
    CHECK(waiter); /* it does not meet itself, though it is on both sides */
}

/* It left every queue: nobody to meet any more. */
static void check_no_waiter(void) {
    let_others_park();
    CHECK(!waiter);
    int value = 1;
    CHECK(chan_try_send(left, &value) == -EAGAIN);
    CHECK(chan_try_send(right, &value) == -EAGAIN);
    CHECK(chan_try_recv(left, &value) == -EAGAIN);
    CHECK(chan_try_recv(right, &value) == -EAGAIN);
}

static void woken_story(void *arg) {
    new_pair(0);
    start_waiter(RT_FOREVER);
    CHECK(try_send_int(left, 6) == 0);
    check_no_waiter();
    CHECK(waiter_chose == 0 && waiter_value == 6 && !waiter_saw_close);

    start_waiter(RT_FOREVER);
    CHECK(recv_int(right) == 4);
    check_no_waiter();
    CHECK(waiter_chose == 1 && waiter_value == 9 && !waiter_saw_close);

    /* Served by one channel it is there for nobody else, though it still stands in their queues. */
    start_waiter(RT_FOREVER);
    CHECK(try_send_int(right, 7) == 0);
    CHECK(try_send_int(left, 8) == -EAGAIN);
    CHECK(chan_try_recv(left, NULL) == -EAGAIN);
    check_no_waiter();
    CHECK(waiter_chose == 2 && waiter_value == 7);

    /* The same where the one who looks is a select: both cases look ready and are not. */
    start_waiter(RT_FOREVER);
    CHECK(recv_int(left) == 5);
    int value;
    const int three = 3;
    struct select_case late[] = {receives(right, &value), sends(right, &three)};
    CHECK(select_try(late, 2) == -EAGAIN);
    check_no_waiter();
    CHECK(waiter_chose == 3);
    drop_pair();
    rt_stop(0);
}

static void whoever_comes_first_serves_a_waiting_select(void **state) {
    story(1, woken_story);
}

static void close_story(void *arg) {
    new_pair(0);
    start_waiter(RT_FOREVER);
    chan_close(right);
    let_others_park();
    CHECK(!waiter);
    CHECK(waiter_chose == 1 || waiter_chose == 2);
    CHECK(waiter_saw_close && waiter_value == 9);
    drop_pair();
    rt_stop(0);
}

static void close_wakes_a_waiting_select(void **state) {
    story(1, close_story);
}

static void give_up_story(void *arg) {
    new_pair(0);
    start_waiter(clock_mono_ns() + 5 * NS_PER_MS);
    STORY_AWAIT(!waiter);
    CHECK(waiter_chose == -ETIMEDOUT);
    check_no_waiter();

    start_waiter(RT_FOREVER);
    rt_cancel(waiter);
    check_no_waiter();
    CHECK(waiter_chose == -ECANCELED && waiter_value == 9);

    /* An exchange before it could run is not taken back; neither is one after the cancellation. */
    for (int cancel_first = 0; cancel_first < 2; cancel_first++) {
        start_waiter(RT_FOREVER);
        if (cancel_first)
            rt_cancel(waiter);
        CHECK(try_send_int(left, 3) == 0);
        if (!cancel_first)
            rt_cancel(waiter);
        check_no_waiter();
        CHECK(waiter_chose == 0 && waiter_value == 3);
    }

    /* What is ready goes on, whatever the deadline. */
    start_waiter(RT_FOREVER);
    int value;
    struct select_case ready[] = {receives(left, &value)};
    CHECK(select_wait(ready, 1, 1) == 0 && value == 5);
    CHECK(select_wait(ready, 1, 1) == -ETIMEDOUT);
    check_no_waiter();

    /* Without a case that could ever be ready only the deadline is left. */
    struct select_case never[] = {receives(NULL, &value)};
    CHECK(select_wait(never, 1, clock_mono_ns() + 2 * NS_PER_MS) == -ETIMEDOUT);
    CHECK(select_wait(NULL, 0, clock_mono_ns() + 2 * NS_PER_MS) == -ETIMEDOUT);
    drop_pair();
    rt_stop(0);
}

static void a_select_that_gives_up_exchanges_nothing(void **state) {
    story(1, give_up_story);
}

static void stray_token_story(void *arg) {
    new_pair(0);
    start_waiter(RT_FOREVER);
    for (int i = 0; i < 3; i++) {
        rt_ready(waiter); /* for something else */
        let_others_park();
        CHECK(waiter);
    }
    CHECK(try_send_int(left, 2) == 0);
    check_no_waiter();
    CHECK(waiter_chose == 0 && waiter_value == 2);
    drop_pair();
    rt_stop(0);
}

static void a_token_for_something_else_ends_no_select(void **state) {
    story(1, stray_token_story);
}

/* ---- Limits ---- */

static void sixty_four_story(void *arg) {
    struct chan *channels[SELECT_CASES_MAX];
    struct select_case cases[SELECT_CASES_MAX];
    int value;
    /* In descending order of their addresses, mostly. */
    for (int i = SELECT_CASES_MAX - 1; i >= 0; i--) {
        channels[i] = new_chan(1);
        cases[i] = receives(channels[i], &value);
    }
    CHECK(select_try(cases, SELECT_CASES_MAX) == -EAGAIN);
    for (int i = 0; i < SELECT_CASES_MAX; i++) {
        CHECK(send_int(channels[i], i) == 0);
        CHECK(select_wait(cases, SELECT_CASES_MAX, story_soon()) == i && value == i);
    }
    for (int i = 0; i < SELECT_CASES_MAX; i++)
        chan_unref(channels[i]);
    rt_stop(0);
}

static void as_many_cases_as_promised(void **state) {
    story(1, sixty_four_story);
}

static void too_many_cases(void *arg) {
    struct select_case cases[SELECT_CASES_MAX + 1] = {0};
    CHECK(select_try(cases, SELECT_CASES_MAX + 1) < 0);
}

static void too_many_to_wait_for(void *arg) {
    struct select_case cases[SELECT_CASES_MAX + 1] = {0};
    CHECK(select_wait(cases, SELECT_CASES_MAX + 1, story_soon()) < 0);
}

static void one_case_more_asserts(void **state) {
    struct rlimit no_core = {0, 0};
    assert_int_equal(setrlimit(RLIMIT_CORE, &no_core), 0);
    story_asserts(too_many_cases);
    story_asserts(too_many_to_wait_for);
}

/* ---- Several Ps ---- */

enum { MEMBERS = 32, SELECTS = 400, CHANNELS = 3 };
static struct ledger ledger;
static struct chan *channels[CHANNELS];
static _Atomic int members_left;

static struct select_case random_case(uint64_t *seed, int *number, int *received) {
    struct chan *ch = channels[next_random(seed) % CHANNELS];
    return next_random(seed) % 2 ? sends(ch, number) : receives(ch, received);
}

/* Locks in any order, each channel on both sides and several times, against plain operations. */
static void one_random_select(uint64_t *seed) {
    int number = ledger_issue(&ledger), received = -1;
    unsigned count = 1 + (unsigned)(next_random(seed) % 5);
    struct select_case cases[5];
    for (unsigned i = 0; i < count; i++)
        cases[i] = random_case(seed, &number, &received);
    int64_t deadline_ns = (clock_mono_ns() / NS_PER_MS + 1) * NS_PER_MS;
    int chosen;
    if (next_random(seed) % 4 == 0) {
        chosen = select_try(cases, count);
    } else if (next_random(seed) % 4 == 0) {
        int err = cases[0].op == SELECT_SEND ? chan_send(cases[0].ch, &number, deadline_ns)
                                             : chan_recv(cases[0].ch, &received, deadline_ns);
        chosen = err < 0 ? err : 0;
    } else {
        chosen = select_wait(cases, count, deadline_ns);
    }
    if (chosen < 0)
        CHECK(chosen == -EAGAIN || chosen == -ETIMEDOUT);
    else if (cases[chosen].op == SELECT_SEND)
        ledger_sent(&ledger, number);
    else
        ledger_received(&ledger, received);
    CHECK(chosen >= 0 || received == -1);
}

static void selects_at_random(void *arg) {
    uint64_t seed = 88172645463325252U + (uintptr_t)arg * 7919;
    for (int i = 0; i < SELECTS; i++)
        one_random_select(&seed);
    atomic_fetch_sub(&members_left, 1);
}

static void random_story(void *arg) {
    static const uint32_t capacities[CHANNELS] = {0, 0, 2};
    for (int i = 0; i < CHANNELS; i++)
        channels[i] = new_chan(capacities[i]);
    atomic_store(&members_left, MEMBERS);
    for (uintptr_t i = 0; i < MEMBERS; i++) {
        if (i % 2)
            CHECK(go("member", selects_at_random, (void *)i) == 0);
        else
            CHECK(go_on((unsigned)i / 2 % rt_p_count(), "member", selects_at_random, (void *)i) ==
                  0);
    }
    STORY_AWAIT(atomic_load(&members_left) == 0);
    for (int i = 0; i < CHANNELS; i++) {
        int rest;
        while (chan_try_recv(channels[i], &rest) == 0)
            ledger_received(&ledger, rest);
        chan_unref(channels[i]);
    }
    CHECK(ledger_balance(&ledger) > MEMBERS);
    rt_stop(0);
}

static void selects_of_many_lose_and_double_nothing(void **state) {
    story(1, random_story);
    story(4, random_story);
}

enum { DANCERS = 16, STEPS = 500 }; /* DANCERS in each line */
static _Atomic int given, taken;

/* Those of even number name the two channels in one order, the others in the other. */
static void gives_left_or_right(void *arg) {
    bool crossed = (uintptr_t)arg % 2;
    for (int i = 0; i < STEPS; i++) {
        const int one = 1;
        struct select_case cases[] = {sends(crossed ? right : left, &one),
                                      sends(crossed ? left : right, &one)};
        CHECK(select_wait(cases, 2, story_soon()) >= 0);
        atomic_fetch_add(&given, 1);
    }
    atomic_fetch_sub(&members_left, 1);
}

static void takes_left_or_right(void *arg) {
    bool crossed = (uintptr_t)arg % 2;
    for (int i = 0; i < STEPS; i++) {
        int one = 0;
        struct select_case cases[] = {receives(crossed ? left : right, &one),
                                      receives(crossed ? right : left, &one)};
        CHECK(select_wait(cases, 2, story_soon()) >= 0);
        CHECK(one == 1);
        atomic_fetch_add(&taken, 1);
    }
    atomic_fetch_sub(&members_left, 1);
}

static void dance_story(void *arg) {
    new_pair(0);
    atomic_store(&members_left, 2 * DANCERS);
    for (uintptr_t i = 0; i < DANCERS; i++) {
        CHECK(go_on((unsigned)i % rt_p_count(), "gives", gives_left_or_right, (void *)i) == 0);
        CHECK(go("takes", takes_left_or_right, (void *)i) == 0);
    }
    STORY_AWAIT(atomic_load(&members_left) == 0);
    CHECK(atomic_load(&given) == DANCERS * STEPS);
    CHECK(atomic_load(&taken) == DANCERS * STEPS);
    drop_pair();
    rt_stop(0);
}

static void opposite_orders_do_not_block_each_other(void **state) {
    story(4, dance_story);
}

/* A thread that the runtime does not know serves selects, and ends them by closing. */
static void *feeds_from_a_thread(void *arg) {
    for (int i = 0; i < STEPS; i++)
        while (try_send_int(i % 3 ? left : right, i) == -EAGAIN)
            sched_yield();
    chan_close(left);
    chan_close(right);
    return NULL;
}

static void eats(void *arg) {
    int value = -1, expected = 0;
    struct select_case cases[] = {receives(left, &value), receives(right, &value)};
    for (;;) {
        int i = select_wait(cases, 2, story_soon());
        CHECK(i >= 0);
        if (cases[i].closed)
            break;
        CHECK(value == expected++);
    }
    CHECK(expected == STEPS);
    atomic_fetch_sub(&members_left, 1);
}

static void fed_story(void *arg) {
    new_pair(0);
    atomic_store(&members_left, 1);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, feeds_from_a_thread, NULL) == 0);
    CHECK(go("eats", eats, NULL) == 0);
    STORY_AWAIT(atomic_load(&members_left) == 0);
    pthread_join(thread, NULL);
    drop_pair();
    rt_stop(0);
}

static void threads_of_others_serve_a_waiting_select(void **state) {
    story(1, fed_story);
    story(2, fed_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(try_takes_what_is_ready_or_nothing),
        cmocka_unit_test(a_closed_channel_is_ready_and_says_so),
        cmocka_unit_test(each_ready_case_has_the_same_chance),
        cmocka_unit_test(a_channel_may_stand_in_several_cases),
        cmocka_unit_test(whoever_comes_first_serves_a_waiting_select),
        cmocka_unit_test(close_wakes_a_waiting_select),
        cmocka_unit_test(a_select_that_gives_up_exchanges_nothing),
        cmocka_unit_test(a_token_for_something_else_ends_no_select),
        cmocka_unit_test(as_many_cases_as_promised),
        cmocka_unit_test(one_case_more_asserts),
        cmocka_unit_test(selects_of_many_lose_and_double_nothing),
        cmocka_unit_test(opposite_orders_do_not_block_each_other),
        cmocka_unit_test(threads_of_others_serve_a_waiting_select),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
