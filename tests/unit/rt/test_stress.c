/* The whole runtime under random load, on four Ps: tokens from coroutines, other Ps and plain threads,
 * deadlines, cancellation, yields, timers, channels, select, mutexes, a semaphore, foreign and blocking
 * calls, birth and death, with small stacks and big ones. At the end nothing was lost and nothing came twice: letters and values
 * add up, every coroutine has ended, every stack is free and no timer is armed. Three seconds, or a
 * minute with as many coroutines as the build can hold where SLUICE_LONG=yes. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "rt/chan.h"
#include "rt/foreign.h"
#include "rt/mutex.h"
#include "rt/rt_internal.h"
#include "rt/select.h"
#include "rt/sema.h"
#include "rt/timer.h"
#include "rt_story.h"

enum { PS = 4, THREADS = 2, CHANNELS = 16, ROOMS = 4, BRIEF_MAX = 500, BIG_STACK = 256 * 1024 };

#if defined(RT_HAS_TSAN)
enum { MANY = 500, MANY_LONG = 4000 }; /* it holds about 8,000 fibers, of a megabyte each */
#else
enum { MANY = 2000, MANY_LONG = 1000 * 1000 };
#endif
enum { SECONDS = 3, SECONDS_LONG = 60 };

/* A letter box; its lock keeps owner valid while somebody readies it. */
struct slot {
    pthread_mutex_t lock;
    struct g *owner;
    _Atomic uint32_t letters;
    bool timer_fired;
    struct timer timer;
};
static struct slot *slots;
static unsigned slot_count;
static struct chan *channels[CHANNELS];
/* One coroutine at a time in each; SEATS of them on the seats. */
enum { SEATS = 3 };
static struct room {
    struct mutex mutex;
    unsigned visits; /* the mutex guards it */
} rooms[ROOMS];
static struct sema seats;
static _Atomic int seated;
static _Atomic uint64_t visits;
static _Atomic uint64_t letters_sent, letters_received, values_sent, values_received, blocked;
static _Atomic int64_t alive, brief_alive;
static _Atomic uint64_t born;
static _Atomic bool over;

static bool is_long(void) {
    const char *text = getenv("SLUICE_LONG");
    return text && strcmp(text, "yes") == 0;
}

static int64_t soon(uint64_t *seed) {
    return rt_now_ns() + (int64_t)(next_random(seed) % (3 * NS_PER_MS));
}

/* ---- Letters: tokens from anywhere ---- */

static void send_letter(uint64_t *seed) {
    struct slot *slot = &slots[next_random(seed) % slot_count];
    pthread_mutex_lock(&slot->lock);
    if (slot->owner) {
        atomic_fetch_add(&slot->letters, 1);
        atomic_fetch_add(&letters_sent, 1);
        rt_ready(slot->owner);
    }
    pthread_mutex_unlock(&slot->lock);
}

static void receive_letters(struct slot *slot) {
    atomic_fetch_add(&letters_received, atomic_exchange(&slot->letters, 0));
}

/* ---- What a coroutine may do ---- */

static void slow(void *arg) {
    uint64_t *seed = arg;
    send_letter(seed);
    if (next_random(seed) % 64 == 0) {
        struct timespec pause = {.tv_nsec = 2500000}; /* long enough for the P to be retaken */
        nanosleep(&pause, NULL);
    }
}

static void blocks(void *arg) {
    send_letter(arg);
    atomic_fetch_add(&blocked, 1);
}

static void do_blocking(uint64_t *seed) {
    int err = blocking_call(blocks, seed);
    CHECK(err == 0 || err == -EAGAIN); /* all threads are busy */
}

static void brief(void *arg) {
    rt_yield();
    atomic_fetch_sub(&brief_alive, 1);
}

static void do_birth(uint64_t *seed) {
    if (atomic_fetch_add(&brief_alive, 1) >= BRIEF_MAX) {
        atomic_fetch_sub(&brief_alive, 1);
        return;
    }
    struct go_options options = {
        .name = "brief",
        .place = (enum rt_place)(next_random(seed) % 3),
        .p_index = (unsigned)(next_random(seed) % PS),
        .priority = (enum rt_priority)(next_random(seed) % RT_PRIORITIES),
        .stack_size = next_random(seed) % 16 == 0 ? BIG_STACK : 0,
    };
    CHECK(go_with(&options, brief, NULL) == 0);
    atomic_fetch_add(&born, 1);
}

static void slot_timer_fired(struct timer *timer) {
    struct slot *slot = container_of(timer, struct slot, timer);
    slot->timer_fired = true;
    rt_ready(slot->owner);
}

