/* stack.c, stack_big.c, guard.c: what a million coroutines cost, what comes back once they have ended,
 * and what is said of one that needs more than it has. The clock is ours to move (--wrap), and so is
 * what the kernel thinks of guards. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "crash_story.h"
#include "rt/rt_internal.h"
#include "rt_story.h"

#if defined(RT_HAS_ASAN)
enum { MANY = 20 * 1000, MANY_LONG = 200 * 1000, HAS_SHADOW = 1 };
#elif defined(RT_HAS_TSAN)
/* It holds about 8,000 fibers, of a megabyte and several mappings each. */
enum { MANY = 500, MANY_LONG = 4000, HAS_SHADOW = 1 };
#else
enum { MANY = 100 * 1000, MANY_LONG = 1000 * 1000, HAS_SHADOW = 0 };
#endif
enum { MANY_EMULATED = 10 * 1000 }; /* no emulator knows guards but those of mprotect */

static bool says_yes(const char *variable) {
    const char *text = getenv(variable);
    return text && strcmp(text, "yes") == 0;
}

/* What the process uses is what we use. */
static bool is_plain(void) {
    return !HAS_SHADOW && !says_yes("SLUICE_EMULATED");
}

static unsigned how_many(void) {
    if (says_yes("SLUICE_EMULATED"))
        return MANY_EMULATED;
    return says_yes("SLUICE_LONG") ? MANY_LONG : MANY;
}

/* ---- The world, bent ---- */

static _Atomic int64_t clock_ahead_ns;

int64_t __real_clock_mono_ns(void);
int64_t __wrap_clock_mono_ns(void);
int64_t __wrap_clock_mono_ns(void) {
    return __real_clock_mono_ns() + atomic_load(&clock_ahead_ns);
}

enum { ADVICE_GUARD_INSTALL = 102 };
static enum { GUARDS_WORK, GUARDS_UNKNOWN, GUARDS_PRETENDED } guards;
static _Atomic unsigned guards_asked;

int __real_madvise(void *addr, size_t length, int advice);
int __wrap_madvise(void *addr, size_t length, int advice);
int __wrap_madvise(void *addr, size_t length, int advice) {
    if (advice != ADVICE_GUARD_INSTALL)
        return __real_madvise(addr, length, advice);
    atomic_fetch_add(&guards_asked, 1);
    if (guards == GUARDS_PRETENDED)
        return 0;
    if (guards == GUARDS_UNKNOWN) {
        errno = EINVAL;
        return -1;
    }
    return __real_madvise(addr, length, advice);
}

static size_t resident_bytes(void) {
    unsigned long size, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file);
    CHECK(fscanf(file, "%lu %lu", &size, &resident) == 2);
    (void)fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static unsigned mapping_count(void) {
    unsigned count = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    CHECK(file);
    for (int c; (c = getc(file)) != EOF;)
        count += c == '\n';
    (void)fclose(file);
    return count;
}

static bool is_in_memory(const char *addr) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char in_core;
    CHECK(mincore((void *)((uintptr_t)addr & ~(page - 1)), 1, &in_core) == 0);
    return in_core & 1;
}

