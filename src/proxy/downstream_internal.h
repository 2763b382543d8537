/* downstream_internal: what the parts of a client's connection's life ask of each other: accepting, idling and closing
 * are downstream.c, HTTP downstream_serve.c, listener filters downstream_pending.c, transports and network filters
 * downstream_open.c. */
#pragma once
#include "proxy/downstream.h"
#include "proxy/downstream_head.h"
#include "proxy/filter_chain.h"
#include "proxy/listener.h"

/* ---- downstream.c ---- */

/* The connection ends. No coroutine of it goes on, but for the one that calls. */
void downstream_destroy(struct downstream *d);
/* Its chain is chosen: it counts as a connection. */
void downstream_begin(struct downstream *d);
/* There is no memory for it. */
void downstream_drop(struct downstream *d);

/* Of its chain, which is chosen; NULL: that is not one of HTTP. */
static inline const struct hcm *downstream_hcm(const struct downstream *d) {
    return d->info->chain->hcm;
}

/* Those that passed since it was last called; it has an HTTP connection manager. */
static inline void downstream_count_bytes(struct downstream *d) {
    const struct hcm_request_slots *slots = &downstream_hcm(d)->slots;
    uint64_t *cells = stats_cells(d->p_index);
    stats_bump(cells, slots->cx_rx_bytes, d->socket.rx_bytes);
    stats_bump(cells, slots->cx_tx_bytes, d->socket.tx_bytes);
    d->socket.rx_bytes = d->socket.tx_bytes = 0;
}

/* The admin answers to the end: that is how one watches it. */
static inline bool downstream_is_draining(const struct downstream *d) {
    return worker_at(d->p_index)->draining && !d->info->listener->is_admin;
}

/* ---- downstream_follow.c ---- */

/* Between two requests, with nothing charged, and its listener is superseded: it is served by the newest configuration of
 * that, if it can be. */
void downstream_follow_now(struct downstream *d);
/* Likewise, of one that may not be able to follow: it is to end with the next answer. */
bool downstream_cannot_follow(const struct downstream *d);

/* ---- downstream_serve.c ---- */

/* What serves HTTP on it, with what was kept of it (head, transferred, or NULL). NULL when memory is short. */
MUST_CHECK struct serving *downstream_serving_new(struct downstream *d, struct partial_head *head);
void downstream_serving_free(struct serving *s);
/* By the coroutine that opened it: serves what has come, and idles. As the coroutine's last act. */
void downstream_serve(struct serving *s);
/* It idles, and input has come: as downstream_start_serving. */
void downstream_serve_input(struct downstream *d);
/* Until when the rest of a head may take that has begun to come now. */
int64_t downstream_head_deadline(const struct hcm *hcm);

/* ---- downstream_pending.c ---- */

/* A new connection of a listener with listener filters, or with several chains. */
void downstream_pending_begin(struct downstream *d);
/* An event in DOWNSTREAM_PENDING. */
void downstream_pending_event(struct downstream *d, unsigned events);
/* Its time is over. */
void downstream_pending_expired(struct downstream *d);

/* ---- downstream_open.c ---- */

/* Its chain is chosen, and is more than an HTTP connection manager: starts the coroutine. kept: transferred, or NULL. */
void downstream_open(struct downstream *d, struct partial_head *kept);
/* An event in DOWNSTREAM_STREAM. */
void downstream_stream_event(struct downstream *d, unsigned events);
/* Closes network filters and frees their stream, if it has one. */
void downstream_stream_close(struct downstream *d);

/* ---- downstream_log.c ---- */

/* A line in each access log of its listener. */
void downstream_log(struct downstream *d);
