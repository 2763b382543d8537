/* recycler.c: what is given is got again, what nobody gets goes back to the OS, and what a caller may
 * do wrong ends the process. The clock is ours. Each story begins and ends with an empty recycler, so
 * that the counts are its own; mmap, mremap and calloc fail when a story says so (--wrap). */
#include <errno.h>
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
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mem/poison.h"
#include "mem/recycler.h"

enum { KB = 1024, MB = 1024 * KB };

static bool memory_is_short, tables_are_short;

/* glibc's name for it where files are large; the name in the source elsewhere. */
#define WRAP_MMAP(name)                                                                            \
    void *__real_##name(void *addr, size_t length, int prot, int flags, int fd, off_t offset);     \
    void *__wrap_##name(void *addr, size_t length, int prot, int flags, int fd, off_t offset);     \
    void *__wrap_##name(void *addr, size_t length, int prot, int flags, int fd, off_t offset) {    \
        if (!memory_is_short)                                                                      \
            return __real_##name(addr, length, prot, flags, fd, offset);                           \
        errno = ENOMEM;                                                                            \
        return MAP_FAILED;                                                                         \
    }
WRAP_MMAP(mmap)
WRAP_MMAP(mmap64)

/* The flags say whether the kernel may move it. */
static unsigned moves;
static bool must_move;
void *__real_mremap(void *addr, size_t old_length, size_t length, int flags, void *to);
void *__wrap_mremap(void *addr, size_t old_length, size_t length, int flags, ...);
void *__wrap_mremap(void *addr, size_t old_length, size_t length, int flags, ...) {
    void *to = NULL;
    if (flags & MREMAP_FIXED) {
        va_list args;
        va_start(args, flags);
        to = va_arg(args, void *);
        va_end(args);
    }
    if (memory_is_short || (must_move && !to)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    moves += to != NULL;
    return __real_mremap(addr, old_length, length, flags, to);
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
    return tables_are_short ? NULL : __real_calloc(count, size);
}

static struct recycler_cache cache;
static int64_t now_ns = 1000 * NS_PER_S;
static struct recycler_stats at_begin;

static struct recycler_stats stats(void) {
    struct recycler_stats stats;
    recycler_stats(&stats);
    assert_int_equal(stats.heap_sys, stats.heap_alloc + stats.heap_idle);
    assert_true(stats.heap_released <= stats.heap_idle);
    stats.makes -= at_begin.makes;
    stats.frees -= at_begin.frees;
    stats.grows -= at_begin.grows;
    stats.shrinks -= at_begin.shrinks;
    return stats;
}

/* All steps that are due, a second later or more. */
static int64_t age(struct recycler_cache *of, int64_t passed_ns) {
    now_ns += passed_ns;
    int64_t next_ns;
    do
        next_ns = recycler_age(of, now_ns);
    while (next_ns <= now_ns + RECYCLER_AGE_PAUSE_NS);
    return next_ns;
}

static int begin(void **state) {
    recycler_cache_init(&cache);
    (void)age(&cache, 0);
    recycler_stats(&at_begin);
    return 0;
}

static int end(void **state) {
    memory_is_short = tables_are_short = false;
    bool all_gone = age(&cache, 2 * RECYCLER_IDLE_NS) == INT64_MAX;
    struct recycler_stats left = stats();
    recycler_cache_fini(&cache);
    return all_gone && left.heap_sys == 0 && left.bytes == 0 && left.makes == left.frees ? 0 : -1;
}

static void *get(size_t size) {
    char *ptr = recycler_get(&cache, size);
    assert_non_null(ptr);
    assert_int_equal((uintptr_t)ptr % 4096, 0);
    ptr[0] = ptr[size - 1] = 1;
    return ptr;
}

/* In a child, quietly; true when it died of it. */
static bool dies(void (*body)(char *lent), char *lent) {
    pid_t pid = fork();
    if (pid == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)signal(SIGSEGV, SIG_DFL);
        (void)!freopen("/dev/null", "w", stderr);
        body(lent);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status != 0;
}

static void what_was_given_is_got_again(void **state) {
    static const size_t sizes[] = {
        1,        4096,     4097,   5 * KB,     16 * KB,          100 * KB,
        128 * KB, 129 * KB, 5 * MB, 7 * MB + 1, RECYCLER_SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *first = get(sizes[i]);
        struct recycler_stats used = stats();
        assert_int_equal(used.bytes, sizes[i]);
        assert_true(used.heap_alloc >= sizes[i]);
        assert_true(sizes[i] < 16 * KB || used.heap_alloc <= sizes[i] / 4 * 5 + 4 * KB);
        recycler_give(&cache, first, sizes[i]);
        assert_int_equal(stats().bytes, 0);
    }
    if (MEM_HARDENED)
        return; /* it waits in the quarantine */
    struct recycler_stats before = stats();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        void *ptr = get(sizes[i]);
        recycler_give(&cache, ptr, sizes[i]);
    }
    assert_int_equal(stats().makes, before.makes);
    assert_int_equal(stats().heap_sys, before.heap_sys);
}

