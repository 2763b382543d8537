/* go_upstream: one coroutine connects and reads; the peer's (go_peer.c) writes and closes.
 *
 * The reader is the one that ends the connection, for whatever reason: it is cancelled when Go closes, or when the
 * socket broke while it was busy with Go, makes the writer stop, closes the socket and leaves the peer to tell
 * Go. So the struct goes with the reader, and nobody else has it. */
#include "ext/go/go_upstream.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "ext/go/go_log.h"
#include "io/socket_stream.h"
#include "proxy/descriptors.h"

#define CONNECT_TIMEOUT_NS (5 * NS_PER_S) /* Envoy's default of a cluster */
enum {
    READ_MAX = 1 << 20,
    /* What was sent arrives before the kernel answers what was not read with a reset. */
    LINGER_BYTES = 1 << 20,
    LINGER_MS = 1000,
};

enum pool_failure {
    FAILURE_OVERFLOW = 0,
    FAILURE_LOCAL = 1,
    FAILURE_REMOTE = 2,
    FAILURE_TIMEOUT = 3
};

struct go_upstream {
    struct socket socket;
    struct inbuf in;
    struct socket_reader reader;
    struct socket_writer writer;
    struct go_peer *peer;
    struct g *g; /* who reads */
    uint64_t conn_id;
    struct address address; /* len 0: malformed */
    struct rt_post post;
    struct wait_queue changes; /* of the following */
    bool connected, closing, broken, write_ended;
    enum go_close_type close_type;
};

/* ---- what Go asks for ---- */

static void stop_reading(struct go_upstream *up) {
    if (up->g != rt_self())
        rt_cancel(up->g);
    wait_queue_wake_all(&up->changes);
}

static int do_write(void *owner, struct span bytes, bool end) {
    struct go_upstream *up = owner;
    struct writer writer = socket_writer(&up->writer);
    int rc = bytes.len ? writer_write_span(writer, bytes) : 0;
    if (rc == 0 && end)
        rc = writer_finish(writer);
    if (rc == 0 && !end)
        return 0;
    up->write_ended = true;
    wait_queue_wake_all(&up->changes);
    return -EPIPE;
}

static void do_close(void *owner, enum go_close_type type) {
    struct go_upstream *up = owner;
    if (up->closing)
        return;
    up->close_type = type;
    if ((type == GO_CLOSE_FLUSH || type == GO_CLOSE_FLUSH_AND_DELAY) && !up->write_ended)
        (void)!writer_finish(socket_writer(&up->writer)); /* it is closed in any case */
    up->closing = true;
    stop_reading(up);
}

static void do_hurry(void *owner) {
    struct go_upstream *up = owner;
    up->writer.stall_ns = 0;
}

/* Whom the connection was for is gone. */
static void do_lost(void *owner) {
    struct go_upstream *up = owner;
    up->close_type = GO_CLOSE_RESET;
    up->closing = true;
    stop_reading(up);
}

static const struct go_peer_itab peer_itab = {
    .write = do_write, .close = do_close, .hurry = do_hurry, .lost = do_lost};

/* A scheduler callback, while the reader is busy with Go. */
static void on_event(struct socket *socket, unsigned events) {
    struct go_upstream *up = container_of(socket, struct go_upstream, socket);
    if (!up->connected || !(events & SOCKET_BROKEN))
        return;
    up->broken = true;
    stop_reading(up);
}

/* ---- reading ---- */

/* 0, or the reader is to end. */
static int tell_data(struct go_upstream *up, struct span bytes, bool end) {
    const uint64_t slice[2] = {(uint64_t)(uintptr_t)bytes.ptr, bytes.len};
    struct go_peer_call call = {.kind = GO_CALL_UPSTREAM_DATA,
                                .patience = GO_PEER_UNTIL_CANCELLED,
                                .slices = slice,
                                .slice_count = bytes.len ? 1 : 0,
                                .size = bytes.len,
                                .end = end};
    int rc = go_peer_call(up->peer, &call);
    return rc != 0 ? rc : go_peer_wait_for_room(&call);
}

