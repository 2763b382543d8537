/* host_native: see the header. Nobody but a P's own coroutines and callbacks touches what is here, so nothing is locked. A
 * ring to the proxy that is full is waited for by the thread: the proxy's Ps read on, whatever we do. */
#include "ext/remote/host_native.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "ext/native/native_host.h"
#include "ext/remote/host_config.h"
#include "ext/remote/host_send.h"
#include "ext/remote/port.h"
#include "proxy/filter_state.h"
#include "proxy/metadata.h"
#include "rt/stack_call.h"

enum { BUCKETS = 1 << 10, ENTRIES = 4 * HEADER_COUNT_MAX, ARENA_MAX = 16 << 20 };

struct host_p {
    struct remote_port port;
    struct host_native *table[BUCKETS];
    struct header entries[ENTRIES];
    struct remote_out out;
};

/* The heads of a periodic log, which are of another moment than those that a function that waits has before it. */
struct moment {
    struct header_map maps[REMOTE_PARTS];
};

struct host_call {
    struct list node;
    struct moment moment; /* of PERIODIC: while it waits, its own; while it runs, the others' */
    struct host_native *n;
    struct g *g;
    uint32_t id;
    uint8_t function;
    char *
        record; /* the CALL's; what is borrowed from it is used before the function runs, but for: */
    struct span bytes;
    uint64_t handle;
    int32_t error;
    char *given; /* the last GIVE; NULL: none has come yet */
    size_t given_len;
};

static struct native_library *library;
static struct remote_shm *shm;
static struct host_p *ps[RT_P_MAX];
static _Atomic int64_t merges_told;
static _Atomic int64_t running; /* calls */
static _Atomic bool stops;      /* no other one begins */

/* ---- to the proxy ---- */

static NOINLINE void send_record(struct host_native *n, enum remote_kind kind) {
    struct remote_out *out = &n->p->out;
    uint32_t p = remote_number_p(n->number);
    int err;
    if (out->failed)
        host_die("out of memory");
    while ((err = remote_port_put(&n->p->port, p, kind, span_make(out->data, out->len))) ==
           -EAGAIN) {
        (void)remote_ring_out_wake(remote_shm_p_out(shm, p));
        err = remote_ring_out_wait(remote_shm_p_out(shm, p), out->len, INT64_MAX);
        if (err)
            break;
    }
    if (err)
        host_die("a ring to the proxy is broken");
}

/* A periodic log has none: those that are there are of a function that waits, and its to send. */
static struct span edits_of(const struct host_native *n, bool is_between) {
    if (n->edits.failed)
        host_die("out of memory");
    if (is_between)
        return span_make("", 0);
    return span_make(n->edits.data ? n->edits.data : "", n->edits.len);
}

/* While it runs, nobody else of its exchange does. */
static void swap_moment(struct host_call *call) {
    struct exchange *x = &call->n->x;
    struct header_map *maps[] = {&x->request.headers, &x->response.headers, &x->request.trailers,
                                 &x->response.trailers};
    for (unsigned i = 0; i < REMOTE_PARTS; i++) {
        struct header_map other = *maps[i];
        *maps[i] = call->moment.maps[i];
        call->moment.maps[i] = other;
    }
    call->n->e.looks_on = !call->n->e.looks_on;
}

static struct host_call *call_of(const struct host_native *n, const struct g *g) {
    for (struct list *node = n->calls.next; node != &n->calls; node = node->next)
        if (container_of(node, struct host_call, node)->g == g)
            return container_of(node, struct host_call, node);
    return NULL;
}

void host_native_await_turn(struct sluice_exchange *e) {
    struct host_native *n = host_native_of(e);
    bool cancelled = false;
    while (n->is_between)
        if (rt_park("a periodic log", RT_FOREVER) == -ECANCELED) {
            rt_cancel_clear(); /* taken up again below */
            cancelled = true;
        }
    if (cancelled)
        rt_cancel(rt_self());
}

