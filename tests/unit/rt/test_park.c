/* park.c and sched.c: coroutines wait, wake, end, move and stop. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "rt/spin.h"
#include "rt_story.h"

static void stop_at_once(void *arg) {
    rt_stop(0);
}

static void rt_run_ends_with_the_code_of_rt_stop(void **state) {
    story(1, stop_at_once);
    story(2, stop_at_once);
}

/* ---- Tokens ---- */

static void token_story(void *arg) {
    struct g *self = rt_self();
    rt_ready(self);
    rt_ready(self); /* a second token before it is used is dropped */
    CHECK(rt_park("token given before", RT_FOREVER) == 0);
    int64_t before_ns = clock_mono_ns();
    CHECK(rt_park("no token left", before_ns + 5 * NS_PER_MS) == -ETIMEDOUT);
    CHECK(clock_mono_ns() >= before_ns + 5 * NS_PER_MS);
    CHECK(rt_park("a deadline long past", 1) == -ETIMEDOUT);
    rt_ready(self);
    CHECK(rt_park("a token beats a past deadline", 1) == 0);
    rt_stop(0);
}

static void a_token_given_early_is_remembered_once(void **state) {
    story(1, token_story);
}

/* ---- Foreign threads ---- */

enum { ROUNDS = 2000 };
struct ping {
    struct g *g;
    pthread_mutex_t lock;
    _Atomic int given, taken;
};

static void *ping_thread(void *arg) {
    struct ping *ping = arg;
    for (int i = 1; i <= ROUNDS; i++) {
        atomic_store_explicit(&ping->given, i, memory_order_relaxed);
        rt_ready(ping->g);
        while (atomic_load_explicit(&ping->taken, memory_order_relaxed) < i)
            sched_yield();
    }
    return NULL;
}

static void take_pings(struct ping *ping) {
    ping->g = rt_self();
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, ping_thread, ping) == 0);
    for (int i = 1; i <= ROUNDS; i++) {
        while (atomic_load_explicit(&ping->given, memory_order_relaxed) < i)
            CHECK(rt_park("await ping", story_soon()) == 0);
        atomic_store_explicit(&ping->taken, i, memory_order_relaxed);
    }
    pthread_join(thread, NULL);
}

static void pinned_ping_story(void *arg) {
    struct ping ping = {0};
    take_pings(&ping);
    rt_stop(0);
}

static void stealable_ping(void *arg) {
    struct ping ping = {0};
    take_pings(&ping);
    rt_stop(0);
}

static void stealable_ping_story(void *arg) {
    CHECK(go("ping", stealable_ping, NULL) == 0);
}

static void no_wake_up_of_a_foreign_thread_is_lost(void **state) {
    story(1, pinned_ping_story);
    story(2, pinned_ping_story);
    story(1, stealable_ping_story);
    story(2, stealable_ping_story);
}

/* ---- Order ---- */

static char order[16];

static void writes_twice(void *arg) {
    size_t at = strlen(order);
    order[at] = *(const char *)arg;
    rt_yield();
    at = strlen(order);
    order[at] = *(const char *)arg;
}

static void yield_story(void *arg) {
    CHECK(go_here("a", writes_twice, (char[]){"a"}) == 0);
    CHECK(go_here("b", writes_twice, (char[]){"b"}) == 0);
    CHECK(go_here("c", writes_twice, (char[]){"c"}) == 0);
    STORY_AWAIT(strlen(order) == 6);
    CHECK(strcmp(order, "abcabc") == 0);
    rt_stop(0);
}

static void yield_lets_each_other_coroutine_run_once(void **state) {
    story(1, yield_story);
}

/* ---- Cancellation ---- */

static int cancelled_err, cancelled_again, cleared_err;
static bool cancel_done;