/* With the timer of a recycler that each get and give restarts this one would keep 50 for ever. */
static void what_is_idle_goes_back_while_others_come_and_go(void **state) {
    enum { BURST = 50, SIZE = 5 * MB };
    void *burst[BURST];
    for (int i = 0; i < BURST; i++)
        burst[i] = get(SIZE);
    for (int i = 0; i < BURST; i++)
        recycler_give(&cache, burst[i], SIZE);
    int64_t given_ns = now_ns;
    (void)age(&cache, 0);
    while (now_ns < given_ns + RECYCLER_IDLE_NS - NS_PER_S) {
        recycler_give(&cache, get(SIZE), SIZE);
        (void)age(&cache, NS_PER_S);
        assert_int_equal(stats().frees, 0);
    }
    uint64_t sys = stats().heap_sys;
    recycler_give(&cache, get(SIZE), SIZE);
    (void)age(&cache, 2 * NS_PER_S);
    struct recycler_stats after = stats();
    assert_true(after.frees >= BURST - 4); /* all that the traffic did not reach */
    assert_int_equal(after.heap_sys, sys - after.frees * SIZE);
}

static void small_pieces_lose_their_memory_before_their_mapping(void **state) {
    char *a = get(64 * KB), *b = get(64 * KB);
    memset(b, 'b', 64 * KB);
    recycler_give(&cache, b, 64 * KB);
    (void)age(&cache, RECYCLER_IDLE_NS);
    struct recycler_stats half = stats();
    assert_int_equal(half.frees, 1);
    assert_true(half.heap_sys > 0);
    assert_int_equal(half.heap_idle, half.heap_released);
    assert_ptr_equal(get(64 * KB), b); /* the mapping is used again */
    assert_int_equal(b[5000], 0);      /* the memory is new */
    assert_int_equal(stats().makes, 3);
    recycler_give(&cache, a, 64 * KB);
    recycler_give(&cache, b, 64 * KB);
    assert_int_equal(age(&cache, 2 * RECYCLER_IDLE_NS), INT64_MAX);
    assert_int_equal(stats().heap_sys, 0);
}

/* Free pieces of wrong sizes would lie about until their minute is over, beside new ones that fit. */
static void a_large_get_takes_the_nearest_piece_and_makes_it_fit(void **state) {
    if (MEM_HARDENED)
        skip(); /* it waits in the quarantine; the next story is about the same code */
    char *eight = get(8 * MB), *sixteen = get(16 * MB);
    recycler_give(&cache, eight, 8 * MB);
    recycler_give(&cache, sixteen, 16 * MB);

    char *five = get(5 * MB); /* 8 MB is nearer than 16 */
    assert_ptr_equal(five, eight);
    assert_int_equal(stats().shrinks, 1);
    assert_int_equal(stats().heap_sys, 21 * MB);
    five[5 * MB - 1] = 'x';
    recycler_give(&cache, five, 5 * MB);

    five = get(5 * MB - 300 * KB); /* a little too large is left as it is */
    assert_int_equal(stats().shrinks, 1);
    assert_int_equal(stats().heap_alloc, 5 * MB);
    recycler_give(&cache, five, 5 * MB - 300 * KB);

    char *seven = get(7 * MB);
    assert_int_equal(stats().grows, 1);
    assert_int_equal(stats().heap_sys, 23 * MB);
    assert_int_equal(seven[5 * MB - 1], 'x'); /* what is kept was not had anew */
    memset(seven, 's', 7 * MB);

    char *two = get(2 * MB); /* a sixteenth of what is free: that would be waste */
    assert_int_equal(stats().makes, 3);
    recycler_give(&cache, two, 2 * MB);
    recycler_give(&cache, seven, 7 * MB);
}

