/* trace: records events of the scheduler. trace_json.c writes them.
 *
 *    P 0   [event][event][event]...          the M that holds P 0 writes
 *    P 1   [event][event]...
 *    rest  [event]...                        threads without a P, under rest_lock
 *
 * Each buffer has one writer at a time and is filled once per session, from the start; when it is full
 * the rest is counted. An event below head never changes any more in its session, so a reader needs no
 * agreement with the writer: it acquires head, which the writer released after the event.
 *
 * T1  trace_session changes only in trace_start, under state_lock, while nobody reads.
 * T2  A buffer's writer starts it over itself when it finds it of an older session: head = 0, then
 *     session (release). A reader that does not find its own session there finds no events; one that
 *     does finds head 0 or more of it.
 * T3  A hook that began before trace_stop may still record afterwards: the reader does not see it, or
 *     sees it whole. One that lasts into the next session records there, with the time of the start of
 *     nothing: it reads the clock when it writes.
 * T4  Buffers are mapped at the first start and stay: late writers need not be waited for. After the
 *     file was written their memory goes back to the kernel, which reads as zeroes.
 *
 * Arrows  Who makes a coroutine ready stores the name of its event in g->trace_flow before the coroutine
 *         can run; trace_run takes it out. It is an atomic: a token from elsewhere and a local one may
 *         meet, and then either arrow will do. The name holds the session, so old ones are not drawn.
 *
 * Rejected  Overwriting the oldest: the reader would have to stop the writers or check each event
 *           twice, and who traces a second wants its start, not what fits of its end. Time stamp
 *           counters: not synchronous on every machine, and the clock is read without a system call. */
#include "rt/trace_internal.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"

_Atomic bool trace_on;
_Atomic uint32_t trace_session;
struct trace_buffer trace_buffers[RT_P_MAX + 1];

static pthread_mutex_t state_lock = PTHREAD_MUTEX_INITIALIZER;
static enum { TRACE_OFF, TRACE_RUNS, TRACE_STOPPED, TRACE_WRITES } state;
static struct trace_times times;
static _Atomic uint32_t capacity; /* per buffer, this session */

static pthread_mutex_t rest_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- Recording ---- */

/* The flow that the event starts, 0 when it was not recorded. */
static uint64_t record(struct trace_buffer *buffer, struct trace_event event) {
    if (!atomic_load_explicit(&trace_on,
                              memory_order_acquire)) /* trace_start's: session, capacity */
        return 0;
    uint32_t session = atomic_load_explicit(&trace_session, memory_order_relaxed);
    if (atomic_load_explicit(&buffer->session, memory_order_relaxed) != session) {
        atomic_store_explicit(&buffer->head, 0, memory_order_relaxed);
        atomic_store_explicit(&buffer->missed, 0, memory_order_relaxed);
        atomic_store_explicit(&buffer->session, session, memory_order_release); /* T2 */
    }
    uint32_t head = atomic_load_explicit(&buffer->head, memory_order_relaxed);
    if (head >= atomic_load_explicit(&capacity, memory_order_relaxed)) {
        counter_add(&buffer->missed, 1);
        return 0;
    }
    event.at_ns = clock_mono_ns();
    buffer->events[head] = event;
    atomic_store_explicit(&buffer->head, head + 1, memory_order_release);
    return trace_flow_name(session, (unsigned)(buffer - trace_buffers), head);
}

static uint64_t record_on(struct p *p, struct trace_event event) {
    return record(&trace_buffers[p->index], event);
}

static uint64_t record_anywhere(struct p *p, struct trace_event event) {
    if (p)
        return record_on(p, event);
    pthread_mutex_lock(&rest_lock);
    uint64_t flow = record(&trace_buffers[RT_P_MAX], event);
    pthread_mutex_unlock(&rest_lock);
    return flow;
}

static uint64_t id_of(const struct g *g) {
    return atomic_load_explicit(&g->id, memory_order_relaxed);
}

static const char *name_of(const struct g *g) {
    return atomic_load_explicit(&g->name, memory_order_relaxed);
}

void trace_run(struct p *p, struct g *g) {
    uint64_t flow = atomic_exchange_explicit(&g->trace_flow, 0, memory_order_relaxed);
    if (flow)
        (void)record_on(p, (struct trace_event){.kind = TRACE_ARRIVES, .number = flow});
    (void)record_on(
        p, (struct trace_event){.kind = TRACE_RUN, .number = id_of(g), .text = name_of(g)});
}

void trace_stopped_running(struct p *p, struct m *m, struct g *g) {
    const char *why = NULL;
    switch (m->request) {
    case M_PARKED:
    case M_PARK:
    case M_PARK_UNLOCK:
        why = atomic_load_explicit(&g->reason, memory_order_relaxed);
        break;
    case M_YIELD:
    case M_YIELD_POLL:
        why = "yield";
        break;
    case M_EXIT:
        why = "end";
        break;
    case M_BLOCKING:
        why = "blocking call";
        break;
    case M_RETAKEN:
        return; /* the P is not ours; whoever got it has said so */
    }
    (void)record_on(p, (struct trace_event){.kind = TRACE_STOP_RUN, .text = why});
}

void trace_handed(struct p *p) {
    uint32_t tid = (uint32_t)gettid();
    (void)record_on(p, (struct trace_event){.kind = TRACE_HANDED, .tid = tid});
}

