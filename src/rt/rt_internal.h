/* rt_internal: G, M and P as the files of rt share them.
 *
 *      G coroutine ---runs on---> M thread ---holds---> P processor
 *
 * Who may touch what:
 *   struct p  Only the M that holds the P, but for the fields under "any thread".
 *   struct m  Its own thread, but for the fields under "any thread".
 *   struct g  Whoever holds the G: the P it is queued on or parked on, or the M that runs it. The
 *             memory of a struct g stays a struct g for ever, so a late look is harmless; a free one
 *             may read as all zero (stack.h), so no field means anything from one life to the next.
 * How a P changes hands: foreign.c. How a G is woken: park.c. How nobody sleeps through a wake-up:
 * idle.c. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "mem/block.h"
#include "rt/backtrace.h"
#include "rt/ctx.h"
#include "rt/deadlines.h"
#include "rt/idle.h"
#include "rt/io_counts.h"
#include "rt/local.h"
#include "rt/poll.h"
#include "rt/rt.h"
#include "rt/runq.h"
#include "rt/spin.h"
#include "rt/stack.h"
#include "rt/wheel.h"

struct p;
struct m;
struct label;
struct labels;
struct labels_describer;

extern struct log_component log_rt;

/* What rt_ready finds. Queued and running are one state: a token means the same to both. */
enum g_state {
    G_FREE,       /* on a free list */
    G_ACTIVE,     /* queued, running, or inside foreign_call or blocking_call */
    G_NOTIFIED,   /* active, and the next park returns at once */
    G_PARKED,     /* pinned */
    G_PARKED_ANY, /* not pinned */
    G_SCANNING,   /* as before, and a dump reads its stack */
};

/* What a dump has claimed of a coroutine that is not pinned. */
enum g_scan { G_SCAN_NOT, G_SCAN_PARKED, G_SCAN_AWAY };

struct g {
    void *sp;       /* while it does not run */
    struct g *next; /* in a run queue */
    struct p *p;    /* pinned: its P, constant while it lives */
    bool pinned;
    bool timed_out;   /* set by the deadline, before the wake-up */
    bool zombie;      /* ended with token_post still in an inbox: freed when that arrives */
    uint8_t priority; /* enum rt_priority, constant while it lives */
    rt_fn fn;
    void *arg;
    struct timer deadline;
    struct p *deadline_p; /* not pinned, parked with a deadline: the P whose deadlines have it */

    /* Any thread; the protocol is in park.c. */
    _Atomic uint32_t state;        /* enum g_state */
    _Atomic uint32_t token_posted; /* pinned: token_post is in the inbox of p */
    _Atomic uint8_t cancelled;     /* how many times */
    struct rt_post token_post;     /* rt_ready from another thread */
    struct rt_post resume_post;    /* start, and the way back from foreign_call and blocking_call */

    /* Any thread, to read: dumps. */
    _Atomic(const char *) name, reason;
    /* Unique in the process; 0 while it is not started. Written by the P that starts or ends it. */
    _Atomic uint64_t id;
    _Atomic uintptr_t created_by;   /* who called go */
    _Atomic int64_t waits_since_ns; /* parked, in foreign_call or blocking_call */
    _Atomic uint32_t away;          /* not pinned: in blocking_call; see park.c, K8 */
    _Atomic uint64_t trace_flow;    /* trace.c: the event that made it ready */

    /* panic.c: the coroutine's own. */
    struct deferred *deferred; /* calls still to be made, newest first */
    struct panic_frame *scope; /* the innermost one */
    struct panic_raise *raise; /* the newest panic or exit under way */

    /* local.c */
    uint32_t locals_set; /* bit per slot, the coroutine's own */
    struct spin locals_lock;
    _Atomic(void *) locals[LOCAL_MAX];

    /* labels.c; of a free G it is NULL */
    _Atomic(const struct labels_describer *) describer;

    struct ctx_san san;
    /* stack.c's. */
    char *stack; /* lowest usable byte; the guard page is below */
    size_t stack_size;
    struct slab *slab; /* NULL: stack_big.c's */
    struct list free_node;
    int64_t free_since_ns;
};

/* What a coroutine asks of the loop on g0 when it switches there. */
enum m_request {
    M_PARKED,      /* pinned: the state is PARKED already, nothing to do */
    M_PARK,        /* not pinned: to be set PARKED now that nobody runs on its stack */
    M_PARK_UNLOCK, /* either, and then unlock(unlock_arg) */
    M_YIELD,
    M_YIELD_POLL,
    M_EXIT,
    M_RETAKEN,  /* back from foreign_call, and the P is gone */
    M_BLOCKING, /* hand it to a blocking thread */
};

