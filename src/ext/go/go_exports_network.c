/* go_exports_network: what a network filter may ask of its connection, and of those that it asked for.
 *
 * Every function is: keep what Go's address lies in, lease the peer that this has the handle of, take its lock, act,
 * give all of it up (go_peer.h). What changes the connection is queued for its P; what is read is answered here.
 *
 * Strings  GoString, by address. Inputs are borrowed until the return. The SDK copies outputs at once, so a text of the
 *          loan is good: it does not change, and its memory stays memory.
 * Codes    The SDK looks at none of them, but for one that must never be: -6 of GetFilterState, which waits on one object
 *          and is woken through another, for ever. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ext/go/go_exports.h"
#include "ext/go/go_far_peer.h"
#include "ext/go/go_log.h"
#include "ext/go/go_peer.h"
#include "ext/go/go_quarantine.h"
#include "ext/go/go_stats.h"
#include "ext/go/go_upstream.h"
#include "ext/remote/host_peer.h"
#include "ext/remote/remote_state.h"
#include "proxy/format.h"

static struct span bytes_of(const void *data, int len) {
    return data && len > 0 ? span_make(data, (size_t)len) : span_make("", 0);
}

static struct span text_of(const void *string) {
    const struct go_string *s = string;
    return s && s->ptr && s->len > 0 ? span_make(s->ptr, (size_t)s->len) : span_make("", 0);
}

/* ---- either ---- */

static int write_to(const void *w, bool is_upstream, const void *data, int len, int end) {
    struct go_peer_visit visit;
    int code = go_peer_find(w, is_upstream, &visit);
    if (code != GO_OK)
        return code;
    code = visit.peer ? go_peer_write_locked(visit.peer, bytes_of(data, len), end != 0)
                      : GO_FILTER_IS_DESTROYED;
    return go_peer_leave(&visit, code);
}

static int close_it(const void *w, bool is_upstream, int type) {
    struct go_peer_visit visit;
    int code = go_peer_find(w, is_upstream, &visit);
    if (code != GO_OK)
        return code;
    code = visit.peer ? go_peer_close_locked(visit.peer, type) : GO_FILTER_IS_DESTROYED;
    return go_peer_leave(&visit, code);
}

/* Also of a connection that has ended. */
static int info_of(const void *w, bool is_upstream, int type, void *out) {
    struct go_string *result = out;
    struct go_peer_visit visit;
    int code = go_peer_find(w, is_upstream, &visit);
    if (code != GO_OK)
        return code;
    if (type == GO_PEER_LOCAL || type == GO_PEER_REMOTE) {
        const struct go_peer_info *info = &visit.lent->info[type];
        *result = (struct go_string){info->text, (int64_t)info->len};
    } else {
        code = GO_VALUE_NOT_FOUND;
    }
    return go_peer_leave(&visit, code);
}

static void finalize(const void *w) {
    if (loan_release(&go_lent_peers, w) != 0)
        go_stats_count(GO_STALE_HANDLES, 1);
}

/* ---- clients ---- */

int envoyGoFilterDownstreamClose(void *w, int type) {
    return close_it(w, false, type);
}

int envoyGoFilterDownstreamWrite(void *w, void *data, int len, int end) {
    return write_to(w, false, data, len, end);
}

void envoyGoFilterDownstreamFinalize(void *w, int reason) {
    finalize(w);
}

int envoyGoFilterDownstreamInfo(void *w, int type, void *out) {
    return info_of(w, false, type, out);
}

/* ---- filter state of a client's connection ---- */

/* As known_span in go_exports_state.c: Go's TopSpan is beyond Envoy's. */
static enum filter_state_span known_span(int span) {
    return span >= FILTER_STATE_OF_CHAIN && span <= FILTER_STATE_OF_CONNECTION
               ? (enum filter_state_span)span
               : FILTER_STATE_OF_CONNECTION;
}

/* The number of a far answer is an errno, or 0. */
static int set_far_state(struct go_far_peer *far, const struct filter_state_object *object) {
    struct remote_ask ask = remote_state_ask(object);
    struct remote_answer answer;
    int code = far->itab->ask(far, &ask, &answer);
    int rc = code == GO_OK ? (int)(int64_t)answer.number : 0;
    far->itab->asked(far, &ask);
    return rc;
}

static int set_state_locked(struct go_peer *peer, const struct filter_state_object *object) {
    if (peer->far)
        return set_far_state(peer->far, object);
    return peer->state ? filter_state_set(peer->state, NULL, object) : -ENOMEM;
}

