/* native_fault: which faults can be survived, and how.
 *
 * A fault ends the call that it is in when all of this is known:
 *   F1  It is an instruction's, not sent by somebody, and the instruction is the plug-in's own: its pc is in an
 *       executable segment of the plug-in.
 *   F2  It happened in a call of native_call that has not ended, of this coroutine (or thread).
 *   F3  All frames from there down to that call are the plug-in's own. They are found by the unwind tables, not by frame
 *       pointers, which plug-ins may lack; the walk has to arrive at a function in the section native_enter, which
 *       do nothing but to call the plug-in for native_call.
 * So no code but the plug-in's is cut off in the middle. By F3 nothing of Sluice, libc or another library is on the way:
 * neither holds a lock there, nor has it a half-made list. A comparison function of the plug-in that qsort calls
 * does not count, nor does memcpy with a null pointer: who knows what libc was doing. Where the tables are missing, or
 * the stack was written over so that the walk gets lost, F3 is not shown, and the fault is a crash.
 *
 * What it does not show: that the plug-in wrote nowhere else before it faulted. A wild write may have hit any of our
 * memory, and what comes of it comes later, somewhere else: as a crash, or worse. Only a process of its own would keep
 * that apart.
 *
 * How    The handler changes the context that it returns to: the thread goes on in land(), on the stack that the call
 *        stood on, right below native_enter's frame, which nobody needs any more. From there longjmp is an ordinary one:
 *        the kernel has put back the signal mask and the alternate stack, ASan forgets the frames between, TSan unwinds
 *        its own. What the plug-in may have left in the flags and the floating point control is put right.
 * Stack  An overflow faults in the guard below the stack; the handler runs on the thread's alternate one. The walk
 *        reads nothing outside the stack (unwind.h), however wrong the registers are.
 * Go     Go runtimes put their handlers over ours when they are loaded, and pass on what is not in Go code.
 * ASan   and its like had their handlers before ours, which runs first and passes on what it does not catch.
 *
 * Where a call is noted  With the coroutine (a local): the plug-in may park and wake on another thread. Nested calls
 *        (it reads a body that a transformer of its own is in front of) make a chain; the innermost one is asked, and it
 *        is the right one, as by F3 no host's frame is between. Calls on threads without a coroutine, which do not
 *        park, are noted with the thread: configure, and what sluice_blocking_call runs.
 *
 * Rejected  A flag that each host function sets while it runs, instead of F3: it knows nothing of libc, and each call
 *        of the host would pay. A guard around each call by sigsetjmp with the mask: a system call each. */
#include "ext/native/native_fault.h"

#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "heap/unwind.h"
#include "rt/backtrace.h"
#include "rt/crash.h"
#include "rt/foreign.h"
#include "rt/local.h"
#include "rt/stack_call.h"

struct boundary {
    struct boundary *outer;
    const struct native_text *text;
    struct native_fault *fault;
    uintptr_t stack_low, frame; /* of native_call */
    jmp_buf here;
};

static struct local_key boundary_key = {.name = "native call"};
static _Thread_local struct boundary *thread_boundary;

/* The linker's, of the section. */
extern const char __start_native_enter[], __stop_native_enter[];

/* ---- Where a call is noted ---- */

/* On a coroutine, and on its stack. Noinline: the answer is the thread's of this moment. */
static NOINLINE bool is_coroutine(void) {
    return rt_self() && !foreign_is_active();
}

static NOINLINE struct boundary *swap_of_thread(struct boundary *boundary) {
    struct boundary *former = thread_boundary;
    thread_boundary = boundary;
    return former;
}

static struct boundary *swap_boundary(struct boundary *boundary) {
    return is_coroutine() ? local_swap(&boundary_key, boundary) : swap_of_thread(boundary);
}

/* Not inlined: what callers keep in registers over the call is theirs after a jump, too. */
NOINLINE bool native_call(const struct native_text *text, rt_fn enter, void *arg,
                          struct native_fault *fault) {
    struct boundary boundary = {
        .text = text, .fault = fault, .frame = (uintptr_t)__builtin_frame_address(0)};
    uintptr_t high;
    if (is_coroutine())
        stack_call_bounds(&boundary.stack_low, &high);
    else
        backtrace_own_stack(&boundary.stack_low, &high);
    boundary.outer = swap_boundary(&boundary); /* borrow-ok: until this returns */
    bool returned = _setjmp(boundary.here) == 0;
    if (returned)
        enter(arg);
    (void)swap_boundary(boundary.outer);
    return returned;
}

