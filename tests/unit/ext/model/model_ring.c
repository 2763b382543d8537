/* ring: a record, room, or a nudge is never slept through, in whatever order the two ends make their steps.
 *
 * ring.c as it is; a futex and a bell of the model stand in for the kernel's. The ring is of 64 bytes: eight empty
 * records, and two of them are the most that a record may be. What they would say is in cells, which the ring is to
 * hand over. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "../../rt/model/explorer.h"
#include "base/clock.h"
#include "ext/remote/ring.h"
#include "ext/remote/ring_sleep.h"

enum { SIZE = 64, MOST = SIZE / 4 - REMOTE_RECORD_HEAD, RECORDS_MAX = 12, BELL = 5, PS_NUMBER = 3 };

static struct remote_ring_words words;
static _Alignas(8) char data[2 * SIZE];
static const struct remote_ring_memory memory = {.words = &words, .data = data, .size = SIZE};
static struct remote_ring_out out;
static struct remote_ring_in in;
static unsigned sent, received, sends, nudges;
static bool told;
static struct model_cell cells[RECORDS_MAX]; /* of the record of that kind */

_Noreturn void assert_failed(const char *file, int line, const char *condition) {
    model_fail(file, line, condition);
}

int64_t clock_mono_ns(void) {
    return 0;
}

/* ---- the kernel ---- */

static struct {
    const void *on;
    bool woken;
} sleepers[MODEL_THREADS_MAX];
static bool rung;

/* The comparison reads what is there now, and nobody comes between it and the sleep. */
void remote_sleep(_Atomic uint32_t *word, uint32_t expected, int64_t deadline_ns) {
    unsigned self = model_thread();
    sleepers[self].woken = false;
    if (atomic_fetch_add_explicit(word, 0, memory_order_relaxed) != expected)
        return;
    sleepers[self].on = word;
    model_wait(&sleepers[self].woken);
}

void remote_wake(_Atomic uint32_t *word, int count) {
    for (unsigned i = 0; i < MODEL_THREADS_MAX; i++)
        if (sleepers[i].on == word) {
            sleepers[i].on = NULL;
            model_wake(&sleepers[i].woken);
        }
}

void remote_ring_bell(int bell) {
    MODEL_CHECK(bell == BELL);
    model_wake(&rung);
}

/* The producers' lock (meson.build); there is one ring. */
static _Atomic uint32_t lock_word;

int model_mutex_lock(pthread_mutex_t *lock) {
    while (atomic_exchange_explicit(&lock_word, 1, memory_order_acquire))
        model_wait_for_zero(&lock_word);
    return 0;
}

int model_mutex_unlock(pthread_mutex_t *lock) {
    atomic_store_explicit(&lock_word, 0, memory_order_release);
    return 0;
}

/* ---- the two ends ---- */

static void setup(unsigned count, int bell) {
    atomic_store_explicit(&words.tail, 0, memory_order_relaxed);
    atomic_store_explicit(&words.head, 0, memory_order_relaxed);
    atomic_store_explicit(&words.nudges, 0, memory_order_relaxed);
    atomic_store_explicit(&words.wanted, 0, memory_order_relaxed);
    atomic_store_explicit(&words.asleep, 0, memory_order_relaxed);
    atomic_store_explicit(&lock_word, 0, memory_order_relaxed);
    memset(data, 0, sizeof data);
    memset(sleepers, 0, sizeof sleepers);
    rung = told = false;
    sent = received = nudges = 0;
    sends = count;
    remote_ring_out_init(&out, &memory, bell);
    remote_ring_in_init(&in, &memory);
}

static void setup_one(void) {
    setup(1, REMOTE_BELL_NONE);
}

static void setup_few(void) {
    setup(2, REMOTE_BELL_NONE);
}

static void setup_full(void) {
    setup(10, REMOTE_BELL_NONE);
}

static void setup_bell(void) {
    setup(2, BELL);
}

static void tells(void *arg, uint32_t who) {
    MODEL_CHECK(who == PS_NUMBER);
    model_wake(&told);
}

static void setup_told(void) {
    setup(10, REMOTE_BELL_NONE);
    in.tell = tells;
}

