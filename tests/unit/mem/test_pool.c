/* pool.c: objects come and go, also by way of other threads; what is idle goes back while others are in
 * use; what a caller may do wrong ends the process. The clock is ours. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mem/poison.h"
#include "mem/pool.h"

enum { SIZE = 1000, MANY = 1000 };

static struct pool sessions = {.name = "session", .object_size = SIZE};
static struct pool others = {.name = "other", .object_size = SIZE};

/* What a P has. */
struct place {
    struct recycler_cache recycler;
    struct pool_cache sessions;
};
static struct place here;
static int64_t now_ns = 1000 * NS_PER_S;

static void open_place(struct place *place) {
    recycler_cache_init(&place->recycler);
    (void)recycler_age(&place->recycler, now_ns);
    pool_cache_init(&place->sessions, &sessions, &place->recycler);
}

static void close_place(struct place *place) {
    pool_cache_fini(&place->sessions);
    recycler_cache_fini(&place->recycler);
}

static void age(struct place *place, int64_t passed_ns) {
    now_ns += passed_ns;
    while (recycler_age(&place->recycler, now_ns) <= now_ns + RECYCLER_AGE_PAUSE_NS) {
    }
}

static struct pool_stats stats_of(const struct pool *pool) {
    struct pool_stats stats;
    for (unsigned i = 0; pool_stats(i, &stats); i++)
        if (stats.name == pool->name)
            return stats;
    fail();
    return stats;
}

static uint64_t mapped(void) {
    struct recycler_stats stats;
    recycler_stats(&stats);
    return stats.heap_sys;
}

static int begin(void **state) {
    open_place(&here);
    return 0;
}

static int end(void **state) {
    bool none_left = stats_of(&sessions).in_use == 0;
    close_place(&here);
    struct place last; /* brings home what the others left */
    open_place(&last);
    now_ns += 1000 * NS_PER_S;
    age(&last, 0);
    close_place(&last);
    return none_left && mapped() == 0 && stats_of(&sessions).heap_alloc == 0 ? 0 : -1;
}

static char *get(struct place *place) {
    char *object = pool_get(&place->sessions);
    assert_non_null(object);
    assert_int_equal((uintptr_t)object % POOL_ALIGN, 0);
    return object;
}

static void objects_are_apart_and_counted(void **state) {
    static char *objects[MANY];
    for (int i = 0; i < MANY; i++) {
        objects[i] = get(&here);
        memset(objects[i], i % 251, SIZE);
    }
    struct pool_stats stats = stats_of(&sessions);
    assert_int_equal(stats.in_use, MANY);
    assert_int_equal(stats.object_size, SIZE);
    assert_true(stats.heap_alloc >= MANY * SIZE);
    assert_true(stats.heap_alloc < MANY * SIZE * 5 / 4);
    for (int i = 0; i < MANY; i++)
        for (int at = 0; at < SIZE; at++)
            assert_int_equal((unsigned char)objects[i][at], i % 251);
    for (int i = 0; i < MANY; i++)
        pool_put(&here.sessions, objects[i]);
    assert_int_equal(stats_of(&sessions).in_use, 0);
    for (int i = 0; i < MANY; i++)
        objects[i] = get(&here);
    if (!MEM_HARDENED)
        assert_int_equal(stats_of(&sessions).heap_alloc, stats.heap_alloc); /* in the same memory */
    for (int i = 0; i < MANY; i++)
        pool_put(&here.sessions, objects[i]);
}

static void slabs_idle_for_a_minute_go_back_under_steady_traffic(void **state) {
    static char *objects[MANY];
    for (int i = 0; i < MANY; i++)
        objects[i] = get(&here);
    uint64_t most = stats_of(&sessions).heap_alloc;
    char *kept = objects[MANY / 2];
    for (int i = 0; i < MANY; i++)
        if (objects[i] != kept)
            pool_put(&here.sessions, objects[i]);
    age(&here, 0);
    for (int second = 0; second < 59; second++) {
        pool_put(&here.sessions, get(&here));
        age(&here, NS_PER_S);
        assert_int_equal(stats_of(&sessions).heap_alloc, most); /* not before its time */
    }
    for (int second = 0; second < 30; second++) {
        pool_put(&here.sessions, get(&here));
        age(&here, NS_PER_S);
    }
    /* The slab of what is in use, and at most the one that the traffic goes through. */
    assert_true(stats_of(&sessions).heap_alloc <= 2 * here.sessions.pool->slab_size);
    pool_put(&here.sessions, kept);
    while (recycler_trim(&here.recycler)) {
    }
    assert_int_equal(stats_of(&sessions).heap_alloc, 0); /* at once, when it is asked for */
}

