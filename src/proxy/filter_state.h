/* filter_state: what filters leave for other filters under a key: a text that stays as it is, or may be replaced, for
 * as long as the exchange or its connection lives, and whether it is shown to the upstream's side.
 *
 * Ownership  Counted. What is set is copied.
 * Threads    Any, under its own lock.
 * Limits     FILTER_STATE_BYTES_MAX of keys and texts. */
#pragma once
#include <stdbool.h>

#include "base/check.h"
#include "base/span.h"

struct filter_state;
struct format_out;
enum { FILTER_STATE_BYTES_MAX = 1 << 20 };

/* The numbers are Envoy's. */
enum filter_state_type { FILTER_STATE_READ_ONLY = 0, FILTER_STATE_MUTABLE = 1 };
enum filter_state_span {
    FILTER_STATE_OF_CHAIN = 0,
    FILTER_STATE_OF_REQUEST = 1,
    FILTER_STATE_OF_CONNECTION = 2
};
enum filter_state_sharing {
    FILTER_STATE_UNSHARED = 0,
    FILTER_STATE_SHARED_UPSTREAM = 1,
    FILTER_STATE_SHARED_UPSTREAM_ONCE = 2,
};
struct filter_state_object {
    struct span key, text;
    enum filter_state_type type;
    enum filter_state_span span;
    enum filter_state_sharing sharing;
};

/* Owned. NULL when memory is short. */
struct filter_state *filter_state_new(void);
/* One more owner. */
struct filter_state *filter_state_ref(struct filter_state *state);
/* The last one frees it. NULL: nothing. */
void filter_state_unref(struct filter_state *state);

/* connection: what is kept of its connection already, or NULL; it is only looked at. 0, -EPERM (there is one of that key
 * that is read-only, or was set with another type or span), -E2BIG or -ENOMEM. */
MUST_CHECK int filter_state_set(struct filter_state *state, struct filter_state *connection,
                                const struct filter_state_object *object);
/* Appends the text. Either may be NULL. False: there is none of that key, or with only_shared none that the upstream's
 * side is shown. */
bool filter_state_get(struct filter_state *state, struct filter_state *connection, struct span key,
                      bool only_shared, struct format_out *out);
/* The exchange is over, its connection goes on. */
bool filter_state_outlives(struct filter_state *state);
/* Copies what lives as long as the connection there, where it replaces what has its key. What does not fit any more is
 * dropped: how many that were. */
unsigned filter_state_settle(struct filter_state *state, struct filter_state *connection);