struct blocking_job;

struct m {
    /* Also during foreign_call; NULL in scheduler callbacks and quick calls. Nobody else may run it while it
     * stands here: signal handlers of the thread read it. */
    struct g *current;
    struct p *p; /* NULL without one: spare, or inside foreign code */
    void *g0_sp;
    enum m_request request;
    rt_fn unlock;
    void *unlock_arg;
    struct blocking_job *job;
    struct p *left; /* M_RETAKEN: the P that was */
    struct ctx_san san;
    struct m *next_spare; /* under the lock of m.c */
    struct m *all_next;
    uint32_t trace_session; /* in which its foreign call was recorded */
    clockid_t cpu_clock;    /* set by the thread itself before it owns a P, for sysmon */

    _Atomic bool in_foreign; /* any thread, to read */

    /* backtrace.c: set once by the thread itself; the protocol of a question is there. */
    _Atomic pid_t tid;
    _Atomic int ended_tid;           /* when nothing of ours runs on it any more */
    uintptr_t stack_low, stack_high; /* of the thread's own stack */
    _Atomic uint32_t sample_state;
    struct backtrace sample;

    /* Any thread: how a spare is given a P. */
    _Atomic(struct p *) handoff;
    _Atomic uint32_t wake;
};

/* P.owner: who may touch the P. An M's address, with bit 0 set while that M is in foreign code. */
#define P_OWNER_FOREIGN ((uintptr_t)1)

enum { POLL_BATCH = 256 };

#define RUNNEXT_SHARED ((uintptr_t)1)

struct g_queue {
    struct g *head, *tail;
    uint32_t count; /* the global queue's only */
};

/* A chain from head to tail, which may be one G. */
static inline void g_queue_append(struct g_queue *queue, struct g *head, struct g *tail) {
    tail->next = NULL;
    if (queue->tail)
        queue->tail->next = head;
    else
        queue->head = head;
    queue->tail = tail;
}

struct p {
    unsigned index;
    uint32_t tick;
    uint32_t runnext_streak;
    _Atomic uintptr_t runnext; /* a G; with RUNNEXT_SHARED thieves may take it (queues.c) */
    struct g_queue pinned[RT_PRIORITIES];
    bool unannounced;   /* something went into a ring and no idle P knows of it */
    bool mixed;         /* something is or was ready here that is not of normal priority */
    bool round_pending; /* there may be something in round_works */
    uint32_t since_normal, since_low;
    int64_t now_ns;
    bool now_fresh; /* now_ns was read in this scheduling round */
    int epoll_fd;
    int event_fd;
    struct poll_ring *ring;                      /* NULL: epoll alone */
    const struct labels_describer *receives_for; /* whose memory the poller takes now; labels.c */
    struct list round_works;                     /* of struct rt_round_work; round.c */
    uint64_t round_since;                        /* ticks, while round_pending */
    uint64_t next_id, end_id;                    /* ids of coroutines, taken in batches */
    unsigned steal_seed;
    uint64_t select_seed;
    struct block_cache blocks;

    unsigned batch_at, batch_end; /* events being dispatched */
    struct epoll_event batch[POLL_BATCH];

    /* Written by the holder, read by any thread (relaxed). */
    _Atomic uint64_t switches, steals, foreign_calls, quick_calls;
    _Atomic(const char *) quick_site; /* of the quick call in flight: foreign.c */
    _Atomic uint32_t pinned_count;    /* in the pinned queue */
    _Atomic int64_t coroutines;       /* started here minus ended here */

    struct io_counts io;

    /* Any thread. */
    _Alignas(64) _Atomic uintptr_t owner;
    _Atomic uint64_t retakes, long_runs, slow_quicks; /* sysmon's */
    _Atomic uint64_t handoffs;                        /* by whoever has taken the P from its M */
    _Atomic bool trim_asked;                          /* trim is in the inbox */
    _Alignas(64) _Atomic(struct rt_post *) inbox;
    struct idle_p idle;
    struct runq rings[RT_PRIORITIES];

    struct wheel wheel;
    struct g_queue expired; /* woken by deadlines, about to be queued */
    struct stack_cache stacks;
    struct timer recycle; /* recycle.c's, as trim */
    struct rt_post trim;

    struct deadlines deadlines; /* of stealable coroutines; has a lock */
};

struct sched {
    unsigned p_count;
    struct p *ps[RT_P_MAX];
    unsigned spare_m_max;
    size_t stack_size;
    _Atomic bool stopping;
    _Atomic int stop_code;
    _Atomic uint64_t m_refused; /* times that an M or a blocking thread could not be had */

