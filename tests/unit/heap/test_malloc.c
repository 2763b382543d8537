/* The malloc of the process: what every program relies on, with each object sampled and with none; and
 * that the sampled ones are found again, wherever and by whomever they are freed. */
#include "heap_story.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/resource.h>

SITE_ENDS(keeper);
SITE_ENDS(renewer);
SITE_ENDS(through);

enum { MIB = 1 << 20 };

/* The compiler knows what malloc and free do, and would leave out a pair. */
static void *volatile hidden;

static SITE(keeper) void *keep(size_t size) {
    hidden = malloc(size);
    return hidden;
}

static SITE(renewer) void *renew(void *object, size_t size) {
    hidden = realloc(object, size);
    return hidden;
}

static void begin(uint64_t rate) {
    CHECK(heap_profile_init(rate) == 0);
    sampler_seed(1);
}

static struct heap_reading reading_now(void) {
    struct heap_reading reading;
    struct story_sum sum = {0};
    heap_profile_close_cycle();
    CHECK(heap_profile_read(HEAP_ANY_AGE, story_add, &sum, &reading) == 0);
    return reading;
}

/* ---- What every program relies on ---- */

static void fill(void *object, size_t size) {
    memset(object, (int)(size * 7 + 1), size);
}

static void check_fill(const void *object, size_t size, size_t filled) {
    const unsigned char *bytes = object;
    for (size_t i = 0; i < size; i++)
        CHECK(bytes[i] == (unsigned char)(filled * 7 + 1));
}

static const size_t sizes[] = {0,       1,       8,        15,       16,      17,
                               100,     1000,    4095,     4096,     10000,   100000,
                               1000000, 5000000, 10 * MIB, 20 * MIB, 40 * MIB};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void exercise_sizes(void) {
    void *objects[SIZES];
    for (unsigned i = 0; i < SIZES; i++) {
        objects[i] = keep(sizes[i]);
        CHECK(objects[i] && (uintptr_t)objects[i] % (sizes[i] < 16 ? 8 : 16) == 0);
        CHECK(malloc_usable_size(objects[i]) >= sizes[i]);
        fill(objects[i], sizes[i]);
    }
    for (unsigned i = 0; i < SIZES; i++) {
        check_fill(objects[i], sizes[i], sizes[i]);
        free(objects[i]);
    }
    free(NULL);
}

static void exercise_zeroes(void) {
    for (unsigned i = 0; i < SIZES; i++) {
        unsigned char *object = calloc(1, sizes[i]);
        CHECK(object);
        for (size_t b = 0; b < sizes[i]; b++)
            CHECK(object[b] == 0);
        fill(object, sizes[i]);
        free(object);
    }
}

static void exercise_renewal(void) {
    void *object = NULL;
    for (unsigned from = 1; from < SIZES; from += 2) {
        for (unsigned to = 1; to < SIZES; to += 5) {
            object = renew(NULL, sizes[from]);
            CHECK(object);
            fill(object, sizes[from]);
            object = renew(object, sizes[to]);
            CHECK(object);
            check_fill(object, sizes[from] < sizes[to] ? sizes[from] : sizes[to], sizes[from]);
            free(object);
        }
    }
    CHECK(!renew(keep(10), 0)); /* freed, as by glibc */
    object = reallocarray(NULL, 10, 10);
    CHECK(object && malloc_usable_size(object) >= 100);
    free(object);
}

static void exercise_alignments(void) {
    for (size_t align = 8; align <= MIB; align *= 2) {
        for (unsigned i = 0; i < SIZES; i += 4) {
            void *object;
            CHECK(posix_memalign(&object, align, sizes[i]) == 0);
            CHECK((uintptr_t)object % align == 0);
            fill(object, sizes[i]);
            object = renew(object, sizes[i] + 100);
            check_fill(object, sizes[i], sizes[i]);
            free(object);
            object = aligned_alloc(align, sizes[i]);
            CHECK(object && (uintptr_t)object % align == 0);
            free(object);
            object = memalign(align - 1, sizes[i]); /* the next power of 2 */
            CHECK(object && (uintptr_t)object % align == 0);
            free(object);
        }
    }
    void *page = valloc(1), *pages = pvalloc(5000);
    CHECK((uintptr_t)page % 4096 == 0 && (uintptr_t)pages % 4096 == 0);
    CHECK(malloc_usable_size(pages) >= 8192);
    free(page);
    free(pages);
}

