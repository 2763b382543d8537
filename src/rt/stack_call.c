/* stack_call: the coroutine borrows the stack of one that does not exist.
 *
 *     g->stack ──► own stack     [ caller │ stack_call ]◄─┐ rt_ctx_call's saved frame
 *        │ meanwhile                                      │
 *        └───────► lent stack    [ fn ... ────────────────┘
 *
 * The lender is a free struct g that stays free: dumps pass it over (its id is 0), and only its memory is used. A park
 * in fn saves a stack pointer into the lent memory, and g->stack says so to all who look at a parked coroutine; it
 * resumes there, and rt_ctx_call finds its way back by the frame that it left on the own stack.
 *
 * Signals  A handler that walks this thread's stack reads g->stack and g->stack_size. In between size is 0, so it never
 *          pairs one's start with the other's size: it sees no stack at all, and reads nothing.
 * Threads  Whoever looks from elsewhere has claimed the coroutine, parked: then both belong together. */
#include "rt/stack_call.h"

#include <errno.h>

#include "rt/g_switch.h"
#include "rt/stack_tools.h"

struct on_stack {
    rt_fn fn;
    void *arg;
#ifdef RT_HAS_ASAN
    struct ctx_san *own;
#endif
};

static void set_stack(struct g *g, char *stack, size_t size) {
    g->stack_size = 0;
    atomic_signal_fence(memory_order_seq_cst);
    g->stack = stack;
    atomic_signal_fence(memory_order_seq_cst);
    g->stack_size = size;
}

static void on_stack(void *arg) {
    struct on_stack *call = arg;
#ifdef RT_HAS_ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
    call->fn(call->arg);
#ifdef RT_HAS_ASAN
    __sanitizer_start_switch_fiber(NULL, call->own->bottom, call->own->size);
#endif
}

/* Noinline: the P may be another thread's after fn. */
static NOINLINE struct p *own_p(void) {
    return m_self()->p;
}

static NOINLINE int call_elsewhere(struct g *g, size_t size, rt_fn fn, void *arg) {
    struct g *lender = stack_get(own_p(), size);
    if (!lender)
        return -ENOMEM;
    struct on_stack call = {.fn = fn, .arg = arg};
    char *stack = g->stack, *top = lender->stack + lender->stack_size;
    size_t own_size = g->stack_size;
    set_stack(g, lender->stack, lender->stack_size);
#ifdef RT_HAS_ASAN
    struct ctx_san own = g->san;
    call.own = &own; /* borrow-ok: until on_stack returns */
    g->san.bottom = lender->stack;
    g->san.size = lender->stack_size;
    __sanitizer_start_switch_fiber(&own.fake_stack, lender->stack, lender->stack_size);
#endif
    void *saved;
    rt_ctx_call(&saved, top, on_stack, &call);
#ifdef RT_HAS_ASAN
    __sanitizer_finish_switch_fiber(own.fake_stack, NULL, NULL);
    g->san.bottom = own.bottom;
    g->san.size = own.size;
    g->san.fake_stack = own.fake_stack;
#endif
    set_stack(g, stack, own_size);
    lender->sp = top;
    stack_put(own_p(), lender);
    return 0;
}

static size_t room(const struct g *g) {
    enum { OF_OURS = 1024 }; /* between here and fn */
    size_t left = (size_t)((const char *)__builtin_frame_address(0) - g->stack);
    return left > OF_OURS ? left - OF_OURS : 0;
}

int stack_call(size_t size, rt_fn fn, void *arg) {
    struct g *g = rt_self();
    ASSERT(g);
    if (size > RT_STACK_MAX)
        return -EINVAL;
    if (room(g) / STACK_TOOLS_FACTOR < size)
        return call_elsewhere(g, size, fn, arg);
    fn(arg);
    return 0;
}

void stack_call_bounds(uintptr_t *low, uintptr_t *high) {
    const struct g *g = rt_self();
    ASSERT(g);
    *low = (uintptr_t)g->stack;
    *high = *low + g->stack_size;
}
