/* supervisor_keeper: the thread of one version, which has one process of it after the other:
 *
 *     ┌► attempt: a process ── prepare ──► up ── watch ──► end it, reap it ──► lost ─┐
 *     │               └─ failed: end it, reap it ─────────────────────────────────┐  │
 *     │                                                                           ▼  ▼
 *     └────────────── its delay is over ◄── CURRENT: wait ◄────────────────── the role decides
 *                                                                  CANDIDATE, REPLACED, stopping: over
 *
 * A replacement is another keeper (CANDIDATE), whose `up` makes it CURRENT and the one that was REPLACED; between them it may be
 * ON_TRIAL, from where it becomes CURRENT by an errand on its thread, or REPLACED itself. So a version
 * belongs to one keeper, and is given back by it as its last act.
 *
 * Who touches what
 *   its thread   everything of the process: ext_host wants one thread at a time. keeper.output.
 *   the lock     roles, flags, and keeper.host, by which others may kill a process that is being prepared: it is
 *                NULL before the process is reaped, so the number is never another's.
 *   atomics      supervisor_stuck and supervisor_retire are called from coroutines, so they take no lock: they find the keeper by
 *                its generation, leave the generation in `stuck` or `retired`, and wake it. A keeper that has a newer one by
 *                then finds a number that is not its own, and does nothing.
 *
 * Order  keeper.wake is written before `generation` is released, and stuck_why before `stuck`; who reads acquires the latter.
 *        Two who call at once may leave one's reason with the other's report: both are true.
 * Locks  telling before lock. Callbacks are called under telling alone, so they may call whatever takes lock.
 *
 * Errands  What others want said to a process that is up is said, and its answer waited for, on this thread. Meanwhile it hears of
 *          supervisor_stuck alone, by an interrupt of its call (ext_host.h): a process whose callback does not return may well
 *          not answer either, and nobody is to wait for longer than that callback may take.
 *
 * Rejected  One thread for all libraries: a library that is loaded (10 s are allowed) or made to dump (3 s) would hide that another one
 *           has crashed, whose requests wait for the news. One per library: likewise of the one that is being
 *           replaced, whose output would also stop it once the pipe is full. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "ext/host/ext_host_cause.h"
#include "ext/remote/spare.h"
#include "ext/remote/supervisor_internal.h"

/* How one process came to its end. */
struct ending {
    enum supervisor_loss loss;
    enum ext_host_ending how;
    const char *stuck_why; /* of supervisor_stuck, or NULL */
    int64_t stuck_ms;      /* of a call to it that timed out, or 0 */
    char *cause;           /* owned; NULL: what it printed tells */
    bool is_ours;          /* it was well, but of no use */
};

static bool is_wished(const struct ending *ending) {
    return ending->loss == SUPERVISOR_RETIRED || ending->loss == SUPERVISOR_STOPPED;
}

void keeper_wake(struct keeper *keeper) {
    const uint64_t one = 1;
    (void)!write(keeper->wake, &one, sizeof(one)); /* full: it is awake */
}

static void count(const struct statistic *stat, uint64_t n) {
    stat_add(stat, STATS_SHARD_FOREIGN, (int64_t)n);
}

/* ---- its output and its end ---- */

static void on_output(void *arg, struct span bytes) {
    supervisor_output_take(arg, bytes, clock_mono_ns());
}

static void end_output(struct keeper *keeper) {
    supervisor_output_end(&keeper->output, clock_mono_ns());
    count(keeper->supervisor->stats.lines_left_out, keeper->output.left_out_in_all);
    keeper->output.left_out_in_all = 0;
}

/* What ended it, out of what it printed. Owned; NULL when memory is short. */
static char *find_cause(struct ext_host *host, const struct ending *ending) {
    int64_t stuck_ms = ending->stuck_why ? 1 : ending->stuck_ms;
    char *cause = ext_host_cause(ext_host_output(host), ext_host_status(host), stuck_ms);
    if (!cause || !ending->stuck_why)
        return cause;
    char *text;
    if (asprintf(&text, "hung in %s%s", ending->stuck_why, strchrnul(cause, '\n')) < 0)
        text = NULL;
    free(cause);
    return text;
}

