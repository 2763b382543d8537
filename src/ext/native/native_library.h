/* native_library: shared objects with a filter in C (include/sluice/filter.h), loaded once and never unloaded.
 *
 * Ownership  For the life of the process: its code may be in backtraces, and its statistics stay.
 * Threads    native_library_get: any but those that hold a P; it reads files. The rest any. */
#pragma once
#include "base/span.h"
#include "base/stats.h"
#include "ext/native/native_fault.h"
#include <sluice/filter.h>

struct remote_library;

enum { NATIVE_WHY_MAX = 512 };

struct native_stats {
    struct statistic *faults, *bypassed, *closed, *merges;
};

struct native_library {
    struct native_library *next;
    void *handle;
    char *path, *name;           /* the plug-in's */
    char *id;                    /* of one elsewhere: what its process is called by */
    struct sluice_plugin plugin; /* a copy; what an older one lacks is NULL */
    struct native_text text;
    struct native_stats stats;
    struct native_stat *counted; /* of one elsewhere; by the lock of all libraries */
    struct remote_library
        *remote; /* it runs in a host process, and nothing of it is here; NULL: here */
    unsigned long long device, inode, size; /* of the file that it was */
    long long changed_ns;
    _Atomic uint32_t faults; /* so far */
};

/* Whether the file may be loaded; else a sentence in why. Nothing of it runs. */
MUST_CHECK bool native_library_inspect(const char *path, char why[NATIVE_WHY_MAX]);
/* NULL and a sentence in why. A file that is not the one that was loaded from this path is loaded anew. */
MUST_CHECK struct native_library *native_library_get(struct span path, char why[NATIVE_WHY_MAX]);

/* One that runs in a host process, by what is known of it without loading it: once for each path. NULL when memory is
 * short. */
MUST_CHECK struct native_library *native_library_elsewhere(struct span path);
/* The plug-in in it says its name: 0; -EINVAL: it was another one's before, or is no name; -ENOMEM. */
MUST_CHECK int native_library_is_called(struct native_library *library, struct span name);

/* It was loaded from a copy, whose bytes can be read there: what people call it. Once, in a host process. */
void native_library_name_copy(struct native_library *library, struct span file,
                              const char *bytes BORROWED_BY(program));
/* What plug-ins are given that are loaded from now on: in a host process that serves, not native_host. */
void native_library_set_table(const struct sluice_host *table BORROWED_BY(program));

/* A statistic that the plug-in of one elsewhere has, by its whole name. NULL: it is not one of its names, or it has
 * NATIVE_STATS_MAX others. */
enum { NATIVE_STATS_MAX = 256 };
const struct statistic *native_library_stat(struct native_library *library, enum stat_kind kind,
                                            struct span name);

/* Notes a fault, and has it told in the log, with its frames. what: in which of its functions, a literal. shard as of
 * stats. Does not park. */
void native_library_faulted(struct native_library *library, const struct native_fault *fault,
                            const char *what, unsigned shard);
