/* memory_use: how much memory this process holds, and how it is told to give some back.
 *
 *     heap_size    malloc's heaps and the recycler's mappings, as far as there is memory behind them
 *       allocated  of these, what somebody holds
 *       free       of these, what nobody holds
 *     unmapped     address space of ours without memory
 *     physical     of the whole process, shared libraries, stacks and the heaps of Go libraries included
 *       anonymous  of these, what is not a file's: what can run a machine out of memory
 *
 * Threads  Any; two at a time only make the same numbers twice. memory_use_now takes system calls and walks
 *          the allocator: some hundred microseconds, which a P has not: use blocking_call. */
#pragma once
#include <stdint.h>

struct memory_use { /* bytes */
    uint64_t heap_size, allocated, free, unmapped;
    uint64_t physical, anonymous; /* 0 where there is no /proc */
};
struct memory_use memory_use_now(void);

/* The least limit that a control group of ours has; 0: none. The paths are cgroup_each's. */
uint64_t memory_cgroup_limit(const char *proc_cgroup, const char *root);

/* Gives back to the OS what nobody holds, at once: of malloc's what is the calling thread's, or nobody's. A
 * millisecond for some hundred MiB. */
void memory_trim(void);
