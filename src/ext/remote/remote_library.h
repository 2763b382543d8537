/* remote_library: a library that runs in a host process (isolation: PROCESS), as the proxy knows it: what it was
 * configured with, so that a new process can be told everything again, and the link to the one that is up.
 *
 * Configurations have ids of ours, which mean the same to each process that comes: the host keeps its own beside them.
 * What differs between libraries in Go and others is in struct remote_library_kind.
 *
 * Ownership  A library is for the life of the process.
 * Threads    remote_library_*: any real thread that may block (blocking_call), unless said otherwise. */
#pragma once
#include "base/clock.h"
#include "ext/go/go_renew.h"
#include "ext/remote/remote_notes.h"
#include "ext/remote/supervisor.h"
#include "rt/sync.h"

struct log_component;
struct remote_answer;
struct remote_ask;
struct remote_lane;
struct remote_library;
struct remote_note;
struct sandbox_options;

enum { REMOTE_SAID_MAX = 1024 };

/* What a host process is told of a library; on the thread of its generation. */
struct remote_library_kind {
    struct log_component *log BORROWED_BY(program);
    bool of_coroutines;      /* as of struct remote_link_options */
    const char *stat_prefix; /* as of struct supervisor_options */
    enum ext_host_ending when_stuck;
    /* The requests for that (ext_host_wire.h): {log level} and descriptors; {id}; {ms}. */
    enum ext_host_kind serve, drop, stop;
    /* Loads it, from a copy of its file. 0 with *abilities, a number that remote_lane_abilities gives back; or -errno, and
     * why in words (SUPERVISOR_WHY_MAX). */
    int (*load)(const void *arg, int file, struct ext_host *host, int64_t deadline_ns,
                uint64_t *abilities, char *why);
    /* What makes one configuration there: fills in an empty request. Its answer is {0: it is refused} and what is said of it. */
    void (*request_of)(const struct remote_note *note,
                       struct ext_host_message *request BORROWED_BY(note));
};

struct remote_library_options {
    const char *id, *path; /* live as long as the process */
    const struct remote_library_kind *kind BORROWED_BY(program);
    const void *arg BORROWED_BY(program); /* of `load` */
    uint32_t seats;                       /* announced to it */
    int64_t start_timeout_ns;             /* dlopen, init, and each configuration */
    int64_t callback_timeout_ns;
    struct restart_settings restarts;
    const struct sandbox_options *sandbox; /* copied */
    const struct cfg_rollout *rollout;     /* of new files; copied. NULL: they serve all at once */
};

/* Starts its process, and waits until it is up. NULL and why in words (SUPERVISOR_WHY_MAX). */
struct remote_library *remote_library_new(const struct remote_library_options *options, char *why);

struct remote_config {
    struct span name BORROWED_BY(program); /* of the plugin in it */
    struct span bytes;
    enum remote_note_kind kind; /* not REMOTE_NOTE_MERGE */
    uint64_t parent;            /* of a route's, where the kind wants it: the filter's own */
    uint64_t stack_bytes;
};
/* A configuration is read. With no process up, or when it is killed just then, it waits for the next one, as long as a
 * start may take since the loss. The id; 0: it is refused, with what was said (REMOTE_SAID_MAX). */
uint64_t remote_library_configure(struct remote_library *library,
                                  const struct remote_config *config, char *said);
/* Answers REMOTE_CONNECT of its processes from now on, with its arg: remote_connect.h. A scheduler callback. */
typedef void (*remote_connect_fn)(void *arg, struct remote_lane *lane, const struct remote_ask *ask,
                                  struct remote_answer *answer, void **memory);
void remote_library_connects(struct remote_library *library, remote_connect_fn connect,
                             void *arg BORROWED_BY(program));
/* The plugin's Merge. With no process up it is done by the next one. The id; 0: memory is short. */
uint64_t remote_library_merge(struct remote_library *library, struct span name BORROWED_BY(program),
                              uint64_t parent, uint64_t child);
/* Nobody has it any more. */
void remote_library_drop(struct remote_library *library, uint64_t id);

/* Its file has been replaced, perhaps, or is to be loaded anew: a process of it is prepared beside the current one, is told of
 * all configurations, and takes the exchanges that begin from then on, or those that a rollout sends there; the old one ends when its last is over, or after
 * REMOTE_DRAIN_NS. Or the old one goes on. As go_renewal_now: a coroutine; parks. */
enum go_renewed remote_library_reload(struct remote_library *library, char **why);
static const int64_t REMOTE_DRAIN_NS = 60 * NS_PER_S;

/* Of HTTP filters: exchanges ask it (go_remote.c). NULL: new files serve all at once. */
struct rollout *remote_library_rollout(const struct remote_library *library);

/* All there are, the last one first; the list only grows, at its head. */
struct remote_library *remote_library_first(void);
struct remote_library *remote_library_next(const struct remote_library *library);
/* NULL: none has that id. */
struct remote_library *remote_library_find(struct span id);

/* What /extensions shows of one. */
struct remote_library_view {
    struct supervisor_status status;
    const char *id, *path;
    char build_id[BUILD_ID_TEXT_MAX]; /* of the current one's file */
    uint64_t streams;                 /* that the current process knows */
    uint64_t draining_streams;        /* that older ones do, and not the one on trial */
    uint64_t reloads, failed_reloads;
    char last_error[SUPERVISOR_WHY_MAX]; /* why the last new file was not taken; empty: it was */
};
void remote_library_look(struct remote_library *library, struct remote_library_view *out);

/* Requests of a plugin that have not been finalized by Go in any of its processes. Any thread. */
int64_t remote_library_unfinalized(struct remote_library *library, struct span plugin);

/* The lane of this P to the process that is up; NULL: there is none. */
struct remote_lane *remote_library_lane(struct remote_library *library);
/* The same to that of the version that is rolled out. */
struct remote_lane *remote_library_candidate(const struct remote_library *library);
/* Waits until there is one. 0; -ETIMEDOUT; -ECANCELED; -EPIPE: its circuit is open, so it will not be soon. Parks. */
MUST_CHECK int remote_library_await(struct remote_library *library, int64_t deadline_ns);
