/* native_remote: see the header. A call's record from the host is copied when it comes, and checked before that: a host
 * that says what cannot be is ended by the link, whoever waits. */
#include "ext/native/native_remote.h"

#include <errno.h>
#include <stdlib.h>

#include "ext/native/native_host.h"
#include "ext/remote/remote_link.h"
#include "proxy/exchange_log.h"
#include "rt/rt.h"

static const int64_t HOST_WAIT_NS = NS_PER_S; /* for a process that is being started again */

/* On the stack of who waits. */
struct call {
    struct list node;
    struct g *g;
    uint32_t id;
    enum remote_kind kind;
    char *record; /* NULL: nothing has come; owned */
    size_t len;
    bool lost; /* the process is */
};

/* ---- what the host says ---- */

static struct native_remote *remote_of(struct remote_party *party) {
    return container_of(party, struct native_remote, party);
}

static struct call *find(struct native_remote *remote, uint32_t id) {
    for (struct list *node = remote->calls.next; node != &remote->calls; node = node->next)
        if (container_of(node, struct call, node)->id == id)
            return container_of(node, struct call, node);
    return NULL;
}

static int check(enum remote_kind kind, struct span record, uint32_t *id) {
    struct remote_want want;
    struct remote_return said;
    int err =
        kind == REMOTE_WANT ? remote_read_want(record, &want) : remote_read_return(record, &said);
    if (!err)
        *id = kind == REMOTE_WANT ? want.id : said.id;
    return err;
}

static int hear(struct remote_party *party, enum remote_kind kind, struct span record) {
    uint32_t id;
    int err = check(kind, record, &id);
    struct call *call = err ? NULL : find(remote_of(party), id);
    if (!call || call->record)
        return -EPROTO;
    call->record = malloc(record.len);
    if (!call->record)
        return -EPROTO; /* what it says is lost, so who waits would wait for ever */
    memcpy(call->record, record.ptr, record.len);
    call->len = record.len;
    call->kind = kind;
    rt_ready(call->g);
    return 0;
}

static void lose(struct remote_party *party) {
    struct native_remote *remote = remote_of(party);
    for (struct list *node = remote->calls.next; node != &remote->calls; node = node->next) {
        struct call *call = container_of(node, struct call, node);
        call->lost = true;
        rt_ready(call->g);
    }
}

static const struct remote_party_itab itab = {.hear = hear, .lose = lose};

struct native_remote *native_remote_new(struct sluice_exchange *e) {
    struct native_remote *remote = arena_zalloc(&e->x->arena, sizeof *remote);
    if (!remote)
        return NULL;
    remote->party.itab = &itab;
    remote->e = e;
    remote->config = e->config;
    list_init(&remote->calls);
    return remote;
}

/* ---- a call ---- */

/* 0; -EPIPE: there is no process, and will not be soon; -ECANCELED; -ENOMEM. */
static int enter(struct native_remote *remote) {
    struct remote_library *library = remote->config->library->remote;
    int64_t deadline_ns = rt_now_ns() + HOST_WAIT_NS;
    if (remote->party.lost)
        return -EPIPE;
    while (!remote->party.lane) {
        struct remote_lane *lane = remote_library_lane(library);
        int err = lane ? remote_lane_enter(lane, &remote->party, false)
                       : remote_library_await(library, deadline_ns);
        if (err)
            return err == -ETIMEDOUT ? -EPIPE : err;
    }
    return 0;
}

static struct ext_view view_of(const struct header_map *map) {
    static const struct header none;
    return (struct ext_view){map->count ? map->entries : &none, map->count, map->bytes};
}

static void show(const struct native_remote *remote, struct remote_call *call) {
    const struct exchange *x = remote->e->x;
    call->shown = true;
    call->maps[SLUICE_REQUEST] = view_of(&x->request.headers);
    call->maps[SLUICE_RESPONSE] = view_of(&x->response.headers);
    call->maps[SLUICE_REQUEST_TRAILERS] = view_of(&x->request.trailers);
    call->maps[SLUICE_RESPONSE_TRAILERS] = view_of(&x->response.trailers);
}