/* Of the current one, for who waits for the next. */
static void note_end(struct keeper *keeper, const struct ext_host *host,
                     const struct ending *ending) {
    struct supervisor *supervisor = keeper->supervisor;
    int status = ext_host_status(host);
    pthread_mutex_lock(&supervisor->lock);
    if (supervisor->current == keeper) {
        supervisor->ended.generation =
            atomic_load_explicit(&keeper->generation, memory_order_relaxed);
        supervisor->ended.was_killed =
            ending->how == EXT_HOST_ASK && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        pthread_cond_broadcast(&supervisor->changed);
    }
    pthread_mutex_unlock(&supervisor->lock);
}

/* Ends and reaps it, and finds out why if nobody wanted that. */
static void end_process(struct keeper *keeper, struct ext_host *host, struct ending *ending) {
    struct supervisor *supervisor = keeper->supervisor;
    pthread_mutex_lock(&supervisor->lock);
    keeper->host = NULL;
    pthread_mutex_unlock(&supervisor->lock);
    ext_host_end(host, ending->how);
    note_end(keeper, host, ending);
    end_output(keeper);
    if (!is_wished(ending) && !ending->cause)
        ending->cause = find_cause(host, ending);
    ext_host_free(host);
}

/* A call to it failed: how it is ended, and what for. what: "was not made ready". */
static void judge(const struct keeper *keeper, int err, const char *what, const char *why,
                  int64_t began_ns, struct ending *ending) {
    ending->loss = SUPERVISOR_CRASHED;
    ending->how = EXT_HOST_ASK;
    if (err == -ETIMEDOUT) {
        ending->loss = SUPERVISOR_HUNG;
        ending->how = keeper->supervisor->options.when_stuck;
        ending->stuck_ms = (clock_mono_ns() - began_ns) / NS_PER_MS + 1;
    } else if (err != -EPIPE) {
        ending->how = EXT_HOST_KILL;
        ending->is_ours = true;
        if (asprintf(&ending->cause, "%s: %s", what, *why ? why : strerror(-err)) < 0)
            ending->cause = NULL;
    }
}

/* ---- news ---- */

/* "A | B | C" of lines that are indented. */
static void join_lines(char *out, size_t size, const char *lines) {
    size_t len = 0;
    for (const char *at = lines; *at && len + 4 < size;) {
        if (*at != '\n') {
            out[len++] = *at++;
            continue;
        }
        at += strspn(at, "\n ");
        memcpy(out + len, " | ", 3);
        len += 3;
    }
    out[len] = '\0';
}

/* What comes next, in words. Under the lock. */
static void put_plan_locked(const struct supervisor *supervisor, const struct keeper *keeper,
                            int64_t now_ns, char *out, size_t size) {
    double wait_s = (double)(supervisor->next_try_ns - now_ns) / NS_PER_S;
    if (keeper->role == KEEPER_ON_TRIAL)
        (void)snprintf(out, size, "it was on trial, and is not started again");
    else if (keeper->role == KEEPER_CANDIDATE)
        (void)snprintf(out, size, "it does not replace the one that is there");
    else if (supervisor->stopping || keeper->role != KEEPER_CURRENT)
        (void)snprintf(out, size, "it is not started again, as it was replaced");
    else if (supervisor->state == SUPERVISOR_DOWN && supervisor->next_try_ns == INT64_MAX)
        (void)snprintf(out, size, "it failed too often, and stays down until it is loaded again");
    else if (supervisor->state == SUPERVISOR_DOWN)
        (void)snprintf(out, size, "it failed too often, and is tried again in %.3g s", wait_s);
    else if (wait_s <= 0)
        (void)snprintf(out, size, "it is started again");
    else
        (void)snprintf(out, size, "it is started again in %.3g s", wait_s);
}

