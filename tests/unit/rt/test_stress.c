/* The whole runtime under random load: tokens from coroutines, other Ps and plain threads, deadlines,
 * cancellation, yields, timers, foreign calls, birth and death, for SECONDS. At the end every
 * coroutine has ended and every letter was delivered once. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "rt/foreign.h"
#include "rt/timer.h"
#include "rt_story.h"

/* ThreadSanitizer holds about 8,000 fibers. */
enum { PS = 2, SLOTS = 1000, THREADS = 2, SECONDS = 2 };

/* A letter box; its lock keeps owner valid while somebody readies it. */
struct slot {
    pthread_mutex_t lock;
    struct g *owner;
    _Atomic unsigned letters;
    struct timer timer;
    bool timer_fired;
};
static struct slot slots[SLOTS];
static _Atomic uint64_t sent, received;
static _Atomic unsigned alive, born;
static _Atomic bool over;

static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void send_letter(uint64_t *seed) {
    struct slot *slot = &slots[next_random(seed) % SLOTS];
    pthread_mutex_lock(&slot->lock);
    if (slot->owner) {
        atomic_fetch_add(&slot->letters, 1);
        atomic_fetch_add(&sent, 1);
        rt_ready(slot->owner);
    }
    pthread_mutex_unlock(&slot->lock);
}

static void receive(struct slot *slot) {
    atomic_fetch_add(&received, atomic_exchange(&slot->letters, 0));
}

static void slow(void *arg) {
    uint64_t *seed = arg;
    send_letter(seed);
    if (next_random(seed) % 64 == 0) {
        struct timespec pause = {.tv_nsec = 2500000}; /* long enough for the P to be retaken */
        nanosleep(&pause, NULL);
    }
}

static void brief(void *arg) {
    rt_yield();
    atomic_fetch_sub(&alive, 1);
}

static void slot_timer_fired(struct timer *timer) {
    struct slot *slot = container_of(timer, struct slot, timer);
    slot->timer_fired = true;
    rt_ready(slot->owner);
}

static void live(void *arg) {
    struct slot *slot = arg;
    uint64_t seed = 88172645463325252ULL + (uint64_t)(slot - slots) * 7919;
    bool pinned = (slot - slots) % 4 != 0;
    pthread_mutex_lock(&slot->lock);
    slot->owner = rt_self();
    pthread_mutex_unlock(&slot->lock);
    while (!atomic_load(&over)) {
        switch (next_random(&seed) % 10) {
        case 0:
            rt_yield();
            break;
        case 1:
            foreign_call(slow, &seed);
            break;
        case 2:
            if (pinned) { /* timers belong to a P */
                slot->timer_fired = false;
                timer_init(&slot->timer, slot_timer_fired);
                timer_arm(&slot->timer, rt_now_ns() + (int64_t)(next_random(&seed) % 4000000));
                while (!slot->timer_fired && next_random(&seed) % 8)
                    CHECK(rt_park("stress timer", rt_now_ns() + NS_PER_MS) != -ECANCELED);
                timer_disarm(&slot->timer);
            }
            break;
        case 3:
            if (pinned) {
                rt_cancel(rt_self());
                CHECK(rt_park("cancelled", RT_FOREVER) == -ECANCELED);
                rt_cancel_clear();
            }
            break;
        case 4:
            if (atomic_load(&alive) < SLOTS + 500) {
                atomic_fetch_add(&alive, 1);
                atomic_fetch_add(&born, 1);
                int err = next_random(&seed) % 2
                              ? go("brief", brief, NULL)
                              : go_on((unsigned)(next_random(&seed) % PS), "brief", brief, NULL);
                CHECK(err == 0);
            }
            break;
        default:
            send_letter(&seed);
            if (atomic_load(&slot->letters) == 0) {
                int64_t wait_ns = (int64_t)(next_random(&seed) % 3000000);
                int err = rt_park("stress", rt_now_ns() + wait_ns);
                CHECK(err == 0 || err == -ETIMEDOUT);
            }
            break;
        }
        receive(slot);
    }
    pthread_mutex_lock(&slot->lock);
    slot->owner = NULL;
    pthread_mutex_unlock(&slot->lock);
    receive(slot);
    atomic_fetch_sub(&alive, 1);
}

static void *thread_sends(void *arg) {
    uint64_t seed = 4242 + (uint64_t)(uintptr_t)arg;
    while (!atomic_load(&over)) {
        for (int i = 0; i < 20; i++)
            send_letter(&seed);
        sched_yield();
    }
    return NULL;
}

static void stress_story(void *arg) {
    atomic_store(&alive, SLOTS);
    for (unsigned i = 0; i < SLOTS; i++)
        pthread_mutex_init(&slots[i].lock, NULL);
    for (unsigned i = 0; i < SLOTS; i++) {
        int err = i % 4 == 0 ? go("stealable", live, &slots[i])
                             : go_on(i % PS, "pinned", live, &slots[i]);
        CHECK(err == 0);
    }
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, thread_sends, (void *)(uintptr_t)i) == 0);
    CHECK(rt_sleep_until(clock_mono_ns() + SECONDS * NS_PER_S) == 0);
    atomic_store(&over, true);
    STORY_AWAIT(atomic_load(&alive) == 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&sent) == atomic_load(&received));
    CHECK(atomic_load(&sent) > 1000);
    CHECK(atomic_load(&born) > 100);
    uint64_t retakes = 0, coroutines = 0;
    for (unsigned i = 0; i < PS; i++) {
        struct rt_p_stats stats;
        rt_p_stats(i, &stats);
        retakes += stats.retakes;
        coroutines += stats.coroutines;
    }
    CHECK(retakes > 0);
    CHECK(coroutines >= 1);
    rt_stop(0);
}

static void nothing_is_lost_under_random_load(void **state) {
    story(PS, stress_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_lost_under_random_load)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