static volatile size_t too_much = SIZE_MAX / 2 + 1; /* volatile: the compiler would warn */

static void exercise_errors(void) {
    errno = 0;
    CHECK(!malloc(too_much) && errno == ENOMEM);
    errno = 0;
    CHECK(!calloc(too_much, 2) && errno == ENOMEM);
    errno = 0;
    CHECK(!calloc(too_much / 2, 4) && errno == ENOMEM);
    void *object = keep(10);
    errno = 0;
    CHECK(!realloc(object, too_much) && errno == ENOMEM);
    CHECK(!reallocarray(object, too_much, 3));
    free(object); /* it was still ours */
    void *out = &object;
    errno = 0;
    CHECK(posix_memalign(&out, 3, 10) == EINVAL);
    CHECK(posix_memalign(&out, 4, 10) == EINVAL);
    CHECK(posix_memalign(&out, 16, too_much) == ENOMEM);
    CHECK(out == &object && errno == 0);
    CHECK(!aligned_alloc(3, 10) && errno == EINVAL);
    CHECK(!pvalloc(SIZE_MAX - 10));
    errno = 77;
    free(keep(100));
    CHECK(errno == 77);
}

static void exercise(void) {
    exercise_sizes();
    exercise_zeroes();
    exercise_renewal();
    exercise_alignments();
    exercise_errors();
}

static void tell_contract_unsampled(void) {
    begin(0);
    exercise();
    CHECK(reading_now().samples == 0);
}

static void tell_contract_sampled(void) {
    begin(1);
    exercise();
    struct heap_reading reading = reading_now();
    CHECK(reading.samples > 400 && reading.lost == 3); /* of exercise_errors: absurd sizes */
    CHECK(SITE_SUM(keeper).live.objects == 0 && SITE_SUM(keeper).live.bytes == 0);
    CHECK(SITE_SUM(renewer).live.objects == 0 && SITE_SUM(renewer).live.bytes == 0);
}

static void test_malloc_keeps_its_contract_when_nothing_is_sampled(void **state) {
    story(tell_contract_unsampled);
}

static void test_malloc_keeps_its_contract_when_everything_is_sampled(void **state) {
    story(tell_contract_sampled);
}

/* ---- What the profile says of it ---- */

static void tell_exact(void) {
    begin(1);
    void *kept = keep(1000), *large = keep(50 * MIB);
    heap_profile_close_cycle();
    CHECK(SITE_SUM(keeper).live.bytes == 1000 + 50 * MIB && SITE_SUM(keeper).live.objects == 2);
    CHECK(mallinfo2().uordblks >= 50 * MIB && mallinfo2().arena >= mallinfo2().uordblks);
    kept = renew(kept, 3000); /* is the renewer's from now on */
    free(large);
    heap_profile_close_cycle();
    CHECK(SITE_SUM(keeper).live.bytes == 0 && SITE_SUM(renewer).live.bytes == 3000);
    heap_profile_set_rate(0);
    kept = renew(kept, 5000); /* no longer anybody's */
    heap_profile_close_cycle();
    CHECK(SITE_SUM(renewer).live.bytes == 0 && SITE_SUM(renewer).allocated.bytes == 3000);
    free(kept);
}

static void test_each_object_is_told_at_rate_1(void **state) {
    story(tell_exact);
}

static void *free_all(void *arg) {
    void **objects = arg;
    for (unsigned i = 0; i < 1000; i++)
        free(objects[i]);
    return NULL;
}

static void *keep_and_end(void *arg) {
    void **objects = arg;
    for (unsigned i = 0; i < 1000; i++)
        objects[i] = keep(i * 10 + 10);
    return NULL;
}

static void run(void *(*fn)(void *), void *arg) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fn, arg) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void tell_threads(void) {
    begin(1);
    static void *objects[1000];
    for (unsigned round = 0; round < 50; round++) { /* segments of ended threads are taken over */
        run(keep_and_end, objects);
        heap_profile_close_cycle();
        CHECK(SITE_SUM(keeper).live.objects == 1000 && SITE_SUM(keeper).live.bytes == 5005000);
        run(free_all, objects);
        heap_profile_close_cycle();
        CHECK(SITE_SUM(keeper).live.objects == 0 && SITE_SUM(keeper).live.bytes == 0);
    }
    malloc_trim(0); /* mimalloc's main thread takes over what others left, of the range too */
    run(keep_and_end, objects);
    malloc_trim(0);
    for (unsigned i = 0; i < 1000; i++)
        free(objects[i]);
    heap_profile_close_cycle();
    CHECK(SITE_SUM(keeper).live.objects == 0);
}

