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
#include "ext/go/go_isolate.h"
#include "ext/go/go_lent.h"
#include "ext/go/go_log.h"
#include "ext/go/go_seats.h"
#include "ext/remote/remote_connect.h"
#include "ext/remote/remote_library.h"
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

/* ---- calls ---- */

/* By a coroutine of the connection's: they all say what it does by one doing. */
static int call_go(struct go_client *client, struct go_peer_call *call) {
    struct doing *doing = &client->n->doing;
    client->in_go++;
    doing_filter(doing, &client->config->plugin->labels);
    int rc = go_peer_call(client->peer, call);
    if (--client->in_go == 0)
        doing_filter(doing, NULL);
    return rc;
}

/* What came of a call, of one that may be without its plugin: that lets all go on then. */
static int or_without(struct go_client *client, struct go_peer_call *call, int rc) {
    if (rc == -EPIPE)
        go_client_lose(client);
    if (rc != -EPIPE || !client->without)
        return rc;
    call->status = GO_NETWORK_CONTINUE;
    return 0;
}

static int ask_go(struct go_client *client, struct go_peer_call *call) {
    return or_without(client, call, client->without ? -EPIPE : call_go(client, call));
}

int go_client_tell_data(struct go_client *client, struct span bytes, bool end, uint64_t *status) {
    const uint64_t slice[2] = {(uint64_t)(uintptr_t)bytes.ptr, bytes.len};
    struct go_peer_call call = {.kind = GO_CALL_DATA,
                                .slices = slice,
                                .slice_count = bytes.len ? 1 : 0,
                                .size = bytes.len,
                                .end = end};
    int rc = ask_go(client, &call);
    *status = call.status;
    client->gave_up |= rc == -ETIMEDOUT;
    return rc != 0 ? rc : go_peer_wait_for_room(&call);
}

int go_client_tell_write(struct go_client *client, const struct iovec *pieces, int count, bool end,
                         uint64_t *status) {
    uint64_t at_hand[2 * (SLICES_AT_HAND + 1)], *slices = at_hand;
    struct go_peer_call call = {.kind = GO_CALL_WRITE, .end = end};
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
    int rc = ask_go(client, &call);
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
        call = (struct go_peer_call){.kind = GO_CALL_WRITE,
                                     .patience = GO_PEER_UNTIL_CANCELLED,
                                     .slices = slice,
                                     .slice_count = bytes.len ? 1 : 0,
                                     .size = bytes.len,
                                     .end = end};
        rc = client->without ? -EPIPE : go_peer_call(client->peer, &call);
        rc = or_without(client, &call, rc);
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
        go_client_break(client);
    network_stream_release(n); /* the client may be gone */
}

static void do_hurry(void *owner) {
    struct go_client *client = owner;
    client->n->socket_writer.stall_ns = 0;
}

static const struct go_peer_itab peer_itab = {.write = do_write,
                                              .close = do_close,
                                              .hurry = do_hurry,
                                              .lost = go_client_lose,
                                              .settle = go_client_settle};

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

/* The filters behind begin when the plugin lets them, or is lost: 0, or the connection is over. */
static int wait_for_continue(struct go_client *client) {
    uint64_t status = GO_NETWORK_STOP;
    while (status != GO_NETWORK_CONTINUE && !client->without) {
        struct span bytes;
        ssize_t n =
            client->closing ? -ECONNRESET : reader_next(client->n->reader, READ_MAX, &bytes);
        if (n == -ECANCELED && client->woken)
            return 0;
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
        if (client->without || (client->config->passes_read_data && status == GO_NETWORK_CONTINUE))
            client->lent = bytes;
        else
            client->kept |= bytes.len > 0;
    }
    return 0;
}

static int open_behind(struct go_client *client) {
    client->reading = rt_self();
    client->opening = true;
    int rc = wait_for_continue(client);
    client->opening = false;
    if (client->woken) {
        rt_cancel_clear();
        socket_reader_resume(&client->n->socket_reader);
    }
    if (rc == 0)
        client->reading = NULL;
    return rc;
}

/* As it is on Envoy with TLS: the handshake is over. */
static int tell_connected(struct go_client *client) {
    struct go_peer_call call = {.kind = GO_CALL_EVENT, .number = GO_PEER_CONNECTED};
    return client->n->info->chain->transport.kind ? ask_go(client, &call) : 0;
}

static int announce(struct go_client *client) {
    struct go_peer *peer = client->peer;
    const struct go_plugin *plugin = client->config->plugin;
    struct go_peer_call call = {.kind = GO_CALL_CONNECTION, .config_id = client->config->id};
    peer->announced = true;
    int rc = ask_go(client, &call);
    peer->announced = rc == 0 && !client->without;
    peer->known = peer->announced && !peer->remote;
    if (rc != 0 || client->without)
        return rc;
    stats_bump(stats_cells(peer->p_index), plugin->stats.slots[GO_STAT_REQUESTS], 1);
    rc = tell_connected(client);
    if (rc == 0 && !client->config->is_last && call.status != GO_NETWORK_CONTINUE)
        rc = open_behind(client);
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
    doing_init_like(&client->peer->doing, &n->doing);
    doing_filter(&client->peer->doing, &config->plugin->labels);
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
    return go_library_named(&cfg->library, go_is_isolated(&cfg->library), &cfg->mark, problems);
}

