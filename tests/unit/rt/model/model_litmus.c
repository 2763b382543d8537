/* litmus: the explorer finds what C11 allows and nothing that it forbids. Each story that must fail runs
 * in a child, whose exit status says whether the explorer saw it. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "explorer.h"

static _Atomic uint32_t x, y;
static struct model_cell cell;
static uint32_t saw_x, saw_y;
static int store_order, load_order;

static void setup(void) {
    atomic_store_explicit(&x, 0, memory_order_relaxed);
    atomic_store_explicit(&y, 0, memory_order_relaxed);
    model_cell_write(&cell, 0);
    saw_x = saw_y = 9;
}

/* Store buffering: both may miss the other's store unless all four are seq_cst. */
static void sets_x_reads_y(void) {
    atomic_store_explicit(&x, 1, store_order);
    saw_y = atomic_load_explicit(&y, load_order);
}

static void sets_y_reads_x(void) {
    atomic_store_explicit(&y, 1, store_order);
    saw_x = atomic_load_explicit(&x, load_order);
}

static void one_saw_the_other(void) {
    MODEL_CHECK(saw_x == 1 || saw_y == 1);
}

/* Message passing: the flag brings the data along only by release and acquire. */
static void sends(void) {
    model_cell_write(&cell, 42);
    atomic_store_explicit(&x, 1, store_order);
}

static void receives(void) {
    if (atomic_load_explicit(&x, load_order))
        MODEL_CHECK(model_cell_read(&cell) == 42);
}

/* A release sequence: a relaxed read-modify-write in between keeps what was released. */
static void passes_on(void) {
    atomic_fetch_add_explicit(&x, 1, memory_order_relaxed);
}

static void receives_late(void) {
    if (atomic_load_explicit(&x, memory_order_acquire) == 2)
        MODEL_CHECK(model_cell_read(&cell) == 42);
}

/* Coherence: who has seen the new value does not see the old one again. */
static void reads_twice(void) {
    uint32_t first = atomic_load_explicit(&x, memory_order_relaxed);
    uint32_t second = atomic_load_explicit(&x, memory_order_relaxed);
    MODEL_CHECK(second >= first);
}

static void nothing(void) {}

static void expect(const struct model_story *story, int store, int load, bool fails) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        store_order = store;
        load_order = load;
        if (fails) /* what it prints is expected */
            (void)!freopen("/dev/null", "w", stderr);
        model_explore(story);
        exit(0);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    bool failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    if (failed != fails) {
        fprintf(stderr, "%s with orders %d and %d: %s\n", story->name, store, load,
                failed ? "failed" : "did not fail");
        exit(1);
    }
}

int main(void) {
    static const struct model_story buffering = {.name = "store buffering",
                                                 .setup = setup,
                                                 .thread_count = 2,
                                                 .threads = {sets_x_reads_y, sets_y_reads_x},
                                                 .check = one_saw_the_other,
                                                 .preemptions = 2,
                                                 .stale_reads = 2};
    expect(&buffering, memory_order_seq_cst, memory_order_seq_cst, false);
    expect(&buffering, memory_order_release, memory_order_acquire, true);
    expect(&buffering, memory_order_seq_cst, memory_order_acquire, true);
    expect(&buffering, memory_order_release, memory_order_seq_cst, true);

    static const struct model_story passing = {.name = "message passing",
                                               .setup = setup,
                                               .thread_count = 2,
                                               .threads = {sends, receives},
                                               .check = nothing,
                                               .preemptions = 2,
                                               .stale_reads = 2};
    expect(&passing, memory_order_release, memory_order_acquire, false);
    expect(&passing, memory_order_relaxed, memory_order_acquire, true);
    expect(&passing, memory_order_release, memory_order_relaxed, true);

    static const struct model_story sequence = {.name = "release sequence",
                                                .setup = setup,
                                                .thread_count = 3,
                                                .threads = {sends, passes_on, receives_late},
                                                .check = nothing,
                                                .preemptions = 2,
                                                .stale_reads = 2};
    expect(&sequence, memory_order_release, 0, false);
    expect(&sequence, memory_order_relaxed, 0, true);

    static const struct model_story coherence = {.name = "coherence",
                                                 .setup = setup,
                                                 .thread_count = 2,
                                                 .threads = {sends, reads_twice},
                                                 .check = nothing,
                                                 .preemptions = 3,
                                                 .stale_reads = 3};
    expect(&coherence, memory_order_relaxed, 0, false);
    return 0;
}
