/* host_native: filters in C in a host process: exchanges whose heads are copies here, on coroutines of our runtime.
 *
 *     ring of a seat ──► its P: a port ──► CALL: a coroutine, on which the plug-in's function runs
 *                                          GIVE: the coroutine that asked goes on
 *                                          CANCEL: its exchange's coroutines are cancelled
 *     ring of the exchange's P ◄── WANT, RETURN
 *
 * Each seat is a P of this process, and an exchange's functions run on its seat's: what include/sluice/filter.h promises of
 * threads and of sluice_worker holds. A function that waits (for a body of a slow client, a sleep, a blocking call)
 * parks: it costs its stack, and others are served on its thread meanwhile. One that computes for ever holds its P, whose ring nobody reads then:
 * that is how the proxy sees it (remote_link.h).
 *
 * Rejected  A thread for each call that waits, as for Go's callbacks: as many threads as there are slow clients, or a
 *           bound on these; a switch of threads to serve the next exchange, where a coroutine's takes 20 ns.
 *
 * Ownership  A mirror of an exchange is its P's, from its first CALL to END.
 * Threads    A mirror: its P. host_native_start, _stop: the process's first thread. */
#pragma once
#include "ext/native/native_filter.h"
#include "ext/remote/remote_call.h"
#include "ext/remote/shm.h"
#include "mem/block.h"
#include "proxy/exchange.h"
#include "rt/rt.h"

/* What a configuration is here, by the proxy's id (host_config.h). */
struct host_native_config {
    struct native_config *config;      /* of a filter; NULL: */
    struct native_route_config *place; /* of a route's */
};

/* Begins to serve: a runtime with a P for each seat. The shm is transferred. 0 or -errno. */
MUST_CHECK int host_native_start(struct native_library *library, struct remote_shm *shm);
/* Calls that run may return until then; none begins any more. False: some still run, so what they use must stay. */
MUST_CHECK bool host_native_stop(int64_t deadline_ns);

/* ---- for host_native_table.c ---- */

struct host_call;
struct host_observer;
struct host_p;

struct host_native {
    struct sluice_exchange e; /* what the plug-in has */
    struct exchange x;        /* heads, arena; no proxy is behind it */
    struct host_native *next; /* in its P's table */
    struct host_p *p;
    uint64_t number;
    struct list calls; /* struct host_call */
    unsigned phase;
    bool bodies[2];
    bool created, over, cancelled, alive;
    uint8_t ending; /* enum remote_ending: of what happened besides the function */
    uint32_t merges;
    bool is_between; /* a periodic log runs: nobody else of the exchange does */
    struct remote_out edits;
    struct sluice_body *bodies_made;
    struct host_observer *observers;
    uint64_t last_handle;
    bool has_levels; /* asked for */
    unsigned level_count;
    struct native_route_config *levels[FILTER_ROUTE_LEVELS];
};

/* A transformer. */
struct sluice_body {
    struct sluice_body *next_made;
    struct host_native *n;
    uint64_t handle;
    enum sluice_part part;
    sluice_next_fn next;
    void *arg;
    struct span rest; /* of what it said, more than a record holds */
};

struct host_observer {
    struct host_observer *next;
    uint64_t handle;
    struct sluice_observer given;
};

static inline struct host_native *host_native_of(const struct sluice_exchange *e) {
    return container_of((struct sluice_exchange *)(uintptr_t)e, struct host_native, e);
}

/* Asks the proxy, on a coroutine of a call of the exchange. give's rc; what give borrows is the call's, until it asks again.
 * Parks, also when it is cancelled: there is always an answer. */
int host_native_ask(struct sluice_exchange *e, struct remote_want *want, struct remote_give *give);
/* After a park of the plug-in's: no two functions of an exchange run at once, also while a periodic log asks. Parks. */
void host_native_await_turn(struct sluice_exchange *e);
/* Edits that have become many are sent. Parks then. */
void host_native_edited(struct sluice_exchange *e);
bool host_native_shows(const struct header_map *map, const struct ext_view *view);
/* In place of what the mirror has. 0 or -ENOMEM. */
int host_native_show(struct header_map *map, const struct ext_view *view);

/* Before the library is loaded. */
const struct sluice_host *host_native_table(void);
/* What was counted and is not told yet; the caller's, remote_out_fini. */
void host_native_take_counts(struct remote_out *out);
