/* ctx_*.S: what is saved, and what an unwinder sees at each instruction and in each situation.
 *
 * Chains are compared as function starts (_Unwind_GetRegionStart), so nothing depends on symbols. A
 * clean end is a frame without a return address: rt_ctx_entry's, or that of a thread's first function.
 * A garbage chain also ends, but with an address that belongs to nobody. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unwind.h>

#include "rt/ctx.h"
#include "rt/foreign.h"
#include "rt_story.h"

void rt_ctx_call_as(void (*fn)(void *), void *arg, void *sp); /* ctx_call_as.S */

/* ---- What an unwinder sees ---- */

enum { TRACE_MAX = 64 };
struct trace {
    uintptr_t fns[TRACE_MAX];
    unsigned count;
    bool clean; /* it came to a frame without a return address */
};

static _Unwind_Reason_Code trace_frame(struct _Unwind_Context *context, void *arg) {
    struct trace *trace = arg;
    if (_Unwind_GetIP(context) == 0)
        trace->clean = true;
    else if (trace->count < TRACE_MAX)
        trace->fns[trace->count++] = _Unwind_GetRegionStart(context);
    return _URC_NO_REASON;
}

static void NOINLINE trace_take(void *arg) {
    struct trace *trace = arg;
    trace->count = 0;
    trace->clean = false;
    _Unwind_Reason_Code code = _Unwind_Backtrace(trace_frame, trace);
    trace->clean = trace->clean && code == _URC_END_OF_STACK;
}

/* The index of fn at or after from; -1. */
static int trace_find(const struct trace *trace, const void *fn, unsigned from) {
    for (unsigned i = from; i < trace->count; i++)
        if (trace->fns[i] == (uintptr_t)fn)
            return (int)i;
    return -1;
}

static bool trace_ends_at_entry(const struct trace *trace) {
    return trace->clean && trace->count > 0 &&
           trace->fns[trace->count - 1] == (uintptr_t)rt_ctx_entry;
}

/* Frame records, as perf and the kernel walk them: {caller's frame pointer, return address}. */
static void NOINLINE walk_frame_pointers(void *arg) {
    struct trace *trace = arg;
    trace->count = 0;
    void **frame = __builtin_frame_address(0);
    while (frame && trace->count < TRACE_MAX) {
        trace->fns[trace->count++] = (uintptr_t)_Unwind_FindEnclosingFunction(frame[1]);
        frame = frame[0];
    }
    trace->clean = frame == NULL;
}

/* Keeps a call from becoming a jump: the frame must be there to be seen. */
#define NO_TAIL_CALL() __asm__ volatile("" ::: "memory")

/* The switches below are made without telling the sanitizers: AddressSanitizer bears that, while
 * ThreadSanitizer would have to keep a shadow stack for each context. g.c tells it. */
#ifdef RT_HAS_TSAN
#define NOT_UNDER_TSAN() skip()
#else
#define NOT_UNDER_TSAN() ((void)0)
#endif

/* ---- Two contexts ---- */

static void *main_sp, *co_sp;
static _Alignas(16) char co_stack[256 * 1024];

static void co_start(void (*fn)(void *)) {
    co_sp = rt_ctx_init(co_stack + sizeof co_stack, fn, &co_sp);
    rt_ctx_switch(&main_sp, co_sp);
}

static struct trace seen;
static void (*co_take)(void *);

static void NOINLINE co_inner(void) {
    co_take(&seen);
    NO_TAIL_CALL();
}

static void NOINLINE co_outer(void) {
    co_inner();
    NO_TAIL_CALL();
}

static void co_main(void *arg) {
    assert_ptr_equal(arg, &co_sp);
    co_outer();
    for (;;)
        rt_ctx_switch(&co_sp, main_sp);
}

static void check_co_chain(const struct trace *trace, int from) {
    assert_true(from >= 0);
    assert_true(trace->fns[from] == (uintptr_t)co_inner);
    assert_true(trace->fns[from + 1] == (uintptr_t)co_outer);
    assert_true(trace->fns[from + 2] == (uintptr_t)co_main);
    assert_true(trace->fns[from + 3] == (uintptr_t)rt_ctx_entry);
    assert_int_equal(trace->count, from + 4);
    assert_true(trace->clean);
}

