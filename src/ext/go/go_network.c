/* go_network: the filter. What Go asks for comes through go_peer.c, whose coroutine calls peer_itab's functions here.
 *
 * Two writers  Before other filters, what these write and what Go writes meet at the client. `writes` is held over
 *              OnWrite and the write that follows, so pieces stay whole. Lock order: writes, then the
 *              peer's `calls`.
 * Stop      OnNewConnection: the filters behind are not opened until OnData said Continue.
 *           OnData: these bytes go no further.
 *           OnWrite, of what a filter behind writes: the bytes wait, and are shown again with those that follow
 *           (Envoy leaves them in the buffer that they came from). Of what Go writes: they are dropped.
 * End       Whoever serves decides when the connection is over. Go's Close before other filters is told to the last
 *           one as a socket that broke (network_stream_break), and after that every read here fails.
 *           As the peer's coroutine may be in a write then, it holds the stream as long as it is
 *           (network_stream_hold).
 * Half-close  As on Envoy the client's end is RemoteClose to the last filter, and to one before others OnData's end;
 *           but what Go wrote until then is still sent. */
#include "ext/go/go_network_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "config/golang_config.h"
#include "ext/go/go_any.h"
#include "ext/go/go_config.h"
#include "ext/go/go_lent.h"
#include "ext/go/go_log.h"
#include "ext/go/go_seats.h"
#include "proxy/downstream.h"
#include "proxy/filter_state.h"
#include "proxy/worker.h"
#include "rt/foreign.h"

enum {
    READ_MAX = 1 << 20,
    FLUSH_MS = 1000, /* for what Go wrote, once the client sent its end */
    LINGER_BYTES = 1 << 20,
    LINGER_MS = 1000,
    SLICES_AT_HAND = 16,
};

/* The filter's. */
struct network_config {
    struct go_user user;                  /* of struct go_network */
    const struct cfg_golang_network *cfg; /* of the snapshot */
};

/* ---- calls, on a thread stack ---- */

static const struct go_network_functions *functions_of(const struct go_peer_call *call) {
    return &call->peer->plugin->library->fn.network;
}

static void call_connection(void *arg) {
    struct go_peer_call *call = arg;
    go_peer_call_begins(call);
    call->status = functions_of(call)->on_connection(call->peer->lent,
                                                     (uint64_t)(uintptr_t)call->plugin_name.ptr,
                                                     call->plugin_name.len, call->config_id);
    go_peer_call_ends();
}

static void call_data(void *arg) {
    struct go_peer_call *call = arg;
    go_peer_call_begins(call);
    call->status =
        functions_of(call)->on_data(call->peer->lent, call->size, (uint64_t)(uintptr_t)call->slices,
                                    call->slice_count, call->end);
    go_peer_call_ends();
}

static void call_write(void *arg) {
    struct go_peer_call *call = arg;
    go_peer_call_begins(call);
    call->status = functions_of(call)->on_write(call->peer->lent, call->size,
                                                (uint64_t)(uintptr_t)call->slices,
                                                call->slice_count, call->end);
    go_peer_call_ends();
}

static void call_event(void *arg) {
    struct go_peer_call *call = arg;
    go_peer_call_begins(call);
    functions_of(call)->on_event(call->peer->lent, call->number);
    go_peer_call_ends();
}

/* By a coroutine of the connection's: they all say what it does by one doing. */
static int call_go(struct go_client *client, rt_fn fn, struct go_peer_call *call) {
    struct doing *doing = &client->n->doing;
    client->in_go++;
    doing_filter(doing, &client->config->plugin->labels);
    int rc = go_peer_call(client->peer, fn, call);
    if (--client->in_go == 0)
        doing_filter(doing, NULL);
    return rc;
}

int go_client_tell_data(struct go_client *client, struct span bytes, bool end, uint64_t *status) {
    const uint64_t slice[2] = {(uint64_t)(uintptr_t)bytes.ptr, bytes.len};
    struct go_peer_call call = {
        .slices = slice, .slice_count = bytes.len ? 1 : 0, .size = bytes.len, .end = end};
    int rc = call_go(client, call_data, &call);
    *status = call.status;
    client->gave_up |= rc == -ETIMEDOUT;
    return rc != 0 ? rc : go_peer_wait_for_room(&call);
}

