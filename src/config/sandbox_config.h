/* sandbox_config: what a host process may do, as users write it. Conventions: types.h. */
#pragma once
#include "config/bootstrap.h"

enum cfg_sandbox_seccomp {
    CFG_SECCOMP_DENY = 0,
    CFG_SECCOMP_AUDIT = 1,
    CFG_SECCOMP_NONE = 2,
};
enum cfg_sandbox_landlock {
    CFG_LANDLOCK_WHERE_NEEDED = 0,
    CFG_LANDLOCK_REQUIRED = 1,
    CFG_LANDLOCK_IF_AVAILABLE = 2,
    CFG_LANDLOCK_NONE = 3,
};

struct cfg_sandbox { /* sluice.extensions.v3.Sandbox */
    struct cfg_mark mark;
    int seccomp; /* enum cfg_sandbox_seccomp */
    struct span *allow_syscalls;
    size_t allow_syscalls_count;
    bool allow_exec;
    struct cfg_u64 memory_limit_bytes;
    struct cfg_u32 max_open_files, max_threads;
    struct cfg_u32 uid, gid; /* both or none */
    int landlock;            /* enum cfg_sandbox_landlock */
    bool restrict_files;
    struct span *read_paths, *write_paths; /* absolute */
    size_t read_paths_count, write_paths_count;
};
extern const struct cfg_schema cfg_schema_sandbox;
