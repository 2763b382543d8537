/* profile: timers that interrupt threads by their processor time, and a log that the handlers share.
 *
 *     thread's CPU clock --1/hz--> signal to that thread --> handler
 *                                                              | walks its own stack
 *     log  | header name labels pc pc pc label label | header ... |  <-----+ reserves, fills
 *                                                     ^ used
 *
 * C1  A sample is reserved by one compare-and-swap on `used` and written by its handler alone, so the log
 *     is as good as one per thread: at 100 Hz nobody meets anybody there. What does not fit is counted.
 * C2  The handler touches the log only while in_handlers counts it and after it saw `session` to be that
 *     of its timer. profile_stop sets session to 0, the reader then waits for in_handlers to be 0. Both
 *     sides write, then read the other's word, all seq_cst: one of the two sees the other.
 * C3  A timer carries the session, so a late signal of an earlier profile is none of this one.
 * C4  A record leases the set of labels it found: the coroutine may change or end before anybody reads.
 *     What its describer says is written out, two pointers each, for the texts live as long as the
 *     process. A set of both is made when the profile is read.
 * C5  Threads are in `threads` from begin to end, and have a timer iff a profile runs, both under
 *     threads_lock; it is held for a system call per thread, and never by a handler.
 *
 * Signals  Only async-signal-safe: atomics, one thread-local of the executable, and the walk of
 *          backtrace.c, which reads only what it knows to be a stack.
 * Bias     Timers of all threads begin at different fractions of the period: short-lived threads would
 *          never be seen, and those that start together would be seen together.
 * Rejected SIGPROF and setitimer: a Go library that profiles itself has both, and a process-wide timer
 *          interrupts whichever thread takes the signal. A ring per thread with a reader: profiles are
 *          bounded in time, so a log that nobody drains does, and there is nobody to be late. Counting
 *          equal stacks in the handler: a hash table in a signal, for memory that is not short. */
#include "rt/profile.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "rt/backtrace.h"
#include "rt/labels.h"
#include "rt/profile_thread.h"
#include "rt/rt_internal.h"
#include "rt/signals.h"

/* In the log: pcs, then the described labels, then the next one. */
struct record {
    uint32_t weight; /* periods: never 0 in a record that was written */
    uint16_t depth, described_count;
    const char *name;
    struct labels *labels; /* leased */
    uintptr_t pcs[];
};

static size_t record_size(unsigned depth, unsigned described_count) {
    return sizeof(struct record) + depth * sizeof(uintptr_t) +
           described_count * sizeof(struct label);
}

static struct label *described_of(const struct record *record) {
    return (struct label *)(uintptr_t)&record->pcs[record->depth];
}

enum profile_state { PROFILE_IDLE, PROFILE_RUNNING, PROFILE_STOPPED };

static pthread_mutex_t profile_lock = PTHREAD_MUTEX_INITIALIZER; /* start, stop, read */
static enum profile_state state;
static struct profile_info info;
static int64_t started_mono_ns;
static int last_session;

static pthread_mutex_t threads_lock = PTHREAD_MUTEX_INITIALIZER; /* after profile_lock */
static struct list threads = {&threads, &threads};

/* The handlers'. */
static _Atomic int session; /* 0: none runs */
static _Atomic uint32_t in_handlers;
static char *samples; /* the log; set before session */
static size_t samples_size;
static _Atomic size_t used;
static _Atomic uint64_t taken, lost;

static _Thread_local struct profile_thread *this_thread;

/* ---- In the handler ---- */

/* Room for a record, or NULL. */
static struct record *reserve(size_t size) {
    size_t at = atomic_load_explicit(&used, memory_order_relaxed);
    do {
        if (samples_size - at < size)
            return NULL;
    } while (!atomic_compare_exchange_weak_explicit(&used, &at, at + size, memory_order_relaxed,
                                                    memory_order_relaxed));
    return (struct record *)(samples + at);
}

static unsigned look_at_self(const struct profile_thread *thread, const struct g *g,
                             const void *context, uintptr_t *pcs) {
    struct backtrace_thread own = {.stack_low = thread->stack_low,
                                   .stack_high = thread->stack_high,
                                   .current = g,
                                   .is_suspended = true};
    struct m *m = m_self();
    if (m) {
        own.is_suspended = atomic_load_explicit(&m->in_foreign, memory_order_relaxed);
        if (own.is_suspended) /* above is the scheduler, which called the coroutine */
            own.stack_high = (uintptr_t)__atomic_load_n(&m->g0_sp, __ATOMIC_RELAXED);
    }
    return backtrace_interrupted(&own, context, pcs, BACKTRACE_MAX);
}

