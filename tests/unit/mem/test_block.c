/* block.c: leases, the free list, and what a late reader meets. */
#include <pthread.h>
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

enum { LIST_MAX = MEM_HARDENED ? 0 : BLOCK_CACHE_MAX };

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
    assert_int_equal(cache.free_count, LIST_MAX ? 1 : 0);
    block_cache_fini(&cache);
    assert_int_equal(cache.free_count, 0);
}

static void the_block_put_last_is_got_first(void **state) {
    if (MEM_HARDENED)
        skip(); /* a hardened build wants none back soon */
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
    assert_true(cache.free_count <= LIST_MAX);
    free(blocks);
    block_cache_fini(&cache);
}

static void free_blocks_go_back_to_the_os_while_others_come_and_go(void **state) {
    if (MEM_HARDENED)
        skip(); /* in a hardened build all go round the quarantine, and none gets old */
    enum { BURST = BLOCK_CACHE_MAX + 100 };
    struct block_cache cache;
    struct recycler_stats stats;
    block_cache_init(&cache);
    int64_t now_ns = 1000 * NS_PER_S;
    (void)recycler_age(&cache.recycler, now_ns);
    struct block **blocks = calloc(BURST, sizeof(struct block *));
    for (int i = 0; i < BURST; i++) {
        blocks[i] = block_get(&cache);
        assert_non_null(blocks[i]);
    }
    for (int i = 0; i < BURST; i++)
        block_put(&cache, blocks[i]);
    free(blocks);
    recycler_stats(&stats);
    assert_int_equal(stats.bytes, 0); /* a free block is nobody's */
    assert_true(stats.heap_idle - stats.heap_released >= BURST * BLOCK_SIZE);

    int64_t end_ns = now_ns + 2 * RECYCLER_IDLE_NS, next_ns = now_ns;
    for (; now_ns < end_ns; now_ns += NS_PER_S) {
        struct block *block = block_get(&cache);
        assert_non_null(block);
        block_put(&cache, block);
        next_ns = recycler_age(&cache.recycler, now_ns);
        recycler_stats(&stats);
        if (now_ns < end_ns - RECYCLER_IDLE_NS)
            assert_int_equal(stats.frees, 0); /* not before its time */
    }
    while (next_ns < now_ns) /* it takes steps */
        next_ns = recycler_age(&cache.recycler, now_ns);
    recycler_stats(&stats);
    assert_int_equal(stats.heap_idle - stats.heap_released, BLOCK_SIZE);
    assert_int_equal(stats.frees, BURST - 1);

    now_ns += 2 * RECYCLER_IDLE_NS;
    assert_int_equal(recycler_age(&cache.recycler, now_ns), INT64_MAX);
    recycler_stats(&stats);
    assert_int_equal(stats.heap_sys, 0);
    assert_int_equal(stats.frees, stats.makes);
    block_cache_fini(&cache);
}

static void get_all(struct block_cache *cache, struct block **blocks, int count) {
    for (int i = 0; i < count; i++) {
        blocks[i] = block_get(cache);
        assert_non_null(blocks[i]);
    }
}

static void put_all(struct block_cache *cache, struct block **blocks, int count) {
    for (int i = 0; i < count; i++)
        block_put(cache, blocks[i]);
}

/* What one cache has too much of the other one finds: nothing is made anew once there is enough. */
static void blocks_that_one_gets_and_another_puts_come_home(void **state) {
    if (MEM_HARDENED)
        skip();
    enum { COUNT = 3 * BLOCK_CACHE_MAX, ROUNDS = 10 };
    static struct block *blocks[COUNT];
    struct block_cache caches[2];
    struct recycler_stats stats;
    uint64_t made = 0;
    block_cache_init(&caches[0]);
    block_cache_init(&caches[1]);
    for (int round = 0; round < ROUNDS; round++) {
        get_all(&caches[round % 2], blocks, COUNT);
        for (int i = 0; i < COUNT; i++)
            memset(blocks[i]->data, round, BLOCK_DATA_SIZE);
        put_all(&caches[1 - round % 2], blocks, COUNT);
        recycler_stats(&stats);
        if (round == 0)
            made = stats.makes;
        assert_int_equal(stats.makes, made);
        assert_int_equal(stats.bytes, 0);
    }

    /* Whoever looks after what is idle finds what is shared, too. */
    int64_t now_ns = 5 * RECYCLER_IDLE_NS;
    while (recycler_age(&caches[1].recycler, now_ns) != INT64_MAX)
        now_ns += NS_PER_S;
    recycler_stats(&stats);
    assert_true(caches[0].free_count > 0);
    assert_int_equal(stats.heap_idle - stats.heap_released, caches[0].free_count * BLOCK_SIZE);
    block_cache_fini(&caches[0]);
    block_cache_fini(&caches[1]);
}

/* Nothing but the bundles orders what the threads do to a block that both have in turn. */
static void *come_and_go(void *arg) {
    enum { COUNT = BLOCK_CACHE_MAX + BLOCK_BUNDLE, ROUNDS = 200 };
    struct block_cache cache;
    struct block *blocks[COUNT];
    const char *mark = arg;
    block_cache_init(&cache);
    for (int round = 0; round < ROUNDS; round++) {
        get_all(&cache, blocks, COUNT);
        for (int i = 0; i < COUNT; i++)
            memset(blocks[i]->data, *mark, 64);
        for (int i = 0; i < COUNT; i++)
            assert_true(blocks[i]->data[0] == *mark && blocks[i]->data[63] == *mark);
        put_all(&cache, blocks, COUNT);
    }
    block_cache_fini(&cache);
    return NULL;
}

static void threads_hand_bundles_to_one_another(void **state) {
    pthread_t threads[3];
    static char marks[] = "abc";
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &marks[i]), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
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
        /* First: it counts for the whole process. */
        cmocka_unit_test(free_blocks_go_back_to_the_os_while_others_come_and_go),
        cmocka_unit_test(the_last_lease_returns_the_block),
        cmocka_unit_test(the_block_put_last_is_got_first),
        cmocka_unit_test(a_cache_keeps_no_more_than_its_limit),
        cmocka_unit_test(blocks_that_one_gets_and_another_puts_come_home),
        cmocka_unit_test(threads_hand_bundles_to_one_another),
        cmocka_unit_test(a_second_put_is_caught_in_every_build),
#ifdef MEM_HAS_ASAN
        cmocka_unit_test(a_span_kept_too_long_is_caught_by_asan),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
