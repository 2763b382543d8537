/* tcp_session: bytes both ways, without a coroutine while nothing has to be waited for.
 *
 *     event ─► stream_copy, which tries ─┬─ all that was there is through: until the next event nothing is left but
 *                                        │  the session, which holds no memory for bytes
 *                                        └─ the receiver is slow, or the turn is over: a coroutine goes on, until
 *                                           nothing is there to be read
 *
 * Each way is on its own: one may have a coroutine while events serve the other. What a way needs while bytes are on
 * it is a struct tcp_work, of which there are as many as there are ways at work, and the one used last is the
 * next to be used: small exchanges on thousands of connections go through the same lines of the cache.
 *
 * Wrapped   Readers and writers of other filters may park, so then each way has a coroutine from the beginning, which
 *           waits for input too.
 * Ends      The end of one way is passed on behind its last byte, and the other goes on. Both ended: the session is
 *           over. A reset ends it at once, and with a reset of the other side, but for this: who sends a response, and
 *           closes without reading the request to its end, resets the connection when more of that comes. What he had
 *           sent before is still to be read, and is passed on (TCP_BROKEN).
 * Over      Once it is (s->end) coroutines are cancelled, and whoever is the last one on the session, an event, the
 *           timer or a coroutine, ends the stream. None touches the session after that.
 * Timer     One for all that may happen by time. Moving bytes only notes when; the timer, which then comes too
 *           early, looks there and sleeps on.
 *
 * Threads   One P, all of it.
 * Rejected  A coroutine per way: 16 KiB of stacks for each idle connection, and two switches for each small message.
 *           A block per way that is kept: 32 KiB. Events for room instead of a coroutine that waits: for all that a
 *           slow receiver costs, a switch is nothing, and stream_copy knows how to wait. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "filter/tcp_proxy_internal.h"
#include "proxy/access_log.h"
#include "proxy/downstream.h"
#include "proxy/format.h"
#include "proxy/worker.h"
#include "rt/labels.h"

enum { MESSAGE_MAX = 4096 }; /* bytes that are worth a way of their own, and no splicing */

struct tcp_work {
    struct stream_copy copy;
    union { /* the upstream's end of it */
        struct socket_reader reader;
        struct socket_writer writer;
    };
    struct tcp_session *session;
    int64_t waiting; /* bytes that wait for room */
    uint8_t way;     /* enum tcp_way */
};

/* ---- memory of a P ---- */

static struct pool sessions = {.name = "tcp session", .object_size = sizeof(struct tcp_session)};
static struct pool works = {.name = "tcp work", .object_size = sizeof(struct tcp_work)};

struct tcp_memory {
    struct pool_cache sessions, works;
};
static struct tcp_memory *memories[RT_P_MAX]; /* each its P's; live as long as the process */

/* NULL when memory is short. */
static struct tcp_memory *memory_of(const struct worker *worker) {
    struct tcp_memory *memory = memories[worker->index];
    if (memory)
        return memory;
    memory = aligned_alloc(64, (sizeof *memory + 63) / 64 * 64);
    if (!memory)
        return NULL;
    pool_cache_init(&memory->sessions, &sessions, &worker->blocks->recycler);
    pool_cache_init(&memory->works, &works, &worker->blocks->recycler);
    memories[worker->index] = memory;
    return memory;
}

/* ---- counting ---- */

static struct socket *client_of(const struct tcp_session *s) {
    return &s->n->connection->socket;
}

/* What the sockets have moved since the last time. */
static void note_bytes(struct tcp_session *s) {
    struct socket *client = client_of(s);
    const struct tcp_stats *stats = &s->proxy->stats;
    unsigned shard = s->n->worker->index;
    s->active_ns = rt_now_ns();
    stats_cell_add_on_p(stats->rx_bytes->slot, shard, client->rx_bytes);
    stats_cell_add_on_p(stats->tx_bytes->slot, shard, client->tx_bytes);
    s->n->log.bytes_received += client->rx_bytes;
    s->n->log.bytes_sent += client->tx_bytes;
    client->rx_bytes = client->tx_bytes = 0;
    if (s->upstream)
        upstream_count_bytes(s->upstream);
}

