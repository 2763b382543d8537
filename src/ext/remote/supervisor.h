/* supervisor: keeps the host process of one isolated library running: starts it, tells its user when it is up and when
 * it is lost, starts it again, ends it, and exchanges it for another while requests go on.
 *
 *                      ┌───────────────── replaced: the new one is up ──────────────────┐
 *     STARTING ──► UP ─┴─ lost ──► RESTARTING ── the delay is over, it came up ──► UP   ▼
 *        │ first try failed ──────────▲   │ ▲                             old generation: until retired or drain_ns
 *        ▼                                │ │ the time for a trial; or it is replaced
 *     (as lost)             too many ──► DOWN          any ── supervisor_stop ──► STOPPING
 *
 * A replacement may be put on trial first: it is up beside the current one, for whomever its user sends there, until it is
 * promoted or withdrawn. It is not started again.
 *
 * A *version* is what to load, the user's: a library's file, its settings, its configurations. A *generation* is one
 * process, or the attempt to have one, of a version: numbered from 1, never reused.
 *
 * Threads    Each generation has a real thread of its own; callbacks for it come on that one. So whatever one process
 *            makes us wait for keeps nobody but itself waiting: not the loss of another to be told, not
 *            another library. `prepare`: one at a time per supervisor, unless a replacement is prepared beside
 *            the current generation's restart. `up` and `lost`: one at a time. All processes are started by one
 *            thread that lives as long as we do (spare.h), as the kernel kills them when their starter ends.
 *            Functions below may be called from any real thread and from callbacks where they say so;
 *            supervisor_stuck from anywhere.
 * Order      For each generation: prepare; if it returns 0 and only then: up, unless a replacement was up before it or it was on trial in vain, farewell,
 *            unless it ended by itself or was stuck, and exactly once lost, when its process has been reaped, so that nobody but us writes to what was shared with it. The loss of a version's generation
 *            comes before the next prepare of that version. release(version) is last.
 * Ownership  Versions are transferred to the supervisor, and come back with `release`.
 * Limits     SUPERVISOR_GENERATIONS_MAX processes at a time.
 * Output     Each line that a process prints is a line of our log, with the library's name, up to a rate
 *            (supervisor_output.h). Why one was lost is one line at level error. */
#pragma once
#include <sys/types.h>

#include "ext/host/ext_host.h"
#include "ext/remote/restart_policy.h"

struct supervisor;

enum {
    SUPERVISOR_GENERATIONS_MAX =
        5, /* the current one, one on trial, what replaces either, and two that drain */
    SUPERVISOR_WHY_MAX = 4096,
};

enum supervisor_state {
    SUPERVISOR_STARTING, /* the first attempt */
    SUPERVISOR_UP,
    SUPERVISOR_RESTARTING, /* waits for the delay, or prepares */
    SUPERVISOR_DOWN,       /* the circuit is open */
    SUPERVISOR_STOPPING,
};
const char *supervisor_state_name(enum supervisor_state state);

enum supervisor_loss {
    SUPERVISOR_CRASHED, /* ended without being asked, in whatever way */
    SUPERVISOR_HUNG,    /* supervisor_stuck, or a call that timed out: it was killed */
    SUPERVISOR_RETIRED, /* replaced, and drained or out of time */
    SUPERVISOR_STOPPED,
};

/* Each gets `arg` of the options. None is called with a lock held that another function here takes. */
struct supervisor_user {
    /* Tells a fresh process all that it needs, with ext_host_call. 0: it is up. -errno: this attempt failed; the
     * process is ended, so what was shared with it may be freed here already, and `why` (SUPERVISOR_WHY_MAX
     * bytes, NUL at the start) says why in words, or is left alone: after -EPIPE and -ETIMEDOUT the
     * cause is told from what it printed. Ends soon when the process does: a stop kills it. */
    int (*prepare)(void *arg, void *version, struct ext_host *host, uint64_t generation, char *why);
    /* It is the current one from now on: exchanges that begin go there. Of one on trial not before its promotion. */
    void (*up)(void *arg, void *version, uint64_t generation);
    /* cause: empty for RETIRED and STOPPED; else a predicate with more lines behind it, as of ext_host_cause. Borrowed. */
    void (*lost)(void *arg, void *version, uint64_t generation, enum supervisor_loss loss,
                 struct span cause);
    /* It is up, and about to be ended, since it is RETIRED or STOPPED: it may be told so, with ext_host_call, and say what
     * it has left to say, until the deadline. 0; -errno: it is killed. May be NULL. */
    int (*farewell)(void *arg, void *version, struct ext_host *host, int64_t deadline_ns);
    /* A debugger holds the process that supervisor_stuck named: it goes on, and deadlines of its calls begin
     * anew. May be NULL. */
    void (*put_off)(void *arg, void *version, uint64_t generation);
    /* No process has the version any more, nor will one. */
    void (*release)(void *arg, void *version);
};

struct supervisor_options {
    struct span library;     /* names it in logs and statistics; copied */
    const char *stat_prefix; /* "golang.library": statistics are PREFIX.LIBRARY.restarts ... */
    const struct supervisor_user *user BORROWED_BY(supervisor);
    void *arg BORROWED_BY(supervisor);
    struct restart_settings restarts;
    enum ext_host_ending when_stuck; /* EXT_HOST_DUMP for Go, EXT_HOST_DUMP_FIRST without it */
    int64_t drain_ns;                /* what a replaced generation has at most; 0: no time */
};

