/* remote_peer: see the header.
 *
 *     made ── first call, or REMOTE_CONNECT ──► known to a lane ── lane closed ──► lost
 *                  ▲     │ the process ended before it looked
 *                  └─────┘ at it: the next one
 *
 * A connection that the host has not heard of is nobody's loss. One that it has heard of is told so at once
 * (go_peer_lose), whatever is going on.
 *
 * Once a call is sent, and while its parts are, it does not end before the host has returned, or is gone: it would be
 * over for the one and go on for the other. callback_timeout sees to it that this does not take for ever. */
#include "ext/remote/remote_peer.h"

#include <errno.h>
#include <stdlib.h>

#include "ext/ext_handles.h"
#include "ext/remote/remote_library.h"
#include "ext/remote/remote_link.h"
#include "ext/remote/remote_peer_message.h"
#include "ext/remote/remote_state.h"
#include "proxy/format.h"

struct remote_peer {
    struct remote_party party;
    struct go_peer *peer;
    bool heard;                /* the host has, of it */
    bool lost;                 /* and is gone */
    struct go_command *coming; /* what is written in parts; */
    size_t filled;
    uint64_t left; /* bytes that are to come; without `coming` they go nowhere */
};

/* One call, on the stack of who makes it. */
struct turn {
    struct remote_party party;
    struct g *g;
    struct remote_peer *remote;
    struct go_peer_call *call;
    bool returned;
};

static const struct remote_party_itab peer_itab, turn_itab;

struct remote_peer *remote_peer_new(struct go_peer *peer) {
    struct remote_peer *remote = calloc(1, sizeof *remote);
    if (remote) {
        remote->party.itab = &peer_itab;
        remote->peer = peer;
    }
    return remote;
}

int remote_peer_enter(struct remote_peer *remote, struct remote_lane *lane) {
    int err = remote_lane_enter_unseated(lane, &remote->party);
    remote->heard |= !err;
    return err;
}

uint64_t remote_peer_number(const struct remote_peer *remote) {
    return remote->party.number;
}

void remote_peer_free(struct remote_peer *remote) {
    if (!remote)
        return;
    remote_lane_leave(&remote->party);
    go_peer_forget_write(remote->coming);
    free(remote);
}

struct go_peer *remote_peer_find(const struct remote_lane *lane, uint64_t number) {
    struct remote_party *party = remote_lane_find(lane, number);
    return party && party->itab == &peer_itab ? container_of(party, struct remote_peer, party)->peer
                                              : NULL;
}

/* ---- the loss of the host ---- */

static void lose(struct remote_party *party) {
    struct remote_peer *remote = container_of(party, struct remote_peer, party);
    if (!remote->heard)
        return; /* its first call is going on, and sees to it */
    remote->lost = true;
    go_peer_lose(remote->peer);
}

static void lose_turn(struct remote_party *party) {
    rt_ready(container_of(party, struct turn, party)->g);
}

/* ---- a call ---- */

/* Of parks that are gone through with. */
struct patience {
    bool cancelled;
};

static void take_cancel(struct patience *patience) {
    rt_cancel_clear();
    patience->cancelled = true;
}

static int64_t deadline_of(int64_t patience_ns) {
    int64_t now_ns = rt_now_ns();
    return patience_ns < RT_FOREVER - now_ns ? now_ns + patience_ns : RT_FOREVER;
}

/* A process that is up, for a connection that has none. */
static int find_lane(struct remote_peer *remote, int64_t deadline_ns) {
    struct remote_library *library = remote->peer->plugin->library->remote;
    for (;;) {
        struct remote_lane *lane = remote_library_lane(library);
        if (lane)
            return remote_lane_enter_unseated(lane, &remote->party);
        int err = remote_library_await(library, deadline_ns);
        if (err) /* no process in all that time is a failure, as a blocked one is not */
            return err == -ETIMEDOUT ? -EPIPE : err;
    }
}

