/* backtrace: walks frame pointers, of a stack that stands still or from a signal on the thread itself.
 *
 *     high  +----------------+           suspended: g->sp points at what rt_ctx_switch pushed, the
 *           | rt_ctx_entry   |           frame pointer among it;
 *           | g_main    fp=0 |           running: the signal's context has pc, sp and fp.
 *           | ...            |
 *           | fp -> caller's |   [fp] is the caller's fp, [fp + 1] the return address, on both
 *     low   +----------------+   architectures
 *
 * B1  Every word read lies in [low, high) of one stack, and each frame lies above the one before: a
 *     register that code without frame pointers uses for something else ends the walk, or adds wrong
 *     addresses, but never a fault or a loop.
 * B2  The handler looks only at the thread that it runs on. m->current is never in other hands, so it may
 *     be asked who it is; its stack is read when it is the one that the signal interrupted, or when
 *     foreign code runs, which suspends it.
 *
 * One question, in m->sample_state; whoever moves it to IDLE ends it:
 *
 *     IDLE --ask--> ASKED --handler--> TAKING --handler--> TAKEN --asker--> IDLE
 *                     |                   |
 *                     +--timeout--> IDLE  +--timeout--> DROPPED --handler--> IDLE
 *
 *     A signal that arrives late finds IDLE and does nothing, or answers the next question.
 *
 * Order    The handler's TAKEN releases the sample, the asker acquires it. IDLE releases the asker's
 *          copy, the next asker's CAS acquires, so the handler never writes what is still being read.
 * Signals  Only async-signal-safe: atomics, futex, a thread-local of the executable (no lazy part).
 *          The walk is not instrumented: redzones and races are none of its business, see B1. */
#include "rt/backtrace.h"

#include <errno.h>
#include <signal.h>
#include <ucontext.h>

#include "base/clock.h"
#include "base/peek.h"
#include "rt/futex.h"
#include "rt/rt_internal.h"
#include "rt/signals.h"

enum sample_state { SAMPLE_IDLE, SAMPLE_ASKED, SAMPLE_TAKING, SAMPLE_TAKEN, SAMPLE_DROPPED };

#define NOT_INSTRUMENTED __attribute__((noinline, no_sanitize_address, no_sanitize_thread))

/* A stack pointer saved by rt_ctx_switch points at these words. */
#if defined(__x86_64__)
enum { SAVED_FP = 5, SAVED_PC = 6, SAVED_WORDS = 7 };
#elif defined(__aarch64__)
enum { SAVED_FP = 0, SAVED_PC = 1, SAVED_WORDS = 20 };
#endif

/* Libraries may sign return addresses; user addresses have 48 bits. */
static uintptr_t plain_pc(uintptr_t pc) {
#if defined(__aarch64__)
    return pc & (((uintptr_t)1 << 48) - 1);
#else
    return pc;
#endif
}

static bool is_entry(uintptr_t pc) {
    enum { ENTRY_BYTES = 32 };
    return pc - (uintptr_t)rt_ctx_entry < ENTRY_BYTES;
}

static NOT_INSTRUMENTED unsigned walk(uintptr_t fp, uintptr_t low, uintptr_t high, uintptr_t *pcs,
                                      unsigned count, unsigned max) {
    while (count < max && fp >= low && fp < high && high - fp >= 2 * sizeof(uintptr_t) &&
           fp % sizeof(uintptr_t) == 0) {
        const uintptr_t *frame = (const uintptr_t *)fp;
        uintptr_t pc = plain_pc(frame[1]);
        if (pc == 0 || is_entry(pc))
            break;
        pcs[count++] = pc;
        low = fp + 2 * sizeof(uintptr_t);
        fp = frame[0];
    }
    return count;
}

NOT_INSTRUMENTED unsigned backtrace_suspended(const struct g *g, uintptr_t *pcs, unsigned max) {
    uintptr_t low = (uintptr_t)g->stack, high = low + g->stack_size, sp = (uintptr_t)g->sp;
    if (max == 0 || sp < low || sp >= high || high - sp < SAVED_WORDS * sizeof(uintptr_t) ||
        sp % sizeof(uintptr_t) != 0)
        return 0;
    const uintptr_t *saved = (const uintptr_t *)sp;
    uintptr_t pc = plain_pc(saved[SAVED_PC]);
    if (is_entry(pc)) {
        pcs[0] = (uintptr_t)g->fn + 1; /* as if it had been called: readers subtract 1 */
        return 1;
    }
    pcs[0] = pc;
    return walk(saved[SAVED_FP], sp, high, pcs, 1, max);
}

/* ---- A thread that looks at itself ---- */

/* Compilers make no frame in a function that calls nobody, whatever they are told, and that is where
 * loops are: its caller would be missing. The return address is then in the link register, or on top
 * of the stack on x86-64. That word may be anything else in a function that does have a frame, so it
 * counts only if the instruction before it is a call, and, where the call says whom it calls, if that
 * may be the function we are in. Only code of this executable is looked at: it is mapped for sure. */
extern const char __executable_start[], etext[];
enum { LEAF_BYTES = 8192 }; /* no leaf function is larger */

