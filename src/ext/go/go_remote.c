/* go_remote: see the header.
 *
 * A call is a message, and what comes back goes through ext_stream as what goroutines say does: so the coroutine waits in
 * ext_side_await, and go_side.c is the same for both kinds of host. What a callback's return would have told at once,
 * the status, comes with the same wake-up.
 *
 * The loss of the host shows in three places: the wait for a decision ends, with `undecided` (remote_exchange.h); a
 * call that would begin finds none, or a process that does not know the exchange; and who sends to a full ring is
 * told. All are answered the same way, by the filter's policy (go_filter_fail_begin). */
#include "ext/go/go_remote.h"

#include <errno.h>

#include "ext/ext_stream_internal.h"
#include "ext/go/go_log.h"
#include "ext/remote/remote_library.h"
#include "ext/remote/remote_link.h"
#include "proxy/exchange.h"

struct remote_exchange *go_remote_new(struct go_config *config, struct exchange *x) {
    struct remote_exchange *remote = arena_zalloc(&x->arena, sizeof *remote);
    if (remote)
        remote_exchange_init(remote, &config->remote, config->plugin);
    return remote;
}

int64_t go_remote_deadline(int64_t wait_ns) {
    int64_t now_ns = rt_now_ns();
    return wait_ns < RT_FOREVER - now_ns ? now_ns + wait_ns : RT_FOREVER;
}

static int64_t deadline_of(const struct go_filter *filter, bool patient) {
    return go_remote_deadline(patient ? filter->config->seat_wait_ns : 0);
}

static void count_wait(const struct remote_party *party, int err) {
    const struct go_library_stats *stats = &party->plugin->library->stats;
    stat_inc(err == -ETIMEDOUT ? stats->seat_timeouts : stats->seat_waits, rt_p_index());
}

/* A question is one call, and whole: those that come at the same time have a seat each, if there are as many, so that one
 * that blocks holds up no other. */
static bool wants_own_seat(const struct remote_party *party) {
    return party->plugin->kind == GO_PLUGIN_CLUSTER || go_plugin_is_wary(party->plugin);
}

int go_remote_enter(struct remote_party *party, int64_t deadline_ns) {
    struct remote_library *library = party->plugin->library->remote;
    bool counted = false;
    for (;;) {
        struct remote_lane *lane = party->is_tried ? remote_library_candidate(library) : NULL;
        party->is_tried = lane != NULL;
        if (!lane)
            lane = remote_library_lane(library);
        int err = lane ? remote_lane_enter(lane, party, wants_own_seat(party))
                       : remote_library_await(library, deadline_ns);
        if (err == 0 && lane)
            return 0;
        if (err == -EAGAIN) {
            if (!counted)
                count_wait(party, 0);
            counted = true;
            err = remote_lane_await_return(lane, deadline_ns);
            if (err == -ETIMEDOUT)
                count_wait(party, err);
        }
        if (err) /* no process in all that time is a failure, as a blocked one is not */
            return !lane && err == -ETIMEDOUT ? -EPIPE : err;
    }
}

static int await_own_seat(struct remote_party *party, int64_t deadline_ns) {
    int err = 0;
    count_wait(party, 0);
    while (!err && party->lane && !remote_lane_seat_is_free(party))
        err = remote_lane_await_return(party->lane, deadline_ns);
    if (err == -ETIMEDOUT)
        count_wait(party, err);
    return err;
}

/* Where its library's rollout wants it. */
static int enter_version(struct go_filter *filter, int64_t deadline_ns) {
    struct remote_party *party = &filter->remote->party;
    struct rollout *rollout = remote_library_rollout(party->plugin->library->remote);
    bool wants_new = rollout_takes(rollout, filter->x);
    party->is_tried = wants_new;
    int err = go_remote_enter(party, deadline_ns);
    if (wants_new && !party->is_tried)
        rollout_is_old(rollout, filter->x);
    return err;
}

/* With a host that is up, in a seat that is not blocked. */
int go_remote_begin(struct go_filter *filter, bool patient) {
    struct remote_party *party = &filter->remote->party;
    int64_t deadline_ns = deadline_of(filter, patient);
    int err = 0;
    if (party->lost)
        return -EPIPE;
    if (!party->lane)
        err = enter_version(filter, deadline_ns);
    else if (!remote_lane_seat_is_free(party))
        err = await_own_seat(party, deadline_ns);
    if (!err && party->lost)
        err = -EPIPE;
    filter->block->remote |= !err;
    return err;
}

static struct remote_stream stream_of(const struct go_filter *filter) {
    return (struct remote_stream){.number = filter->remote->party.number,
                                  .config_id = filter->remote->config_id,
                                  .worker_id = filter->remote->party.seat,
                                  .lenient = filter->config->lenient};
}

/* Bytes that do not fit into one record with the rest go before it. What is left of them. */
static int send_ahead(struct go_filter *filter, enum ext_direction direction, struct span *bytes,
                      int64_t deadline_ns) {
    struct remote_exchange *remote = filter->remote;
    enum { PART = 128 << 10 };
    while (bytes->len > PART) {
        struct remote_out *out = remote_lane_scratch(remote->party.lane);
        const struct remote_body body = {.number = remote->party.number,
                                         .direction = (uint8_t)direction,
                                         .bytes = span_make(bytes->ptr, PART)};
        remote_put_body(out, &body);
        int err = out->failed ? -ENOMEM
                              : remote_lane_send(&remote->party, REMOTE_BODY,
                                                 span_make(out->data, out->len), deadline_ns);
        if (err)
            return err;
        *bytes = span_from(*bytes, PART);
    }
    return 0;
}

