/* native_fault.c: which faults of somebody else's code end a call of it, and which end the process. The "plug-in" is
 * what stands in a section of this program. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../rt/rt_story.h"
#include "ext/native/native_fault.h"
#include "rt/foreign.h"
#include "rt/signals.h"
#include "rt/stack_call.h"
#include "rt/sync.h"

/* Its code is not instrumented, as a plug-in's is not. */
#define PLUGIN                                                                                     \
    __attribute__((section("plugin"), noinline, used,                                              \
                   no_sanitize("address", "thread", "undefined")))
extern const char __start_plugin[], __stop_plugin[];

static struct native_text text;
static volatile int zero;
static int *volatile nowhere;

/* ---- The plug-in ---- */

struct deed {
    void (*fn)(struct deed *deed);
    struct native_fault inner;
    int sum;
};

static PLUGIN void writes_nowhere(struct deed *deed) {
    *nowhere = deed->sum;
}

static PLUGIN void writes_nowhere_deeper(struct deed *deed) {
    writes_nowhere(deed);
    deed->sum++;
}

/* __builtin_trap is a breakpoint on aarch64, which is a debugger's. */
static PLUGIN void traps(struct deed *deed) {
#ifdef __aarch64__
    __asm__ volatile(".inst 0");
#else
    __builtin_trap();
#endif
}

static PLUGIN int dig(int depth) {
    volatile char hole[128];
    hole[0] = (char)depth;
    return zero ? 0 : dig(depth + 1) + hole[0];
}

static PLUGIN void overflows(struct deed *deed) {
    deed->sum = dig(1);
}

static PLUGIN void waits_and_writes(struct deed *deed) {
    for (int i = 0; i < 3; i++)
        deed->sum += rt_sleep_until(clock_mono_ns() + NS_PER_MS);
    *nowhere = deed->sum;
}

static PLUGIN void is_fine(struct deed *deed) {
    deed->sum += 5;
}

/* ---- Others' code ---- */

static NOINLINE void host_writes(struct deed *deed) {
    *(volatile int *)nowhere = deed->sum;
}

static PLUGIN void has_the_host_write(struct deed *deed) {
    host_writes(deed);
    deed->sum++;
}

static NOINLINE void host_calls_back(struct deed *deed) {
    writes_nowhere(deed);
    deed->sum++;
}

static PLUGIN void is_called_back(struct deed *deed) {
    host_calls_back(deed);
    deed->sum++;
}

static NATIVE_ENTER void enter(void *arg) {
    struct deed *deed = arg;
    deed->fn(deed);
    NATIVE_ENTERED();
}

static void begin(void) {
    text.count = 1;
    text.segments[0].start = (uintptr_t)__start_plugin;
    text.segments[0].end = (uintptr_t)__stop_plugin;
    static const int crashes[] = {SIGSEGV, SIGILL, SIGBUS,
                                  SIGFPE}; /* cmocka's handlers go on in the child */
    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++)
        CHECK(signal(crashes[i], SIG_DFL) != SIG_ERR);
    CHECK(signals_init() == 0);
    native_fault_init();
}

static bool does(void (*fn)(struct deed *deed), struct native_fault *fault) {
    struct deed deed = {.fn = fn};
    return native_call(&text, enter, &deed, fault);
}

/* ---- Stories ---- */

static NOINLINE void a_few_faults(void *arg) {
    struct native_fault fault;
    for (int i = 0; i < 3; i++) {
        CHECK(!does(writes_nowhere_deeper, &fault));
        CHECK(fault.signo == SIGSEGV && fault.address == 0 && !fault.is_overflow);
        CHECK(fault.count == 2);
        CHECK(fault.pcs[0] - (uintptr_t)writes_nowhere < 64);
        CHECK(fault.pcs[1] - (uintptr_t)writes_nowhere_deeper < 64);
        CHECK(!does(traps, &fault) && (fault.signo == SIGILL || fault.signo == SIGTRAP));
        CHECK(!does(overflows, &fault) && fault.is_overflow);
        CHECK(fault.count == NATIVE_FAULT_FRAMES);
        CHECK(!does(waits_and_writes, &fault) && fault.signo == SIGSEGV);
        CHECK(does(is_fine, &fault));
    }
}

