/* explorer: runs a small concurrent story in every order, on a memory weaker than any machine's.
 *
 * A story is a few threads of real runtime code, compiled with atomics.h in front, so that each of
 * its atomic operations is a step of ours. The explorer runs the story again and again, each time with
 * another choice of who makes the next step and of which store a load reads, until all choices within
 * the bounds were made. It is stateless search with bounded preemption: most bugs need two switches
 * that the code did not ask for, and a bound of three keeps a story to seconds.
 *
 * Memory   C11's, by views: a location keeps all stores in the order they were made, a thread knows
 *          of each location the oldest store it may still read. A load may read any store from there
 *          on, so relaxed code really sees old values; an acquire load takes over what the storing
 *          thread knew at its release; a read-modify-write reads the latest and carries the release
 *          sequence on; a seq_cst load reads no store older than the last seq_cst one. Left out: fences
 *          (the runtime has none) and loads that are satisfied by later stores.
 * Plain    data is not followed, but for cells: model_cell_read fails the story when the reader does
 *          not know of the last write, which is what a data race on it would be.
 *
 * Ownership  A story and its state are static; setup makes them new for each run.
 * Threads    One; the story's threads are contexts of it.
 * Source     Musuvathi and Qadeer, "Iterative context bounding" (PLDI 2007), for the search; Kang et
 *            al., "A promising semantics" (POPL 2017), for views, without the promises. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MODEL_THREADS_MAX = 4 };

struct model_story {
    const char *name;
    void (*setup)(void); /* all state as at the start; outside of any thread */
    unsigned thread_count;
    void (*threads[MODEL_THREADS_MAX])(void);
    void (*check)(void);  /* at the end of each run, when no thread can go on */
    unsigned preemptions; /* switches away from a thread that could have gone on */
    unsigned stale_reads; /* loads that read another store than the latest */
};

/* How many runs all choices took. A run that fails prints its steps and ends the process. */
unsigned long model_explore(const struct model_story *story);

/* In threads and in check. */
#define MODEL_CHECK(condition) ((condition) ? (void)0 : model_fail(__FILE__, __LINE__, #condition))
_Noreturn void model_fail(const char *file, int line, const char *condition);

/* Which thread this is; MODEL_THREADS_MAX in setup and check. */
unsigned model_thread(void);
/* Waits until *flag, which another thread sets by model_wake; takes over what that thread knew then, as
 * a queue between them would pass it on. In check, model_is_waiting tells who is left in here. */
void model_wait(bool *flag);
/* The same, and returns when no other thread can go on: for what happens when nothing else does. */
void model_wait_or_quiet(bool *flag);
/* A lock's turn that found it taken: goes on when the 32 bits at word are 0, knowing no more than
 * before. */
void model_wait_for_zero(const volatile void *word);
void model_wake(bool *flag);
bool model_is_waiting(unsigned thread);
/* One of several things that may happen: each is tried. */
unsigned model_choose(unsigned options);
/* A step of a loop that waits for another thread: it goes on when another one has made a step. */
void model_yield(void);

/* The next thing that this thread does is a step, on memory that is not modelled: all see the latest. */
void model_step(const char *what);

/* membarrier(2): a full barrier on every thread at once. */
void model_barrier(void);

/* A word of plain data that the code under test is to hand over properly. */
struct model_cell {
    uint64_t value;
};
void model_cell_write(struct model_cell *cell, uint64_t value);
uint64_t model_cell_read(struct model_cell *cell);

/* What atomics.h makes of <stdatomic.h>. order is a memory_order. */
void model_load(const volatile void *at, void *value, size_t size, int order);
void model_store(volatile void *at, const void *value, size_t size, int order);
enum model_rmw { MODEL_EXCHANGE, MODEL_ADD, MODEL_SUB, MODEL_OR, MODEL_AND };
void model_rmw(volatile void *at, enum model_rmw op, const void *operand, void *before, size_t size,
               int order);
bool model_cas(volatile void *at, void *expected, const void *desired, size_t size, int success,
               int failure);
