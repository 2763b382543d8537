/* host_seat: time in a seat's thread. What waits for its batch to end must not wait for a callback that blocks, and a
 * callback does not say beforehand. So the proxy is woken before a callback when what was sent is old, or when one took
 * long lately; else a callback is believed to take a microsecond, as most do.
 *
 * Threads  The seat's. */
#pragma once
#include "base/clock.h"
#include "ext/remote/host_stream.h"

static const int64_t HOST_WARY_NS = 100 * NS_PER_MS;

/* The time now. */
static inline int64_t host_seat_begin_call(struct host_seat *seat) {
    struct host_batch *batch = &seat->batch;
    const int64_t now_ns = clock_mono_ns();
    batch->now_ns = now_ns;
    if (batch->any && (now_ns < seat->wary_until_ns || now_ns - batch->since_ns >= HOST_BATCH_NS))
        host_wake(seat->host);
    return now_ns;
}

/* How long it took. */
static inline int64_t host_seat_end_call(struct host_seat *seat, int64_t began_ns) {
    const int64_t now_ns = clock_mono_ns();
    seat->batch.now_ns = now_ns;
    if (now_ns - began_ns >= HOST_BATCH_NS)
        seat->wary_until_ns = now_ns + HOST_WARY_NS;
    return now_ns - began_ns;
}