static void gives_where_it_was(char *lent) {
    recycler_give(&cache, lent, 5 * MB);
}

static void a_piece_that_cannot_grow_in_place_moves(void **state) {
    char *a = get(3 * MB);
    memset(a, 'a', 3 * MB);
    recycler_give(&cache, a, 3 * MB);
    if (MEM_HARDENED)
        for (int i = 0; i < 4; i++) { /* out of the quarantine */
            char *other = get(15 * MB);
            recycler_give(&cache, other, 15 * MB);
            (void)age(&cache, NS_PER_S);
        }
    must_move = true;
    moves = 0;
    char *b = get(5 * MB);
    must_move = false;
    assert_int_equal(moves, 1);
    assert_ptr_not_equal(b, a);
    assert_int_equal((unsigned char)b[1], MEM_HARDENED ? MEM_FILL : 'a');
    memset(b, 'b', 5 * MB);
    assert_true(dies(gives_where_it_was, a));
    recycler_give(&cache, b, 5 * MB);
}

static void without_memory_a_piece_stays_as_it_was(void **state) {
    if (MEM_HARDENED)
        skip();
    char *a = get(3 * MB);
    recycler_give(&cache, a, 3 * MB);
    struct recycler_stats before = stats();
    memory_is_short = true;
    assert_null(recycler_get(&cache, 5 * MB));
    struct recycler_stats after = stats();
    assert_memory_equal(&before, &after, sizeof before);
    assert_ptr_equal(recycler_get(&cache, 3 * MB), a);
    memory_is_short = false;
    tables_are_short = must_move = true;
    recycler_give(&cache, a, 3 * MB);
    a = get(5 * MB); /* addresses near by need no new table */
    tables_are_short = must_move = false;
    recycler_give(&cache, a, 5 * MB);
}

static void a_trim_gives_back_what_is_young(void **state) {
    enum { COUNT = 3 * RECYCLER_STEP };
    char *ptrs[COUNT], *held = get(64 * KB), *large = get(5 * MB);
    struct recycler_cache other;
    recycler_cache_init(&other);
    (void)age(&other, 0);
    for (int i = 0; i < COUNT; i++)
        ptrs[i] = get(16 * KB);
    for (int i = 0; i < COUNT; i++)
        recycler_give(&cache, ptrs[i], 16 * KB);
    recycler_give(&cache, large, 5 * MB);
    struct recycler_stats before = stats();
    assert_true(before.heap_idle - before.heap_released >= COUNT * 16 * KB + 5 * MB);
    while (recycler_trim(&other)) {
    } /* what is everybody's; the rest is in the first cache */
    uint64_t kept = stats().heap_idle - stats().heap_released;
    assert_true(MEM_HARDENED ? kept == 0 : kept > 0 && kept <= 32 * 16 * KB);
    assert_false(recycler_trim(&cache));
    struct recycler_stats after = stats();
    assert_int_equal(after.heap_idle, after.heap_released);
    assert_int_equal(after.bytes, 64 * KB); /* what is held is left alone */
    assert_int_equal(after.frees, COUNT + 1);
    recycler_give(&cache, held, 64 * KB);
    recycler_cache_fini(&other);
}

static void what_one_cache_got_another_takes_back(void **state) {
    enum { COUNT = 100 };
    struct recycler_cache other;
    recycler_cache_init(&other);
    (void)age(&other, 0);
    void *ptrs[COUNT];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT; i++)
            ptrs[i] = get(16 * KB);
        for (int i = 0; i < COUNT; i++)
            recycler_give(&other, ptrs[i], 16 * KB);
        assert_int_equal(stats().bytes, 0);
        assert_int_equal(stats().heap_alloc, 0);
    }
    if (!MEM_HARDENED)
        assert_true(stats().makes < 2 * COUNT); /* they come back through the depot */
    recycler_cache_fini(&other);                /* what it has is not lost */
    assert_true(age(&cache, NS_PER_S) < INT64_MAX);
}

/* Two threads take, two give, through a pipe each pair: pieces go round only through the depot. */
enum { TRIPS = 20000 };
struct pair {
    int fds[2];
};

static void *takes(void *arg) {
    struct pair *pair = arg;
    struct recycler_cache mine;
    recycler_cache_init(&mine);
    for (int i = 0; i < TRIPS; i++) {
        uint32_t **ptr = recycler_get(&mine, 16 * KB);
        ASSERT(ptr);
        memset(ptr, i, 64);
        ASSERT(write(pair->fds[1], &ptr, sizeof ptr) == sizeof ptr);
        if (i % 1000 == 0)
            (void)recycler_age(&mine, (int64_t)i * NS_PER_S);
    }
    recycler_cache_fini(&mine);
    return NULL;
}

