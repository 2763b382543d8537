/* exchange: one request and its response, from the head's first byte to the access log line.
 *
 *   downstream coroutine: parse head ─ route ─ request filters ─ router ─ response filters ─ write
 *                                                        │ body?
 *   pump coroutine:                                      └ x->request.body ─► upstream
 *
 * Ownership  The connection owns the exchange. Everything of the exchange hangs on its arena, its
 *            two messages and its filter instances, so dropping the exchange releases it all.
 *            What its listener was configured with is leased by the connection: a new config does not touch it.
 * Threads    One P, two coroutines at most. Foreign code never sees this struct: it works on an
 *            ext_stream (ext/ext_stream.h).
 * Waiting    A coroutine of the exchange that parks may find it ended when it wakes: any park
 *            returns -ECANCELED once the client is gone or a reply was asked for by the other
 *            coroutine. The right reaction is to return; exchange_alive tells. */
#pragma once
#include <stdatomic.h>

#include "mem/arena.h"
#include "proxy/cluster_specifier.h"
#include "proxy/filter.h"
#include "proxy/message.h"
#include "proxy/stream_info.h"
#include "rt/rt.h"
#include "rt/timer.h"

struct body_out;
struct downstream;
struct log_flush;
struct serving;
struct worker;
struct cluster;
struct hcm;
struct route_entry;

enum exchange_state {
    EXCHANGE_REQUEST,      /* request filters run; nothing of a response yet */
    EXCHANGE_RESPONSE,     /* response filters run: a reply now bypasses them */
    EXCHANGE_HEADERS_SENT, /* the head is on the wire: a reply now is a reset */
    EXCHANGE_DONE,
};

/* What becomes of a request's Upgrade field. Bodies of such an exchange have no framing: they end with the
 * connection, which serves no other request. */
enum exchange_upgrade {
    UPGRADE_NONE, /* not asked for */
    UPGRADE_ASKED, /* passed on; of the client's bytes behind the head none goes on before the answer */
    UPGRADE_AGREED, /* the upstream said 101: bytes go both ways */
};

/* A response made here. Spans are copied by exchange_reply. */
struct local_reply {
    unsigned status;
    struct span body;             /* empty: no content-type, content-length 0 */
    const struct header *headers; /* added, not set; those with an empty value are skipped */
    size_t header_count;
    struct span details; /* response code details; absent: "direct_response" */
    int64_t grpc_status; /* GRPC_STATUS_UNSET: derived from status */
    uint32_t flags;      /* enum response_flag, added */
    bool close_connection;
};
#define GRPC_STATUS_UNSET INT64_MIN

struct metadata;
struct filter_state;
struct rollout_use;
struct former_routes;

struct exchange {
    struct downstream *downstream;
    struct serving *serving; /* its connection's */
    const struct hcm *hcm;
    struct cluster *leased_cluster; /* found by name, and leased; NULL: the route's */
    struct stream_info info;

    const struct route_entry *route; /* NULL: none matched, or not chosen yet */
    bool route_chosen;
    bool is_head, is_grpc;
    enum exchange_state state;

    struct g *main, *pump;            /* NULL: not running */
    struct doing *doing, *pump_doing; /* theirs */
    bool client_gone;                 /* hung up */
    bool reply_pending;               /* `reply` waits to become the response */
    bool reset_pending;
    bool request_complete; /* the whole request was read */
    bool local;            /* the response was made here */
    bool refused;          /* for want of memory: no filter sees it */
    bool pump_started, pump_cancelled;
    bool close_after; /* the connection ends with this response */
    uint8_t upgrade;  /* enum exchange_upgrade */
    unsigned shard;   /* the P's index: shard of stats */
    struct worker *worker;
    uint64_t random; /* of this exchange: weighted clusters, fractions */

    struct filter_instance *filters;
    uint32_t filter_count;
    const struct body_out *sending; /* the response, on its way; NULL: it is not */
    struct log_flush *flush;        /* exchange_log's coroutine; NULL: it does not run */
    size_t charged_bytes;           /* by exchange_charge */
    /* NULL: nobody noted anything. exchange_metadata and its like */
    struct metadata *_Atomic metadata; /* dynamic */
    struct filter_state *_Atomic filter_state;
    struct rollout_use *rollouts; /* that it is counted for (rollout.h) */
    struct former_routes
        *former_routes; /* leased: it was given routes of these; NULL: it was not */

    /* When something has to happen; serving->timer looks at these. */
    int64_t active_ns, idle_timeout_ns; /* 0: none. Activity only moves active_ns */
    int64_t request_deadline_ns;        /* request_timeout; RT_FOREVER: none */
    int64_t duration_deadline_ns;       /* max_stream_duration; RT_FOREVER: none */
    int64_t filter_deadline_ns;         /* exchange_set_deadline's */
    int64_t log_due_ns;                 /* of the periodic log; 0: none */
    void (*on_filter_deadline)(struct exchange *x, void *arg);
    void *filter_deadline_arg;

