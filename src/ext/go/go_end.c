/* go_end: see the header. After OnDestroy nothing is called for the stream: entering again would make Go
 * build a second filter under the same key, and OnData would find none and end the process. The block
 * pointer is gone by then, and go_filter_begin asserts it. */
#include "ext/go/go_end.h"

#include <errno.h>
#include <stdlib.h>

#include "ext/ext_handles.h"
#include "ext/ext_past.h"
#include "ext/go/go_log.h"
#include "ext/go/go_remote.h"
#include "proxy/exchange.h"

/* ---- calls ---- */

struct log_call {
    struct go_block *block;
    uint64_t type;
    bool complete; /* OnStreamComplete first */
};

static void run_log(void *arg) {
    struct log_call *call = arg;
    const struct go_functions *fn = &call->block->library->fn;
    struct go_lent *lent = call->block->lent;
    if (call->complete && fn->on_stream_complete)
        fn->on_stream_complete(&lent->request);
    const struct ext_side *sides = call->block->stream.sides;
    const struct ext_room *req[] = {&sides[EXT_REQUEST].header_room,
                                    &sides[EXT_REQUEST].trailer_room};
    const struct ext_room *resp[] = {&sides[EXT_RESPONSE].header_room,
                                     &sides[EXT_RESPONSE].trailer_room};
    if (fn->on_log_31)
        fn->on_log_31(&lent->request, call->type);
    else
        fn->on_log_32(&lent->request, call->type, &lent->states[0], &lent->states[1], req[0]->count,
                      req[0]->bytes, req[1]->count, req[1]->bytes, resp[0]->count, resp[0]->bytes,
                      resp[1]->count, resp[1]->bytes);
}

/* The log callbacks of SDK 1.31 get no maps: a plugin has those of earlier phases. */
static bool is_told(const struct go_block *block) {
    return block->library->fn.on_log_32 != NULL;
}

struct destroy_call {
    struct go_block *block;
    uint64_t reason;
};

static void run_destroy(void *arg) {
    struct destroy_call *call = arg;
    call->block->library->fn.on_destroy(&call->block->lent->request, call->reason);
}

/* ---- the end ---- */

/* What is left to do for a stream that Go has heard of. Nothing of it is the exchange's. */
struct ending {
    struct go_sitting sitting;
    struct go_block *block;
    struct ext_past *past; /* NULL: the log phase was in time */
    struct doing doing;    /* of a coroutine of its own */
};

/* Whatever is cancelled, the end of a stream has to be told. */
static void hold(const struct go_sitting *sitting) {
    bool was_cancelled = false;
    while (seat_lock(sitting->seat, RT_FOREVER) != 0) {
        was_cancelled = true;
        rt_cancel_clear();
    }
    if (was_cancelled)
        rt_cancel(rt_self());
}

static void log_past(const struct ending *ending) {
    struct log_call call = {.block = ending->block, .type = GO_LOG_END, .complete = true};
    hold(&ending->sitting);
    ext_past_open(&ending->block->stream, ending->past, is_told(ending->block));
    go_sitting_call(&ending->sitting, run_log, &call);
    ext_past_close(&ending->block->stream);
}

static void finish(const struct ending *ending) {
    const struct go_sitting *sitting = &ending->sitting;
    if (ending->past)
        log_past(ending);
    struct destroy_call call = {ending->block, GO_DESTROY_NORMAL};
    if (ext_stream_end(&ending->block->stream))
        call.reason = GO_DESTROY_TERMINATE;
    hold(sitting);
    go_sitting_call(sitting, run_destroy, &call);
    seat_leave(sitting->seats, sitting->seat);
    go_block_end(ending->block, sitting->shard);
    go_library_release(sitting->plugin->library, sitting->shard);
    ext_past_free(ending->past);
}

static void finish_later(void *arg) {
    struct ending *ending = arg;
    const struct statistic *waiting = ending->sitting.plugin->library->stats.ends_waiting;
    unsigned shard = ending->sitting.shard;
    finish(ending);
    labels_describe_by(NULL); /* a profile's signal may come until the end */
    free(ending);
    stat_dec(waiting, shard);
}

/* False when there is no memory for it. */
static bool start_later(const struct ending *now) {
    struct ending *ending = malloc(sizeof(*ending));
    if (!ending)
        return false;
    *ending = *now;
    doing_init(&ending->doing, NULL); /* the exchange's own labels may end with its snapshot */
    doing_filter(&ending->doing, &now->sitting.plugin->labels);
    const struct go_options options = {
        .name = "end of a stream", .place = RT_HERE, .describer = &ending->doing.describer};
    if (go_with(&options, finish_later, ending) != 0) {
        free(ending);
        return false;
    }
    stat_inc(now->sitting.plugin->library->stats.ends_waiting, now->sitting.shard);
    return true;
}

static bool is_blocked(const struct go_filter *filter) {
    return filter->sitting.seat && seat_is_held(filter->sitting.seat);
}

