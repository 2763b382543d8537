/* crash: prints the coroutine, the registers and a backtrace to stderr, then dies of the signal.
 *
 * Only async-signal-safe calls, but for backtrace(3): it may take the loader's lock, which the fault
 * may have interrupted. It runs last, and an alarm ends the process if it never comes back.
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

#include "rt/rt_internal.h"

enum { BACKTRACE_PATIENCE_S = 5 };

static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
static const char *const crash_names[] = {"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"};
enum { CRASH_SIGNALS = sizeof crash_signals / sizeof crash_signals[0] };
static struct sigaction found[CRASH_SIGNALS];
static _Atomic uint32_t reporting;
static _Atomic(crash_catcher) catcher; /* stored with release, read with acquire */

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

static void put_register(const char *name, uintptr_t value) {
    put(" ");
    put(name);
    put("=");
    put_hex(value);
}

static void put_registers(const ucontext_t *uc) {
    put("registers:");
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
        put_register(regs[i].name, (uintptr_t)uc->uc_mcontext.gregs[regs[i].index]);
#elif defined(__aarch64__)
    put_register("pc", uc->uc_mcontext.pc);
    put_register("sp", uc->uc_mcontext.sp);
    put_register("lr", uc->uc_mcontext.regs[30]);
    put_register("fp", uc->uc_mcontext.regs[29]);
    for (int i = 0; i < 8; i++)
        put_register((const char[]){'x', (char)('0' + i), '\0'}, uc->uc_mcontext.regs[i]);
#endif
    put("\n");
}

static void put_place(int signo, const siginfo_t *info) {
    struct m *m = m_self();
    struct g *g = m ? m->current : NULL;
    const char *name = g ? atomic_load_explicit(&g->name, memory_order_relaxed) : NULL;
    if (!name) {
        put(m ? "in the scheduler\n" : "on a thread outside the runtime\n");
    } else if ((signo == SIGSEGV || signo == SIGBUS) &&
               stack_is_guard(g, (uintptr_t)info->si_addr)) {
        put("coroutine stack overflow in ");
        put(name);
        put("\n");
    } else {
        put(atomic_load_explicit(&m->in_foreign, memory_order_relaxed)
                ? "in foreign code called by coroutine "
                : "in coroutine ");
        put(name);
        put("\n");
    }
}

static void report(unsigned index, const siginfo_t *info, const ucontext_t *uc) {
    put("\nsluice " SLUICE_VERSION " got ");
    put(crash_names[index]);
    if (info->si_code > 0) {
        put(" at address ");
        put_hex((uintptr_t)info->si_addr);
    }
    put(", ");
    put_place(crash_signals[index], info);
    put_registers(uc);
    (void)signal(SIGALRM, SIG_DFL);
    alarm(BACKTRACE_PATIENCE_S);
    void *frames[BACKTRACE_MAX];
    int count = backtrace(frames, BACKTRACE_MAX);
    backtrace_symbols_fd(frames, count, STDERR_FILENO);
    alarm(0);
}

static void die_of(int signo, const siginfo_t *info) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    (void)sigaction(signo, &action, NULL);
    if (info->si_code <= 0) /* sent by somebody: returning would not repeat it */
        (void)raise(signo);
}

void crash_set_catcher(crash_catcher fn) {
    atomic_store_explicit(&catcher, fn, memory_order_release);
}

static bool is_caught(int signo, const siginfo_t *info, void *context) {
    crash_catcher fn = atomic_load_explicit(&catcher, memory_order_acquire);
    return fn && signo != SIGABRT && info->si_code > 0 && fn(signo, info, context);
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
