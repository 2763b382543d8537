/* dump: reads the name, state and reason of every struct g there is.
 *
 * Threads  Any. These three fields are atomics, names and reasons are literals, and a struct g is
 *          never unmapped, so a look at one that ends meanwhile shows an old line and nothing worse. */
#include "rt/dump.h"

#include <stdio.h>

#include "rt/rt_internal.h"

struct dump {
    void (*write)(void *arg, const char *text, size_t len);
    void *arg;
    unsigned long count;
};

static void dump_g(struct g *g, void *arg) {
    struct dump *dump = arg;
    uint32_t state = atomic_load_explicit(&g->state, memory_order_relaxed);
    const char *name = atomic_load_explicit(&g->name, memory_order_relaxed);
    const char *reason = atomic_load_explicit(&g->reason, memory_order_relaxed);
    if (state == G_FREE || !name)
        return;
    dump->count++;
    char line[256];
    int n = snprintf(line, sizeof line, "%s %p [%s%s%s]\n", name, (void *)g,
                     state == G_PARKED ? "waiting" : "active", reason ? ": " : "",
                     reason ? reason : "");
    if (n < 0)
        return;
    dump->write(dump->arg, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

void rt_dump(void (*write)(void *arg, const char *text, size_t len), void *arg) {
    struct dump dump = {.write = write, .arg = arg};
    stack_each(dump_g, &dump);
    char line[64];
    int n = snprintf(line, sizeof line, "%lu coroutines\n", dump.count);
    if (n > 0)
        write(arg, line, (size_t)n);
}