/* A process, or the attempt to have one, failed. */
static void note_failure(struct keeper *keeper, const struct ending *ending, pid_t pid) {
    struct supervisor *supervisor = keeper->supervisor;
    const char *cause = ending->cause ? ending->cause : "ended";
    char line[2048], plan[128];
    pthread_mutex_lock(&supervisor->lock);
    int64_t now_ns = clock_mono_ns();
    if (keeper->role == KEEPER_CURRENT && !supervisor->stopping) {
        supervisor->next_try_ns = restart_policy_failed(&supervisor->policy, now_ns);
        supervisor_set_state_locked(supervisor, restart_policy_is_open(&supervisor->policy)
                                                    ? SUPERVISOR_DOWN
                                                    : SUPERVISOR_RESTARTING);
        pthread_cond_broadcast(&supervisor->changed);
    }
    if (pid && ending->loss == SUPERVISOR_HUNG) {
        supervisor->hangs++;
        count(supervisor->stats.hangs, 1);
    } else if (pid && !ending->is_ours) {
        supervisor->crashes++;
        count(supervisor->stats.crashes, 1);
    }
    (void)snprintf(supervisor->last_cause, sizeof(supervisor->last_cause), "%.*s",
                   (int)strcspn(cause, "\n"), cause);
    put_plan_locked(supervisor, keeper, now_ns, plan, sizeof(plan));
    pthread_mutex_unlock(&supervisor->lock);
    join_lines(line, sizeof(line), cause);
    if (pid)
        LOG(log_isolation, LOG_ERROR, "%s: its process %d %s; %s", supervisor->library, (int)pid,
            line, plan);
    else
        LOG(log_isolation, LOG_ERROR, "%s: no process: %s; %s", supervisor->library, line, plan);
}

static void give_verdict_locked(struct keeper *keeper, int result, const char *why) {
    struct supervisor_verdict *verdict = keeper->verdict;
    if (!verdict)
        return;
    (void)snprintf(verdict->why, SUPERVISOR_WHY_MAX, "%s", why);
    verdict->result = result;
    verdict->generation = atomic_load_explicit(&keeper->generation, memory_order_relaxed);
    verdict->is_given = true; /* it may be gone once the lock is */
    keeper->verdict = NULL;
    pthread_cond_broadcast(&keeper->supervisor->changed);
}

/* ---- up ---- */

/* Under `telling`, with which alone one is replaced. */
static bool came_too_late(struct keeper *keeper) {
    pthread_mutex_lock(&keeper->supervisor->lock);
    bool it_is = keeper->role == KEEPER_REPLACED;
    pthread_mutex_unlock(&keeper->supervisor->lock);
    return it_is;
}

/* Who was current goes. Under both locks. */
static void replace_current_locked(struct keeper *keeper, int64_t now_ns) {
    struct supervisor *supervisor = keeper->supervisor;
    struct keeper *old = supervisor->current;
    if (old && old->role == KEEPER_CURRENT) {
        old->role = KEEPER_REPLACED;
        old->drain_until_ns = now_ns + supervisor->options.drain_ns;
        if (old->host && !old->is_up)
            ext_host_kill(old->host); /* it was being started again, for nothing */
        keeper_wake(old);
    }
    keeper->role = KEEPER_CURRENT;
    supervisor->current = keeper;
    restart_policy_reset(&supervisor->policy); /* what failed was another version */
}

static void note_up_locked(struct keeper *keeper, int64_t now_ns) {
    struct supervisor *supervisor = keeper->supervisor;
    if (supervisor->current == keeper && !supervisor->stopping) {
        supervisor->up_since_ns = now_ns;
        supervisor->next_try_ns = 0;
        supervisor_set_state_locked(supervisor, SUPERVISOR_UP);
    }
}