/* False when memory is short. A host process has seats of one kind. */
static bool seat(struct go_network *network, struct go_library *library,
                 const struct cfg_golang_network *cfg, struct cfg_problems *problems) {
    enum go_seats_kind kind = library->isolated ? GO_SEATS_OF_WORKERS : GO_SEATS_OF_CALLS;
    network->edition.library = library;
    network->seat_wait_ns = go_seat_wait_ns(&cfg->library);
    network->is_last = cfg->is_terminal_filter;
    network->passes_read_data = cfg->pass_read_data;
    network->goes_on = cfg->on_failure == CFG_ON_FAILURE_OPEN;
    network->plugin = go_plugin_get(library, GO_PLUGIN_NETWORK, cfg->plugin_name);
    bool has_seats = go_seats_settled(library, kind, &cfg->library, &cfg->mark, problems) != NULL;
    return network->plugin && has_seats;
}

static bool has_network_filters(const struct go_library *library) {
    return library->isolated ? library->elf.has_network
                             : go_network_functions_are_there(&library->fn.network);
}

/* 0, or -EINVAL with a problem. */
static int parse(struct go_network *network, const struct cfg_golang_network *cfg,
                 struct span bytes, struct cfg_problems *problems) {
    struct go_library *library = network->edition.library;
    char said[REMOTE_SAID_MAX];
    if (!library->isolated) {
        struct config_call call = {.library = library, .bytes = bytes.ptr, .len = bytes.len};
        call_config(&call);
        network->id = call.id;
        return 0;
    }
    if (go_isolate(library, &cfg->library, &cfg->mark, problems) != 0)
        return -EINVAL;
    remote_library_connects(library->remote, remote_connect, library);
    network->id = remote_library_configure(library->remote,
                                           &(struct remote_config){.name = network->plugin->name,
                                                                   .bytes = bytes,
                                                                   .kind = REMOTE_NOTE_NETWORK},
                                           said);
    if (network->id)
        return 0;
    cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                    "the plugin %.*s refuses its configuration: %s", (int)network->plugin->name.len,
                    network->plugin->name.ptr, said);
    return -EINVAL;
}

static struct go_edition *make(struct go_user *user, struct go_library *library,
                               struct cfg_problems *problems) {
    const struct cfg_golang_network *cfg = container_of(user, struct network_config, user)->cfg;
    if (!has_network_filters(library)) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "%s has no network filters",
                        library->path);
        return NULL;
    }
    size_t len;
    int err = -ENOMEM;
    struct go_network *network = calloc(1, sizeof *network);
    char *bytes = go_any_bytes(cfg->has_plugin_config ? &cfg->plugin_config : NULL, &len);
    if (network && bytes && seat(network, library, cfg, problems))
        err = parse(network, cfg, span_make(bytes, len), problems);
    else
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
    free(bytes);
    if (!err)
        return &network->edition;
    free(network);
    return NULL;
}

/* What Go made of it stays: the SDK has no function that takes it back. But no other process is told. */
static void drop_edition(struct go_edition *edition) {
    const struct go_network *network = container_of(edition, struct go_network, edition);
    if (edition->library->isolated)
        remote_library_drop(edition->library->remote, network->id);
}

static void free_edition(struct go_edition *edition) {
    free(container_of(edition, struct go_network, edition));
}

static const struct go_user_itab user_itab = {
    .make = make, .drop = drop_edition, .free = free_edition};

static int build(const struct cfg_any *typed_config, struct snapshot *snapshot,
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

uint64_t go_network_parse(struct go_library *library, struct span config) {
    struct config_call call = {.library = library, .bytes = config.ptr, .len = config.len};
    if (!go_network_functions_are_there(&library->fn.network) || go_peers_init() != 0)
        return 0;
    call_config(&call);
    return call.id;
}

uint64_t go_network_try(struct go_library *library, struct span name, struct span config) {
    const struct go_network_functions *fn = &library->fn.network;
    const uint64_t id = go_network_parse(library, config);
    if (!id)
        return 0;
    struct go_plugin *plugin = go_plugin_get(library, GO_PLUGIN_NETWORK, name);
    struct go_peer *peer = plugin ? go_peer_new(plugin, false, 0, STATS_SHARD_FOREIGN) : NULL;
    if (!peer)
        return 0;
    for (int i = 0; peer->lent && i < 2; i++) { /* of no other use than to look like one */
        struct go_peer_info *info = &peer->lent->info[i];
        info->len = (size_t)snprintf(info->text, sizeof info->text, "127.0.0.1:%d", 1 + i);
    }
    peer->known = true;
    (void)fn->on_connection(peer->lent, (uint64_t)(uintptr_t)name.ptr, name.len, id);
    fn->on_event(peer->lent, GO_PEER_LOCAL_CLOSE);
    go_peer_drop(peer);
    return id;
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
