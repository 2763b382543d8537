/* The estimates are right on average, and as near as theory has it, whatever the sizes are and whatever
 * happens to the rate. Objects are addresses without memory, so 10 MB cost nothing; seeds are fixed.
 *
 * An estimate of n objects of size s, each seen with probability p and then counted s / p, has the variance
 * n s^2 (1 - p) / p. So over RUNS runs the mean may be off by some sqrt(variance / RUNS), and the
 * sum of (error^2 / variance) is chi-square with RUNS degrees of freedom, 200 its variance. */
#include "heap_story.h"

#include <math.h>

enum { RUNS = 100, RATE = 64 << 10, SITE_BYTES = 8 << 20 };
#define Z_MAX 4.0 /* one in 15,000; there are some 30 of these, and the seeds never change */
#define CHI_SQUARE_MIN (RUNS - 4 * 14.14)
#define CHI_SQUARE_MAX (RUNS + 5 * 14.14)

/* ---- Objects ---- */

enum { KEPT_MAX = 1 << 16 };
static const void *kept[KEPT_MAX];
static unsigned kept_count;
static uintptr_t next_address;

struct truth {
    double bytes, objects; /* that live */
    double bytes_variance, objects_variance;
};

static void expect(struct truth *truth, size_t size, uint64_t rate) {
    double p = rate == 1 ? 1 : -expm1(-(double)size / (double)rate);
    truth->bytes += (double)size;
    truth->objects += 1;
    truth->objects_variance += (1 - p) / p;
    truth->bytes_variance += (double)size * (double)size * (1 - p) / p;
}

enum fate { KEPT, FREED };

static NOINLINE void allocate(size_t size, enum fate fate) {
    const void *address = (const void *)(next_address += 16);
    double weight = sampler_due(&sampler_self, size) ? sampler_pick(size) : 0;
    if (weight == 0)
        return;
    CHECK(record_sample(address, size, weight, __builtin_return_address(0)));
    CHECK(kept_count < KEPT_MAX);
    if (fate == FREED)
        record_freed(address);
    else
        kept[kept_count++] = address;
}

static void free_all(void) {
    while (kept_count > 0)
        record_freed(kept[--kept_count]);
    heap_profile_close_cycle();
}

/* ---- Sites ---- */

static void allocate_some(size_t low, size_t high, void (*site)(size_t, enum fate),
                          struct truth *truth) {
    size_t done = 0;
    for (unsigned i = 0; done < SITE_BYTES || i < 20; i++) {
        size_t size = low + (high - low) * (i % 7) / 6;
        site(size, i % 2 ? FREED : KEPT);
        if (i % 2 == 0)
            expect(truth, size, RATE);
        done += size;
    }
}

/* One after the other, as a program is not: but whose turn it is makes no difference to a countdown. */
#define SITES(X)                                                                                   \
    X(of_16, 16, 16)                                                                               \
    X(of_100, 100, 100)                                                                            \
    X(of_1000, 1000, 1000)                                                                         \
    X(of_8192, 8192, 8192)                                                                         \
    X(of_65536, 65536, 65536)                                                                      \
    X(of_100000, 100000, 100000)                                                                   \
    X(of_1000000, 1000000, 1000000)                                                                \
    X(of_10_mb, 10000000, 10000000)                                                                \
    X(of_small_ones, 16, 1024)                                                                     \
    X(of_all_sizes, 64, 200000)
#define DEFINE(name, low, high)                                                                    \
    SITE_ENDS(name);                                                                               \
    static SITE(name) void name(size_t size, enum fate fate) {                                     \
        allocate(size, fate);                                                                      \
        __asm__ volatile("" : : : "memory"); /* no tail call */                                    \
    }
SITES(DEFINE)

struct errors { /* over the runs */
    const char *site;
    double bytes, objects, chi_square;
    struct truth truth;
};

static void add_run(struct errors *errors, const struct truth *truth,
                    const struct heap_count *live) {
    double error = (double)live->bytes - truth->bytes;
    errors->truth = *truth;
    errors->bytes += error / RUNS;
    errors->objects += ((double)live->objects - truth->objects) / RUNS;
    if (truth->bytes_variance > 1)
        errors->chi_square += error * error / truth->bytes_variance;
}

/* The bytes of an object and the objects of a site are told as whole numbers. */
static void check_unbiased(const struct errors *errors) {
    double bytes_off = sqrt(errors->truth.bytes_variance / RUNS);
    double objects_off = sqrt(errors->truth.objects_variance / RUNS);
    print_message(
        "%-16s %12.0f bytes, off by %9.0f (%5.2f sigma); objects %5.2f sigma; chi-square %.0f\n",
        errors->site, errors->truth.bytes, errors->bytes, errors->bytes / fmax(bytes_off, 1),
        errors->objects / fmax(objects_off, 1), errors->chi_square);
    CHECK(fabs(errors->bytes) <= Z_MAX * bytes_off + 1);
    CHECK(fabs(errors->objects) <= Z_MAX * objects_off + 1);
    if (errors->truth.objects_variance > 1) /* else hardly one is ever missed */
        CHECK(errors->chi_square > CHI_SQUARE_MIN && errors->chi_square < CHI_SQUARE_MAX);
}