/* ---- In the handler ---- */

static bool is_in(const struct native_text *text, uintptr_t pc) {
    for (unsigned i = 0; i < text->count; i++)
        if (pc >= text->segments[i].start && pc < text->segments[i].end)
            return true;
    return false;
}

static bool is_enter(uintptr_t pc) {
    return pc > (uintptr_t)__start_native_enter && pc <= (uintptr_t)__stop_native_enter;
}

static void note(struct native_fault *fault, uintptr_t pc) {
    if (fault->count < NATIVE_FAULT_FRAMES)
        fault->pcs[fault->count++] = pc;
}

/* F3. Leaves frame at the function of native_enter. */
static bool walk(const struct boundary *boundary, struct unwind_frame *frame) {
    uintptr_t sp = frame->value[CFI_SP];
    while (is_in(boundary->text, frame->interrupted ? frame->pc : frame->pc - 1)) {
        bool may_be_leaf = frame->interrupted; /* which on aarch64 has no frame */
        note(boundary->fault, frame->pc);
        if (!unwind_step(frame) || frame->value[CFI_SP] < sp + !may_be_leaf)
            return false;
        sp = frame->value[CFI_SP];
    }
    return !frame->interrupted && is_enter(frame->pc) && sp >= boundary->stack_low &&
           sp < boundary->frame;
}

static _Noreturn void land(struct boundary *boundary) {
    longjmp(boundary->here, 1);
}

static void go_on_in_land(ucontext_t *uc, uintptr_t sp, struct boundary *boundary) {
    mcontext_t *to = &uc->uc_mcontext;
#ifdef __x86_64__
    enum { RED_ZONE = 128, FLAGS_TF_DF_AC = 0x40500, MXCSR_DEFAULT = 0x1f80, X87_DEFAULT = 0x37f };
    to->gregs[REG_RIP] = (greg_t)(uintptr_t)land;
    to->gregs[REG_RSP] = (greg_t)(((sp - RED_ZONE) & ~(uintptr_t)15) - sizeof(uintptr_t));
    to->gregs[REG_RDI] = (greg_t)(uintptr_t)boundary;
    to->gregs[REG_EFL] &= ~(greg_t)FLAGS_TF_DF_AC;
    if (to->fpregs) {
        to->fpregs->mxcsr = MXCSR_DEFAULT;
        to->fpregs->cwd = X87_DEFAULT;
    }
#elif defined(__aarch64__)
    to->pc = (uintptr_t)land;
    to->sp = sp & ~(uintptr_t)15;
    to->regs[0] = (uintptr_t)boundary;
#endif
}

/* The innermost call of this thread or of the coroutine that it runs. A thread's own, which never parks, would be on top
 * of the coroutine's. */
static struct boundary *innermost(void) {
    if (thread_boundary)
        return thread_boundary;
    return rt_self() ? local_get(&boundary_key) : NULL;
}

static bool is_below(uintptr_t address, uintptr_t low) {
    enum {
        AS_FAR = 1 << 20
    }; /* frames that skip the guard page find the neighbour's, or nothing */
    return address < low && low - address < AS_FAR;
}

static bool catch_fault(int signo, const siginfo_t *info, void *context) {
    struct boundary *boundary = innermost();
    if (!boundary)
        return false;
    struct unwind_frame frame;
    unwind_interrupted(context, boundary->stack_low, boundary->frame, &frame);
    struct native_fault *fault = boundary->fault;
    *fault = (struct native_fault){.signo = signo, .address = (uintptr_t)info->si_addr};
    fault->is_overflow = signo == SIGSEGV && is_below(fault->address, boundary->stack_low);
    if (!is_in(boundary->text, frame.pc) || !walk(boundary, &frame))
        return false;
    go_on_in_land(context, frame.value[CFI_SP], boundary);
    return true;
}

/* ---- */

void native_fault_init(void) {
    crash_set_catcher(catch_fault);
}

const char *native_fault_name(const struct native_fault *fault) {
    if (fault->is_overflow)
        return "a stack overflow";
    switch (fault->signo) {
    case SIGSEGV:
        return "SIGSEGV";
    case SIGBUS:
        return "SIGBUS";
    case SIGFPE:
        return "SIGFPE";
    default:
        return "SIGILL";
    }
}