/* Timers belong to a P: of pinned coroutines only. */
static void do_timer(struct slot *slot, uint64_t *seed) {
    slot->timer_fired = false;
    timer_init(&slot->timer, slot_timer_fired);
    timer_arm(&slot->timer, soon(seed));
    while (!slot->timer_fired && next_random(seed) % 8)
        CHECK(rt_park("stress timer", rt_now_ns() + NS_PER_MS) != -ECANCELED);
    timer_disarm(&slot->timer);
}

/* Of pinned coroutines: rt_cancel is for the same P. What need not wait happens all the same. */
static void do_cancel(uint64_t *seed) {
    rt_cancel(rt_self());
    CHECK(rt_park("cancelled", RT_FOREVER) == -ECANCELED);
    uint64_t value = next_random(seed) % 1000;
    int err = chan_send(channels[next_random(seed) % CHANNELS], &value, RT_FOREVER);
    CHECK(err == 0 || err == -ECANCELED);
    if (err == 0)
        atomic_fetch_add(&values_sent, value);
    rt_cancel_clear();
}

static void do_channel(uint64_t *seed) {
    struct chan *ch = channels[next_random(seed) % CHANNELS];
    uint64_t value = next_random(seed) % 1000;
    if (next_random(seed) % 2) {
        if (chan_send(ch, &value, soon(seed)) == 0)
            atomic_fetch_add(&values_sent, value);
    } else if (chan_recv(ch, &value, soon(seed)) == 0) {
        atomic_fetch_add(&values_received, value);
    }
}

static void do_select(uint64_t *seed) {
    enum { CASES = 4 };
    struct select_case cases[CASES];
    uint64_t values[CASES];
    for (unsigned i = 0; i < CASES; i++) {
        values[i] = next_random(seed) % 1000;
        cases[i] = (struct select_case){
            .op = next_random(seed) % 2 ? SELECT_SEND : SELECT_RECV,
            .ch = channels[next_random(seed) % CHANNELS],
            .elem = &values[i],
        };
    }
    int chosen =
        next_random(seed) % 4 ? select_wait(cases, CASES, soon(seed)) : select_try(cases, CASES);
    if (chosen < 0)
        return;
    CHECK(!cases[chosen].closed);
    atomic_fetch_add(cases[chosen].op == SELECT_SEND ? &values_sent : &values_received,
                     values[chosen]);
}

static void do_visit(uint64_t *seed) {
    struct room *room = &rooms[next_random(seed) % ROOMS];
    int err = mutex_lock(&room->mutex, soon(seed));
    CHECK(err == 0 || err == -ETIMEDOUT);
    if (err < 0)
        return;
    unsigned before = room->visits;
    if (next_random(seed) % 4 == 0)
        rt_yield();
    CHECK(room->visits == before); /* nobody else is here */
    room->visits = before + 1;
    mutex_unlock(&room->mutex);
    atomic_fetch_add(&visits, 1);
}

static void do_sit(uint64_t *seed) {
    int err = sema_acquire(&seats, "stress seat", soon(seed));
    CHECK(err == 0 || err == -ETIMEDOUT);
    if (err < 0)
        return;
    CHECK(atomic_fetch_add(&seated, 1) < SEATS);
    rt_yield();
    atomic_fetch_sub(&seated, 1);
    sema_release(&seats, 1);
}

static void do_park(struct slot *slot, uint64_t *seed) {
    send_letter(seed);
    if (atomic_load(&slot->letters) == 0) {
        int err = rt_park("stress", soon(seed));
        CHECK(err == 0 || err == -ETIMEDOUT);
    }
}

static void act(struct slot *slot, uint64_t *seed, bool pinned) {
    switch (next_random(seed) % 18) {
    case 0:
        rt_yield();
        break;
    case 1:
        foreign_call(slow, seed);
        break;
    case 2:
        do_blocking(seed);
        break;
    case 3:
        if (pinned)
            do_timer(slot, seed);
        break;
    case 4:
        do_birth(seed);
        break;
    case 5:
    case 6:
        do_channel(seed);
        break;
    case 7:
    case 8:
        do_select(seed);
        break;
    case 9:
        if (pinned)
            do_cancel(seed);
        break;
    case 10:
        do_visit(seed);
        break;
    case 11:
        do_sit(seed);
        break;
    case 12:
        CHECK(rt_sleep_until(soon(seed)) == 0);
        break;
    default:
        do_park(slot, seed);
        break;
    }
}

