/* go_network_internal: a client's connection as the filter has it. go_network.c begins, serves and ends it, go_before.c
 * stands between it and the filters behind. */
#pragma once
#include "ext/go/go_network.h"
#include "ext/go/go_origin.h"
#include "ext/go/go_peer.h"

/* What is configured, in one copy of the library. */
struct go_network {
    struct go_edition edition;
    struct go_plugin *plugin;
    uint64_t id;
    int64_t seat_wait_ns;
    bool is_last, passes_read_data;
    bool goes_on; /* on_failure: OPEN */
};

/* A connection. */
struct go_client {
    struct network_stream *n;
    const struct go_network *config;
    struct go_peer *peer;
    bool closing; /* Go wants it to end */
    bool broken;  /* the socket, while nobody read it */
    bool
        gave_up; /* there was no seat for what the client sent, or the library's process was lost */
    bool kept;   /* bytes of the client's have not gone on: they are the plugin's, or dropped */
    bool without; /* the plugin was lost with its process: it goes on as if there was none */
    bool opening; /* the filters behind wait for Continue */
    bool woken;   /* and for nothing any more: who waits was cancelled, to go on */
    bool read_ended;
    enum go_close_type close_type;
    unsigned in_go; /* coroutines */
    struct g *reading,
        *writing; /* who is in our reader, in our writer; of the last one: who serves */
    /* Before other filters. */
    struct reader inner;
    struct writer inner_writer;
    struct comutex writes;
    bool finished; /* the client was told of the end */
    struct span
        lent; /* what came while the filters behind were not opened yet: as the reader lent it */
    char *held;
    size_t held_len;
    bool held_end; /* behind them: OnWrite stopped the end */
    bool closed_reader, closed_writer;
};

/* OnData: 0 and what the plugin said; -ECANCELED. Waits, too, until what it wrote meanwhile has room. Parks. */
MUST_CHECK int go_client_tell_data(struct go_client *client, struct span bytes, bool end,
                                   uint64_t *status);
/* OnWrite of the bytes that are held, then of these. 0, -ECANCELED or -ENOMEM. With `writes`. Parks. */
MUST_CHECK int go_client_tell_write(struct go_client *client, const struct iovec *pieces, int count,
                                    bool end, uint64_t *status);
/* The client is told of the end, once. With `writes`. 0 or -errno. Parks. */
MUST_CHECK int go_client_finish(struct go_client *client);
/* What waited for OnWrite to let it go on does: there is no plugin any more. With `writes`. 0 or -errno. Parks. */
MUST_CHECK int go_client_let_go(struct go_client *client);
/* The last filter is told that the connection is over, by close_type. The client may be gone when it returns. */
void go_client_break(struct go_client *client);
/* Of struct go_peer_itab: go_loss.c. Idempotent. */
void go_client_lose(void *client);
void go_client_settle(void *client);
/* Its reader and writer become ours: go_before.c. */
void go_client_wrap(struct go_client *client);
