/* local: values of a coroutine, found by key: what thread-locals are to threads.
 *
 *     static struct local_key tenant = {.name = "tenant", .destroy = free};
 *     local_set(&tenant, strdup(name));
 *
 * A key is static and shared by everybody; the process has up to LOCAL_MAX. A value is one pointer.
 *
 * Ownership  local_set transfers the value to the coroutine, which destroys it when it ends, or when
 *            another takes its place. local_get borrows: until the key is set again.
 * Inherits   A coroutine gets for each key with an inherit what that makes of its starter's value, on
 *            the starter. Started by a scheduler callback or another thread it gets nothing.
 * Threads    Coroutines, each its own values. local_lease: any thread.
 * Parks      Never, but for what destroy does: it runs on the coroutine. */
#pragma once
#include <stdatomic.h>

#include "rt/rt.h"

/* Each costs every coroutine a pointer. A library keeps what it needs behind one key. */
enum { LOCAL_MAX = 8 };

struct local_key {
    const char *name;             /* a literal */
    void (*destroy)(void *value); /* NULL: nothing to do. Runs after all deferred calls. */
    void *(*inherit)(
        void *value);      /* NULL: not inherited. Gives the child's value, or NULL for none. With
                                    * local_lease it runs on other threads, under a spin-lock. */
    _Atomic uint32_t slot; /* 0 before the first use, then its index + 1 */
};

/* NULL when it was not set. */
void *local_get(struct local_key *key);
void local_set(struct local_key *key, void *value BORROWED_BY(coroutine));
/* The same, but the former value is transferred to the caller. */
MUST_CHECK void *local_swap(struct local_key *key, void *value BORROWED_BY(coroutine));

/* What inherit makes of g's value at this moment, transferred to the caller; NULL when there is none.
 * The key must have an inherit. g may end meanwhile, or be another coroutine already. */
MUST_CHECK void *local_lease(struct g *g, struct local_key *key);
