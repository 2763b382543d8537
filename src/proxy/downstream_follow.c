/* downstream_follow: a connection that is there, and another configuration of its listener.
 *
 *     between two requests ──► the newest has a chain with the same entrance ──► served with that
 *                                 └── it has not, or there is no listener any more: the next answer says
 *                                     `connection: close`, and when the drain time is over the connection ends
 *
 * What a connection went through is over: conditions, handshake. If that is as it was, nothing tells it from one that
 * comes now, so it is served by the new rules without a break. Network filters have a state of their own in each
 * connection, which nobody can carry over; one whose chain stays as it is goes on for as long as it likes.
 *
 * Transport  What a handshake made points into the chain that made it. So with TLS the listener that it came by is leased
 *            to its end, besides the one that serves it.
 *
 * Rejected   To end what cannot follow at once: half of a request would be lost. To wait for the client: it may stay for
 *            ever, with the whole configuration. */
#include <string.h>

#include "proxy/downstream_internal.h"

/* Counts of open connections, of the manager by its stat_prefix, and of the listener by its address or stat_prefix: what
 * counts it when it ends counts it from now on. */
static void count_with(const struct listener *old, const struct hcm *before,
                       const struct listener *next, const struct hcm *after, unsigned shard) {
    if (before->stats.cx_active != after->stats.cx_active) {
        stat_dec(before->stats.cx_active, shard);
        stat_dec(before->stats.cx_http1_active, shard);
        stat_inc(after->stats.cx_active, shard);
        stat_inc(after->stats.cx_http1_active, shard);
    }
    if (old->stats.cx_active != next->stats.cx_active) {
        stat_dec(old->stats.cx_active, shard);
        stat_inc(next->stats.cx_active, shard);
    }
}

/* One that has its own: what is to stay leased moves there. False: no memory, it cannot follow. */
static bool lease_transport(struct downstream *d) {
    struct connection_info *own = connection_info_own(d);
    if (!own)
        return false;
    if (!own->opened_with)
        own->opened_with = listener_ref(own->listener);
    return true;
}

COLD void downstream_follow_now(struct downstream *d) {
    struct listener *old = d->info->listener;
    struct listener *next = old->series->current[d->p_index];
    const struct filter_chain *from = d->info->chain;
    if (!next || next == old || !from)
        return;
    const struct filter_chain *to = filter_chain_successor(next->config->chains, from);
    if (!to || (from->transport.kind && !lease_transport(d)))
        return;
    downstream_count_bytes(d);
    count_with(old, from->hcm, next, to->hcm, d->p_index);
    memset(d->local_v4, 0, sizeof d->local_v4); /* its port was the old one's first */
    if (d->info->shared) {
        d->info = &to->info;
    } else {
        struct connection_info *own = connection_info_own(d); /* it has one */
        own->chain = to;
        own->listener = next;
    }
    listener_ref(next);
    listener_unref(old);
}

/* ---- whoever cannot ---- */

bool downstream_cannot_follow(const struct downstream *d) {
    const struct listener *listener = d->info->listener;
    const struct listener *next = listener->series->current[d->p_index];
    return next != listener &&
           (!next || !filter_chain_successor(next->config->chains, d->info->chain));
}

static bool is_late(const struct downstream *d, int64_t now_ns) {
    const struct listener *listener = d->info->listener;
    const struct listener *next = listener->series->current[d->p_index];
    if (now_ns < listener->drain_until_ns)
        return false;
    if (!next || !d->info->chain)
        return true;
    return downstream_cannot_follow(d) &&
           !filter_chain_remains(next->config->chains, d->info->chain);
}

/* Its filters find the client gone, and end as they do then; if half an end is not enough for them, the next look breaks
 * what is left. */
static void cut(struct network_stream *n) {
    socket_cut(&n->connection->socket);
    (void)network_stream_break(n);
}

static void end_one(struct downstream *d) {
    struct network_stream *n = d->info->stream;
    if (d->state == DOWNSTREAM_SERVING && d->serving->exchange)
        exchange_client_gone(d->serving->exchange);
    else if (d->state == DOWNSTREAM_STREAM && n)
        cut(n);
    else if (d->state == DOWNSTREAM_IDLE || d->state == DOWNSTREAM_HEAD ||
             d->state == DOWNSTREAM_PENDING)
        downstream_destroy(d);
}

void downstream_end_superseded(struct worker *worker) {
    int64_t now_ns = rt_now_ns();
    struct list *next;
    for (struct list *at = worker->downstreams.next; at != &worker->downstreams; at = next) {
        next = at->next;
        struct downstream *d = container_of(at, struct downstream, node);
        /* Acquire: until when it drains was stored before. */
        if (!atomic_load_explicit(&d->info->listener->superseded, memory_order_acquire))
            continue;
        if (d->state == DOWNSTREAM_IDLE)
            downstream_follow_now(d); /* what it served with may go, although nothing is asked */
        if (listener_is_superseded(d->info->listener) && is_late(d, now_ns))
            end_one(d);
    }
}
