/* exchange_log: the access log's lines of an exchange, and the filters that log with them. Filters come first, so that
 * what they note of the exchange stands in the line.
 *
 * Threads  The exchange's P.
 * Parks    exchange_log, where a filter does. */
#pragma once
#include "proxy/exchange.h"
#include "proxy/format.h"

/* At the start or the end: on the main coroutine, nothing else of the exchange runs. */
void exchange_log(struct exchange *x, enum filter_log_phase phase);
/* In between, on a coroutine of its own. While the last one is still with a filter there is no other. For callbacks of
 * the scheduler. */
COLD void exchange_log_periodic(struct exchange *x);
/* Lines alone, of this moment. */
COLD void exchange_log_lines(struct exchange *x, enum format_event event);

/* What others of the exchange's coroutines, which are parked somewhere, may be in the middle of, put aside: what is left
 * to be seen is whole. Nothing parks until it is put back, and nothing of the messages is changed. */
struct exchange_moment {
    struct message response;
    struct header_map request_trailers;
    int64_t upstream_rx_first_ns;
};
COLD void exchange_moment_begin(struct exchange *x, struct exchange_moment *aside);
COLD void exchange_moment_end(struct exchange *x, const struct exchange_moment *aside);

/* Private. */
COLD void exchange_log_leave(struct exchange *x);
/* Before the end is logged: a coroutine that logs in the exchange's name lets go of it. */
static inline void exchange_log_detach(struct exchange *x) {
    if (__builtin_expect(x->flush != NULL, false))
        exchange_log_leave(x);
}