int host_native_ask(struct sluice_exchange *e, struct remote_want *want, struct remote_give *give) {
    struct host_native *n = host_native_of(e);
    struct host_call *call = call_of(n, rt_self());
    bool cancelled = false;
    if (!call)
        return -EINVAL; /* no function of this exchange is running here */
    want->number = n->number;
    want->id = call->id;
    want->edits = edits_of(n, e->looks_on);
    remote_out_clear(&n->p->out);
    remote_put_want(&n->p->out, want);
    if (!e->looks_on)
        remote_out_clear(&n->edits);
    free(call->given);
    call->given = NULL;
    send_record(n, REMOTE_WANT);
    bool is_between = e->looks_on;
    if (is_between)
        swap_moment(call);
    while (!call->given)
        if (rt_park("an answer of the proxy", RT_FOREVER) == -ECANCELED) {
            rt_cancel_clear(); /* taken up again below */
            cancelled = true;
        }
    if (cancelled)
        rt_cancel(rt_self());
    if (is_between)
        swap_moment(call);
    else
        host_native_await_turn(e);
    struct host_p *p = n->p;
    if (remote_read_give(span_make(call->given, call->given_len), p->entries, ENTRIES, give) != 0)
        host_die("an answer of the proxy is not one");
    n->alive = give->alive;
    if (give->trailers.entries && want->part < 2 &&
        host_native_show(want->part == SLUICE_REQUEST ? &n->x.request.trailers
                                                      : &n->x.response.trailers,
                         &give->trailers) != 0)
        return -ENOMEM;
    return give->rc;
}

void host_native_edited(struct sluice_exchange *e) {
    struct host_native *n = host_native_of(e);
    struct remote_want want = {.question = REMOTE_WANT_EDITS};
    struct remote_give give;
    if (n->edits.len > REMOTE_EDITS_MAX && !e->looks_on)
        (void)host_native_ask(e, &want, &give); /* that they are done is all there is to say */
}

/* ---- mirrors ---- */

static struct host_native **place_of(struct host_p *p, uint64_t number) {
    struct host_native **place = &p->table[(number ^ number >> 32) % BUCKETS];
    while (*place && (*place)->number != number)
        place = &(*place)->next;
    return place;
}

static struct host_native *mirror_new(struct host_p *p, const struct remote_call *call) {
    struct host_config config;
    struct host_native *n = calloc(1, sizeof *n);
    if (!n)
        host_die("out of memory");
    if (!host_config_find(call->config_id, &config))
        host_die("a call of a configuration that nobody has told of");
    const struct host_native_config *made = (const void *)(uintptr_t)config.go_id;
    n->p = p;
    n->number = call->number;
    n->alive = true;
    list_init(&n->calls);
    n->x.shard = rt_p_index();
    arena_init(&n->x.arena, rt_blocks(), ARENA_MAX);
    message_init(&n->x.request, &n->x.arena);
    message_init(&n->x.response, &n->x.arena);
    n->e = (struct sluice_exchange){.x = &n->x, .config = made->config, .self = made->config->made};
    struct host_native **place = place_of(p, call->number);
    n->next = *place;
    *place = n;
    return n;
}

static void mirror_free(struct host_native *n) {
    struct host_native **place = place_of(n->p, n->number);
    *place = n->next;
    arena_fini(&n->x.arena);
    remote_out_fini(&n->edits);
    free(n);
}

/* ---- calls ---- */

struct guarded {
    struct host_call *call;
    struct native_fault fault;
    bool returned;
    struct sluice_body *body; /* of NEXT */
    int rc;
    struct sluice_span out;
};

struct on_stack {
    struct guarded *guarded;
    rt_fn enter;
};

static void guard(void *arg) {
    struct on_stack *on = arg;
    on->guarded->returned =
        native_call(&library->text, on->enter, on->guarded, &on->guarded->fault);
}

/* False: it faulted, or there was no stack for it; what the call ended with is noted. */
static bool run(struct guarded *guarded, rt_fn enter, const char *what) {
    struct host_native *n = guarded->call->n;
    struct on_stack on = {guarded, enter};
    guarded->returned = false;
    int err = 0;
    if (n->e.config->stack_bytes)
        err = stack_call(n->e.config->stack_bytes, guard, &on);
    else
        guard(&on);
    if (!guarded->returned && !err) {
        n->e.state = NATIVE_FAULTED;
        native_library_faulted(library, &guarded->fault, what, n->x.shard);
    }
    if (!guarded->returned)
        n->ending = err ? REMOTE_NO_MEMORY : REMOTE_FAULTED;
    return guarded->returned;
}