int keeper_promote(void *arg, struct ext_host *host, uint64_t generation) {
    struct keeper *keeper = arg;
    struct supervisor *supervisor = keeper->supervisor;
    int64_t now_ns = clock_mono_ns();
    pthread_mutex_lock(&supervisor->telling);
    pthread_mutex_lock(&supervisor->lock);
    bool is_on_trial = keeper->role == KEEPER_ON_TRIAL && !supervisor->stopping;
    pthread_mutex_unlock(&supervisor->lock);
    if (is_on_trial) {
        supervisor->options.user->up(supervisor->options.arg, keeper->version, generation);
        pthread_mutex_lock(&supervisor->lock);
        replace_current_locked(keeper, now_ns);
        note_up_locked(keeper, now_ns);
        pthread_cond_broadcast(&supervisor->changed);
        pthread_mutex_unlock(&supervisor->lock);
    }
    pthread_mutex_unlock(&supervisor->telling);
    return 0;
}

/* Nobody is told: who tries it out knows what to do. */
static void begin_trial_locked(struct keeper *keeper, int64_t began_ns) {
    struct supervisor *supervisor = keeper->supervisor;
    keeper->role = KEEPER_ON_TRIAL;
    supervisor->candidate = NULL;
    supervisor->time_to_up_ns = clock_mono_ns() - began_ns;
    give_verdict_locked(keeper, 0, "");
}

static void say_up(const struct keeper *keeper, uint64_t generation, int64_t began_ns) {
    LOG(log_isolation, LOG_INFO, "%s: generation %llu is up after %.1f ms",
        keeper->supervisor->library, (unsigned long long)generation,
        (double)(clock_mono_ns() - began_ns) / NS_PER_MS);
}

/* It may be told at last that it is up: who was current goes. False: another has come up while it was prepared, and is
 * current: exchanges that begin must not come here from there. */
static bool tell_up(struct keeper *keeper, uint64_t generation, int64_t began_ns) {
    struct supervisor *supervisor = keeper->supervisor;
    const struct supervisor_options *options = &supervisor->options;
    int64_t now_ns = clock_mono_ns();
    stat_record_us(supervisor->stats.time_to_up, STATS_SHARD_FOREIGN,
                   (uint64_t)(now_ns - began_ns) / NS_PER_US);
    pthread_mutex_lock(&supervisor->lock);
    keeper->is_up = true; /* who hears of it may have errands at once: they are run afterwards */
    bool is_trial = keeper->role == KEEPER_CANDIDATE && keeper->is_trial;
    if (is_trial)
        begin_trial_locked(keeper, began_ns);
    pthread_mutex_unlock(&supervisor->lock);
    if (is_trial) {
        say_up(keeper, generation, began_ns);
        return true;
    }
    pthread_mutex_lock(&supervisor->telling);
    if (came_too_late(keeper)) {
        pthread_mutex_unlock(&supervisor->telling);
        return false;
    }
    options->user->up(options->arg, keeper->version, generation);
    pthread_mutex_lock(&supervisor->lock);
    supervisor->time_to_up_ns = now_ns - began_ns;
    if (keeper->role == KEEPER_CANDIDATE) {
        replace_current_locked(keeper, now_ns);
        supervisor->candidate = NULL;
    } else if (keeper->role == KEEPER_CURRENT && supervisor->first_came_up) {
        supervisor->restarts++;
        count(supervisor->stats.restarts, 1);
    }
    supervisor->first_came_up = true;
    note_up_locked(keeper, now_ns);
    give_verdict_locked(keeper, 0, "");
    pthread_cond_broadcast(&supervisor->changed);
    pthread_mutex_unlock(&supervisor->lock);
    pthread_mutex_unlock(&supervisor->telling);
    say_up(keeper, generation, began_ns);
    return true;
}

static void tell_lost(struct keeper *keeper, uint64_t generation, const struct ending *ending) {
    const struct supervisor_options *options = &keeper->supervisor->options;
    struct span cause = ending->cause ? span_of(ending->cause) : SPAN_LIT("");
    pthread_mutex_lock(&keeper->supervisor->telling);
    options->user->lost(options->arg, keeper->version, generation, ending->loss, cause);
    pthread_mutex_unlock(&keeper->supervisor->telling);
}