static int find_seat(struct turn *turn, int64_t deadline_ns) {
    const struct remote_peer *remote = turn->remote;
    const struct go_library_stats *stats = &remote->peer->plugin->library->stats;
    bool waited = false;
    int err;
    while ((err = remote_lane_enter_alone(remote->party.lane, &turn->party)) == -EAGAIN) {
        if (!waited)
            stat_inc(stats->seat_waits, remote->peer->p_index);
        waited = true;
        err = remote_lane_await_return(remote->party.lane, deadline_ns);
        if (err == -ETIMEDOUT)
            stat_inc(stats->seat_timeouts, remote->peer->p_index);
        if (!remote->party.lane) { /* it ended meanwhile */
            turn->party.unheard = true;
            return -EPIPE;
        }
        if (err)
            return err;
    }
    return err;
}

static int find_place(struct turn *turn, int64_t deadline_ns) {
    int err = turn->remote->party.lane ? 0 : find_lane(turn->remote, deadline_ns);
    return err ? err : find_seat(turn, deadline_ns);
}

/* In the bytes that a call shows. */
struct cursor {
    const uint64_t *slice;
    int64_t left;
    size_t offset;
};

static struct span next_part(struct cursor *at) {
    while (at->left > 0 && at->offset == at->slice[1]) {
        at->slice += 2;
        at->left--;
        at->offset = 0;
    }
    if (at->left <= 0)
        return span_make("", 0);
    const char *bytes = (const char *)(uintptr_t)at->slice[0] + at->offset;
    size_t len = at->slice[1] - at->offset;
    if (len > REMOTE_PEER_PART)
        len = REMOTE_PEER_PART;
    at->offset += len;
    return span_make(bytes, len);
}

static bool is_last(const struct go_peer_call *call) {
    const bool ends = call->kind == GO_CALL_EVENT || call->kind == GO_CALL_UPSTREAM_EVENT;
    return call->kind == GO_CALL_FAILURE || (ends && call->number != GO_PEER_CONNECTED);
}

static struct remote_peer_call message_of(const struct turn *turn) {
    const struct go_peer_call *call = turn->call;
    const struct go_peer *peer = turn->remote->peer;
    struct remote_peer_call message = {
        .number = turn->remote->party.number,
        .call = turn->party.number,
        .kind = (uint8_t)call->kind,
        .last = is_last(call),
        .end = call->end,
        .what = call->number,
        .conn_id = call->conn_id,
        .info = {span_make("", 0), span_make("", 0)},
        .bytes = span_make("", 0),
    };
    if (call->kind == GO_CALL_CONNECTION) {
        message.handle = peer->handle;
        message.config_id = call->config_id;
        for (int i = 0; i < 2; i++)
            message.info[i] = span_make(peer->lent->info[i].text, peer->lent->info[i].len);
    }
    return message;
}

/* All parts but the last go before it. One that was not sent, since it was cancelled while the ring was full, is made
 * again: the lane's scratch is somebody else's meanwhile. */
static int send_call(struct turn *turn, struct patience *patience) {
    const struct go_peer_call *call = turn->call;
    struct cursor at = {.slice = call->slices, .left = call->slice_count};
    uint64_t left = call->size;
    while (turn->party.lane) {
        struct remote_out *out = remote_lane_scratch(turn->party.lane);
        struct cursor next = at;
        struct remote_peer_call message = message_of(turn);
        message.bytes = next_part(&next);
        const bool more = message.bytes.len < left;
        if (more)
            remote_put_peer_bytes(out, &(struct remote_peer_bytes){message.number, message.bytes});
        else
            remote_put_peer_call(out, &message);
        if (out->failed)
            return -ENOMEM;
        int err = remote_lane_send(&turn->party, more ? REMOTE_PEER_BYTES : REMOTE_PEER_CALL,
                                   span_make(out->data, out->len), RT_FOREVER);
        if (err == -ECANCELED) {
            take_cancel(patience);
            continue;
        }
        if (err || !more)
            return err;
        left -= message.bytes.len;
        at = next;
    }
    return -EPIPE;
}