static void a_coroutine_unwinds_to_its_entry(void **state) {
    NOT_UNDER_TSAN();
    co_take = trace_take;
    co_start(co_main);
    check_co_chain(&seen, 1);
}

static void a_coroutine_has_a_chain_of_frame_pointers(void **state) {
    NOT_UNDER_TSAN();
    co_take = walk_frame_pointers;
    co_start(co_main);
    check_co_chain(&seen, 0);
}

static void switches_away(void *arg) {
    rt_ctx_switch(&co_sp, main_sp);
    NO_TAIL_CALL();
}

static void a_suspended_coroutine_unwinds_from_outside(void **state) {
    NOT_UNDER_TSAN();
    co_take = switches_away;
    co_start(co_main);
    rt_ctx_call_as(trace_take, &seen, co_sp);
    assert_true(seen.fns[1] == (uintptr_t)rt_ctx_call_as);
    assert_true(seen.fns[2] == (uintptr_t)switches_away);
    check_co_chain(&seen, 3);
    rt_ctx_call_as(walk_frame_pointers, &seen, co_sp);
    assert_int_equal(trace_find(&seen, switches_away, 0), 1);
    check_co_chain(&seen, 2);
}

/* ---- Registers ---- */

#if defined(__x86_64__)
/* DWARF number of each saved word, low to high: r15 r14 r13 r12 rbx rbp */
static const int dwarf_regs[] = {15, 14, 13, 12, 3, 6};
#else
static const int dwarf_regs[] = {29, 30, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28};
#endif
enum { DWARF_REGS = sizeof dwarf_regs / sizeof dwarf_regs[0] };

static uintptr_t regs_seen[DWARF_REGS];

static _Unwind_Reason_Code note_regs(struct _Unwind_Context *context, void *arg) {
    if (_Unwind_GetRegionStart(context) == (uintptr_t)rt_ctx_entry)
        for (unsigned i = 0; i < DWARF_REGS; i++)
            regs_seen[i] = _Unwind_GetGR(context, dwarf_regs[i]);
    return _URC_NO_REASON;
}

static void take_regs(void *arg) {
    (void)_Unwind_Backtrace(note_regs, NULL);
}

/* A context that has not started is words that we can fill with what we like. */
static void an_unwinder_finds_each_saved_register(void **state) {
    static _Alignas(16) char stack[4096];
    uintptr_t *sp = rt_ctx_init(stack + sizeof stack, take_regs, NULL);
    for (unsigned i = 0; i < DWARF_REGS; i++)
        if (dwarf_regs[i] != 30) /* the link register is the return address */
            sp[i] = 0x1000 + i;
    rt_ctx_call_as(take_regs, NULL, sp);
    for (unsigned i = 0; i < DWARF_REGS; i++)
        if (dwarf_regs[i] != 30)
            assert_int_equal(regs_seen[i], 0x1000 + i);
}

/* Values that a compiler keeps in callee-saved registers, floating point among them, over a switch
 * to a context that has values of its own in the same ones. */
static bool NOINLINE keeps_its_values(uintptr_t seed, void **save, void **load) {
    uintptr_t a[8];
    double d[8];
    for (unsigned i = 0; i < 8; i++) {
        a[i] = seed * (i + 1);
        d[i] = (double)seed / (i + 1);
        __asm__ volatile("" : "+r"(a[i]));
#if defined(__aarch64__)
        __asm__ volatile("" : "+w"(d[i]));
#endif
    }
    uintptr_t a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3], a4 = a[4], a5 = a[5];
    double d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3], d4 = d[4], d5 = d[5], d6 = d[6], d7 = d[7];
    rt_ctx_switch(save, *load);
    return a0 == seed && a1 == seed * 2 && a2 == seed * 3 && a3 == seed * 4 && a4 == seed * 5 &&
           a5 == seed * 6 && d0 == (double)seed && d1 == (double)seed / 2 &&
           d2 == (double)seed / 3 && d3 == (double)seed / 4 && d4 == (double)seed / 5 &&
           d5 == (double)seed / 6 && d6 == (double)seed / 7 && d7 == (double)seed / 8;
}