static void *gives(void *arg) {
    struct pair *pair = arg;
    struct recycler_cache mine;
    recycler_cache_init(&mine);
    for (int i = 0; i < TRIPS; i++) {
        char *ptr;
        ASSERT(read(pair->fds[0], &ptr, sizeof ptr) == sizeof ptr);
        ASSERT(ptr[0] == (char)i);
        ASSERT(ptr[63] == (char)i);
        recycler_give(&mine, ptr, 16 * KB);
    }
    recycler_cache_fini(&mine);
    return NULL;
}

static void threads_contend_for_the_depot(void **state) {
    struct pair pairs[2];
    pthread_t threads[4];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe(pairs[i].fds), 0);
        assert_int_equal(pthread_create(&threads[2 * i], NULL, takes, &pairs[i]), 0);
        assert_int_equal(pthread_create(&threads[2 * i + 1], NULL, gives, &pairs[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        close(pairs[i].fds[0]);
        close(pairs[i].fds[1]);
    }
    assert_int_equal(stats().bytes, 0);
    now_ns += (int64_t)TRIPS * NS_PER_S; /* past all stamps of theirs */
}

static void without_memory_a_get_is_null_and_nothing_else_changes(void **state) {
    static bool *const shortages[] = {&memory_is_short, &tables_are_short};
    void *kept = get(16 * KB), *given = get(16 * KB);
    recycler_give(&cache, given, 16 * KB);
    for (int i = 0; i < 2; i++) {
        struct recycler_stats before = stats();
        *shortages[i] = true;
        assert_null(recycler_get(&cache, 5 * MB));
        assert_null(recycler_get(&cache, 96 * KB));
        struct recycler_stats after = stats();
        assert_memory_equal(&before, &after, sizeof before);
        given = recycler_get(&cache, 16 * KB); /* there is some */
        assert_non_null(given);
        recycler_give(&cache, given, 16 * KB);
        *shortages[i] = false;
    }
    recycler_give(&cache, get(5 * MB), 5 * MB);
    recycler_give(&cache, kept, 16 * KB);
}

static int wakes;
static void count_wake(struct recycler_cache *of) {
    wakes++;
}

static void the_owner_is_woken_once_while_there_is_something_to_age(void **state) {
    int64_t clock_ns = now_ns;
    recycler_drive(&cache, &clock_ns, count_wake);
    wakes = 0;
    void *a = get(4 * KB), *b = get(4 * KB);
    assert_int_equal(wakes, 0);
    recycler_give(&cache, a, 4 * KB);
    recycler_give(&cache, b, 4 * KB);
    assert_int_equal(wakes, 1);
    int64_t next_ns = age(&cache, NS_PER_S);
    assert_int_equal(next_ns, now_ns + RECYCLER_AGE_NS);
    assert_int_equal(age(&cache, RECYCLER_IDLE_NS), INT64_MAX);
    a = get(4 * KB);
    clock_ns = now_ns;
    assert_int_equal(wakes, 1);
    recycler_give(&cache, a, 4 * KB);
    assert_int_equal(wakes, 2);
    assert_int_equal(age(&cache, RECYCLER_IDLE_NS), INT64_MAX); /* the clock stamped it */
}

/* ---- Misuse ---- */

static void gives_it_as_it_should(char *lent) {
    recycler_give(&cache, lent, 16 * KB);
}

static void gives_it_twice(char *lent) {
    recycler_give(&cache, lent, 16 * KB);
    recycler_give(&cache, lent, 16 * KB);
}

static void gives_it_again_when_the_os_has_it(char *lent) {
    char *large = get(5 * MB);
    recycler_give(&cache, large, 5 * MB);
    (void)age(&cache, 2 * RECYCLER_IDLE_NS);
    recycler_give(&cache, large, 5 * MB);
}

static void gives_another_size(char *lent) {
    recycler_give(&cache, lent, 16 * KB - 1);
}

static void gives_its_middle(char *lent) {
    recycler_give(&cache, lent + 4 * KB, 16 * KB);
}

static void gives_memory_of_malloc(char *lent) {
    recycler_give(&cache, malloc(16 * KB), 16 * KB);
}

static void gives_its_stack(char *lent) {
    char local[64];
    recycler_give(&cache, local, sizeof local);
}

static void gives_no_address_at_all(char *lent) {
    recycler_give(&cache, (void *)UINTPTR_MAX, 16 * KB);
}

static void gets_nothing(char *lent) {
    (void)!recycler_get(&cache, 0);
}

static void gets_too_much(char *lent) {
    (void)!recycler_get(&cache, (size_t)RECYCLER_SIZE_MAX + 1);
}

static bool dies_with_a_piece(void (*body)(char *lent)) {
    char *lent = get(16 * KB);
    bool died = dies(body, lent);
    recycler_give(&cache, lent, 16 * KB);
    return died;
}

static void what_is_not_lent_is_not_taken_back(void **state) {
    assert_false(dies_with_a_piece(gives_it_as_it_should));
    assert_true(dies_with_a_piece(gives_it_twice));
    assert_true(dies_with_a_piece(gives_it_again_when_the_os_has_it));
    assert_true(dies_with_a_piece(gives_another_size));
    assert_true(dies_with_a_piece(gives_its_middle));
    assert_true(dies_with_a_piece(gives_memory_of_malloc));
    assert_true(dies_with_a_piece(gives_its_stack));
    assert_true(dies_with_a_piece(gives_no_address_at_all));
    assert_true(dies_with_a_piece(gets_nothing));
    assert_true(dies_with_a_piece(gets_too_much));
}

/* Under ASan at once, in other hardened builds when it is used again or goes back. */
static void writes_after_give(char *lent) {
    volatile char *late = lent;
    recycler_give(&cache, lent, 16 * KB);
    late[100] = 1;
    (void)age(&cache, 2 * RECYCLER_IDLE_NS);
}

static void writes_after_give_to_what_is_got_again(char *lent) {
    enum { COUNT = 2000 }; /* more than the quarantine holds */
    static void *ptrs[COUNT];
    volatile char *late = lent;
    for (int i = 0; i < COUNT; i++)
        ptrs[i] = get(16 * KB);
    recycler_give(&cache, lent, 16 * KB);
    late[16 * KB - 1] = 1;
    for (int i = 0; i < COUNT; i++)
        recycler_give(&cache, ptrs[i], 16 * KB);
    for (int i = 0; i < COUNT; i++)
        (void)get(16 * KB);
}

static void writes_late_to_a_large_one(char *lent) {
    char *large = get(3 * MB);
    volatile char *late = large;
    recycler_give(&cache, large, 3 * MB);
    late[2 * MB] = 1;
    while (recycler_trim(&cache)) {
    }
}

static void a_hardened_build_sees_a_late_write(void **state) {
    if (!MEM_HARDENED)
        skip();
    char *first = get(16 * KB);
    recycler_give(&cache, first, 16 * KB);
    char *second = get(16 * KB);
    assert_ptr_not_equal(second, first); /* it waits */
    recycler_give(&cache, second, 16 * KB);
    assert_true(dies_with_a_piece(writes_after_give));
    assert_true(dies_with_a_piece(writes_after_give_to_what_is_got_again));
    assert_true(dies_with_a_piece(writes_late_to_a_large_one));
}

#ifdef MEM_HAS_ASAN
static void writes_past_its_end(char *lent) {
    volatile char *short_one = get(5000);
    short_one[5000] = 1;
}

static void asan_sees_a_write_past_the_end(void **state) {
    assert_true(dies_with_a_piece(writes_past_its_end));
}
#endif

#define STORY(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        STORY(what_was_given_is_got_again),
        STORY(what_is_idle_goes_back_while_others_come_and_go),
        STORY(small_pieces_lose_their_memory_before_their_mapping),
        STORY(a_large_get_takes_the_nearest_piece_and_makes_it_fit),
        STORY(a_piece_that_cannot_grow_in_place_moves),
        STORY(without_memory_a_piece_stays_as_it_was),
        STORY(a_trim_gives_back_what_is_young),
        STORY(what_one_cache_got_another_takes_back),
        STORY(threads_contend_for_the_depot),
        STORY(without_memory_a_get_is_null_and_nothing_else_changes),
        STORY(the_owner_is_woken_once_while_there_is_something_to_age),
        STORY(what_is_not_lent_is_not_taken_back),
        STORY(a_hardened_build_sees_a_late_write),
#ifdef MEM_HAS_ASAN
        STORY(asan_sees_a_write_past_the_end),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
