/* native_library: shared objects with a filter in C (include/sluice/filter.h), loaded once and never unloaded.
 *
 * Ownership  For the life of the process: its code may be in backtraces, and its statistics stay.
 * Threads    native_library_get: any but those that hold a P; it reads files. The rest any. */
#pragma once
#include "base/span.h"
#include "base/stats.h"
#include "ext/native/native_fault.h"
#include <sluice/filter.h>

enum { NATIVE_WHY_MAX = 512 };

struct native_stats {
    struct statistic *faults, *bypassed, *closed, *merges;
};

struct native_library {
    struct native_library *next;
    void *handle;
    char *path, *name;           /* the plug-in's */
    struct sluice_plugin plugin; /* a copy; what an older one lacks is NULL */
    struct native_text text;
    struct native_stats stats;
    unsigned long long device, inode, size; /* of the file that it was */
    long long changed_ns;
    _Atomic uint32_t faults; /* so far */
};

/* Whether the file may be loaded; else a sentence in why. Nothing of it runs. */
MUST_CHECK bool native_library_inspect(const char *path, char why[NATIVE_WHY_MAX]);
/* NULL and a sentence in why. A file that is not the one that was loaded from this path is loaded anew. */
MUST_CHECK struct native_library *native_library_get(struct span path, char why[NATIVE_WHY_MAX]);

/* Notes a fault, and has it told in the log, with its frames. what: in which of its functions, a literal. shard as of
 * stats. Does not park. */
void native_library_faulted(struct native_library *library, const struct native_fault *fault,
                            const char *what, unsigned shard);
