/* remote_library_internal: what remote_library.c, a library and its processes, shares with remote_library_tell.c, what those
 * are told of configurations, and remote_library_renew.c, new files. Who may touch what is said in remote_library.c. */
#pragma once
#include <pthread.h>

#include "ext/go/go_renew.h"
#include "ext/remote/remote_library.h"

/* What its processes load; the supervisor's. */
struct version {
    struct go_file file;
    bool is_out; /* it was withdrawn; the lock's */
};

struct generation {
    struct generation *next;
    uint64_t number;
    struct version *version;
    struct remote_link *link;
    struct ext_host *host; /* its thread's */
    uint64_t told;         /* up to this place of the notes; its thread's */
    bool was_up;           /* else it is still prepared, and drains when it has had its time */
};

struct here {
    struct remote_lane *lane;      /* NULL: no process is up */
    struct remote_lane *candidate; /* to the one on trial */
    struct wait_queue up;
    struct rt_post leave, promoted;
    _Atomic bool is_posted;         /* promoted is */
    struct remote_library *library; /* whose it is */
};

struct remote_library {
    struct remote_library *next;
    struct remote_library_options options;
    struct supervisor *supervisor;
    pthread_mutex_t lock;
    struct remote_notes notes;
    struct generation *generations; /* the newest first */
    struct go_renewal renewal;
    struct rollout *rollout; /* NULL: new files serve all at once */
    _Atomic uint64_t
        candidate,        /* the generation that it is about; 0: none. Changed under the lock */
        promoted;         /* the latest that was one and serves all since; likewise */
    struct go_file tried; /* the latest that was, without its copy; the renewal's lock */
    bool has_tried;
    _Atomic uint64_t reloads, failed_reloads;
    _Atomic unsigned ps_left;            /* that have not left yet */
    char last_error[SUPERVISOR_WHY_MAX]; /* the lock's */
    _Atomic(remote_connect_fn) connect;  /* NULL: nobody asks for that */
    void *connect_arg;                   /* of it; set before */
    struct here here[RT_P_MAX];
};

/* remote_library.c. When a process has had its time for one thing that it is told. */
int64_t remote_library_deadline(const struct remote_library *library);

struct generation *remote_library_find_locked(struct remote_library *library, uint64_t number);
/* What came since it was prepared. On the thread of its generation. False: it is of no use, and is ended. */
bool remote_library_tell_the_rest(struct remote_library *library, uint64_t number);
void remote_version_free(struct version *version);

/* remote_library_renew.c. */
extern const struct go_renewal_itab remote_library_renewal;
/* By options.rollout, before its first process. False: memory is short. */
bool remote_library_make_rollout(struct remote_library *library);
/* The candidate has ended. Any thread; waits for nobody. */
void remote_library_lost_on_trial(struct remote_library *library);

/* remote_library_tell.c. The process is told of the configurations behind the place *told, which is the last one's then. On
 * the thread of its generation. 0; -errno, perhaps with why in words (SUPERVISOR_WHY_MAX): it is of no use. */
MUST_CHECK int remote_library_tell_all(struct remote_library *library, struct ext_host *host,
                                       uint64_t *told, char *why);