/* ---- while it is up ---- */

/* False: it is stuck, and nobody looks into it. */
static bool is_excused(struct keeper *keeper, const struct ext_host *host, uint64_t generation) {
    const struct supervisor_options *options = &keeper->supervisor->options;
    if (!ext_host_is_traced(host))
        return false;
    LOG(log_isolation, LOG_WARN,
        "%s: %s takes longer than it may, but a debugger is attached to process %d: it may go on",
        keeper->supervisor->library, atomic_load_explicit(&keeper->stuck_why, memory_order_relaxed),
        (int)ext_host_pid(host));
    if (options->user->put_off)
        options->user->put_off(options->arg, keeper->version, generation);
    return true;
}

/* One process, while it is up. */
struct watched {
    struct keeper *keeper;
    struct ext_host *host;
    uint64_t generation;
    struct ending *ending;
    bool is_over; /* it was found stuck, or to have ended before that could be looked into */
};

static bool find_stuck(struct watched *it) {
    struct keeper *keeper = it->keeper;
    if (atomic_exchange_explicit(&keeper->stuck, 0, memory_order_acquire) != it->generation)
        return false;
    if (ext_host_poll(it->host, NULL, 0, 0) < 0) {
        it->is_over = true; /* that is why it did not answer */
    } else if (!is_excused(keeper, it->host, it->generation)) {
        it->is_over = true;
        it->ending->loss = SUPERVISOR_HUNG;
        it->ending->how = keeper->supervisor->options.when_stuck;
        it->ending->stuck_why = atomic_load_explicit(&keeper->stuck_why, memory_order_relaxed);
    }
    return it->is_over;
}

static void sleep_again(struct keeper *keeper) {
    uint64_t woken;
    (void)!read(keeper->wake, &woken, sizeof(woken)); /* nothing in it: the time is over */
}

/* While an errand waits for an answer. Other news are looked at when it is done. */
static bool gives_up(void *arg) {
    struct watched *it = arg;
    sleep_again(it->keeper);
    return find_stuck(it);
}

/* Runs what others want run here. One waits for what the process answers, which may be stuck in something else: then for no
 * longer than that is found out. False: the process is of no use any more. */
static bool run_errands(struct watched *it) {
    struct keeper *keeper = it->keeper;
    struct supervisor *supervisor = keeper->supervisor;
    bool is_good = true;
    pthread_mutex_lock(&supervisor->lock);
    while (is_good && keeper->errands) {
        struct supervisor_errand *errand = keeper->errands;
        keeper->errands = errand->next;
        pthread_mutex_unlock(&supervisor->lock);
        int64_t began_ns = clock_mono_ns();
        ext_host_set_interrupt(it->host, keeper->wake, gives_up, it);
        int result = errand->fn(errand->arg, it->host, it->generation);
        ext_host_set_interrupt(it->host, -1, NULL, NULL);
        keeper_wake(keeper); /* as gives_up may have taken what woke it for others */
        is_good = result >= 0 && !it->is_over;
        if (result < 0 && !it->is_over)
            judge(keeper, result, "was given up after a call", "", began_ns, it->ending);
        pthread_mutex_lock(&supervisor->lock);
        errand->result = result;
        errand->is_done = true;
        pthread_cond_broadcast(&supervisor->changed);
    }
    pthread_mutex_unlock(&supervisor->lock);
    return is_good;
}

static void refuse_errands_locked(struct keeper *keeper) {
    for (struct supervisor_errand *errand; (errand = keeper->errands);) {
        keeper->errands = errand->next;
        errand->result = -EPIPE;
        errand->is_done = true;
    }
    pthread_cond_broadcast(&keeper->supervisor->changed);
}

