/* tcp_proxy_internal: a client's connection, one to an upstream, and what passes between them. */
#pragma once
#include "base/stats.h"
#include "io/stream_copy.h"
#include "proxy/network_filter.h"
#include "proxy/upstream.h"

struct access_log;
struct cfg_tcp_proxy;
struct snapshot;

struct tcp_stats { /* tcp.<stat_prefix>.* */
    struct statistic *cx_total, *cx_no_route, *rx_bytes, *tx_bytes, *rx_buffered, *tx_buffered,
        *paused, *resumed, *idle_timeout, *max_duration;
};

struct tcp_target {
    struct cluster *cluster; /* of the listener; NULL: there is none of that name */
    uint64_t below; /* chosen by a random number below this, and not below the one before */
};

/* As configured. Part of a snapshot. */
struct tcp_proxy {
    struct tcp_target *targets;
    uint32_t target_count;
    uint32_t attempts_max;
    int64_t idle_ns, duration_ns, flush_ns; /* 0: none */
    int64_t backoff_ns, backoff_max_ns;     /* 0: none */
    bool logs_connected;
    uint32_t log_count;
    struct access_log **logs;
    struct tcp_stats stats;
};

enum tcp_way { TCP_TO_UPSTREAM, TCP_TO_CLIENT };

enum tcp_flow_state {
    TCP_OPEN,
    TCP_ENDED,  /* the end has come, and was passed on behind all else */
    TCP_BROKEN, /* who receives is gone: what is sent to him is dropped */
};

struct tcp_flow { /* one way */
    struct tcp_work
        *work;   /* while bytes are on the way, or a coroutine is; NULL: there is nothing to do */
    struct g *g; /* its coroutine, once that runs */
    struct splice_pace pace; /* while there is no work */
    uint8_t state;           /* enum tcp_flow_state */
    bool busy;               /* it has a coroutine */
    bool bulk;               /* much came at a time, the last time */
};

enum tcp_end {
    TCP_GOES_ON,
    TCP_CLOSES, /* as the streams have ended, or for a reason of ours */
    TCP_BREAKS, /* with a reset: what was sent may be lost */
};

struct tcp_session {
    struct network_stream *n;
    const struct tcp_proxy *proxy;
    struct upstream *upstream; /* NULL: not connected yet */
    struct host *host;         /* leased: the one that could not be connected to last, or NULL */
    struct cluster *leased_cluster; /* found by name; NULL: it is the configuration's */
    struct g *connecting;           /* the coroutine that connects; NULL: none does */
    struct tcp_flow flows[2];       /* by enum tcp_way */
    int64_t active_ns;              /* when something moved last */
    int64_t opened_ns, logged_ns;
    struct timer timer; /* for a time no later than the first of what is to happen */
    uint8_t end;        /* enum tcp_end; once set, all that runs is cancelled */
    uint8_t coroutines; /* on the flows */
    bool plain;         /* nobody wrapped the client's reader or writer */
};

/* 0, or -ENOMEM. How long the connection may last counts from here. */
MUST_CHECK int tcp_session_open(struct network_stream *n, const struct tcp_proxy *proxy,
                                struct tcp_session **out);
/* The connection is over, or never was: releases all, the struct included, and logs. */
void tcp_session_close(struct tcp_session *s);
/* The calling coroutine looks for an upstream: it is cancelled when the session is over meanwhile (s->end). */
void tcp_session_connects(struct tcp_session *s);
/* Connected: what has come goes its way, and all that will. The stream may have ended (network_stream_end) when it
 * returns. */
void tcp_session_start(struct tcp_session *s);
/* The client's socket has something to tell; of struct network_filter_itab. */
void tcp_session_event(struct network_stream *n, void *self, unsigned events);
/* The upstream's; of struct upstream_wants. */
void tcp_session_upstream_event(struct socket *socket, unsigned events);
void tcp_session_log(struct tcp_session *s, int event); /* enum format_event */
