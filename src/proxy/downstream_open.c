/* downstream_open: a connection whose filter chain is more than an HTTP connection manager.
 *
 *     downstream_open ─► coroutine: transport socket ─► filters open ─┬─► the last one serves ─► closed
 *                                                                     │       └─ taken: goes on without
 *                                                                     └─► downstream_serve (HTTP)
 *
 * One coroutine from the handshake on, in straight lines: it is the one that serves then. With an HTTP connection
 * manager it is the serving's, which is there from the start, and what listener filters have kept of the bytes becomes
 * the head's beginning; network filters in front of it live on beside it, until the connection ends. Without one it is
 * the network stream's.
 *
 * Memory   Where the listener has a quota, a connection that network filters have is charged two blocks, one for each
 *          direction, from here to its end: when they use them is not known. If there is no room for that, it is
 *          closed, and not made to wait: whoever speaks some protocol of its own cannot be told why.
 *          Requests of HTTP are charged one by one, whatever stands in front of them.
 * Overload A handshake, or a stream, that begins while requests are refused is closed instead. */
#include <errno.h>
#include <stdlib.h>

#include "proxy/downstream_internal.h"
#include "proxy/downstream_wait.h"

/* ---- what a connection has of its own ---- */

/* What was kept becomes unused bytes of `in`, which is empty. In a block, unless they are too many for one: then they
 * stay where they are, and *kept is not to be freed before `in` is dropped. */
static int put_kept(struct inbuf *in, struct partial_head **kept) {
    struct partial_head *head = *kept;
    if (!head)
        return 0;
    if (head->len >= BLOCK_DATA_SIZE) {
        in->data = head->bytes;
        in->end = in->cap = head->len;
        return 0;
    }
    int rc = inbuf_put(in, NULL, span_make(head->bytes, head->len), 0);
    if (rc == 0) {
        downstream_head_free(head);
        *kept = NULL;
    }
    return rc;
}

static void free_kept(struct partial_head *head) {
    if (head)
        downstream_head_free(head);
}

static struct network_stream *stream_new(struct downstream *d) {
    struct connection_info *info = connection_info_own(d);
    const struct filter_chain *chain = d->info->chain;
    struct worker *worker = worker_at(d->p_index);
    struct network_stream *n =
        info ? calloc(1, sizeof *n + chain->filter_count * sizeof n->selves[0]) : NULL;
    if (!n)
        return NULL;
    n->connection = d;
    n->worker = worker;
    n->info = info;
    inbuf_init(&n->in, worker->blocks);
    socket_reader_init(&n->socket_reader, &d->socket, &n->in, "bytes of the client", RT_FOREVER);
    socket_writer_init(&n->socket_writer, &d->socket, "room at the client", RT_FOREVER);
    n->reader = socket_reader(&n->socket_reader);
    n->writer = socket_writer(&n->socket_writer);
    n->log.start_ns = d->opened_ns;
    n->log.start_wall_ns = worker_wall_ns(worker, rt_now_ns()) - (rt_now_ns() - d->opened_ns);
    n->log.connection_id = d->id;
    n->log.listener_name = info->listener->config->name;
    n->log.filter_chain = chain->name;
    doing_init(&n->doing, chain->labels);
    doing_connection(&n->doing, d->id);
    info->stream = n;
    return n;
}

void downstream_stream_close(struct downstream *d) {
    struct connection_info *info = connection_info_own(d); /* it has one */
    struct network_stream *n = info->stream;
    reader_close(n->reader);
    writer_close(n->writer);
    while (n->open_count > 0) {
        const struct network_filter *filter = &info->chain->filters[--n->open_count];
        if (filter->itab->close)
            filter->itab->close(n, n->selves[filter->index]);
    }
    inbuf_drop(&n->in);
    free_kept(n->kept);
    info->stream = NULL;
    free(n);
}

/* ---- opening ---- */

/* Uses up *kept. */
static int accept_transport(struct downstream *d, struct partial_head **kept) {
    const struct filter_chain *chain = d->info->chain;
    const struct transport_socket *transport = &chain->transport;
    /* Running since the chain was chosen. */
    int64_t deadline_ns = chain->transport_timeout_ns ? d->idle_timer.deadline_ns : RT_FOREVER;
    struct inbuf in;
    inbuf_init(&in, worker_at(d->p_index)->blocks);
    int rc = put_kept(&in, kept);
    if (rc == 0)
        rc = transport->kind->itab->accept(transport->config, d, &in, deadline_ns);
    if (rc == -ETIMEDOUT)
        stat_inc(d->info->listener->stats.cx_transport_connect_timeout, d->p_index);
    inbuf_drop(&in);
    free_kept(*kept);
    *kept = NULL;
    return rc;
}

