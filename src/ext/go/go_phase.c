/* go_phase: see the header.
 *
 * A coroutine that is in foreign code cannot leave it. So where a phase has a deadline its callback is made by a coroutine
 * of its own, and the exchange's waits for that one:
 *
 *     exchange ── go ──► callback ── returned: done, and whoever waits is woken ──► freed by the exchange
 *         └─ deadline, or its end: left ──────────── returned: nobody waits ──────► freed here
 *
 * Both are pinned to one P, so neither flag needs more than that. What the callback works on outlives it, as it has the
 * stream's seat: OnDestroy, and the end of the block behind it, wait for that (go_end.c). What it was shown is withdrawn by
 * who leaves, under the stream's lock, as for a goroutine that is late.
 *
 * A callback that a goroutine of its own has overtaken (Continue comes before it returns) is waited for, as without a
 * deadline: the next one would find the seat held.
 *
 * Rejected  This way for all: a coroutine costs a microsecond, which is what a callback does. */
#include "ext/go/go_phase.h"

#include <errno.h>
#include <stdlib.h>

#include "ext/remote/remote_link.h"
#include "proxy/exchange.h"

int64_t go_phase_deadline(const struct go_filter *filter) {
    int64_t now_ns = rt_now_ns(), most_ns = filter->config->phase_timeout_ns;
    return most_ns && most_ns < RT_FOREVER - now_ns ? now_ns + most_ns : RT_FOREVER;
}

bool go_phase_is_excused(const struct go_filter *filter) {
    const struct remote_exchange *remote = filter->remote;
    return remote && remote->party.lane && remote_lane_is_debugged(remote->party.lane);
}

struct apart {
    struct go_phase_call call;
    struct go_sitting sitting;
    struct g *waiter;
    bool done, left;
    struct doing doing;
};

static void run_call(void *arg) {
    struct go_phase_call *call = arg;
    if (call->phase == EXT_BODY)
        call->status = call->fn->on_data(call->state, call->end, call->handle, call->bytes);
    else
        call->status = call->fn->on_header(call->state, call->end, call->count, call->bytes);
}

static void run_apart(void *arg) {
    struct apart *apart = arg;
    go_sitting_call(&apart->sitting, run_call, &apart->call);
    labels_describe_by(NULL); /* a profile's signal may come until the end */
    apart->done = true;
    if (apart->left)
        free(apart);
    else if (apart->waiter)
        rt_ready(apart->waiter);
}

static struct apart *start_apart(const struct go_filter *filter, const struct go_phase_call *call) {
    struct apart *apart = malloc(sizeof *apart);
    if (!apart)
        return NULL;
    apart->call = *call;
    apart->sitting = filter->sitting;
    apart->waiter = NULL;
    apart->done = apart->left = false;
    doing_init(&apart->doing, NULL); /* the exchange's own labels may end before */
    doing_filter(&apart->doing, &filter->config->plugin->labels);
    const struct go_options options = {
        .name = "callback of an extension", .place = RT_HERE, .describer = &apart->doing.describer};
    if (go_with(&options, run_apart, apart) != 0) {
        free(apart);
        return NULL;
    }
    return apart;
}

static int await(struct apart *apart, const struct exchange *x, int64_t deadline_ns) {
    int err = 0;
    apart->waiter = rt_self();
    while (!apart->done && !err) {
        err = rt_park("callback of an extension", deadline_ns);
        if (!exchange_alive(x))
            err = -ECANCELED;
    }
    apart->waiter = NULL;
    return apart->done ? 0 : err == -ETIMEDOUT ? -ETIME : err;
}

int go_phase_call(const struct go_filter *filter, struct go_phase_call *call, int64_t deadline_ns) {
    struct apart *apart = deadline_ns == RT_FOREVER ? NULL : start_apart(filter, call);
    if (!apart) { /* without memory for it the deadline is not kept, which is better than no filter */
        go_sitting_call(&filter->sitting, run_call, call);
        return 0;
    }
    int err = await(apart, filter->x, deadline_ns);
    call->status = apart->call.status;
    apart->left = !apart->done;
    if (apart->done)
        free(apart);
    return err;
}