static void is_cancelled_while_parked(void *arg) {
    cancelled_err = rt_park("to be cancelled", RT_FOREVER);
    cancelled_again = rt_park("still cancelled", RT_FOREVER);
    CHECK(rt_cancelled());
    rt_cancel(rt_self()); /* by himself, as a deadline of his own would */
    rt_cancel_undo();
    CHECK(rt_cancelled()); /* still by the other */
    rt_cancel_undo();
    CHECK(!rt_cancelled());
    rt_cancel(rt_self());
    rt_cancel_clear();
    CHECK(!rt_cancelled());
    cleared_err = rt_park("cleared", clock_mono_ns() + NS_PER_MS);
    cancel_done = true;
}

static struct g *cancel_victim;
static void cancel_victim_main(void *arg) {
    cancel_victim = rt_self();
    is_cancelled_while_parked(NULL);
}

static void cancel_story(void *arg) {
    CHECK(go_here("victim", cancel_victim_main, NULL) == 0);
    STORY_AWAIT(cancel_victim);
    rt_cancel(cancel_victim);
    STORY_AWAIT(cancel_done);
    CHECK(cancelled_err == -ECANCELED);
    CHECK(cancelled_again == -ECANCELED);
    CHECK(cleared_err == -ETIMEDOUT);
    rt_stop(0);
}

static void cancellation_is_sticky_until_cleared(void **state) {
    story(1, cancel_story);
}

/* ---- Ps ---- */

enum { MOVERS = 64 };
static _Atomic unsigned seen_on[2], movers_done;
static _Atomic bool both_seen;

/* Each takes a while of CPU, so that the other P comes and steals. */
static void mover(void *arg) {
    for (int64_t until = story_soon(); !atomic_load(&both_seen);) {
        CHECK(clock_mono_ns() < until);
        atomic_fetch_add(&seen_on[rt_p_index()], 1);
        if (atomic_load(&seen_on[0]) && atomic_load(&seen_on[1]))
            atomic_store(&both_seen, true);
        rt_yield();
    }
    atomic_fetch_add(&movers_done, 1);
}

static void steal_story(void *arg) {
    for (int i = 0; i < MOVERS; i++)
        CHECK(go("mover", mover, NULL) == 0);
    STORY_AWAIT(atomic_load(&movers_done) == MOVERS);
    struct rt_p_stats stats[2];
    rt_p_stats(0, &stats[0]);
    rt_p_stats(1, &stats[1]);
    CHECK(stats[0].steals + stats[1].steals > 0);
    CHECK(stats[0].coroutines + stats[1].coroutines >= 1);
    rt_stop(0);
}

static void an_idle_p_steals(void **state) {
    story(2, steal_story);
}

static _Atomic unsigned pinned_rounds, pinned_ended;

static void stays(void *arg) {
    unsigned home = (unsigned)(uintptr_t)arg;
    for (int i = 0; i < 100; i++) {
        CHECK(rt_p_index() == home);
        rt_yield();
        atomic_fetch_add(&pinned_rounds, 1);
    }
    atomic_fetch_add(&pinned_ended, 1);
}

static void *go_on_from_thread(void *arg) {
    CHECK(go_on(1, "stays", stays, (void *)(uintptr_t)1) == 0);
    return NULL;
}

static void go_on_story(void *arg) {
    CHECK(go_on(1, "stays", stays, (void *)(uintptr_t)1) == 0);
    CHECK(go_on(0, "stays", stays, (void *)(uintptr_t)0) == 0);
    CHECK(go_here("stays", stays, (void *)(uintptr_t)0) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, go_on_from_thread, NULL) == 0);
    pthread_join(thread, NULL);
    STORY_AWAIT(atomic_load(&pinned_ended) == 4);
    rt_stop(0);
}

static void a_pinned_coroutine_stays_on_its_p(void **state) {
    story(2, go_on_story);
}

/* ---- Posts ---- */

enum { POSTS = 1000 };
struct numbered {
    struct rt_post post;
    int number;
};
static struct numbered posts[POSTS];
static int posts_seen;

static void post_arrives(struct rt_post *post) {
    struct numbered *n = container_of(post, struct numbered, post);
    CHECK(rt_self() == NULL);
    CHECK(n->number == posts_seen);
    posts_seen++;
}