/* Whose bytes they are is not read meanwhile. */
static void note_pause(struct tcp_session *s, const struct tcp_work *work, bool paused) {
    const struct tcp_stats *of_client = &s->proxy->stats;
    const struct cluster_stats *of_cluster = &s->upstream->cluster->stats;
    unsigned shard = s->n->worker->index;
    if (work->way == TCP_TO_UPSTREAM) {
        stat_inc(paused ? of_client->paused : of_client->resumed, shard);
        stat_add(of_client->rx_buffered, shard, paused ? work->waiting : -work->waiting);
    } else {
        stat_inc(paused ? of_cluster->cx_paused : of_cluster->cx_resumed, shard);
        stat_add(of_client->tx_buffered, shard, paused ? work->waiting : -work->waiting);
    }
}

static void moved(struct stream_copy *copy, size_t bytes) {
    const struct tcp_work *work = container_of(copy, struct tcp_work, copy);
    note_bytes(work->session);
}

void tcp_session_log(struct tcp_session *s, int event) {
    if (s->proxy->log_count == 0)
        return;
    struct format_subject subject = format_of_stream(s->n, (enum format_event)event);
    for (uint32_t i = 0; i < s->proxy->log_count; i++)
        access_log_write(s->proxy->logs[i], &subject);
}

/* ---- the end ---- */

static void over(struct tcp_session *s, enum tcp_end end) {
    if (s->end)
        return;
    s->end = (uint8_t)end;
    timer_disarm(&s->timer);
    if (s->connecting)
        rt_cancel(s->connecting);
    for (int way = 0; way < 2; way++)
        if (s->flows[way].g && s->flows[way].g != rt_self())
            rt_cancel(s->flows[way].g);
}

/* The last thing that whoever was on the session does. */
static void leave(struct tcp_session *s) {
    if (s->end && s->coroutines == 0 && !s->connecting)
        network_stream_end(s->n);
}

static void flag(struct tcp_session *s, uint32_t flag) {
    s->n->log.flags |= flag;
}

/* One side was reset. */
static void over_by_reset(struct tcp_session *s, bool by_client) {
    if (by_client && s->n->closed_by_filter) {
        over(s, TCP_CLOSES);
        return;
    }
    if (!s->end)
        flag(s, by_client ? FLAG_DOWNSTREAM_CONNECTION_TERMINATION : FLAG_UPSTREAM_REMOTE_RESET);
    if (by_client)
        s->n->connection->closed_by_peer = true;
    over(s, TCP_BREAKS);
}

/* ---- timers ---- */

static int64_t next_time(const struct tcp_session *s) {
    const struct tcp_proxy *proxy = s->proxy;
    int64_t next_ns = RT_FOREVER;
    if (proxy->duration_ns)
        next_ns = s->opened_ns + proxy->duration_ns;
    if (proxy->idle_ns && s->upstream && s->active_ns + proxy->idle_ns < next_ns)
        next_ns = s->active_ns + proxy->idle_ns;
    if (proxy->flush_ns && s->logged_ns + proxy->flush_ns < next_ns)
        next_ns = s->logged_ns + proxy->flush_ns;
    return next_ns;
}

static void time_passed(struct timer *timer) {
    struct tcp_session *s = container_of(timer, struct tcp_session, timer);
    const struct tcp_proxy *proxy = s->proxy;
    unsigned shard = s->n->worker->index;
    int64_t now_ns = rt_now_ns();
    if (proxy->duration_ns && now_ns >= s->opened_ns + proxy->duration_ns) {
        stat_inc(proxy->stats.max_duration, shard);
        flag(s, FLAG_DURATION_TIMEOUT);
        s->n->log.connection_termination_details = SPAN_LIT("max_connection_duration_reached");
        over(s, TCP_CLOSES);
    } else if (proxy->idle_ns && s->upstream && now_ns >= s->active_ns + proxy->idle_ns) {
        stat_inc(proxy->stats.idle_timeout, shard);
        flag(s, FLAG_STREAM_IDLE_TIMEOUT);
        s->n->log.connection_termination_details = SPAN_LIT("tcp_session_idle_timeout");
        over(s, TCP_CLOSES);
    } else {
        if (proxy->flush_ns && now_ns >= s->logged_ns + proxy->flush_ns) {
            s->logged_ns = now_ns;
            tcp_session_log(s, FORMAT_EVENT_TCP_PERIODIC);
        }
        timer_arm(timer, next_time(s));
    }
    leave(s);
}

