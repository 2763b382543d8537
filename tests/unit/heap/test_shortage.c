/* Memory for the profile itself is short: samples are lost, and counted so; what is told is right for
 * the others; and the program goes on. Each mapping fails once, the first, the second, the third, until
 * a story needs no more (--wrap counts them); or all do. */
#include "heap_story.h"

#include <errno.h>
#include <sys/mman.h>

static int until_fault; /* counts down; 0: none to come */
static unsigned faults;
static bool are_all_refused;

/* What mmap is called where files may be large, which is how meson builds. */
void *__real_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
    if (are_all_refused || (until_fault > 0 && --until_fault == 0)) {
        faults++;
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return __real_mmap64(address, size, protection, flags, fd, offset);
}

SITE_ENDS(chain);

enum { OBJECTS = 2000 };

/* A different stack for each depth: so there are many sites, too. */
static SITE(chain) void record_at(unsigned depth, uintptr_t address) {
    if (depth > 0)
        record_at(depth - 1, address);
    else
        (void)record_sample((const void *)address, 16, 1, __builtin_return_address(0));
    __asm__ volatile("" : : : "memory");
}

static void record_all(void) {
    for (unsigned i = 0; i < OBJECTS; i++)
        record_at(i % 32, (i + 1) * 16);
}

static struct heap_reading reading_of(struct story_sum *sum) {
    struct heap_reading reading;
    heap_profile_close_cycle();
    *sum = (struct story_sum){.high = UINTPTR_MAX};
    CHECK(heap_profile_read(HEAP_ANY_AGE, story_add, sum, &reading) == 0);
    return reading;
}

static void tell_shortage(void) {
    CHECK(heap_profile_init(1) == 0);
    errno = 5;
    record_all();
    CHECK(errno == 5);
    struct story_sum sum;
    struct heap_reading reading = reading_of(&sum);
    CHECK(reading.samples == OBJECTS);
    CHECK((reading.lost > 0) == are_all_refused || faults == 1);
    CHECK(reading.lost < OBJECTS || are_all_refused);
    CHECK(sum.live.objects == (int64_t)(OBJECTS - reading.lost));
    CHECK(sum.live.bytes == sum.live.objects * 16);
    for (unsigned i = 0; i < OBJECTS; i++) /* lost ones are nobody's */
        record_freed((const void *)(uintptr_t)((i + 1) * 16));
    reading = reading_of(&sum);
    CHECK(sum.live.objects == 0 && sum.live.bytes == 0);

    are_all_refused = false; /* there is memory again */
    uint64_t lost = reading.lost;
    record_all();
    reading = reading_of(&sum);
    CHECK(reading.lost == lost && sum.live.objects == OBJECTS);
    _exit(faults > 0 ? 3 : 0); /* there are many; what others do at exit takes long */
}

static void test_each_mapping_fails_once(void **state) {
    unsigned count = 0;
    int code;
    do {
        until_fault = (int)++count;
        code = story_code(tell_shortage);
        assert_true(code == 0 || code == 3);
    } while (code == 3);
    assert_true(count > 10); /* chunks, and the buckets of the shards */
    until_fault = 0;
}

static void test_all_mappings_fail_for_a_while(void **state) {
    are_all_refused = true;
    assert_int_equal(story_code(tell_shortage), 3);
    are_all_refused = false;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_mapping_fails_once),
        cmocka_unit_test(test_all_mappings_fail_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
