/* downstream_internal: what the parts of a client's connection's life ask of each other: accepting, idling and HTTP are
 * downstream.c, listener filters downstream_pending.c, transports and network filters downstream_open.c. */
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
/* What serves HTTP on it, with what was kept of it (head, transferred, or NULL). NULL when memory is short. */
MUST_CHECK struct serving *downstream_serving_new(struct downstream *d, struct partial_head *head);
void downstream_serving_free(struct serving *s);
/* By the coroutine that opened it: serves what has come, and idles. As the coroutine's last act. */
void downstream_serve(struct serving *s);
/* There is no memory for it. */
void downstream_drop(struct downstream *d);
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