/* ---- one way ---- */

/* Of those who are read; 0: none. */
static uint32_t buffer_limit(const struct tcp_session *s, enum tcp_way way) {
    const struct cfg_listener *listener = s->n->info->listener->config->config;
    if (way == TCP_TO_CLIENT)
        return s->upstream->cluster->buffer_limit;
    return listener->per_connection_buffer_limit_bytes.value; /* 0 as well if it is not set */
}

static struct tcp_work *get_work(struct tcp_session *s, enum tcp_way way) {
    struct tcp_flow *flow = &s->flows[way];
    struct network_stream *n = s->n;
    struct upstream *u = s->upstream;
    struct tcp_work *work = pool_get(&memories[n->worker->index]->works);
    if (!work)
        return NULL;
    struct reader from = n->reader;
    struct writer to = n->writer;
    if (way == TCP_TO_UPSTREAM) {
        socket_writer_init(&work->writer, &u->socket, "to upstream", RT_FOREVER);
        to = socket_writer(&work->writer);
    } else {
        socket_reader_init(&work->reader, &u->socket, &u->in, "from upstream", RT_FOREVER);
        from = socket_reader(&work->reader);
    }
    stream_copy_init(&work->copy, from, to, &n->worker->pipes);
    stream_copy_set_pace(&work->copy, flow->pace);
    work->copy.moved = moved;
    uint32_t limit = buffer_limit(s, way);
    if (limit)
        work->copy.step_max = limit;
    work->session = s;
    work->way = (uint8_t)way;
    flow->work = work;
    return work;
}

static void put_work(struct tcp_session *s, struct tcp_flow *flow) {
    if (!flow->work)
        return;
    flow->pace = stream_copy_pace(&flow->work->copy);
    stream_copy_end(&flow->work->copy);
    pool_put(&memories[s->n->worker->index]->works, flow->work);
    flow->work = NULL;
}

static void run(void *arg);

static void start_coroutine(struct tcp_session *s, struct tcp_work *work) {
    struct tcp_flow *flow = &s->flows[work->way];
    const struct go_options options = {
        .name = work->way == TCP_TO_UPSTREAM ? "tcp to upstream" : "tcp to client",
        .place = RT_HERE,
        .describer = &s->n->doing.describer,
    };
    flow->busy = true;
    s->coroutines++;
    if (go_with(&options, run, work) == 0)
        return;
    flow->busy = false;
    s->coroutines--;
    over(s, TCP_BREAKS);
}

static void pass_on(struct tcp_session *s, enum tcp_way way);

/* All that came was passed on, and so was its end. */
static void way_ended(struct tcp_session *s, enum tcp_way way) {
    struct tcp_flow *flow = &s->flows[way];
    struct tcp_flow *other = &s->flows[!way];
    put_work(s, flow);
    if (way == TCP_TO_UPSTREAM)
        s->n->connection->closed_by_peer = true;
    flow->state = TCP_ENDED;
    if (other->state != TCP_OPEN)
        over(s, TCP_CLOSES);
}

/* Who receives is gone. What he has sent before decides how it ends, and may not be there yet for all that we know: an
 * event will tell. */
static void way_broke(struct tcp_session *s, enum tcp_way way) {
    struct tcp_flow *flow = &s->flows[way];
    struct tcp_flow *other = &s->flows[!way];
    put_work(s, flow);
    flow->state = TCP_BROKEN;
    if (other->state != TCP_OPEN)
        over_by_reset(s, way == TCP_TO_CLIENT);
    else if (!other->busy)
        pass_on(s, !way);
}

/* The end goes behind all that was written. 0 or -errno. The second one of a session goes without saying: the socket
 * is closed now, and nothing of it is unread. */
static int pass_end(struct tcp_session *s, enum tcp_way way) {
    struct socket *to = way == TCP_TO_UPSTREAM ? &s->upstream->socket : client_of(s);
    if (!s->plain && way == TCP_TO_CLIENT)
        return writer_finish(s->n->writer);
    if (s->flows[!way].state == TCP_ENDED && socket_can_splice(to))
        return 0; /* a transport has an end of its own to say */
    return socket_shutdown(to);
}

