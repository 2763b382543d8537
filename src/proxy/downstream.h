/* downstream: a client's connection and the coroutine that serves it while it has something to do.
 *
 *      accept ─► idle ──edge──► serving (a coroutine) ──nothing left──► idle
 *                 │ idle timeout, drain        │ close, error
 *                 └────────────► closed ◄──────┘
 *
 * An idle connection owns no coroutine, no stack and no block. Nor does one that has something to do
 * while memory is short: it waits (downstream_wait.h).
 *
 * Ownership  The connection owns itself: it is freed by its coroutine, or by its idle callbacks
 *            when it has none. It leases the snapshot it was accepted under.
 * Threads    One P for life.
 * Gone       While an exchange runs, an edge that says that the client hung up cancels the
 *            exchange's coroutines (as Envoy resets the stream). */
#pragma once
#include "io/inbuf.h"
#include "io/socket.h"
#include "proxy/exchange.h"
#include "proxy/quota.h"
#include "proxy/snapshot.h"
#include "proxy/wire_body.h"
#include "proxy/worker.h"
#include "rt/timer.h"

struct listener;

enum refuse { /* the next request is answered with 503, from what is at hand of it */
              REFUSE_NOT,
              REFUSE_QUOTA,    /* of its listener */
              REFUSE_OVERLOAD, /* of the process */
};

struct downstream {
    struct socket socket;
    struct inbuf in;
    struct list node; /* of worker->downstreams */
    struct worker *worker;
    struct snapshot *snapshot;
    const struct hcm *hcm;
    const struct listener *listener;
    struct timer idle_timer;     /* may be armed while serving, and then means nothing */
    struct timer exchange_timer; /* exchange.c's */
    struct exchange *exchange;   /* the one being served, or NULL */
    struct doing doing;          /* of the coroutine that serves it */
    struct wire_body *body;      /* of its request; NULL: there was no head */
    bool serving;                /* a coroutine is on it */
    bool inviting;               /* 100 Continue is being written, maybe by the pump */
    bool closing;                /* close after the current response */
    bool closed_by_peer;
    /* Of downstream_wait.c, as are the lists below: */
    bool waiting;          /* linked by wait_node: no coroutine */
    bool waits_for_quota;  /* else, while waiting, for the overload to end */
    bool charged;          /* DOWNSTREAM_CHARGE was taken */
    bool evicted;          /* its head gives way */
    uint8_t refuse;        /* enum refuse */
    uint8_t minor_version; /* of the latest request */
    uint32_t requests;
    int64_t opened_ns;
    uint64_t id;
    uint64_t rx_counted, tx_counted;
    struct address peer;
    char local_text[ADDRESS_TEXT_MAX], remote_text[ADDRESS_TEXT_MAX];
    struct span local, remote;
    struct quota_purse *purse; /* of its listener, on this P; NULL: no limit */
    struct arena_payer payer;
    struct list wait_node, head_node;
    struct g *reader; /* reads a head that comes in pieces; linked by head_node then */
    int64_t head_since_ns;
};

/* Takes over fd, which has passed the listener's limits. Closes it when memory is short. */
void downstream_accept(struct worker *worker, int fd, const struct address *peer,
                       const struct listener *listener);
/* Idle connections of this P close now, busy ones after their current response. */
void downstream_drain_all(struct worker *worker);

/* The overload is over: those of this P that waited for that are served. */
void downstream_release_held(struct worker *worker);

/* For downstream_wait.c: a coroutine is started for it, or it ends. */
void downstream_start_serving(struct downstream *d);

/* ---- for exchange.c ---- */

/* Sends a response head and body; parks. 0, or -errno: the connection is of no more use. */
MUST_CHECK int downstream_send(struct downstream *d, struct exchange *x);
/* 100 Continue, once, when the client waits for it. Nothing once a response is on its way. */
MUST_CHECK int downstream_continue(struct downstream *d);