    /* What begins here is not cleared for every request: each has an init function that touches less. */
    struct arena arena;
    struct message request, response;
    struct local_reply reply;     /* set with reply_pending; its spans are in the arena */
    struct cluster_choice choice; /* of a route with a specifier */
    struct doing_request asked;   /* as filters first saw it; of x->doing */
};

struct filter_instance {
    const struct filter_factory *factory;
    void *self;
};

/* ---- for the connection ---- */

/* After the head was parsed into x->request.headers: runs filters, sends the response through
 * downstream_send and finishes: logs, destroys instances, counts. Parks. Returns whether the
 * connection may serve another request. */
bool exchange_run(struct exchange *x);
/* The client hung up: cancels what runs. */
COLD void exchange_client_gone(struct exchange *x);
/* Of serving.timer. */
COLD void exchange_timer_fired(struct timer *timer);

/* ---- for terminal filters ---- */

/* Starts fn(x, arg) as the pump coroutine; -ENOMEM. */
MUST_CHECK int exchange_pump_start(struct exchange *x, void (*fn)(struct exchange *x, void *arg),
                                   void *arg);
/* Cancels the pump and waits until it ended. Only from the main coroutine. */
void exchange_pump_stop(struct exchange *x);
/* Calls fn(x, arg) at deadline_ns, as a scheduler callback, unless the exchange is over by then.
 * RT_FOREVER takes it back. There is one, the terminal filter's. */
void exchange_set_deadline(struct exchange *x, int64_t deadline_ns,
                           void (*fn)(struct exchange *x, void *arg), void *arg);
/* Bytes moved: the idle timer starts anew. */
static inline void exchange_touch(struct exchange *x) {
    x->active_ns = rt_now_ns();
}
/* What the calling coroutine of the exchange does. A filter that the chain calls is noted there already;
 * one that works in a body's reader, when the next one or the connection pulls, notes it itself. */
static inline struct doing *exchange_doing(struct exchange *x) {
    return x->pump && x->pump == rt_self() ? x->pump_doing : x->doing;
}
/* The request was read to its end: its timeout no longer runs. */
void exchange_request_read(struct exchange *x);

/* Whether the response's trailers may be looked at: all that came from the upstream has. */
static inline bool exchange_has_response_trailers(const struct exchange *x) {
    return x->info.upstream_rx_last_ns != 0 || x->local;
}
/* False once the client is gone, a reply is pending or the exchange was reset: return then. */
bool exchange_alive(const struct exchange *x);

/* Ends the request side with a response made here, which passes the response side of all filters.
 * In EXCHANGE_RESPONSE it replaces the response and bypasses filters; in EXCHANGE_HEADERS_SENT it
 * resets. The first reply wins. From either coroutine. */
COLD void exchange_reply(struct exchange *x, const struct local_reply *reply);
/* What a filter is about to hold of a body counts for its listener's memory limit, until the exchange ends.
 * Parks while there is not so much, a second at most: nobody reads on meanwhile. 0, -ENOMEM (reply with 503
 * and the words below) or -ECANCELED. Without a limit it does nothing. */
MUST_CHECK int exchange_charge(struct exchange *x, size_t bytes);
/* What a client is told, and the log, when its listener's memory limit was in the way. */
#define EXCHANGE_MEMORY_LIMIT_TEXT "memory limit of the listener"
#define EXCHANGE_MEMORY_LIMIT_DETAILS "listener_memory_limit"
/* "ip:port" of the client's connection, of its own ends or as x-forwarded-for has it. Absent when memory is
 * short. */
struct span exchange_downstream_local(struct exchange *x);
struct span exchange_downstream_remote(struct exchange *x);
struct span exchange_downstream_direct_remote(struct exchange *x);
uint64_t exchange_connection_id(const struct exchange *x);

/* Drops the client's connection without (more of) a response. */
COLD void exchange_reset(struct exchange *x, struct span details);

/* To be written to; made now, if there was none. NULL when memory is short. Its coroutines, and any thread that was lent
 * a side of the exchange. Borrowed until the exchange ends. */
struct metadata *exchange_metadata(struct exchange *x);
struct filter_state *exchange_filter_state(struct exchange *x);
/* The same, if there is one; else NULL. */
static inline struct metadata *exchange_metadata_if(struct exchange *x) {
    return atomic_load_explicit(&x->metadata, memory_order_acquire);
}
static inline struct filter_state *exchange_filter_state_if(struct exchange *x) {
    return atomic_load_explicit(&x->filter_state, memory_order_acquire);
}

/* The chosen route, choosing it first if need be, and its cluster if a plugin does that: then it parks. NULL when
 * none matches. On the exchange's main coroutine. */
const struct route_entry *exchange_route(struct exchange *x);
void exchange_clear_route(struct exchange *x);

/* Per-route configs of a filter, least specific first (route table, virtual host, route, weighted
 * cluster). Returns how many were put in out. */
enum { FILTER_ROUTE_LEVELS = 4 };
unsigned exchange_route_configs(struct exchange *x, const struct filter_factory *factory,
                                const void *out[FILTER_ROUTE_LEVELS]);
/* Bytes one side may hold back in memory: per_connection_buffer_limit_bytes. */
size_t exchange_buffer_limit(const struct exchange *x);
