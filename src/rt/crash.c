/* crash: prints the coroutine and the registers to stderr, has a report made, then dies of the signal. Where nobody makes
 * one, or it fails, a backtrace is printed.
 *
 * Only async-signal-safe calls, but for backtrace(3): it may take the loader's lock, which the fault
 * may have interrupted. It runs last. Whatever never comes back, an alarm ends it, by the signal that it was.
 *
 * Order    Go's handlers, installed later, pass on what is not theirs. A handler that we found (a
 *          sanitizer's) runs after our report instead of the default action.
 * Threads  Any. The first one in reports; others that crash meanwhile wait for the end. */
#include "rt/crash.h"

#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "rt/backtrace.h"
#include "rt/profile_thread.h"
#include "rt/rt_internal.h"

enum {
    THREAD_PATIENCE_MS = 100,  /* of one that is asked what it does: it needs a processor */
    THREADS_PATIENCE_MS = 1000 /* of all of them */
};

static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP};
static const char *const crash_names[] = {"SIGSEGV", "SIGBUS",  "SIGILL",
                                          "SIGFPE",  "SIGABRT", "SIGTRAP"};
enum { CRASH_SIGNALS = sizeof crash_signals / sizeof crash_signals[0] };
static struct sigaction found[CRASH_SIGNALS];
static _Atomic uint32_t reporting;
static _Atomic int dying_of;             /* by the thread that reports, before it sets the alarm */
static _Atomic(crash_catcher) catcher;   /* stored with release, read with acquire */
static _Atomic(crash_reporter) reporter; /* as well */

static void put(const char *text) {
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    (void)written;
}

static void put_hex(uintptr_t value) {
    char text[2 + 16 + 1], *at = text + sizeof text - 1;
    *at = '\0';
    do {
        *--at = "0123456789abcdef"[value % 16];
        value /= 16;
    } while (value);
    *--at = 'x';
    *--at = '0';
    put(at);
}

void crash_each_register(const void *ucontext,
                         void (*fn)(const char *name, uintptr_t value, void *arg), void *arg) {
    const mcontext_t *from = &((const ucontext_t *)ucontext)->uc_mcontext;
#if defined(__x86_64__)
    static const struct {
        const char *name;
        int index;
    } regs[] = {{"rip", REG_RIP}, {"rsp", REG_RSP}, {"rbp", REG_RBP}, {"rax", REG_RAX},
                {"rbx", REG_RBX}, {"rcx", REG_RCX}, {"rdx", REG_RDX}, {"rsi", REG_RSI},
                {"rdi", REG_RDI}, {"r8", REG_R8},   {"r9", REG_R9},   {"r10", REG_R10},
                {"r11", REG_R11}, {"r12", REG_R12}, {"r13", REG_R13}, {"r14", REG_R14},
                {"r15", REG_R15}};
    for (size_t i = 0; i < sizeof regs / sizeof regs[0]; i++)
        fn(regs[i].name, (uintptr_t)from->gregs[regs[i].index], arg);
#elif defined(__aarch64__)
    fn("pc", from->pc, arg);
    fn("sp", from->sp, arg);
    for (int i = 0; i < 31; i++) {
        char name[4] = {'x', (char)('0' + i / 10), (char)('0' + i % 10), '\0'};
        if (i < 10) {
            name[1] = name[2];
            name[2] = '\0';
        }
        fn(name, from->regs[i], arg);
    }
#endif
}

static void put_register(const char *name, uintptr_t value, void *arg) {
    put(" ");
    put(name);
    put("=");
    put_hex(value);
}

/* ---- What is known of the thread ---- */

static void find_labels(const struct g *g, struct crash *crash) {
    struct label described[LABELS_DESCRIBED_MAX];
    unsigned count = labels_described(g, described);
    const struct labels *own = labels_of(g);
    for (unsigned i = 0; own && i < own->count && i < LABELS_MAX; i++)
        crash->labels[crash->label_count++] = own->items[i];
    for (unsigned i = 0; i < count; i++)
        crash->labels[crash->label_count++] = described[i];
    (void)labels_told(g, crash->told);
}

static void find_place(struct crash *crash) {
    const struct m *m = m_self();
    const struct g *g = profile_thread_g(); /* a thread of blocking_call works for one, too */
    crash->coroutine = g ? atomic_load_explicit(&g->name, memory_order_relaxed) : NULL;
    if (!crash->coroutine) {
        crash->place = m ? "in the scheduler" : "on a thread outside the runtime";
        return;
    }
    bool is_foreign = !m || atomic_load_explicit(&m->in_foreign, memory_order_relaxed);
    bool is_access = crash->signo == SIGSEGV || crash->signo == SIGBUS;
    crash->coroutine_id = atomic_load_explicit(&g->id, memory_order_relaxed);
    if (is_access && stack_is_guard(g, (uintptr_t)crash->info->si_addr))
        crash->place = "coroutine stack overflow in";
    else
        crash->place = is_foreign ? "in foreign code called by coroutine" : "in coroutine";
}

