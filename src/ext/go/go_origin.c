/* go_origin: what a swap changes.
 *
 *     adopt, lock held:  make an edition for each user ──all there──► users' `current`, last added first ──► origin's
 *     try:                     │                         ──all there──► users' `candidate`, likewise ── settle ──┘
 *                              └─ one refused: those that were made are dropped, nothing was seen of them
 *
 * O1  An edition is in its user's list before any exchange leases its library: `newest`, then `current` or `candidate` are
 *     stored (release) when the edition is whole, and an exchange gets the library from the latter.
 * O2  Whoever takes the new edition of a filter finds new ones in all that was added after it, as the levels of its
 *     routes are: these are published first.
 * O3  Editions leave a list only with their user. So a list is walked without a lock, past those that were dropped; it
 *     is as long as there are copies, which is bounded, and the first one is nearly always the right one.
 *
 * O4  While there is a candidate, who adds a user makes both editions or none: an exchange that is served by the candidate finds
 *     all of its route's levels there.
 *
 * The lock is held while the library's code parses, so nobody takes it on a coroutine's stack. */
#include "ext/go/go_origin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ext/go/go_log.h"

enum { KEPT_COPIES_DEFAULT = 8 };

static _Atomic(struct go_origin *) origins;

struct go_origin *go_origin_first(void) {
    return atomic_load_explicit(&origins, memory_order_acquire); /* go_origin_begin */
}

struct go_origin *go_origin_new(struct span id, const char *path) {
    struct go_origin *origin = calloc(1, sizeof *origin);
    if (!origin)
        return NULL;
    origin->id = strndup(id.ptr, id.len);
    origin->path = strdup(path);
    if (!origin->id || !origin->path) {
        free(origin->id);
        free(origin->path);
        free(origin);
        return NULL;
    }
    origin->swaps = true;
    origin->kept_max = KEPT_COPIES_DEFAULT;
    (void)pthread_mutex_init(&origin->lock, NULL); /* cannot fail with default attributes */
    list_init(&origin->users);
    return origin;
}

void go_origin_begin(struct go_origin *origin, struct go_library *library) {
    atomic_store_explicit(&origin->current, library, memory_order_release);
    struct go_origin *first = atomic_load_explicit(&origins, memory_order_relaxed);
    do
        origin->next = first;
    while (!atomic_compare_exchange_weak_explicit(&origins, &first, origin, memory_order_release,
                                                  memory_order_relaxed));
}

/* ---- one user ---- */

static void drop_locked(struct go_user *user, struct go_edition *edition) {
    if (!edition->dropped && user->itab->drop)
        user->itab->drop(edition);
    edition->dropped = true;
}

static void list_locked(struct go_user *user, struct go_edition *edition) {
    edition->next = atomic_load_explicit(&user->newest, memory_order_relaxed); /* the lock's */
    atomic_store_explicit(&user->newest, edition, memory_order_release);       /* O1 */
}

/* What was made and nobody has seen. */
static void discard_locked(struct go_user *user, struct go_edition *edition) {
    drop_locked(user, edition);
    user->itab->free(edition);
}

struct adding {
    struct go_user *user;
    struct cfg_problems *problems;
    bool added;
};

static void add(void *arg) {
    struct adding *adding = arg;
    struct go_user *user = adding->user;
    struct go_origin *origin = user->origin;
    pthread_mutex_lock(&origin->lock);
    struct go_edition *edition =
        user->itab->make(user, go_origin_current(origin), adding->problems);
    struct go_edition *tried = NULL;
    bool is_whole = edition != NULL;
    if (edition && origin->candidate) {
        tried = user->itab->make(user, origin->candidate, adding->problems);
        is_whole = tried != NULL;
        if (!tried) {
            LOG(log_golang, LOG_WARN,
                "%s: a configuration is refused since version %u does, which is being rolled out",
                origin->id, origin->candidate->version);
            discard_locked(user, edition);
        }
    }
    if (is_whole) {
        list_locked(user, edition);
        atomic_store_explicit(&user->current, edition, memory_order_release);
        if (tried)
            list_locked(user, tried);
        atomic_store_explicit(&user->candidate, tried, memory_order_release);
        list_push_back(&origin->users, &user->node);
        adding->added = true;
    }
    pthread_mutex_unlock(&origin->lock);
}