enum { REGISTER_ROUNDS = 1000 };
static bool co_kept;

static void co_keeps(void *arg) {
    co_kept = true;
    for (uintptr_t i = 1;; i++)
        co_kept &= keeps_its_values(i * 7919, &co_sp, &main_sp);
}

static void a_switch_keeps_the_callee_saved_registers(void **state) {
    NOT_UNDER_TSAN();
    co_start(co_keeps);
    for (uintptr_t i = 1; i <= REGISTER_ROUNDS; i++)
        assert_true(keeps_its_values(i * 104729, &main_sp, &co_sp));
    assert_true(co_kept);
}

/* ---- A signal at every instruction ---- */

static _Atomic unsigned hits_in_ctx, hits_elsewhere;
static uintptr_t hit_ips[64]; /* different ones, inside the routines */
static _Atomic unsigned hit_ip_count;
static const char *hit_problem;

static void NOINLINE co_side(void) {
    rt_ctx_switch(&co_sp, main_sp);
    NO_TAIL_CALL();
}

static void co_loops(void *arg) {
    for (;;)
        co_side();
}

static void nothing(void *arg) {
    NO_TAIL_CALL();
}

static _Alignas(16) char call_stack[128 * 1024]; /* signal handlers unwind here */
static void *called_sp;

static void NOINLINE main_side(void) {
    rt_ctx_switch(&main_sp, co_sp);
    rt_ctx_call(&called_sp, call_stack + sizeof call_stack, nothing, NULL);
    NO_TAIL_CALL();
}

static uintptr_t interrupted_at(const void *context) {
    const ucontext_t *uc = context;
#if defined(__x86_64__)
    return (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
#else
    return (uintptr_t)uc->uc_mcontext.pc;
#endif
}

/* Where the routine was interrupted, its caller comes next, on whichever stack it is. */
static void on_hit(int signo, siginfo_t *info, void *context) {
    uintptr_t ip = interrupted_at(context);
    /* It takes a return address, behind a call. */
    uintptr_t fn = (uintptr_t)_Unwind_FindEnclosingFunction((void *)(ip + 1));
    struct trace trace;
    trace_take(&trace);
    bool in_ctx = fn == (uintptr_t)rt_ctx_switch || fn == (uintptr_t)rt_ctx_entry ||
                  fn == (uintptr_t)rt_ctx_call;
    if (!in_ctx) {
        atomic_fetch_add(&hits_elsewhere, 1);
        return;
    }
    atomic_fetch_add(&hits_in_ctx, 1);
    unsigned known = 0;
    while (known < hit_ip_count && hit_ips[known] != ip)
        known++;
    if (known == hit_ip_count && known < 64) {
        hit_ips[known] = ip;
        hit_ip_count++;
    }
    int at = trace_find(&trace, (void *)fn, 0);
    if (at < 0)
        hit_problem = "the interrupted routine is not in its own backtrace";
    else if (fn == (uintptr_t)rt_ctx_entry && !trace_ends_at_entry(&trace))
        hit_problem = "a backtrace goes on behind rt_ctx_entry";
    else if (fn != (uintptr_t)rt_ctx_entry) {
        uintptr_t caller = trace.fns[at + 1];
        if (caller == (uintptr_t)co_side && !trace_ends_at_entry(&trace))
            hit_problem = "a coroutine's chain does not end at rt_ctx_entry";
        else if (caller == (uintptr_t)main_side && !trace.clean)
            hit_problem = "a thread's chain does not end";
        else if (caller != (uintptr_t)co_side && caller != (uintptr_t)main_side &&
                 caller != (uintptr_t)rt_ctx_entry && caller != (uintptr_t)co_start)
            hit_problem = "the caller is wrong";
    }
}

static void hits_start(int signo) {
    atomic_store(&hits_in_ctx, 0);
    atomic_store(&hits_elsewhere, 0);
    atomic_store(&hit_ip_count, 0);
    hit_problem = NULL;
    struct sigaction action = {.sa_sigaction = on_hit, .sa_flags = SA_SIGINFO | SA_RESTART};
    assert_int_equal(sigaction(signo, &action, NULL), 0);
}

/* The trap flag of x86-64: a SIGTRAP after each instruction. Flags are no part of a context, so it
 * stays set over the switches. The stack pointer first leaves the red zone. */
static void each_instruction_of_a_switch_unwinds(void **state) {
#if defined(__x86_64__) && !defined(RT_HAS_TSAN)
    hits_start(SIGTRAP);
    co_sp = rt_ctx_init(co_stack + sizeof co_stack, co_loops, NULL);
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; orq $0x100, (%%rsp); popfq;"
                     "lea 128(%%rsp), %%rsp" ::
                         : "memory", "cc");
    main_side(); /* by way of rt_ctx_entry */
    main_side();
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; andq $~0x100, (%%rsp); popfq;"
                     "lea 128(%%rsp), %%rsp" ::
                         : "memory", "cc");
    signal(SIGTRAP, SIG_DFL);
    if (atomic_load(&hits_in_ctx) + atomic_load(&hits_elsewhere) == 0) {
        print_message("skipped: nothing steps here\n");
        skip();
    }
    if (hit_problem)
        fail_msg("%s", hit_problem);
    /* 16 instructions of rt_ctx_switch, 3 of rt_ctx_entry (its nop and its last are never reached) and
     * 15 of rt_ctx_call. */
    assert_int_equal(hit_ip_count, 16 + 3 + 15);