static void what_is_put_elsewhere_goes_home(void **state) {
    static char *objects[MANY];
    struct place other;
    open_place(&other);
    uint64_t most = 0;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < MANY; i++)
            objects[i] = get(&here);
        for (int i = 0; i < MANY; i++)
            pool_put(&other.sessions, objects[(i * 7) % MANY]);
        if (round == 2)
            most = stats_of(&sessions).heap_alloc;
    }
    assert_int_equal(stats_of(&sessions).in_use, 0);
    assert_true(stats_of(&sessions).heap_alloc <= most); /* what came home was used again */
    assert_int_equal(other.sessions.slabs, 0);
    age(&other, 0); /* out of its quarantine */
    close_place(&other);
}

/* ---- Threads ---- */

enum { THREADS = 4, TRIPS = 20000, ON_THE_WAY = 64 };
static char *mailbox[ON_THE_WAY];

/* Puts what others got into the mailbox, and what it gets in its place. */
static void *trades(void *arg) {
    struct place *mine = arg;
    uint64_t seed = (uintptr_t)arg;
    for (int i = 0; i < TRIPS; i++) {
        seed = seed * 6364136223846793005ULL + 1;
        char *object = pool_get(&mine->sessions);
        ASSERT(object);
        memset(object, i, 32);
        object[32] = (char)(object[0] + 1);
        object = __atomic_exchange_n(&mailbox[(seed >> 33) % ON_THE_WAY], object, __ATOMIC_ACQ_REL);
        if (object) {
            ASSERT(object[31] == object[0]);
            ASSERT(object[32] == (char)(object[0] + 1));
            pool_put(&mine->sessions, object);
        }
        if (i % 500 == 0)
            (void)recycler_age(&mine->recycler, (int64_t)i * NS_PER_S);
    }
    return NULL;
}

