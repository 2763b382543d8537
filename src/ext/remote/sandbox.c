/* sandbox: the order matters. Each step needs what a later one takes away:
 *
 *     no_new_privs ─► session ─► descriptors ─► limits ─► Landlock ─► user ─► capabilities ─► system calls
 *     (the kernel                               (hard ones, (opens      (needs    (sets a      (denies most of
 *      asks for it)                              while root)  paths)     root)     user)        these steps)
 *
 * A session of its own: the proxy's terminal is not its terminal, and its process group is not the proxy's, so
 * neither typing there nor a signal to "my group" leads out.
 *
 * Who changes its user is no longer tied to its parent and cannot be looked at in /proc, not even by itself, as if it were a
 * set-user-id program. Both are set right again: what runs there started as an ordinary process.
 *
 * Rejected  RLIMIT_AS: Go reserves address space by the gigabyte and cannot start under it. RLIMIT_DATA counts what
 *           may be written. A cgroup of its own: version 2 allows no process beside child groups, so the proxy itself
 *           would have to move at its start, in a tree that its service manager owns. */
#include "ext/remote/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ext/remote/sandbox_landlock.h"
#include "ext/remote/sandbox_seccomp.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { HAS_SHADOW = 1 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { HAS_SHADOW = 1 };
#else
enum { HAS_SHADOW = 0 };
#endif
#else
enum { HAS_SHADOW = 0 };
#endif

/* errno as a result, with the step's name. */
static NOINLINE int failed(const char *step, char *said) {
    int code = -errno;
    (void)snprintf(said, SANDBOX_SAID_MAX, "%s: %s", step, strerror(-code));
    return code;
}

/* A thread that is there already would keep its rights; and a sanitizer's has none that matter. */
static int check_alone(char *said) {
    struct stat tasks;
    if (HAS_SHADOW || stat("/proc/self/task", &tasks) < 0 || tasks.st_nlink <= 3)
        return 0;
    (void)snprintf(said, SANDBOX_SAID_MAX, "the process has other threads already");
    return -EBUSY;
}

static int close_others(const int *kept, size_t count, char *said) {
    int next = STDERR_FILENO + 1;
    for (size_t i = 0; i < count; next = kept[i++] + 1) {
        ASSERT(kept[i] >= next);
        if (kept[i] > next && close_range((unsigned)next, (unsigned)kept[i] - 1, 0) < 0)
            return failed("closing descriptors", said);
    }
    closefrom(next);
    return 0;
}

static int limit(enum __rlimit_resource resource, uint64_t most, const char *name, char *said) {
    struct rlimit value;
    if (getrlimit(resource, &value) < 0)
        return failed(name, said);
    if (most < value.rlim_max)
        value.rlim_max = most;
    value.rlim_cur = value.rlim_max;
    return setrlimit(resource, &value) < 0 ? failed(name, said) : 0;
}

/* What of RLIMIT_DATA is used: reserved for writing, most of it never to be touched. Of the sixth number a stack is the
 * rest. */
static int limit_memory(uint64_t bytes, char *said) {
    unsigned long data_pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    int read = file ? fscanf(file, "%*u %*u %*u %*u %*u %lu", &data_pages) : 0;
    if (file)
        (void)fclose(file); /* it was only read */
    if (read != 1) {
        (void)snprintf(said, SANDBOX_SAID_MAX, "memory_limit_bytes: needs /proc");
        return -ENOENT;
    }
    uint64_t own = data_pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return limit(RLIMIT_DATA, bytes < UINT64_MAX - own ? own + bytes : UINT64_MAX,
                 "memory_limit_bytes", said);
}

static int set_limits(const struct sandbox_options *options, char *said) {
    int err = limit(RLIMIT_CORE, 0, "RLIMIT_CORE", said); /* requests would be in it */
    if (!err && options->memory_limit_bytes && !HAS_SHADOW)
        err = limit_memory(options->memory_limit_bytes, said);
    if (!err && options->max_open_files)
        err = limit(RLIMIT_NOFILE, options->max_open_files, "max_open_files", said);
    if (!err && options->max_threads)
        err = limit(RLIMIT_NPROC, options->max_threads, "max_threads", said);
    return err;
}

static int change_user(const struct sandbox_options *options, char *said) {
    int death_signal = 0;
    if (prctl(PR_GET_PDEATHSIG, &death_signal) < 0)
        return failed("PR_GET_PDEATHSIG", said);
    if (setgroups(0, NULL) < 0 || setresgid(options->gid, options->gid, options->gid) < 0 ||
        setresuid(options->uid, options->uid, options->uid) < 0)
        return failed("uid, gid (the proxy must run as root for them)", said);
    if (prctl(PR_SET_PDEATHSIG, death_signal) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
        return failed("prctl", said);
    return 0;
}

/* Also of a root that stays root: its files are left to it, and nothing else. */
static int drop_capabilities(char *said) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    if (syscall(SYS_capset, &header, none) < 0)
        return failed("dropping capabilities", said);
    return 0;
}

int sandbox_enter(const struct sandbox_options *options, const int *kept, size_t kept_count,
                  char said[SANDBOX_SAID_MAX]) {
    said[0] = '\0';
    int err = check_alone(said);
    if (!err && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        err = failed("no_new_privs", said);
    if (!err && getsid(0) != getpid() && setsid() < 0)
        err = failed("setsid", said);
    if (!err)
        err = close_others(kept, kept_count, said);
    if (!err)
        err = set_limits(options, said);
    if (!err)
        err = sandbox_restrict_files(options, said);
    if (!err && options->changes_user)
        err = change_user(options, said);
    if (!err)
        err = drop_capabilities(said);
    if (!err && options->seccomp != SANDBOX_FREE)
        err = sandbox_filter_calls(options, said);
    return err;
}