struct asking {
    void (*fn)(pid_t tid, const struct backtrace *backtrace, void *arg);
    void *arg;
    const struct m *self;
    int64_t deadline_ns;
};

static void ask(struct m *m, void *arg) {
    struct asking *asking = arg;
    int64_t left_ns = asking->deadline_ns - clock_mono_ns();
    int64_t most_ns = THREAD_PATIENCE_MS * NS_PER_MS;
    struct backtrace backtrace;
    if (m != asking->self && left_ns > 0 &&
        backtrace_running(m, &backtrace, left_ns < most_ns ? left_ns : most_ns) == 0)
        asking->fn(atomic_load_explicit(&m->tid, memory_order_relaxed), &backtrace, asking->arg);
}

void crash_each_thread(void (*fn)(pid_t tid, const struct backtrace *backtrace, void *arg),
                       void *arg) {
    struct asking asking = {.fn = fn,
                            .arg = arg,
                            .self = m_self(),
                            .deadline_ns = clock_mono_ns() + THREADS_PATIENCE_MS * NS_PER_MS};
    (void)m_try_each(ask, &asking); /* who holds the lock may be the one that died */
}

/* ---- The end ---- */

static void die_of(int signo, const siginfo_t *info) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    (void)sigaction(signo, &action, NULL);
    /* Sent by somebody, or behind the instruction: returning would not repeat it. */
    if (info->si_code <= 0 || signo == SIGTRAP)
        (void)raise(signo);
}

static void on_alarm(int signo) {
    int dying = atomic_load_explicit(&dying_of, memory_order_acquire);
    put("the report takes too long\n");
    (void)signal(dying, SIG_DFL);
    (void)raise(dying);
}

/* A Go runtime that passes a signal on has all others blocked: the report's own end must get through. */
static void set_alarm(int signo) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGALRM);
    sigaddset(&mask, signo);
    atomic_store_explicit(&dying_of, signo, memory_order_release);
    (void)signal(SIGALRM, on_alarm); /* these two cannot fail */
    (void)pthread_sigmask(SIG_UNBLOCK, &mask, NULL);
    alarm(CRASH_PATIENCE_S);
}

static void put_backtrace(void) {
    void *frames[BACKTRACE_MAX];
    int count = backtrace(frames, BACKTRACE_MAX);
    backtrace_symbols_fd(frames, count, STDERR_FILENO);
}

static void report(unsigned index, const siginfo_t *info, const ucontext_t *uc) {
    struct crash crash = {.signo = crash_signals[index], .info = info, .ucontext = uc};
    set_alarm(crash.signo);
    find_place(&crash);
    put("\nsluice " SLUICE_VERSION " got ");
    put(crash_names[index]);
    if (info->si_code > 0) {
        put(" at address ");
        put_hex((uintptr_t)info->si_addr);
    }
    put(", ");
    put(crash.place);
    if (crash.coroutine) {
        put(" ");
        put(crash.coroutine);
    }
    put("\nregisters:");
    crash_each_register(uc, put_register, NULL);
    put("\n");
    const struct g *g = profile_thread_g();
    if (g)
        find_labels(g, &crash);
    crash_reporter fn = atomic_load_explicit(&reporter, memory_order_acquire);
    if (!fn || !fn(&crash))
        put_backtrace();
    alarm(0);
}

int crash_set_reporter(crash_reporter fn) {
    int err = backtrace_prepare();
    if (err == 0)
        atomic_store_explicit(&reporter, fn, memory_order_release);
    return err;
}

void crash_set_catcher(crash_catcher fn) {
    atomic_store_explicit(&catcher, fn, memory_order_release);
}

static bool is_caught(int signo, const siginfo_t *info, void *context) {
    crash_catcher fn = atomic_load_explicit(&catcher, memory_order_acquire);
    return fn && signo != SIGABRT && signo != SIGTRAP && info->si_code > 0 &&
           fn(signo, info, context);
}

static void on_crash(int signo, siginfo_t *info, void *context) {
    if (is_caught(signo, info, context))
        return;
    uint32_t self = (uint32_t)gettid(), nobody = 0;
    if (!atomic_compare_exchange_strong(&reporting, &nobody, self)) {
        if (nobody == self) { /* the report itself crashed */
            die_of(signo, info);
            return;
        }
        for (;;)
            pause();
    }
    unsigned index = 0;
    while (crash_signals[index] != signo)
        index++;
    report(index, info, context);
    const struct sigaction *next = &found[index];
    if (next->sa_flags & SA_SIGINFO)
        next->sa_sigaction(signo, info, context);
    else if (next->sa_handler != SIG_DFL && next->sa_handler != SIG_IGN)
        next->sa_handler(signo);
    die_of(signo, info);
}

int crash_init(void) {
    void *frame[1];
    (void)backtrace(frame, 1); /* loads libgcc now: not from a signal handler */
    for (unsigned i = 0; i < CRASH_SIGNALS; i++) {
        struct sigaction action = {.sa_sigaction = on_crash,
                                   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
        sigemptyset(&action.sa_mask);
        if (sigaction(crash_signals[i], &action, &found[i]) < 0)
            return -errno;
    }
    return 0;
}