/* Returns at once; the first attempt goes on by itself, and finds *out set. 0 or -errno: no thread, no memory, no
 * descriptor; -ECANCELED: after supervisor_end_all. Then the version
 * stays the caller's. */
MUST_CHECK int supervisor_start(const struct supervisor_options *options, void *version,
                                struct supervisor **out);

/* Waits for the verdict on the first attempt, as loading a configuration must: 0 once it is, or was, up; -ETIMEDOUT; else what
 * prepare returned, or -errno of the start, and `why` (SUPERVISOR_WHY_MAX) in words. Restarts go on either way. */
MUST_CHECK int supervisor_await_up(struct supervisor *supervisor, int64_t deadline_ns, char *why);

/* Waits until one is up again after the current one was lost: patience_ns at most, from when it was, so that all who
 * wait for one restart wait no longer than that together. lost: 0, or a generation that is lost, as a call has shown,
 * whether its thread knows it already or not. 0: one is up; -EPIPE: none will be in time, as its circuit is open, its
 * delay is longer, or it is stopping; or `lost` has ended by itself, and maybe over that call, not by SIGKILL from
 * outside; -ETIMEDOUT. Not from callbacks. */
MUST_CHECK int supervisor_await_restart(struct supervisor *supervisor, uint64_t lost,
                                        int64_t patience_ns);

/* Prepares a process of another version beside the current one and waits for it. 0: that is current from now on, and the
 * old one drains until it is retired. Else the old one goes on, the version stays the caller's, and `why` says in
 * words what was wrong: -EBUSY: another replacement is under way, or too many generations still drain; -ECANCELED: it is
 * stopping; or as prepare returned. Not from callbacks. */
MUST_CHECK int supervisor_replace(struct supervisor *supervisor, void *version, char *why);
/* The same, but the old one stays the current one: the new one is on trial, and *generation is its number. */
MUST_CHECK int supervisor_try(struct supervisor *supervisor, void *version, uint64_t *generation,
                              char *why);
/* A generation on trial is the current one from now on, as after supervisor_replace. 0; -EPIPE: it has ended. Not from
 * callbacks. */
MUST_CHECK int supervisor_promote(struct supervisor *supervisor, uint64_t generation);
/* It drains. Does nothing to one that is not on trial. */
void supervisor_withdraw(struct supervisor *supervisor, uint64_t generation);
/* Its last exchange is over: it may end. Does nothing for the current generation, and for one that is gone. Does not block;
 * from callbacks too. */
void supervisor_retire(struct supervisor *supervisor, uint64_t generation);

/* A call of that generation has missed its deadline. If that is so still when its thread looks, and no debugger is attached, the
 * process is made to tell where it is, within a bound, and killed. `why` is a literal: "a call of
 * decode_headers". Never blocks, takes no lock, allocates nothing: from coroutines too. */
void supervisor_stuck(struct supervisor *supervisor, uint64_t generation,
                      const char *why BORROWED_BY(program));

/* A debugger holds that generation's process. Any thread; reads a file of /proc. */
bool supervisor_is_traced(struct supervisor *supervisor, uint64_t generation);

/* Runs fn on the thread of a generation that is up (0: of the current one), where it may ext_host_call, and waits. What fn returned; a
 * negative one says that the process is of no use any more (-ETIMEDOUT: stuck) and it is lost. -EPIPE and fn was not
 * called: it is not up. Not from callbacks. */
MUST_CHECK int supervisor_call(struct supervisor *supervisor, uint64_t generation,
                               int (*fn)(void *arg, struct ext_host *host, uint64_t generation),
                               void *arg);

/* Ends all of its processes: says farewell, asks, waits a bounded time, kills. Every callback has returned when it does. Frees
 * it. Not from callbacks. NULL is nothing. */
void supervisor_stop(struct supervisor *supervisor);
/* What a process has for its farewell; then it is killed. */
static const int64_t SUPERVISOR_FAREWELL_NS = 2 * NS_PER_S;

/* At the end of the proxy: ends the processes of all supervisors, at the same time and as supervisor_stop does, and the
 * spare. The supervisors stay, and are found stopping; none is started from then on. Not from callbacks. */
void supervisor_end_all(void);

struct supervisor_status {
    const char *library; /* borrowed from the supervisor */
    enum supervisor_state state;
    uint64_t generation; /* current, or being started; 0: none */
    pid_t pid;           /* 0: none */
    uint32_t draining;   /* old generations whose processes are there */
    uint64_t restarts, crashes, hangs, spares_used;
    uint32_t failures_lately;
    int64_t up_since_ns, next_try_ns; /* clock_mono_ns; 0: not up; none planned */
    int64_t time_to_up_ns;            /* of the last one that came up */
    char last_cause[256];             /* its first line; empty: nothing failed yet */
};
void supervisor_status(struct supervisor *supervisor, struct supervisor_status *out);
/* Of all supervisors there are, in the order of their start; fn takes no lock of theirs. */
void supervisor_each(void (*fn)(void *arg, const struct supervisor_status *status), void *arg);
