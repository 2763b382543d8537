/* downstream: a connection's life: accepted, idle, closed. HTTP on it: downstream_serve.c; what comes before that, or
 * instead of it: downstream_pending.c, downstream_open.c. */
#include "proxy/downstream.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/descriptors.h"
#include "proxy/downstream_internal.h"
#include "proxy/downstream_wait.h"
#include "proxy/upstream.h"

extern struct log_component log_http;

enum {
    CLOSE_SAMPLE = 256, /* see downstream_close_idle */
    CLOSE_MAX = 16,
};

/* ---- accepting, idling, closing ---- */

void downstream_begin(struct downstream *d) {
    const struct hcm *hcm = downstream_hcm(d);
    const struct listener_stats *of_listener = &d->info->listener->stats;
    unsigned shard = d->p_index;
    stat_inc(of_listener->cx_total, shard);
    stat_inc(of_listener->cx_active, shard);
    if (!hcm)
        return;
    stat_inc(hcm->stats.cx_total, shard);
    stat_inc(hcm->stats.cx_active, shard);
    stat_inc(hcm->stats.cx_http1_total, shard);
    stat_inc(hcm->stats.cx_http1_active, shard);
}

static void count_end(struct downstream *d) {
    const struct hcm *hcm = downstream_hcm(d);
    const struct listener_stats *of_listener = &d->info->listener->stats;
    unsigned shard = d->p_index;
    uint64_t length_us = (uint64_t)(rt_now_ns() - d->opened_ns) / 1000;
    stat_inc(of_listener->cx_destroy, shard);
    stat_dec(of_listener->cx_active, shard);
    stat_record_us(of_listener->cx_length_ms, shard, length_us);
    if (!hcm) {
        downstream_release_stream(d);
        return;
    }
    const struct hcm_stats *s = &hcm->stats;
    downstream_count_bytes(d);
    stat_inc(s->cx_destroy, shard);
    stat_inc(d->closed_by_peer ? s->cx_destroy_remote : s->cx_destroy_local, shard);
    stat_dec(s->cx_active, shard);
    stat_dec(s->cx_http1_active, shard);
    stat_record_us(s->cx_length_ms, shard, length_us);
}

static void count_client(struct worker *worker, const struct listener *listener, int64_t change) {
    if (listener->is_admin)
        return;
    /* Its own P alone writes. */
    int64_t count = atomic_load_explicit(&worker->client_count, memory_order_relaxed);
    atomic_store_explicit(&worker->client_count, count + change, memory_order_relaxed);
}

void downstream_destroy(struct downstream *d) {
    const struct connection_info *info = d->info;
    struct listener *listener = info->listener;
    struct worker *worker = worker_at(d->p_index);
    downstream_wait_leave(d);
    if ((d->state == DOWNSTREAM_HEAD || d->state == DOWNSTREAM_PENDING) && d->head)
        downstream_head_free(d->head);
    if (listener->config->log_count)
        downstream_log(d);
    if (info->stream)
        downstream_stream_close(d);
    if (info->chain)
        count_end(d);
    else
        stat_dec(listener->stats.pre_cx_active, d->p_index);
    timer_disarm(&d->idle_timer);
    list_remove(&d->node);
    count_client(worker, listener, -1);
    socket_close(&d->socket);
    descriptors_freed();
    if (!info->shared) {
        struct connection_info *own = connection_info_own(d);
        upstream_client_gone(&own->upstreams);
        if (own->opened_with)
            listener_unref(own->opened_with);
        connection_info_free(own);
    }
    listener_leave(listener, d->counted);
    listener_unref(listener);
    pool_put(&worker->downstream_pool, d);
}

void downstream_drop(struct downstream *d) {
    LOG(log_http, LOG_ERROR, "out of memory: a connection is dropped");
    stat_inc(d->info->listener->stats.cx_overload_reject, d->p_index);
    downstream_destroy(d);
}

static void on_event(struct socket *socket, unsigned events) {
    struct downstream *d = container_of(socket, struct downstream, socket);
    bool gone = (events & SOCKET_HUNG_UP) != 0;
    if (d->state == DOWNSTREAM_SERVING) {
        struct exchange *x = d->serving->exchange;
        if (gone && x &&
            x->upgrade) /* may only have said all that it had to say: its reader sees that */
            gone = (events & SOCKET_BROKEN) != 0;
        if (gone && x) {
            d->closed_by_peer = true;
            exchange_client_gone(x);
        }
        return;
    }
    if (d->state >= DOWNSTREAM_PENDING) {
        if (d->state == DOWNSTREAM_PENDING)
            downstream_pending_event(d, events);
        else if (d->state == DOWNSTREAM_STREAM)
            downstream_stream_event(d, events);
        return;
    }
    if (d->state == DOWNSTREAM_HEAD) {
        bool look = downstream_head_receive(d);
        downstream_count_bytes(d);
        if (look)
            downstream_start_serving(d);
        return;
    }
    bool waiting = d->state == DOWNSTREAM_WAITING;
    if (waiting && !gone)
        return;
    if ((events & SOCKET_INPUT) && !waiting) { /* a FIN may come with a last request */
        downstream_serve_input(d);
    } else if (gone) {
        d->closed_by_peer = true;
        downstream_destroy(d);
    }
}