/* The upstream sends no more, but is written to until that has an end, too. */
static int64_t wait_for_the_other_end(struct go_upstream *up) {
    bool was_ended = up->write_ended;
    if (tell_data(up, span_make("", 0), true) != 0)
        return up->closing ? GO_PEER_LOCAL_CLOSE : GO_PEER_REMOTE_CLOSE;
    while (!up->closing && !up->broken && !up->write_ended)
        (void)!wait_queue_wait(&up->changes, "end of what Go writes", RT_FOREVER);
    if (up->closing) /* by now it may be broken, too, as the other end closes in return */
        return GO_PEER_LOCAL_CLOSE;
    return up->broken || was_ended ? GO_PEER_REMOTE_CLOSE : GO_PEER_LOCAL_CLOSE;
}

/* Until it is over; how. */
static int64_t read_all(struct go_upstream *up) {
    struct reader reader = socket_reader(&up->reader);
    for (;;) {
        struct span bytes;
        ssize_t n = reader_next(reader, READ_MAX, &bytes);
        if (n > 0 && !up->closing && !up->broken && tell_data(up, bytes, false) == 0)
            continue;
        if (up->closing)
            return GO_PEER_LOCAL_CLOSE;
        if (n == 0 && go_peer_half_closes(up->peer))
            return wait_for_the_other_end(up);
        return GO_PEER_REMOTE_CLOSE;
    }
}

static void close_socket(struct go_upstream *up) {
    bool lingers =
        up->closing && (up->close_type == GO_CLOSE_FLUSH_AND_DELAY ||
                        (up->close_type == GO_CLOSE_FLUSH && socket_has_unread(&up->socket)));
    if (lingers && !up->broken) /* whatever it says, the connection is closed then */
        (void)!socket_discard(&up->socket, LINGER_BYTES, "linger",
                              rt_now_ns() + LINGER_MS * NS_PER_MS);
    if (up->closing && up->close_type == GO_CLOSE_RESET)
        socket_reset_on_close(&up->socket);
    socket_close(&up->socket);
    descriptors_freed();
    inbuf_drop(&up->in);
}

/* ---- life ---- */

static enum pool_failure failure_of(const struct go_upstream *up, int rc) {
    if (!up->peer->lent)
        return FAILURE_OVERFLOW;
    switch (rc) {
    case -ETIMEDOUT:
        return FAILURE_TIMEOUT;
    case -ECONNREFUSED:
    case -ECONNRESET:
    case -EHOSTUNREACH:
    case -ENETUNREACH:
    case -EPIPE:
        return FAILURE_REMOTE;
    default:
        return FAILURE_LOCAL;
    }
}

static int connect_to(struct go_upstream *up) {
    if (!up->address.len)
        return -EINVAL;
    if (!up->peer->lent)
        return -ENOMEM;
    int64_t deadline_ns = rt_now_ns() + CONNECT_TIMEOUT_NS;
    int rc = socket_connect(&up->socket, &up->address, on_event, deadline_ns);
    if (descriptors_lack(rc) &&
        descriptors_make_room(worker_here(), DESCRIPTORS_FOR_UPSTREAM, rc) > 0)
        rc = socket_connect(&up->socket, &up->address, on_event, deadline_ns);
    if (descriptors_lack(rc))
        descriptors_count_upstream();
    return rc;
}

static int start_peer(struct go_upstream *up) {
    inbuf_init(&up->in, rt_blocks());
    socket_reader_init(&up->reader, &up->socket, &up->in, "bytes of Go's upstream", RT_FOREVER);
    socket_writer_init(&up->writer, &up->socket, "room at Go's upstream", RT_FOREVER);
    up->connected = true;
    int rc = go_peer_start(up->peer, &peer_itab, up);
    if (rc != 0)
        socket_close(&up->socket);
    return rc;
}

static void fail(struct go_upstream *up, int rc) {
    struct go_peer *peer = up->peer;
    struct go_peer_call call = {.kind = GO_CALL_FAILURE,
                                .patience = GO_PEER_SURELY,
                                .number = failure_of(up, rc),
                                .conn_id = up->conn_id};
    stat_inc(go_peer_stats.upstream_failed, peer->p_index);
    (void)!go_peer_call(peer, &call); /* whoever is gone needs not know */
    labels_describe_by(NULL);         /* that is the peer's */
    go_peer_drop(peer);
    free(up);
}

