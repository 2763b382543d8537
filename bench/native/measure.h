/* measure: a small program that does one operation many times and prints "ns_wall ns_cpu ops switches" of the
 * whole process, user and system time, for bench/_turns.py. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

static inline uint64_t clock_ns(clockid_t which) {
    struct timespec now;
    (void)clock_gettime(which, &now); /* cannot fail with the clocks that are asked here */
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* How often a thread lost its core, because it waited or had to. */
static inline uint64_t switches(void) {
    struct rusage used;
    (void)getrusage(RUSAGE_SELF, &used); /* cannot fail for ourselves */
    return (uint64_t)used.ru_nvcsw + (uint64_t)used.ru_nivcsw;
}

/* A sixteenth first: caches, pools and pages are there then. */
static inline void measure(void (*run)(uint64_t n), uint64_t count) {
    run(count / 16 + 1);
    uint64_t switched = switches();
    uint64_t wall = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    run(count);
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = clock_ns(CLOCK_MONOTONIC) - wall;
    switched = switches() - switched;
    printf("%llu %llu %llu %llu\n", (unsigned long long)wall, (unsigned long long)cpu,
           (unsigned long long)count, (unsigned long long)switched);
}
