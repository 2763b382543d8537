/* guard: MADV_GUARD_INSTALL where it works, else mprotect.
 *
 * The former marks page table entries and leaves the mapping whole. A million mprotected guards would
 * be two million mappings, and the kernel's limit is 65,530: with the fallback some 32,000 coroutines
 * is all there can be, and go says -ENOMEM after that.
 *
 * Probe    Emulators and sandboxes accept any madvise, so the first guard is tried out: a write(2)
 *          from it must fail with EFAULT. What the probe finds is kept for ever. A kernel that knows
 *          the advice but is short of memory just now is no reason to fall back, nor is a probe that
 *          cannot be made: that is an error of this one call.
 * Threads  Two first calls at a time both probe, and find the same. kind is relaxed: it orders
 *          nothing, and who reads an old UNKNOWN probes once more. */
#include "rt/guard.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

enum guard_kind { GUARD_UNKNOWN, GUARD_MADVISE, GUARD_MPROTECT };
static _Atomic int kind;

/* 1 when reading the page would be a fault, 0 when it would not, -errno when that is not known. */
static int probe(const char *page) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    int unreadable = write(fd, page, sizeof(uint64_t)) < 0 && errno == EFAULT;
    (void)close(fd); /* nothing was written that could be lost */
    return unreadable;
}

int guard_install(char *page, size_t page_size) {
    int known = atomic_load_explicit(&kind, memory_order_relaxed);
    if (known != GUARD_MPROTECT) {
        if (madvise(page, page_size, MADV_GUARD_INSTALL) == 0) {
            if (known == GUARD_MADVISE)
                return 0;
            int works = probe(page);
            if (works < 0)
                return works;
            atomic_store_explicit(&kind, works ? GUARD_MADVISE : GUARD_MPROTECT,
                                  memory_order_relaxed);
            if (works)
                return 0;
        } else if (known == GUARD_MADVISE || errno != EINVAL) {
            return -errno;
        } else { /* unknown to this kernel, or refused for memory that is locked */
            atomic_store_explicit(&kind, GUARD_MPROTECT, memory_order_relaxed);
        }
    }
    return mprotect(page, page_size, PROT_NONE) < 0 ? -errno : 0;
}
