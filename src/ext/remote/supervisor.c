/* supervisor: what others call; the work is done by keepers, threads of supervisor_keeper.c, where it says who may touch
 * what. Here: a supervisor's life, waiting for verdicts, and what is told of it.
 *
 * A supervisor is freed when its keepers have ended and nobody waits in it any more (`inside`): who waits in
 * supervisor_replace while another thread stops it gets -ECANCELED and is out before. */
#include "ext/remote/supervisor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "ext/remote/spare.h"
#include "ext/remote/supervisor_internal.h"

static struct {
    pthread_mutex_t lock; /* before a supervisor's own */
    struct supervisor *first;
    bool is_over; /* supervisor_end_all */
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

const char *supervisor_state_name(enum supervisor_state state) {
    static const char *const names[] = {"starting", "up", "restarting", "down", "stopping"};
    return names[state];
}

void supervisor_set_state_locked(struct supervisor *supervisor, enum supervisor_state state) {
    supervisor->state = state;
    stat_set(supervisor->stats.state, state);
    if (state != SUPERVISOR_UP)
        supervisor->up_since_ns = 0;
}

/* ---- its life ---- */

static void make_stats(struct supervisor *supervisor) {
    const struct stat_place table[] = {
        {&supervisor->stats.restarts, STAT_COUNTER, "restarts"},
        {&supervisor->stats.crashes, STAT_COUNTER, "crashes"},
        {&supervisor->stats.hangs, STAT_COUNTER, "hangs"},
        {&supervisor->stats.spares_used, STAT_COUNTER, "spares_used"},
        {&supervisor->stats.lines_left_out, STAT_COUNTER, "output_lines_left_out"},
        {&supervisor->stats.state, STAT_GAUGE, "state"},
        {&supervisor->stats.time_to_up, STAT_HISTOGRAM, "time_to_up"},
    };
    stats_get_table(table, sizeof(table) / sizeof(table[0]), supervisor->options.stat_prefix,
                    "library", span_of(supervisor->library));
}

static int init_locks(struct supervisor *supervisor) {
    pthread_condattr_t attributes;
    int err = pthread_condattr_init(&attributes);
    if (err)
        return -err;
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); /* it is there */
    err = pthread_cond_init(&supervisor->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_mutex_init(&supervisor->lock, NULL); /* with these attributes it cannot fail */
    (void)pthread_mutex_init(&supervisor->telling, NULL);
    return -err;
}

static void add_to_registry_locked(struct supervisor *supervisor) {
    struct supervisor **last = &registry.first;
    while (*last)
        last = &(*last)->next;
    *last = supervisor;
}

/* True: it was the last one. */
static bool remove_from_registry(struct supervisor *supervisor) {
    pthread_mutex_lock(&registry.lock);
    struct supervisor **at = &registry.first;
    while (*at && *at != supervisor)
        at = &(*at)->next;
    if (*at)
        *at = supervisor->next;
    bool was_last = !registry.first;
    pthread_mutex_unlock(&registry.lock);
    return was_last;
}

static void free_supervisor(struct supervisor *supervisor) {
    for (unsigned i = 0; i < SUPERVISOR_GENERATIONS_MAX; i++)
        if (supervisor->keepers[i].wake >= 0)
            (void)close(supervisor->keepers[i].wake); /* it holds a number that nobody reads */
    (void)pthread_cond_destroy(&supervisor->changed);
    (void)pthread_mutex_destroy(&supervisor->lock);
    (void)pthread_mutex_destroy(&supervisor->telling);
    free(supervisor->library);
    free(supervisor);
}

static int start_first(struct supervisor *supervisor, void *version) {
    pthread_mutex_lock(&supervisor->lock);
    int err = keeper_start_locked(supervisor->current, KEEPER_CURRENT, version, &supervisor->first);
    pthread_mutex_unlock(&supervisor->lock);
    return err;
}

int supervisor_start(const struct supervisor_options *options, void *version,
                     struct supervisor **out) {
    struct supervisor *supervisor = calloc(1, sizeof(*supervisor));
    char *library = strndup(options->library.ptr, options->library.len);
    int err = supervisor && library ? init_locks(supervisor) : -ENOMEM;
    if (err) {
        free(library);
        free(supervisor);
        return err;
    }
    supervisor->options = *options;
    supervisor->library = library;
    supervisor->options.library = span_of(library);
    for (unsigned i = 0; i < SUPERVISOR_GENERATIONS_MAX; i++)
        supervisor->keepers[i] = (struct keeper){.supervisor = supervisor, .wake = -1};
    int64_t now_ns = clock_mono_ns();
    restart_policy_init(&supervisor->policy, &options->restarts,
                        (uint64_t)now_ns ^ (uint64_t)(uintptr_t)supervisor ^ (uint64_t)getpid());
    make_stats(supervisor);
    supervisor_set_state_locked(supervisor, SUPERVISOR_STARTING); /* nobody else knows it */
    supervisor->current = &supervisor->keepers[0];
    supervisor->first.why = supervisor->first_why;
    pthread_mutex_lock(&registry.lock);
    err = registry.is_over ? -ECANCELED : start_first(supervisor, version);
    if (!err)
        add_to_registry_locked(supervisor);
    pthread_mutex_unlock(&registry.lock);
    if (err)
        free_supervisor(supervisor);
    else
        *out = supervisor;
    return err;
}

/* ---- its end ---- */

static void enter_locked(struct supervisor *supervisor) {
    supervisor->inside++;
}

static void leave_locked(struct supervisor *supervisor) {
    if (--supervisor->inside == 0)
        pthread_cond_broadcast(&supervisor->changed);
}

/* The thread of one that is over has nothing left to do. */
static void join_locked(struct keeper *keeper) {
    (void)pthread_join(keeper->thread, NULL); /* once: it is free now */
    keeper->role = KEEPER_FREE;
}

static void begin_stop_locked(struct supervisor *supervisor) {
    supervisor->stopping = true;
    supervisor_set_state_locked(supervisor, SUPERVISOR_STOPPING);
    for (unsigned i = 0; i < SUPERVISOR_GENERATIONS_MAX; i++) {
        struct keeper *keeper = &supervisor->keepers[i];
        if (keeper->host && !keeper->is_up)
            ext_host_kill(keeper->host); /* whatever it is told takes no time any more */
        if (keeper->role != KEEPER_FREE)
            keeper_wake(keeper);
    }
    pthread_cond_broadcast(&supervisor->changed);
}

/* Gives the lock up meanwhile. */
static void await_keepers_locked(struct supervisor *supervisor) {
    for (unsigned i = 0; i < SUPERVISOR_GENERATIONS_MAX; i++) {
        struct keeper *keeper = &supervisor->keepers[i];
        while (keeper->role != KEEPER_FREE && keeper->role != KEEPER_OVER)
            pthread_cond_wait(&supervisor->changed, &supervisor->lock);
        if (keeper->role == KEEPER_OVER)
            join_locked(keeper);
    }
}

void supervisor_stop(struct supervisor *supervisor) {
    if (!supervisor)
        return;
    bool was_last = remove_from_registry(supervisor);
    pthread_mutex_lock(&supervisor->lock);
    begin_stop_locked(supervisor);
    await_keepers_locked(supervisor);
    while (supervisor->inside)
        pthread_cond_wait(&supervisor->changed, &supervisor->lock);
    pthread_mutex_unlock(&supervisor->lock);
    free_supervisor(supervisor);
    if (was_last)
        spare_end();
}

/* The first one whose processes may still be there; it is not freed until leave_locked. NULL: none. */
static struct supervisor *enter_next_to_end(void) {
    pthread_mutex_lock(&registry.lock);
    struct supervisor *at = registry.first;
    while (at && at->is_awaited)
        at = at->next;
    if (at) {
        at->is_awaited = true;
        pthread_mutex_lock(&at->lock);
        enter_locked(at);
        pthread_mutex_unlock(&at->lock);
    }
    pthread_mutex_unlock(&registry.lock);
    return at;
}

void supervisor_end_all(void) {
    pthread_mutex_lock(&registry.lock);
    registry.is_over = true;
    for (struct supervisor *at = registry.first; at; at = at->next) {
        pthread_mutex_lock(&at->lock);
        begin_stop_locked(at);
        pthread_mutex_unlock(&at->lock);
    }
    pthread_mutex_unlock(&registry.lock);
    for (struct supervisor *at; (at = enter_next_to_end());) {
        pthread_mutex_lock(&at->lock);
        await_keepers_locked(at);
        leave_locked(at);
        pthread_mutex_unlock(&at->lock);
    }
    spare_end();
}

/* ---- waiting for it ---- */

/* False: the time is over. */
static bool wait_locked(struct supervisor *supervisor, int64_t deadline_ns) {
    const struct timespec at = {.tv_sec = deadline_ns / NS_PER_S,
                                .tv_nsec = deadline_ns % NS_PER_S};
    return pthread_cond_timedwait(&supervisor->changed, &supervisor->lock, &at) != ETIMEDOUT;
}

int supervisor_await_up(struct supervisor *supervisor, int64_t deadline_ns, char *why) {
    const struct supervisor_verdict *first = &supervisor->first;
    pthread_mutex_lock(&supervisor->lock);
    enter_locked(supervisor);
    int err = 0;
    while (!supervisor->first_came_up && !first->is_given && !err)
        if (!wait_locked(supervisor, deadline_ns))
            err = -ETIMEDOUT;
    if (err)
        (void)snprintf(why, SUPERVISOR_WHY_MAX, "is not ready yet");
    else if (first->is_given) {
        /* Also when another attempt has come up meanwhile: who is quicker decides nothing. */
        err = first->result;
        (void)snprintf(why, SUPERVISOR_WHY_MAX, "%s", first->why);
    }
    leave_locked(supervisor);
    pthread_mutex_unlock(&supervisor->lock);
    return err;
}

/* generation 0: the current one. NULL: it is not up. */
static struct keeper *find_up_locked(struct supervisor *supervisor, uint64_t generation) {
    if (!generation)
        return supervisor->current->is_up ? supervisor->current : NULL;
    for (unsigned i = 0; i < SUPERVISOR_GENERATIONS_MAX; i++) {
        struct keeper *keeper = &supervisor->keepers[i];
        if (keeper->is_up &&
            atomic_load_explicit(&keeper->generation, memory_order_relaxed) == generation)
            return keeper;
    }
    return NULL;
}

static bool ended_by_itself_locked(const struct supervisor *supervisor, uint64_t generation) {
    return generation && supervisor->ended.generation == generation &&
           !supervisor->ended.was_killed;
}

/* Whether there is anything to wait for. */
static bool comes_back_locked(const struct supervisor *supervisor, int64_t deadline_ns) {
    if (supervisor->stopping || supervisor->state == SUPERVISOR_DOWN)
        return false;
    return supervisor->state != SUPERVISOR_RESTARTING || supervisor->next_try_ns < deadline_ns;
}

int supervisor_await_restart(struct supervisor *supervisor, uint64_t lost, int64_t patience_ns) {
    int64_t began_ns = clock_mono_ns();
    int err = 0;
    pthread_mutex_lock(&supervisor->lock);
    enter_locked(supervisor);
    while (!err) {
        const struct keeper *up = find_up_locked(supervisor, 0);
        int64_t deadline_ns = (up ? began_ns : supervisor->lost_ns) + patience_ns;
        if (ended_by_itself_locked(supervisor, lost))
            err = -EPIPE;
        else if (up && atomic_load_explicit(&up->generation, memory_order_relaxed) != lost)
            break;
        else if (!comes_back_locked(supervisor, deadline_ns))
            err = -EPIPE;
        else if (!wait_locked(supervisor, deadline_ns))
            err = -ETIMEDOUT;
    }
    leave_locked(supervisor);
    pthread_mutex_unlock(&supervisor->lock);
    return err;
}

/* One that nobody uses. */
static struct keeper *find_free_locked(struct supervisor *supervisor) {
    for (unsigned i = 0; i < SUPERVISOR_GENERATIONS_MAX; i++) {
        struct keeper *keeper = &supervisor->keepers[i];
        if (keeper->role == KEEPER_OVER)
            join_locked(keeper);
        if (keeper->role == KEEPER_FREE)
            return keeper;
    }
    return NULL;
}

static int replace_locked(struct supervisor *supervisor, void *version, bool is_trial,
                          uint64_t *generation, char *why) {
    if (supervisor->stopping) {
        (void)snprintf(why, SUPERVISOR_WHY_MAX, "it is stopped");
        return -ECANCELED;
    }
    if (supervisor->candidate) {
        (void)snprintf(why, SUPERVISOR_WHY_MAX, "another replacement is under way");
        return -EBUSY;
    }
    struct keeper *keeper = find_free_locked(supervisor);
    if (!keeper) {
        (void)snprintf(why, SUPERVISOR_WHY_MAX, "too many older versions still have requests");
        return -EBUSY;
    }
    struct supervisor_verdict verdict = {.why = why};
    keeper->is_trial = is_trial;
    /* borrow-ok: the keeper forgets it when it has given its verdict, which is waited for here. */
    int err = keeper_start_locked(keeper, KEEPER_CANDIDATE, version, &verdict);
    if (err) {
        (void)snprintf(why, SUPERVISOR_WHY_MAX, "no thread for it: %s", strerror(-err));
        return err;
    }
    supervisor->candidate = keeper;
    while (!verdict.is_given)
        pthread_cond_wait(&supervisor->changed, &supervisor->lock);
    if (!verdict.result)
        *generation = verdict.generation;
    return verdict.result;
}

static int replace(struct supervisor *supervisor, void *version, bool is_trial,
                   uint64_t *generation, char *why) {
    pthread_mutex_lock(&supervisor->lock);
    enter_locked(supervisor);
    int err = replace_locked(supervisor, version, is_trial, generation, why);
    leave_locked(supervisor);
    pthread_mutex_unlock(&supervisor->lock);
    return err;
}

int supervisor_replace(struct supervisor *supervisor, void *version, char *why) {
    uint64_t generation;
    return replace(supervisor, version, false, &generation, why);
}

int supervisor_try(struct supervisor *supervisor, void *version, uint64_t *generation, char *why) {
    return replace(supervisor, version, true, generation, why);
}

int supervisor_call(struct supervisor *supervisor, uint64_t generation,
                    int (*fn)(void *arg, struct ext_host *host, uint64_t generation), void *arg) {
    struct supervisor_errand errand = {.fn = fn, .arg = arg, .result = -EPIPE};
    pthread_mutex_lock(&supervisor->lock);
    enter_locked(supervisor);
    struct keeper *keeper = supervisor->stopping ? NULL : find_up_locked(supervisor, generation);
    if (keeper) {
        struct supervisor_errand **last = &keeper->errands;
        while (*last)
            last = &(*last)->next;
        *last = &errand;
        keeper_wake(keeper);
        while (!errand.is_done)
            pthread_cond_wait(&supervisor->changed, &supervisor->lock);
    }
    leave_locked(supervisor);
    pthread_mutex_unlock(&supervisor->lock);
    return errand.result;
}

int supervisor_promote(struct supervisor *supervisor, uint64_t generation) {
    pthread_mutex_lock(&supervisor->lock);
    struct keeper *keeper = find_up_locked(supervisor, generation);
    pthread_mutex_unlock(&supervisor->lock);
    return keeper ? supervisor_call(supervisor, generation, keeper_promote, keeper) : -EPIPE;
}

void supervisor_withdraw(struct supervisor *supervisor, uint64_t generation) {
    pthread_mutex_lock(&supervisor->lock);
    struct keeper *keeper = find_up_locked(supervisor, generation);
    if (keeper && keeper->role == KEEPER_ON_TRIAL) {
        keeper->role = KEEPER_REPLACED;
        keeper->drain_until_ns = clock_mono_ns() + supervisor->options.drain_ns;
        keeper_wake(keeper);
    }
    pthread_mutex_unlock(&supervisor->lock);
}

/* ---- without waiting ---- */

static struct keeper *find_generation(struct supervisor *supervisor, uint64_t generation) {
    for (unsigned i = 0; i < SUPERVISOR_GENERATIONS_MAX; i++) {
        struct keeper *keeper = &supervisor->keepers[i];
        if (atomic_load_explicit(&keeper->generation, memory_order_acquire) == generation)
            return keeper;
    }
    return NULL;
}

void supervisor_stuck(struct supervisor *supervisor, uint64_t generation,
                      const char *why BORROWED_BY(program)) {
    struct keeper *keeper = generation ? find_generation(supervisor, generation) : NULL;
    if (!keeper)
        return;
    atomic_store_explicit(&keeper->stuck_why, why, memory_order_relaxed);
    atomic_store_explicit(&keeper->stuck, generation, memory_order_release);
    keeper_wake(keeper);
}

void supervisor_retire(struct supervisor *supervisor, uint64_t generation) {
    struct keeper *keeper = generation ? find_generation(supervisor, generation) : NULL;
    if (!keeper)
        return;
    atomic_store_explicit(&keeper->retired, generation, memory_order_release);
    keeper_wake(keeper);
}

bool supervisor_is_traced(struct supervisor *supervisor, uint64_t generation) {
    pthread_mutex_lock(&supervisor->lock); /* a process that others may look at is not reaped */
    const struct keeper *keeper = find_up_locked(supervisor, generation);
    bool it_is = keeper && keeper->host && ext_host_is_traced(keeper->host);
    pthread_mutex_unlock(&supervisor->lock);
    return it_is;
}

void supervisor_status(struct supervisor *supervisor, struct supervisor_status *out) {
    pthread_mutex_lock(&supervisor->lock);
    const struct keeper *current = supervisor->current;
    *out = (struct supervisor_status){
        .library = supervisor->library,
        .state = supervisor->state,
        .generation = atomic_load_explicit(&current->generation, memory_order_relaxed),
        .pid = current->host ? ext_host_pid(current->host) : 0,
        .restarts = supervisor->restarts,
        .crashes = supervisor->crashes,
        .hangs = supervisor->hangs,
        .spares_used = supervisor->spares_used,
        .failures_lately = restart_policy_failures(&supervisor->policy, clock_mono_ns()),
        .up_since_ns = supervisor->up_since_ns,
        .next_try_ns = supervisor->next_try_ns == INT64_MAX ? 0 : supervisor->next_try_ns,
        .time_to_up_ns = supervisor->time_to_up_ns,
    };
    memcpy(out->last_cause, supervisor->last_cause, sizeof(out->last_cause));
    for (unsigned i = 0; i < SUPERVISOR_GENERATIONS_MAX; i++)
        out->draining +=
            supervisor->keepers[i].role == KEEPER_REPLACED && supervisor->keepers[i].host;
    pthread_mutex_unlock(&supervisor->lock);
}

void supervisor_each(void (*fn)(void *arg, const struct supervisor_status *status), void *arg) {
    pthread_mutex_lock(&registry.lock);
    for (struct supervisor *at = registry.first; at; at = at->next) {
        struct supervisor_status status;
        supervisor_status(at, &status);
        fn(arg, &status);
    }
    pthread_mutex_unlock(&registry.lock);
}