static void on_a_coroutine(void *arg) {
    begin();
    a_few_faults(NULL);
    CHECK(stack_call(1 << 20, a_few_faults, NULL) == 0);
    a_few_faults(NULL);
    rt_stop(0);
}

static void faults_end_the_call_on_small_and_on_large_stacks(void **state) {
    story(2, on_a_coroutine);
}

/* The plug-in asks us for something for which we call it: the inner call ends, the outer goes on. */
static NOINLINE void host_calls_again(struct deed *deed) {
    CHECK(!does(writes_nowhere, &deed->inner));
}

static PLUGIN void nests(struct deed *deed) {
    host_calls_again(deed);
    deed->sum = 7;
}

static PLUGIN void nests_and_writes(struct deed *deed) {
    host_calls_again(deed);
    *nowhere = deed->sum;
}

static void nested(void *arg) {
    struct native_fault fault;
    struct deed deed = {.fn = nests};
    begin();
    CHECK(native_call(&text, enter, &deed, &fault));
    CHECK(deed.sum == 7 && deed.inner.signo == SIGSEGV);
    CHECK(!does(nests_and_writes, &fault) && fault.count == 1);
    CHECK(does(is_fine, &fault));
    rt_stop(0);
}

static void the_innermost_call_is_ended(void **state) {
    story(1, nested);
}

static void blocks(void *arg) {
    struct native_fault fault;
    CHECK(!does(writes_nowhere, &fault));
    CHECK(!does(overflows, &fault) && fault.is_overflow);
    CHECK(does(is_fine, &fault));
}

static void elsewhere(void *arg) {
    begin();
    CHECK(blocking_call(blocks, NULL) == 0);
    foreign_call(blocks, NULL);
    rt_stop(0);
}

static void so_are_calls_on_threads(void **state) {
    story(1, elsewhere);
}

/* ---- What is not caught ---- */

static void dies_in_the_host(void *arg) {
    struct native_fault fault;
    begin();
    (void)!does(has_the_host_write, &fault);
    rt_stop(0);
}

static void dies_below_the_host(void *arg) {
    struct native_fault fault;
    begin();
    (void)!does(is_called_back, &fault);
    rt_stop(0);
}

static void dies_outside_a_call(void *arg) {
    struct deed deed = {.sum = 1};
    struct native_fault fault;
    begin();
    CHECK(does(is_fine, &fault));
    writes_nowhere(&deed);
    rt_stop(0);
}

static _Atomic bool spinning;

static PLUGIN void spins(struct deed *deed) {
    spinning = true;
    while (!zero)
        continue;
}

static void *sends(void *arg) {
    while (!spinning)
        continue;
    CHECK(pthread_kill(*(pthread_t *)arg, SIGSEGV) == 0);
    return NULL;
}

static void dies_of_one_that_was_sent(void *arg) {
    static pthread_t self, sender;
    struct native_fault fault;
    begin();
    self = pthread_self();
    CHECK(pthread_create(&sender, NULL, sends, &self) == 0);
    (void)!does(spins, &fault);
    rt_stop(0);
}

/* Which a sanitizer ends by a signal or by a status of its own. */
static void died(rt_fn body) {
    int status = story_status(1, body);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
    assert_false(WIFEXITED(status) && (WEXITSTATUS(status) == 98 || WEXITSTATUS(status) == 99));
}

static void with_others_code_in_between_it_is_a_crash(void **state) {
    died(dies_in_the_host);
    died(dies_below_the_host);
    died(dies_outside_a_call);
    died(dies_of_one_that_was_sent);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_end_the_call_on_small_and_on_large_stacks),
        cmocka_unit_test(the_innermost_call_is_ended),
        cmocka_unit_test(so_are_calls_on_threads),
        cmocka_unit_test(with_others_code_in_between_it_is_a_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
