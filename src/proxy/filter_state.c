/* filter_state: lists of a few objects, one of the exchange and one of its connection.
 *
 * An object that is to live as long as the connection is the exchange's until that ends, and is copied there then
 * (filter_state_settle). A connection has one exchange at a time, so nobody misses it there; and who sets it may be a
 * foreign thread, which must not touch the connection: most of them share what is known of them (connection_info.h)
 * until somebody on their P gives them something of their own.
 *
 * Rules are Envoy's: a key means one object. What is read-only stays; what may be replaced is replaced by its like, of the
 * same span. */
#include "proxy/filter_state.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/format.h"

struct kept {
    struct kept *next;
    struct filter_state_object object; /* its spans point behind it */
    char bytes[];
};

struct filter_state {
    _Atomic uint32_t refs;
    pthread_mutex_t lock;
    struct kept *first;
    size_t bytes;
};

struct filter_state *filter_state_new(void) {
    struct filter_state *state = calloc(1, sizeof *state);
    if (!state)
        return NULL;
    state->refs = 1;
    (void)pthread_mutex_init(&state->lock, NULL); /* cannot fail with default attributes */
    return state;
}

struct filter_state *filter_state_ref(struct filter_state *state) {
    atomic_fetch_add_explicit(&state->refs, 1, memory_order_relaxed); /* the caller has one */
    return state;
}

void filter_state_unref(struct filter_state *state) {
    if (!state || atomic_fetch_sub_explicit(&state->refs, 1, memory_order_acq_rel) != 1)
        return;
    while (state->first) {
        struct kept *next = state->first->next;
        free(state->first);
        state->first = next;
    }
    (void)pthread_mutex_destroy(&state->lock); /* nobody can hold it: nobody can reach it */
    free(state);
}

/* The link to it. */
static struct kept **find_locked(struct filter_state *state, struct span key) {
    struct kept **at = &state->first;
    while (*at && !span_eq((*at)->object.key, key))
        at = &(*at)->next;
    return at;
}

static size_t size_of(const struct filter_state_object *object) {
    return object->key.len + object->text.len;
}

static bool may_replace(const struct kept *old, const struct filter_state_object *object) {
    return old->object.type == FILTER_STATE_MUTABLE && object->type == FILTER_STATE_MUTABLE &&
           old->object.span == object->span;
}

static bool connection_allows(struct filter_state *connection,
                              const struct filter_state_object *object) {
    if (!connection)
        return true;
    pthread_mutex_lock(&connection->lock);
    const struct kept *old = *find_locked(connection, object->key);
    bool allows = !old || may_replace(old, object);
    pthread_mutex_unlock(&connection->lock);
    return allows;
}

static struct kept *copy(const struct filter_state_object *object) {
    struct kept *kept = malloc(sizeof *kept + size_of(object) + 1);
    if (!kept)
        return NULL;
    char *text = kept->bytes + object->key.len;
    kept->next = NULL;
    kept->object = *object;
    if (object->key.len)
        memcpy(kept->bytes, object->key.ptr, object->key.len);
    if (object->text.len)
        memcpy(text, object->text.ptr, object->text.len);
    kept->object.key = span_make(kept->bytes, object->key.len);
    kept->object.text = span_make(text, object->text.len);
    return kept;
}

/* kept is transferred. In the place of what has its key. */
static int put_locked(struct filter_state *state, struct kept *kept) {
    struct kept **at = find_locked(state, kept->object.key);
    struct kept *old = *at;
    size_t freed = old ? size_of(&old->object) : 0, size = size_of(&kept->object);
    if (size > FILTER_STATE_BYTES_MAX - (state->bytes - freed))
        return -E2BIG;
    kept->next = old ? old->next : NULL;
    *at = kept;
    state->bytes += size - freed;
    free(old);
    return 0;
}

int filter_state_set(struct filter_state *state, struct filter_state *connection,
                     const struct filter_state_object *object) {
    if (size_of(object) > FILTER_STATE_BYTES_MAX)
        return -E2BIG;
    if (!connection_allows(connection, object))
        return -EPERM;
    struct kept *kept = copy(object);
    if (!kept)
        return -ENOMEM;
    pthread_mutex_lock(&state->lock);
    const struct kept *old = *find_locked(state, object->key);
    int rc = old && !may_replace(old, object) ? -EPERM : put_locked(state, kept);
    pthread_mutex_unlock(&state->lock);
    if (rc != 0)
        free(kept);
    return rc;
}

bool filter_state_get(struct filter_state *state, struct filter_state *connection, struct span key,
                      bool only_shared, struct format_out *out) {
    struct filter_state *const places[] = {state, connection};
    for (int i = 0; i < 2; i++) {
        if (!places[i])
            continue;
        pthread_mutex_lock(&places[i]->lock);
        const struct kept *kept = *find_locked(places[i], key);
        bool shown = kept && (!only_shared || kept->object.sharing != FILTER_STATE_UNSHARED);
        if (shown)
            format_out_put(out, kept->object.text);
        pthread_mutex_unlock(&places[i]->lock);
        if (kept)
            return shown;
    }
    return false;
}

bool filter_state_outlives(struct filter_state *state) {
    if (!state)
        return false;
    pthread_mutex_lock(&state->lock);
    const struct kept *at = state->first;
    while (at && at->object.span != FILTER_STATE_OF_CONNECTION)
        at = at->next;
    pthread_mutex_unlock(&state->lock);
    return at != NULL;
}

unsigned filter_state_settle(struct filter_state *state, struct filter_state *connection) {
    unsigned dropped = 0;
    pthread_mutex_lock(&state->lock);
    pthread_mutex_lock(&connection->lock);
    for (const struct kept *at = state->first; at; at = at->next) {
        if (at->object.span != FILTER_STATE_OF_CONNECTION)
            continue;
        struct kept *kept = copy(&at->object);
        if (kept && put_locked(connection, kept) == 0)
            continue;
        free(kept);
        dropped++;
    }
    pthread_mutex_unlock(&connection->lock);
    pthread_mutex_unlock(&state->lock);
    return dropped;
}
