/* panic: unwinding that starts with the deferred calls and ends with one longjmp.
 *
 * A coroutine has three chains, all through frames of its stack, newest first:
 *
 *     deferred   calls still to be made                                          g->deferred
 *     scopes     where a recovered panic returns to: panic_scope, and every      g->scope
 *                deferred call, which is a scope of its own
 *     raises     panics and exits under way                                      g->raise
 *
 *     panic_scope(request)            scope S
 *       request  DEFER d1
 *         copy   DEFER d2
 *           panic A                   raise A: takes d2 from the chain
 *             d2(arg)                 scope T, made for d2, run by A
 *               panic B               raise B (older: A): nothing is deferred within T, so T is left
 *                 d1(arg)             scope U, made for d1, run by B
 *                   panic_recover     B is recovered
 *     panic_scope returns false       longjmp to S: A, B, T and U are gone with their frames
 *
 *   P1  A scope's own deferred calls are those in front of the one that was the newest when it began
 *       (base). An unwinding makes the calls of the innermost scope, then leaves that scope and does the
 *       next. A node is taken off the chain before its call, so each is made once.
 *   P2  Nothing is unwound before the calls have been made: the nodes, their arguments and the message
 *       live on frames that still stand. Hence recovery first makes the rest of the calls of the scope
 *       that it returns to, and jumps then.
 *   P3  A deferred call is a scope so that a panic in it that is recovered in it ends there, and the one
 *       that runs the call goes on, as in Go. panic_recover looks at the innermost scope only: it has to
 *       be one that a raise made for its call. That is Go's "called directly by the deferred function",
 *       but for helpers of that function.
 *   P4  A jump to a scope drops the raises that are newer than it: they are on frames that are gone. If
 *       one of them is an exit, the jump would undo it; the unwinding goes on as that exit instead.
 *
 * A coroutine that panics with nobody to recover it prints the chain of raises and aborts, on top of the
 * stack that panicked: the crash report and a debugger show where it was.
 *
 * Threads  All of it is the coroutine's. It may go on on another thread after each deferred call:
 *          nothing here is per thread, and glibc mangles jump buffers with one secret per process.
 * Sanitizers  ASan learns of the jump by longjmp, which forgets the frames between. TSan keeps its own
 *          call stack and jump buffers per fiber, that is per coroutine, and unwinds it in longjmp: in
 *          that one only, so neither _longjmp nor the compiler's builtins do, fast as they are. */
#include "rt/panic.h"

#include <execinfo.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "rt/rt_internal.h"

enum { TRACE_MAX = 64 };

/* A call that can be returned from. */
struct panic_frame {
    struct panic_frame *outer;
    struct deferred *base;   /* the newest call deferred outside */
    struct panic_raise *by;  /* made for a deferred call: the raise that runs it, or NULL */
    struct panic_raise *old; /* the newest raise when it began */
    jmp_buf here;
};

struct panic_raise {
    struct panic_raise *older; /* was under way when this began */
    struct panic_value value;
    bool is_exit;
    bool recovered;
};

/* Jumps between stacks would be a bug that nobody finds. */
static struct g *self_on_own_stack(void) {
    struct g *g = rt_self();
    ASSERT(g); /* a scheduler callback, foreign code, or another thread */
    const char *frame = __builtin_frame_address(0);
    ASSERT(frame >= g->stack);
    ASSERT(frame < g->stack + g->stack_size); /* foreign_call_quick runs on the thread's stack */
    return g;
}

/* ---- Calls ---- */

/* Not inlined: what its callers keep in registers over the call is theirs after a jump, too. */
static NOINLINE bool call_in_frame(struct g *g, struct panic_raise *by, rt_fn fn, void *arg) {
    struct panic_frame frame = {.outer = g->scope, .base = g->deferred, .by = by, .old = g->raise};
    g->scope = &frame;
    if (_setjmp(frame.here) != 0)
        return false; /* unwind has put everything back */
    fn(arg);
    ASSERT(g->deferred == frame.base); /* else a defer_begin has no defer_end */
    g->scope = frame.outer;
    return true;
}

