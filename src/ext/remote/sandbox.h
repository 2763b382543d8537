/* sandbox: what a host process gives up before it loads a library, for good: new privileges and those it has,
 * descriptors, its terminal, memory and other resources past a limit, the file system but for some paths, another
 * user's rights, and most system calls that are of no use to Go and to sockets. What each protects from:
 * docs/security.md.
 *
 * Ownership  All that the options point to is borrowed until the call returns.
 * Threads    The process's first thread, alone: others would keep what is given up.
 * Errors     What could not be given up is an error: the process must not load anything then, and end. It may have lost
 *            some of it already. */
#pragma once
#include <sys/types.h>

#include "base/check.h"
#include "base/span.h"

enum sandbox_seccomp {
    SANDBOX_DENY = 0,  /* a system call that is not allowed fails with EPERM */
    SANDBOX_AUDIT = 1, /* it works, and the kernel logs it */
    SANDBOX_FREE = 2,  /* no filter of system calls */
};

enum sandbox_landlock {
    SANDBOX_WHERE_NEEDED = 0, /* required with restricts_files, else used where the kernel has it */
    SANDBOX_REQUIRED = 1,
    SANDBOX_IF_AVAILABLE = 2, /* without it there is a warning */
    SANDBOX_WITHOUT = 3,
};

enum {
    SANDBOX_SAID_MAX = 512,
    SANDBOX_LIST_MAX =
        256, /* paths or calls in a list: more is a mistake, and each costs at the start */
};

struct sandbox_list {
    const struct span *items;
    size_t count;
};

struct sandbox_options {
    enum sandbox_seccomp seccomp;
    bool allow_exec;                   /* it may start processes */
    struct sandbox_list allowed_calls; /* names of system calls beside those of the profile */
    enum sandbox_landlock landlock;
    bool restricts_files; /* to those below, those of library_path's folder and what glibc and
                                      * Go look for */
    struct sandbox_list read_paths;  /* files, or folders with all in them */
    struct sandbox_list write_paths; /* these may be read, too */
    struct span library_path;
    /* 0: none. Beside what the process has when it enters. Not under a sanitizer, whose shadow counts as well. */
    uint64_t memory_limit_bytes;
    uint32_t max_open_files; /* 0: as it is */
    uint32_t max_threads;    /* 0: as it is. All processes of the user count together */
    bool changes_user;
    uid_t uid;
    gid_t gid;
};

/* kept: ascending, what stays open beside the standard streams. 0 or -errno; said gets the reason of an error, of a success what
 * is not as it was wished for, or "". */
MUST_CHECK int sandbox_enter(const struct sandbox_options *options, const int *kept,
                             size_t kept_count, char said[SANDBOX_SAID_MAX]);
