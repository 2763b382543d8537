/* rt: coroutines in C with Go's scheduling model. G is a coroutine, M an OS thread, P a processor.
 *
 * Only the M that holds a P touches what belongs to it (queues, timers, poller, block cache), so
 * none of that takes a lock. A coroutine made by go_here or go_on is pinned: it runs on its P for
 * life, on whichever M holds that P. One made by go may be stolen by any P.
 *
 * Waking   rt_park waits for a token and consumes it; rt_ready gives the token. A token given
 *          before the park is remembered, a second one before the wake-up is dropped. So a park
 *          may return early: callers loop on their own condition. There is no lost wake-up.
 * errno    A coroutine may wake on another thread, and compilers keep the address of thread-locals
 *          over a call. A function that parks, or may, touches no thread-local and no errno.
 * Threads  "any thread" below includes threads the runtime never made; all else needs a P. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/list.h"
#include "mem/block.h"

struct g;
typedef void (*rt_fn)(void *arg);

enum { RT_P_MAX = 128, RT_STACK_SIZE = 64 * 1024, RT_STACK_MAX = 64 * 1024 * 1024 };
#define RT_FOREVER INT64_MAX

/* How sockets talk to the kernel. What they do is the same. */
enum rt_io {
    RT_IO_EPOLL,
    RT_IO_AUTO, /* RT_IO_IO_URING, or where that cannot be had, epoll, and a line in the log says why */
    RT_IO_IO_URING, /* epoll for readiness, an io_uring for what a round receives and sends (Linux 6.6) */
};

struct rt_options {
    unsigned p_count;     /* 0: rt_default_p_count() */
    unsigned spare_m_max; /* Ms beyond P; foreign calls that block use them; 0: 1024 */
    enum rt_io io;
    unsigned stack_size; /* 0: RT_STACK_SIZE (more under sanitizers); up to RT_STACK_MAX */
};

/* Cores this process may use: affinity mask and the cgroup's cpu.max, at least 1. */
unsigned rt_default_p_count(void);

/* Starts the Ps, runs main_fn as a coroutine pinned to P 0 and returns rt_stop's code once it was
 * called, with every M but the caller's ended or parked. -errno when the runtime cannot start: then
 * main_fn did not run, nothing is left of it, and it may be tried again. The calling thread only
 * waits and never runs coroutines. Once per process. */
int rt_run(const struct rt_options *options, rt_fn main_fn, void *arg);
/* Any thread. Coroutines that have not ended are dropped where they stand. */
void rt_stop(int code);

unsigned rt_p_count(void);
/* Of the calling coroutine or scheduler callback; constant for a pinned coroutine. */
unsigned rt_p_index(void);
/* The current P's cache. Pinned code may keep the pointer. */
struct block_cache *rt_blocks(void);
/* Memory is short: what the Ps have free of blocks and of the recycler's memory goes back to the OS,
 * however young. Each P sees to its own, in steps of some 100 us between which it does other work, soon
 * after the call, which returns at once. Any thread, once rt_run runs. */
void rt_trim_memory(void);
/* CLOCK_MONOTONIC as of this scheduling round: cheap, at most one round old. */
int64_t rt_now_ns(void);

/* What runs first among those that are ready on a P. No class starves: of RT_NORMAL_TURN coroutines
 * that a P runs one is of normal priority when one is ready, of RT_LOW_TURN one is of low. High is for
 * what must answer while the proxy is overloaded (admin, health checks), low for what can wait (trims,
 * dumps). A coroutine inherits nothing: without go_with it is normal. */
enum rt_priority { RT_NORMAL, RT_HIGH, RT_LOW, RT_PRIORITIES };
enum { RT_NORMAL_TURN = 8, RT_LOW_TURN = 64 };

enum rt_place {
    RT_ANYWHERE, /* any P may steal it */
    RT_HERE,     /* pinned to the current P */
    RT_ON_P,     /* pinned to p_index */
};

struct labels_describer;
struct go_options {
    const char *name; /* borrowed for ever (a literal): dumps print it */
    enum rt_place place;
    unsigned p_index;
    enum rt_priority priority;
    size_t stack_size; /* 0: that of rt_options; more costs a mapping of its own */
    /* Says what it does, from its start, as after labels_describe_by (labels.h); NULL: nobody. Borrowed
     * like that. */
    const struct labels_describer *describer;
};

/* Start fn(arg) on a coroutine of its own: 0, -ENOMEM, or -EINVAL for a stack larger than
 * RT_STACK_MAX. Any thread for RT_ON_P; the other places need a P. */
MUST_CHECK int go_with(const struct go_options *options, rt_fn fn,
                       void *arg BORROWED_BY(coroutine));
/* The same with a name and a place only. go_on may be called from any thread. */
MUST_CHECK int go(const char *name BORROWED_BY(program), rt_fn fn,
                  void *arg BORROWED_BY(coroutine));
