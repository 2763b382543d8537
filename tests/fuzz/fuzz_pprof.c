/* pprof_read.c: any bytes as the heap profile of a Go library. What is told is whole; the verdict may be
 * anything but a crash. */
#include "admin/pprof_read.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(void *arg, const struct told_stack *stack, const int64_t *values) {
    uint64_t *sum = arg;
    *sum += (uint64_t)values[0] + (uint64_t)values[1];
    ASSERT(stack->depth <= PPROF_READ_DEPTH_MAX);
    for (unsigned i = 0; i < stack->depth; i++) {
        ASSERT(stack->frames[i].count <= PPROF_READ_INLINED_MAX);
        for (unsigned k = 0; k < stack->frames[i].count; k++)
            *sum += strlen(stack->frames[i].symbols[k].function);
    }
    for (unsigned i = 0; i < stack->label_count; i++)
        *sum += strlen(stack->labels[i].key) + strlen(stack->labels[i].value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct pprof_type types[] = {{"inuse_objects", "count"}, {"inuse_space", "bytes"}};
    uint64_t sum = 0;
    int err = pprof_read(span_make(data, size), types, 2, look, &sum);
    ASSERT(err == 0 || err == -EINVAL || err == -EFBIG || err == -ENOMEM);
    return 0;
}
