/* crash_walk.c: from a fault to who called, however it was brought about. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "crash/crash_walk.h"
#include "rt/signals.h"

enum { FRAMES_MAX = 64 };

static uintptr_t pcs[FRAMES_MAX];
static unsigned count;
static sigjmp_buf after;
static volatile uintptr_t zero;
static bool spoils_frame_pointer;

static void on_fault(int signo, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    if (spoils_frame_pointer)
#ifdef __x86_64__
        uc->uc_mcontext.gregs[REG_RBP] = 8;
#else
        uc->uc_mcontext.regs[29] = 8;
#endif
    count = crash_walk(uc, pcs, FRAMES_MAX);
    siglongjmp(after, 1);
}

/* The functions stand by themselves, and not at the end of another: a call of theirs has a frame. */
static NOINLINE void writes_nowhere(void) {
    *(volatile int *)(zero + 8) = 1;
    zero = 0;
}

static NOINLINE void calls_nothing(void) {
    ((void (*)(void))zero)();
    zero = 0;
}

static int compare_nowhere(const void *a, const void *b) {
    writes_nowhere();
    return *(const char *)a - *(const char *)b;
}

static NOINLINE void sorts(void) {
    char letters[] = "ba";
    qsort(letters, 2, 1, compare_nowhere);
    zero = 0;
}

static bool is_in(uintptr_t pc, void (*function)(void)) {
    enum { SIZE = 512 }; /* of those above, with a sanitizer's code */
    return pc > (uintptr_t)function && pc < (uintptr_t)function + SIZE;
}

static bool has(void (*function)(void), unsigned from) {
    for (unsigned i = from; i < count; i++)
        if (is_in(pcs[i], function))
            return true;
    return false;
}

/* Its handler in place of cmocka's. */
static void run(void (*function)(void)) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction former;
    assert_int_equal(signals_thread_init(), 0);
    assert_int_equal(sigaction(SIGSEGV, &action, &former), 0);
    count = 0;
    if (sigsetjmp(after, 1) == 0)
        function();
    assert_int_equal(sigaction(SIGSEGV, &former, NULL), 0);
}

static void test_it_stands_where_it_faulted(void **state) {
    run(writes_nowhere);
    assert_true(is_in(pcs[0], writes_nowhere) || pcs[0] == (uintptr_t)writes_nowhere);
    assert_true(has((void (*)(void))(uintptr_t)run, 1));
}

static void test_a_call_of_nothing_has_a_caller(void **state) {
    run(calls_nothing);
    assert_int_equal(pcs[0], 0);
    assert_true(count > 2 && is_in(pcs[1], calls_nothing));
    assert_true(has((void (*)(void))(uintptr_t)run, 2));
}

static void test_it_goes_through_the_c_library(void **state) {
    run(sorts);
    assert_true(has((void (*)(void))(uintptr_t)compare_nowhere, 1));
    assert_true(has(sorts, 2));
    assert_true(has((void (*)(void))(uintptr_t)run, 3));
}

static void test_a_register_that_is_wrong_is_not_followed(void **state) {
    spoils_frame_pointer = true;
    run(writes_nowhere);
    spoils_frame_pointer = false;
    assert_true(count >= 1);
    assert_true(is_in(pcs[0], writes_nowhere) || pcs[0] == (uintptr_t)writes_nowhere);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_stands_where_it_faulted),
        cmocka_unit_test(test_a_call_of_nothing_has_a_caller),
        cmocka_unit_test(test_it_goes_through_the_c_library),
        cmocka_unit_test(test_a_register_that_is_wrong_is_not_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
