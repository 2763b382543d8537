#include "heap/memory_use.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "mem/recycler.h"
#include "rt/cgroup.h"

/* /proc/self/statm: size, resident and, of these, shared, in pages. */
static NOINLINE void read_statm(struct memory_use *use) {
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    char text[128];
    ssize_t n = read(fd, text, sizeof text - 1);
    (void)close(fd); /* it was only read */
    if (n <= 0)
        return;
    text[n] = '\0';
    unsigned long long size, resident, shared;
    if (sscanf(text, "%llu %llu %llu", &size, &resident, &shared) != 3)
        return;
    uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
    use->physical = resident * page_size;
    use->anonymous = (resident - shared) * page_size;
}

static uint64_t smaller(uint64_t one, uint64_t other) {
    return one < other ? one : other;
}

/* malloc tells what it may write to, which need not have memory behind it yet; that is never more than the
 * process has. */
struct memory_use memory_use_now(void) {
    struct memory_use use = {0};
    read_statm(&use);
    struct recycler_stats recycler;
    recycler_stats(&recycler);
    uint64_t recycler_size = recycler.heap_sys - recycler.heap_released;
    struct mallinfo2 info = mallinfo2();
    uint64_t malloc_size = info.arena + info.hblkhd;
    if (use.anonymous > 0)
        malloc_size = smaller(malloc_size, use.anonymous - smaller(recycler_size, use.anonymous));
    uint64_t malloc_allocated = smaller(info.uordblks + info.hblkhd, malloc_size);
    use.heap_size = malloc_size + recycler_size;
    use.allocated = malloc_allocated + recycler.heap_alloc;
    use.free = malloc_size - malloc_allocated + recycler.heap_idle - recycler.heap_released;
    use.unmapped = recycler.heap_released;
    return use;
}

static void take_limit(const struct cgroup *group, void *arg) {
    uint64_t *limit = arg;
    char line[64];
    const char *file = group->is_v2 ? "memory.max" : "memory.limit_in_bytes";
    if (!cgroup_read(group, file, line, sizeof line))
        return;
    uint64_t bytes = strtoull(line, NULL, 10); /* "max": 0 */
    /* Version 1 says "none" as the largest number of pages. */
    if (bytes > 0 && bytes < (uint64_t)INT64_MAX / 2 && (*limit == 0 || bytes < *limit))
        *limit = bytes;
}

uint64_t memory_cgroup_limit(const char *proc_cgroup, const char *root) {
    uint64_t limit = 0;
    cgroup_each(proc_cgroup, root, "memory", take_limit, &limit);
    return limit;
}

void memory_trim(void) {
    malloc_trim(0);
}
