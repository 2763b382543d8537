/* arena.c: bump allocation, limits, and one step that gives all back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mem/arena.h"

static struct block_cache cache;
static struct arena arena;

static int set_up(void **state) {
    block_cache_init(&cache);
    arena_init(&arena, &cache, 256 * 1024);
    return 0;
}

static int tear_down(void **state) {
    arena_fini(&arena);
    int leaked = cache.in_use != 0;
    block_cache_fini(&cache);
    return leaked;
}

static void allocations_are_aligned_and_apart(void **state) {
    char *previous = NULL;
    for (size_t size = 0; size < 600; size++) {
        char *ptr = arena_alloc(&arena, size);
        assert_non_null(ptr);
        assert_int_equal((uintptr_t)ptr % 16, 0);
        assert_ptr_not_equal(ptr, previous);
        memset(ptr, 0xaa, size);
        previous = ptr;
    }
    assert_true(cache.in_use > 1);
}

/* It starts somewhere in the middle, and yet nothing of it is lost, nor had twice. */
static void a_block_is_used_whole(void **state) {
    enum { PIECE = 16, PIECES = BLOCK_DATA_SIZE / PIECE };
    unsigned *pieces[PIECES];
    for (unsigned i = 0; i < PIECES; i++) {
        pieces[i] = arena_alloc(&arena, PIECE);
        assert_non_null(pieces[i]);
        *pieces[i] = i;
    }
    assert_int_equal(cache.in_use, 1);
    for (unsigned i = 0; i < PIECES; i++)
        assert_int_equal(*pieces[i], i);
    assert_non_null(arena_alloc(&arena, PIECE));
    assert_int_equal(cache.in_use, 2);
}

/* Where caches look: the bits of an address below its page's number, without those within a line. */
static uintptr_t line_in_page(const void *ptr) {
    return (uintptr_t)ptr % 4096 / 64;
}

static void neighbours_start_on_lines_of_their_own(void **state) {
    const struct block *blocks = (const struct block *)(uintptr_t)(1000 * BLOCK_SIZE);
    for (uintptr_t i = 0; i < 32; i++) {
        const char *one = (const char *)blocks + i * BLOCK_SIZE;
        const struct block *block = (const struct block *)one;
        assert_int_equal((uintptr_t)(block->data + block_colour(block)) % 64, 0);
        for (uintptr_t j = 0; j < i; j++) {
            const struct block *other =
                (const struct block *)((const char *)blocks + j * BLOCK_SIZE);
            assert_int_not_equal(line_in_page(block->data + block_colour(block)),
                                 line_in_page(other->data + block_colour(other)));
        }
    }
}

static void zalloc_clears_memory_used_before(void **state) {
    memset(arena_alloc(&arena, 1000), 0xff, 1000);
    arena_fini(&arena);
    char *ptr = arena_zalloc(&arena, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(ptr[i], 0);
}

static void a_large_one_takes_no_block(void **state) {
    char *large = arena_alloc(&arena, 100 * 1024);
    assert_non_null(large);
    memset(large, 1, 100 * 1024);
    assert_int_equal(cache.in_use, 0);
    assert_int_equal((uintptr_t)large % 16, 0);
}

static void past_the_limit_there_is_nothing(void **state) {
    assert_null(arena_alloc(&arena, 256 * 1024 + 1));
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc(&arena, SIZE_MAX - 8));
    size_t got = 0;
    while (arena_alloc(&arena, 1024))
        got += 1024;
    assert_int_equal(got, 256 * 1024);
    assert_null(arena_alloc(&arena, 0));
    assert_true(span_is_none(arena_copy(&arena, SPAN_LIT("x"))));
    assert_true(span_is_none(arena_printf(&arena, "%d", 1)));
    arena_fini(&arena);
    assert_non_null(arena_alloc(&arena, 1024)); /* usable again, with the same limit */
}

