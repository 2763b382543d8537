/* panic: Go's defer, panic and recover, for programs that use the runtime as a library.
 *
 *     static void copy(void *arg) {
 *         struct copy *c = arg;
 *         c->in = open_input(c->name);
 *         DEFER(closing, close_input, c->in);      when the block ends, or a panic passes
 *         while (more(c->in))
 *             ...                                  may panic("bad length", NULL), at any depth
 *     }
 *     static void log_it(void *arg) {
 *         struct panic_value value;
 *         if (panic_recover(&value))
 *             printf("copy failed: %s\n", value.message);
 *     }
 *     static void request(void *arg) {
 *         DEFER(logging, log_it, NULL);
 *         copy(arg);
 *     }
 *     panic_scope(request, &copy);                 returns, whether request did or panicked
 *
 * A panic runs the deferred calls of the coroutine, latest first, on top of the stack that panicked.
 * One of them may recover it: then the rest of the innermost panic_scope's are run, and its call
 * returns. Without one the process dies with "panic: MESSAGE", as Go's does.
 *
 * Threads  Coroutines, on their own stacks: a panic in a scheduler callback or in foreign code has
 *          nobody who could catch it and asserts. Deferred calls may park.
 * Unlike Go's  A deferred call runs at the end of its block, not of its function: one in a loop runs in
 *          each turn. recover returns from a panic_scope, not from the function that deferred: C has no
 *          call that another function can return from. */
#pragma once
#include <stdbool.h>

#include "base/check.h"
#include "rt/rt.h"

/* Calls fn(arg). True: it returned. False: it panicked, and that was recovered. What locals of fn and
 * of those it called held is lost then, their deferred calls have run. */
bool panic_scope(rt_fn fn, void *arg);

/* A call to be made when a block is left, by its end, by return, or by a panic; the node is on the
 * frame of the block. arg is kept as it is now, what it points to is seen as it is then. */
struct deferred {
    struct deferred *outer;
    rt_fn fn;
    void *arg;
};

/* The node is borrowed until defer_end, which makes the call. The latest begun ends first, on each way
 * out of the frame; one that is left out asserts. All that a function with one way out needs:
 *
 *     struct deferred unlocking;
 *     defer_begin(&unlocking, unlock, mutex);
 *     fn(arg);
 *     defer_end(&unlocking); */
void defer_begin(struct deferred *node, rt_fn fn, void *arg);
void defer_end(struct deferred *node);

/* For functions with several ways out: what C++ has destructors for. It declares a node of this name in
 * the enclosing block, be that a function's, an if's or a loop's turn, and begins it; nothing else is in
 * the macro. The attribute, gcc's and clang's, has the compiler call defer_end(&node) wherever control
 * leaves that block: by its end, return, break, continue or goto. A return value is computed before that.
 * A panic and rt_exit make the call themselves, longjmp and exit none. A macro, against our habit, because
 * no function can declare something in its caller's block. */
#define DEFER(node, fn, arg)                                                                       \
    __attribute__((cleanup(defer_end))) struct deferred node;                                      \
    defer_begin(&node, fn, arg)

struct panic_value {
    const char *message;
    void *value;
};

/* message (not NULL) and value are borrowed until the panic is over: they may be on the caller's frame. A
 * panic in a deferred call takes the place of the one that runs it, if it is not recovered in there. */
_Noreturn void panic(const char *message, void *value);

/* In a deferred call that a panic runs, and not in a panic_scope or a deferred call inside it: stops the
 * panic and tells what it was; true. What value points to is the panicking code's, see panic. Anywhere
 * else false, and *out is left as it is. Once stopped, a panic is not seen by the calls still to run. */
bool panic_recover(struct panic_value *out);

/* Runs all deferred calls of the coroutine and ends it, at any depth: Go's runtime.Goexit. Nothing can
 * recover it. A panic on the way that is recovered does not stop it either. */
_Noreturn void rt_exit(void);
