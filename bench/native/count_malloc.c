/* count_malloc: preloaded, it counts calls of the allocator in a file that others read meanwhile.
 * ALLOCATION_COUNTER names a file of at least eight bytes; all processes that inherit it add up.
 *
 * Sluice brings a malloc of its own, which a preloaded one does not replace; but that calls mimalloc,
 * which is a library, so its calls are counted at that door. libmimalloc names its functions as libc
 * does, too, and stands before libc: so in a process with mimalloc the __libc_ functions are mimalloc's,
 * in others glibc's. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* glibc's own names: dlsym would allocate before there is anything to allocate with. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t align, size_t size);

void *mi_malloc(size_t size);
void *mi_zalloc(size_t size);
void *mi_realloc(void *old, size_t size);
void *mi_malloc_aligned(size_t size, size_t align);
/* mimalloc's own, where it is. */
__attribute__((weak)) void *mi_heap_get_default(void);
__attribute__((weak)) void *mi_heap_malloc_aligned(void *heap, size_t size, size_t align);

static uint64_t nowhere;
static uint64_t *counter = &nowhere;

__attribute__((constructor)) static void open_counter(void) {
    const char *path = getenv("ALLOCATION_COUNTER");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *page = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED)
        counter = page;
    close(fd);
}

static void count(void) {
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

void *malloc(size_t size) {
    count();
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size) {
    count();
    return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size) {
    count();
    return __libc_realloc(old, size);
}

void *memalign(size_t align, size_t size) {
    count();
    return __libc_memalign(align, size);
}

void *aligned_alloc(size_t align, size_t size) {
    return memalign(align, size);
}

int posix_memalign(void **out, size_t align, size_t size) {
    void *memory = memalign(align, size);
    if (!memory)
        return 12; /* ENOMEM */
    *out = memory;
    return 0;
}

/* ---- Sluice's. What it samples, one in thousands, goes through other doors ---- */

void *mi_malloc(size_t size) {
    count();
    return __libc_malloc(size);
}

void *mi_zalloc(size_t size) {
    count();
    return __libc_calloc(1, size);
}

void *mi_realloc(void *old, size_t size) {
    count();
    return __libc_realloc(old, size);
}

/* mimalloc's memalign is made of this one. */
void *mi_malloc_aligned(size_t size, size_t align) {
    count();
    return mi_heap_malloc_aligned(mi_heap_get_default(), size, align);
}