static bool is_our_code(uintptr_t pc) {
    return pc >= (uintptr_t)__executable_start && pc < (uintptr_t)etext;
}

static NOT_INSTRUMENTED bool has_called(uintptr_t returns_to, uintptr_t pc) {
    if (!is_our_code(returns_to) || !is_our_code(returns_to - 8))
        return false;
    uintptr_t target;
#if defined(__x86_64__)
    const unsigned char *code = (const unsigned char *)returns_to;
    if (code[-5] == 0xe8) { /* call rel32 */
        int32_t offset = (int32_t)((uint32_t)code[-4] | (uint32_t)code[-3] << 8 |
                                   (uint32_t)code[-2] << 16 | (uint32_t)code[-1] << 24);
        target = returns_to + (uintptr_t)(intptr_t)offset;
    } else { /* call by a register or a pointer: ff /2, two to seven bytes */
        static const int lengths[] = {2, 3, 6, 4, 7};
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
            if (code[-lengths[i]] == 0xff && (code[1 - lengths[i]] & 0x38) == 0x10)
                return true;
        return false;
    }
#elif defined(__aarch64__)
    if (returns_to % 4 != 0)
        return false;
    uint32_t call = *(const uint32_t *)(returns_to - 4);
    if ((call & 0xfffffc1f) == 0xd63f0000) /* blr */
        return true;
    if (call >> 26 != 0x25) /* bl */
        return false;
    target = returns_to - 4 + (uintptr_t)((int64_t)((uint64_t)call << 38) >> 36);
#endif
    /* Code of a library is called by way of a stub in ours, which says nothing. */
    return !is_our_code(pc) || pc - target < LEAF_BYTES;
}

/* Returns how many addresses there are now; the frames follow. */
static NOT_INSTRUMENTED unsigned add_leaf_caller(const ucontext_t *uc, uintptr_t sp, uintptr_t fp,
                                                 uintptr_t high, uintptr_t *pcs) {
#if defined(__x86_64__)
    uintptr_t candidate =
        high - sp >= sizeof(uintptr_t) && sp % sizeof(uintptr_t) == 0 ? *(const uintptr_t *)sp : 0;
#elif defined(__aarch64__)
    uintptr_t candidate = plain_pc(uc->uc_mcontext.regs[30]);
#endif
    uintptr_t next;
    if (walk(fp, sp, high, &next, 0, 1) == 1 && next == candidate)
        return 1; /* it has a frame */
    if (is_entry(candidate) || !has_called(candidate, pcs[0]))
        return 1;
    pcs[1] = candidate;
    return 2;
}

static void registers_of(const ucontext_t *uc, uintptr_t *pc, uintptr_t *sp, uintptr_t *fp) {
#if defined(__x86_64__)
    *pc = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
    *sp = (uintptr_t)uc->uc_mcontext.gregs[REG_RSP];
    *fp = (uintptr_t)uc->uc_mcontext.gregs[REG_RBP];
#elif defined(__aarch64__)
    *pc = uc->uc_mcontext.pc;
    *sp = uc->uc_mcontext.sp;
    *fp = uc->uc_mcontext.regs[29];
#endif
}

static NOT_INSTRUMENTED void look_at_self(struct m *m, const ucontext_t *uc) {
    uintptr_t pc, sp, fp;
    registers_of(uc, &pc, &sp, &fp);
    struct backtrace *sample = &m->sample;
    struct g *g = __atomic_load_n(&m->current, __ATOMIC_RELAXED); /* or it is read twice */
    sample->g_id = g ? atomic_load_explicit(&g->id, memory_order_relaxed) : 0;
    sample->name = g ? atomic_load_explicit(&g->name, memory_order_relaxed) : NULL;
    sample->described_count = g ? labels_described(g, sample->described) : 0;
    sample->told[g ? labels_told(g, sample->told) : 0] = '\0';
    uintptr_t low = g ? (uintptr_t)g->stack : 0, high = g ? low + g->stack_size : 0;
    if (sp >= low && sp < high) {
        sample->where = BACKTRACE_RUNNING;
    } else if (g && atomic_load_explicit(&m->in_foreign, memory_order_relaxed)) {
        sample->where = BACKTRACE_FOREIGN;
        sample->count = backtrace_suspended(g, sample->pcs, BACKTRACE_MAX);
        return;
    } else {
        sample->where = BACKTRACE_THREAD;
        low = m->stack_low;
        high = m->stack_high;
    }
    sample->pcs[0] = pc;
    sample->count = 1;
    if (sp >= low && sp < high) {
        unsigned count = add_leaf_caller(uc, sp, fp, high, sample->pcs);
        sample->count = walk(fp, sp, high, sample->pcs, count, BACKTRACE_MAX);
    }
}

/* ---- A thread that is profiled ---- */

static bool read_frame(uintptr_t fp, uintptr_t frame[2]) {
    return peek(frame, (const void *)fp, 2 * sizeof(uintptr_t));
}

/* Frames of a stack that nobody knows, upwards; a callback's lead back to the thread's own. B1 holds by
 * the system call. */