static void tell_sizes(void) {
    CHECK(heap_profile_init(RATE) == 0);
#define NAME(name, low, high) {.site = #name},
    struct errors errors[] = {SITES(NAME)};
    for (unsigned run = 0; run < RUNS; run++) {
        struct truth truths[sizeof errors / sizeof *errors] = {0};
        unsigned i = 0;
        sampler_seed(run + 1);
#define ALLOCATE(name, low, high) allocate_some(low, high, name, &truths[i++]);
        SITES(ALLOCATE)
        heap_profile_close_cycle();
        i = 0;
        struct story_sum sum;
#define COMPARE(name, low, high)                                                                   \
    sum = SITE_SUM(name);                                                                          \
    add_run(&errors[i], &truths[i], &sum.live);                                                    \
    i++;
        SITES(COMPARE)
        free_all();
    }
    for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++)
        check_unbiased(&errors[i]);
}

static void test_estimates_are_unbiased_from_16_bytes_to_10_mb(void **state) {
    story(tell_sizes);
}

/* ---- Rates that change ---- */

/* Every few allocations, so that what goes wrong with one of them shows. */
static void tell_changes(void) {
    static const uint64_t rates[] = {4096, 256 << 10, 20000, 1};
    static const size_t sizes[] = {100, 5000, 60000};
    CHECK(heap_profile_init(rates[0]) == 0);
    struct errors errors = {.site = "changing rate"};
    for (unsigned run = 0; run < RUNS; run++) {
        struct truth truth = {0};
        sampler_seed(run + 1);
        for (unsigned i = 0; i < 6000; i++) {
            uint64_t rate = rates[i / 20 % 4];
            if (i % 20 == 0)
                heap_profile_set_rate(rate);
            of_all_sizes(sizes[i % 3], KEPT);
            expect(&truth, sizes[i % 3], rate);
        }
        struct heap_totals totals = heap_profile_close_cycle();
        add_run(&errors, &truth, &totals.live);
        free_all();
    }
    check_unbiased(&errors);
}

static void test_estimates_are_unbiased_when_the_rate_changes(void **state) {
    story(tell_changes);
}

/* A cache's countdown is not told of a change; the weight is that of the rate it was wound up with. */
static void tell_countdowns(void) {
    CHECK(heap_profile_init(RATE) == 0);
    const struct mem_sampler *sampler = mem_sampler_get();
    enum { COUNT = 4000 };
    struct errors errors = {.site = "countdowns"};
    for (unsigned run = 0; run < RUNS; run++) {
        struct truth truth = {0};
        struct mem_countdown countdown = {0};
        void *samples[COUNT];
        unsigned sample_count = 0;
        sampler_seed(run + 1);
        for (unsigned i = 0; i < COUNT; i++) {
            if (i % 10 == 0)
                heap_profile_set_rate(i % 20 ? RATE : 4 * RATE);
            int64_t size =
                i % 20 < 10 ? 48 << 10 : 8 << 10; /* else the errors of both could cancel */
            countdown.left -= size;
            void *sample = countdown.left < 0 ? sampler->sample((size_t)size, &countdown) : NULL;
            if (sample)
                samples[sample_count++] = sample;
            expect(&truth, (size_t)size,
                   2 * RATE); /* between the two: the change comes late, at the next point */
        }
        struct heap_totals totals = heap_profile_close_cycle();
        add_run(&errors, &truth, &totals.live);
        while (sample_count > 0)
            sampler->gone(samples[--sample_count]);
        heap_profile_close_cycle();
    }
    errors.chi_square = RUNS; /* the variance is between two */
    check_unbiased(&errors);
}

static void test_countdowns_of_caches_are_unbiased_too(void **state) {
    story(tell_countdowns);
}

/* ---- Threads ---- */

static _Atomic uint64_t done_bytes;

static void *allocate_on_thread(void *arg) {
    static _Atomic uint64_t addresses = 1ULL << 40;
    sampler_seed((uint64_t)(uintptr_t)arg);
    for (unsigned i = 0; i < 3000; i++) {
        size_t size = 16 + i % 5000;
        if (sampler_due(&sampler_self, size)) {
            const void *address = (const void *)(uintptr_t)atomic_fetch_add(&addresses, 16);
            double weight = sampler_pick(size);
            if (weight > 0)
                CHECK(record_sample(address, size, weight, NULL));
        }
        atomic_fetch_add(&done_bytes, size);
    }
    return NULL;
}

/* The first allocations of many short threads count as much as any. */
static void tell_threads(void) {
    CHECK(heap_profile_init(RATE) == 0);
    struct truth truth = {0};
    for (unsigned i = 0; i < RUNS; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, allocate_on_thread, (void *)(uintptr_t)(i + 1)) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        for (unsigned n = 0; n < 3000; n++)
            expect(&truth, 16 + n % 5000, RATE);
    }
    double off = (double)heap_profile_close_cycle().live.bytes - truth.bytes;
    CHECK(fabs(off) < Z_MAX * sqrt(truth.bytes_variance));
}

static void test_short_threads_are_not_left_out(void **state) {
    story(tell_threads);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_estimates_are_unbiased_from_16_bytes_to_10_mb),
        cmocka_unit_test(test_estimates_are_unbiased_when_the_rate_changes),
        cmocka_unit_test(test_countdowns_of_caches_are_unbiased_too),
        cmocka_unit_test(test_short_threads_are_not_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