    _Alignas(64) pthread_mutex_t lock; /* the global queue; what is above is read all the time */
    struct g_queue global[RT_PRIORITIES];
    _Atomic uint32_t global_count;
};
extern struct sched rt_sched;

/* For counters with one writer. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t n) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* rt.c: wakes rt_run's thread, which then calls dump.c. Async-signal-safe. */
void rt_nudge(void);
void dump_start_if_asked(void);

/* m.c */
struct m *m_self(void); /* NULL on a thread that is not an M */
struct p *p_self(void); /* NULL without one: foreign code, other threads */
int m_start(struct p *p);
struct m *m_get_spare(void); /* parked or new; NULL when there is none to be had */
void m_put_spare(struct m *m);
void m_hand_p(struct m *m, struct p *p);
void m_each(void (*fn)(struct m *m, void *arg), void *arg); /* any thread; fn takes no locks */
/* False, and nothing is done, while somebody has the lock: for a signal handler of a process that dies. */
bool m_try_each(void (*fn)(struct m *m, void *arg), void *arg);
void m_stop_all(void);
bool m_wait_stopped(int64_t deadline_ns);
void m_count_all(struct rt_stats *out); /* fills ms, spare_ms, foreign_ms */

/* sched.c */
void sched_loop(struct m *m);
/* The time of this scheduling round. */
static inline int64_t p_now_ns(struct p *p) {
    if (!p->now_fresh) {
        p->now_ns = clock_mono_ns();
        p->now_fresh = true;
    }
    return p->now_ns;
}

/* steal.c */
void steal_init(unsigned p_count);
struct g *steal(struct p *p);

/* inbox.c */
void inbox_post(struct p *p, struct rt_post *post);
bool inbox_drain(struct p *p); /* true when something was there */
static inline bool inbox_is_empty(struct p *p) {
    return atomic_load_explicit(&p->inbox, memory_order_relaxed) == NULL;
}

/* round.c: all with round_pending only. */
void round_run(struct p *p, bool sleeps);         /* on g0 */
void round_run_old(struct p *p);                  /* what has waited for RT_ROUND_NS */
void round_before_call(struct m *m, struct g *g); /* by g: it may be away for long */

/* recycle.c */
void recycle_init(struct p *p);
void recycle_fini(struct p *p);

/* poll.c */
int poller_init(struct p *p, enum rt_io io);
void poller_fini(struct p *p);
void poller_run(struct p *p, int timeout_ms); /* fetches and dispatches one batch */

/* g.c */
struct g *g_new(struct p *cache, struct p *home, const struct go_options *options, rt_fn fn,
                void *arg);
void g_free(struct p *p, struct g *g);
/* From g, which is suspended meanwhile. */
void g_call_on_g0(struct m *m, struct g *g, rt_fn fn, void *arg);
_Noreturn void g_exit(struct g *g); /* on its own stack, from any depth */

/* local.c */
void local_inherit(struct g *g, const struct g *starter); /* g has not run yet */
void local_end(struct g *g);                              /* on its own stack */
void *local_of(const struct g *g, struct local_key *key); /* as local_get; see labels_of */

/* labels.c: leased; base's and those of add, which replace those with the same key and are left out when
 * there is no room. NULL when memory is short, or there are none. */
struct labels *labels_merge(const struct labels *base, const struct label *add, unsigned count);
int label_compare(const struct label *one, const struct label *other); /* as labels_compare */

/* park.c */
bool park_commit(struct g *g); /* false: a token came first, run it on */
void park_deadline_fired(struct timer *timer);
unsigned park_advance_deadlines(struct p *p, int64_t now_ns); /* returns how many timers fired */
void park_token_arrived(struct rt_post *post);
void park_resume_arrived(struct rt_post *post);
void g_resume(struct g *g); /* any thread */
/* Any thread: nobody resumes g before park_scan_end. g may have ended, or be pinned: G_SCAN_NOT. */
MUST_CHECK enum g_scan park_scan_begin(struct g *g);
void park_scan_end(struct g *g, enum g_scan scan);
/* Around a blocking_call of a g that is not pinned: from g0 once it is suspended, and by whoever is
 * about to resume it. */
void park_away(struct g *g);
void park_back(struct g *g);

/* foreign.c, sysmon.c (more in sysmon.h), blocking.c */
void foreign_retaken(struct m *m, struct g *g); /* on g0: g was passed on, the M has no P */
int sysmon_start(void);
void sysmon_stop(void);
void blocking_submit(struct blocking_job *job);
extern const char reason_foreign_call[], reason_blocking_call[];
void blocking_count(struct rt_stats *out); /* fills blocking_threads, blocking_busy; any thread */
