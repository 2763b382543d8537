/* sandbox_landlock: a Landlock domain does two things for us. It denies files, if that is asked for; and whatever it
 * denies, a process inside may not trace one outside, which is also asked when one opens /proc/PID/mem. No filter of
 * system calls sees that path, and to the kernel a host process and the proxy are two processes of one
 * user. So a domain is made wherever there is Landlock, even one that denies nothing that anybody does. Since ABI 6 it
 * keeps signals inside as well.
 *
 * Rules stand on inodes: a file that is replaced (renamed over) is a new one, to which no rule applies. So
 * what is replaced at times is allowed by its folder, where that holds nothing secret.
 *
 * The kernel's structures are written out here: the headers that we build with know the first ABIs only. */
#include "ext/remote/sandbox_landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { /* rights, by the ABI that brought them */
       EXECUTE = 1 << 0,
       WRITE_FILE = 1 << 1,
       READ_FILE = 1 << 2,
       READ_DIR = 1 << 3,
       MAKE_CHAR = 1 << 6,
       MAKE_BLOCK = 1 << 11,
       OF_ABI_1 = (1 << 13) - 1,
       REFER = 1 << 13,     /* 2 */
       TRUNCATE = 1 << 14,  /* 3 */
       IOCTL_DEV = 1 << 15, /* 5 */

       OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV,
       READ = READ_FILE | READ_DIR,
       WRITE = (OF_ABI_1 | REFER | TRUNCATE) & ~(EXECUTE | MAKE_CHAR | MAKE_BLOCK),
};
enum { SCOPE_ABSTRACT_UNIX_SOCKETS = 1, SCOPE_SIGNALS = 2 }; /* 6 */
enum { CREATE_RULESET_VERSION = 1, RULE_PATH_BENEATH = 1 };
enum { ABI_WITH_SCOPES = 6 };

struct ruleset {
    uint64_t handled_fs, handled_net, scoped;
};
struct beneath {
    uint64_t allowed;
    int32_t fd;
} __attribute__((packed));

/* What the dynamic loader, glibc, Go's net, crypto/x509, time, os/user and runtime look for. Some are missing everywhere. */
static const char *const usual[] = {
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/etc/resolv.conf",
    "/run/systemd/resolve", /* where that often leads, and is replaced */
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/mime.types",
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/proc/self", /* of this process: the link is followed now */
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/loadavg",
    "/proc/uptime",
    "/proc/filesystems",
    "/proc/sys",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
    "/dev/random",
    "/dev/urandom",
    "/proc/self/exe", /* its symbols, for backtraces */
};
static const char *const writable[] = {"/dev/null", "/dev/zero", "/dev/full"};

static uint64_t handled_by(int abi) {
    uint64_t all = OF_ABI_1;
    if (abi >= 2)
        all |= REFER;
    if (abi >= 3)
        all |= TRUNCATE;
    if (abi >= 5)
        all |= IOCTL_DEV;
    return all;
}

static int allow(int ruleset, const char *path, uint64_t rights) {
    struct stat st;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int err = fstat(fd, &st) < 0 ? -errno : 0;
    if (!err && !S_ISDIR(st.st_mode))
        rights &= OF_FILES;
    const struct beneath rule = {.allowed = rights, .fd = fd};
    if (!err && syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0)
        err = -errno;
    (void)close(fd);
    return err;
}

/* Those of ours that are missing here are nobody's mistake. */
static int allow_usual(int ruleset, const char *const *paths, size_t count, uint64_t rights) {
    int err = 0;
    for (size_t i = 0; i < count && !err; i++) {
        err = allow(ruleset, paths[i], rights);
        if (err == -ENOENT || err == -EACCES || err == -ENOTDIR)
            err = 0;
    }
    return err;
}