static void threads_put_what_others_got(void **state) {
    static struct place places[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        open_place(&places[i]);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, trades, &places[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < ON_THE_WAY; i++)
        if (mailbox[i])
            pool_put(&here.sessions, mailbox[i]);
    now_ns += (int64_t)TRIPS * NS_PER_S;
    assert_int_equal(stats_of(&sessions).in_use, 0);
    age(&here, 0);
    for (int i = 0; i < THREADS; i++)
        (void)recycler_age(&places[i].recycler,
                           now_ns); /* quarantines end before the first cache does */
    for (int i = 0; i < THREADS; i++)
        close_place(&places[i]);
}

/* ---- Misuse ---- */

static bool dies(void (*body)(char *object)) {
    char *object = get(&here);
    pid_t pid = fork();
    if (pid == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)signal(SIGSEGV, SIG_DFL);
        (void)!freopen("/dev/null", "w", stderr);
        body(object);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    pool_put(&here.sessions, object);
    return status != 0;
}

static void puts_it(char *object) {
    pool_put(&here.sessions, object);
}

static void puts_it_twice(char *object) {
    pool_put(&here.sessions, object);
    pool_put(&here.sessions, object);
}

static void puts_it_twice_elsewhere(char *object) {
    struct place other;
    open_place(&other);
    pool_put(&other.sessions, object);
    pool_put(&other.sessions, object);
}

static void puts_it_when_its_slab_is_gone(char *object) {
    pool_put(&here.sessions, object);
    while (recycler_trim(&here.recycler)) {
    }
    pool_put(&here.sessions, object);
}

static void puts_it_when_its_slab_is_somebody_elses(char *object) {
    pool_put(&here.sessions, object);
    size_t size = here.sessions.pool->slab_size;
    while (recycler_trim(&here.recycler)) {
    }
    for (int i = 0; i < 16; i++) /* as it was left */
        (void)!recycler_get(&here.recycler, size);
    pool_put(&here.sessions, object);
}

static void puts_its_middle(char *object) {
    pool_put(&here.sessions, object + 16);
}

static void puts_the_slabs_head(char *object) {
    pool_put(&here.sessions, object - ((uintptr_t)object & 4095));
}

static void puts_memory_of_malloc(char *object) {
    pool_put(&here.sessions, malloc(SIZE));
}

static void puts_what_is_of_another_pool(char *object) {
    struct pool_cache cache;
    pool_cache_init(&cache, &others, &here.recycler);
    pool_put(&here.sessions, pool_get(&cache));
}

static void ends_while_in_use(char *object) {
    pool_cache_fini(&here.sessions);
}

static void what_is_not_in_use_is_not_taken_back(void **state) {
    assert_false(dies(puts_it));
    assert_true(dies(puts_it_twice));
    assert_true(dies(puts_it_twice_elsewhere));
    assert_true(dies(puts_it_when_its_slab_is_gone));
    assert_true(dies(puts_it_when_its_slab_is_somebody_elses));
    assert_true(dies(puts_its_middle));
    assert_true(dies(puts_the_slabs_head));
    assert_true(dies(puts_memory_of_malloc));
    assert_true(dies(puts_what_is_of_another_pool));
    assert_true(dies(ends_while_in_use));
}

/* Under ASan at once, in other hardened builds when its wait is over. */
static void writes_after_put(char *object) {
    volatile char *late = object;
    pool_put(&here.sessions, object);
    late[SIZE - 1] = 1;
    for (int i = 0; i <= POOL_QUARANTINE; i++)
        pool_put(&here.sessions, get(&here));
}

static void a_hardened_build_sees_a_late_write(void **state) {
    if (!MEM_HARDENED)
        skip();
    char *first = get(&here);
    pool_put(&here.sessions, first);
    char *second = get(&here);
    assert_ptr_not_equal(second, first); /* it waits */
    pool_put(&here.sessions, second);
    assert_true(dies(writes_after_put));
}

#ifdef MEM_HAS_ASAN
static void writes_past_its_end(char *object) {
    volatile char *late = object;
    late[SIZE] = 1;
}

static void asan_sees_a_write_past_the_end(void **state) {
    assert_true(dies(writes_past_its_end));
}
#endif

/* ---- Samples ---- */

static unsigned live;

static void *sample(size_t size, struct mem_countdown *countdown) {
    assert_int_equal(size, SIZE);   /* of objects, not of the slab that they are in */
    countdown->left = 2 * SIZE - 1; /* each second one */
    live++;
    return malloc(1);
}

static void gone(void *sample) {
    live--;
    free(sample);
}

static void sampled_objects_are_told_of_wherever_they_are_put(void **state) {
    static const struct mem_sampler sampler = {.sample = sample, .gone = gone};
    static char *objects[MANY];
    struct place other;
    open_place(&other);
    mem_sampler_set(&sampler);
    for (int i = 0; i < MANY; i++)
        objects[i] = get(&here);
    assert_int_equal(live, MANY / 2);
    for (int i = 0; i < MANY; i++)
        pool_put(i % 3 ? &here.sessions : &other.sessions, objects[i]);
    assert_int_equal(live, 0);
    mem_sampler_set(NULL);
    age(&other, 0);
    close_place(&other);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        STORY(objects_are_apart_and_counted),
        STORY(slabs_idle_for_a_minute_go_back_under_steady_traffic),
        STORY(what_is_put_elsewhere_goes_home),
        STORY(threads_put_what_others_got),
        STORY(what_is_not_in_use_is_not_taken_back),
        STORY(a_hardened_build_sees_a_late_write),
#ifdef MEM_HAS_ASAN
        STORY(asan_sees_a_write_past_the_end),
#endif
        STORY(sampled_objects_are_told_of_wherever_they_are_put),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
