/* supervisor_internal: what supervisor.c, the functions that others call, shares with supervisor_keeper.c, the threads. Who
 * may touch what is said there. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "base/stats.h"
#include "ext/remote/supervisor_output.h"
#include "ext/remote/supervisor.h"

/* Something that has to run on a keeper's thread; on its caller's stack. */
struct supervisor_errand {
    struct supervisor_errand *next;
    int (*fn)(void *arg, struct ext_host *host, uint64_t generation);
    void *arg;
    int result;
    bool is_done;
};

/* What became of a first attempt; under the lock. */
struct supervisor_verdict {
    bool is_given;
    int result;
    uint64_t generation;
    char *why; /* SUPERVISOR_WHY_MAX bytes */
};

enum keeper_role {
    KEEPER_FREE,
    KEEPER_CANDIDATE, /* tries once to bring a replacement up */
    KEEPER_ON_TRIAL,  /* its process is up beside the current one */
    KEEPER_CURRENT,   /* brings its version up again and again */
    KEEPER_REPLACED,  /* waits until its process has drained */
    KEEPER_OVER,      /* its thread has nothing more to do than to end: to be joined */
};

/* One thread, one version, and one process of it after the other. */
struct keeper {
    struct supervisor *supervisor;
    /* Read by whoever calls supervisor_stuck: the generation, 0 while there is none; the eventfd, set before. */
    _Atomic uint64_t generation;
    int wake;
    _Atomic uint64_t stuck, retired; /* the generation of which it was said */
    _Atomic(const char *) stuck_why; /* of stuck */
    pthread_t thread;                /* unless FREE */
    struct supervisor_output output; /* the thread's */
    enum keeper_role role;           /* this and the rest: under the lock */
    bool is_trial;                   /* as a candidate: it is to be on trial */
    void *version;
    struct ext_host *host; /* NULL once its thread may end it */
    bool is_up;
    int64_t drain_until_ns;
    struct supervisor_errand *errands;
    struct supervisor_verdict
        *verdict; /* whoever waits for the first attempt's; NULL once it is given */
};

struct supervisor {
    struct supervisor_options options;
    char *library;
    struct {
        struct statistic *restarts, *crashes, *hangs, *spares_used, *lines_left_out, *state,
            *time_to_up;
    } stats;
    pthread_mutex_t lock;    /* short sections, no callback and no wait for a process in them */
    pthread_cond_t changed;  /* anything that somebody waits for; on the monotonic clock */
    pthread_mutex_t telling; /* held while up and lost are called; taken before lock */
    struct keeper keepers[SUPERVISOR_GENERATIONS_MAX];
    /* All below: under the lock. */
    struct keeper *current, *candidate;
    struct supervisor_verdict first;
    char first_why[SUPERVISOR_WHY_MAX];
    struct restart_policy policy;
    uint64_t last_generation;
    enum supervisor_state state;
    unsigned inside; /* callers that wait here: it is not freed under them */
    bool stopping, first_came_up;
    int64_t next_try_ns, up_since_ns, time_to_up_ns;
    int64_t lost_ns; /* when the last current one that was up was lost */
    struct {
        uint64_t generation; /* that one; 0: none has ended */
        bool was_killed;     /* by SIGKILL, and nobody here: it did nothing to end */
    } ended;
    uint64_t restarts, crashes, hangs, spares_used;
    char last_cause[256];
    struct supervisor *next; /* of all; this and is_awaited: under the registry's lock */
    bool is_awaited;         /* by supervisor_end_all */
};

/* On the thread of a generation that is up: it was on trial, and is the current one. As errands are. */
int keeper_promote(void *arg, struct ext_host *host, uint64_t generation);
/* Under the lock, of a FREE one. 0 or -errno: no thread or no descriptor. */
MUST_CHECK int keeper_start_locked(struct keeper *keeper, enum keeper_role role, void *version,
                                   struct supervisor_verdict *verdict BORROWED_BY(keeper));
void keeper_wake(struct keeper *keeper);
void supervisor_set_state_locked(struct supervisor *supervisor, enum supervisor_state state);