int go_client_tell_write(struct go_client *client, const struct iovec *pieces, int count, bool end,
                         uint64_t *status) {
    uint64_t at_hand[2 * (SLICES_AT_HAND + 1)], *slices = at_hand;
    struct go_peer_call call = {.end = end};
    if (count > SLICES_AT_HAND && !(slices = malloc(2 * ((size_t)count + 1) * sizeof slices[0])))
        return -ENOMEM;
    for (int i = -1; i < count; i++) {
        const void *base = i < 0 ? client->held : pieces[i].iov_base;
        size_t len = i < 0 ? client->held_len : pieces[i].iov_len;
        if (!len)
            continue;
        slices[2 * call.slice_count] = (uint64_t)(uintptr_t)base;
        slices[2 * call.slice_count++ + 1] = len;
        call.size += len;
    }
    call.slices = slices;
    int rc = call_go(client, call_write, &call);
    if (slices != at_hand)
        free(slices);
    *status = call.status;
    return rc;
}

/* ---- what Go asks for ---- */

/* To the client, past what the plugin sees. With `writes`. */
static struct writer writer_of(const struct go_client *client) {
    return client->config->is_last ? client->n->writer : client->inner_writer;
}

int go_client_finish(struct go_client *client) {
    bool was_finished = client->finished;
    client->finished = true;
    return was_finished ? 0 : writer_finish(writer_of(client));
}

static int write_to(struct go_client *client, struct span bytes, bool end) {
    int rc = client->finished ? -EPIPE : 0;
    if (rc == 0 && bytes.len)
        rc = writer_write_span(writer_of(client), bytes);
    if (rc == 0 && end)
        rc = go_client_finish(client);
    return rc != 0 || end ? -EPIPE : 0;
}

static int do_write(void *owner, struct span bytes, bool end) {
    struct go_client *client = owner;
    struct network_stream *n = client->n;
    struct go_peer_call call = {0};
    const uint64_t slice[2] = {(uint64_t)(uintptr_t)bytes.ptr, bytes.len};
    network_stream_hold(n);
    int rc = comutex_lock(&client->writes, RT_FOREVER);
    if (rc == 0) {
        call = (struct go_peer_call){.patience = GO_PEER_UNTIL_CANCELLED,
                                     .slices = slice,
                                     .slice_count = bytes.len ? 1 : 0,
                                     .size = bytes.len,
                                     .end = end};
        rc = go_peer_call(client->peer, call_write, &call);
        if (rc == 0 && call.status == GO_NETWORK_CONTINUE)
            rc = write_to(client, bytes, end);
        comutex_unlock(&client->writes);
    }
    network_stream_release(n); /* the client may be gone */
    return rc;
}

/* Of the last filter: whoever serves is woken, and does the rest. */
static void close_last(struct go_client *client) {
    if (client->reading)
        rt_cancel(client->reading);
}

/* Before others: the last one is told. */
static void close_before(struct go_client *client) {
    struct network_stream *n = client->n;
    n->closed_by_filter = client->close_type != GO_CLOSE_RESET;
    if (client->close_type == GO_CLOSE_RESET)
        socket_reset_on_close(&n->connection->socket);
    if (network_stream_break(n))
        return;
    if (client->reading)
        rt_cancel(client->reading);
    if (client->writing)
        rt_cancel(client->writing);
}

static void do_close(void *owner, enum go_close_type type) {
    struct go_client *client = owner;
    struct network_stream *n = client->n;
    if (client->closing)
        return;
    client->close_type = type;
    network_stream_hold(n);
    if (type == GO_CLOSE_FLUSH || type == GO_CLOSE_FLUSH_AND_DELAY) {
        int rc = comutex_lock(&client->writes, RT_FOREVER);
        if (rc == 0) {
            (void)!go_client_finish(client); /* it is closed in any case */
            comutex_unlock(&client->writes);
        }
    }
    client->closing = true;
    if (client->config->is_last)
        close_last(client);
    else
        close_before(client);
    network_stream_release(n); /* the client may be gone */
}

static void do_hurry(void *owner) {
    struct go_client *client = owner;
    client->n->socket_writer.stall_ns = 0;
}