static void *posts_in_order(void *arg) {
    for (int i = 0; i < POSTS; i++) {
        posts[i] = (struct numbered){.post.fn = post_arrives, .number = i};
        rt_post(0, &posts[i].post);
    }
    return NULL;
}

static void post_story(void *arg) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, posts_in_order, NULL) == 0);
    STORY_AWAIT(posts_seen == POSTS);
    pthread_join(thread, NULL);
    rt_stop(0);
}

static void posts_of_one_thread_arrive_in_order(void **state) {
    story(1, post_story);
}

/* ---- go_with ---- */

static _Atomic unsigned placed;

static void is_placed(void *arg) {
    unsigned home = (unsigned)(uintptr_t)arg;
    CHECK(rt_p_index() == home);
    atomic_fetch_add(&placed, 1);
}

static void is_anywhere(void *arg) {
    atomic_fetch_add(&placed, 1);
}

static void *with_place_from_thread(void *arg) {
    const struct go_options on_1 = {.name = "on 1", .place = RT_ON_P, .p_index = 1};
    CHECK(go_with(&on_1, is_placed, (void *)(uintptr_t)1) == 0);
    return NULL;
}

static void go_with_story(void *arg) {
    const struct go_options here = {.name = "here", .place = RT_HERE};
    const struct go_options on_1 = {.name = "on 1", .place = RT_ON_P, .p_index = 1};
    const struct go_options anywhere = {.name = "anywhere", .priority = RT_HIGH};
    struct go_options large = {.name = "large", .stack_size = (size_t)RT_STACK_MAX + 1};
    CHECK(go_with(&large, is_anywhere, NULL) == -EINVAL);
    large.place = RT_ON_P;
    CHECK(go_with(&large, is_anywhere, NULL) == -EINVAL);
    CHECK(go_with(&here, is_placed, (void *)(uintptr_t)0) == 0);
    CHECK(go_with(&on_1, is_placed, (void *)(uintptr_t)1) == 0);
    CHECK(go_with(&anywhere, is_anywhere, NULL) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, with_place_from_thread, NULL) == 0);
    pthread_join(thread, NULL);
    STORY_AWAIT(atomic_load(&placed) == 4);
    struct rt_stats stats;
    do {
        rt_stats(&stats); /* a coroutine is counted a moment longer than it runs */
        rt_yield();
    } while (stats.coroutines != 1);
    CHECK(stats.parked == 0);
    CHECK(stats.stacks == stats.stacks_free + 1);
    CHECK(stats.ms >= 2);
    rt_stop(0);
}

static void go_with_starts_coroutines_where_it_is_told(void **state) {
    story(2, go_with_story);
}

/* ---- rt_park_unlock ---- */

struct unlocked {
    struct g *g;
    unsigned calls;
    bool saw_self;
    bool give_token; /* the waker was waiting for the lock */
    int err;
    _Atomic bool done;
};

static void counts_unlock(void *arg) {
    struct unlocked *u = arg;
    u->calls++;
    u->saw_self = rt_self() != NULL;
    if (u->give_token)
        rt_ready(u->g);
}

/* All but the last do not park; each frees the lock once. */
static void park_unlock_main(void *arg) {
    struct unlocked *u = arg;
    u->g = rt_self();
    rt_ready(u->g);
    CHECK(rt_park_unlock(counts_unlock, u, "a token", RT_FOREVER) == 0);
    CHECK(u->calls == 1);
    CHECK(rt_park_unlock(counts_unlock, u, "a deadline long past", 1) == -ETIMEDOUT);
    CHECK(u->calls == 2);
    rt_cancel(u->g);
    CHECK(rt_park_unlock(counts_unlock, u, "cancelled", RT_FOREVER) == -ECANCELED);
    CHECK(u->calls == 3);
    rt_cancel_clear();
    while (rt_park("no token is left", clock_mono_ns() + NS_PER_MS) == 0) {
    }
    CHECK(rt_park_unlock(counts_unlock, u, "times out", clock_mono_ns() + NS_PER_MS) == -ETIMEDOUT);
    CHECK(u->calls == 4);
    CHECK(!u->saw_self); /* a scheduler callback */
    u->give_token = true;
    CHECK(rt_park_unlock(counts_unlock, u, "woken under the lock", RT_FOREVER) == 0);
    CHECK(u->calls == 5);
    atomic_store(&u->done, true);
}

