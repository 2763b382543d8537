/* exchange: one request and its response, from the head's first byte to the access log line.
 *
 *   downstream coroutine: parse head ─ route ─ request filters ─ router ─ response filters ─ write
 *                                                        │ body?
 *   pump coroutine:                                      └ x->request.body ─► upstream
 *
 * Ownership  The connection owns the exchange. Everything of the exchange hangs on its arena, its
 *            two messages and its filter instances, so dropping the exchange releases it all.
 *            `snapshot` is leased for the exchange's life: a new config does not touch it.
 * Threads    One P, two coroutines at most. Foreign code never sees this struct: it works on an
 *            ext_stream (ext/ext_stream.h).
 * Waiting    A coroutine of the exchange that parks may find it ended when it wakes: any park
 *            returns -ECANCELED once the client is gone or a reply was asked for by the other
 *            coroutine. The right reaction is to return; exchange_alive tells. */
#pragma once
#include "mem/arena.h"
#include "proxy/filter.h"
#include "proxy/message.h"
#include "proxy/stream_info.h"
#include "rt/rt.h"

struct downstream;
struct snapshot;
struct hcm;
struct route_entry;

enum exchange_state {
    EXCHANGE_REQUEST,       /* request filters run; nothing of a response yet */
    EXCHANGE_RESPONSE,      /* response filters run: a reply now bypasses them */
    EXCHANGE_HEADERS_SENT,  /* the head is on the wire: a reply now is a reset */
    EXCHANGE_DONE,
};

/* A response made here. Spans are copied by exchange_reply. */
struct local_reply {
    unsigned status;
    struct span body;                /* empty: no content-type, content-length 0 */
    const struct header *headers;    /* added, not set; those with an empty value are skipped */
    size_t header_count;
    struct span details;             /* response code details; absent: "direct_response" */
    int64_t grpc_status;             /* GRPC_STATUS_UNSET: derived from status */
    uint32_t flags;                  /* enum response_flag, added */
    bool close_connection;
};
#define GRPC_STATUS_UNSET INT64_MIN

struct exchange {
    struct arena arena;
    struct downstream *downstream;
    const struct snapshot *snapshot;
    const struct hcm *hcm;
    struct message request, response;
    struct stream_info info;

    const struct route_entry *route; /* NULL: none matched, or not chosen yet */
    bool route_chosen;
    bool is_head, is_grpc;
    enum exchange_state state;

    struct g *main, *pump; /* NULL: not running */
    bool client_gone;
    bool reply_pending, reset_pending, request_complete;
    unsigned shard; /* the P's index: shard of stats */

    struct filter_instance *filters;
    uint32_t filter_count;
    uint32_t response_from; /* filters below this index see the response */
};

/* False once the client is gone, a reply is pending or the exchange was reset: return then. */
bool exchange_alive(const struct exchange *x);

/* Ends the request side with a response made here, which passes the response side of all filters.
 * In EXCHANGE_RESPONSE it replaces the response and bypasses filters; in EXCHANGE_HEADERS_SENT it
 * resets. The first reply wins. From either coroutine. */
void exchange_reply(struct exchange *x, const struct local_reply *reply);
/* Drops the client's connection without (more of) a response. */
void exchange_reset(struct exchange *x, struct span details);

/* The chosen route, choosing it first if need be. NULL when none matches. */
const struct route_entry *exchange_route(struct exchange *x);
void exchange_clear_route(struct exchange *x);

/* Per-route configs of a filter, least specific first (route table, virtual host, route, weighted
 * cluster). Returns how many were put in out. */
enum { FILTER_ROUTE_LEVELS = 4 };
unsigned exchange_route_configs(struct exchange *x, const struct filter_factory *factory,
                                const void *out[FILTER_ROUTE_LEVELS]);
/* Bytes one side may hold back in memory: per_connection_buffer_limit_bytes. */
size_t exchange_buffer_limit(const struct exchange *x);
