/* What a reader of the heap profile is promised: cycles, live and allocated, labels, age, forks. Every
 * allocation is sampled (rate 1) where figures are to be exact. */
#include "heap_story.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "rt/labels.h"

SITE_ENDS(keeper);
SITE_ENDS(garbage);
SITE_ENDS(caller);

static SITE(keeper) void *keep(size_t size) {
    void *object = story_alloc(size);
    ((volatile char *)object)[0] = 1; /* no tail call */
    return object;
}

static SITE(garbage) void make_garbage(size_t size) {
    void *object = story_alloc(size);
    story_free(object);
}

static void begin(uint64_t rate) {
    CHECK(heap_profile_init(rate) == 0);
    sampler_seed(1);
}

/* ---- Cycles ---- */

static bool is_same(const struct heap_count *one, const struct heap_count *other) {
    return one->objects == other->objects && one->bytes == other->bytes;
}

static void tell_cycles(void) {
    begin(1);
    CHECK(SITE_SUM(keeper).allocated.bytes == 0);
    void *kept = keep(100);
    CHECK(SITE_SUM(keeper).allocated.bytes == 0); /* of a cycle that is not over */
    struct heap_totals totals = heap_profile_close_cycle();
    CHECK(totals.cycle == 1);
    CHECK(totals.live.bytes >= 100);
    CHECK(totals.allocated_in_cycle.objects >= 1);
    struct story_sum first = SITE_SUM(keeper);
    CHECK(first.live.bytes == 100 && first.live.objects == 1);
    CHECK(first.cycle.bytes == 100);

    void *more = keep(50);
    story_free(kept);
    struct story_sum again = SITE_SUM(keeper);
    CHECK(is_same(&first.live, &again.live)); /* no cycle closed in between */
    CHECK(is_same(&first.allocated, &again.allocated));
    CHECK(is_same(&first.cycle, &again.cycle));

    heap_profile_close_cycle();
    struct story_sum second = SITE_SUM(keeper);
    CHECK(second.live.bytes == 50 && second.live.objects == 1);
    CHECK(second.allocated.bytes == 150 && second.allocated.objects == 2);
    CHECK(second.cycle.bytes == 50 && second.cycle.objects == 1);

    heap_profile_close_cycle();
    struct story_sum third = SITE_SUM(keeper);
    CHECK(third.live.bytes == 50 && third.cycle.bytes == 0);
    story_free(more);
}

static void test_a_reading_is_of_the_moment_when_the_last_cycle_closed(void **state) {
    story(tell_cycles);
}

static void tell_garbage(void) {
    begin(1);
    for (unsigned i = 0; i < 1000; i++)
        make_garbage(1000);
    void *kept = keep(10);
    heap_profile_close_cycle();
    struct story_sum garbage = SITE_SUM(garbage), keeper = SITE_SUM(keeper);
    CHECK(garbage.cycle.bytes == 1000000 && garbage.cycle.objects == 1000);
    CHECK(garbage.live.bytes == 0 && garbage.live.objects == 0);
    CHECK(garbage.cycle.bytes > keeper.cycle.bytes && keeper.live.bytes == 10);
    story_free(kept);
}

static void test_who_only_makes_garbage_tops_the_cycle_and_holds_nothing(void **state) {
    story(tell_garbage);
}

static struct heap_totals told[4];
static unsigned told_count;

static void be_told(void *arg, const struct heap_totals *totals) {
    struct story_sum before = {.high = UINTPTR_MAX}, after = before;
    struct heap_reading reading;
    CHECK(heap_profile_read_cycle(totals->cycle, story_add, &after, &reading) == 0);
    CHECK(reading.cycle == totals->cycle);
    CHECK(after.live.bytes == totals->live.bytes);
    CHECK(after.cycle.bytes == totals->allocated_in_cycle.bytes);
    if (totals->cycle > 1) {
        CHECK(heap_profile_read_cycle(totals->cycle - 1, story_add, &before, &reading) == 0);
        CHECK(before.live.bytes == told[totals->cycle - 2].live.bytes);
    }
    CHECK(heap_profile_read_cycle(totals->cycle + 1, story_add, &before, &reading) == -ESTALE);
    CHECK(totals->cycle <= 2 ||
          heap_profile_read_cycle(totals->cycle - 2, story_add, &before, &reading) == -ESTALE);
    told[told_count++] = *totals;
}

static void tell_closing(void) {
    begin(1);
    heap_profile_on_cycle(be_told, NULL);
    void *kept[3];
    for (unsigned i = 0; i < 3; i++) {
        kept[i] = keep(100 << i);
        CHECK(heap_profile_close_cycle().cycle == i + 1);
        CHECK(told_count == i + 1); /* it was told before close_cycle returned */
    }
    CHECK(told[2].live.bytes - told[1].live.bytes == 400);
    heap_profile_on_cycle(NULL, NULL);
    heap_profile_close_cycle();
    CHECK(told_count == 3);
    for (unsigned i = 0; i < 3; i++)
        story_free(kept[i]);
}