static const struct go_peer_itab peer_itab = {
    .write = do_write, .close = do_close, .hurry = do_hurry, .tell_event = call_event};

/* ---- the last filter ---- */

static void read_all(struct go_client *client) {
    struct network_stream *n = client->n;
    while (!client->closing && !client->broken) {
        struct span bytes;
        uint64_t status; /* "Stop" says nothing: there is no filter behind */
        ssize_t got = reader_next(n->reader, READ_MAX, &bytes);
        client->read_ended = got == 0;
        if (got <= 0 || client->closing || go_client_tell_data(client, bytes, false, &status) != 0)
            return;
    }
}

static void linger(struct go_client *client) {
    struct socket *socket = &client->n->connection->socket;
    bool lingers =
        client->close_type == GO_CLOSE_FLUSH_AND_DELAY ||
        (client->close_type == GO_CLOSE_FLUSH && !client->read_ended && socket_has_unread(socket));
    if (lingers && !client->broken) /* whatever it says, the connection is closed then */
        (void)!socket_discard(socket, LINGER_BYTES, "linger", rt_now_ns() + LINGER_MS * NS_PER_MS);
}

static enum network_result serve(struct network_stream *n, void *self) {
    struct go_client *client = self;
    client->reading = rt_self();
    read_all(client);
    if (client->read_ended && !client->closing)
        go_peer_flush(client->peer, rt_now_ns() + FLUSH_MS * NS_PER_MS);
    if (!client->closing && !client->gave_up)
        n->connection->closed_by_peer = true;
    rt_cancel_clear();
    go_peer_stop_writing(client->peer);
    rt_cancel_clear();
    if (client->gave_up || (client->closing && client->close_type == GO_CLOSE_RESET))
        socket_reset_on_close(&n->connection->socket);
    else if (client->closing)
        linger(client);
    client->reading = NULL;
    n->log.bytes_received = n->connection->socket.rx_bytes;
    n->log.bytes_sent = n->connection->socket.tx_bytes;
    return NETWORK_DONE;
}

/* A scheduler callback, while the one that serves is busy with Go. */
static void event(struct network_stream *n, void *self, unsigned events) {
    struct go_client *client = self;
    if (!(events & SOCKET_BROKEN) || !client->reading)
        return;
    client->broken = true;
    rt_cancel(client->reading);
}

/* ---- a connection begins and ends ---- */

static void end_peer(struct go_client *client) {
    bool by_peer = !client->closing && client->n->connection->closed_by_peer;
    go_peer_end(client->peer, by_peer ? GO_PEER_REMOTE_CLOSE : GO_PEER_LOCAL_CLOSE);
}

static void free_client(struct go_client *client) {
    go_library_release(client->config->edition.library, client->n->worker->index);
    free(client->held);
    free(client);
}

static void close_connection(struct network_stream *n, void *self) {
    struct go_client *client = self;
    end_peer(client);
    free_client(client);
}

/* The connection ends while our coroutine holds it. */
static void cut(struct network_stream *n, void *self) {
    const struct go_client *client = self;
    go_peer_cut_writing(client->peer);
}

static void fill_info(struct go_client *client) {
    struct downstream *d = client->n->connection;
    struct go_peer_info *info = client->peer->lent->info;
    struct address address;
    downstream_address(d, &address);
    info[GO_PEER_LOCAL].len = address_text(&address, info[GO_PEER_LOCAL].text);
    address_unpack(&d->peer, &address);
    info[GO_PEER_REMOTE].len = address_text(&address, info[GO_PEER_REMOTE].text);
}

/* It lives as long as the connection, so longer than calls can find the peer. */
static void lend_state(struct go_client *client) {
    struct connection_info *info = client->n->info;
    if (!info->filter_state)
        info->filter_state = filter_state_new();
    client->peer->state = info->filter_state; /* without memory there is none */
}