int go_user_add(struct go_user *user, struct go_origin *origin, const struct go_user_itab *itab,
                struct cfg_problems *problems) {
    struct adding adding = {.user = user, .problems = problems};
    user->origin = origin;
    user->itab = itab;
    go_on_thread_stack(add, &adding);
    if (adding.added)
        return 0;
    user->origin = NULL;
    return -EINVAL;
}

static void take_away(void *arg) {
    struct go_user *user = arg;
    struct go_origin *origin = user->origin;
    pthread_mutex_lock(&origin->lock);
    list_remove(&user->node);
    struct go_edition *edition = atomic_load_explicit(&user->newest, memory_order_relaxed);
    while (edition) {
        struct go_edition *next = edition->next;
        discard_locked(user, edition);
        edition = next;
    }
    pthread_mutex_unlock(&origin->lock);
}

void go_user_remove(struct go_user *user) {
    if (user->origin)
        go_on_thread_stack(take_away, user);
}

/* ---- all of them ---- */

static bool make_all_locked(struct go_origin *origin, struct go_library *library,
                            struct cfg_problems *problems) {
    for (struct list *node = origin->users.next; node != &origin->users; node = node->next) {
        struct go_user *user = container_of(node, struct go_user, node);
        user->next_one = user->itab->make(user, library, problems);
        if (!user->next_one)
            return false;
    }
    return true;
}

static void publish_all_locked(struct go_origin *origin, bool as_candidate) {
    for (struct list *node = origin->users.prev; node != &origin->users; node = node->prev) {
        struct go_user *user = container_of(node, struct go_user, node); /* O2 */
        list_locked(user, user->next_one);
        atomic_store_explicit(as_candidate ? &user->candidate : &user->current, user->next_one,
                              memory_order_release);
        user->next_one = NULL;
    }
}

static void drop_made_locked(struct go_origin *origin) {
    for (struct list *node = origin->users.next; node != &origin->users; node = node->next) {
        struct go_user *user = container_of(node, struct go_user, node);
        if (!user->next_one)
            continue;
        discard_locked(user, user->next_one);
        user->next_one = NULL;
    }
}

int go_origin_adopt(struct go_origin *origin, struct go_library *library,
                    struct cfg_problems *problems) {
    pthread_mutex_lock(&origin->lock);
    bool all = make_all_locked(origin, library, problems);
    if (all) {
        publish_all_locked(origin, false);
        atomic_store_explicit(&origin->current, library, memory_order_release);
    } else {
        drop_made_locked(origin);
    }
    pthread_mutex_unlock(&origin->lock);
    return all ? 0 : -EINVAL;
}

int go_origin_try(struct go_origin *origin, struct go_library *library,
                  struct cfg_problems *problems) {
    pthread_mutex_lock(&origin->lock);
    ASSERT(!origin->candidate);
    bool all = make_all_locked(origin, library, problems);
    if (all) {
        publish_all_locked(origin, true);
        origin->candidate = library;
    } else {
        drop_made_locked(origin);
    }
    pthread_mutex_unlock(&origin->lock);
    return all ? 0 : -EINVAL;
}

struct go_library *go_origin_settle(struct go_origin *origin, bool promoted) {
    pthread_mutex_lock(&origin->lock);
    struct go_library *candidate = origin->candidate, *current = go_origin_current(origin);
    ASSERT(candidate);
    for (struct list *node = origin->users.prev; node != &origin->users; node = node->prev) {
        struct go_user *user = container_of(node, struct go_user, node); /* O2 */
        if (promoted)
            atomic_store_explicit(&user->current,
                                  atomic_load_explicit(&user->candidate, memory_order_relaxed),
                                  memory_order_release);
        atomic_store_explicit(&user->candidate, NULL, memory_order_release);
    }
    if (promoted)
        atomic_store_explicit(&origin->current, candidate, memory_order_release);
    origin->candidate = NULL;
    pthread_mutex_unlock(&origin->lock);
    return promoted ? current : candidate;
}

void go_origin_drop(struct go_origin *origin, const struct go_library *library) {
    pthread_mutex_lock(&origin->lock);
    for (struct list *node = origin->users.next; node != &origin->users; node = node->next) {
        struct go_user *user = container_of(node, struct go_user, node);
        struct go_edition *edition = go_user_edition(user, library);
        if (edition)
            drop_locked(user, edition);
    }
    pthread_mutex_unlock(&origin->lock);
}
