/* network_filter: what a filter of a connection's bytes is. Straight-line functions on the connection's coroutine,
 * which may park; no callbacks and no state machine.
 *
 *     open 0 ─► open 1 ─► ... ─► the last one: serve ─► ... ─► close n-1 .. close 0
 *
 * A filter that looks at bytes, or changes them, wraps n->reader (what the client sends) or n->writer (what it gets) in
 * a decorator of its own when it opens (io/reader.h). The last filter moves bytes: a TCP proxy, an echo, the HTTP
 * connection manager.
 *
 * Threads  The connection's P.
 * Errors   open: -errno closes the connection; the filter has counted why. */
#pragma once
#include "config/config.h"
#include "io/socket_stream.h"
#include "proxy/connection_info.h"
#include "proxy/doing.h"
#include "proxy/stream_info.h"

struct network_filter;
struct snapshot;
struct worker;

struct network_stream {
    struct downstream *connection;
    struct worker *worker;
    struct connection_info *info; /* owned by the connection, to be written to */
    struct inbuf in;              /* what was read of the client and not used yet */
    /* While nobody wrapped them they are the socket's own, below: then bytes may pass without being looked at. */
    struct reader reader;
    struct writer writer;
    struct socket_reader socket_reader; /* without a limit of time, until a filter says one */
    struct socket_writer socket_writer;
    struct span cluster;    /* where to, if a filter says so (sni_cluster); absent: as configured */
    struct stream_info log; /* for the access log */
    struct doing doing;     /* of the coroutine that serves it, and of others: doing_init_like */
    /* A filter, and not who serves, closes it: the client is told of an end, and not that the stream broke. */
    bool closed_by_filter;
    bool ended; /* private, as the rest */
    uint32_t holds;
    uint32_t open_count;
    struct partial_head *kept; /* memory of `in`, or NULL */
    void *selves[];            /* of each filter, by index: what open left there */
};

enum network_result {
    NETWORK_DONE, /* the connection is over: it is closed by whoever called */
    NETWORK_TAKEN, /* it goes on without this coroutine: network_stream_end ends it, or has ended it */
};

struct network_filter_itab {
    const char *name; /* "envoy.filters.network.tcp_proxy" */
    /* May be NULL. *self is the config before. */
    int (*open)(struct network_stream *n, const struct network_filter *filter, void **self);
    /* Of the last filter, and of no other: until the connection is over. */
    enum network_result (*serve)(struct network_stream *n, void *self);
    /* Of the last filter, from its serve on: the client sent something, or its end (bits of socket_event_fn), while no
     * coroutine waited for that. What came before is not told again, so a filter that gives up its coroutine looks at
     * n->in and asks socket_has_input first. A scheduler callback; it may end the stream if no coroutine serves it.
     * May be NULL. */
    void (*event)(struct network_stream *n, void *self, unsigned events);
    /* The connection is over but for those who hold it (network_stream_hold): a coroutine of this filter that does is
     * to come to its end, cancelled for instance. May be NULL. */
    void (*cut)(struct network_stream *n, void *self);
    /* The connection is over, reader and writer are closed; for each whose open returned 0, in reverse order. May be
     * NULL; must not park. */
    void (*close)(struct network_stream *n, void *self);
};

/* How one is configured: found by the schema of its typed_config. */
struct network_filter_kind {
    const struct network_filter_itab *itab;
    /* Or which of several, one that serves for instance and one that does not; then itab is NULL. */
    const struct network_filter_itab *(*choose)(const struct cfg_any *typed_config);
    const struct cfg_schema *schema;
    /* Its open wraps reader or writer. Not in front of an HTTP connection manager, which reads the socket itself. */
    bool wraps;
    /* Off the Ps. The snapshot answers whether clusters exist. -EINVAL with the problems reported. */
    int (*build)(const struct cfg_any *typed_config, struct snapshot *snapshot,
                 struct cfg_problems *problems, void **config);
    void (*free_config)(void *config);
};

/* One entry of a filter chain, part of a snapshot. The HTTP connection manager is the last of its chain and none of
 * these: see filter_chain.h. */
struct network_filter {
    const struct network_filter_kind *kind;
    const struct network_filter_itab *itab;
    struct span name;
    uint32_t index;
    void *config; /* owned */
};

enum { NETWORK_FILTER_KINDS_MAX = 32 };
/* main registers them at start, before the first config is built. */
void network_filter_register(const struct network_filter_kind *kind BORROWED_BY(program));
/* NULL: there is none that takes that configuration. */
const struct network_filter_kind *network_filter_find(const struct cfg_schema *schema);

/* Ends a connection that was taken (NETWORK_TAKEN): closes filters and socket, frees n. Also of one that a coroutine
 * of the filter still serves, by that coroutine as its last act. */
void network_stream_end(struct network_stream *n);

/* For a coroutine of a filter's own that uses the reader or the writer: until the release, n and what it has stay, also
 * when the connection is over. The release may be what ends it. */
void network_stream_hold(struct network_stream *n);
void network_stream_release(struct network_stream *n);
/* For a filter that is not the last: the connection is to end. The last one is told that its socket broke, and may end n
 * before this returns. False: it is not served yet, or by one that only its reader and writer tell. */
bool network_stream_break(struct network_stream *n);
