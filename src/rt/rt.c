/* rt: start, stop and the small calls of the runtime.
 *
 * The thread that calls rt_run is no M: it sleeps until rt_stop, so the process can end even while
 * every M is stuck in foreign code.
 *
 * Threads  rt_run once, from one thread. rt_stop, go_on, rt_p_stats from any. */
#include "rt/rt.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/ticks.h"
#include "rt/queues.h"
#include "rt/rt_internal.h"
#include "rt/trace_hooks.h"
#include "rt/stack_tools.h"

LOG_COMPONENT(rt, "rt");

enum {
    SPARE_M_MAX = 1024,
    STACK_MIN = 16 * 1024,
};
static const int64_t stop_wait_ns = 2 * NS_PER_S;

/* What rt_run's thread sleeps on. A semaphore and not our futex: the kernel gives most signals to this
 * thread, and ThreadSanitizer delivers them only inside waits that it knows. */
static sem_t stopped;
static _Atomic bool has_started, stop_asked;

static struct p *p_new(unsigned index) {
    struct p *p = aligned_alloc(64, (sizeof *p + 63) & ~(size_t)63);
    if (!p)
        return NULL;
    memset(p, 0, sizeof *p);
    p->index = index;
    p->steal_seed = index + 1;
    idle_p_init(&p->idle, index);
    p->now_ns = clock_mono_ns();
    wheel_init(&p->wheel, p->now_ns);
    deadlines_init(&p->deadlines, p->now_ns);
    recycle_init(p);
    list_init(&p->round_works);
    return p;
}

static void p_free(struct p *p) {
    poller_fini(p);
    recycle_fini(p);
    free(p);
}

static void ask_ps_to_stop(void) {
    atomic_store(&rt_sched.stopping, true);
    for (unsigned i = 0; i < rt_sched.p_count; i++)
        idle_wake(&rt_sched.ps[i]->idle);
}

int rt_run(const struct rt_options *options, rt_fn main_fn, void *arg) {
    ASSERT(rt_sched.p_count == 0); /* once per process, but for attempts that failed */
    sem_init(&stopped, 0, 0);
    atomic_store(&has_started, true);
    unsigned p_count = options->p_count ? options->p_count : rt_default_p_count();
    if (p_count > RT_P_MAX)
        p_count = RT_P_MAX;
    rt_sched.spare_m_max = options->spare_m_max ? options->spare_m_max : SPARE_M_MAX;
    size_t stack_size =
        options->stack_size ? options->stack_size : RT_STACK_SIZE * STACK_TOOLS_FACTOR;
    if (stack_size < STACK_MIN || stack_size > RT_STACK_MAX)
        return -EINVAL;

    idle_init(p_count);
    steal_init(p_count);
    stack_init(stack_size);
    int err = 0;
    unsigned made = 0;
    for (; err == 0 && made < p_count; made++) {
        struct p *p = p_new(made);
        err = p ? poller_init(p, options->io) : -ENOMEM;
        if (err < 0) {
            if (p)
                recycle_fini(p);
            free(p);
            break;
        }
        rt_sched.ps[made] = p;
        io_counts_by_p[made] = &p->io;
    }
    if (err < 0)
        goto free_ps;
    rt_sched.p_count = p_count;

    ticks_init();
    err = sysmon_start();
    if (err < 0)
        goto forget_ps;
    for (unsigned i = 0; err == 0 && i < p_count; i++)
        err = m_start(rt_sched.ps[i]);
    if (err == 0)
        /* borrow-ok: this call returns after main_fn. */
        err = go_on(0, "main", main_fn, arg); /* last: nothing that fails comes after it has run */
    if (err < 0)
        goto stop;

    while (!atomic_load(&rt_sched.stopping)) {
        (void)sem_wait(&stopped); /* or a signal, or rt_nudge */
        dump_start_if_asked();
    }
    sysmon_stop();
    m_stop_all();
    if (!m_wait_stopped(clock_mono_ns() + stop_wait_ns))
        LOG(log_rt, LOG_WARN, "stopping while a coroutine still runs");
    return atomic_load(&rt_sched.stop_code);

stop:
    ask_ps_to_stop();
    sysmon_stop();
    m_stop_all();
    (void)m_wait_stopped(RT_FOREVER); /* they have no coroutine that could keep them */
    atomic_store(&rt_sched.stopping, false);
forget_ps:
    rt_sched.p_count = 0;
free_ps:
    while (made-- > 0)
        p_free(rt_sched.ps[made]);
    return err;
}

void rt_nudge(void) {
    if (atomic_load(&has_started))
        (void)sem_post(&stopped);
}

void rt_stop(int code) {
    if (atomic_exchange(&stop_asked, true))
        return; /* the first one decides */
    atomic_store(&rt_sched.stop_code, code);
    ask_ps_to_stop();
    sem_post(&stopped);
}

unsigned rt_p_count(void) {
    return rt_sched.p_count;
}

unsigned rt_p_index(void) {
    struct p *p = p_self();
    ASSERT(p);
    return p->index;
}

struct block_cache *rt_blocks(void) {
    struct p *p = p_self();
    ASSERT(p);
    return &p->blocks;
}

struct g *rt_self(void) {
    struct m *m = m_self();
    return m && m->p ? m->current : NULL;
}

/* ---- Starting coroutines ---- */

static uint64_t next_id(struct p *p) {
    enum {
        ID_BATCH = 64
    }; /* ids come roughly in order, and the shared counter is seldom touched */
    static _Atomic uint64_t taken = 1;
    if (p->next_id == p->end_id) {
        p->next_id = atomic_fetch_add_explicit(&taken, ID_BATCH, memory_order_relaxed);
        p->end_id = p->next_id + ID_BATCH;
    }
    return p->next_id++;
}

