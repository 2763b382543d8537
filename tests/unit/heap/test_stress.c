/* Threads that allocate, free what others allocated, end and begin, while the rate changes, cycles close and
 * readers read: nothing is counted twice, or forgotten, or torn. For ThreadSanitizer too. */
#include "heap_story.h"

#include <stdatomic.h>

enum { SLOTS = 128, THREADS = 4, ROUNDS = 5, ALLOCATIONS = 4000 };

static void *_Atomic slots[SLOTS];
static _Atomic bool is_over;

static void *allocate_and_swap(void *arg) {
    uint64_t random = (uintptr_t)arg * 0x9e3779b97f4a7c15U;
    for (unsigned i = 0; i < ALLOCATIONS; i++) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        void *object = story_alloc(1 + (random >> 40) % 3000);
        void *former = atomic_exchange(&slots[(random >> 33) % SLOTS], object);
        if (former)
            story_free(former);
    }
    return NULL;
}

static void check_whole(const struct heap_reading *reading, const struct story_sum *sum) {
    CHECK(sum->live.objects >= 0 && sum->live.bytes >= 0);
    CHECK(sum->live.bytes <= sum->allocated.bytes && sum->cycle.bytes <= sum->allocated.bytes);
    CHECK(reading->lost == 0);
}

static void *read_and_change(void *arg) {
    static const uint64_t rates[] = {1, 1000, 0, 50};
    for (unsigned i = 0; !atomic_load(&is_over); i++) {
        struct heap_reading reading;
        struct story_sum sum = {.high = UINTPTR_MAX};
        heap_profile_set_rate(rates[i % 4]);
        struct heap_totals totals = heap_profile_close_cycle();
        CHECK(totals.live.bytes >= 0 && totals.live.objects >= 0);
        if (heap_profile_read_cycle(totals.cycle, story_add, &sum, &reading) == 0) {
            check_whole(&reading, &sum);
            CHECK(sum.live.bytes == totals.live.bytes);
            CHECK(sum.cycle.bytes == totals.allocated_in_cycle.bytes);
        }
        sum = (struct story_sum){.high = UINTPTR_MAX};
        CHECK(heap_profile_read(1, story_add, &sum, &reading) == 0);
        CHECK(sum.live.bytes >= 0 && sum.live.objects >= 0);
    }
    return NULL;
}

static void tell_stress(void) {
    CHECK(heap_profile_init(1) == 0);
    pthread_t readers[2];
    for (unsigned i = 0; i < 2; i++)
        CHECK(pthread_create(&readers[i], NULL, read_and_change, NULL) == 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        pthread_t threads[THREADS];
        for (unsigned i = 0; i < THREADS; i++)
            CHECK(pthread_create(&threads[i], NULL, allocate_and_swap,
                                 (void *)(uintptr_t)(round * THREADS + i + 1)) == 0);
        for (unsigned i = 0; i < THREADS; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
    }
    atomic_store(&is_over, true);
    for (unsigned i = 0; i < 2; i++)
        CHECK(pthread_join(readers[i], NULL) == 0);
    for (unsigned i = 0; i < SLOTS; i++) {
        void *object = atomic_exchange(&slots[i], NULL);
        if (object)
            story_free(object);
    }
    struct heap_totals totals = heap_profile_close_cycle();
    CHECK(totals.live.objects == 0 && totals.live.bytes == 0);
}

static void test_threads_that_allocate_free_and_read(void **state) {
    story(tell_stress);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_that_allocate_free_and_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
