/* heap_story: an allocator that does with the sampler what malloc.c does, over libc's malloc, which stays
 * as it is: so the profile's own code runs under the sanitizers too.
 *
 * The profile is one per process, so each story that needs a fresh one is a child. */
#pragma once
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "heap/heap_profile.h"
#include "heap/record.h"
#include "heap/sampler.h"

#define CHECK(condition)                                                                           \
    ((condition)                                                                                   \
         ? (void)0                                                                                 \
         : (fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition), _exit(99)))

/* Each object is told to the profile at its own address; one byte at least. */
static NOINLINE __attribute__((unused)) void *story_alloc(size_t size) {
    void *object = malloc(size ? size : 1);
    CHECK(object);
    if (sampler_due(&sampler_self, size)) {
        double weight = sampler_pick(size);
        if (weight > 0)
            (void)record_sample(object, size, weight, __builtin_return_address(0));
    }
    return object;
}

static __attribute__((unused)) void story_free(void *object) {
    record_freed(object);
    free(object);
}

/* What the profile says of all sites whose innermost caller is in a function. */
struct story_sum {
    uintptr_t low, high; /* return addresses in here */
    struct heap_count live, allocated, cycle;
    unsigned sites;
};

static __attribute__((unused)) void story_add(void *arg, const struct heap_site *site) {
    struct story_sum *sum = arg;
    if (site->depth == 0 || site->pcs[0] < sum->low || site->pcs[0] >= sum->high)
        return;
    sum->sites++;
    sum->live.objects += site->live.objects;
    sum->live.bytes += site->live.bytes;
    sum->allocated.objects += site->allocated.objects;
    sum->allocated.bytes += site->allocated.bytes;
    sum->cycle.objects += site->cycle.objects;
    sum->cycle.bytes += site->cycle.bytes;
}

/* A function in a section of its own has ends that the linker knows: SITE(eager) defines the section,
 * site_sum("eager") reads what it did. */
#define SITE(name) NOINLINE __attribute__((section("site_" #name)))
#define SITE_ENDS(name)                                                                            \
    extern const char __start_site_##name[] __attribute__((visibility("hidden")));                 \
    extern const char __stop_site_##name[] __attribute__((visibility("hidden")))
#define SITE_SUM(name)                                                                             \
    story_read((uintptr_t)__start_site_##name, (uintptr_t)__stop_site_##name, HEAP_ANY_AGE)
#define SITE_SUM_AGED(name, age_ns)                                                                \
    story_read((uintptr_t)__start_site_##name, (uintptr_t)__stop_site_##name, age_ns)

static __attribute__((unused)) struct story_sum story_read(uintptr_t low, uintptr_t high,
                                                           int64_t min_age_ns) {
    struct story_sum sum = {.low = low, .high = high};
    struct heap_reading reading;
    CHECK(heap_profile_read(min_age_ns, story_add, &sum, &reading) == 0);
    return sum;
}

/* In a child of its own; how it ended, which must be by exit. */
static __attribute__((unused)) int story_code(void (*tell)(void)) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        tell();
        exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static __attribute__((unused)) void story(void (*tell)(void)) {
    assert_int_equal(story_code(tell), 0);
}
