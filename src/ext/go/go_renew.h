/* go_renew: the file of a library that serves changes: it is looked at until nobody writes it any more, and what is another
 * build then is loaded. By whom, into this process (go_swap.h) or another one (remote/remote_library.h), is a table's.
 *
 *     event ────► look, a coroutine for each library ──► attempt, on a thread that may block ──► itab->take ──► itab->conclude
 *     by hand ──► go_renewal_now ───────────────────────►  │ ▲
 *                                                    early └─┘ looked at again a moment later
 *
 * Ownership  A renewal is for ever, as its library is; what it was made with is borrowed for as long.
 * Threads    As each function says. One attempt at a time for each library. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "ext/go/go_file.h"

enum go_renewed {
    GO_RENEW_DONE,
    GO_RENEW_UNCHANGED, /* it is what serves */
    GO_RENEW_FAILED,
};

struct go_renewal;

struct go_attempt {
    struct go_renewal *renewal;
    bool by_hand;  /* a file that failed is tried again */
    bool is_last;  /* nobody has changed the file for a second: half a file is a broken one */
    bool is_early; /* out: somebody writes it; `result` says nothing */
    struct go_stamp seen; /* of the file that was looked at; zeros: there is none */
    enum go_renewed result;
    char *why; /* owned; NULL when memory is short */
};

/* Its result, and why in words; returns it. Once for each attempt that is not early. */
enum go_renewed go_attempt_say(struct go_attempt *attempt, enum go_renewed result,
                               const char *format, ...) PRINTF_LIKE(3, 4);
/* It is being written: looked at again. */
enum go_renewed go_attempt_early(struct go_attempt *attempt);

/* All get the renewal's arg, on a thread that may block, one at a time for each library. */
struct go_renewal_itab {
    /* A copy of what is known of the file that serves, whose descriptor is nobody's. False: nothing serves, so any file will do. */
    bool (*serving)(void *arg, struct go_file *out);
    /* Loads a whole file, of another build. The copy is transferred. */
    enum go_renewed (*take)(void *arg, struct go_attempt *attempt, struct go_file *file);
    /* What came of it, for the log and the statistics. why: never NULL. */
    void (*conclude)(void *arg, const struct go_attempt *attempt, const char *why);
    bool same_by_hand; /* who asks by hand has the build that serves loaded anew */
};

struct go_renewal {
    const char *id, *path;
    const struct go_renewal_itab *itab;
    void *arg;
    pthread_mutex_t lock; /* of the attempt: */
    struct go_stamp failed;
    bool has_failed; /* of that file */
    _Atomic bool is_busy;
    bool dirty, looking; /* P 0's */
};

void go_renewal_init(struct go_renewal *renewal, const char *id BORROWED_BY(renewal),
                     const char *path BORROWED_BY(renewal),
                     const struct go_renewal_itab *itab BORROWED_BY(renewal),
                     void *arg BORROWED_BY(renewal));
/* From now on its file is watched, for ever; where it cannot be, the log says so. Any thread. */
void go_renewal_watch(struct go_renewal *renewal);
/* Looks at the file, whether or not it was looked at before. Returns when that is over; a sentence in *why, owned, NULL
 * when memory is short. A coroutine; parks, and nobody on its P waits. */
enum go_renewed go_renewal_now(struct go_renewal *renewal, char **why);
/* An attempt is going on. Any thread. */
static inline bool go_renewal_is_busy(const struct go_renewal *renewal) {
    return atomic_load_explicit(&renewal->is_busy, memory_order_relaxed);
}