static NATIVE_ENTER void enter_create(void *arg) {
    struct sluice_exchange *e = &((struct guarded *)arg)->call->n->e;
    e->self = library->plugin.create(e, e->config->made);
    NATIVE_ENTERED();
}

static void (*function_of(uint8_t function))(struct sluice_exchange *, void *) {
    const struct sluice_plugin *plugin = &library->plugin;
    switch ((enum remote_function)function) {
    case REMOTE_START:
        return plugin->log_start;
    case REMOTE_REQUEST:
        return plugin->request;
    case REMOTE_RESPONSE:
        return plugin->response;
    case REMOTE_LOG_END:
        return plugin->log;
    case REMOTE_PERIODIC:
        return plugin->log_periodic;
    case REMOTE_DESTROY:
        return plugin->destroy;
    default:
        return NULL;
    }
}

static NATIVE_ENTER void enter_hook(void *arg) {
    struct host_call *call = ((struct guarded *)arg)->call;
    function_of(call->function)(&call->n->e, call->n->e.self);
    NATIVE_ENTERED();
}

static NATIVE_ENTER void enter_next(void *arg) {
    struct guarded *guarded = arg;
    struct sluice_body *body = guarded->body;
    guarded->rc = body->next(body->arg, body, &guarded->out);
    NATIVE_ENTERED();
}

/* As much as a record holds, of what it said before or says now. */
static void pull(struct guarded *guarded) {
    struct host_native *n = guarded->call->n;
    struct sluice_body *body = n->bodies_made;
    while (body && body->handle != guarded->call->handle)
        body = body->next_made;
    if (!body)
        host_die("a transformer that nobody made is pulled");
    guarded->body = body;
    if (body->rest.len == 0) {
        if (!run(guarded, enter_next, "transformer") || guarded->rc < 0)
            return;
        body->rest = native_span(guarded->out);
    }
    size_t len = body->rest.len < REMOTE_PIECE_MAX ? body->rest.len : REMOTE_PIECE_MAX;
    guarded->out = sluice_bytes(body->rest.ptr, len);
    body->rest = span_from(body->rest, len);
}

static struct host_observer *observer_of(const struct host_call *call) {
    struct host_observer *observer = call->n->observers;
    while (observer && observer->handle != call->handle)
        observer = observer->next;
    return observer;
}

static NATIVE_ENTER void enter_bytes(void *arg) {
    struct host_call *call = ((struct guarded *)arg)->call;
    const struct host_observer *observer = observer_of(call);
    observer->given.bytes(observer->given.arg, native_span_of(call->bytes));
    NATIVE_ENTERED();
}

static NATIVE_ENTER void enter_observed(void *arg) {
    struct host_call *call = ((struct guarded *)arg)->call;
    const struct host_observer *observer = observer_of(call);
    observer->given.end(observer->given.arg, call->error);
    NATIVE_ENTERED();
}

static bool create(struct guarded *guarded) {
    struct host_native *n = guarded->call->n;
    if (n->created)
        return true;
    n->created = true;
    if (!library->plugin.create)
        return true;
    if (run(guarded, enter_create, "create") && !n->e.self)
        n->ending = REMOTE_NOT_CREATED;
    return n->ending == REMOTE_ENDED;
}

static void run_between(struct guarded *guarded) {
    struct host_native *n = guarded->call->n;
    swap_moment(guarded->call);
    n->is_between = true;
    (void)run(guarded, enter_hook, "log_periodic");
    n->is_between = false;
    swap_moment(guarded->call);
    for (struct list *node = n->calls.next; node != &n->calls; node = node->next)
        if (container_of(node, struct host_call, node)->g)
            rt_ready(container_of(node, struct host_call, node)->g);
}

static void run_function(struct guarded *guarded) {
    static const char *const names[] = {[REMOTE_START] = "log_start",
                                        [REMOTE_REQUEST] = "request",
                                        [REMOTE_RESPONSE] = "response",
                                        [REMOTE_LOG_END] = "log",
                                        [REMOTE_DESTROY] = "destroy"};
    struct host_call *call = guarded->call;
    if (!create(guarded) || call->n->e.state != NATIVE_RUNS)
        return;
    switch ((enum remote_function)call->function) {
    case REMOTE_NEXT:
        pull(guarded);
        break;
    case REMOTE_BYTES:
        (void)run(guarded, enter_bytes, "observer");
        break;
    case REMOTE_OBSERVED:
        if (observer_of(call)->given.end)
            (void)run(guarded, enter_observed, "observer's end");
        break;
    case REMOTE_PERIODIC:
        run_between(guarded);
        break;
    default:
        if (function_of(call->function))
            (void)run(guarded, enter_hook, names[call->function]);
        break;
    }
}