void trace_sleeps(struct p *p) {
    (void)record_on(p, (struct trace_event){.kind = TRACE_SLEEP});
}

void trace_awakes(struct p *p) {
    (void)record_on(p, (struct trace_event){.kind = TRACE_AWAKE});
}

void trace_steals(struct p *p, struct g *g, struct p *from) {
    (void)record_on(
        p, (struct trace_event){.kind = TRACE_STEAL, .number = id_of(g), .p_index = from->index});
}

void trace_timers(struct p *p, unsigned fired) {
    (void)record_on(p, (struct trace_event){.kind = TRACE_TIMERS, .number = fired});
}

void trace_foreign_begins(struct p *p, struct m *m, struct g *g) {
    uint64_t recorded = record_on(p, (struct trace_event){.kind = TRACE_FOREIGN,
                                                          .tid = (uint32_t)m->tid,
                                                          .number = id_of(g),
                                                          .text = name_of(g)});
    m->trace_session = trace_flow_session(recorded);
}

void trace_foreign_ends(struct p *p, struct m *m, struct g *g) {
    /* An end without its beginning would be drawn as the end of something else. */
    if (m->trace_session == atomic_load_explicit(&trace_session, memory_order_relaxed))
        (void)record_anywhere(p, (struct trace_event){.kind = TRACE_FOREIGN_END,
                                                      .tid = (uint32_t)m->tid,
                                                      .number = id_of(g)});
}

void trace_quick_begins(struct p *p, const char *site) {
    (void)record_on(p, (struct trace_event){.kind = TRACE_QUICK, .text = site});
}

void trace_quick_ends(struct p *p) {
    (void)record_on(p, (struct trace_event){.kind = TRACE_QUICK_END});
}

static void wakes(struct g *g, uint8_t kind) {
    uint64_t flow = record_anywhere(
        p_self(), (struct trace_event){.kind = kind, .number = id_of(g), .text = name_of(g)});
    atomic_store_explicit(&g->trace_flow, flow, memory_order_relaxed);
}

void trace_starts(struct g *g) {
    wakes(g, TRACE_START);
}

void trace_readies(struct g *g) {
    uint64_t sent = atomic_load_explicit(&g->trace_flow, memory_order_relaxed);
    if (sent &&
        trace_flow_session(sent) == atomic_load_explicit(&trace_session, memory_order_relaxed))
        return; /* by who sent the token that arrives here */
    wakes(g, TRACE_READY);
}

void trace_token_unused(struct g *g) {
    atomic_store_explicit(&g->trace_flow, 0, memory_order_relaxed);
}

void trace_retakes(struct p *p) {
    (void)record_anywhere(NULL, (struct trace_event){.kind = TRACE_RETAKE, .p_index = p->index});
}

/* ---- Start and stop ---- */

static size_t buffer_size(void) {
    return TRACE_EVENTS_MAX * sizeof(struct trace_event);
}

static int map_buffer(struct trace_buffer *buffer) {
    if (buffer->events)
        return 0;
    void *events = mmap(NULL, buffer_size(), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (events == MAP_FAILED)
        return -ENOMEM;
    buffer->events = events;
    return 0;
}

static int map_buffers(void) {
    int err = map_buffer(&trace_buffers[RT_P_MAX]);
    for (unsigned i = 0; err == 0 && i < rt_sched.p_count; i++)
        err = map_buffer(&trace_buffers[i]);
    return err;
}

int trace_start(unsigned events_per_p) {
    if (events_per_p > TRACE_EVENTS_MAX)
        return -EINVAL;
    pthread_mutex_lock(&state_lock);
    int err = state == TRACE_RUNS || state == TRACE_WRITES ? -EBUSY : map_buffers();
    if (err == 0) {
        state = TRACE_RUNS;
        times.start_ns = clock_mono_ns();
        atomic_store_explicit(&capacity, events_per_p ? events_per_p : TRACE_EVENTS,
                              memory_order_relaxed);
        atomic_fetch_add_explicit(&trace_session, 1, memory_order_relaxed); /* T1 */
        atomic_store_explicit(&trace_on, true, memory_order_release);
    }
    pthread_mutex_unlock(&state_lock);
    return err;
}

int trace_stop(void) {
    pthread_mutex_lock(&state_lock);
    int err = state == TRACE_RUNS ? 0 : -EINVAL;
    if (err == 0) {
        atomic_store_explicit(&trace_on, false, memory_order_relaxed);
        times.stop_ns = clock_mono_ns();
        state = TRACE_STOPPED;
    }
    pthread_mutex_unlock(&state_lock);
    return err;
}

static int enter_writing(void) {
    pthread_mutex_lock(&state_lock);
    int err = state == TRACE_STOPPED ? 0 : -EINVAL;
    if (err == 0)
        state = TRACE_WRITES;
    pthread_mutex_unlock(&state_lock);
    return err;
}

int trace_write(int (*write)(void *arg, const char *text, size_t len), void *arg) {
    int err = enter_writing();
    if (err < 0)
        return err;
    if (write)
        err = trace_json_write(&times, write, arg);
    for (unsigned i = 0; i <= RT_P_MAX; i++)
        if (trace_buffers[i].events)
            (void)madvise(trace_buffers[i].events, buffer_size(), MADV_DONTNEED); /* T4 */
    pthread_mutex_lock(&state_lock);
    state = TRACE_OFF;
    pthread_mutex_unlock(&state_lock);
    return err;
}