/* Does a body go to the host with the call, and not when it is asked for? */
static bool goes_along(const struct go_filter *filter, enum ext_direction direction,
                       struct ext_buffer *buffer) {
    return atomic_load_explicit(&filter->config->remote.looks_at_bodies[direction],
                                memory_order_relaxed) &&
           ext_buffer_look(buffer) == 0;
}

/* Nobody changes a lent side's views and buffers but we and the host's answers, which this P reads: when we park, that
 * is before the message is put together. */
int go_remote_show(struct go_filter *filter, enum ext_direction direction, enum go_state state,
                   bool end) {
    struct remote_exchange *remote = filter->remote;
    const struct ext_side *side = &filter->block->stream.sides[direction];
    int64_t deadline_ns = deadline_of(filter, true);
    struct remote_lend lend = {
        .stream = stream_of(filter),
        .direction = (uint8_t)direction,
        .phase = (uint8_t)side->phase,
        .state = (uint8_t)state,
        .end = end,
        .headers = side->headers,
        .trailers = side->trailers,
    };
    struct ext_buffer *buffer = NULL;
    if (side->phase == EXT_BODY) {
        buffer = side->shown.last;
    } else if (remote->ahead[direction].offered) {
        buffer = side->shown.head;
        lend.ahead = (uint8_t)remote->ahead[direction].offered;
        lend.end_buffer = buffer->next ? buffer->next->handle : 0;
    }
    if (buffer) {
        lend.buffer = buffer->handle;
        lend.size = buffer->len;
        lend.carried = buffer->len == 0 || goes_along(filter, direction, buffer);
        lend.bytes = span_make(buffer->data, lend.carried ? buffer->len : 0);
        int err = send_ahead(filter, direction, &lend.bytes, deadline_ns);
        if (err)
            return err;
    }
    struct remote_out *out = remote_lane_scratch(remote->party.lane);
    remote_put_lend(out, &lend);
    if (out->failed)
        return -ENOMEM;
    remote->undecided[direction] = false;
    remote->ahead[direction].calls = 0;
    return remote_lane_send(&remote->party, REMOTE_LEND, span_make(out->data, out->len),
                            deadline_ns);
}

/* What OnDestroy is told. */
static uint8_t reason_of(struct go_filter *filter) {
    struct ext_stream *stream = &filter->block->stream;
    ext_lock(stream);
    bool lent = stream->sides[0].phase != EXT_NOT_LENT || stream->sides[1].phase != EXT_NOT_LENT;
    ext_unlock(stream);
    return lent ? GO_DESTROY_TERMINATE : GO_DESTROY_NORMAL;
}

/* A seat that is blocked would hold up what comes behind this exchange: its log is waited for as long as a seat. When it
 * returns, the exchange may be gone. */
static void await_log(struct remote_exchange *remote, int64_t deadline_ns) {
    struct remote_log_wait wait = {.g = rt_self()};
    list_push_back(&remote->logs, &wait.node);
    while (list_is_linked(&wait.node))
        if (rt_park("log of an extension", deadline_ns) < 0 && list_is_linked(&wait.node))
            list_remove(&wait.node);
}

void go_remote_log(struct go_filter *filter, uint64_t type, bool complete,
                   const struct header_map *const maps[2][2]) {
    struct remote_exchange *remote = filter->remote;
    struct remote_log log = {.stream = stream_of(filter),
                             .type = (uint8_t)type,
                             .complete = complete,
                             .ends = type == GO_LOG_END,
                             .reason = reason_of(filter)};
    if (!remote->party.lane)
        return;
    for (int i = 0; i < 4; i++)
        log.maps[i / 2][i % 2] = ext_view_of(maps[i / 2][i % 2]);
    struct remote_out *out = remote_lane_scratch(remote->party.lane);
    remote_put_log(out, &log);
    int64_t deadline_ns = deadline_of(filter, true);
    /* The last one is heard behind what blocks its seat now, and shows what there was; so long nobody waits for it. */
    bool is_later = log.ends && !remote_lane_seat_is_free(&remote->party);
    if (out->failed || remote_lane_send(&remote->party, REMOTE_LOG, span_make(out->data, out->len),
                                        deadline_ns) != 0)
        return;
    remote->end_told = log.ends;
    if (log.ends)
        remote_lane_expect_another(&remote->party);
    if (!is_later)
        await_log(remote, deadline_ns);
}

/* A log would have. */
static void tell_end(const struct go_filter *filter, uint64_t reason) {
    struct remote_exchange *remote = filter->remote;
    struct remote_out *out = remote_lane_scratch(remote->party.lane);
    remote_put_end(out,
                   &(struct remote_end){.number = remote->party.number, .reason = (uint8_t)reason});
    if (out->failed || remote_lane_send(&remote->party, REMOTE_END, span_make(out->data, out->len),
                                        RT_FOREVER) != 0)
        LOG(log_golang, LOG_DEBUG, "plugin %.*s: its host has not heard of a stream's end",
            (int)filter->config->plugin_name.len, filter->config->plugin_name.ptr);
}

void go_remote_end(struct go_filter *filter, uint64_t reason) {
    struct remote_exchange *remote = filter->remote;
    if (!remote->party.lane)
        return;
    if (!remote->end_told && remote->party.sent)
        tell_end(filter, reason);
    remote_lane_leave(&remote->party);
}
