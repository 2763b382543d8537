/* overload_monitor: one watched resource of the overload manager. Internal to proxy/overload*.c.
 *
 * Threads  overload_monitor_measure on a thread without a P: it reads files and walks the allocator. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "heap/memory_use.h"
#include "proxy/connection_limit.h"

enum overload_monitor_kind {
    MONITOR_FIXED_HEAP,  /* what is allocated, of max_bytes */
    MONITOR_FILE,        /* what a file says */
    MONITOR_ANONYMOUS,   /* memory of the process that is not a file's, of max_bytes */
    MONITOR_CONNECTIONS, /* of clients, of the limit of the process */
};

struct overload_monitor {
    enum overload_monitor_kind kind;
    char name[96];
    uint64_t max_bytes;
    char *path;                                 /* MONITOR_FILE's; owned */
    const struct connection_limit *connections; /* MONITOR_CONNECTIONS's; borrowed */
    double pressure; /* of the last measure that worked; below 0: none yet */
};

/* 0 and *pressure, or -errno with *why, a literal. */
MUST_CHECK int overload_monitor_measure(const struct overload_monitor *monitor,
                                        const struct memory_use *use, double *pressure,
                                        const char **why);
