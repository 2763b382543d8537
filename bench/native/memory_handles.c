/* bench_handles: what it costs that foreign code holds a number and not a pointer.
 *
 *     bench_handles CASE COUNT    prints "ns_wall ns_cpu ops" of this process, user and system
 *
 *   handle_lookup   a handle is looked up and its lease given back: what a call from foreign code pays. One
 *                   of 64 at a time, as many as a busy P's exchanges have
 *   loan_keep       the same by an address
 *   handle_life     a handle is made and destroyed: what an object that foreign code may hold pays */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"
#include "mem/loan.h"

enum { OBJECTS = 64 };

static const int kind;
static const struct loan_kind loan_kind = {.size = 128, .max = 1024};
static struct handle_table table;
static struct loan_pool pool;
static int objects[OBJECTS];
static uint64_t handles[OBJECTS];
static void *lent[OBJECTS];

static uint64_t make(unsigned i) {
    return handle_make(&table, 0, &(struct handle_object){.object = &objects[i], .key = &kind});
}

static void prepare(void) {
    ASSERT(handle_table_init(&table, 1024) == 0);
    ASSERT(loan_pool_init(&pool, &loan_kind) == 0);
    for (unsigned i = 0; i < OBJECTS; i++) {
        handles[i] = make(i);
        struct loan loan = loan_new(&pool, 0);
        lent[i] = loan.memory;
        loan_lend(&pool, loan);
        loan_let_go(&pool, loan);
    }
}

static void handle_lookup(uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        int *object = handle_lease(&table, handles[i % OBJECTS], &kind);
        ++*object;
        handle_release(&table, handles[i % OBJECTS]);
    }
}

static void loan_kept(uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        struct loan loan = loan_keep(&pool, lent[i % OBJECTS]);
        ++*(int *)loan.memory;
        loan_let_go(&pool, loan);
    }
}

static void handle_life(uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        ASSERT(handle_destroy(&table, make(0), &kind) == 0);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(uint64_t n);
    } cases[] = {
        {"handle_lookup", handle_lookup}, {"loan_keep", loan_kept}, {"handle_life", handle_life}};
    uint64_t count = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) && count; i++) {
        if (strcmp(argv[1], cases[i].name) != 0)
            continue;
        prepare();
        measure(cases[i].run, count);
        return 0;
    }
    fputs("usage: bench_handles handle_lookup|loan_keep|handle_life COUNT\n", stderr);
    return 2;
}
