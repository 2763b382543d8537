/* bench_malloc: what a malloc and its free cost, with the allocator that the process has: the one it is
 * linked with, or one that is preloaded.
 *
 *     bench_malloc CASE COUNT    prints "ns_wall ns_cpu ops" of this process, user and system
 *
 *   pair     64 bytes allocated and freed at once: all that an allocator cannot avoid
 *   mixed    16 to 1,024 bytes, each freed after 255 others have been allocated */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"

static void out_of_memory(void) {
    fputs("bench_malloc: memory is short\n", stderr);
    exit(1);
}

static void pair(uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        void *volatile ptr = malloc(64); /* volatile: or the compiler leaves both out */
        if (!ptr)
            out_of_memory();
        free(ptr);
    }
}

static void mixed(uint64_t n) {
    enum { KEPT = 256 };
    static void *kept[KEPT];
    uint32_t random = 1;
    for (uint64_t i = 0; i < n; i++) {
        random = random * 1664525 + 1013904223;
        free(kept[i % KEPT]);
        kept[i % KEPT] = malloc(16 + (random >> 22));
        if (!kept[i % KEPT])
            out_of_memory();
    }
}

int main(int argc, char **argv) {
    uint64_t count = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    void (*run)(uint64_t n) = argc == 3 && strcmp(argv[1], "mixed") == 0 ? mixed : pair;
    if (count == 0 || (run == pair && strcmp(argv[1], "pair") != 0)) {
        fputs("usage: bench_malloc pair|mixed COUNT\n", stderr);
        return 2;
    }
    measure(run, count);
    return 0;
}
