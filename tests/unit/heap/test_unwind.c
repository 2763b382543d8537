/* Stacks by unwind tables: through code of any shape, to the end of a coroutine or a thread. */
#include "heap_story.h"

#include <setjmp.h>
#include <signal.h>
#include <stdalign.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "heap/unwind.h"
#include "rt/foreign.h"
#include "rt/rt.h"

#define PART(name) NOINLINE __attribute__((section("part_" #name)))
#define PART_ENDS(name)                                                                            \
    extern const char __start_part_##name[] __attribute__((visibility("hidden")));                 \
    extern const char __stop_part_##name[] __attribute__((visibility("hidden")))

PART_ENDS(look);
PART_ENDS(outer);
PART_ENDS(shape);

static uintptr_t pcs[HEAP_STACK_MAX];
static unsigned depth;

static bool is_in(uintptr_t pc, const char *start, const char *stop) {
    return pc > (uintptr_t)start && pc <= (uintptr_t)stop;
}

static PART(look) void look(void) {
    /* One story calls it from a signal's handler; by raise, which is as good as a call. */
    depth = unwind_after(NULL, pcs, HEAP_STACK_MAX); /* NOLINT(bugprone-signal-handler) */
    __asm__ volatile("" : : : "memory");             /* no tail call */
}

/* Where in the stack a part is, from the inside; -1: nowhere. */
static int place(const char *start, const char *stop) {
    for (unsigned i = 0; i < depth; i++) {
        if (is_in(pcs[i], start, stop))
            return (int)i;
    }
    return -1;
}

static void check_order(void) {
    int inner = place(__start_part_look, __stop_part_look);
    int middle = place(__start_part_shape, __stop_part_shape);
    int outer = place(__start_part_outer, __stop_part_outer);
    CHECK(inner == 0);
    CHECK(middle > inner);
    CHECK(outer > middle);
}

static PART(outer) void call(void (*shape)(void)) {
    shape();
    __asm__ volatile("" : : : "memory");
}

/* ---- Shapes ---- */

static PART(shape) void plain(void) {
    look();
    __asm__ volatile("" : : : "memory");
}

/* Its CFA is an expression. */
static PART(shape) void aligned(void) {
    alignas(64) volatile char line[64];
    line[0] = 1;
    look();
    line[1] = line[0];
}

static volatile size_t room = 5000;

static PART(shape) void of_any_size(void) {
    volatile char *bytes = __builtin_alloca(room);
    bytes[0] = 1;
    look();
    bytes[1] = bytes[0];
}

/* Larger than what fits one word of what is remembered. */
static PART(shape) void huge(void) {
    volatile char bytes[100000];
    bytes[0] = 1;
    look();
    bytes[1] = bytes[0];
}

static int compare(const void *one, const void *other) {
    look();
    return *(const char *)one - *(const char *)other;
}

/* libc keeps no frame pointers. */
static PART(shape) void through_libc(void) {
    char two[2] = {2, 1};
    qsort(two, 2, 1, compare);
    CHECK(two[0] == 1);
}

static void look_by_signal(int number) {
    look();
}

static PART(shape) void interrupted(void) {
    signal(SIGUSR1, look_by_signal);
    raise(SIGUSR1);
    __asm__ volatile("" : : : "memory");
}

static void (*const shapes[])(void) = {plain, aligned,      of_any_size,
                                       huge,  through_libc, interrupted};

static void test_a_walk_goes_through_frames_of_any_shape(void **state) {
    for (unsigned twice = 0; twice < 2; twice++) { /* the second time rows are remembered */
        for (unsigned i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            /* Where the kernel has no code of its own in a process, as under an emulator, what calls a handler has no
             * table. */
            if (shapes[i] == interrupted && getauxval(AT_SYSINFO_EHDR) == 0)
                continue;
            call(shapes[i]);
            check_order();
        }
    }
}

static unsigned to_go;

static PART(shape) void deeper(void) {
    if (to_go-- == 0)
        look();
    else
        deeper();
    __asm__ volatile("" : : : "memory");
}

