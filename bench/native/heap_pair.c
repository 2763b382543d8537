/* bench_heap_pair: what sampling costs an allocation and its free: the process's malloc (src/heap/malloc.c)
 * beside mimalloc's own functions, which it stands on.
 *
 *     bench_heap_pair COUNT RATE     prints two lines, "malloc_pair ns_wall ns_cpu ops" and the same for
 *                                    "mimalloc"
 *
 * An operation is one pair of 64 bytes. The two take turns, a sixty-fourth of COUNT at a time, so whatever
 * else the machine does meets both alike. RATE is heap_profile_set_rate's; 0 counts down and never
 * samples. */
#include <errno.h>
#include <inttypes.h>
#include <mimalloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "heap/heap_profile.h"

enum { OBJECT_BYTES = 64, TURNS = 64 };

struct spent {
    int64_t wall_ns, cpu_ns;
    uint64_t ops;
};

/* To the compiler somebody looks at it: else it would leave out the pair. */
static void *seen(void *object) {
    __asm__ volatile("" : "+r"(object) : : "memory");
    return object;
}

static NOINLINE void pairs_of_malloc(uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        free(seen(malloc(OBJECT_BYTES)));
}

static NOINLINE void pairs_of_mimalloc(uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        mi_free(seen(mi_malloc(OBJECT_BYTES)));
}

static int64_t cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void measure(struct spent *spent, void (*pairs)(uint64_t), uint64_t count) {
    int64_t wall = clock_mono_ns(), cpu = cpu_ns();
    pairs(count);
    spent->wall_ns += clock_mono_ns() - wall;
    spent->cpu_ns += cpu_ns() - cpu;
    spent->ops += count;
}

static void print(const char *name, const struct spent *spent) {
    printf("%s %" PRId64 " %" PRId64 " %" PRIu64 "\n", name, spent->wall_ns, spent->cpu_ns,
           spent->ops);
}

int main(int argc, char **argv) {
    uint64_t count = argc == 3 ? strtoull(argv[1], NULL, 10) : 0;
    if (count < TURNS) {
        fprintf(stderr, "usage: bench_heap_pair COUNT RATE; COUNT is %d at least\n", TURNS);
        return 2;
    }
    int rc = heap_profile_init(strtoull(argv[2], NULL, 10));
    if (rc != 0) {
        fprintf(stderr, "bench_heap_pair: %s\n", strerror(-rc));
        return 1;
    }
    struct spent ours = {0}, plain = {0};
    pairs_of_malloc(count / TURNS);
    pairs_of_mimalloc(count / TURNS);
    for (unsigned turn = 0; turn < TURNS; turn++) {
        measure(&ours, pairs_of_malloc, count / TURNS);
        measure(&plain, pairs_of_mimalloc, count / TURNS);
    }
    print("malloc_pair", &ours);
    print("mimalloc", &plain);
    return 0;
}