static int open_filters(struct downstream *d) {
    const struct filter_chain *chain = d->info->chain;
    struct network_stream *n = d->info->stream;
    for (uint32_t i = 0; i < chain->filter_count; i++) {
        const struct network_filter *filter = &chain->filters[i];
        n->selves[i] = filter->config;
        if (filter->itab->open) {
            int rc = filter->itab->open(n, filter, &n->selves[i]);
            if (rc != 0)
                return rc;
        }
        n->open_count++;
    }
    return 0;
}

static void open_http(void *arg) {
    struct serving *s = arg;
    struct downstream *d = s->downstream;
    int rc = d->info->chain->transport.kind ? accept_transport(d, &s->head) : 0;
    if (rc == 0)
        rc = open_filters(d);
    if (rc == 0) {
        if (s->head)
            s->head->deadline_ns = downstream_head_deadline(s->hcm);
        d->state = DOWNSTREAM_SERVING;
        downstream_serve(s);
        return;
    }
    downstream_serving_free(s);
    downstream_destroy(d);
}

static void open_stream(void *arg) {
    struct network_stream *n = arg;
    struct downstream *d = n->connection;
    const struct filter_chain *chain = n->info->chain;
    const struct network_filter *last = &chain->filters[chain->filter_count - 1];
    int rc = chain->transport.kind ? accept_transport(d, &n->kept) : 0;
    if (rc == 0)
        rc = put_kept(&n->in, &n->kept);
    if (rc == 0)
        rc = open_filters(d);
    if (rc == 0) {
        d->state = DOWNSTREAM_STREAM;
        if (last->itab->serve(n, n->selves[last->index]) == NETWORK_TAKEN)
            return;
    }
    network_stream_end(n);
}

void network_stream_end(struct network_stream *n) {
    struct downstream *d = n->connection;
    if (rt_self())
        labels_describe_by(NULL); /* it may be the one that serves, and n goes */
    if (n->holds == 0) {
        downstream_destroy(d);
        return;
    }
    n->ended = true;
    for (uint32_t i = 0; i < n->open_count; i++) {
        const struct network_filter *filter = &n->info->chain->filters[i];
        if (filter->itab->cut)
            filter->itab->cut(n, n->selves[i]);
    }
}

void network_stream_hold(struct network_stream *n) {
    n->holds++;
}

void network_stream_release(struct network_stream *n) {
    ASSERT(n->holds > 0);
    if (--n->holds == 0 && n->ended)
        downstream_destroy(n->connection);
}

bool network_stream_break(struct network_stream *n) {
    struct downstream *d = n->connection;
    const struct filter_chain *chain = d->info->chain;
    const struct network_filter *last = &chain->filters[chain->filter_count - 1];
    if (d->state != DOWNSTREAM_STREAM || n->ended || !last->itab->event)
        return false;
    last->itab->event(n, n->selves[last->index], SOCKET_BROKEN);
    return true;
}

/* NULL, or what counts those that are not opened for the reason that there is. */
static struct statistic *must_refuse(struct downstream *d) {
    const struct listener *listener = d->info->listener;
    if (!listener->bypass_overload &&
        worker_overload(worker_at(d->p_index), OVERLOAD_STOP_REQUESTS))
        return listener->stats.cx_overload_reject;
    if (!d->info->chain->hcm && !downstream_charge_stream(d))
        return listener->stats.cx_memory_limit;
    return NULL;
}

/* False when memory is short. */
static bool start(struct downstream *d, struct partial_head **kept) {
    const struct filter_chain *chain = d->info->chain;
    struct go_options options = {.name = "downstream", .place = RT_HERE};
    struct network_stream *n = NULL;
    if (chain->filter_count) {
        n = stream_new(d);
        if (!n)
            return false;
    }
    if (!chain->hcm) {
        n->kept = *kept;
        *kept = NULL;
        options.describer = &n->doing.describer;
        return go_with(&options, open_stream, n) == 0;
    }
    struct serving *s = downstream_serving_new(d, *kept);
    if (!s)
        return false;
    *kept = NULL;
    d->state = DOWNSTREAM_OPENING;
    options.describer = &s->doing.describer;
    if (go_with(&options, open_http, s) == 0)
        return true;
    downstream_serving_free(s);
    return false;
}

void downstream_open(struct downstream *d, struct partial_head *kept) {
    d->state = DOWNSTREAM_OPENING;
    d->head = NULL;
    struct statistic *refused = must_refuse(d);
    if (!refused && start(d, &kept))
        return;
    free_kept(kept);
    if (refused) {
        stat_inc(refused, d->p_index);
        downstream_destroy(d);
    } else {
        downstream_drop(d);
    }
}

void downstream_stream_event(struct downstream *d, unsigned events) {
    struct network_stream *n = d->info->stream;
    const struct filter_chain *chain = d->info->chain;
    const struct network_filter *last = &chain->filters[chain->filter_count - 1];
    if (last->itab->event)
        last->itab->event(n, n->selves[last->index], events);
}