#else
    print_message("skipped: needs the trap flag of x86-64, and no ThreadSanitizer\n");
    skip();
#endif
}

/* The same by chance, on any architecture, at full speed. */
static void a_storm_of_signals_during_switches_unwinds(void **state) {
    NOT_UNDER_TSAN();
    hits_start(SIGALRM);
    co_sp = rt_ctx_init(co_stack + sizeof co_stack, co_loops, NULL);
    struct itimerval often = {{.tv_usec = 200}, {.tv_usec = 200}}, never = {{0}, {0}};
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    for (int64_t until = story_soon(); atomic_load(&hits_in_ctx) < 100 && !hit_problem;) {
        assert_true(clock_mono_ns() < until);
        for (int i = 0; i < 1000; i++)
            main_side();
    }
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    signal(SIGALRM, SIG_IGN);
    if (hit_problem)
        fail_msg("%s", hit_problem);
}

/* ---- In the runtime ---- */

static void NOINLINE caller_of_foreign(struct trace *trace, rt_fn take) {
    foreign_call(take, trace);
    NO_TAIL_CALL();
}

/* Foreign code runs on the thread's stack, and its backtrace names who called it. */
static void foreign_story(void *arg) {
    static struct trace trace;
    caller_of_foreign(&trace, trace_take);
    CHECK(trace_find(&trace, trace_take, 0) == 0);
    CHECK(trace_find(&trace, rt_ctx_call, 0) > 0);
    int at = trace_find(&trace, caller_of_foreign, 0);
    CHECK(at > 1);
    CHECK(trace_find(&trace, foreign_story, (unsigned)at) == at + 1);
    CHECK(trace_ends_at_entry(&trace));
    rt_stop(0);
}

static void foreign_frame_pointer_story(void *arg) {
    static struct trace trace;
    caller_of_foreign(&trace, walk_frame_pointers);
    CHECK(trace_find(&trace, rt_ctx_call, 0) >= 0);
    CHECK(trace_find(&trace, foreign_story, 0) < 0);
    int at = trace_find(&trace, caller_of_foreign, 0);
    CHECK(at > 0);
    CHECK(trace_find(&trace, foreign_frame_pointer_story, (unsigned)at) == at + 1);
    CHECK(trace_ends_at_entry(&trace));
    rt_stop(0);
}

static void a_backtrace_of_foreign_code_names_its_coroutine(void **state) {
    story(1, foreign_story);
    story(1, foreign_frame_pointer_story);
}

static _Atomic bool samples_enough;
static _Atomic unsigned samples;

