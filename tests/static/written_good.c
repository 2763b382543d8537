/* Casts that write nothing, and writes that need no cast. */
#include <stdlib.h>
#include <sys/uio.h>

#include "base/span.h"

struct span own(struct span s) {
    char *copy = malloc(s.len + 1);
    if (!copy)
        return span_none();
    memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return span_make(copy, s.len);
}

void release(struct span owned) {
    free((char *)(uintptr_t)owned.ptr);
}

size_t send_all(struct span s, size_t (*send)(const struct iovec *iov)) {
    struct iovec iov = {(void *)(uintptr_t)s.ptr, s.len};
    iov.iov_base = (void *)(uintptr_t)s.ptr;
    return send(&iov);
}

unsigned first(struct span s) {
    return s.len ? *(const unsigned char *)s.ptr : 0;
}
