/* go_phase: how long a phase may take (headers, a piece of body, trailers), and its callback in a library of this process.
 *
 * Threads  The exchange's coroutines, with the filter's seat held. Parks. */
#pragma once
#include "ext/go/go_filter.h"

/* When one that begins now is given up; RT_FOREVER: never. */
int64_t go_phase_deadline(const struct go_filter *filter);
/* Somebody looks into its host process: that takes the time it takes. */
bool go_phase_is_excused(const struct go_filter *filter);

struct go_phase_call {
    const struct go_functions *fn;
    struct go_process_state *state;
    enum ext_phase phase;
    uint64_t end, handle, count, bytes;
    uint64_t status; /* once it has returned */
};

/* Makes it, and gives the seat up when it has returned. 0: it has; -ETIME: not by the deadline; -ECANCELED: the exchange is
 * over. In both cases it goes on, in the seat, and nobody hears of its status. Without a deadline it is waited for. */
MUST_CHECK int go_phase_call(const struct go_filter *filter, struct go_phase_call *call,
                             int64_t deadline_ns);