static int await_return(const struct turn *turn, struct patience *patience) {
    while (!turn->returned && turn->party.lane)
        if (rt_park("callback in a host process", RT_FOREVER) == -ECANCELED)
            take_cancel(patience);
    return turn->returned ? 0 : -EPIPE;
}

/* A cancel that comes before it is sent is the caller's, after that it waits. */
static int take_turn(struct turn *turn, int64_t deadline_ns, struct patience *patience) {
    int err = find_place(turn, deadline_ns);
    if (!err)
        err = send_call(turn, patience);
    if (!err)
        err = await_return(turn, patience);
    remote_lane_leave(&turn->party);
    return err;
}

/* What the process, which ended, has not looked at, and no other call of the connection either: there is a next one. */
static bool is_for_the_next(const struct remote_peer *remote, const struct turn *turn, int err) {
    return err == -EPIPE && !remote->heard && turn->party.unheard;
}

int remote_peer_call(struct remote_peer *remote, struct go_peer_call *call, int64_t patience_ns) {
    const bool surely = call->patience == GO_PEER_SURELY;
    const int64_t deadline_ns = deadline_of(patience_ns);
    struct patience patience = {false};
    struct turn turn;
    int err = -ECANCELED;
    while (!remote->lost) {
        turn = (struct turn){
            .party = {.itab = &turn_itab}, .g = rt_self(), .remote = remote, .call = call};
        err = take_turn(&turn, deadline_ns, &patience);
        if (err == -ECANCELED && surely)
            take_cancel(&patience);
        else if (is_for_the_next(remote, &turn, err))
            remote_lane_leave(&remote->party);
        else
            break;
    }
    remote->lost |= err == -EPIPE;
    if (patience.cancelled)
        rt_cancel(rt_self());
    return remote->lost && err != 0 ? -EPIPE : err;
}

/* ---- what the host says of a call ---- */

/* Of another connection of the library's, of whatever P. */
static bool is_full(const struct remote_peer *remote, uint64_t handle) {
    struct go_peer *peer = handle ? handle_lease(&ext_handles, handle, go_peer_key) : NULL;
    if (!peer)
        return false;
    bool full = false;
    if (peer->plugin->library == remote->peer->plugin->library) {
        pthread_mutex_lock(&peer->lock);
        full = peer->queued > GO_PEER_QUEUE_HIGH;
        pthread_mutex_unlock(&peer->lock);
    }
    handle_release(&ext_handles, handle);
    return full;
}

static int hear_turn(struct remote_party *party, enum remote_kind kind, struct span record) {
    struct turn *turn = container_of(party, struct turn, party);
    struct go_peer *peer = turn->remote->peer;
    struct remote_peer_returned returned;
    if (kind != REMOTE_PEER_RETURNED || remote_read_peer_returned(record, &returned) != 0 ||
        !remote_lane_returned(party))
        return -EPROTO;
    go_plugin_called(peer->plugin, peer->p_index, returned.took_ns, go_plugin_blocks_ns);
    pthread_mutex_lock(&peer->lock);
    peer->counts.crossings += returned.crossings;
    pthread_mutex_unlock(&peer->lock);
    turn->call->status = returned.status;
    turn->call->full = is_full(turn->remote, returned.wrote_to) ? returned.wrote_to : 0;
    turn->returned = turn->remote->heard = true;
    rt_ready(turn->g);
    return 0;
}

/* ---- what the plugin asks for ---- */

static void finish_write_locked(struct remote_peer *remote, bool end) {
    struct go_peer *peer = remote->peer;
    if (peer->closed)
        go_peer_forget_write(remote->coming);
    else
        go_peer_end_write_locked(peer, remote->coming, end);
    remote->coming = NULL;
}

