/* ring_memory: addresses are reserved first, in one piece, and the file is put there twice. */
#include "ext/remote/ring_memory.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

bool remote_ring_size_is_valid(uint64_t size) {
    return size >= REMOTE_RING_SIZE_MIN && size <= REMOTE_RING_SIZE_MAX && (size & (size - 1)) == 0;
}

static size_t mapped_size(uint32_t size) {
    return (size_t)remote_ring_span(size) + size;
}

int remote_ring_map(int fd, off_t offset, uint32_t size, struct remote_ring_memory *out) {
    ASSERT(remote_ring_size_is_valid(size));
    ASSERT(offset % REMOTE_PAGE == 0);
    char *at = mmap(NULL, mapped_size(size), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                    -1, 0);
    if (at == MAP_FAILED)
        return -errno;
    size_t once = (size_t)remote_ring_span(size);
    if (mmap(at, once, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, offset) == MAP_FAILED ||
        mmap(at + once, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
             offset + REMOTE_PAGE) == MAP_FAILED) {
        int err = -errno;
        (void)munmap(at, mapped_size(size));
        return err;
    }
    out->words = (struct remote_ring_words *)(void *)at;
    out->data = at + REMOTE_PAGE;
    out->size = size;
    return 0;
}

void remote_ring_unmap(struct remote_ring_memory *memory) {
    (void)munmap(memory->words, mapped_size(memory->size));
    *memory = (struct remote_ring_memory){0};
}
