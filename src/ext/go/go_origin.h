/* go_origin: where a library comes from, a library_id and a file, and what the configuration makes of it in each of its
 * copies. The file may be replaced while the proxy runs: then it is loaded once more (go_swap.h), and both copies serve,
 * each the exchanges that began with it.
 *
 *     go_origin ── current ───────────────► go_library, version 3     a Go runtime each
 *         │                                 go_library, version 2          ▲
 *         └─ users ─► go_user ── current ─► go_edition ── library ─────────┘
 *                     of a configuration        │ next
 *                                           go_edition, of version 2
 *
 * An exchange takes the current edition of its filter once, and leases that edition's library (go_library_lease) until Go
 * has heard of its end; whatever else it needs (levels of the route) it takes of the same library.
 *
 * Ownership  Origins are for ever. A user is its configuration's, from go_user_add to go_user_remove; the editions are
 *            the user's. What Go has of an edition (ids) ends when its library has drained; the memory with the user, so
 *            that who looks for his edition may pass others by.
 * Threads    `current` pointers: any. Adding and removing: any thread or coroutine; they call into the library, and wait
 *            while it is swapped. */
#pragma once
#include <pthread.h>

#include "base/list.h"
#include "ext/go/go_library.h"
#include "proxy/rollout.h"

struct go_origin {
    struct go_origin *next; /* the list only grows, at its head */
    char *id;               /* the first library_id that named it */
    char *path;
    bool swaps;        /* a new file is loaded */
    unsigned kept_max; /* old copies */
    _Atomic(struct go_library *) current;
    struct rollout *rollout;      /* by which a new file goes out; NULL: at once */
    struct go_library *candidate; /* that it is about; NULL: none. The lock's */
    _Atomic unsigned copies;      /* loaded, the current one included */
    pthread_mutex_t lock;         /* of the users, and of what is made and dropped for them */
    struct list users;
};

struct go_edition {
    struct go_edition *next; /* older ones */
    struct go_library *library;
    bool dropped; /* the origin's lock */
};

struct go_user;
struct go_user_itab {
    /* What it is in a copy; NULL with a problem when that copy refuses it. */
    struct go_edition *(*make)(struct go_user *user, struct go_library *library,
                               struct cfg_problems *problems);
    /* Nobody uses it any more: Go gets back what it has of it. Once. NULL: there is nothing to give back. */
    void (*drop)(struct go_edition *edition);
    /* The memory, after drop. */
    void (*free)(struct go_edition *edition);
};

struct go_user {
    struct list node;
    const struct go_user_itab *itab;
    struct go_origin *origin; /* NULL: built dry */
    _Atomic(struct go_edition *) current;
    _Atomic(struct go_edition *) candidate; /* serves beside it; NULL, but while a rollout is on */
    _Atomic(struct go_edition *) newest;    /* begins the list of all */
    struct go_edition *next_one;            /* made, and not yet in the list; the origin's lock */
};

/* Makes its edition of the current copy, and of the candidate. 0, or -EINVAL with a problem; then it was not added. What others
 * look up by it is added after it. */
MUST_CHECK int go_user_add(struct go_user *user, struct go_origin *origin,
                           const struct go_user_itab *itab, struct cfg_problems *problems);
/* Drops and frees its editions. Does nothing to one that was not added. */
void go_user_remove(struct go_user *user);

/* A coroutine that goes on to use it leases its library before it parks. */
static inline struct go_edition *go_user_current(const struct go_user *user) {
    return atomic_load_explicit(&user->current, memory_order_acquire); /* go_origin_adopt */
}
/* The same for an exchange, of which a rollout may want the candidate. */
static inline struct go_edition *go_user_current_for(const struct go_user *user,
                                                     struct exchange *x) {
    struct go_edition *candidate =
        atomic_load_explicit(&user->candidate, memory_order_acquire); /* go_origin_try */
    if (__builtin_expect(candidate != NULL, 0) && rollout_takes(user->origin->rollout, x))
        return candidate;
    return go_user_current(user);
}
/* That of a library that is leased; NULL: it was added after that library's time. */
static inline struct go_edition *go_user_edition(const struct go_user *user,
                                                 const struct go_library *library) {
    struct go_edition *edition =
        atomic_load_explicit(&user->newest, memory_order_acquire); /* publish_locked */
    while (edition && edition->library != library)
        edition = edition->next;
    return edition;
}

/* All users' editions are made for the new copy, then it is the current one. 0; -EINVAL with problems: nothing changed. */
MUST_CHECK int go_origin_adopt(struct go_origin *origin, struct go_library *library,
                               struct cfg_problems *problems);
/* The same, and it is the candidate: exchanges that the origin's rollout wants there take it. There is none yet. */
MUST_CHECK int go_origin_try(struct go_origin *origin, struct go_library *library,
                             struct cfg_problems *problems);
/* The candidate is the current copy from now on, or is taken by nobody. Returns the copy that nobody finds any more: to
 * be retired. */
struct go_library *go_origin_settle(struct go_origin *origin, bool promoted);
/* Nobody has a lease on it any more, and nobody will. */
void go_origin_drop(struct go_origin *origin, const struct go_library *library);

/* NULL when memory is short. It has no copy yet. */
MUST_CHECK struct go_origin *go_origin_new(struct span id, const char *path);
/* Its first copy; from now on others find it. */
void go_origin_begin(struct go_origin *origin, struct go_library *library);
/* The first is the latest. Any thread. */
struct go_origin *go_origin_first(void);

static inline struct go_library *go_origin_current(const struct go_origin *origin) {
    return atomic_load_explicit(&origin->current, memory_order_acquire); /* go_origin_adopt */
}