/* Why it has to end now. False: it goes on. */
static bool has_to_end(struct watched *it) {
    struct keeper *keeper = it->keeper;
    struct supervisor *supervisor = keeper->supervisor;
    pthread_mutex_lock(&supervisor->lock);
    bool stopping = supervisor->stopping;
    bool is_replaced = keeper->role == KEEPER_REPLACED;
    bool is_over = is_replaced && clock_mono_ns() >= keeper->drain_until_ns;
    pthread_mutex_unlock(&supervisor->lock);
    if (is_replaced &&
        atomic_load_explicit(&keeper->retired, memory_order_acquire) == it->generation)
        is_over = true;
    if (stopping || is_over) {
        it->ending->loss = stopping ? SUPERVISOR_STOPPED : SUPERVISOR_RETIRED;
        return true;
    }
    return find_stuck(it) || !run_errands(it);
}

/* Until it has to end, or did. */
static void watch(struct keeper *keeper, struct ext_host *host, uint64_t generation,
                  struct ending *ending) {
    struct watched it = {
        .keeper = keeper, .host = host, .generation = generation, .ending = ending};
    for (;;) {
        pthread_mutex_lock(&keeper->supervisor->lock);
        int64_t until_ns = keeper->role == KEEPER_REPLACED ? keeper->drain_until_ns : INT64_MAX;
        pthread_mutex_unlock(&keeper->supervisor->lock);
        struct pollfd wake = {.fd = keeper->wake, .events = POLLIN};
        if (ext_host_poll(host, &wake, 1, until_ns) < 0)
            return; /* as ending says already */
        sleep_again(keeper);
        if (has_to_end(&it))
            return;
    }
}

/* ---- one attempt ---- */

/* Others may kill it from now on. False: it is not wanted any more. */
static bool publish(struct keeper *keeper, struct ext_host *host, bool was_spare) {
    struct supervisor *supervisor = keeper->supervisor;
    pthread_mutex_lock(&supervisor->lock);
    bool is_wanted = !supervisor->stopping && keeper->role != KEEPER_REPLACED;
    keeper->host = host;
    supervisor->spares_used += was_spare;
    pthread_mutex_unlock(&supervisor->lock);
    count(supervisor->stats.spares_used, was_spare);
    return is_wanted;
}

/* Nothing of the version is touched after a candidate's verdict: the caller has it back. */
static void fail_attempt(struct keeper *keeper, const struct ending *ending, pid_t pid, int err) {
    struct supervisor *supervisor = keeper->supervisor;
    pthread_mutex_lock(&supervisor->lock);
    bool is_wanted = !supervisor->stopping && keeper->role != KEEPER_REPLACED;
    pthread_mutex_unlock(&supervisor->lock);
    if (is_wanted)
        note_failure(keeper, ending, pid);
    const char *cause = ending->cause ? ending->cause : "ended";
    pthread_mutex_lock(&supervisor->lock);
    if (supervisor->candidate == keeper)
        supervisor->candidate = NULL;
    give_verdict_locked(keeper, is_wanted ? err : -ECANCELED, is_wanted ? cause : "it is stopped");
    pthread_mutex_unlock(&supervisor->lock);
}