static void live(void *arg) {
    struct slot *slot = arg;
    uint64_t seed = 88172645463325252ULL + (uint64_t)(slot - slots) * 7919;
    bool pinned = (slot - slots) % 4 != 0;
    pthread_mutex_lock(&slot->lock);
    slot->owner = rt_self();
    pthread_mutex_unlock(&slot->lock);
    while (!atomic_load(&over)) {
        act(slot, &seed, pinned);
        receive_letters(slot);
    }
    pthread_mutex_lock(&slot->lock);
    slot->owner = NULL;
    pthread_mutex_unlock(&slot->lock);
    receive_letters(slot);
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

/* ---- The end ---- */

static _Atomic unsigned wheels_empty;

/* The only coroutine of its P, so only what was forgotten can be armed; and the trim of stacks. */
static void looks_at_wheel(void *arg) {
    struct p *p = p_self();
    timer_disarm(&p->stacks.trim);
    CHECK(p->wheel.levels == 0);
    atomic_fetch_add(&wheels_empty, 1);
}

static void drain_channels(void) {
    for (unsigned i = 0; i < CHANNELS; i++) {
        uint64_t value;
        while (chan_try_recv(channels[i], &value) == 0)
            atomic_fetch_add(&values_received, value);
        chan_unref(channels[i]);
    }
}

static void check_the_end(void) {
    struct rt_stats stats;
    struct stack_stats stacks;
    STORY_AWAIT(atomic_load(&brief_alive) == 0);
    STORY_AWAIT((rt_stats(&stats), stats.coroutines == 1));
    STORY_AWAIT((stack_stats(&stacks), stacks.stacks - stacks.free == 1));
    CHECK(stats.blocking_busy == 0);
    drain_channels();
    CHECK(atomic_load(&letters_sent) == atomic_load(&letters_received));
    CHECK(atomic_load(&values_sent) == atomic_load(&values_received));
    uint64_t visits_seen = 0;
    for (unsigned i = 0; i < ROOMS; i++)
        visits_seen += rooms[i].visits;
    CHECK(atomic_load(&visits) == visits_seen);
    CHECK(visits_seen > 100);
    for (unsigned i = 0; i < SEATS; i++)
        CHECK(sema_try_acquire(&seats));
    CHECK(!sema_try_acquire(&seats));
    CHECK(atomic_load(&letters_sent) > 1000);
    CHECK(atomic_load(&values_sent) > 1000);
    CHECK(atomic_load(&born) > 100);
    CHECK(atomic_load(&blocked) > 10);
    uint64_t retakes = 0;
    for (unsigned i = 0; i < PS; i++) {
        struct rt_p_stats p_stats;
        rt_p_stats(i, &p_stats);
        retakes += p_stats.retakes;
        CHECK(go_on(i, "looks at its wheel", looks_at_wheel, NULL) == 0);
    }
    CHECK(retakes > 0);
    for (int64_t until = story_soon(); atomic_load(&wheels_empty) < PS; rt_yield())
        CHECK(clock_mono_ns() < until);
}

static void stress_story(void *arg) {
    slot_count = is_long() ? MANY_LONG : MANY;
    slots = calloc(slot_count, sizeof *slots);
    CHECK(slots);
    for (unsigned i = 0; i < slot_count; i++)
        pthread_mutex_init(&slots[i].lock, NULL);
    sema_init(&seats, SEATS);
    for (unsigned i = 0; i < CHANNELS; i++)
        CHECK((channels[i] = chan_new(sizeof(uint64_t), i % 4)));
    for (unsigned i = 0; i < slot_count; i++) {
        atomic_fetch_add(&alive, 1);
        int err = i % 4 == 0 ? go("stealable", live, &slots[i])
                             : go_on(i % PS, "pinned", live, &slots[i]);
        CHECK(err == 0);
        if (i % 1000 == 0)
            rt_yield();
    }
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, thread_sends, (void *)(uintptr_t)i) == 0);
    CHECK(rt_sleep_until(clock_mono_ns() + (is_long() ? SECONDS_LONG : SECONDS) * NS_PER_S) == 0);
    atomic_store(&over, true);
    while (atomic_load(&alive) >
           0) /* of a million, in a slow build: the test's own time is the limit */
        CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    check_the_end();
    free(slots);
    if (is_long())
        _exit(0); /* LeakSanitizer would look at each of the stacks, for minutes */
    rt_stop(0);
}

static void nothing_is_lost_under_random_load(void **state) {
    story(PS, stress_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_lost_under_random_load)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