/* What a run of the copy came to. */
static void after_run(struct tcp_session *s, enum tcp_way way, enum stream_result result) {
    struct tcp_flow *flow = &s->flows[way];
    /* The kernel tells of a reset once, and then that there is nothing more: the other way had that. */
    if (result == STREAM_END && s->flows[!way].state == TCP_BROKEN)
        result = STREAM_READ_FAILED;
    if (result == STREAM_END && pass_end(s, way) != 0)
        result = STREAM_WRITE_FAILED;
    if (s->end)
        return;
    switch (result) {
    case STREAM_READ_WAITS:
    case STREAM_READ_UNKNOWN:
        put_work(s, flow);
        break;
    case STREAM_END:
        way_ended(s, way);
        break;
    case STREAM_READ_FAILED:
        over_by_reset(s, way == TCP_TO_UPSTREAM);
        break;
    case STREAM_WRITE_FAILED:
        way_broke(s, way);
        break;
    case STREAM_WRITE_WAITS:
    case STREAM_TURN:
        start_coroutine(s, flow->work);
        break;
    }
}

/* What is held goes out, and no more. STREAM_END, or a failure. */
static enum stream_result wait_for_room(struct tcp_session *s, struct tcp_work *work) {
    work->waiting = (int64_t)stream_copy_held(&work->copy);
    work->copy.limit = work->copy.bytes + (uint64_t)work->waiting;
    note_pause(s, work, true);
    enum stream_result result = stream_copy_run(&work->copy, STREAM_WAIT_FOR_ROOM);
    note_pause(s, work, false);
    work->copy.limit = UINT64_MAX;
    return result;
}

/* Until there is nothing to be read. */
static enum stream_result run_plain(struct tcp_session *s, struct tcp_work *work) {
    for (;;) {
        enum stream_result result = stream_copy_run(&work->copy, STREAM_TRY);
        if (result == STREAM_TURN)
            rt_yield_to_events();
        else if (result != STREAM_WRITE_WAITS)
            return result;
        else if ((result = wait_for_room(s, work)) != STREAM_END)
            return result;
        if (s->end)
            return STREAM_READ_FAILED; /* which nobody looks at any more */
    }
}

static void run(void *arg) {
    struct tcp_work *work = arg;
    struct tcp_session *s = work->session;
    enum tcp_way way = (enum tcp_way)work->way;
    struct tcp_flow *flow = &s->flows[way];
    if (!s->end) {
        flow->g = rt_self();
        after_run(s, way,
                  s->plain ? run_plain(s, work) : stream_copy_run(&work->copy, STREAM_WAIT));
        flow->g = NULL;
    }
    flow->busy = false;
    s->coroutines--;
    leave(s);
}

/* A message that is all there is and goes at once, which is what most of them do: all that the general way is made
 * for is not needed. False: what is left, in the buffer or in the kernel, goes that way. */
static bool pass_little(struct tcp_session *s, enum tcp_way way) {
    struct tcp_flow *flow = &s->flows[way];
    struct socket *from = client_of(s), *to = &s->upstream->socket;
    struct inbuf *in = &s->n->in;
    if (way == TCP_TO_CLIENT) {
        to = from;
        from = &s->upstream->socket;
        in = &s->upstream->in;
    }
    if (flow->bulk || inbuf_len(in))
        return false;
    ssize_t got = socket_try_receive(from, in);
    if (got <= 0) {
        inbuf_idle(in);
        after_run(s, way,
                  got == 0         ? STREAM_END
                  : got == -EAGAIN ? STREAM_READ_WAITS
                                   : STREAM_READ_FAILED);
        return true;
    }
    flow->bulk = got > MESSAGE_MAX;
    struct iovec piece = {in->data + in->start, (size_t)got};
    ssize_t sent = flow->bulk ? -EAGAIN : socket_try_send(to, &piece, 1);
    if (sent > 0)
        inbuf_consume(in, (size_t)sent);
    note_bytes(s);
    if (sent < 0 && sent != -EAGAIN) {
        after_run(s, way, STREAM_WRITE_FAILED);
        return true;
    }
    inbuf_idle(in);
    return sent == got && !socket_has_input(from);
}

