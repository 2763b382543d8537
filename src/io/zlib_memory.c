/* zlib_memory: see the header. An inflating zlib gets the 32 KiB of its window at the first call that needs them, and
 * other versions of the library may want more at the start than ours does. So the area is for what we know of,
 * and malloc stands in while a stream is being made. */
#include "io/zlib_memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

struct memory {
    z_stream z;
    size_t size, used;
    bool sealed;
    _Alignas(16) char area[];
};

static voidpf take(voidpf opaque, uInt count, uInt size) {
    struct memory *memory = opaque;
    size_t want = ((size_t)count * size + 15) & ~(size_t)15;
    if (want <= memory->size - memory->used) {
        char *at = memory->area + memory->used;
        memory->used += want;
        return at;
    }
    return memory->sealed ? NULL : malloc(want);
}

static void give_back(voidpf opaque, voidpf at) {
    const struct memory *memory = opaque;
    uintptr_t start = (uintptr_t)memory->area;
    if ((uintptr_t)at - start >= memory->size)
        free(at);
}

z_stream *zlib_memory_new(size_t size) {
    struct memory *memory = malloc(sizeof *memory + size);
    if (!memory)
        return NULL;
    memory->z = (z_stream){.zalloc = take, .zfree = give_back, .opaque = memory};
    memory->size = size;
    memory->used = 0;
    memory->sealed = false;
    return &memory->z;
}

void zlib_memory_seal(z_stream *z) {
    struct memory *memory = z->opaque;
    memory->sealed = true;
}

void zlib_memory_free(z_stream *z) {
    if (z)
        free(z->opaque);
}
