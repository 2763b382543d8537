#include "base/peek.h"

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

bool peek(void *out, const void *from, size_t size) {
    int saved_errno = errno;
    struct iovec here = {out, size}, there = {(void *)(uintptr_t)from, size};
    long got = syscall(SYS_process_vm_readv, getpid(), &here, 1, &there, 1, 0);
    errno = saved_errno;
    return got >= 0 && (size_t)got == size;
}