static int put(uint32_t kind) {
    model_cell_write(&cells[kind], kind);
    int err = remote_ring_out_put(&out, kind, span_none());
    MODEL_CHECK(err == 0 || err == -EAGAIN);
    return err;
}

/* One more; false when the ring is full. */
static bool put_one(void) {
    bool fits = put(sent + 1) == 0;
    sent += fits;
    return fits;
}

/* Threads of a host process: who finds it full sleeps. */
static void sends_all(void) {
    while (sent < sends)
        if (!put_one()) {
            (void)remote_ring_out_wake(&out);
            MODEL_CHECK(remote_ring_out_wait(&out, MOST, INT64_MAX) == 0);
        }
    (void)remote_ring_out_wake(&out);
}

/* One of two producers: each wakes for his own. */
static void sends_one(void) {
    MODEL_CHECK(put(model_thread() + 1) == 0);
    (void)remote_ring_out_wake(&out);
}

/* A P: who finds it full parks until he is told. */
static void sends_and_parks(void) {
    while (sent < sends) {
        if (put_one())
            continue;
        (void)remote_ring_out_wake(&out);
        int err = remote_ring_out_want(&out, MOST, PS_NUMBER);
        MODEL_CHECK(err == 0 || err == -EAGAIN);
        if (err == -EAGAIN) {
            model_wait(&told);
            told = false;
        }
    }
    (void)remote_ring_out_wake(&out);
}

static bool take_one(void) {
    struct remote_record record;
    int err = remote_ring_in_next(&in, &record);
    MODEL_CHECK(err == 0 || err == -EAGAIN);
    if (err < 0)
        return false;
    MODEL_CHECK(record.kind > 0 && record.kind < RECORDS_MAX && record.payload.len == 0);
    MODEL_CHECK(model_cell_read(&cells[record.kind]) == record.kind);
    remote_ring_in_done(&in);
    received++;
    return true;
}

/* A seat. */
static void receives(void) {
    while (received < sends)
        if (!take_one())
            MODEL_CHECK(remote_ring_in_wait(&in, INT64_MAX) == 0);
}

/* A P, which sleeps in its poller. */
static void receives_by_bell(void) {
    while (received + nudges < sends) {
        if (remote_ring_in_was_nudged(&in))
            nudges++;
        else if (!take_one() && remote_ring_in_fall_asleep(&in)) {
            model_wait(&rung);
            rung = false;
            remote_ring_in_awake(&in);
        }
    }
}

static void nudges_once(void) {
    remote_ring_out_nudge(&out);
}

static void all_came(void) {
    for (unsigned i = 0; i < MODEL_THREADS_MAX; i++)
        MODEL_CHECK(!model_is_waiting(i));
    MODEL_CHECK(received + nudges == sends);
}

int main(void) {
    static const struct model_story stories[] = {
        {.name = "a record and a seat that goes to sleep",
         .setup = setup_one,
         .thread_count = 2,
         .threads = {sends_all, receives},
         .check = all_came,
         .preemptions = 4,
         .stale_reads = 4},
        {.name = "two producers and a seat",
         .setup = setup_few,
         .thread_count = 3,
         .threads = {sends_one, sends_one, receives},
         .check = all_came,
         .preemptions = 2,
         .stale_reads = 2},
        {.name = "a full ring, and a thread that waits for room",
         .setup = setup_full,
         .thread_count = 2,
         .threads = {sends_all, receives},
         .check = all_came,
         .preemptions = 2,
         .stale_reads = 1},
        {.name = "a full ring, and a coroutine that waits for room",
         .setup = setup_told,
         .thread_count = 2,
         .threads = {sends_and_parks, receives},
         .check = all_came,
         .preemptions = 1,
         .stale_reads = 4},
        {.name = "a P that is woken by its bell, for a record and for a nudge",
         .setup = setup_bell,
         .thread_count = 3,
         .threads = {sends_one, nudges_once, receives_by_bell},
         .check = all_came,
         .preemptions = 3,
         .stale_reads = 2},
    };
    for (unsigned i = 0; i < sizeof stories / sizeof stories[0]; i++)
        model_explore(&stories[i]);
    return 0;
}