static void test_a_deep_stack_is_cut_at_its_outer_end(void **state) {
    to_go = 1000;
    call(deeper);
    assert_int_equal(depth, HEAP_STACK_MAX);
    assert_true(is_in(pcs[0], __start_part_look, __stop_part_look));
    for (unsigned i = 1; i < depth; i++)
        assert_true(is_in(pcs[i], __start_part_shape, __stop_part_shape));
}

static PART(outer) unsigned after_caller(void) {
    depth = unwind_after(__builtin_return_address(0), pcs, HEAP_STACK_MAX);
    return depth;
}

static PART(shape) void ask_after(void) {
    CHECK(after_caller() > 0);
    __asm__ volatile("" : : : "memory");
}

static void test_a_walk_begins_where_it_is_told(void **state) {
    call(ask_after);
    assert_true(is_in(pcs[0], __start_part_shape, __stop_part_shape));
    assert_true(is_in(pcs[1], __start_part_outer, __stop_part_outer));
}

/* ---- Ends ---- */

static void *look_on_thread(void *arg) {
    call(plain);
    return NULL;
}

static void test_a_thread_ends_where_it_was_started(void **state) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, look_on_thread, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    check_order();
    assert_true(depth >= 4 && depth <= 8);
}

static void look_in_foreign_code(void *arg) {
    call(plain);
}

static NOINLINE __attribute__((section("part_coroutine"))) void on_coroutine(void *arg) {
    call(plain);
    check_order();
    CHECK(depth <= 8); /* look, plain, call, this, g_main, rt_ctx_entry */
    unsigned own = depth;
    foreign_call(look_in_foreign_code, NULL); /* on the thread's stack */
    check_order();
    CHECK(depth > own && depth <= own + 8);
    extern const char __start_part_coroutine[] __attribute__((visibility("hidden")));
    extern const char __stop_part_coroutine[] __attribute__((visibility("hidden")));
    CHECK(place(__start_part_coroutine, __stop_part_coroutine) >
          place(__start_part_outer, __stop_part_outer));
    rt_stop(0);
}

static void tell_coroutine(void) {
    struct rt_options options = {.p_count = 1};
    CHECK(rt_run(&options, on_coroutine, NULL) == 0);
}

static void test_a_coroutine_ends_at_its_entry_also_from_foreign_code(void **state) {
    story(tell_coroutine);
}

/* Code without a table, as a Go library's is: a function that calls what it is given. */
static void test_a_walk_ends_at_code_without_a_table(void **state) {
#ifdef __x86_64__
    static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
    /* push rbp; mov rbp, rsp; call rdi; pop rbp; ret */
    enum { BEHIND_CALL = 6 };
#elif defined(__aarch64__)
    static const uint32_t code[] = {0xa9bf7bfd, 0x910003fd, 0xd63f0000, 0xa8c17bfd, 0xd65f03c0};
    /* stp x29, x30, [sp, #-16]!; mov x29, sp; blr x0; ldp x29, x30, [sp], #16; ret */
    enum { BEHIND_CALL = 12 };
#endif
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(page != MAP_FAILED);
    memcpy(page, code, sizeof code);
    __builtin___clear_cache(page, page + sizeof code);
    assert_int_equal(mprotect(page, 4096, PROT_READ | PROT_EXEC), 0);
    void (*without_table)(void (*)(void));
    memcpy(&without_table, &page, sizeof page);
    without_table(plain);
    assert_int_equal(depth, 3); /* look, plain, the page */
    assert_int_equal(pcs[2], (uintptr_t)page + BEHIND_CALL);
    munmap(page, 4096);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_walk_goes_through_frames_of_any_shape),
        cmocka_unit_test(test_a_deep_stack_is_cut_at_its_outer_end),
        cmocka_unit_test(test_a_walk_begins_where_it_is_told),
        cmocka_unit_test(test_a_thread_ends_where_it_was_started),
        cmocka_unit_test(test_a_coroutine_ends_at_its_entry_also_from_foreign_code),
        cmocka_unit_test(test_a_walk_ends_at_code_without_a_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
