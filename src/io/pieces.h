/* pieces: bytes in several places, as writev takes them. */
#pragma once
#include <sys/uio.h>

/* How many bytes, in all of them. */
static inline size_t pieces_size(const struct iovec *pieces, int count) {
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += pieces[i].iov_len;
    return size;
}

/* The first n bytes are done with, and empty pieces behind them: uses up the array. */
static inline void pieces_advance(struct iovec **pieces, int *count, size_t n) {
    while (*count > 0 && n >= (*pieces)->iov_len) {
        n -= (*pieces)->iov_len;
        ++*pieces;
        --*count;
    }
    if (*count > 0) {
        (*pieces)->iov_base = (char *)(*pieces)->iov_base + n;
        (*pieces)->iov_len -= n;
    }
}
