/* own: pieces are cut off a chunk, one after the other, under a lock: who asks does so once for a site
 * that is new or for a shelf of samples. */
#include "heap/own.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>

#include "mem/poison.h"
#ifdef MEM_HAS_ASAN
#include <sanitizer/lsan_interface.h>
#endif

enum { CHUNK_BYTES = 256 << 10, ALIGN = 16 };

static struct {
    pthread_mutex_t mutex;
    char *chunk;
    size_t used;
} own = {.mutex = PTHREAD_MUTEX_INITIALIZER, .used = CHUNK_BYTES};

void *own_map(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void own_unmap(void *memory, size_t size) {
    (void)munmap(memory, size); /* fails only when it would need memory; then it stays */
}

/* Labels of sites are reached from here only. */
static void look_for_leaks_in(const void *chunk) {
#ifdef MEM_HAS_ASAN
    __lsan_register_root_region(chunk, CHUNK_BYTES);
#endif
}

static void *cut_locked(size_t size) {
    if (size > CHUNK_BYTES - own.used) {
        char *chunk = own_map(CHUNK_BYTES);
        if (!chunk)
            return NULL;
        look_for_leaks_in(chunk);
        own.chunk = chunk;
        own.used = 0;
    }
    void *piece = own.chunk + own.used;
    own.used += size;
    return piece;
}

void *own_memory(size_t size) {
    size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    ASSERT(size <= CHUNK_BYTES);
    own_lock();
    void *piece = cut_locked(size);
    own_unlock();
    return piece;
}

void own_lock(void) {
    pthread_mutex_lock(&own.mutex);
}

void own_unlock(void) {
    pthread_mutex_unlock(&own.mutex);
}
