/* cycles: a thread that closes one every HEAP_CYCLE_NS.
 *
 * It sleeps as long as nothing is sampled; then the cycle of now becomes longer, and the first reader
 * who finds it overdue closes it, as in the child of a fork, where the thread is not.
 *
 *   C1  Who closes has its turn: one at a time, and until the function that is told has returned.
 *   C2  `lock` is held while the states of sites are written or read, and never while somebody is told.
 *   C3  C1 before C2. A reader may be the function that is told, so it only tries to get a turn.
 * Rejected  sysmon's hook: the profile would end when the runtime does, and what is told may take long. */
#include "heap/cycles.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

#include "heap/sampler.h"
#include "rt/thread.h"

static struct {
    pthread_mutex_t turn, lock;
    /* Guarded by lock. */
    struct cycle kept[2]; /* by parity */
    struct cycle current; /* as far as it is known */
    int64_t due_ns;       /* clock_mono_ns */
    heap_cycle_fn fn;
    void *arg;
    /* The thread's, guarded by sleep. */
    pthread_mutex_t sleep;
    pthread_cond_t wake;
    bool has_thread;
} cycles = {
    .turn = PTHREAD_MUTEX_INITIALIZER,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .sleep = PTHREAD_MUTEX_INITIALIZER,
};

void cycles_lock(void) {
    pthread_mutex_lock(&cycles.lock);
}

void cycles_unlock(void) {
    pthread_mutex_unlock(&cycles.lock);
}

static void init_wake(void) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&cycles.wake, &attr);
    pthread_condattr_destroy(&attr);
}

void cycles_begin(void) {
    init_wake();
    cycles.current.began_ns = clock_wall_ns();
    cycles.due_ns = clock_mono_ns() + HEAP_CYCLE_NS;
}

const struct cycle *cycles_last_locked(void) {
    return &cycles.kept[cycles.current.sites.cycle & 1];
}

const struct cycle *cycles_get_locked(uint64_t number) {
    const struct cycle *cycle = &cycles.kept[number & 1];
    return number > 0 && cycle->sites.cycle == number ? cycle : NULL;
}

/* ---- Closing ---- */

static struct heap_totals close_in_turn(void) {
    cycles_lock();
    struct cycle *cycle = &cycles.current;
    sites_close(&cycle->sites);
    cycle->closed_ns = clock_wall_ns();
    cycles.kept[cycle->sites.cycle & 1] = *cycle;
    cycle->began_ns = cycle->closed_ns;
    cycles.due_ns = clock_mono_ns() + HEAP_CYCLE_NS;
    struct heap_totals totals = {
        .cycle = cycle->sites.cycle,
        .live = site_told(cycle->sites.live),
        .allocated_in_cycle = site_told(cycle->sites.in_cycle),
    };
    heap_cycle_fn fn = cycles.fn;
    void *arg = cycles.arg;
    cycles_unlock();
    (void)sampler_poke();
    if (fn)
        fn(arg, &totals);
    return totals;
}

struct heap_totals heap_profile_close_cycle(void) {
    pthread_mutex_lock(&cycles.turn);
    struct heap_totals totals = close_in_turn();
    pthread_mutex_unlock(&cycles.turn);
    return totals;
}

static int64_t due_ns(void) {
    cycles_lock();
    int64_t due = cycles.due_ns;
    cycles_unlock();
    return due;
}

static void close_overdue_in_turn(void) {
    if (clock_mono_ns() >= due_ns())
        (void)close_in_turn();
    pthread_mutex_unlock(&cycles.turn);
}

void cycles_close_overdue(void) {
    if (clock_mono_ns() >= due_ns() && pthread_mutex_trylock(&cycles.turn) == 0) /* C3 */
        close_overdue_in_turn();
}

void heap_profile_on_cycle(heap_cycle_fn fn, void *arg) {
    cycles_lock();
    cycles.fn = fn;
    cycles.arg = arg;
    cycles_unlock();
}

/* ---- The thread ---- */

static void await_due(void) {
    int64_t due = due_ns();
    const struct timespec until = {.tv_sec = due / NS_PER_S, .tv_nsec = due % NS_PER_S};
    pthread_mutex_lock(&cycles.sleep);
    int rc = 0;
    while (rc == 0 && clock_mono_ns() < due)
        rc = pthread_cond_timedwait(&cycles.wake, &cycles.sleep, &until);
    pthread_mutex_unlock(&cycles.sleep);
}

static void await_rate(void) {
    pthread_mutex_lock(&cycles.sleep);
    while (sampler_rate() == 0)
        pthread_cond_wait(&cycles.wake, &cycles.sleep);
    pthread_mutex_unlock(&cycles.sleep);
}

static void *run_cycles(void *arg) {
    for (;;) {
        uint64_t former_rate = sampler_rate();
        await_due();
        pthread_mutex_lock(&cycles.turn); /* who has it may be long in telling somebody */
        close_overdue_in_turn();
        /* Threads that were told to stop are told once more, then nobody is woken for nothing. */
        if (former_rate == 0)
            await_rate();
    }
    return NULL;
}

int cycles_run(void) {
    sigset_t all, former;
    sigfillset(&all); /* signals are for the runtime's threads */
    pthread_mutex_lock(&cycles.sleep);
    int rc = 0;
    if (!cycles.has_thread) {
        pthread_sigmask(SIG_SETMASK, &all, &former);
        rc = thread_start(run_cycles, NULL);
        pthread_sigmask(SIG_SETMASK, &former, NULL);
        cycles.has_thread = rc == 0;
    }
    pthread_cond_signal(&cycles.wake);
    pthread_mutex_unlock(&cycles.sleep);
    return rc;
}

/* ---- Forks ---- */

void cycles_forked(void) {
    /* Held by threads that are not in this process, or by nobody. */
    pthread_mutex_init(&cycles.turn, NULL);
    pthread_mutex_init(&cycles.sleep, NULL);
    init_wake();
    cycles.has_thread = false;
    cycles_unlock();
}