static NOT_INSTRUMENTED unsigned walk_unknown(uintptr_t fp, uintptr_t low,
                                              const struct backtrace_thread *thread, uintptr_t *pcs,
                                              unsigned count, unsigned max) {
    uintptr_t frame[2];
    while (count < max) {
        if (fp >= thread->stack_low && fp < thread->stack_high)
            return walk(fp, thread->stack_low, thread->stack_high, pcs, count, max);
        if (fp < low || fp % sizeof(uintptr_t) != 0 || !read_frame(fp, frame) || frame[1] == 0)
            break;
        pcs[count++] = plain_pc(frame[1]);
        low = fp + sizeof frame;
        fp = frame[0];
    }
    return count;
}

NOT_INSTRUMENTED unsigned backtrace_interrupted(const struct backtrace_thread *thread,
                                                const void *ucontext, uintptr_t *pcs,
                                                unsigned max) {
    ASSERT(max >= 2);
    const struct g *g = thread->current;
    uintptr_t sp, fp, low = g ? (uintptr_t)g->stack : 0, high = g ? low + g->stack_size : 0;
    registers_of(ucontext, &pcs[0], &sp, &fp);
    if (sp >= low && sp < high)
        return walk(fp, sp, high, pcs, add_leaf_caller(ucontext, sp, fp, high, pcs), max);
    unsigned count = 1;
    if (sp >= thread->stack_low && sp < thread->stack_high) {
        count = add_leaf_caller(ucontext, sp, fp, thread->stack_high, pcs);
        count = walk(fp, sp, thread->stack_high, pcs, count, max);
    } else {
        count = walk_unknown(fp, sp, thread, pcs, count, max);
    }
    if (g && thread->is_suspended)
        count += backtrace_suspended(g, pcs + count, max - count);
    return count;
}

/* ---- A question ---- */

static bool move(struct m *m, enum sample_state from, enum sample_state to) {
    uint32_t expected = from;
    return atomic_compare_exchange_strong_explicit(&m->sample_state, &expected, to,
                                                   memory_order_acq_rel, memory_order_relaxed);
}

static void on_sample(int signo, siginfo_t *info, void *context) {
    int saved_errno = errno;
    struct m *m = m_self();
    if (m && move(m, SAMPLE_ASKED, SAMPLE_TAKING)) {
        look_at_self(m, context);
        if (!move(m, SAMPLE_TAKING, SAMPLE_TAKEN))
            atomic_store_explicit(&m->sample_state, SAMPLE_IDLE, memory_order_release);
        futex_wake(&m->sample_state, 1);
    }
    errno = saved_errno;
}

/* Until the state is none of the handler's business any more, or the time is over. */
static bool await_sample(struct m *m, int64_t deadline_ns) {
    for (;;) {
        uint32_t state = atomic_load_explicit(&m->sample_state, memory_order_acquire);
        if (state == SAMPLE_TAKEN)
            return true;
        int64_t left_ns = deadline_ns - clock_mono_ns();
        if (left_ns <= 0)
            return false;
        struct timespec left = {.tv_sec = left_ns / NS_PER_S, .tv_nsec = left_ns % NS_PER_S};
        futex_wait(&m->sample_state, state, &left);
    }
}

int backtrace_prepare(void) {
    return signals_own(signals_sample_signo(), on_sample);
}

int backtrace_running(struct m *m, struct backtrace *out, int64_t timeout_ns) {
    int err = backtrace_prepare();
    if (err < 0)
        return err;
    pid_t tid = atomic_load_explicit(&m->tid, memory_order_relaxed);
    if (tid == 0)
        return -ESRCH;
    if (!move(m, SAMPLE_IDLE, SAMPLE_ASKED))
        return -EBUSY;
    if (syscall(SYS_tgkill, getpid(), tid, signals_sample_signo()) < 0) {
        err = -errno;
        /* A signal of an earlier question may have been late. */
        if (move(m, SAMPLE_ASKED, SAMPLE_IDLE))
            return err;
    }
    if (!await_sample(m, clock_mono_ns() + timeout_ns)) {
        if (move(m, SAMPLE_ASKED, SAMPLE_IDLE) || move(m, SAMPLE_TAKING, SAMPLE_DROPPED))
            return -ETIMEDOUT;
        /* It was taken this moment. */
    }
    *out = m->sample;
    atomic_store_explicit(&m->sample_state, SAMPLE_IDLE, memory_order_release);
    return 0;
}

void backtrace_own_stack(uintptr_t *low, uintptr_t *high) {
    *low = *high = 0;
    pthread_attr_t attr;
    if (pthread_getattr_np(pthread_self(), &attr) != 0)
        return;
    void *lowest;
    size_t size;
    if (pthread_attr_getstack(&attr, &lowest, &size) == 0) {
        *low = (uintptr_t)lowest;
        *high = (uintptr_t)lowest + size;
    }
    pthread_attr_destroy(&attr);
}

void backtrace_thread_init(struct m *m) {
    backtrace_own_stack(&m->stack_low, &m->stack_high);
    atomic_store_explicit(&m->tid, gettid(), memory_order_relaxed);
}
