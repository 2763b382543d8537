/* memory_use: how much memory this process holds, and how it is told to give some back.
 *
 *     heap_size    malloc's heaps and the recycler's mappings, as far as there is memory behind them
 *       allocated  of these, what somebody holds
 *       free       of these, what nobody holds
 *     unmapped     address space of ours without memory
 *     physical     of the whole process, shared libraries, stacks and the heaps of Go libraries included
 *       anonymous  of these, what is not a file's: what can run a machine out of memory
 *
 * Threads  Any; two at a time only make the same numbers twice. Both calls take system calls and walk
 *          the allocator: some hundred microseconds. memory_trim may take milliseconds: not on a P, use
 *          blocking_call. */
#pragma once
#include <stdint.h>

struct memory_use { /* bytes */
    uint64_t heap_size, allocated, free, unmapped;
    uint64_t physical, anonymous; /* 0 where there is no /proc */
};
struct memory_use memory_use_now(void);

/* Gives back to the OS what nobody holds, at once. */
void memory_trim(void);