/* The filters behind begin when the plugin lets them: 0, or the connection is over. */
static int wait_for_continue(struct go_client *client) {
    uint64_t status = GO_NETWORK_STOP;
    client->reading = rt_self();
    while (status != GO_NETWORK_CONTINUE) {
        struct span bytes;
        ssize_t n =
            client->closing ? -ECONNRESET : reader_next(client->n->reader, READ_MAX, &bytes);
        if (n < 0 || client->closing)
            return -ECONNRESET;
        client->read_ended = n == 0;
        int rc = go_client_tell_data(client, bytes, n == 0, &status);
        if (rc != 0)
            return rc;
        if (n == 0 && status != GO_NETWORK_CONTINUE) {
            client->n->connection->closed_by_peer = true;
            return -EPIPE;
        }
        if (client->config->passes_read_data && status == GO_NETWORK_CONTINUE)
            client->lent = bytes;
    }
    client->reading = NULL;
    return 0;
}

/* As it is on Envoy with TLS: the handshake is over. */
static int tell_connected(struct go_client *client) {
    struct go_peer_call call = {.number = GO_PEER_CONNECTED};
    return client->n->info->chain->transport.kind ? call_go(client, call_event, &call) : 0;
}

static int announce(struct go_client *client) {
    struct go_peer *peer = client->peer;
    const struct go_plugin *plugin = client->config->plugin;
    struct go_peer_call call = {.plugin_name = plugin->name, .config_id = client->config->id};
    peer->announced = true;
    int rc = call_go(client, call_connection, &call);
    peer->known = peer->announced = rc == 0;
    if (rc != 0)
        return rc;
    stats_bump(stats_cells(peer->p_index), plugin->stats.slots[GO_STAT_REQUESTS], 1);
    rc = tell_connected(client);
    if (rc == 0 && !client->config->is_last && call.status != GO_NETWORK_CONTINUE)
        rc = wait_for_continue(client);
    return rc;
}

static int open_connection(struct network_stream *n, const struct network_filter *filter,
                           void **self) {
    const struct network_config *configured = filter->config;
    struct go_client *client = calloc(1, sizeof *client);
    if (!client)
        return -ENOMEM;
    const struct go_network *config =
        container_of(go_user_current(&configured->user), struct go_network, edition);
    go_library_lease(config->edition.library, n->worker->index);
    client->n = n;
    client->config = config;
    client->lent = span_make("", 0);
    comutex_init(&client->writes);
    client->inner_writer = n->writer;
    client->peer = go_peer_new(config->plugin, false, n->worker->index, n->worker->index);
    if (!client->peer) {
        free_client(client);
        return -ENOMEM;
    }
    client->peer->seat_wait_ns = config->seat_wait_ns;
    client->peer->listener = *n->doing.listener;
    if (client->peer->lent)
        fill_info(client);
    lend_state(client);
    if (!client->peer->lent || go_peer_start(client->peer, &peer_itab, client) != 0) {
        go_peer_drop(client->peer);
        free_client(client);
        return -ENOMEM;
    }
    int rc = announce(client);
    if (rc != 0) { /* nobody calls close_connection */
        rt_cancel_clear();
        go_peer_stop_writing(client->peer);
        rt_cancel_clear();
        end_peer(client);
        free_client(client);
        return rc;
    }
    if (!config->is_last)
        go_client_wrap(client);
    *self = client;
    return 0;
}

/* ---- configuration ---- */

struct config_call {
    const struct go_library *library;
    const char *bytes;
    size_t len;
    uint64_t id;
};

static void call_config(struct config_call *call) {
    const char *id = call->library->told_id;
    call->id = call->library->fn.network.on_config((uint64_t)(uintptr_t)id, strlen(id),
                                                   (uint64_t)(uintptr_t)call->bytes, call->len);
}

static struct go_library *library_of(const struct cfg_golang_network *cfg,
                                     struct cfg_problems *problems) {
    if (go_peers_init() != 0) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
        return NULL;
    }
    return go_library_named(&cfg->library, false, &cfg->mark, problems);
}

/* False when memory is short. */
static bool seat(struct go_network *network, struct go_library *library,
                 const struct cfg_golang_network *cfg, struct cfg_problems *problems) {
    network->edition.library = library;
    network->seat_wait_ns = go_seat_wait_ns(&cfg->library);
    network->is_last = cfg->is_terminal_filter;
    network->passes_read_data = cfg->pass_read_data;
    network->plugin = go_plugin_get(library, GO_PLUGIN_NETWORK, cfg->plugin_name);
    bool has_seats =
        go_seats_settled(library, GO_SEATS_OF_CALLS, &cfg->library, &cfg->mark, problems) != NULL;
    return network->plugin && has_seats;
}