/* One generation, from its start to its end. */
static void attempt(struct keeper *keeper, uint64_t generation) {
    struct supervisor *supervisor = keeper->supervisor;
    const struct supervisor_options *options = &supervisor->options;
    struct ending ending = {.loss = SUPERVISOR_CRASHED, .how = EXT_HOST_ASK};
    int64_t began_ns = clock_mono_ns();
    struct ext_host *host;
    bool was_spare;
    char why[SUPERVISOR_WHY_MAX] = "";
    int err = spare_take(&host, &was_spare);
    if (err) {
        if (asprintf(&ending.cause, "cannot be started: %s", strerror(-err)) < 0)
            ending.cause = NULL;
        fail_attempt(keeper, &ending, 0, err);
        free(ending.cause);
        return;
    }
    pid_t pid = ext_host_pid(host);
    ext_host_set_output(host, on_output, &keeper->output);
    if (!publish(keeper, host, was_spare))
        err = -ECANCELED;
    else
        err = options->user->prepare(options->arg, keeper->version, host, generation, why);
    if (err) {
        judge(keeper, err, "was not made ready", why, began_ns, &ending);
        end_process(keeper, host, &ending);
        fail_attempt(keeper, &ending, pid, err);
        free(ending.cause);
        return;
    }
    bool is_current = tell_up(keeper, generation, began_ns);
    spare_want();
    if (is_current)
        watch(keeper, host, generation, &ending);
    else
        ending.loss = SUPERVISOR_RETIRED;
    if (is_wished(&ending) && options->user->farewell &&
        options->user->farewell(options->arg, keeper->version, host,
                                clock_mono_ns() + SUPERVISOR_FAREWELL_NS) != 0)
        ending.how = EXT_HOST_KILL;
    pthread_mutex_lock(&supervisor->lock);
    keeper->is_up = false;
    if (supervisor->current == keeper)
        supervisor->lost_ns = clock_mono_ns();
    refuse_errands_locked(keeper);
    pthread_mutex_unlock(&supervisor->lock);
    end_process(keeper, host, &ending);
    if (!is_wished(&ending))
        note_failure(keeper, &ending, pid);
    tell_lost(keeper, generation, &ending);
    free(ending.cause);
}

/* ---- the thread ---- */

/* Waits for the time of the next attempt. Under the lock. */
static void await_turn_locked(struct keeper *keeper) {
    struct supervisor *supervisor = keeper->supervisor;
    while (!supervisor->stopping && keeper->role == KEEPER_CURRENT) {
        int64_t at_ns = supervisor->next_try_ns;
        if (clock_mono_ns() >= at_ns)
            return;
        struct timespec at = {.tv_sec = at_ns / NS_PER_S, .tv_nsec = at_ns % NS_PER_S};
        if (at_ns == INT64_MAX)
            pthread_cond_wait(&supervisor->changed, &supervisor->lock);
        else
            pthread_cond_timedwait(&supervisor->changed, &supervisor->lock, &at);
    }
}

static void *keep(void *arg) {
    struct keeper *keeper = arg;
    struct supervisor *supervisor = keeper->supervisor;
    ext_host_thread_begin("sluice:keeper");
    supervisor_output_init(&keeper->output, span_of(supervisor->library), clock_mono_ns());
    pthread_mutex_lock(&supervisor->lock);
    do {
        uint64_t generation = ++supervisor->last_generation;
        atomic_store_explicit(&keeper->generation, generation, memory_order_release);
        if (keeper->role == KEEPER_CURRENT)
            restart_policy_start(&supervisor->policy, clock_mono_ns());
        pthread_mutex_unlock(&supervisor->lock);
        attempt(keeper, generation);
        pthread_mutex_lock(&supervisor->lock);
        await_turn_locked(keeper);
    } while (!supervisor->stopping && keeper->role == KEEPER_CURRENT);
    atomic_store_explicit(&keeper->generation, 0, memory_order_relaxed);
    bool is_refused = keeper->role == KEEPER_CANDIDATE; /* its version stays the caller's */
    pthread_mutex_unlock(&supervisor->lock);
    if (!is_refused)
        supervisor->options.user->release(supervisor->options.arg, keeper->version);
    pthread_mutex_lock(&supervisor->lock);
    keeper->role = KEEPER_OVER;
    pthread_cond_broadcast(&supervisor->changed);
    pthread_mutex_unlock(&supervisor->lock);
    return NULL;
}

int keeper_start_locked(struct keeper *keeper, enum keeper_role role, void *version,
                        struct supervisor_verdict *verdict BORROWED_BY(keeper)) {
    if (keeper->wake < 0)
        keeper->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (keeper->wake < 0)
        return -errno;
    keeper->role = role;
    keeper->version = version;
    keeper->verdict = verdict;
    keeper->is_up = false;
    int err = pthread_create(&keeper->thread, NULL, keep, keeper);
    if (err)
        keeper->role = KEEPER_FREE;
    return -err;
}