MUST_CHECK int go_here(const char *name BORROWED_BY(program), rt_fn fn,
                       void *arg BORROWED_BY(coroutine));
MUST_CHECK int go_on(unsigned p_index, const char *name BORROWED_BY(program), rt_fn fn,
                     void *arg BORROWED_BY(coroutine));

/* The running coroutine; NULL in a scheduler callback. Valid until the coroutine ends. */
struct g *rt_self(void);
void rt_yield(void);
/* The same, and what has arrived meanwhile is looked at, so that whoever waits for it runs before the caller
 * does again: for one that has work without end. An ordinary yield leaves events until there is nothing
 * else to run, or for some dozens of switches. */
void rt_yield_to_events(void);

/* Waits for a token. reason is a literal, unique per call site, that dumps print.
 * 0 (token, or a spurious wake-up), -ETIMEDOUT, or -ECANCELED (see rt_cancel). */
int rt_park(const char *reason, int64_t deadline_ns);
/* The same, and runs unlock(arg) on the thread's own stack once the coroutine is parked: whoever
 * takes the lock after that finds it parked and can wake it at once. unlock must not park. It also
 * runs, before the return, when the call does not park (a token, a cancellation, a deadline that is
 * over): the lock is always free afterwards. */
int rt_park_unlock(rt_fn unlock, void *arg, const char *reason, int64_t deadline_ns);
/* Any thread. Borrows g: the caller knows that it has not ended (a lock both sides take, or the
 * same P). */
void rt_ready(struct g *g);

/* Cancellation is sticky: the coroutine's current and all later parks return -ECANCELED, until
 * rt_cancel_clear by itself. Same P only. */
void rt_cancel(struct g *g);
bool rt_cancelled(void);
void rt_cancel_clear(void);
/* Takes back one rt_cancel of the caller: by who knows that he brought it about, as for a deadline of his own.
 * Those that came from others stay. */
void rt_cancel_undo(void);

/* A message to a P: fn runs there as a scheduler callback (it must not park), in the order posted.
 * The node is borrowed until fn starts; fn may free or repost it. Any thread. */
struct rt_post {
    struct rt_post *next;
    void (*fn)(struct rt_post *post);
};
void rt_post(unsigned p_index, struct rt_post *post BORROWED_BY(inbox));

/* Work that waits until this P has run what is ready, to be done once for all of that: waking another process
 * for several messages, looking whether it has answered. fn runs once, as a scheduler callback (it must not
 * park), before the P polls, and in a round without end after RT_ROUND_NS or the next switch behind that. It may
 * register itself or others again: for the next time.
 *
 * sleeps: nothing is ready here and the P is about to sleep, for as long as nobody wakes it; so fn announces,
 * where others see it, that from now on they have to, and looks a last time. While anything is ready or
 * registered when all have run, the P does not sleep: it polls and comes again. So who registers himself
 * without reason makes it spin.
 *
 * Register   from a coroutine or a scheduler callback of the P; nothing happens when it is registered. Zeroed but
 *            for fn at first, and borrowed until fn starts. What is registered when the runtime stops is dropped. */
struct rt_round_work {
    struct list node;
    void (*fn)(struct rt_round_work *work, bool sleeps);
};
enum { RT_ROUND_NS = 50 * 1000 };
void rt_at_round_end(struct rt_round_work *work BORROWED_BY(p));
/* Takes it back, if it is registered. On the same P. */
void rt_not_at_round_end(struct rt_round_work *work);

/* Counters of one P, read by any thread (relaxed). */
struct rt_p_stats {
    uint64_t switches, steals, polls;
    uint64_t foreign_calls, quick_calls;
    uint64_t retakes;     /* by sysmon, from a foreign call that took long */
    uint64_t handoffs;    /* times that another M got the P */
    uint64_t long_runs;   /* a coroutine ran for 10 ms without a runtime call */
    uint64_t slow_quicks; /* foreign_call_quick that broke its promise, as far as seen */
    uint64_t coroutines;  /* alive now: started here minus ended here */
    uint64_t queue_depth; /* ready now */
    uint64_t blocks_in_use;
    bool spinning, sleeping;
};
void rt_p_stats(unsigned p_index, struct rt_p_stats *out);

/* Of the whole process, any thread. */
struct rt_stats {
    uint64_t coroutines, parked, global_queue_depth;
    unsigned spinning;                        /* Ps that look for work */
    unsigned ms, spare_ms, foreign_ms;        /* threads; parked spares; inside foreign_call */
    unsigned blocking_threads, blocking_busy; /* of blocking_call */
    uint64_t m_refused;                       /* times that an M or a thread could not be had */
    uint64_t stacks, stacks_free;
};
void rt_stats(struct rt_stats *out);