static void idle_expired(struct timer *timer) {
    struct downstream *d = container_of(timer, struct downstream, idle_timer);
    if (d->state == DOWNSTREAM_SERVING || d->state > DOWNSTREAM_PENDING)
        return;
    if (d->state == DOWNSTREAM_PENDING) {
        downstream_pending_expired(d);
        return;
    }
    if (d->state == DOWNSTREAM_WAITING) {
        downstream_wait_over(d);
        return;
    }
    if (d->state == DOWNSTREAM_HEAD) {
        d->head->verdict = HEAD_IS_LATE;
        downstream_start_serving(d);
        return;
    }
    stat_inc(downstream_hcm(d)->stats.cx_idle_timeout, d->p_index);
    downstream_destroy(d);
}

void downstream_accept(struct worker *worker, int fd, const struct address *peer,
                       struct listener *listener, uint8_t counted) {
    struct downstream *d = pool_get(&worker->downstream_pool);
    if (d)
        memset(d, 0, sizeof *d);
    if (!d || socket_open(&d->socket, fd, on_event) != 0) {
        if (d)
            pool_put(&worker->downstream_pool, d);
        close(fd);
        listener_leave(listener, counted);
        stat_inc(listener->stats.cx_overload_reject, worker->index);
        return;
    }
    d->info = listener_ref(listener)->first;
    d->counted = counted;
    d->p_index = (uint8_t)worker->index;
    d->opened_ns = rt_now_ns();
    d->id = worker_next_id(worker);
    address_pack(peer, &d->peer);
    d->minor_version = 1;
    timer_init(&d->idle_timer, idle_expired);
    list_push_back(&worker->downstreams, &d->node);
    count_client(worker, listener, 1);
    if (!listener->is_plain) {
        downstream_pending_begin(d);
        return;
    }
    downstream_begin(d);
    /* The first request is nearly always there already: try it, rather than wait for an edge. */
    downstream_start_serving(d);
}

void downstream_leave_all(struct worker *worker) {
    worker->leaving = true;
}

void downstream_drain_all(struct worker *worker) {
    worker->draining = true;
    struct list *next;
    for (struct list *at = worker->downstreams.next; at != &worker->downstreams; at = next) {
        next = at->next;
        struct downstream *d = container_of(at, struct downstream, node);
        if (!downstream_is_draining(d))
            continue;
        if (d->state == DOWNSTREAM_IDLE) {
            stat_inc(downstream_hcm(d)->stats.cx_drain_close, worker->index);
            downstream_destroy(d);
        } else if (d->state == DOWNSTREAM_PENDING && !d->head) {
            downstream_destroy(d); /* it has said nothing yet */
        }
    }
}

/* ---- when descriptors are short ---- */

/* By the timer that ends it; without an idle timeout, since it was opened. One that is near its
 * max_connection_duration seems to idle for longer than it does: it is ending anyway. */
static int64_t idle_since(const struct downstream *d) {
    if (d->state == DOWNSTREAM_PENDING)
        return d->opened_ns;
    int64_t timeout_ns = downstream_hcm(d)->idle_timeout_ns;
    return timeout_ns ? d->idle_timer.deadline_ns - timeout_ns : d->opened_ns;
}

/* Whoever is between two requests, or has sent nothing yet. A stream of which we know nothing is no such thing, even
 * if nothing flows: its client could not know that it may try again. */
static bool gives_way(const struct downstream *d, int64_t idle_since_ns) {
    bool idles = d->state == DOWNSTREAM_IDLE || (d->state == DOWNSTREAM_PENDING && !d->head);
    return idles && !d->info->listener->is_admin && idle_since(d) <= idle_since_ns;
}

/* A list in order of idling would cost each request two other connections' cache lines. So the next
 * CLOSE_SAMPLE of all are looked at, which come to the end of the list for the next time, and those of them
 * that have idled longest give way: near enough to the oldest of all, and in bounded time. */
unsigned downstream_close_idle(struct worker *worker, unsigned max, int64_t idle_since_ns) {
    struct downstream *oldest[CLOSE_MAX]; /* the longest idle first */
    unsigned count = 0, looked = 0;
    const struct list *last = worker->downstreams.prev;
    max = max < CLOSE_MAX ? max : CLOSE_MAX;
    for (struct list *node = NULL; node != last && looked < CLOSE_SAMPLE; looked++) {
        node = list_pop_front(&worker->downstreams);
        if (!node)
            break;
        struct downstream *d = container_of(node, struct downstream, node);
        list_push_back(&worker->downstreams, node);
        if (!gives_way(d, idle_since_ns))
            continue;
        unsigned at = count;
        while (at > 0 && idle_since(d) < idle_since(oldest[at - 1]))
            at--;
        if (at == max)
            continue;
        count += count < max;
        for (unsigned j = count - 1; j > at; j--)
            oldest[j] = oldest[j - 1];
        oldest[at] = d;
    }
    for (unsigned i = 0; i < count; i++) {
        stat_inc(oldest[i]->info->listener->stats.cx_descriptor_close, worker->index);
        downstream_destroy(oldest[i]);
    }
    return count;
}