static void test_objects_outlive_their_thread_and_are_freed_by_another(void **state) {
    story(tell_threads);
}

static pthread_key_t late;

static void allocate_late(void *value) {
    int *more = keep(100); /* mimalloc may have left the thread by now */
    free(value);
    *more = 1;
    free(more);
}

static void *end_with_a_value(void *arg) {
    pthread_setspecific(late, keep(10));
    return NULL;
}

static void tell_destructors(void) {
    begin(1);
    CHECK(pthread_key_create(&late, allocate_late) == 0);
    for (unsigned i = 0; i < 100; i++)
        run(end_with_a_value, NULL);
    heap_profile_close_cycle();
    CHECK(SITE_SUM(keeper).live.objects == 0);
    CHECK(SITE_SUM(keeper).allocated.bytes >= 1000);
}

static void test_a_thread_that_ends_may_allocate_to_its_last_destructor(void **state) {
    story(tell_destructors);
}

/* ---- Memory goes back, or is short ---- */

static size_t resident_bytes(void) {
    FILE *statm = fopen("/proc/self/statm", "re");
    size_t size, resident;
    CHECK(statm && fscanf(statm, "%zu %zu", &size, &resident) == 2);
    fclose(statm);
    return resident * 4096;
}

static void tell_return(void) {
    begin(1);
    enum { COUNT = 20 };
    void *objects[COUNT];
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            objects[i] = keep(10 * MIB);
            memset(objects[i], 1, 10 * MIB);
        }
        CHECK(resident_bytes() > COUNT * 10 * MIB);
        for (unsigned i = 0; i < COUNT; i++)
            free(objects[i]);
        malloc_trim(0);
        CHECK(resident_bytes() < COUNT * 10 * MIB / 4);
    }
}

static void test_the_memory_of_large_objects_goes_back(void **state) {
    story(tell_return);
}

static void tell_limit(void) {
    const struct rlimit limit = {.rlim_cur = 3UL << 30, .rlim_max = 3UL << 30};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    begin(1);
    void *kept = keep(1000); /* there is no room for a range of 256 MiB of these 3 GiB */
    CHECK(kept);
    struct heap_reading reading = reading_now();
    CHECK(reading.samples > 0 && reading.lost == reading.samples);
    CHECK(SITE_SUM(keeper).live.objects == 0);
    free(kept);
}

static void test_without_address_space_samples_are_lost_and_all_goes_on(void **state) {
    story(tell_limit);
}

/* ---- Threads, forks, libraries ---- */

static void *volatile slots[64];
static _Atomic uint64_t slot_random = 1;

static void *swap_slots(void *arg) {
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t random = atomic_fetch_add(&slot_random, 0x9e3779b97f4a7c15U);
        random ^= random >> 29;
        size_t size = random % 100 == 0 ? random % MIB : random % 2000;
        char *object = random & 1 << 20 ? malloc(size + 1) : calloc(1, size + 1);
        object[0] = object[size] = 'x';
        if (random & 1 << 21)
            object = realloc(object, size / 2 + 1);
        free(__atomic_exchange_n(&slots[random >> 40 & 63], object, __ATOMIC_ACQ_REL));
    }
    return NULL;
}