static void copies_end_in_nul(void **state) {
    struct span copy = arena_copy(&arena, SPAN_LIT("hello"));
    assert_true(span_eq(copy, SPAN_LIT("hello")));
    assert_int_equal(copy.ptr[copy.len], 0);

    const struct span parts[] = {SPAN_LIT("a"), span_none(), SPAN_LIT(""), SPAN_LIT("bc")};
    struct span whole = arena_concat(&arena, parts, 4);
    assert_true(span_eq(whole, SPAN_LIT("abc")));
    assert_int_equal(whole.ptr[3], 0);

    struct span empty = arena_copy(&arena, span_none());
    assert_false(span_is_none(empty));
    assert_int_equal(empty.len, 0);

    struct span text = arena_printf(&arena, "%s-%d", "n", 42);
    assert_true(span_eq(text, SPAN_LIT("n-42")));

    const struct span huge[] = {{"", SIZE_MAX - 1}, {"", 10}};
    assert_true(span_is_none(arena_concat(&arena, huge, 2)));
}

static void held_blocks_are_given_back(void **state) {
    struct block *block = block_get(&cache);
    for (int i = 0; i < ARENA_HOLDS + 2; i++)
        assert_int_equal(arena_hold(&arena, block_lease(block)), 0);
    assert_int_equal(block->leases, ARENA_HOLDS + 3);
    arena_fini(&arena);
    assert_int_equal(block->leases, 1);
    block_put(&cache, block);
}

/* Somebody who has to be asked, and has so much. */
static struct purse {
    struct arena_payer payer;
    size_t left;
    int asked;
} purse;

static bool purse_take(struct arena_payer *payer, size_t size) {
    assert_ptr_equal(payer, &purse.payer);
    purse.asked++;
    if (size > purse.left)
        return false;
    purse.left -= size;
    return true;
}

static void purse_give(struct arena_payer *payer, size_t size) {
    purse.left += size;
}

static void start_paying(size_t bytes) {
    purse = (struct purse){.payer = {purse_take, purse_give}, .left = bytes};
    arena.payer = &purse.payer;
}

static void fill_block(void) {
    while (arena.used + 1024 <= arena.end || arena.skipped >= 1024)
        assert_non_null(arena_alloc(&arena, 1024));
}

static void the_first_block_costs_nothing(void **state) {
    start_paying(0);
    assert_non_null(arena_alloc(&arena, 16));
    fill_block();
    assert_int_equal(purse.asked, 0);
}

static void what_is_paid_comes_back_in_one_step(void **state) {
    start_paying(100 * 1024);
    assert_non_null(arena_alloc(&arena, 16));
    fill_block();
    assert_non_null(arena_alloc(&arena, 1024));
    assert_int_equal(purse.left, 100 * 1024 - BLOCK_SIZE);
    assert_non_null(arena_alloc(&arena, 50 * 1024));
    assert_int_equal(purse.left, 50 * 1024 - BLOCK_SIZE);
    arena_fini(&arena);
    assert_int_equal(purse.left, 100 * 1024);
}

/* What it could not have is an error; what says so still has a block to say it in, and then no more. */
static void after_a_refusal_there_is_one_block(void **state) {
    start_paying(1024);
    assert_non_null(arena_alloc(&arena, 16));
    assert_null(arena_alloc(&arena, 50 * 1024));
    assert_true(arena.refused);
    assert_int_equal(purse.asked, 1);
    fill_block();
    assert_non_null(arena_alloc(&arena, 1024));
    fill_block();
    assert_null(arena_alloc(&arena, 1024));
    assert_int_equal(purse.asked, 1); /* it is not bothered again */
    arena_fini(&arena);
    assert_int_equal(purse.left, 1024);
}

#define WITH_ARENA(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_ARENA(allocations_are_aligned_and_apart),
        WITH_ARENA(a_block_is_used_whole),
        cmocka_unit_test(neighbours_start_on_lines_of_their_own),
        WITH_ARENA(zalloc_clears_memory_used_before),
        WITH_ARENA(a_large_one_takes_no_block),
        WITH_ARENA(past_the_limit_there_is_nothing),
        WITH_ARENA(copies_end_in_nul),
        WITH_ARENA(held_blocks_are_given_back),
        WITH_ARENA(the_first_block_costs_nothing),
        WITH_ARENA(what_is_paid_comes_back_in_one_step),
        WITH_ARENA(after_a_refusal_there_is_one_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