static int send_call(struct native_remote *remote, const struct native_remote_call *what,
                     uint32_t id) {
    const struct exchange *x = remote->e->x;
    struct remote_call call = {
        .number = remote->party.number,
        .id = id,
        .function = (uint8_t)what->function,
        .phase = x->state == EXCHANGE_REQUEST    ? 0
                 : x->state == EXCHANGE_RESPONSE ? 1
                                                 : 2,
        .bodies = {message_has_body(&x->request), message_has_body(&x->response)},
        .config_id = remote->config->far_id,
        .handle = what->far ? what->far->handle : 0,
        .error = what->error,
        .bytes = what->bytes,
    };
    struct exchange_moment aside;
    bool is_between = what->function == REMOTE_PERIODIC;
    struct remote_out *out = remote_lane_scratch(remote->party.lane);
    if (is_between)
        exchange_moment_begin(remote->e->x, &aside);
    if (what->function < REMOTE_DESTROY)
        show(remote, &call);
    remote_put_call(out, &call);
    if (is_between)
        exchange_moment_end(remote->e->x, &aside);
    if (out->failed)
        return -ENOMEM;
    return remote_lane_send(&remote->party, REMOTE_CALL, span_make(out->data, out->len),
                            RT_FOREVER);
}

static void tell_cancelled(struct native_remote *remote) {
    if (!remote->party.lane)
        return;
    struct remote_out *out = remote_lane_scratch(remote->party.lane);
    remote_put_end(out, &(struct remote_end){.number = remote->party.number});
    if (out->failed || remote_lane_send(&remote->party, REMOTE_CANCEL,
                                        span_make(out->data, out->len), RT_FOREVER) != 0)
        LOG(log_native, LOG_DEBUG, "a host process has not heard that an exchange is over");
}

static void apply(struct native_remote *remote, struct span edits) {
    struct remote_edit edit;
    struct sluice_exchange *e = remote->e;
    while (remote_next_edit(&edits, &edit) == 1) {
        enum sluice_part part = (enum sluice_part)edit.part;
        struct sluice_span name = native_span_of(edit.name), value = native_span_of(edit.value);
        int err = 0;
        if (edit.kind == REMOTE_EDIT_REMOVE)
            (void)native_host.header_remove(e, part, name);
        else if (edit.kind == REMOTE_EDIT_ADD)
            err = native_host.header_add(e, part, name, value);
        else
            err = native_host.header_set(e, part, name, value);
        if (err)
            LOG(log_native, LOG_DEBUG, "a host process's edit is refused: %s", strerror(-err));
    }
}

static int give(struct native_remote *remote, const struct remote_give *what) {
    struct remote_out *out = remote_lane_scratch(remote->party.lane);
    remote_put_give(out, what);
    if (out->failed)
        return -ENOMEM;
    return remote_lane_send(&remote->party, REMOTE_GIVE, span_make(out->data, out->len),
                            RT_FOREVER);
}

/* One question. Not to be told of the end that nobody has told its coroutine of yet: parks in it say so. */
static void serve(struct native_remote *remote, struct call *call, bool is_between) {
    struct remote_want want;
    char *record = call->record;
    call->record = NULL; /* the host's next word has room again */
    int err = remote_read_want(span_make(record, call->len), &want);
    struct remote_give answer = {.number = remote->party.number, .id = call->id};
    struct exchange_moment aside;
    void *memory = NULL;
    ASSERT(err == 0);                 /* hear() has read it */
    if (is_between && remote->ends) { /* there is no moment in between any more */
        answer.rc = -ECANCELED;
        answer.text = span_make("", 0);
    } else if (is_between) {
        remote->e->looks_on = true;
        exchange_moment_begin(remote->e->x, &aside);
        native_remote_serve(remote, &want, &answer, &memory);
        exchange_moment_end(remote->e->x, &aside);
        remote->e->looks_on = false;
    } else {
        apply(remote, want.edits);
        native_remote_serve(remote, &want, &answer, &memory);
    }
    answer.alive = exchange_alive(remote->e->x);
    if (!call->lost)
        err = give(remote, &answer);
    if (err)
        LOG(log_native, LOG_DEBUG, "a host process is not given what it asked for: %s",
            strerror(-err));
    free(memory);
    free(record);
}