bool panic_scope(rt_fn fn, void *arg) {
    return call_in_frame(self_on_own_stack(), NULL, fn, arg);
}

void defer_begin(struct deferred *node, rt_fn fn, void *arg) {
    struct g *g = self_on_own_stack();
    *node = (struct deferred){.outer = g->deferred, .fn = fn, .arg = arg};
    g->deferred = node;
}

static void make_newest_call(struct g *g, struct panic_raise *by) {
    struct deferred *node = g->deferred;
    g->deferred = node->outer;
    (void)call_in_frame(g, by, node->fn, node->arg);
}

void defer_end(struct deferred *node) {
    struct g *g = self_on_own_stack();
    ASSERT(g->deferred == node); /* the latest begun ends first */
    make_newest_call(g, NULL);
}

/* ---- Unwinding ---- */

static void print_chain(const struct panic_raise *raise) {
    if (raise->older) {
        print_chain(raise->older);
        if (!raise->older->is_exit)
            dprintf(STDERR_FILENO, "\t");
    }
    if (!raise->is_exit)
        dprintf(STDERR_FILENO, "panic: %s%s\n", raise->value.message,
                raise->recovered ? " [recovered]" : "");
}

static _Noreturn void die(const struct g *g, const struct panic_raise *raise) {
    print_chain(raise);
    dprintf(STDERR_FILENO, "\ncoroutine %" PRIu64 " %s [running]:\n",
            atomic_load_explicit(&g->id, memory_order_relaxed),
            atomic_load_explicit(&g->name, memory_order_relaxed));
    void *frames[TRACE_MAX];
    backtrace_symbols_fd(frames, backtrace(frames, TRACE_MAX), STDERR_FILENO);
    abort();
}

/* The end of an unwinding that has reached frame (NULL: the coroutine's first call) and stops there. */
static _Noreturn void return_to(struct g *g, struct panic_frame *frame) {
    if (!frame)
        g_exit(g);
    g->deferred = frame->base;
    g->scope = frame->outer;
    g->raise = frame->old;
    longjmp(frame->here, 1);
}

/* Whether a jump to frame would undo an exit. P4 */
static bool drops_an_exit(const struct panic_raise *raise, const struct panic_frame *frame) {
    const struct panic_raise *kept = frame ? frame->old : NULL;
    for (; raise != kept; raise = raise->older)
        if (raise->is_exit)
            return true;
    return false;
}

static _Noreturn void unwind(struct g *g, struct panic_raise *raise) {
    g->raise = raise;
    for (;;) {
        struct panic_frame *frame = g->scope;
        struct deferred *base = frame ? frame->base : NULL;
        while (g->deferred != base)
            make_newest_call(g, raise->recovered ? NULL : raise);
        if (raise->recovered) {
            if (!drops_an_exit(raise, frame))
                return_to(g, frame);
            raise->is_exit = true;
            raise->recovered = false;
        }
        if (!frame && raise->is_exit)
            g_exit(g);
        if (!frame)
            die(g, raise);
        g->scope = frame->outer; /* P1 */
    }
}

void panic(const char *message, void *value) {
    ASSERT(message);
    struct g *g = self_on_own_stack();
    struct panic_raise raise = {.older = g->raise, .value = {message, value}};
    unwind(g, &raise);
}

void rt_exit(void) {
    struct g *g = self_on_own_stack();
    struct panic_raise raise = {.older = g->raise, .is_exit = true};
    unwind(g, &raise);
}

bool panic_recover(struct panic_value *out) {
    struct panic_frame *frame = self_on_own_stack()->scope;
    struct panic_raise *raise = frame ? frame->by : NULL;
    if (!raise || raise->is_exit || raise->recovered)
        return false;
    raise->recovered = true;
    *out = raise->value;
    return true;
}