int envoyGoFilterSetFilterState(void *w, void *key, void *value, int type, int span, int sharing) {
    const struct filter_state_object object = {
        .key = text_of(key),
        .text = text_of(value),
        .type = type == FILTER_STATE_MUTABLE ? FILTER_STATE_MUTABLE : FILTER_STATE_READ_ONLY,
        .span = known_span(span),
        .sharing = sharing >= FILTER_STATE_UNSHARED && sharing <= FILTER_STATE_SHARED_UPSTREAM_ONCE
                       ? (enum filter_state_sharing)sharing
                       : FILTER_STATE_UNSHARED,
    };
    struct go_peer_visit visit;
    int code = go_peer_find(w, false, &visit);
    if (code != GO_OK)
        return code;
    if (!visit.peer || visit.peer->closed)
        return go_peer_leave(&visit, GO_FILTER_IS_DESTROYED);
    int rc = set_state_locked(visit.peer, &object);
    if (rc != 0)
        LOG(log_golang, LOG_WARN, "filter state %.*s of a connection is not set: %s",
            (int)object.key.len, object.key.ptr,
            rc == -EPERM ? "it may not be replaced, or not so" : "too much, or no memory");
    return go_peer_leave(&visit, GO_OK);
}

/* In memory that stays for a while: the SDK copies it at once. */
static void lend(struct span text, struct go_string *out) {
    struct go_quarantine_list list = {0};
    struct span kept = go_quarantine_keep(&list, text);
    if (!span_is_none(kept))
        *out = (struct go_string){kept.ptr, (int64_t)kept.len};
    go_quarantine_put(&list);
}

static void get_far_state(struct go_far_peer *far, struct span key, struct go_string *out) {
    struct remote_ask ask = {.question = REMOTE_ASK_STATE, .a = key};
    struct remote_answer answer;
    if (far->itab->ask(far, &ask, &answer) == GO_OK)
        lend(answer.text, out);
    far->itab->asked(far, &ask);
}

static void get_state(struct filter_state *state, struct span key, struct go_string *out) {
    struct format_out text = {0};
    if (state && filter_state_get(state, NULL, key, false, &text) && !text.failed)
        lend(span_make(text.data, text.len), out);
    free(text.data);
}

/* Never -6: see above. */
int envoyGoFilterGetFilterState(void *w, void *key, void *out) {
    struct go_peer_visit visit;
    int code = go_peer_find(w, false, &visit);
    if (code != GO_OK)
        return code;
    if (!visit.peer || visit.peer->closed)
        return go_peer_leave(&visit, GO_FILTER_IS_DESTROYED);
    if (visit.peer->far)
        get_far_state(visit.peer->far, text_of(key), out);
    else
        get_state(visit.peer->state, text_of(key), out);
    return go_peer_leave(&visit, GO_OK);
}

/* ---- upstreams ---- */

static struct go_library *library_by_id(struct span id) {
    struct go_library *library = go_library_first();
    while (library && !span_eq(span_of(library->told_id), id))
        library = library->next;
    return library;
}

/* library_id: as it was told to the library with its latest configuration. */
void *envoyGoFilterUpstreamConnect(void *library_id, void *address, uint64_t id) {
    struct go_library *library = library_by_id(text_of(library_id));
    if (!library || !go_network_functions_are_there(&library->fn.network)) {
        LOG(log_golang, LOG_ERROR,
            "a plugin asks for an upstream before its library has a configuration");
        return NULL;
    }
    return host_get() ? host_peer_connect(library, text_of(address), id)
                      : go_upstream_connect(library, text_of(address), id);
}

int envoyGoFilterUpstreamConnEnableHalfClose(void *w, int enable) {
    struct go_peer_visit visit;
    int code = go_peer_find(w, true, &visit);
    if (code != GO_OK)
        return code;
    code = visit.peer ? go_peer_half_close_locked(visit.peer, enable != 0) : GO_FILTER_IS_DESTROYED;
    return go_peer_leave(&visit, code);
}

int envoyGoFilterUpstreamWrite(void *w, void *data, int len, int end) {
    return write_to(w, true, data, len, end);
}

int envoyGoFilterUpstreamClose(void *w, int type) {
    return close_it(w, true, type);
}

void envoyGoFilterUpstreamFinalize(void *w, int reason) {
    finalize(w);
}

int envoyGoFilterUpstreamInfo(void *w, int type, void *out) {
    return info_of(w, true, type, out);
}