/* Until there is a word of the host's, or nobody will say one. True: meanwhile the exchange was over. */
static bool await(struct call *call) {
    bool cancelled = false;
    while (!call->record && !call->lost)
        if (rt_park("a function in a host process", RT_FOREVER) == -ECANCELED) {
            rt_cancel_clear(); /* taken up again at the end */
            cancelled = true;
            break;
        }
    return cancelled;
}

static int converse(struct native_remote *remote, struct call *call,
                    struct native_remote_call *what) {
    bool cancelled = false;
    for (;;) {
        if (await(call) && !cancelled) {
            cancelled = true;
            tell_cancelled(remote);
        }
        if (call->lost)
            break;
        if (!call->record)
            continue;
        if (call->kind == REMOTE_RETURN)
            break;
        if (cancelled)
            rt_cancel(rt_self());
        serve(remote, call, what->function == REMOTE_PERIODIC);
        if (cancelled)
            rt_cancel_clear();
    }
    if (cancelled)
        rt_cancel(rt_self());
    /* What it asked before it was lost is not what it returned. */
    return call->record && call->kind == REMOTE_RETURN ? 0 : -EPIPE;
}

/* Names are the plug-in's, which may have so many. */
static void count(const struct native_remote *remote, struct span counts) {
    struct remote_count one;
    while (remote_next_count(&counts, &one) == 1) {
        const struct statistic *stat =
            native_library_stat(remote->config->library, (enum stat_kind)one.kind, one.name);
        if (!stat)
            continue;
        if (stat->kind == STAT_HISTOGRAM)
            stat_record_us(stat, STATS_SHARD_FOREIGN, one.value > 0 ? (uint64_t)one.value : 0);
        else if (one.is_set && stat->kind == STAT_GAUGE)
            stat_set(stat, one.value);
        else if (!one.is_set)
            stat_add(stat, STATS_SHARD_FOREIGN, one.value);
    }
}

int native_remote_call(struct native_remote *remote, struct native_remote_call *what) {
    struct call call = {.g = rt_self(), .id = ++remote->last_id};
    list_push_back(&remote->calls, &call.node);
    int err;
    do { /* a process that was lost before it had looked at anything: another one serves */
        call.lost = false;
        err = enter(remote);
        if (!err && what->function == REMOTE_PERIODIC && remote->ends)
            err = -ECANCELED;
        if (!err)
            err = send_call(remote, what, call.id);
        if (!err)
            err = converse(remote, &call, what);
    } while (err == -EPIPE && remote->party.unheard && !remote->party.lane && call.id == 1);
    list_remove(&call.node);
    if (err) {
        free(call.record);
        return err;
    }
    what->record = call.record;
    err = remote_read_return(span_make(call.record, call.len), &what->said);
    ASSERT(err == 0); /* hear() has read it */
    bool is_between = what->function == REMOTE_PERIODIC;
    remote->e->looks_on = is_between;
    apply(remote, what->said.edits);
    remote->e->looks_on = false;
    count(remote, what->said.counts);
    if (what->said.merges)
        stat_add(remote->config->library->stats.merges, remote->e->x->shard, what->said.merges);
    return 0;
}

/* ---- the chain's functions ---- */

void native_remote_failed(struct native_remote *remote, int err) {
    struct sluice_exchange *e = remote->e;
    if (err == -ECANCELED)
        return;
    e->state = err == -EPIPE && remote->config->is_open ? NATIVE_BYPASSED : NATIVE_FAULTED;
    if (err != -EPIPE)
        native_filter_fail(e, 500, SPAN_LIT("native_filter_out_of_memory"));
    else if (e->state == NATIVE_FAULTED)
        native_filter_lost(e);
}

