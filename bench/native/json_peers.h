/* json_peers: what the programs of this bench have in common: a file, a time to spend, a way to find the string at a
 * key of the outermost object, and a line that says what came of it. C and C++.
 *
 *     {"name": "...", "bytes": 1048576, "rounds": 900, "ns_per_round": 311000, "allocations_per_round": 0.0}
 *
 * ns_per_round is CPU time, of the best of many batches: what else the machine does can only add. Allocations are those
 * that a preloaded count_malloc.c counts; without one there is no such figure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct json_document {
    char *bytes; /* room for another 64 behind it */
    size_t len;
    const char *key;
    char found[64]; /* the answer, NUL at the end */
};

/* One document from its first byte to its last; false: no answer, or no JSON. */
typedef bool (*json_peer_fn)(struct json_document *document);

static inline void json_answer(struct json_document *document, const char *text, size_t len) {
    if (len >= sizeof document->found)
        len = sizeof document->found - 1;
    memcpy(document->found, text, len);
    document->found[len] = '\0';
}

static inline double json_cpu_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now); /* cannot fail with this clock */
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static inline bool json_load(struct json_document *document, const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    (void)fseek(file, 0, SEEK_END);
    long len = ftell(file);
    (void)fseek(file, 0, SEEK_SET);
    document->bytes = (char *)calloc((size_t)len + 64, 1);
    bool ok = document->bytes && fread(document->bytes, 1, (size_t)len, file) == (size_t)len;
    (void)fclose(file);
    document->len = (size_t)len;
    return ok;
}

/* Where count_malloc.c counts; NULL: nowhere. */
static inline const volatile uint64_t *json_allocations(void) {
    const char *path = getenv("ALLOCATION_COUNTER");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return NULL;
    void *page = mmap(NULL, sizeof(uint64_t), PROT_READ, MAP_SHARED, fd, 0);
    (void)close(fd);
    return page == MAP_FAILED ? NULL : (const volatile uint64_t *)page;
}

enum { JSON_BATCH_NS = 200000 };

static inline int json_measure(const char *name, json_peer_fn run, struct json_document *document,
                               double seconds) {
    const volatile uint64_t *allocations = json_allocations();
    double begin = json_cpu_ns(), best = 1e18;
    uint64_t rounds = 0, before = 0;
    if (!run(document)) { /* what is made once is made here */
        (void)fprintf(stderr, "%s finds no string at \"%s\", or no JSON\n", name, document->key);
        return 1;
    }
    before = allocations ? *allocations : 0;
    /* A batch lasts long enough for the clock, of which a virtual machine's is not even steady. */
    for (unsigned batch = 8; best >= 1e18 || json_cpu_ns() - begin < seconds * 1e9;) {
        double start = json_cpu_ns();
        for (unsigned i = 0; i < batch; i++)
            if (!run(document))
                return 1;
        double took = json_cpu_ns() - start;
        rounds += batch;
        if (took < JSON_BATCH_NS)
            batch *= 2;
        else if (took / batch < best)
            best = took / batch;
    }
    uint64_t after = allocations ? *allocations : 0; /* before printing allocates */
    (void)printf("{\"name\": \"%s\", \"found\": \"%s\", \"bytes\": %zu, \"rounds\": %llu, "
                 "\"ns_per_round\": %.0f",
                 name, document->found, document->len, (unsigned long long)rounds, best);
    if (allocations)
        (void)printf(", \"allocations_per_round\": %.2f",
                     (double)(after - before) / (double)rounds);
    (void)puts("}");
    return 0;
}