static int write_part(struct remote_peer *remote, const struct remote_peer_write *write) {
    struct go_peer *peer = remote->peer;
    if (write->left > UINT32_MAX ||
        (remote->left && remote->left != write->left + write->bytes.len))
        return -EPROTO;
    pthread_mutex_lock(&peer->lock);
    if (!remote->left) {
        remote->filled = 0;
        if (!peer->closed)
            remote->coming = go_peer_begin_write_locked(peer, write->left + write->bytes.len);
    }
    remote->left = write->left;
    if (remote->coming && write->bytes.len)
        memcpy(go_peer_write_room(remote->coming) + remote->filled, write->bytes.ptr,
               write->bytes.len);
    remote->filled += write->bytes.len;
    if (remote->coming && !remote->left)
        finish_write_locked(remote, write->end);
    pthread_mutex_unlock(&peer->lock);
    return 0;
}

static int hear_write(struct remote_peer *remote, struct span record) {
    struct remote_peer_write write;
    int err = remote_read_peer_write(record, &write);
    return err ? err : write_part(remote, &write);
}

/* Codes are for who calls here: the host's have theirs. */
static int hear_close(struct go_peer *peer, struct span record) {
    struct remote_peer_close message;
    int err = remote_read_peer_close(record, &message);
    if (err)
        return err;
    pthread_mutex_lock(&peer->lock);
    (void)!go_peer_close_locked(peer, message.type);
    pthread_mutex_unlock(&peer->lock);
    return 0;
}

static int hear_half_close(struct go_peer *peer, struct span record) {
    struct remote_peer_half_close message;
    int err = remote_read_peer_half_close(record, &message);
    if (err)
        return err;
    pthread_mutex_lock(&peer->lock);
    (void)!go_peer_half_close_locked(peer, message.enable);
    pthread_mutex_unlock(&peer->lock);
    return 0;
}

static int hear(struct remote_party *party, enum remote_kind kind, struct span record) {
    struct remote_peer *remote = container_of(party, struct remote_peer, party);
    switch (kind) {
    case REMOTE_PEER_WRITE:
        return hear_write(remote, record);
    case REMOTE_PEER_CLOSE:
        return hear_close(remote->peer, record);
    case REMOTE_PEER_HALF_CLOSE:
        return hear_half_close(remote->peer, record);
    default:
        return -EPROTO;
    }
}

/* ---- questions ---- */

static int64_t set_state_locked(struct go_peer *peer, const struct remote_ask *ask) {
    struct filter_state_object object;
    if (!remote_state_object(ask, &object))
        return -EINVAL;
    return peer->state ? filter_state_set(peer->state, NULL, &object) : -ENOMEM;
}

static void get_state_locked(struct go_peer *peer, const struct remote_ask *ask,
                             struct remote_answer *answer, void **memory) {
    struct format_out text = {0};
    bool found = peer->state && filter_state_get(peer->state, NULL, ask->a, false, &text);
    *memory = text.data;
    if (text.failed)
        answer->code = GO_INTERNAL_FAILURE;
    else if (!found)
        answer->code = GO_VALUE_NOT_FOUND;
    else
        answer->text = span_make(text.data ? text.data : "", text.len);
}

static void answer(struct remote_party *party, const struct remote_ask *ask, size_t room,
                   struct remote_answer *answer, void **memory) {
    struct go_peer *peer = container_of(party, struct remote_peer, party)->peer;
    pthread_mutex_lock(&peer->lock);
    if (peer->closed)
        answer->code = GO_FILTER_IS_DESTROYED;
    else if (ask->question == REMOTE_ASK_STATE)
        get_state_locked(peer, ask, answer, memory);
    else if (ask->question == REMOTE_SET_STATE)
        answer->number = (uint64_t)set_state_locked(peer, ask);
    else
        answer->code = GO_VALUE_NOT_FOUND;
    pthread_mutex_unlock(&peer->lock);
}

static const struct remote_party_itab peer_itab = {.answer = answer, .hear = hear, .lose = lose};
static const struct remote_party_itab turn_itab = {.hear = hear_turn, .lose = lose_turn};