/* What there is, without waiting. */
static void pass_on(struct tcp_session *s, enum tcp_way way) {
    struct tcp_flow *flow = &s->flows[way];
    if (pass_little(s, way))
        return;
    struct tcp_work *work = get_work(s, way);
    if (!work) {
        over(s, TCP_BREAKS);
        return;
    }
    enum stream_result result = stream_copy_run(&work->copy, STREAM_TRY);
    if (work->copy.bytes <= MESSAGE_MAX)
        flow->bulk = false;
    after_run(s, way, result);
}

/* ---- events ---- */

static void event(struct tcp_session *s, enum tcp_way way, unsigned events) {
    const struct tcp_flow *flow = &s->flows[way], *other = &s->flows[!way];
    bool broken = (events & SOCKET_BROKEN) != 0;
    if (s->end)
        return; /* a coroutine is still to leave */
    if (!flow->busy && flow->state == TCP_OPEN)
        pass_on(s, way);
    /* After both ends that is how a connection is over, and what is held of it is still passed on. */
    else if (broken && other->state == TCP_OPEN)
        over_by_reset(s, way == TCP_TO_UPSTREAM);
    leave(s);
}

void tcp_session_event(struct network_stream *n, void *self, unsigned events) {
    struct tcp_session *s = self;
    if (s->connecting) { /* an end alone is passed on to the upstream, once there is one */
        if (events & SOCKET_BROKEN)
            over_by_reset(s, true);
        return;
    }
    event(s, TCP_TO_UPSTREAM, events);
}

void tcp_session_upstream_event(struct socket *socket, unsigned events) {
    struct upstream *u = container_of(socket, struct upstream, socket);
    if (u->owner) /* else it is still being connected */
        event(u->owner, TCP_TO_CLIENT, events);
}

/* ---- life ---- */

int tcp_session_open(struct network_stream *n, const struct tcp_proxy *proxy,
                     struct tcp_session **out) {
    struct tcp_memory *memory = memory_of(n->worker);
    struct tcp_session *s = memory ? pool_get(&memory->sessions) : NULL;
    if (!s)
        return -ENOMEM;
    *s = (struct tcp_session){.n = n, .proxy = proxy};
    s->opened_ns = s->logged_ns = s->active_ns = rt_now_ns();
    for (int way = 0; way < 2; way++)
        splice_pace_init(&s->flows[way].pace);
    timer_init(&s->timer, time_passed);
    *out = s;
    return 0;
}

void tcp_session_connects(struct tcp_session *s) {
    s->connecting = rt_self();
    timer_arm(&s->timer, next_time(s));
}

void tcp_session_start(struct tcp_session *s) {
    struct network_stream *n = s->n;
    s->connecting = NULL;
    s->active_ns = rt_now_ns();
    timer_arm(&s->timer, next_time(s));
    s->upstream->owner = s;
    s->plain = n->reader.data == &n->socket_reader && n->writer.data == &n->socket_writer;
    for (int way = 0; way < 2 && !s->end; way++) {
        if (s->plain)
            pass_on(s, (enum tcp_way)way);
        else if (get_work(s, (enum tcp_way)way))
            start_coroutine(s, s->flows[way].work);
        else
            over(s, TCP_BREAKS);
    }
    leave(s);
}

void tcp_session_close(struct tcp_session *s) {
    struct upstream *u = s->upstream;
    ASSERT(s->coroutines == 0);
    timer_disarm(&s->timer);
    note_bytes(s);
    for (int way = 0; way < 2; way++)
        put_work(s, &s->flows[way]);
    tcp_session_log(s, FORMAT_EVENT_TCP_CONNECTION_END);
    if (s->end == TCP_BREAKS)
        socket_reset_on_close(client_of(s));
    if (u) {
        unsigned shard = s->n->worker->index;
        stat_dec(u->cluster->stats.rq_active, shard);
        if (s->end == TCP_BREAKS)
            socket_reset_on_close(&u->socket);
        upstream_close(u, s->flows[TCP_TO_CLIENT].state != TCP_ENDED);
        upstream_unref(u);
    }
    host_unref(s->host);
    cluster_unref(s->leased_cluster);
    pool_put(&memories[s->n->worker->index]->sessions, s);
}