static struct go_edition *make(struct go_user *user, struct go_library *library,
                               struct cfg_problems *problems) {
    const struct cfg_golang_network *cfg = container_of(user, struct network_config, user)->cfg;
    if (!go_network_functions_are_there(&library->fn.network)) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "%s has no network filters",
                        library->path);
        return NULL;
    }
    struct config_call call = {.library = library};
    struct go_network *network = calloc(1, sizeof *network);
    char *bytes = go_any_bytes(cfg->has_plugin_config ? &cfg->plugin_config : NULL, &call.len);
    if (!network || !bytes || !seat(network, library, cfg, problems)) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
        free(network);
        free(bytes);
        return NULL;
    }
    call.bytes = bytes;
    call_config(&call);
    free(bytes);
    network->id = call.id;
    return &network->edition;
}

static void free_edition(struct go_edition *edition) {
    free(container_of(edition, struct go_network, edition));
}

/* What Go made of its configuration stays: the SDK has no function that takes it back. */
static const struct go_user_itab user_itab = {.make = make, .free = free_edition};

static int build(const struct cfg_any *typed_config, const struct snapshot *snapshot,
                 struct cfg_problems *problems, void **out) {
    const struct cfg_golang_network *cfg = typed_config->message;
    struct go_library *library = go_config_is_dry() ? NULL : library_of(cfg, problems);
    if (!library && !go_config_is_dry())
        return -EINVAL;
    struct network_config *config = calloc(1, sizeof *config);
    if (!config) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
        return -EINVAL;
    }
    config->cfg = cfg;
    if (!cfg->is_terminal_filter && !cfg->pass_read_data)
        cfg_problem_add(problems, CFG_PROBLEM_WARNING, &cfg->mark,
                        "what clients send ends at this filter, as it does on Envoy: set "
                        "pass_read_data, and it goes on when OnData says Continue");
    if (library && go_user_add(&config->user, library->origin, &user_itab, problems) != 0) {
        free(config);
        return -EINVAL;
    }
    *out = config;
    return 0;
}

uint64_t go_network_try(struct go_library *library, struct span name, struct span config) {
    const struct go_network_functions *fn = &library->fn.network;
    struct config_call call = {.library = library, .bytes = config.ptr, .len = config.len};
    if (!go_network_functions_are_there(fn) || go_peers_init() != 0)
        return 0;
    call_config(&call);
    struct go_plugin *plugin = go_plugin_get(library, GO_PLUGIN_NETWORK, name);
    struct go_peer *peer = plugin ? go_peer_new(plugin, false, 0, STATS_SHARD_FOREIGN) : NULL;
    if (!peer)
        return 0;
    for (int i = 0; peer->lent && i < 2; i++) { /* of no other use than to look like one */
        struct go_peer_info *info = &peer->lent->info[i];
        info->len = (size_t)snprintf(info->text, sizeof info->text, "127.0.0.1:%d", 1 + i);
    }
    peer->known = true;
    (void)fn->on_connection(peer->lent, (uint64_t)(uintptr_t)name.ptr, name.len, call.id);
    fn->on_event(peer->lent, GO_PEER_LOCAL_CLOSE);
    go_peer_drop(peer);
    return call.id;
}

static void free_config(void *arg) {
    struct network_config *config = arg;
    if (!config)
        return;
    go_user_remove(&config->user);
    free(config);
}

static const struct network_filter_itab last_itab = {
    .name = "envoy.filters.network.golang",
    .open = open_connection,
    .serve = serve,
    .event = event,
    .cut = cut,
    .close = close_connection,
};

static const struct network_filter_itab before_itab = {
    .name = "envoy.filters.network.golang",
    .open = open_connection,
    .cut = cut,
    .close = close_connection,
};

static const struct network_filter_itab *choose(const struct cfg_any *typed_config) {
    const struct cfg_golang_network *cfg = typed_config->message;
    return cfg->is_terminal_filter ? &last_itab : &before_itab;
}

const struct network_filter_kind network_filter_kind_golang = {
    .choose = choose,
    .schema = &cfg_schema_golang_network,
    .wraps = true,
    .build = build,
    .free_config = free_config,
};