/* Processor time: these figures are for people, and the machine may be busy. */
static double used_us(void) {
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static struct p *here(void) {
    return p_self();
}

/* ---- Many ---- */

static struct wait_queue crowd;
static unsigned crowd_waiting, crowd_left;

static void joins_the_crowd(void *arg) {
    crowd_waiting++;
    CHECK(wait_queue_wait(&crowd, "in the crowd", RT_FOREVER) == 0);
    crowd_left++;
}

static void trim_all(int64_t now_ns) {
    for (int64_t next_ns; (next_ns = stack_trim(here(), now_ns)) != RT_FOREVER;) {
        CHECK(next_ns > now_ns);
        now_ns = next_ns;
    }
}

static void crowd_story(void *arg) {
    unsigned many = how_many();
    wait_queue_init(&crowd);
    size_t resident_before = resident_bytes();
    unsigned mappings_before = mapping_count();
    double start_us = used_us();
    for (unsigned i = 0; i < many; i++)
        CHECK(go_here("one of many", joins_the_crowd, NULL) == 0);
    double spawned_us = used_us();
    while (crowd_waiting < many)
        rt_yield();
    double parked_us = used_us();

    double each_bytes = (double)(resident_bytes() - resident_before) / many;
    unsigned mappings = mapping_count() - mappings_before;
    fprintf(stderr,
            "%u coroutines parked: %.0f bytes each, %u mappings, %.2f us to start and %.2f us to "
            "park each\n",
            many, each_bytes, mappings, (spawned_us - start_us) / many,
            (parked_us - spawned_us) / many);
    struct rt_stats stats;
    rt_stats(&stats);
    CHECK(stats.stacks >= many + 1);
    CHECK(stats.stacks <= many + 1 + 64 + 32);
    CHECK(!is_plain() || mappings <= many / 64 + 16);
    CHECK(!is_plain() || each_bytes <= 4.5 * 1024);

    wait_queue_wake_all(&crowd);
    while (crowd_left < many)
        rt_yield();
    start_us = used_us();
    trim_all(clock_mono_ns() + STACK_IDLE_NS + NS_PER_S);
    double trimmed_us = used_us();
    rt_stats(&stats);
    CHECK(stats.stacks_free == stats.stacks - 1);
    struct stack_stats cold;
    stack_stats(&cold);
    CHECK(cold.free_cold == cold.free);
    double left_bytes = ((double)resident_bytes() - (double)resident_before) / many;
    fprintf(stderr, "%.0f bytes each after the trim, %.2f us each\n", left_bytes,
            (trimmed_us - start_us) / many);
    CHECK(!is_plain() || left_bytes < 256);
    _exit(0); /* LeakSanitizer would look at each of the stacks, for minutes */
}

static void a_coroutine_costs_a_page_and_gives_it_back(void **state) {
    story(1, crowd_story);
}

/* ---- Trim ---- */

static unsigned workers_left;

static void NOINLINE touch(size_t bytes) {
    char frame[2048];
    memset(frame, 0x5a, sizeof frame);
    __asm__ volatile("" : : "r"(frame) : "memory");
    if (bytes > sizeof frame)
        touch(bytes - sizeof frame);
    __asm__ volatile("" : : "r"(frame) : "memory"); /* no tail call */
}

static void touches_much(void *arg) {
    touch((size_t)(uintptr_t)arg);
    rt_yield();
    workers_left--;
}

static void run_workers(unsigned count, size_t touched_bytes, size_t stack_size) {
    struct go_options options = {.name = "worker", .place = RT_HERE, .stack_size = stack_size};
    workers_left = count;
    for (unsigned i = 0; i < count; i++)
        CHECK(go_with(&options, touches_much, (void *)touched_bytes) == 0);
    while (workers_left > 0)
        rt_yield();
}

enum { WORKERS = 500, TOUCHED = 20 * 1024 };

static void minute_story(void *arg) {
    size_t before = resident_bytes();
    run_workers(WORKERS, TOUCHED, 0);
    struct stack_stats stats;
    stack_stats(&stats);
    CHECK(stats.free >= WORKERS);
    CHECK(stats.free - stats.free_cold >= WORKERS);
    CHECK(!is_plain() || resident_bytes() - before > (size_t)WORKERS * TOUCHED);
    CHECK(timer_is_armed(&here()->stacks.trim));

    atomic_store(&clock_ahead_ns, STACK_IDLE_NS / 2); /* not yet */
    CHECK(rt_sleep_until(clock_mono_ns() + 1) == 0);
    uint64_t cold_before = stats.free_cold;
    stack_stats(&stats);
    CHECK(stats.free_cold <= cold_before);

    atomic_store(&clock_ahead_ns, STACK_IDLE_NS + NS_PER_S);
    do {
        CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
        atomic_fetch_add(&clock_ahead_ns, STACK_TRIM_PAUSE_NS);
        stack_stats(&stats);
    } while (stats.free_cold < stats.free);
    CHECK(!is_plain() || resident_bytes() - before < (size_t)WORKERS * TOUCHED / 10);

    /* Nothing ticks any more: this P has no timer but the one we sleep on. */
    while (timer_is_armed(&here()->stacks.trim)) {
        CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
        atomic_fetch_add(&clock_ahead_ns, STACK_TRIM_PAUSE_NS);
    }
    CHECK(here()->wheel.levels == 0);

    run_workers(WORKERS, TOUCHED, 0); /* in the same stacks */
    uint64_t stacks = stats.stacks;
    stack_stats(&stats);
    CHECK(stats.stacks == stacks);
    rt_stop(0);
}

static void stacks_idle_for_a_minute_give_their_memory_back(void **state) {
    story(1, minute_story);
}

enum { HELD = 600, HOT = 100 };

/* Takes and gives by hand, with times of its own. */
static void age_story(void *arg) {
    struct p *p = here();
    static struct g *gs[HELD];
    for (unsigned i = 0; i < HELD; i++) {
        gs[i] = stack_get(p, 0);
        CHECK(gs[i]);
        gs[i]->sp = gs[i]->stack + gs[i]->stack_size;
        gs[i]->stack[0] = 'x';
    }
    int64_t start_ns = clock_mono_ns();
    for (unsigned i = 0; i < HELD; i++) {
        /* The last ones are freed half a minute after the others. */
        p->now_ns = start_ns + (i < HELD - HOT ? 0 : STACK_IDLE_NS / 2);
        stack_put(p, gs[i]);
    }
    CHECK(stack_trim(p, start_ns + STACK_IDLE_NS - 1) > start_ns);
    CHECK(gs[0]->stack);

    unsigned steps = 1;
    int64_t now_ns = start_ns + STACK_IDLE_NS, next_ns;
    while ((next_ns = stack_trim(p, now_ns)) == now_ns + STACK_TRIM_PAUSE_NS) {
        now_ns = next_ns;
        steps++;
    }
    CHECK(steps >= (HELD - HOT) / STACK_TRIM_STEP);
    unsigned cold = 0;
    for (unsigned i = 0; i < HELD; i++) {
        bool is_cold = gs[i]->stack == NULL; /* reads as zero */
        CHECK(is_cold == (i < HELD - HOT));
        CHECK(is_cold || gs[i]->stack[0] == 'x');
        CHECK(atomic_load(&gs[i]->state) == G_FREE);
        cold += is_cold;
    }
    struct stack_stats stats;
    stack_stats(&stats);
    CHECK(stats.free_cold >= cold);
    CHECK(next_ns > now_ns);
    CHECK(next_ns <= start_ns + STACK_IDLE_NS / 2 + STACK_IDLE_NS);
    trim_all(start_ns + 2 * STACK_IDLE_NS);
    rt_stop(0);
}

static void a_trim_leaves_alone_what_is_hot(void **state) {
    story(1, age_story);
}

/* ---- Big stacks ---- */

enum { BIG = 1024 * 1024, BIG_TOUCHED = 900 * 1024 };

static struct g *seen_g;
static void remembers_itself(void *arg) {
    touch(BIG_TOUCHED);
    seen_g = rt_self();
    workers_left--;
}

static void big_story(void *arg) {
    struct go_options options = {.name = "big", .place = RT_HERE, .stack_size = BIG};
    workers_left = 1;
    CHECK(go_with(&options, remembers_itself, NULL) == 0);
    while (workers_left > 0)
        rt_yield();
    rt_yield();
    struct g *first = seen_g;
    char *stack = first->stack;
    CHECK(first->stack_size >= BIG);
    CHECK(is_in_memory(stack + first->stack_size - 1));
    CHECK(!is_in_memory(stack + first->stack_size - BIG_TOUCHED)); /* gone already */
    workers_left = 1;
    CHECK(go_with(&options, remembers_itself, NULL) == 0);
    while (workers_left > 0)
        rt_yield();
    CHECK(seen_g == first); /* the mapping is used again */
    CHECK(first->stack == stack);

    run_workers(50, BIG_TOUCHED, BIG);
    run_workers(20, 0, RT_STACK_MAX);
    run_workers(1, 0, RT_STACK_SIZE + 1);
    struct stack_stats stats;
    stack_stats(&stats);
    CHECK(stats.stacks - stats.free == 1); /* ours */
    uint64_t stacks = stats.stacks;
    trim_all(clock_mono_ns() + STACK_IDLE_NS + NS_PER_S);
    stack_stats(&stats);
    CHECK(stats.free_cold == stats.free);
    CHECK(!is_in_memory(stack + first->stack_size - 1));
    CHECK(atomic_load(&first->state) == G_FREE); /* a late look */
    run_workers(50, BIG_TOUCHED, BIG);           /* cold ones */
    stack_stats(&stats);
    CHECK(stats.stacks == stacks);
    workers_left = 1;
    CHECK(go_with(&options, remembers_itself, NULL) == 0);
    while (workers_left > 0)
        rt_yield();

    options.stack_size = RT_STACK_MAX + 1;
    CHECK(go_with(&options, remembers_itself, NULL) == -EINVAL);
    rt_stop(0);
}

static void a_runtime_of_unreasonable_stacks_does_not_start(void **state) {
    struct rt_options options = {.p_count = 1, .stack_size = 4096};
    assert_int_equal(rt_run(&options, big_story, NULL), -EINVAL);
    options.stack_size = RT_STACK_MAX + 1;
    assert_int_equal(rt_run(&options, big_story, NULL), -EINVAL);
}

static void a_big_stack_is_there_for_who_asks(void **state) {
    story(1, big_story);
}

/* ---- Limits ---- */

static unsigned spawn_until_refused(size_t stack_size) {
    struct go_options options = {.name = "one of many", .place = RT_HERE, .stack_size = stack_size};
    unsigned count = 0;
    int err;
    while ((err = go_with(&options, joins_the_crowd, NULL)) == 0)
        count++;
    CHECK(err == -ENOMEM);
    return count;
}

static void everybody_leaves(unsigned count) {
    while (crowd_waiting < count)
        rt_yield();
    wait_queue_wake_all(&crowd);
    while (crowd_left < count)
        rt_yield();
    crowd_waiting = crowd_left = 0;
}

static void limit_story(void *arg) {
    wait_queue_init(&crowd);
    run_workers(100, 0, 0);
    struct rlimit limit = {.rlim_cur = 1UL << 30, .rlim_max = RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    for (int round = 0; round < 3; round++) {
        unsigned small = spawn_until_refused(0);
        unsigned big = spawn_until_refused(BIG);
        CHECK(small > 5000);
        everybody_leaves(small + big);
    }
    limit.rlim_cur = RLIM_INFINITY;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    run_workers(20 * 1000, 0, 0);
    rt_stop(0);
}

static void past_the_limit_of_address_space_go_says_so(void **state) {
    if (!is_plain())
        skip(); /* shadow memory is address space */
    story(1, limit_story);
}

static void mapping_limit_story(void *arg) {
    wait_queue_init(&crowd);
    unsigned first = spawn_until_refused(0);
    fprintf(stderr, "%u coroutines with mprotected guards\n", first);
    CHECK(first > 10 * 1000);
    unsigned big = spawn_until_refused(BIG);
    everybody_leaves(first + big);
    unsigned again = spawn_until_refused(0);
    CHECK(again >= first);
    everybody_leaves(again);
    rt_stop(0);
}

static void past_the_limit_of_mappings_go_says_so(void **state) {
    if (!is_plain())
        skip(); /* needs 32,000 coroutines */
    guards = GUARDS_UNKNOWN;
    story(1, mapping_limit_story);
    guards = GUARDS_WORK;
}

/* ---- Guards ---- */

static volatile bool is_deep_enough; /* never set; the compiler cannot know */

/* Exported, so that backtrace_symbols_fd knows their names. */
#define EXPORTED __attribute__((visibility("default")))
EXPORTED int endless_recursion(volatile char *above);
EXPORTED int endless_leaps(volatile char *above);

EXPORTED int NOINLINE endless_recursion(volatile char *above) {
    volatile char frame[512];
    frame[0] = above ? above[0] : 0;
    return is_deep_enough ? 0 : endless_recursion(frame) + frame[0];
}

/* Its frame is several guards large, and touched at the low end only. */
EXPORTED int NOINLINE endless_leaps(volatile char *above) {
    volatile char frame[5 * 4096];
    frame[0] = above ? above[0] : 0;
    return is_deep_enough ? 0 : endless_leaps(frame) + frame[0];
}

static void overflows(void *arg) {
    printf("%d", endless_recursion(NULL));
}

static void overflows_in_leaps(void *arg) {
    printf("%d", endless_leaps(NULL));
}

static void start_deep_thinker(rt_fn fn, size_t stack_size) {
    struct go_options options = {
        .name = "deep thinker", .place = RT_HERE, .stack_size = stack_size};
    CHECK(go_with(&options, fn, NULL) == 0);
}

static void overflow_body(void *arg) {
    start_deep_thinker(overflows, 0);
}

static void leap_body(void *arg) {
    start_deep_thinker(overflows_in_leaps, 0);
}

static void big_overflow_body(void *arg) {
    start_deep_thinker(overflows, BIG);
}

static void fallback_overflow_body(void *arg) {
    CHECK(guards_asked == 1); /* no means no: asked once for main's stack */
    start_deep_thinker(overflows, 0);
}

static void assert_overflow(rt_fn body, const char *function) {
    assert_died(crash_status(body), SIGSEGV);
    assert_said("coroutine stack overflow in deep thinker");
    unsigned frames = 0;
    for (const char *at = crash_text; (at = strstr(at, function)); at++)
        frames++;
    assert_true(frames >= 3);
}

static void an_overflow_names_its_coroutine_and_its_functions(void **state) {
    assert_overflow(overflow_body, "endless_recursion");
    assert_overflow(leap_body, "endless_leaps");
    assert_overflow(big_overflow_body, "endless_recursion");
}

static void without_guard_advice_pages_are_protected(void **state) {
    guards = GUARDS_UNKNOWN;
    assert_overflow(fallback_overflow_body, "endless_recursion");
    assert_overflow(big_overflow_body, "endless_recursion");
    guards = GUARDS_PRETENDED; /* as emulators do */
    assert_overflow(fallback_overflow_body, "endless_recursion");
    assert_overflow(leap_body, "endless_leaps");
    guards = GUARDS_WORK;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_coroutine_costs_a_page_and_gives_it_back),
        cmocka_unit_test(stacks_idle_for_a_minute_give_their_memory_back),
        cmocka_unit_test(a_trim_leaves_alone_what_is_hot),
        cmocka_unit_test(a_big_stack_is_there_for_who_asks),
        cmocka_unit_test(a_runtime_of_unreasonable_stacks_does_not_start),
        cmocka_unit_test(past_the_limit_of_address_space_go_says_so),
        cmocka_unit_test(past_the_limit_of_mappings_go_says_so),
        cmocka_unit_test(an_overflow_names_its_coroutine_and_its_functions),
        cmocka_unit_test(without_guard_advice_pages_are_protected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
