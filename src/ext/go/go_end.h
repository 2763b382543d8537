/* go_end: the log phases and the end of a stream, as Go is told of them.
 *
 * While the request runs, if the connection manager logs then: OnLogDownstreamStart before all else, with the request's
 * headers; OnLogDownstreamPeriodic each interval, with what there is by then, also while a callback's goroutine has the
 * request. The latter's copies of what it is shown belong to nobody: the exchange may end meanwhile and does not wait. A
 * request that has not come to Go yet is not in its periodic logs.
 *
 * Order, as on Envoy: OnStreamComplete, OnLog, OnDestroy, each once and only if Go was entered; the log
 * phase itself enters Go if nothing else did.
 *
 * A stream whose seat is blocked at its end is told later: what the log phase shows is copied, and a
 * coroutine of its own waits for the seat. Neither the client's next request on the connection nor the
 * access log waits for it; what OnLog changes then shows nowhere. A stream that Go has not heard of, and
 * that finds no free seat at its end, is not told at all.
 *
 * Threads  The exchange's P.
 * Parks    Both, for a call. */
#pragma once
#include "ext/go/go_filter.h"

void go_end_log(struct exchange *x, void *filter, enum filter_log_phase phase);
void go_end_destroy(struct exchange *x, void *filter);
