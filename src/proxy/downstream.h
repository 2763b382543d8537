/* downstream: a client's connection, of any kind, and the coroutine that serves it while it has something to do.
 *
 *     accept ─► pending ─► opening ─► stream ──────────────► closed       network filters have it
 *                 │           └────────────────┐
 *                 └─► idle ──edge──► serving (a coroutine) ──nothing left──► idle      HTTP has it
 *                      │ idle timeout, drain        │ close, error
 *                      └────────────► closed ◄──────┘
 *
 * A listener without listener filters has no pending connections, and one whose only filter chain is an HTTP
 * connection manager and nothing else has none that are opened: its connections begin by being served.
 *
 * An idle connection is a struct downstream, three cache lines, and nothing else: no coroutine, no stack,
 * no block. Nor does one that has something to do while memory is short: it waits (downstream_wait.h). One
 * that has sent a part of a head has that and no more (downstream_head.h).
 * What it needs only while it is served is in a struct serving. There are as many of those as are served at
 * once, and the one used last is the next to be used, so they stay in the processor's cache.
 *
 * Ownership  The connection owns itself: it is freed by its coroutine, or by its idle callbacks
 *            when it has none. It leases its listener, and with that its configuration.
 * Threads    One P for life.
 * Gone       While an exchange runs, an edge that says that the client hung up cancels the
 *            exchange's coroutines (as Envoy resets the stream). */
#pragma once
#include <assert.h>

#include "io/address.h"
#include "io/inbuf.h"
#include "io/socket.h"
#include "proxy/connection_info.h"
#include "proxy/exchange.h"
#include "proxy/listener.h"
#include "proxy/quota.h"
#include "proxy/wire_body.h"
#include "proxy/worker.h"
#include "rt/timer.h"

enum refuse { /* the next request is answered with 503, from what is at hand of it */
              REFUSE_NOT,
              REFUSE_QUOTA,    /* of its listener */
              REFUSE_OVERLOAD, /* of the process */
};

enum downstream_state {
    DOWNSTREAM_IDLE,
    DOWNSTREAM_SERVING, /* a coroutine is on it */
    DOWNSTREAM_WAITING, /* downstream_wait.h: no coroutine */
    DOWNSTREAM_HEAD,    /* a part of a head is kept, downstream_head.h: nor here */
    DOWNSTREAM_PENDING, /* listener filters look at it, downstream_pending.c: nor here */
    DOWNSTREAM_OPENING, /* a coroutine makes it ready for its filter chain: downstream_open.c */
    DOWNSTREAM_STREAM,  /* a network filter has it: it knows */
};

struct downstream {
    struct socket socket;
    union {
        struct serving *serving;   /* while it is served, or opened for that */
        struct partial_head *head; /* in DOWNSTREAM_HEAD; in WAITING and PENDING it may be NULL */
    };
    uint8_t state; /* enum downstream_state */
    uint8_t p_index;
    bool closed_by_peer;
    bool waits_for_quota;  /* else, while waiting, for the overload to end */
    bool charged;          /* DOWNSTREAM_CHARGE was taken */
    uint8_t refuse;        /* enum refuse */
    uint8_t minor_version; /* of the latest request */
    uint8_t counted;       /* LISTENER_COUNTED_*, as listener_enter said */
    uint32_t requests;
    uint8_t local_v4[4];     /* 0: nobody has asked yet, or the peer's address is IPv6 */
    struct timer idle_timer; /* may be armed while serving, and then means nothing */
    /* What most requests do not look at. */
    uint64_t id;
    const struct connection_info *info; /* never NULL */
    int64_t opened_ns;
    struct list node; /* of worker->downstreams; while waiting, of downstream_wait.c's queues */
    struct compact_address peer;
};
static_assert(sizeof(struct downstream) == 192, "an idle connection is three lines of a slab");
static_assert(offsetof(struct downstream, id) == 128, "a request touches two of them");

struct serving {
    struct downstream *downstream;
    struct worker *worker;
    const struct hcm *hcm;
    struct exchange *exchange; /* the one being served, or NULL */
    struct wire_body *body;    /* of its request; NULL: there was no head */
    struct inbuf in;
    struct quota_purse *purse; /* of its listener, on this P; NULL: no limit */
    bool inviting;             /* 100 Continue is being written, maybe by the pump */
    struct timer timer;        /* exchange.c's; armed also while it is in nobody's hands */
    struct doing doing;        /* of the coroutine that serves it */
    struct arena_payer payer;
    struct partial_head *head; /* what was kept of the head, or NULL */
    struct serving *next;      /* free */
};

/* Its own end. Asks the kernel, of IPv4 only once. */
void downstream_local_address(struct downstream *d, struct address *out);
/* What was connected to: that, unless a listener filter knows better. */
void downstream_address(struct downstream *d, struct address *out);

/* Whom it is for: the socket's peer, unless a listener filter knows better. */
void downstream_remote_address(const struct downstream *d, struct address *out);

/* Takes over fd, which has passed the listener's limits, and was counted there. Closes it when memory is short. */
void downstream_accept(struct worker *worker, int fd, const struct address *peer,
                       struct listener *listener, uint8_t counted);
/* Idle connections of this P close now, busy ones after their current response. */
void downstream_drain_all(struct worker *worker);

/* Another process accepts in our place: connections of this P are served on, and close after a response that says so. */
void downstream_leave_all(struct worker *worker);

/* Ends those of this P that serve with what has been superseded, and whose time to drain is over. */
void downstream_end_superseded(struct worker *worker);

/* Descriptors are short: ends up to max connections of this P that have been idle since then or longer, the
 * longest idle of a sample first. Never the admin's. How many. */
unsigned downstream_close_idle(struct worker *worker, unsigned max, int64_t idle_since_ns);

/* The overload is over: those of this P that waited for that are served. */
void downstream_release_held(struct worker *worker);

/* For downstream_wait.c: a coroutine is started for it, or it ends. */
void downstream_start_serving(struct downstream *d);

/* ---- for exchange.c ---- */

/* Sends a response head and body; parks. 0, or -errno: the connection is of no more use. */
MUST_CHECK int downstream_send(struct serving *s, struct exchange *x);
/* The request has no framed body, and everything that comes behind its head is one: until the client ends. */
void downstream_open_body(struct serving *s);
/* 100 Continue, once, when the client waits for it. Nothing once a response is on its way. */
MUST_CHECK int downstream_continue(struct serving *s);