static void run(void *arg) {
    struct go_upstream *up = arg;
    struct go_peer *peer = up->peer;
    struct go_peer_call call = {
        .kind = GO_CALL_READY, .patience = GO_PEER_SURELY, .conn_id = up->conn_id};
    unsigned shard = peer->p_index;
    up->g = rt_self();
    stat_inc(go_peer_stats.upstream_total, shard);
    int rc = connect_to(up);
    if (rc == 0)
        rc = start_peer(up);
    if (rc != 0) {
        fail(up, rc);
        return;
    }
    stat_inc(go_peer_stats.upstream_active, shard);
    peer->announced = true;
    /* Nothing is announced to be ended before: Go's first word comes of this call. */
    up->closing |= go_peer_call(peer, &call) != 0; /* whom it was for is gone */
    int64_t event = up->closing ? GO_PEER_LOCAL_CLOSE : read_all(up);
    rt_cancel_clear();
    go_peer_stop_writing(peer);
    rt_cancel_clear();
    close_socket(up);
    labels_describe_by(NULL);
    go_peer_end(peer, event);
    stat_dec(go_peer_stats.upstream_active, shard);
    free(up);
}

static void begin(struct rt_post *post) {
    struct go_upstream *up = container_of(post, struct go_upstream, post);
    const struct go_options options = {
        .name = "go upstream", .place = RT_HERE, .describer = &up->peer->doing.describer};
    if (go_with(&options, run, up) == 0)
        return;
    LOG(log_golang, LOG_ERROR, "no memory for a connection that a plugin asked for");
    go_upstream_forget(up);
}

/* "1.2.3.4:80" or "[::1]:80". */
static void parse_address(struct span text, struct address *out) {
    uint64_t port;
    size_t colon = text.len;
    while (colon > 0 && text.ptr[colon - 1] != ':')
        colon--;
    if (colon < 2 || !span_to_u64(span_from(text, colon), &port) || port > UINT16_MAX)
        return;
    struct span host = span_make(text.ptr, colon - 1);
    if (host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
        host = span_make(host.ptr + 1, host.len - 2);
    else if (span_find(host, ':') >= 0)
        return; /* without brackets nobody knows where the port begins */
    if (!address_parse(host, (uint16_t)port, out))
        out->len = 0;
}

/* ---- asked for ---- */

const struct span go_upstream_nobodys = SPAN_INIT("(goroutine)");

/* "Local" is what was dialled, as on Envoy. */
void go_upstream_fill_info(struct go_lent_peer *lent, struct span address) {
    struct go_peer_info *dialled = &lent->info[GO_PEER_LOCAL];
    struct address parsed = {0};
    dialled->len = address.len < sizeof dialled->text ? address.len : sizeof dialled->text;
    if (dialled->len)
        memcpy(dialled->text, address.ptr, dialled->len);
    parse_address(address, &parsed);
    if (parsed.len)
        lent->info[GO_PEER_REMOTE].len = address_text(&parsed, lent->info[GO_PEER_REMOTE].text);
}

struct go_upstream *go_upstream_new(struct go_plugin *plugin, unsigned p_index, unsigned shard,
                                    struct span address, uint64_t conn_id) {
    struct go_upstream *up = calloc(1, sizeof *up);
    if (!up)
        return NULL;
    up->peer = go_peer_new(plugin, true, p_index, shard);
    if (!up->peer) {
        free(up);
        return NULL;
    }
    up->conn_id = conn_id;
    up->post.fn = begin;
    wait_queue_init(&up->changes);
    parse_address(address, &up->address);
    if (up->peer->lent)
        go_upstream_fill_info(up->peer->lent, address);
    return up;
}

struct go_peer *go_upstream_peer(const struct go_upstream *up) {
    return up->peer;
}

void go_upstream_begin(struct go_upstream *up) {
    rt_post(up->peer->p_index, &up->post);
}

void go_upstream_forget(struct go_upstream *up) {
    go_peer_drop(up->peer);
    free(up);
}

/* By whichever callback asks; a goroutine's are nobody's. */
void *go_upstream_connect(struct go_library *library, struct span address, uint64_t conn_id) {
    static _Atomic unsigned turn; /* a number that guards nothing, so relaxed */
    const struct go_peer *here = go_peer_here();
    if (!rt_p_count())
        return NULL;
    unsigned p_index =
        here ? here->p_index
             : atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed) % rt_p_count();
    struct go_plugin *plugin =
        here ? here->plugin : go_plugin_get(library, GO_PLUGIN_NETWORK, go_upstream_nobodys);
    struct go_upstream *up =
        plugin ? go_upstream_new(plugin, p_index, STATS_SHARD_FOREIGN, address, conn_id) : NULL;
    if (!up)
        return NULL;
    void *known_by = up->peer->lent;
    up->peer->known = true;
    go_upstream_begin(up);
    return known_by;
}