static void on_sample(int signo, siginfo_t *info, void *context) {
    struct trace trace;
    trace_take(&trace);
    if (atomic_fetch_add(&samples, 1) >= 200)
        atomic_store(&samples_enough, true);
}

static void sampled(void *arg) {
    while (!atomic_load(&samples_enough)) {
        foreign_call(nothing, NULL);
        rt_yield();
    }
    rt_stop(0);
}

/* What a sampling profiler does to a busy runtime: wherever it hits, unwinding does not crash. */
static void sampled_story(void *arg) {
    struct sigaction action = {.sa_sigaction = on_sample, .sa_flags = SA_SIGINFO | SA_RESTART};
    CHECK(sigaction(SIGPROF, &action, NULL) == 0);
    struct itimerval often = {{.tv_usec = 500}, {.tv_usec = 500}};
    CHECK(setitimer(ITIMER_PROF, &often, NULL) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(go_on((unsigned)i % 2, "sampled", sampled, NULL) == 0);
}

static void a_profiler_may_hit_anywhere(void **state) {
    NOT_UNDER_TSAN(); /* its handlers run late, at places of its choice */
    story(2, sampled_story);
}

/* ---- gdb ---- */

static void NOINLINE gdb_stops_here(void *arg) {
    NO_TAIL_CALL();
}

static void NOINLINE gdb_sees_me(void) {
    gdb_stops_here(NULL);
    foreign_call(gdb_stops_here, NULL);
    NO_TAIL_CALL();
}

static void gdb_main(void *arg) {
    gdb_sees_me();
    rt_stop(0);
}

/* gdb runs this program again, with an argument, and prints the stack at both calls. */
static void gdb_sees_whole_stacks(void **state) {
    const char *gdb = getenv("SLUICE_GDB");
    if (!gdb) {
        print_message("skipped: no gdb for this build\n");
        skip();
    }
    char self[4096], command[sizeof self + 512], text[64 * 1024];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(len > 0);
    self[len] = '\0';
    int n = snprintf(command, sizeof command,
                     "'%s' -nx -batch -iex 'set debuginfod enabled off' "
                     "-ex 'set breakpoint pending on' -ex 'break gdb_stops_here' -ex run -ex bt "
                     "-ex continue -ex bt --args '%s' gdb </dev/null 2>&1",
                     gdb, self);
    assert_true(n > 0 && (size_t)n < sizeof command);
    FILE *output = popen(command, "r");
    assert_non_null(output);
    size_t size = fread(text, 1, sizeof text - 1, output);
    text[size] = '\0';
    (void)pclose(output);
    if (strstr(text, "trace: Operation not permitted") || strstr(text, "Could not trace")) {
        print_message("skipped: this place lets nobody trace\n");
        skip();
    }
    if (strstr(text, "corrupt stack"))
        fail_msg("gdb takes a stack for corrupt:\n%s", text);
    const char *second = strstr(text, "<signal handler called>"); /* rt_ctx_call */
    const char *first_end = strstr(text, " rt_ctx_entry ()");
    if (!second || !first_end || first_end > second || !strstr(second, "gdb_sees_me ()") ||
        !strstr(second, " rt_ctx_entry ()"))
        fail_msg("gdb misses a frame:\n%s", text);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        struct rt_options options = {.p_count = 1};
        return rt_run(&options, gdb_main, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_coroutine_unwinds_to_its_entry),
        cmocka_unit_test(a_coroutine_has_a_chain_of_frame_pointers),
        cmocka_unit_test(a_suspended_coroutine_unwinds_from_outside),
        cmocka_unit_test(an_unwinder_finds_each_saved_register),
        cmocka_unit_test(a_switch_keeps_the_callee_saved_registers),
        cmocka_unit_test(each_instruction_of_a_switch_unwinds),
        cmocka_unit_test(a_storm_of_signals_during_switches_unwinds),
        cmocka_unit_test(a_backtrace_of_foreign_code_names_its_coroutine),
        cmocka_unit_test(a_profiler_may_hit_anywhere),
        cmocka_unit_test(gdb_sees_whole_stacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
