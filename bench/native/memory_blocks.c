/* bench_blocks: what memory costs that goes round.
 *
 *     bench_blocks CASE COUNT    prints "ns_wall ns_cpu ops" of this process, user and system
 *
 *   block_same_p      a block is got and put
 *   block_cross_p     a block is got by one thread and put by another, BATCH at a time, as they would be by
 *                     two Ps: it goes home by the depot
 *   pool_same_p       an object of 512 bytes from a pool, got and put
 *   pool_cross_p      the same between two threads: it goes home by its slab
 *   recycler_same_p   64 KiB from the recycler, got and given
 *   malloc_same_p     for comparison: 16 KiB of malloc
 *   line_cross_p      a line of each of BATCH blocks written by one thread and then by the other: what a block
 *                     that crosses cannot cost less than
 *
 * The threads of a cross case take turns, so that neither is paid for waiting. */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"
#include "mem/block.h"
#include "mem/pool.h"

enum { BATCH = 1024, OBJECT = 512, PIECE = 64 << 10 };

/* What a P has of this. */
struct side {
    struct block_cache blocks;
    struct pool_cache objects;
    sem_t turn;
};
static struct side sides[2];
static struct pool pool = {.name = "bench", .object_size = OBJECT};
static void *things[BATCH];
static uint64_t left;

static void *get_block(struct side *side) {
    return block_get(&side->blocks);
}
static void put_block(struct side *side, void *thing) {
    block_put(&side->blocks, thing);
}
static void *get_object(struct side *side) {
    return pool_get(&side->objects);
}
static void put_object(struct side *side, void *thing) {
    pool_put(&side->objects, thing);
}
static void *get_piece(struct side *side) {
    return recycler_get(&side->blocks.recycler, PIECE);
}
static void put_piece(struct side *side, void *thing) {
    recycler_give(&side->blocks.recycler, thing, PIECE);
}
static void *get_malloc(struct side *side) {
    return malloc(BLOCK_SIZE);
}
static void put_malloc(struct side *side, void *thing) {
    free(thing);
}

/* The blocks themselves stay where they are. */
static void *get_line(struct side *side) {
    static struct block *blocks[BATCH];
    static unsigned next;
    struct block **slot = &blocks[next++ % BATCH];
    if (!*slot)
        *slot = block_get(&side->blocks);
    ASSERT(*slot);
    (*slot)->data[0]++;
    return *slot;
}
static void put_line(struct side *side, void *thing) {
    ((struct block *)thing)->data[0]++;
}

static const struct bench_case {
    const char *name;
    void *(*get)(struct side *side);
    void (*put)(struct side *side, void *thing);
    bool crosses;
} cases[] = {
    {"block_same_p", get_block, put_block, false},
    {"block_cross_p", get_block, put_block, true},
    {"pool_same_p", get_object, put_object, false},
    {"pool_cross_p", get_object, put_object, true},
    {"recycler_same_p", get_piece, put_piece, false},
    {"malloc_same_p", get_malloc, put_malloc, false},
    {"line_cross_p", get_line, put_line, true},
};
static const struct bench_case *chosen;

static void same(uint64_t n) {
    while (n-- > 0) {
        void *volatile thing = chosen->get(&sides[0]);
        ASSERT(thing);
        chosen->put(&sides[0], thing);
    }
}

static void pass_turn(unsigned to) {
    ASSERT(sem_post(&sides[to].turn) == 0);
}

static void wait_turn(unsigned me) {
    while (sem_wait(&sides[me].turn) != 0) {
    }
}

static void *puts_all(void *arg) {
    for (;;) {
        wait_turn(1);
        for (unsigned i = 0; i < BATCH && things[i]; i++)
            chosen->put(&sides[1], things[i]);
        uint64_t more = left;
        pass_turn(0);
        if (more == 0)
            return NULL;
    }
}

static void cross(uint64_t n) {
    pthread_t other;
    left = n;
    ASSERT(pthread_create(&other, NULL, puts_all, NULL) == 0);
    while (left > 0) {
        unsigned count = left < BATCH ? (unsigned)left : BATCH;
        memset(things, 0, sizeof things);
        for (unsigned i = 0; i < count; i++) {
            things[i] = chosen->get(&sides[0]);
            ASSERT(things[i]);
        }
        left -= count;
        pass_turn(1);
        wait_turn(0);
    }
    ASSERT(pthread_join(other, NULL) == 0);
}

int main(int argc, char **argv) {
    for (unsigned i = 0; argc == 3 && i < sizeof cases / sizeof cases[0]; i++)
        if (strcmp(argv[1], cases[i].name) == 0)
            chosen = &cases[i];
    if (!chosen) {
        fprintf(stderr, "usage: bench_blocks CASE COUNT\n");
        return 2;
    }
    for (unsigned i = 0; i < 2; i++) {
        block_cache_init(&sides[i].blocks);
        pool_cache_init(&sides[i].objects, &pool, &sides[i].blocks.recycler);
        ASSERT(sem_init(&sides[i].turn, 0, 0) == 0);
    }
    measure(chosen->crosses ? cross : same, strtoull(argv[2], NULL, 10));
    return 0;
}
