#include "heap/memory_use.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "base/check.h"
#include "mem/recycler.h"

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

struct memory_use memory_use_now(void) {
    struct mallinfo2 info = mallinfo2();
    struct recycler_stats recycler;
    recycler_stats(&recycler);
    struct memory_use use = {
        .heap_size = info.arena + info.hblkhd + recycler.heap_sys - recycler.heap_released,
        .allocated = info.uordblks + info.hblkhd + recycler.heap_alloc,
        .free = info.fordblks + recycler.heap_idle - recycler.heap_released,
        .unmapped = recycler.heap_released,
    };
    read_statm(&use);
    return use;
}

void memory_trim(void) {
    malloc_trim(0);
}