static void park_unlock_story(void *arg) {
    static struct unlocked pinned, stealable;
    CHECK(go_here("unlocks", park_unlock_main, &pinned) == 0);
    STORY_AWAIT(atomic_load(&pinned.done));
    CHECK(go("unlocks", park_unlock_main, &stealable) == 0);
    STORY_AWAIT(atomic_load(&stealable.done));
    rt_stop(0);
}

static void park_unlock_frees_the_lock_whatever_happens(void **state) {
    story(1, park_unlock_story);
    story(2, park_unlock_story);
}

/* A token that another thread gives between the look for tokens and the park: the coroutine does not
 * park, and the lock is free all the same. */
enum { HANDSHAKES = 20000 };
struct handshake {
    struct spin lock;
    struct g *waiter; /* lock */
    _Atomic bool over;
};

static void handshake_unlock(void *arg) {
    struct handshake *h = arg;
    spin_unlock(&h->lock);
}

static void *wakes_waiters(void *arg) {
    struct handshake *h = arg;
    while (!atomic_load(&h->over)) {
        spin_lock(&h->lock);
        if (h->waiter)
            rt_ready(h->waiter);
        h->waiter = NULL;
        spin_unlock(&h->lock);
        sched_yield();
    }
    return NULL;
}

static void handshake_main(void *arg) {
    struct handshake *h = arg;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wakes_waiters, h) == 0);
    for (int i = 0; i < HANDSHAKES; i++) {
        spin_lock(&h->lock);
        h->waiter = rt_self();
        while (h->waiter) {
            CHECK(rt_park_unlock(handshake_unlock, h, "handshake", story_soon()) == 0);
            spin_lock(&h->lock);
        }
        spin_unlock(&h->lock);
    }
    atomic_store(&h->over, true);
    pthread_join(thread, NULL);
    rt_stop(0);
}

static struct handshake handshake;

static void stealable_handshake_story(void *arg) {
    CHECK(go("handshake", handshake_main, &handshake) == 0);
}

static void pinned_handshake_story(void *arg) {
    handshake_main(&handshake);
}

static void whoever_takes_the_lock_can_wake(void **state) {
    story(1, pinned_handshake_story);
    story(1, stealable_handshake_story);
    story(2, stealable_handshake_story);
}

/* ---- Many ---- */

enum { MANY = 3000 };
static unsigned many_ended;

static void ends_soon(void *arg) {
    rt_yield();
    many_ended++;
}

static void many_story(void *arg) {
    for (int round = 0; round < 3; round++) {
        many_ended = 0;
        for (int i = 0; i < MANY; i++)
            CHECK(go_here("many", ends_soon, NULL) == 0);
        STORY_AWAIT(many_ended == MANY);
    }
    struct rt_p_stats stats;
    rt_p_stats(0, &stats);
    CHECK(stats.coroutines == 1);
    rt_stop(0);
}

static void stacks_are_used_again(void **state) {
    story(1, many_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rt_run_ends_with_the_code_of_rt_stop),
        cmocka_unit_test(a_token_given_early_is_remembered_once),
        cmocka_unit_test(no_wake_up_of_a_foreign_thread_is_lost),
        cmocka_unit_test(yield_lets_each_other_coroutine_run_once),
        cmocka_unit_test(cancellation_is_sticky_until_cleared),
        cmocka_unit_test(an_idle_p_steals),
        cmocka_unit_test(a_pinned_coroutine_stays_on_its_p),
        cmocka_unit_test(posts_of_one_thread_arrive_in_order),
        cmocka_unit_test(go_with_starts_coroutines_where_it_is_told),
        cmocka_unit_test(park_unlock_frees_the_lock_whatever_happens),
        cmocka_unit_test(whoever_takes_the_lock_can_wake),
        cmocka_unit_test(stacks_are_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
