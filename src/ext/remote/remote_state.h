/* remote_state: how a filter state object lies in the question that sets it (REMOTE_SET_STATE). */
#pragma once
#include "ext/remote/remote_message.h"
#include "proxy/filter_state.h"

static inline struct remote_ask remote_state_ask(const struct filter_state_object *object) {
    return (struct remote_ask){.question = REMOTE_SET_STATE,
                               .n = (uint64_t)object->type | (uint64_t)object->span << 8 |
                                    (uint64_t)object->sharing << 16,
                               .a = object->key,
                               .b = object->text};
}

/* False: there is no such type, span or sharing. */
MUST_CHECK static inline bool remote_state_object(const struct remote_ask *ask BORROWED_BY(out),
                                                  struct filter_state_object *out) {
    uint64_t type = ask->n & 0xff, span = ask->n >> 8 & 0xff, sharing = ask->n >> 16 & 0xff;
    *out = (struct filter_state_object){
        .key = ask->a,
        .text = ask->b,
        .type = (enum filter_state_type)type,
        .span = (enum filter_state_span)span,
        .sharing = (enum filter_state_sharing)sharing,
    };
    return type <= FILTER_STATE_MUTABLE && span <= FILTER_STATE_OF_CONNECTION &&
           sharing <= FILTER_STATE_SHARED_UPSTREAM_ONCE;
}