static void take_sample(const struct profile_thread *thread, const void *context, uint32_t weight) {
    uintptr_t pcs[BACKTRACE_MAX];
    struct label described[LABELS_DESCRIBED_MAX];
    const struct g *g = profile_thread_g();
    unsigned depth = look_at_self(thread, g, context, pcs);
    unsigned described_count = g ? labels_described(g, described) : 0;
    struct record *record = reserve(record_size(depth, described_count));
    if (!record) {
        atomic_fetch_add_explicit(&lost, weight, memory_order_relaxed);
        return;
    }
    const struct labels *labels = g ? labels_of(g) : NULL;
    record->depth = (uint16_t)depth;
    record->described_count = (uint16_t)described_count;
    record->name = g ? atomic_load_explicit(&g->name, memory_order_relaxed) : NULL;
    record->labels = labels ? labels_ref(labels) : NULL; /* C4 */
    for (unsigned i = 0; i < depth; i++)
        record->pcs[i] = pcs[i];
    for (unsigned i = 0; i < described_count; i++)
        described_of(record)[i] = described[i];
    record->weight = weight;
    atomic_fetch_add_explicit(&taken, weight, memory_order_relaxed);
}

const struct g *profile_thread_g(void) {
    struct m *m = m_self();
    if (m)
        return __atomic_load_n(&m->current, __ATOMIC_RELAXED);
    const struct profile_thread *thread = this_thread;
    return thread ? atomic_load_explicit(&thread->g, memory_order_relaxed) : NULL;
}

static void on_profile(int signo, siginfo_t *from, void *context) {
    int saved_errno = errno;
    const struct profile_thread *thread = this_thread;
    if (thread && from->si_code == SI_TIMER) {
        atomic_fetch_add(&in_handlers, 1); /* C2 */
        if (from->si_value.sival_int == atomic_load(&session))
            take_sample(thread, context, 1 + (uint32_t)from->si_overrun);
        atomic_fetch_sub(&in_handlers, 1);
    }
    errno = saved_errno;
}

/* ---- Threads ---- */

static void arm_locked(struct profile_thread *thread, int for_session) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID,
                             .sigev_signo = signals_profile_signo(),
                             .sigev_value = {.sival_int = for_session}};
    event._sigev_un._tid = thread->tid;
    if (timer_create(thread->clock, &event, &thread->timer) < 0) {
        info.unseen_threads++;
        return;
    }
    thread->has_timer = true;
    int64_t period_ns = info.period_ns;
    int64_t first_ns =
        1 + (int64_t)((uint64_t)thread->tid * 0x9e3779b97f4a7c15ULL >> 33) % period_ns;
    struct itimerspec times = {
        .it_value = {.tv_sec = first_ns / NS_PER_S, .tv_nsec = first_ns % NS_PER_S},
        .it_interval = {.tv_sec = period_ns / NS_PER_S, .tv_nsec = period_ns % NS_PER_S}};
    (void)timer_settime(thread->timer, 0, &times, NULL);
}

static void disarm_locked(struct profile_thread *thread) {
    if (thread->has_timer)
        (void)timer_delete(thread->timer);
    thread->has_timer = false;
}

void profile_thread_begin(struct profile_thread *self) {
    *self = (struct profile_thread){.tid = gettid()};
    uintptr_t high;
    backtrace_own_stack(&self->stack_low, &high);
    self->stack_high = *(const uintptr_t *)__builtin_frame_address(0); /* the caller's frame */
    if (pthread_getcpuclockid(pthread_self(), &self->clock) != 0)
        return; /* fails for threads that have ended */
    this_thread = self;
    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, signals_profile_signo());
    (void)pthread_sigmask(SIG_UNBLOCK, &ours, NULL);
    pthread_mutex_lock(&threads_lock);
    list_push_front(&threads, &self->node);
    int running = atomic_load_explicit(&session, memory_order_relaxed);
    if (running)
        arm_locked(self, running);
    pthread_mutex_unlock(&threads_lock);
}

void profile_thread_end(struct profile_thread *self) {
    if (!this_thread) /* it has no clock */
        return;
    pthread_mutex_lock(&threads_lock);
    disarm_locked(self);
    list_remove(&self->node);
    pthread_mutex_unlock(&threads_lock);
    this_thread = NULL;
}

/* ---- Start and stop ---- */

/* No handler is at the log, and none will be: session is 0. */
static void await_handlers(void) {
    while (atomic_load(&in_handlers) !=
           0) { /* a few microseconds, unless its thread was preempted */
        struct timespec a_moment = {.tv_nsec = 50 * NS_PER_US};
        (void)nanosleep(&a_moment, NULL);
    }
}

/* The record behind record, NULL at the end; the first one for NULL. */
static struct record *next_record(const struct record *record) {
    size_t at = 0;
    if (record)
        at = (size_t)((const char *)record - samples) +
             record_size(record->depth, record->described_count);
    return at < atomic_load_explicit(&used, memory_order_relaxed) ? (struct record *)(samples + at)
                                                                  : NULL;
}

static void drop_locked(void) {
    for (struct record *record = NULL; (record = next_record(record));)
        labels_unref(record->labels);
    (void)munmap(samples, samples_size);
    samples = NULL;
    state = PROFILE_IDLE;
}

