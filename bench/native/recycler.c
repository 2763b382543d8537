/* bench_recycler PROGRAM SECONDS: a program that makes a buffer of 5 to 10 MB each second and puts it
 * into one of 20 places, dropping what was there, on a clock of its own. A line of CSV per second:
 *
 *     HeapSys,bytes,HeapAlloc,HeapIdle,HeapReleased,makes,frees,rss,grows,shrinks
 *
 * malloc     What is dropped is freed at once, as C does without a pool.
 * channel    What is dropped goes into a queue of 5 when there is room, else it is freed; a new one is
 *            made when the queue is empty. Whatever comes out of the queue is used, whatever its size.
 * recycler   recycler_get and recycler_give, recycler_age once a second.
 *
 * bench/recycler_go is the same without a pool in Go. Every program draws the same sizes and places, and
 * writes to each page of a buffer that it makes or gets. The columns are Go's: what was had from the OS,
 * what the places hold, what is allocated, what is not, what of that has no memory, and how often memory
 * was made and freed. Those of malloc's are mallinfo2's, which knows of nothing released, so rss is
 * there: what the kernel says is resident, beyond what was before.
 *
 * bench_recycler grow COUNT: what it takes to have 10 MB, written to, where there were 5: new memory, or the
 * old 5 and mremap. Prints "ns_new ns_grown" of CPU time, each a median of COUNT. */
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mem/recycler.h"

enum { PLACES = 20, CHANNEL = 5, GROW_MAX = 1000, SIZE_MIN = 5000000, SIZE_RANGE = 5000000 };

struct buffer {
    char *ptr;
    size_t size;
};

enum program { MALLOC, CHANNELLED, RECYCLED, PROGRAMS };
static const char *const names[] = {"malloc", "channel", "recycler"};

static enum program program;
static struct buffer places[PLACES], channel[CHANNEL];
static unsigned channel_count;
static uint64_t makes, frees;
static struct recycler_cache cache;

static uint32_t draw(uint32_t below) {
    static uint64_t state = 20131008;
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((state >> 33) % below);
}

static void must(bool holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "bench_recycler: %s\n", what);
        exit(1);
    }
}

static struct buffer make_buffer(size_t size) {
    makes++;
    return (struct buffer){malloc(size), size};
}

static void touch(struct buffer buffer) {
    must(buffer.ptr, "no memory");
    for (size_t at = 0; at < buffer.size; at += 4096)
        buffer.ptr[at] = 1;
}

static struct buffer get_buffer(size_t size) {
    struct buffer buffer = {NULL, size};
    if (program == RECYCLED)
        buffer.ptr = recycler_get(&cache, size);
    else if (program == CHANNELLED && channel_count > 0) {
        buffer = channel[0];
        memmove(&channel[0], &channel[1], --channel_count * sizeof channel[0]);
    } else
        buffer = make_buffer(size);
    touch(buffer);
    return buffer;
}

static void drop_buffer(struct buffer buffer) {
    if (program == RECYCLED) {
        recycler_give(&cache, buffer.ptr, buffer.size);
    } else if (program == CHANNELLED && channel_count < CHANNEL) {
        channel[channel_count++] = buffer;
    } else {
        free(buffer.ptr);
        frees++;
    }
}

static uint64_t resident_bytes(void) {
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    must(file, "no /proc/self/statm");
    must(fscanf(file, "%*u %llu", &pages) == 1, "no /proc/self/statm");
    (void)fclose(file); /* was only read */
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void print_row(uint64_t resident_before) {
    uint64_t bytes = 0;
    for (unsigned i = 0; i < PLACES; i++)
        bytes += places[i].size;
    struct recycler_stats stats;
    recycler_stats(&stats);
    if (program != RECYCLED) {
        struct mallinfo2 info = mallinfo2();
        stats.heap_sys = info.arena + info.hblkhd;
        stats.heap_alloc = info.uordblks + info.hblkhd;
        stats.heap_idle = info.fordblks;
        stats.makes = makes;
        stats.frees = frees;
    }
    uint64_t resident = resident_bytes();
    printf("%llu,%llu,%llu,%llu,%llu,%llu,%llu,%llu,%llu,%llu\n",
           (unsigned long long)stats.heap_sys, (unsigned long long)bytes,
           (unsigned long long)stats.heap_alloc, (unsigned long long)stats.heap_idle,
           (unsigned long long)stats.heap_released, (unsigned long long)stats.makes,
           (unsigned long long)stats.frees,
           (unsigned long long)(resident > resident_before ? resident - resident_before : 0),
           (unsigned long long)stats.grows, (unsigned long long)stats.shrinks);
}

static int64_t cpu_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now); /* cannot fail with this clock */
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static int64_t grow_once(bool from_old) {
    enum { SMALL = 5 << 20, LARGE = 10 << 20 };
    if (from_old) {
        struct buffer old = {recycler_get(&cache, SMALL), SMALL};
        touch(old);
        recycler_give(&cache, old.ptr, old.size);
    }
    int64_t start_ns = cpu_ns();
    struct buffer buffer = {recycler_get(&cache, LARGE), LARGE};
    touch(buffer);
    int64_t took_ns = cpu_ns() - start_ns;
    recycler_give(&cache, buffer.ptr, buffer.size);
    while (recycler_trim(&cache)) {
    }
    return took_ns;
}

static int by_value(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static void print_grow(long count) {
    static int64_t took_ns[2][GROW_MAX];
    must(count > 0 && count <= GROW_MAX, "grow: a count up to 1000");
    for (long i = 0; i < count; i++)
        for (int from_old = 0; from_old < 2; from_old++)
            took_ns[from_old][i] = grow_once(from_old);
    for (int i = 0; i < 2; i++)
        qsort(took_ns[i], (size_t)count, sizeof took_ns[i][0], by_value);
    printf("%lld %lld\n", (long long)took_ns[0][count / 2], (long long)took_ns[1][count / 2]);
}

int main(int argc, char **argv) {
    must(argc == 3, "usage: bench_recycler PROGRAM SECONDS");
    long seconds = strtol(argv[2], NULL, 10);
    recycler_cache_init(&cache);
    if (strcmp(argv[1], "grow") == 0) {
        print_grow(seconds);
        return 0;
    }
    while (program < PROGRAMS && strcmp(argv[1], names[program]) != 0)
        program++;
    must(program < PROGRAMS, "no such program");
    uint64_t resident_before = resident_bytes();
    for (int64_t now_ns = 0; now_ns < seconds * NS_PER_S; now_ns += NS_PER_S) {
        (void)recycler_age(&cache, now_ns);
        size_t size = SIZE_MIN + draw(SIZE_RANGE);
        unsigned place = draw(PLACES);
        struct buffer fresh = get_buffer(size);
        if (places[place].ptr)
            drop_buffer(places[place]);
        places[place] = fresh;
        print_row(resident_before);
    }
    return 0;
}
