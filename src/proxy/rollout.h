/* rollout: a new version of something serves a share of the requests beside the old one, is compared with it
 * (rollout_course.h), and takes over or is withdrawn. Of what, its user knows: a library (ext/go/go_swap.h), one in a
 * process of its own (ext/remote/remote_library.h).
 *
 *     rollout_begin ──► ROLLING ── a tick: longer, more often seen ──► the next share ──► DONE:      settle(promoted)
 *                          └────── a tick: it does worse; an operator ─────────────────► WITHDRAWN: settle(!promoted)
 *
 *     an exchange:  rollout_takes ──► new or old, by its client's hash; once for all that asks ──► its end: counted
 *
 * Stickiness  Clients with hash < share are served by the new version: those that are stay so when the share grows. The hash is
 *             salted with the version, so all proxies that roll out one build choose the same clients, and the next
 *             build chooses others.
 * Ownership   A rollout is its user's for ever.
 * Threads     rollout_begin, _conclude: on a thread that may block (blocking_call). rollout_takes: the exchange's coroutine.
 *             rollout_look: any. Counting is each P's own, as of stats. */
#pragma once
#include "proxy/rollout_course.h"

struct exchange;
struct rollout;

enum rollout_state { ROLLOUT_NONE, ROLLOUT_ROLLING, ROLLOUT_DONE, ROLLOUT_WITHDRAWN };
extern const char *const rollout_state_names[];

/* Both with the rollout's arg, on a thread that may block, one at a time. */
struct rollout_itab {
    /* The new version is to serve all from now on, or none. Once after each begin. No exchange is told to take the new one
     * any more when it was withdrawn; it may still be on its way there. When it is promoted, all are told so until this
     * returns: then exchanges that are not told take it, too. False: it cannot serve any more, and was put away as one that
     * is withdrawn. */
    bool (*settle)(void *arg, bool promoted);
    /* It is about to serve all: settle is called next, unless this says no; then it goes on. NULL: it may. */
    bool (*may_promote)(void *arg);
};

struct rollout_options {
    const char *name BORROWED_BY(rollout); /* in the log: "library auth" */
    /* Statistics are PREFIX.VALUE.rollout_share, VALUE being the tag's. */
    const char *stat_prefix, *stat_tag;
    struct span stat_value;
    const struct rollout_itab *itab BORROWED_BY(program);
    void *arg BORROWED_BY(rollout);
};
/* cfg is copied. NULL when memory is short. */
MUST_CHECK struct rollout *rollout_new(const struct rollout_options *options,
                                       const struct cfg_rollout *cfg);
/* Of one that never began. */
void rollout_free(struct rollout *rollout);

/* A new version, called `version` in the log (copied). One that is still rolling is withdrawn first. adopt(arg) makes the new one
 * ready to be taken beside the old one; what it returns is returned, and if that is not 0 nothing began. salt: equal
 * for equal builds. */
MUST_CHECK int rollout_begin(struct rollout *rollout, const char *version, uint64_t salt,
                             int (*adopt)(void *arg), void *arg);
/* By hand, or since there is nothing to wait for. why: words for the log and /extensions, copied. False: nothing is rolling,
 * or its user says that it may not be promoted. */
bool rollout_conclude(struct rollout *rollout, bool promote, const char *why);

bool rollout_is_rolling(struct rollout *rollout);

/* Is this exchange for the new version? The same answer each time that it asks, while the rollout goes on. NULL: no. */
bool rollout_takes_slowly(struct rollout *rollout, struct exchange *x);
/* What is at the begin of a rollout, for: */
struct rollout_share {
    _Atomic uint32_t of_all; /* of ROLLOUT_SHARE_ALL; 0: the old version serves */
};
static inline bool rollout_takes(struct rollout *rollout, struct exchange *x) {
    const struct rollout_share *share = (const struct rollout_share *)rollout;
    return __builtin_expect(rollout != NULL, 0) &&
           atomic_load_explicit(&share->of_all, memory_order_acquire) != 0 && /* what settle did */
           rollout_takes_slowly(rollout, x);
}
/* It was to be the new version, and is the old one after all: counted there. */
void rollout_is_old(struct rollout *rollout, struct exchange *x);
/* At the exchange's end, if x->rollouts: what the client got is counted for the versions it was served by. */
void rollout_count(struct exchange *x);

enum { ROLLOUT_WHY_MAX = 256, ROLLOUT_VERSION_MAX = 64 };
struct rollout_view {
    enum rollout_state state;
    char version[ROLLOUT_VERSION_MAX];
    unsigned step, steps; /* the step from 1 */
    uint32_t share;       /* of ROLLOUT_SHARE_ALL */
    struct {
        uint64_t requests, errors, mean_us;
    } of[ROLLOUT_VERSIONS];    /* since it began */
    char why[ROLLOUT_WHY_MAX]; /* what it waits for, or why it ended */
};
void rollout_look(struct rollout *rollout, struct rollout_view *out);