/* On the P that starts it: from now on g is seen by dumps. */
static void started(struct p *p, struct g *g) {
    atomic_store_explicit(&g->id, next_id(p), memory_order_release);
    atomic_store_explicit(&p->coroutines,
                          atomic_load_explicit(&p->coroutines, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

static void start_arrived(struct rt_post *post) {
    started(p_self(), container_of(post, struct g, resume_post));
    post->fn = park_resume_arrived; /* what the post means from now on */
    post->fn(post);
}

static int start(const struct go_options *options, rt_fn fn, void *arg, void *created_by) {
    ASSERT(options->priority < RT_PRIORITIES);
    if (options->stack_size > RT_STACK_MAX)
        return -EINVAL;
    struct p *p = p_self();
    ASSERT(p || options->place == RT_ON_P);
    /* With one P nobody can steal, and pinned coroutines cost less. */
    bool here = options->place == RT_HERE || rt_sched.p_count == 1;
    struct p *home = here ? p : NULL;
    if (options->place == RT_ON_P) {
        ASSERT(options->p_index < rt_sched.p_count);
        home = rt_sched.ps[options->p_index];
    }
    struct g *g = g_new(p, home, options, fn, arg);
    if (!g)
        return -ENOMEM;
    atomic_store_explicit(&g->created_by, (uintptr_t)created_by, memory_order_relaxed);
    if (trace_is_on())
        trace_starts(g);
    if (options->place == RT_ON_P) {
        g->resume_post.fn = start_arrived;
        inbox_post(home, &g->resume_post);
        return 0;
    }
    if (!home)
        idle_share(1U << options->priority);
    started(p, g);
    queue_push(p, g);
    queue_announce(p);
    return 0;
}

/* Each notes its own caller. */

int go_with(const struct go_options *options, rt_fn fn, void *arg) {
    return start(options, fn, arg, __builtin_return_address(0));
}

int go(const char *name, rt_fn fn, void *arg) {
    return start(&(struct go_options){.name = name, .place = RT_ANYWHERE}, fn, arg,
                 __builtin_return_address(0));
}

int go_here(const char *name, rt_fn fn, void *arg) {
    return start(&(struct go_options){.name = name, .place = RT_HERE}, fn, arg,
                 __builtin_return_address(0));
}

int go_on(unsigned p_index, const char *name, rt_fn fn, void *arg) {
    return start(&(struct go_options){.name = name, .place = RT_ON_P, .p_index = p_index}, fn, arg,
                 __builtin_return_address(0));
}

/* ---- Statistics ---- */

static uint64_t relaxed(_Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static uint64_t coroutines_of(struct p *p) {
    /* A coroutine may end on another P than it started on. */
    int64_t coroutines = atomic_load_explicit(&p->coroutines, memory_order_relaxed);
    return coroutines > 0 ? (uint64_t)coroutines : 0;
}

void rt_p_stats(unsigned p_index, struct rt_p_stats *out) {
    ASSERT(p_index < rt_sched.p_count);
    struct p *p = rt_sched.ps[p_index];
    *out = (struct rt_p_stats){
        .switches = relaxed(&p->switches),
        .steals = relaxed(&p->steals),
        .polls = relaxed(&p->io.of[IO_WAIT_CALLS]),
        .foreign_calls = relaxed(&p->foreign_calls),
        .quick_calls = relaxed(&p->quick_calls),
        .retakes = relaxed(&p->retakes),
        .handoffs = relaxed(&p->handoffs),
        .long_runs = relaxed(&p->long_runs),
        .slow_quicks = relaxed(&p->slow_quicks),
        .coroutines = coroutines_of(p),
        .queue_depth = queue_depth(p),
        .blocks_in_use = __atomic_load_n(&p->blocks.in_use, __ATOMIC_RELAXED),
        .spinning = atomic_load_explicit(&p->idle.spinning, memory_order_relaxed),
        .sleeping = atomic_load_explicit(&p->idle.sleeping, memory_order_relaxed) != 0,
    };
}

struct io_counts *io_counts_by_p[RT_P_MAX];

struct io_counts *io_counts_here(void) {
    return &p_self()->io;
}

void io_counts_read(unsigned p_index, uint64_t out[IO_COUNTS]) {
    ASSERT(p_index < rt_sched.p_count);
    for (unsigned i = 0; i < IO_COUNTS; i++)
        out[i] = relaxed(&rt_sched.ps[p_index]->io.of[i]);
}

void rt_stats(struct rt_stats *out) {
    *out = (struct rt_stats){
        .global_queue_depth = atomic_load_explicit(&rt_sched.global_count, memory_order_relaxed),
        .m_refused = relaxed(&rt_sched.m_refused),
        .spinning = idle_spinning_count(),
    };
    struct stack_stats stacks;
    stack_stats(&stacks);
    out->stacks = stacks.stacks;
    out->stacks_free = stacks.free;
    m_count_all(out);
    blocking_count(out);
    int64_t alive = 0;
    uint64_t active = out->global_queue_depth + out->foreign_ms + out->blocking_busy;
    for (unsigned i = 0; i < rt_sched.p_count; i++) {
        struct p *p = rt_sched.ps[i];
        alive += atomic_load_explicit(&p->coroutines, memory_order_relaxed);
        active +=
            queue_depth(p) + !(atomic_load_explicit(&p->idle.sleeping, memory_order_relaxed) ||
                               atomic_load_explicit(&p->idle.spinning, memory_order_relaxed));
    }
    out->coroutines = alive > 0 ? (uint64_t)alive : 0;
    out->parked = out->coroutines > active ? out->coroutines - active : 0;
}