void native_remote_ended(struct native_remote *remote, const struct remote_return *said) {
    struct sluice_exchange *e = remote->e;
    struct native_library *library = remote->config->library;
    switch ((enum remote_ending)said->ending) {
    case REMOTE_FAULTED:
        e->state = NATIVE_FAULTED;
        (void)atomic_fetch_add_explicit(&library->faults, 1, memory_order_relaxed);
        stat_inc(library->stats.faults, e->x->shard);
        native_filter_fail(e, 500, SPAN_LIT("native_filter_fault"));
        break;
    case REMOTE_NOT_CREATED:
        native_remote_failed(remote, -EINVAL);
        break;
    case REMOTE_NO_MEMORY:
        native_filter_fail(e, 500, SPAN_LIT("native_filter_out_of_memory"));
        break;
    default:
        break;
    }
}

static int call_it(struct native_remote *remote, struct native_remote_call *what) {
    int err = native_remote_call(remote, what);
    if (err)
        native_remote_failed(remote, err);
    else
        native_remote_ended(remote, &what->said);
    free(what->record);
    return err;
}

/* Observers that have seen their end, or will see no more. */
static void tell_ends(struct native_remote *remote) {
    for (struct native_far *far = remote->fars; far; far = far->next) {
        struct native_remote_call call = {
            .function = REMOTE_OBSERVED, .far = far, .error = far->error};
        if (!far->untold || remote->e->state != NATIVE_RUNS)
            continue;
        far->untold = false;
        if (call_it(remote, &call) != 0)
            return;
    }
}

static bool is_wanted(struct native_remote *remote, enum remote_function function) {
    uint64_t wanted = 1ULL << function;
    if (function == REMOTE_REQUEST)
        wanted |= 1ULL << REMOTE_CREATE;
    return (remote_lane_abilities(remote->party.lane) & wanted) != 0;
}

static void hook(struct native_remote *remote, enum remote_function function) {
    struct native_remote_call call = {.function = function};
    if (remote->e->state != NATIVE_RUNS || (function == REMOTE_DESTROY && !remote->party.lane))
        return;
    int err = enter(remote);
    if (err) {
        native_remote_failed(remote, err);
        return;
    }
    if (function == REMOTE_LOG_END || function == REMOTE_DESTROY)
        tell_ends(remote);
    if (remote->e->state == NATIVE_RUNS && remote->party.lane && is_wanted(remote, function))
        (void)call_it(remote, &call); /* what came of it is done */
}

/* On a coroutine of its own: nobody ends the exchange before it is back. */
static void hook_between(struct native_remote *remote) {
    remote->is_between = true;
    hook(remote, REMOTE_PERIODIC);
    remote->is_between = false;
    if (remote->ender)
        rt_ready(remote->ender);
}

/* A periodic log may wait for a process, for room in a ring or for the host, as any call and no longer: callback_timeout. */
static void await_between(struct native_remote *remote) {
    bool cancelled = false;
    remote->ends = true;
    remote->ender = rt_self();
    while (remote->is_between)
        if (rt_park("a periodic log in a host process", RT_FOREVER) == -ECANCELED) {
            rt_cancel_clear(); /* taken up again below */
            cancelled = true;
        }
    remote->ender = NULL;
    if (cancelled)
        rt_cancel(rt_self());
}

void native_remote_hook(struct native_remote *remote, enum remote_function function) {
    if (function == REMOTE_LOG_END || function == REMOTE_DESTROY)
        await_between(remote);
    if (function == REMOTE_PERIODIC)
        hook_between(remote);
    else
        hook(remote, function);
}

void native_remote_end(struct native_remote *remote) {
    ASSERT(list_is_empty(&remote->calls));
    if (remote->party.lane) {
        struct remote_out *out = remote_lane_scratch(remote->party.lane);
        remote_put_end(out, &(struct remote_end){.number = remote->party.number});
        if (remote->party.sent &&
            (out->failed || remote_lane_send(&remote->party, REMOTE_END,
                                             span_make(out->data, out->len), RT_FOREVER) != 0))
            LOG(log_native, LOG_DEBUG, "a host process has not heard of an exchange's end");
        if (remote->party.lane)
            remote_lane_leave(&remote->party);
    }
    remote_out_fini(&remote->pieces);
    for (struct native_far *far = remote->fars; far; far = far->next)
        free(far->bytes);
}
