/* sampling.h: a sampler that looks at each so many bytes hears of all that is handed out, of each byte
 * once, and of what it asked to be told when that comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mem/arena.h"
#include "mem/block.h"
#include "mem/recycler.h"
#include "mem/sampling.h"

enum { KB = 1024, MB = 1024 * KB };

static int64_t every;       /* bytes from one question to the next */
static uint64_t asked_size; /* of the latest question */
static unsigned asked, live;
static bool keep; /* samples are of interest */
static void *last_sample;

static void *sample(size_t size, struct mem_countdown *countdown) {
    assert_true(countdown->left < 0);
    countdown->left = every;
    asked++;
    asked_size = size;
    if (!keep)
        return NULL;
    live++;
    last_sample = malloc(1); /* the sanitizers know when it is told of twice, or never */
    return last_sample;
}

static void gone(void *sample) {
    assert_true(live > 0);
    live--;
    last_sample = sample;
    free(sample);
}

static const struct mem_sampler sampler = {.sample = sample, .gone = gone};
static struct block_cache cache;

static int begin(void **state) {
    every = 0;
    keep = true;
    mem_sampler_set(&sampler);
    block_cache_init(&cache);
    asked = live = 0;
    return 0;
}

static int end(void **state) {
    block_cache_fini(&cache);
    return live == 0 ? 0 : -1;
}

static void each_block_and_piece_is_seen_when_all_are_asked_for(void **state) {
    struct block *first = block_get(&cache);
    assert_int_equal(asked, 1); /* not once more for what the block is made of */
    assert_int_equal(asked_size, BLOCK_SIZE);
    void *first_sample = last_sample;
    struct block *second = block_get(&cache);
    assert_int_equal(live, 2);
    block_lease(first);
    block_put(&cache, first);
    assert_int_equal(live, 2); /* it is still leased */
    block_put(&cache, first);
    assert_int_equal(live, 1);
    assert_ptr_equal(last_sample, first_sample); /* told of the right one */
    block_put(&cache, second);

    void *piece = recycler_get(&cache.recycler, 5 * MB);
    assert_int_equal(asked_size, 5 * MB);
    assert_int_equal(live, 1);
    recycler_give(&cache.recycler, piece, 5 * MB);
    assert_int_equal(live, 0);
    assert_int_equal(asked, 3);
}

static void a_sample_nobody_wants_costs_nothing_later(void **state) {
    keep = false;
    struct block *block = block_get(&cache);
    void *piece = recycler_get(&cache.recycler, 64 * KB);
    assert_int_equal(asked, 2);
    block_put(&cache, block);
    recycler_give(&cache.recycler, piece, 64 * KB);
    keep = true;
    piece = recycler_get(&cache.recycler, 64 * KB); /* in the same memory */
    assert_int_equal(live, 1);
    recycler_give(&cache.recycler, piece, 64 * KB);
}

/* As many questions as the bytes are worth, however large the pieces are. */
static void the_countdown_is_of_bytes(void **state) {
    enum { EVERY = 100 * BLOCK_SIZE, COUNT = 5000 };
    every = EVERY;
    struct block *block = block_get(&cache); /* the answer for it begins the count */
    block_put(&cache, block);
    asked = 0;
    for (int i = 0; i < COUNT; i++) {
        block = block_get(&cache);
        block_put(&cache, block);
    }
    assert_true(asked >= COUNT / 101);
    assert_true(asked <= COUNT / 100);
}

static void an_arena_does_not_hide_the_sample_of_its_blocks(void **state) {
    struct arena arena;
    arena_init(&arena, &cache, MB);
    for (int i = 0; i < 40; i++)
        assert_non_null(arena_alloc(&arena, 1000));
    assert_int_equal(live, 3); /* blocks; the arena chains them */
    arena_fini(&arena);
    assert_int_equal(live, 0);
}

static void blocks_sampled_while_busy_are_told_of_wherever_they_are_put(void **state) {
    enum { COUNT = BLOCK_CACHE_MAX + 50 };
    static struct block *blocks[COUNT];
    struct block_cache other;
    block_cache_init(&other);
    for (int i = 0; i < COUNT; i++) {
        keep = i % 3 == 0;
        blocks[i] = block_get(&cache);
    }
    assert_int_equal(live, (COUNT + 2) / 3);
    for (int i = 0; i < COUNT; i++)
        block_put(&other, blocks[i]);
    assert_int_equal(live, 0);
    other.in_use = cache.in_use = 0; /* each knows one half of the story */
    block_cache_fini(&other);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        STORY(each_block_and_piece_is_seen_when_all_are_asked_for),
        STORY(a_sample_nobody_wants_costs_nothing_later),
        STORY(the_countdown_is_of_bytes),
        STORY(an_arena_does_not_hide_the_sample_of_its_blocks),
        STORY(blocks_sampled_while_busy_are_told_of_wherever_they_are_put),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