static void serve_call(void *arg) {
    struct host_call *call = arg;
    struct host_native *n = call->n;
    struct guarded guarded = {.call = call, .out = SLUICE_LIT("")};
    call->g = rt_self();
    if (n->cancelled)
        rt_cancel(call->g);
    host_native_await_turn(&n->e);
    run_function(&guarded);
    struct remote_out counts;
    host_native_take_counts(&counts);
    if (library->plugin.merge_config) {
        int64_t merges = stat_value(library->stats.merges);
        n->merges = (uint32_t)(merges - atomic_exchange(&merges_told, merges));
    }
    const struct remote_return said = {
        .number = n->number,
        .id = call->id,
        .ending = n->ending,
        .rc = guarded.rc,
        .merges = n->merges,
        .edits = edits_of(n, call->function == REMOTE_PERIODIC),
        .bytes = span_make(guarded.out.ptr ? guarded.out.ptr : "", guarded.out.len),
        .counts = span_make(counts.data ? counts.data : "", counts.len),
    };
    remote_out_clear(&n->p->out);
    remote_put_return(&n->p->out, &said);
    if (call->function != REMOTE_PERIODIC)
        remote_out_clear(&n->edits);
    remote_out_fini(&counts);
    n->ending = REMOTE_ENDED;
    send_record(n, REMOTE_RETURN);
    list_remove(&call->node);
    free(call->record);
    free(call->given);
    free(call);
    if (n->over && list_is_empty(&n->calls))
        mirror_free(n);
    (void)atomic_fetch_sub(&running, 1);
}

/* ---- what the proxy says ---- */

static char *copy_of(const struct remote_record *record) {
    char *copy = malloc(record->payload.len ? record->payload.len : 1);
    if (!copy)
        host_die("out of memory");
    remote_record_copy(record, 0, copy, record->payload.len);
    return copy;
}

static void take_heads(struct host_native *n, const struct remote_call *call,
                       struct host_call *taker) {
    struct header_map *maps[] = {&n->x.request.headers, &n->x.response.headers,
                                 &n->x.request.trailers, &n->x.response.trailers};
    for (unsigned i = 0; call->function == REMOTE_PERIODIC && i < REMOTE_PARTS; i++) {
        if (host_native_shows(maps[i], &call->maps[i])) {
            taker->moment.maps[i] = *maps[i];
            maps[i] = NULL;
        } else {
            maps[i] = &taker->moment.maps[i];
            header_map_init(maps[i], &n->x.arena);
        }
    }
    for (unsigned i = 0; i < REMOTE_PARTS; i++)
        if (maps[i] && host_native_show(maps[i], &call->maps[i]) != 0)
            n->ending = REMOTE_NO_MEMORY;
}

static void on_call(struct host_p *p, const struct remote_record *record) {
    (void)atomic_fetch_add(&running,
                           1); /* before it is looked: host_native_stop looks the other way round */
    if (atomic_load(&stops)) {
        (void)atomic_fetch_sub(&running, 1); /* the process ends, and who waits hears of that */
        return;
    }
    struct remote_call said;
    struct host_call *call = calloc(1, sizeof *call);
    char *copy = copy_of(record);
    if (!call ||
        remote_read_call(span_make(copy, record->payload.len), p->entries, ENTRIES, &said) != 0)
        host_die("a message of the proxy is not one");
    struct host_native *n = *place_of(p, said.number);
    if (!n)
        n = mirror_new(p, &said);
    *call = (struct host_call){.n = n,
                               .id = said.id,
                               .function = said.function,
                               .record = copy,
                               .bytes = said.bytes,
                               .handle = said.handle,
                               .error = said.error};
    if (said.shown)
        take_heads(n, &said, call);
    if (said.function < REMOTE_PERIODIC)
        n->phase = said.phase;
    n->bodies[0] = said.bodies[0];
    n->bodies[1] = said.bodies[1];
    list_push_back(&n->calls, &call->node);
    if (go_here("a function of a plug-in", serve_call, call) != 0)
        host_die("out of memory");
}