static void test_who_is_told_of_a_cycle_reads_it_and_the_one_before(void **state) {
    story(tell_closing);
}

static sem_t closed_by_itself;

static void count_cycle(void *arg, const struct heap_totals *totals) {
    sem_post(&closed_by_itself);
}

static void tell_thread(void) {
    sem_init(&closed_by_itself, 0, 0);
    begin(0);
    heap_profile_on_cycle(count_cycle, NULL);
    heap_profile_set_rate(1);
    void *kept = keep(64);
    const struct timespec until = {.tv_sec =
                                       clock_mono_ns() / NS_PER_S + 120}; /* a broken test's */
    CHECK(sem_clockwait(&closed_by_itself, CLOCK_MONOTONIC, &until) == 0);
    CHECK(SITE_SUM(keeper).live.bytes == 64);
    story_free(kept);
}

static void test_a_cycle_closes_by_itself(void **state) {
    story(tell_thread);
}

/* ---- What is kept of a sample ---- */

static void count_labeled(void *arg, const struct heap_site *site) {
    unsigned *found = arg;
    if (!site->labels || site->labels->count != 1 || site->live.objects != 1)
        return;
    CHECK(strcmp(site->labels->items[0].key, "route") == 0);
    if (site->live.bytes == 11)
        found[0] += strcmp(site->labels->items[0].value, "api") == 0;
    if (site->live.bytes == 22)
        found[1] += strcmp(site->labels->items[0].value, "static") == 0;
}

static void *kept_by_coroutine[2];

static void label_and_keep(void *arg) {
    static const struct label api = {"route", "api"}, files = {"route", "static"};
    for (unsigned i = 0; i < 2; i++) {
        CHECK(labels_add(i == 0 ? &api : &files, 1) == 0);
        kept_by_coroutine[i] = keep(11 * (i + 1));
    }
    labels_set(NULL); /* the samples keep theirs */
    heap_profile_close_cycle();
    unsigned found[2] = {0};
    struct heap_reading reading;
    CHECK(heap_profile_read(HEAP_ANY_AGE, count_labeled, found, &reading) == 0);
    CHECK(found[0] == 1 && found[1] == 1);
    for (unsigned i = 0; i < 2; i++)
        story_free(kept_by_coroutine[i]);
    rt_stop(0);
}

static void tell_labels(void) {
    begin(1);
    struct rt_options options = {.p_count = 1};
    CHECK(rt_run(&options, label_and_keep, NULL) == 0);
}

static void test_a_sample_keeps_the_labels_that_it_was_made_with(void **state) {
    story(tell_labels);
}

static SITE(caller) void *call_keep(size_t size) {
    void *object = keep(size);
    ((volatile char *)object)[0] = 2;
    return object;
}

static void find_caller(void *arg, const struct heap_site *site) {
    if (site->live.bytes != 77)
        return;
    CHECK(site->depth >= 3);
    CHECK(site->pcs[0] >= (uintptr_t)__start_site_keeper);
    CHECK(site->pcs[0] < (uintptr_t)__stop_site_keeper);
    CHECK(site->pcs[1] >= (uintptr_t)__start_site_caller);
    CHECK(site->pcs[1] < (uintptr_t)__stop_site_caller);
    *(bool *)arg = true;
}

static void tell_stack(void) {
    begin(1);
    void *kept = call_keep(77);
    heap_profile_close_cycle();
    bool is_found = false;
    struct heap_reading reading;
    CHECK(heap_profile_read(HEAP_ANY_AGE, find_caller, &is_found, &reading) == 0);
    CHECK(is_found);
    story_free(kept);
}

static void test_a_stack_begins_with_the_caller_of_malloc(void **state) {
    story(tell_stack);
}

static void tell_age(void) {
    begin(1);
    void *old = keep(100);
    int64_t born = clock_mono_ns();
    while (clock_mono_ns() < born + 30 * NS_PER_MS) {
    }
    void *young = keep(7);
    int64_t age = clock_mono_ns() - born; /* old's at least */
    CHECK(SITE_SUM_AGED(keeper, age).live.bytes == 100);
    CHECK(SITE_SUM_AGED(keeper, 1).live.bytes == 107); /* as of now, no cycle closed */
    CHECK(SITE_SUM_AGED(keeper, 3600 * NS_PER_S).live.bytes == 0);
    story_free(old);
    CHECK(SITE_SUM_AGED(keeper, 1).live.bytes == 7);
    story_free(young);
}

static void test_what_has_lived_for_long_is_told_apart(void **state) {
    story(tell_age);
}