static int start_locked(unsigned hz, size_t log_bytes) {
    if (state == PROFILE_RUNNING)
        return -EBUSY;
    int err = signals_own(signals_profile_signo(), on_profile);
    if (err < 0)
        return err;
    if (state == PROFILE_STOPPED) {
        await_handlers();
        drop_locked();
    }
    void *memory = mmap(NULL, log_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    samples = memory;
    samples_size = log_bytes;
    atomic_store_explicit(&used, 0, memory_order_relaxed);
    atomic_store_explicit(&taken, 0, memory_order_relaxed);
    atomic_store_explicit(&lost, 0, memory_order_relaxed);
    started_mono_ns = clock_mono_ns();
    last_session = last_session == INT_MAX ? 1 : last_session + 1;
    pthread_mutex_lock(&threads_lock);
    info = (struct profile_info){.started_ns = clock_wall_ns(), .period_ns = NS_PER_S / hz};
    atomic_store(&session, last_session);
    for (struct list *node = threads.next; node != &threads; node = node->next)
        arm_locked(container_of(node, struct profile_thread, node), last_session);
    pthread_mutex_unlock(&threads_lock);
    state = PROFILE_RUNNING;
    return 0;
}

int profile_start(unsigned hz, size_t log_bytes) {
    hz = hz ? hz : PROFILE_HZ;
    if (hz > PROFILE_HZ_MAX)
        return -EINVAL;
    if (pthread_mutex_trylock(&profile_lock) != 0)
        return -EBUSY;
    int err = start_locked(hz, log_bytes ? log_bytes : PROFILE_LOG_BYTES);
    pthread_mutex_unlock(&profile_lock);
    return err;
}

int profile_stop(void) {
    int err = -EINVAL;
    pthread_mutex_lock(&profile_lock);
    if (state == PROFILE_RUNNING) {
        err = 0;
        pthread_mutex_lock(&threads_lock);
        for (struct list *node = threads.next; node != &threads; node = node->next)
            disarm_locked(container_of(node, struct profile_thread, node));
        atomic_store(&session, 0); /* C2 */
        pthread_mutex_unlock(&threads_lock);
        info.duration_ns = clock_mono_ns() - started_mono_ns;
        state = PROFILE_STOPPED;
    }
    pthread_mutex_unlock(&profile_lock);
    return err;
}

/* ---- Reading ---- */

static int compare_described(const struct record *one, const struct record *other) {
    if (one->described_count != other->described_count)
        return one->described_count < other->described_count ? -1 : 1;
    for (unsigned i = 0; i < one->described_count; i++) {
        int order = label_compare(&described_of(one)[i], &described_of(other)[i]);
        if (order != 0)
            return order;
    }
    return 0;
}

static int by_stack(const void *a, const void *b) {
    const struct record *one = *(const struct record *const *)a;
    const struct record *other = *(const struct record *const *)b;
    if (one->depth != other->depth)
        return one->depth < other->depth ? -1 : 1;
    int order = memcmp(one->pcs, other->pcs, one->depth * sizeof *one->pcs);
    if (order == 0)
        order = strcmp(one->name ? one->name : "", other->name ? other->name : "");
    if (order == 0)
        order = labels_compare(one->labels, other->labels);
    return order ? order : compare_described(one, other);
}

/* Tells of all records from first on to, without, end: they are equal. */
static int tell(const struct record *const *first, const struct record *const *end,
                stack_count_fn fn, void *arg) {
    const struct record *record = *first;
    struct labels *labels =
        labels_merge(record->labels, described_of(record), record->described_count);
    if (!labels && record->described_count > 0)
        return -ENOMEM;
    struct stack_count stack = {
        .pcs = record->pcs,
        .depth = record->depth,
        .is_first_exact = true,
        .name = record->name,
        .labels = labels,
    };
    for (; first < end; first++)
        stack.count += (*first)->weight;
    fn(arg, &stack);
    labels_unref(labels);
    return 0;
}

static int count_stacks(stack_count_fn fn, void *arg) {
    size_t count = 0, i = 0;
    for (struct record *record = NULL; (record = next_record(record));)
        count++;
    const struct record **sorted = malloc((count + 1) * sizeof *sorted);
    if (!sorted)
        return -ENOMEM;
    for (struct record *record = NULL; (record = next_record(record));)
        sorted[i++] = record;
    qsort(sorted, count, sizeof *sorted, by_stack);
    int err = 0;
    for (size_t next, first = 0; first < count && err == 0; first = next) {
        for (next = first; next < count && by_stack(&sorted[first], &sorted[next]) == 0;)
            next++;
        err = tell(&sorted[first], &sorted[next], fn, arg);
    }
    free(sorted);
    return err;
}

int profile_read(stack_count_fn fn, void *arg, struct profile_info *out) {
    int err = -EINVAL;
    pthread_mutex_lock(&profile_lock);
    if (state == PROFILE_STOPPED) {
        await_handlers();
        info.samples = atomic_load_explicit(&taken, memory_order_relaxed);
        info.lost = atomic_load_explicit(&lost, memory_order_relaxed);
        *out = info;
        err = fn ? count_stacks(fn, arg) : 0;
        drop_locked();
    }
    pthread_mutex_unlock(&profile_lock);
    return err;
}