static int allow_span(int ruleset, struct span path, uint64_t rights) {
    char text[PATH_MAX];
    if (path.len >= sizeof(text))
        return -ENAMETOOLONG;
    memcpy(text, path.ptr, path.len);
    text[path.len] = '\0';
    return allow(ruleset, text, rights);
}

static int allow_list(int ruleset, struct sandbox_list paths, uint64_t rights, const char *name,
                      char *said) {
    for (size_t i = 0; i < paths.count; i++) {
        int err = allow_span(ruleset, paths.items[i], rights);
        if (err) {
            (void)snprintf(said, SANDBOX_SAID_MAX, "%s: %.*s: %s", name, (int)paths.items[i].len,
                           paths.items[i].ptr, strerror(-err));
            return err;
        }
    }
    return 0;
}

/* Its folder, for what it may load from there. */
static int allow_library(int ruleset, struct span path, uint64_t rights) {
    while (path.len > 1 && path.ptr[path.len - 1] != '/')
        path.len--;
    return allow_span(ruleset, path.len && path.ptr[0] == '/' ? path : SPAN_LIT("."), rights);
}

static int allow_all(const struct sandbox_options *options, int ruleset, uint64_t handled,
                     char *said) {
    uint64_t runs = options->allow_exec ? EXECUTE : 0;
    uint64_t read = handled & (READ | runs), write = handled & (READ | WRITE | runs);
    int err = allow_usual(ruleset, usual, sizeof(usual) / sizeof(usual[0]), read);
    if (!err)
        err = allow_usual(ruleset, writable, sizeof(writable) / sizeof(writable[0]),
                          handled & (READ_FILE | WRITE_FILE | TRUNCATE));
    if (!err && options->library_path.len)
        err = allow_library(ruleset, options->library_path, read);
    if (!err)
        err = allow_list(ruleset, options->read_paths, read, "read_paths", said);
    if (!err)
        err = allow_list(ruleset, options->write_paths, write, "write_paths", said);
    return err;
}

static int without_landlock(const struct sandbox_options *options, char *said) {
    static const char lacks[] = "this kernel has no Landlock, or it is switched off at its start "
                                "(lsm=)";
    if (options->landlock == SANDBOX_REQUIRED ||
        (options->landlock == SANDBOX_WHERE_NEEDED && options->restricts_files)) {
        (void)snprintf(said, SANDBOX_SAID_MAX, "%s: landlock: IF_AVAILABLE does without", lacks);
        return -EOPNOTSUPP;
    }
    if (options->restricts_files)
        (void)snprintf(said, SANDBOX_SAID_MAX, "%s: files are not restricted", lacks);
    return 0;
}

int sandbox_restrict_files(const struct sandbox_options *options, char said[SANDBOX_SAID_MAX]) {
    if (options->landlock == SANDBOX_WITHOUT)
        return 0;
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
    if (abi <= 0)
        return without_landlock(options, said);
    /* Nobody makes block devices: that is enough for a domain. Moving a file to another folder is denied in every
     * domain that does not allow it. */
    uint64_t handled = options->restricts_files ? handled_by((int)abi)
                       : abi >= 2               ? MAKE_BLOCK | REFER
                                                : MAKE_BLOCK;
    const struct ruleset attributes = {
        .handled_fs = handled,
        .scoped = abi < ABI_WITH_SCOPES      ? 0
                  : options->restricts_files ? SCOPE_SIGNALS | SCOPE_ABSTRACT_UNIX_SOCKETS
                                             : SCOPE_SIGNALS,
    };
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);
    int err = ruleset < 0 ? -errno : 0;
    if (!err && options->restricts_files)
        err = allow_all(options, ruleset, handled, said);
    else if (!err && (handled & REFER))
        err = allow(ruleset, "/", REFER);
    if (!err && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        err = -errno;
    if (ruleset >= 0)
        (void)close(ruleset);
    if (err && !said[0])
        (void)snprintf(said, SANDBOX_SAID_MAX, "Landlock: %s", strerror(-err));
    return err;
}
