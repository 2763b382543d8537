/* memory_use.c: numbers that follow what is held, and the limits of control groups. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../file_tree.h"
#include "heap/memory_use.h"
#include "mem/poison.h"
#include "mem/recycler.h"

enum { MUCH = 32 << 20, LITTLE = 1 << 20 };

static void what_is_held_shows_until_it_is_given_back(void **state) {
    struct recycler_cache cache;
    recycler_cache_init(&cache);
    struct memory_use before = memory_use_now();
    char *held = recycler_get(&cache, MUCH);
    assert_non_null(held);
    memset(held, 1, MUCH);
    struct memory_use with = memory_use_now();
    assert_true(with.allocated >= before.allocated + MUCH);
    assert_true(with.heap_size >= before.heap_size + MUCH);
    assert_true(with.anonymous >= before.anonymous + MUCH - LITTLE);
    assert_true(with.physical >= with.anonymous);
    recycler_give(&cache, held, MUCH);
    struct memory_use after = memory_use_now();
    assert_true(after.allocated < with.allocated - MUCH + LITTLE);
    recycler_cache_fini(&cache);
}

#if !defined(MEM_HAS_ASAN) && !defined(__SANITIZE_THREAD__) /* their malloc tells nothing */
static void mallocs_memory_counts_too(void **state) {
    struct memory_use before = memory_use_now();
    char *held = malloc(MUCH);
    assert_non_null(held);
    memset(held, 1, MUCH);
    struct memory_use with = memory_use_now();
    assert_true(with.allocated >= before.allocated + MUCH);
    free(held);
    memory_trim();
    assert_true(memory_use_now().allocated < with.allocated - MUCH + LITTLE);
    assert_true(memory_use_now().anonymous < with.anonymous - MUCH + LITTLE);
}
#endif

/* ---- control groups ---- */

static uint64_t limit(const char *proc_cgroup) {
    char path[512];
    write_file("/self", proc_cgroup);
    snprintf(path, sizeof path, "%s/self", root);
    return memory_cgroup_limit(path, root);
}

static void without_a_limit_it_is_none(void **state) {
    assert_int_equal(limit("0::/nowhere\n"), 0);
    assert_int_equal(memory_cgroup_limit("/nonexistent", root), 0);
    write_file("/free/memory.max", "max\n");
    assert_int_equal(limit("0::/free\n"), 0);
    write_file("/memory/free/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(limit("7:memory:/free\n"), 0);
}

static void the_lowest_of_the_ancestors_counts(void **state) {
    write_file("/pod/memory.max", "536870912\n");
    write_file("/pod/app/memory.max", "max\n");
    assert_int_equal(limit("0::/pod/app\n"), 536870912);
    write_file("/pod/app/memory.max", "1048576\n");
    assert_int_equal(limit("0::/pod/app\n"), 1048576);
    write_file("/memory/pod/memory.limit_in_bytes", "2097152\n");
    assert_int_equal(limit("9:cpu,cpuacct:/pod\n7:memory:/pod\n"), 2097152);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_held_shows_until_it_is_given_back),
#if !defined(MEM_HAS_ASAN) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(mallocs_memory_counts_too),
#endif
        cmocka_unit_test(without_a_limit_it_is_none),
        cmocka_unit_test(the_lowest_of_the_ancestors_counts),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
