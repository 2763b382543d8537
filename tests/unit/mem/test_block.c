/* block.c: leases, the free list, and what a late reader meets. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mem/block.h"
#include "mem/poison.h"

static void the_last_lease_returns_the_block(void **state) {
    struct block_cache cache;
    block_cache_init(&cache);
    struct block *block = block_get(&cache);
    assert_non_null(block);
    assert_int_equal((uintptr_t)block->data % 16, 0);
    memset(block->data, 7, BLOCK_DATA_SIZE);
    assert_ptr_equal(block_lease(block), block);
    assert_int_equal(cache.in_use, 1);
    block_put(&cache, block);
    assert_int_equal(block->data[BLOCK_DATA_SIZE - 1], 7);
    assert_int_equal(cache.free_count, 0);
    block_put(&cache, block);
    assert_int_equal(cache.in_use, 0);
    assert_int_equal(cache.free_count, 1);
    block_cache_fini(&cache);
    assert_int_equal(cache.free_count, 0);
}

static void the_block_put_last_is_got_first(void **state) {
    struct block_cache cache;
    block_cache_init(&cache);
    struct block *a = block_get(&cache), *b = block_get(&cache);
    block_put(&cache, a);
    block_put(&cache, b);
    assert_ptr_equal(block_get(&cache), b);
    assert_ptr_equal(block_get(&cache), a);
    assert_int_equal(cache.in_use, 2);
    block_put(&cache, a);
    block_put(&cache, b);
    block_cache_fini(&cache);
}

static void a_cache_keeps_no_more_than_its_limit(void **state) {
    enum { COUNT = BLOCK_CACHE_MAX + 10 };
    struct block_cache cache;
    block_cache_init(&cache);
    struct block **blocks = calloc(COUNT, sizeof(struct block *));
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = block_get(&cache);
        assert_non_null(blocks[i]);
    }
    assert_int_equal(cache.in_use, COUNT);
    for (int i = 0; i < COUNT; i++)
        block_put(&cache, blocks[i]);
    assert_int_equal(cache.in_use, 0);
    assert_int_equal(cache.free_count, BLOCK_CACHE_MAX);
    free(blocks);
    block_cache_fini(&cache);
}

/* In a child, quietly; true when it died of it. */
static bool dies(void (*body)(struct block_cache *cache)) {
    pid_t pid = fork();
    if (pid == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)!freopen("/dev/null", "w", stderr);
        struct block_cache cache;
        block_cache_init(&cache);
        body(&cache);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status != 0;
}

static void puts_twice(struct block_cache *cache) {
    struct block *block = block_get(cache);
    block_put(cache, block);
    block_put(cache, block);
}

static void a_second_put_is_caught_in_every_build(void **state) {
    assert_true(dies(puts_twice));
}

#ifdef MEM_HAS_ASAN
static volatile char sink;
static void reads_after_put(struct block_cache *cache) {
    struct block *block = block_get(cache);
    const char *span = block->data + 100;
    block_put(cache, block);
    sink = *span;
}

static void a_span_kept_too_long_is_caught_by_asan(void **state) {
    assert_true(dies(reads_after_put));
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_lease_returns_the_block),
        cmocka_unit_test(the_block_put_last_is_got_first),
        cmocka_unit_test(a_cache_keeps_no_more_than_its_limit),
        cmocka_unit_test(a_second_put_is_caught_in_every_build),
#ifdef MEM_HAS_ASAN
        cmocka_unit_test(a_span_kept_too_long_is_caught_by_asan),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
