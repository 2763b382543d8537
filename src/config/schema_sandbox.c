/* schema_sandbox: the sandbox of a host process. The message is ours: Envoy has no such processes. */
#include "config/sandbox_config.h"

#include "config/load.h"
#include "config/schema_tables.h"

enum {
    ITEMS_MAX = 256, /* of a list */
    UID_MAX = INT32_MAX,
    MEMORY_MIN =
        64 << 20, /* Go reserves its first heap in a piece of 64 MiB; below nothing starts */
};

static const struct cfg_enum_value seccomp_values[] = {
    {CFG_SECCOMP_DENY, "DENY", CFG_SUPPORTED},
    {CFG_SECCOMP_AUDIT, "AUDIT", CFG_SUPPORTED},
    {CFG_SECCOMP_NONE, "NONE", CFG_SUPPORTED},
};
static const struct cfg_enum seccomp_enum =
    ENUM_TABLE("sluice.extensions.v3.Sandbox.Seccomp", seccomp_values);
static const struct cfg_enum_value landlock_values[] = {
    {CFG_LANDLOCK_WHERE_NEEDED, "WHERE_NEEDED", CFG_SUPPORTED},
    {CFG_LANDLOCK_REQUIRED, "REQUIRED", CFG_SUPPORTED},
    {CFG_LANDLOCK_IF_AVAILABLE, "IF_AVAILABLE", CFG_SUPPORTED},
    {CFG_LANDLOCK_NONE, "NONE", CFG_SUPPORTED},
};
static const struct cfg_enum landlock_enum =
    ENUM_TABLE("sluice.extensions.v3.Sandbox.Landlock", landlock_values);

static const struct cfg_field fields[] = {
    ENUM(struct cfg_sandbox, 1, seccomp, seccomp_enum, .default_text = "DENY",
         .doc = "System calls that are of no use to Go and to sockets. DENY: they fail with EPERM. "
                "AUDIT: they work, and the kernel logs them (type=1326 in its log or audit's). "
                "NONE: any work."),
    SCALARS(struct cfg_sandbox, 2, allow_syscalls, CFG_STRING,
            .doc = "Names of system calls that work all the same, whatever their arguments."),
    FIELD(struct cfg_sandbox, 3, allow_exec, CFG_BOOL, .default_text = "false",
          .doc = "It may start processes. They have its sandbox, and may outlive it."),
    WRAPPER(struct cfg_sandbox, 4, memory_limit_bytes, CFG_U64, .rules = CFG_RANGE,
            .min = MEMORY_MIN, .max = INT64_MAX, .default_text = "none",
            .doc = "RLIMIT_DATA beside what the process has itself: all that it may write to "
                   "counts, used or not, such as 8 MiB for a thread's stack and the 64 MiB by "
                   "which Go's heap grows; Go starts with 128 MiB. Past it Go ends the process. "
                   "Set go_memory_limit well below."),
    WRAPPER(struct cfg_sandbox, 5, max_open_files, CFG_U32, .rules = CFG_RANGE, .min = 16,
            .max = INT32_MAX, .default_text = "as the proxy's", .doc = "RLIMIT_NOFILE."),
    WRAPPER(struct cfg_sandbox, 6, max_threads, CFG_U32, .rules = CFG_RANGE, .min = 16,
            .max = INT32_MAX, .default_text = "as the proxy's",
            .doc = "RLIMIT_NPROC, which counts all processes and threads of a user. So it needs a "
                   "uid, better one that nothing else has."),
    WRAPPER(struct cfg_sandbox, 7, uid, CFG_U32, .rules = CFG_RANGE, .min = 1, .max = UID_MAX,
            .default_text = "the proxy's",
            .doc = "The user that it runs as; the proxy must be root for that. The library must be "
                   "readable to it. Together with gid."),
    WRAPPER(struct cfg_sandbox, 8, gid, CFG_U32, .rules = CFG_RANGE, .min = 1, .max = UID_MAX,
            .default_text = "the proxy's", .doc = "Its group, the only one."),
    ENUM(struct cfg_sandbox, 9, landlock, landlock_enum, .default_text = "WHERE_NEEDED",
         .doc = "Whether the kernel must have Landlock. WHERE_NEEDED: with restrict_files it must, "
                "else it is used where it is to be had, against processes outside. IF_AVAILABLE: "
                "without it there is a warning. NONE: it is not used."),
    FIELD(struct cfg_sandbox, 10, restrict_files, CFG_BOOL, .default_text = "false",
          .doc = "It can open nothing but read_paths, write_paths, the library's folder and what "
                 "glibc and Go look for themselves (libraries, name resolution, certificates, time "
                 "zones): [security.md](security.md#files)."),
    SCALARS(struct cfg_sandbox, 11, read_paths, CFG_STRING,
            .doc = "Files, or folders with all in them, that it may read. They must exist."),
    SCALARS(struct cfg_sandbox, 12, write_paths, CFG_STRING,
            .doc = "Likewise, to read and write: also to make, rename and remove what is in them."),
};

static void check_count(struct cfg_loader *loader, const struct cfg_tree *node,
                        const struct cfg_path *path, const char *name, size_t count) {
    if (count > ITEMS_MAX)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "%s: must be %d at most", name,
                   ITEMS_MAX);
}

static void check_paths(struct cfg_loader *loader, const struct cfg_tree *node,
                        const struct cfg_path *path, const char *name, const struct span *paths,
                        size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!span_starts_with(paths[i], SPAN_LIT("/")))
            cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "%s '%.*s': must begin with /",
                       name, (int)paths[i].len, paths[i].ptr);
    check_count(loader, node, path, name, count);
}

static void check(struct cfg_loader *loader, const struct cfg_tree *node,
                  const struct cfg_path *path, void *message) {
    const struct cfg_sandbox *cfg = message;
    check_count(loader, node, path, "allow_syscalls", cfg->allow_syscalls_count);
    check_paths(loader, node, path, "read_paths", cfg->read_paths, cfg->read_paths_count);
    check_paths(loader, node, path, "write_paths", cfg->write_paths, cfg->write_paths_count);
    if ((cfg->read_paths_count || cfg->write_paths_count) && !cfg->restrict_files)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "read_paths and write_paths need restrict_files: true");
    if (cfg->restrict_files && cfg->landlock == CFG_LANDLOCK_NONE)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "restrict_files needs Landlock: landlock must not be NONE");
    if (cfg->uid.set != cfg->gid.set)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "uid and gid must be set together");
    if (cfg->max_threads.set && !cfg->uid.set)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "max_threads needs a uid: threads of the proxy's own user count as well");
}

const struct cfg_schema cfg_schema_sandbox = {
    .name = "sluice.extensions.v3.Sandbox",
    .doc = "What the process of a library may do ([security.md](security.md)).",
    .size = sizeof(struct cfg_sandbox),
    MARK(struct cfg_sandbox),
    FIELDS(fields),
    .check = check,
};