void go_end_destroy(struct exchange *x, void *self) {
    struct go_filter *filter = self;
    struct go_block *block = filter->block;
    if (!block)
        return;
    go_side_fini(&filter->sides[EXT_REQUEST]);
    go_side_fini(&filter->sides[EXT_RESPONSE]);
    filter->block = NULL;
    if (filter->remote) {
        bool lent = ext_stream_end(&block->stream);
        go_remote_end(filter, lent ? GO_DESTROY_TERMINATE : GO_DESTROY_NORMAL);
        go_block_end(block, x->shard);
        return;
    }
    if (!filter->past)
        (void)ext_stream_end(&block->stream);
    if (!block->entered) {
        if (filter->sitting.seat)
            seat_leave(filter->sitting.seats, filter->sitting.seat);
        go_block_end(block, x->shard);
        go_library_release(filter->sitting.plugin->library, x->shard);
        return;
    }
    const struct ending ending = {.sitting = filter->sitting, .block = block, .past = filter->past};
    if (!(filter->past || is_blocked(filter)) || !start_later(&ending))
        finish(&ending);
}

/* ---- the log phase ---- */

static struct header_map *or_absent(struct header_map *map) {
    return map->count ? map : NULL;
}

/* ---- in between ---- */

/* Where nobody is in the middle of it. */
static void look_at(struct exchange *x, const struct header_map *maps[2][2]) {
    bool has_response = x->state >= EXCHANGE_RESPONSE;
    maps[EXT_REQUEST][0] = &x->request.headers;
    maps[EXT_REQUEST][1] = x->request_complete ? or_absent(&x->request.trailers) : NULL;
    maps[EXT_RESPONSE][0] = has_response ? or_absent(&x->response.headers) : NULL;
    maps[EXT_RESPONSE][1] =
        has_response && exchange_has_response_trailers(x) ? or_absent(&x->response.trailers) : NULL;
}

/* With the seat held. The exchange may have ended while that was waited for. */
static void log_between(const struct go_sitting *sitting, struct go_block *block) {
    struct exchange *x = ext_stream_exchange(&block->stream);
    struct log_call call = {.block = block, .type = GO_LOG_PERIODIC};
    const struct header_map *maps[2][2];
    struct ext_past *past = NULL;
    if (x) {
        look_at(x, maps);
        past = ext_past_look(&block->stream, x, maps);
    }
    if (!past) {
        seat_unlock(sitting->seats, sitting->seat);
        return;
    }
    ext_past_show(&block->stream, past, is_told(block));
    go_sitting_call(sitting, run_log, &call);
    ext_past_hide(&block->stream, past);
    ext_past_free(past);
}

static void log_periodic(struct go_filter *filter) {
    struct go_sitting sitting = filter->sitting;
    struct go_block *block = filter->block;
    if (block && filter->remote) {
        const struct header_map *maps[2][2];
        look_at(filter->x, maps);
        go_remote_log(filter, GO_LOG_PERIODIC, false, maps);
        return;
    }
    if (!block || !block->entered)
        return;
    const uint64_t handle = block->lent->block;
    void *same = handle_lease(&ext_handles, handle, go_block_key);
    ASSERT(same == block);
    int err = go_sitting_hold(&sitting, 0);
    if (err)
        err = go_sitting_wait(&sitting, filter->config->seat_wait_ns);
    if (err == 0)
        log_between(&sitting, block);
    handle_release(&ext_handles, handle);
}

/* ---- at the start and the end ---- */

void go_end_log(struct exchange *x, void *self, enum filter_log_phase phase) {
    struct go_filter *filter = self;
    struct go_block *block = filter->block;
    if (phase == FILTER_LOG_PERIODIC) {
        log_periodic(filter);
        return;
    }
    if (!block)
        return;
    bool at_end = phase == FILTER_LOG_END;
    bool known = filter->remote && filter->remote->party.lane;
    struct header_map *maps[2][2] = {
        {&x->request.headers, at_end ? or_absent(&x->request.trailers) : NULL},
        {at_end ? or_absent(&x->response.headers) : NULL,
         at_end ? or_absent(&x->response.trailers) : NULL}};
    const struct header_map *shown[2][2];
    struct log_call call = {
        .block = block,
        .type = at_end ? GO_LOG_END : GO_LOG_START,
        .complete = at_end && block->entered,
    };
    for (int i = 0; i < 4; i++)
        shown[i / 2][i % 2] = maps[i / 2][i % 2];
    if (at_end && block->entered && is_blocked(filter)) {
        filter->past = ext_past_take(&block->stream, x, shown);
        if (filter->past)
            return;
    }
    if (go_filter_begin_log(filter, at_end) != 0)
        return;
    struct ext_edit *edits[2];
    ext_stream_open_log(&block->stream, x, shown, is_told(block));
    if (filter->remote)
        go_remote_log(filter, call.type, at_end && known, shown);
    else
        go_sitting_call(&filter->sitting, run_log, &call);
    ext_stream_close_log(&block->stream, edits);
    for (int i = 0; i < 2; i++) { /* the access log shows what OnLog changed */
        if (ext_edits_apply(edits[i], (enum ext_direction)i, maps[i][0], maps[i][1]) != 0)
            LOG(log_golang, LOG_ERROR, "no memory for header changes of OnLog");
        ext_edits_free(edits[i]);
    }
}