static void stress(void) {
    pthread_t threads[6];
    for (unsigned i = 0; i < 6; i++)
        CHECK(pthread_create(&threads[i], NULL, swap_slots, NULL) == 0);
    for (unsigned i = 0; i < 200; i++) {
        heap_profile_set_rate(i % 3 == 0 ? 0 : i % 3 == 1 ? 1 : 2000);
        heap_profile_close_cycle();
        struct story_sum sum = {.high = UINTPTR_MAX};
        struct heap_reading reading;
        CHECK(heap_profile_read(i % 2, story_add, &sum, &reading) == 0);
        CHECK(sum.live.bytes >= 0 && sum.live.objects >= 0);
    }
    for (unsigned i = 0; i < 6; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    for (unsigned i = 0; i < 64; i++)
        free(slots[i]);
}

static struct heap_count live_of_stress;

static void add_stress(void *arg, const struct heap_site *site) {
    for (unsigned i = 0; i < site->depth; i++) {
        if (site->pcs[i] >= (uintptr_t)swap_slots && site->pcs[i] < (uintptr_t)swap_slots + 600) {
            live_of_stress.bytes += site->live.bytes;
            live_of_stress.objects += site->live.objects;
            return;
        }
    }
}

static void tell_stress(void) {
    begin(1);
    stress();
    heap_profile_close_cycle();
    struct heap_reading reading;
    CHECK(heap_profile_read(HEAP_ANY_AGE, add_stress, NULL, &reading) == 0);
    CHECK(reading.lost == 0);
    CHECK(live_of_stress.bytes == 0 && live_of_stress.objects == 0);
}

static void test_many_threads_and_changes_of_the_rate(void **state) {
    story(tell_stress);
}

static _Atomic int may_stop;

static void *churn(void *arg) {
    while (!atomic_load(&may_stop))
        free(keep(100));
    return NULL;
}

/* Some library's handlers, set before ours, so they run while all is locked. */
static void *kept_over_fork;

static void allocate_before_fork(void) {
    free(kept_over_fork);
    kept_over_fork = malloc(2000);
}

static void allocate_after_fork(void) {
    kept_over_fork = realloc(kept_over_fork, 100);
}

static void tell_fork(void) {
    CHECK(pthread_atfork(allocate_before_fork, allocate_after_fork, allocate_after_fork) == 0);
    begin(1);
    kept_over_fork = malloc(50);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, churn, NULL) == 0);
    void *kept = keep(1000);
    for (unsigned i = 0; i < 50; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            free(kept);
            void *own = renew(NULL, 31);
            heap_profile_close_cycle();
            CHECK(SITE_SUM(renewer).live.bytes == 31);
            free(own);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    atomic_store(&may_stop, 1);
    pthread_join(thread, NULL);
    free(kept);
}

static void test_a_child_goes_on(void **state) {
    story(tell_fork);
}

static SITE(through) void *through_library(void *(*make)(void)) {
    hidden = make();
    return hidden;
}

/* The outermost of a stack's frames that is ours. */
static void find_through(void *arg, const struct heap_site *site) {
    for (unsigned i = 0; i < site->depth; i++) {
        unsigned *deepest = arg;
        if (site->pcs[i] >= (uintptr_t)__start_site_through &&
            site->pcs[i] < (uintptr_t)__stop_site_through && i > *deepest)
            *deepest = i;
    }
}

static void tell_library(void) {
    void *library = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        exit(77);
    void *(*make)(void);
    void (*give)(void *);
    *(void **)&make = dlsym(library, "X509_new");
    *(void **)&give = dlsym(library, "X509_free");
    CHECK(make && give);
    begin(1);
    void *object = through_library(make);
    heap_profile_close_cycle();
    unsigned deepest = 0;
    struct heap_reading reading;
    CHECK(heap_profile_read(HEAP_ANY_AGE, find_through, &deepest, &reading) == 0);
    CHECK(deepest >= 4); /* so many of its functions are between malloc and us */
    give(object);
}

static void test_a_stack_goes_through_a_library_without_frame_pointers(void **state) {
    if (story_code(tell_library) == 77)
        skip(); /* the library is not here */
    story(tell_library);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malloc_keeps_its_contract_when_nothing_is_sampled),
        cmocka_unit_test(test_malloc_keeps_its_contract_when_everything_is_sampled),
        cmocka_unit_test(test_each_object_is_told_at_rate_1),
        cmocka_unit_test(test_objects_outlive_their_thread_and_are_freed_by_another),
        cmocka_unit_test(test_a_thread_that_ends_may_allocate_to_its_last_destructor),
        cmocka_unit_test(test_the_memory_of_large_objects_goes_back),
        cmocka_unit_test(test_without_address_space_samples_are_lost_and_all_goes_on),
        cmocka_unit_test(test_many_threads_and_changes_of_the_rate),
        cmocka_unit_test(test_a_child_goes_on),
        cmocka_unit_test(test_a_stack_goes_through_a_library_without_frame_pointers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