/* An address that comes again without having been freed by us takes the place of the former. */
static void tell_ghost(void) {
    begin(1);
    static char place[16];
    CHECK(record_sample(place, 16, 1, NULL));
    CHECK(record_sample(place, 16, 1, NULL));
    struct heap_totals totals = heap_profile_close_cycle();
    CHECK(totals.live.bytes == 16 && totals.allocated_in_cycle.bytes == 32);
    record_freed(place);
    record_freed(place); /* nobody's any more */
    CHECK(heap_profile_close_cycle().live.bytes == 0);
}

static void test_an_address_is_live_once(void **state) {
    story(tell_ghost);
}

/* ---- Memory of mem/ ---- */

static void tell_hook(void) {
    begin((64 << 10) / CACHE_RATE_FACTOR);
    const struct mem_sampler *sampler = mem_sampler_get();
    struct mem_countdown countdown = {0};
    void *samples[4000];
    unsigned count = 0;
    for (unsigned i = 0; i < 4000; i++) {
        void *sample = NULL;
        countdown.left -= 16 << 10;
        if (countdown.left < 0)
            sample = sampler->sample(16 << 10, &countdown);
        if (sample)
            samples[count++] = sample;
    }
    /* 4000 * (1 - exp(-1/4)) = 885, with a deviation of 26 */
    CHECK(count > 885 - 6 * 26 && count < 885 + 6 * 26);
    struct heap_totals totals = heap_profile_close_cycle();
    CHECK(totals.live.bytes > 50 << 20 && totals.live.bytes < 75 << 20);
    for (unsigned i = 0; i < count; i++)
        sampler->gone(samples[i]);
    totals = heap_profile_close_cycle();
    CHECK(totals.live.bytes == 0 && totals.live.objects == 0);

    heap_profile_set_rate(0);
    countdown = (struct mem_countdown){.left = -1}; /* of a new cache */
    CHECK(!sampler->sample(1, &countdown));
    CHECK(countdown.left > 0 && countdown.left < INT64_MAX / 2);
    heap_profile_set_rate(1);
    countdown.left = -1; /* it asks again, and soon */
    void *sample = sampler->sample(1, &countdown);
    CHECK(sample);
    sampler->gone(sample);
}

static void test_what_mem_hands_out_is_sampled_by_its_own_countdowns(void **state) {
    story(tell_hook);
}

/* ---- Forks ---- */

static _Atomic bool may_stop;

static void *churn(void *arg) {
    while (!atomic_load(&may_stop))
        make_garbage(100);
    return NULL;
}

static void tell_fork(void) {
    begin(1);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, churn, NULL) == 0);
    void *kept = keep(1000);
    for (unsigned i = 0; i < 50; i++) {
        pid_t child = fork(); /* the thread is anywhere in the profiler's code */
        CHECK(child >= 0);
        if (child == 0) {
            story_free(kept);
            void *own = keep(31);
            heap_profile_close_cycle();
            CHECK(SITE_SUM(keeper).live.bytes == 31);
            story_free(own);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    atomic_store(&may_stop, true);
    pthread_join(thread, NULL);
    heap_profile_close_cycle();
    CHECK(SITE_SUM(keeper).live.bytes == 1000);
    CHECK(SITE_SUM(garbage).live.bytes == 0);
    story_free(kept);
}

static void test_a_child_goes_on_with_its_own_profile(void **state) {
#ifdef __SANITIZE_THREAD__
    skip(); /* it knows no forks of processes with threads */
#endif
    story(tell_fork);
}

static void tell_nothing(void) {
    struct heap_reading reading;
    CHECK(heap_profile_read(HEAP_ANY_AGE, story_add, NULL, &reading) == -ENOTSUP);
    void *object = keep(10);
    heap_profile_set_rate(1);
    CHECK(heap_profile_rate() == 0);
    story_free(object);
}

static void test_without_init_there_is_no_profile(void **state) {
    story(tell_nothing);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_reading_is_of_the_moment_when_the_last_cycle_closed),
        cmocka_unit_test(test_who_only_makes_garbage_tops_the_cycle_and_holds_nothing),
        cmocka_unit_test(test_who_is_told_of_a_cycle_reads_it_and_the_one_before),
        cmocka_unit_test(test_a_cycle_closes_by_itself),
        cmocka_unit_test(test_a_sample_keeps_the_labels_that_it_was_made_with),
        cmocka_unit_test(test_a_stack_begins_with_the_caller_of_malloc),
        cmocka_unit_test(test_what_has_lived_for_long_is_told_apart),
        cmocka_unit_test(test_an_address_is_live_once),
        cmocka_unit_test(test_what_mem_hands_out_is_sampled_by_its_own_countdowns),
        cmocka_unit_test(test_a_child_goes_on_with_its_own_profile),
        cmocka_unit_test(test_without_init_there_is_no_profile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