static void on_give(struct host_p *p, const struct remote_record *record) {
    uint64_t number;
    uint32_t id;
    ASSERT(record->payload.len >= sizeof number + sizeof id);
    remote_record_copy(record, 0, &number, sizeof number);
    remote_record_copy(record, sizeof number, &id, sizeof id);
    struct host_native *n = *place_of(p, number);
    for (struct list *node = n ? n->calls.next : NULL; n && node != &n->calls; node = node->next) {
        struct host_call *call = container_of(node, struct host_call, node);
        if (call->id != id)
            continue;
        call->given_len = record->payload.len;
        call->given = copy_of(record);
        rt_ready(call->g);
        return;
    }
}

static void on_end(struct host_p *p, const struct remote_record *record, bool is_end) {
    struct remote_end end;
    if (remote_read_end(record->payload, &end) != 0)
        host_die("a message of the proxy is not one");
    struct host_native *n = *place_of(p, end.number);
    if (!n)
        return;
    n->cancelled = true;
    n->alive = false;
    n->over |= is_end;
    for (struct list *node = n->calls.next; node != &n->calls; node = node->next)
        if (container_of(node, struct host_call, node)->g)
            rt_cancel(container_of(node, struct host_call, node)->g);
    if (n->over && list_is_empty(&n->calls))
        mirror_free(n);
}

static void on_record(struct remote_port *port, const struct remote_record *record) {
    struct host_p *p = container_of(port, struct host_p, port);
    switch (record->kind) {
    case REMOTE_CALL:
        on_call(p, record);
        break;
    case REMOTE_GIVE:
        on_give(p, record);
        break;
    case REMOTE_CANCEL:
        on_end(p, record, false);
        break;
    case REMOTE_END:
        on_end(p, record, true);
        break;
    case REMOTE_PING:
        break;
    default:
        host_die("a message of the proxy is not one");
    }
}

static void on_broken(struct remote_port *port) {
    host_die("a ring from the proxy is broken");
}

/* ---- its start ---- */

static sem_t ready;

static void open_port(void *arg) {
    struct host_p *p = arg;
    if (remote_port_open_seat(&p->port, shm, rt_p_index(), on_record, on_broken) != 0)
        host_die("no descriptor for a bell");
    (void)sem_post(&ready);
}

static void begin(void *arg) {
    for (unsigned i = 0; i < rt_p_count(); i++)
        if (go_on(i, "a seat's start", open_port, ps[i]) != 0)
            host_die("out of memory");
}

static void *run_runtime(void *arg) {
    const struct rt_options options = {.p_count = remote_shm_layout(shm)->seat_count,
                                       .io = RT_IO_EPOLL};
    (void)rt_run(&options, begin, NULL);
    host_die("its runtime cannot be started");
}

int host_native_start(struct native_library *of, struct remote_shm *with) {
    uint32_t count = remote_shm_layout(with)->seat_count;
    pthread_t thread;
    if (shm || count > RT_P_MAX)
        return -EINVAL;
    int err = stats_init(count);
    for (uint32_t i = 0; i < count && !err; i++)
        if (!(ps[i] = calloc(1, sizeof *ps[i])))
            err = -ENOMEM;
    if (err)
        return err;
    library = of;
    shm = with;
    (void)sem_init(&ready, 0, 0); /* of a valid value it cannot fail */
    err = -pthread_create(&thread, NULL, run_runtime, NULL);
    for (uint32_t i = 0; i < count && !err; i++)
        while (sem_wait(&ready) != 0)
            ; /* interrupted by a signal */
    if (!err)
        (void)pthread_detach(thread);
    return err;
}

bool host_native_stop(int64_t deadline_ns) {
    static const struct timespec a_millisecond = {.tv_nsec = NS_PER_MS};
    while (atomic_load(&running) > 0 && clock_mono_ns() < deadline_ns)
        (void)nanosleep(&a_millisecond, NULL); /* a signal only makes it look earlier */
    atomic_store(&stops, true);
    while (atomic_load(&running) > 0 && clock_mono_ns() < deadline_ns)
        (void)nanosleep(&a_millisecond, NULL);
    return atomic_load(&running) == 0;
}
