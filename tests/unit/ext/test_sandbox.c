/* sandbox.c: children of this program enter it and try what it is against, and what libraries need. The program of the system-call
 * filter is also run by hand, call by call: where the kernel would say no for a reason of its own, trying tells
 * nothing. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <ifaddrs.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "ext/host/ext_host.h"
#include "ext/host/ext_host_inbox.h"
#include "ext/remote/sandbox.h"
#include "ext/remote/sandbox_calls.h"
#include "ext/remote/sandbox_options.h"
#include "ext/remote/sandbox_seccomp.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { HAS_SHADOW = 1 };
#else
enum { HAS_SHADOW = 0 };
#endif
#ifdef __x86_64__
enum { OUR_ARCH = (int)AUDIT_ARCH_X86_64, FOREIGN_ARCH = AUDIT_ARCH_I386 };
#else
enum { OUR_ARCH = (int)AUDIT_ARCH_AARCH64, FOREIGN_ARCH = AUDIT_ARCH_ARM };
#endif

extern char **environ;

/* ---- children ---- */

static int telling = -1; /* where a child says what is wrong */
static pid_t parent;
static char true_path[] = "/bin/true";
static char folder[] = "/tmp/sluice-sandbox-XXXXXX";

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            dprintf(telling, "line %d: %s (errno %d)\n", __LINE__, #condition, errno);             \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)
/* A call that must fail, in this way. */
#define FAILS(call, error)                                                                         \
    do {                                                                                           \
        errno = 0;                                                                                 \
        CHECK((long)(call) == -1 && errno == (error));                                             \
    } while (0)

static void enter(const struct sandbox_options *options) {
    char said[SANDBOX_SAID_MAX];
    int err = sandbox_enter(options, &telling, 1, said);
    if (err || said[0])
        dprintf(telling, "%d: %s\n", err, said);
    if (err)
        _exit(1);
}

/* The story, in a child of its own; it must end well. */
static int status_of(const struct sandbox_options *options, void (*story)(void)) {
    int fds[2];
    char text[1024];
    assert_int_equal(pipe(fds), 0);
    parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(60);
        close(fds[0]);
        telling = fds[1];
        if (options)
            enter(options);
        story();
        _exit(0);
    }
    close(fds[1]);
    ssize_t n;
    while ((n = read(fds[0], text, sizeof text - 1)) > 0)
        print_error("%.*s", (int)n, text);
    close(fds[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void inside(const struct sandbox_options *options, void (*story)(void)) {
    assert_int_equal(status_of(options, story), 0);
}

static int landlock_abi(void) {
    return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
}

/* ---- what is denied ---- */

static void other_processes(void) {
    char path[64], byte;
    struct iovec local = {&byte, 1}, remote = {&parent, 1};
    struct f_owner_ex owner = {F_OWNER_PID, parent};
    snprintf(path, sizeof path, "/proc/%d/mem", (int)parent);
    FAILS(ptrace(PTRACE_ATTACH, parent, NULL, NULL), EPERM);
    FAILS(ptrace(PTRACE_SEIZE, parent, NULL, NULL), EPERM);
    FAILS(process_vm_readv(parent, &local, 1, &remote, 1, 0), EPERM);
    FAILS(process_vm_writev(parent, &local, 1, &remote, 1, 0), EPERM);
    FAILS(syscall(SYS_pidfd_open, parent, 0), EPERM);
    FAILS(kill(parent, 0), EPERM);
    FAILS(kill(0, 0), EPERM);
    FAILS(kill(-1, 0), EPERM);
    FAILS(syscall(SYS_tgkill, parent, parent, 0), EPERM);
    FAILS(syscall(SYS_tkill, parent, 0), EPERM);
    FAILS(sigqueue(parent, 0, (union sigval){0}), EPERM);
    FAILS(fcntl(telling, F_SETOWN, parent), EPERM);
    FAILS(fcntl(telling, F_SETOWN_EX, &owner), EPERM);
    FAILS(prlimit(parent, RLIMIT_CPU, &(struct rlimit){1, 1}, NULL), EPERM);
    FAILS(setpriority(PRIO_PROCESS, (id_t)parent, 19), EPERM);
    FAILS(prctl(PR_SET_PDEATHSIG, 0), EPERM); /* it would outlive the proxy */
    CHECK(open(path, O_RDWR) < 0);
    CHECK(getsid(0) == getpid() && getpgrp() == getpid());
}

static void processes_outside_are_out_of_reach(void **state) {
    inside(&(struct sandbox_options){0}, other_processes);
}

static void *nothing(void *arg) {
    return arg;
}

static void *stay(void *arg) {
    pause();
    return arg;
}

static void no_processes(void) {
    char *const argv[] = {true_path, NULL};
    pid_t pid;
    FAILS(execve(true_path, argv, environ), EPERM);
    FAILS(fork(), EPERM);
    CHECK(posix_spawn(&pid, argv[0], NULL, NULL, argv, environ) == EPERM);
    FAILS(syscall(SYS_clone3, NULL, 0), ENOSYS); /* libc falls back on what can be looked at */
}

static void processes_are_not_started(void **state) {
    inside(&(struct sandbox_options){0}, no_processes);
}

static void a_process(void) {
    char *const argv[] = {true_path, NULL};
    pid_t pid;
    int status;
    CHECK(posix_spawn(&pid, argv[0], NULL, NULL, argv, environ) == 0);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    /* A child cannot be made the proxy's, nor be given a world of its own. */
    FAILS(syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL), EPERM);
    FAILS(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL), EPERM);
}

static void processes_are_started_where_they_are_allowed(void **state) {
    inside(&(struct sandbox_options){.allow_exec = true}, a_process);
}

static void the_machine(void) {
    static const char junk[64];
    FAILS(syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL), EPERM);
    FAILS(syscall(SYS_umount2, "/", 0), EPERM);
    FAILS(syscall(SYS_bpf, 0, junk, sizeof junk), EPERM);
    FAILS(syscall(SYS_init_module, junk, sizeof junk, ""), EPERM);
    FAILS(syscall(SYS_finit_module, 0, "", 0), EPERM);
    FAILS(syscall(SYS_perf_event_open, junk, 0, -1, -1, 0), EPERM);
    FAILS(syscall(SYS_userfaultfd, 0), EPERM);
    FAILS(syscall(SYS_io_uring_setup, 8, junk), EPERM);
    FAILS(syscall(SYS_keyctl, 0, -3, 0), EPERM);
    FAILS(unshare(CLONE_NEWUSER), EPERM);
    FAILS(unshare(CLONE_NEWNS), EPERM);
    FAILS(setns(0, 0), EPERM);
    FAILS(chroot("/"), EPERM);
    FAILS(ioctl(0, TIOCSTI, "x"), EPERM);
    FAILS(socket(AF_PACKET, SOCK_RAW, 0), EPERM);
    FAILS(socket(AF_ALG, SOCK_SEQPACKET, 0), EPERM);
    FAILS(socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT), EPERM);
    FAILS(syscall(SYS_shmget, 0, 4096, 0600 | 01000), EPERM);
    FAILS(syscall(SANDBOX_CALLS_END - 1, 0), ENOSYS); /* what we do not know is not there */
}

static void the_machine_is_out_of_reach(void **state) {
    inside(&(struct sandbox_options){0}, the_machine);
}

static void no_privileges(void) {
    char line[128];
    uint64_t held = ~0ull;
    FILE *file = fopen("/proc/self/status", "re");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file))
        if (strncmp(line, "CapEff:", 7) == 0)
            held = strtoull(line + 7, NULL, 16);
    fclose(file);
    CHECK(held == 0);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    FAILS(setuid(0), EPERM);
    struct rlimit core;
    CHECK(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0);
}

static void privileges_are_gone(void **state) {
    inside(&(struct sandbox_options){0}, no_privileges);
}

static void count_fds(void) {
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    CHECK(fcntl(telling, F_GETFD) >= 0);
    CHECK(count == 4);
}

static void descriptors_are_closed_but_the_kept_one(void **state) {
    int fds[16];
    for (int i = 0; i < 16; i++)
        fds[i] = dup(0);
    inside(&(struct sandbox_options){0}, count_fds);
    for (int i = 0; i < 16; i++)
        close(fds[i]);
}

static void foreign_convention(void) {
#ifdef __x86_64__
    syscall(0x40000000 | SYS_getpid); /* x32 */
#else
    raise(SIGSYS);
#endif
}

static void a_foreign_calling_convention_kills(void **state) {
    int status = status_of(&(struct sandbox_options){0}, foreign_convention);
    assert_true(WIFSIGNALED(status) || HAS_SHADOW); /* TSan ends itself on a signal */
    assert_true(!WIFSIGNALED(status) || WTERMSIG(status) == SIGSYS);
    assert_int_not_equal(status, 0);
}

/* ---- what works ---- */

static void over_loopback(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(listening, (struct sockaddr *)&at, len) == 0 && listen(listening, 1) == 0);
    CHECK(getsockname(listening, (struct sockaddr *)&at, &len) == 0);
    int ours = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(ours, (struct sockaddr *)&at, len) == 0);
    int theirs = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    char byte = 'x';
    CHECK(write(ours, &byte, 1) == 1 && read(theirs, &byte, 1) == 1);
}

static void names(void) {
    struct addrinfo *found = NULL;
    struct ifaddrs *interfaces = NULL;
    CHECK(getaddrinfo("localhost", "80", NULL, &found) == 0);
    freeaddrinfo(found);
    CHECK(getifaddrs(&interfaces) == 0);
    freeifaddrs(interfaces);
    CHECK(access("/etc/nsswitch.conf", F_OK) != 0 || open("/etc/nsswitch.conf", O_RDONLY) >= 0);
}

static void on_signal(int signo) {}

/* As Go's runtime: code that is made at run time, timers, signals among its own threads, limits. */
static void as_a_runtime(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
    void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(code != MAP_FAILED && mprotect(code, 4096, PROT_READ | PROT_EXEC) == 0);
    char bytes[8];
    CHECK(getrandom(bytes, sizeof bytes, 0) == sizeof bytes);
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    signal(SIGURG, on_signal);
    CHECK(syscall(SYS_tgkill, getpid(), gettid(), SIGURG) == 0);
    CHECK(raise(SIGURG) == 0 && kill(getpid(), SIGURG) == 0);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGURG};
    event._sigev_un._tid = gettid();
    CHECK(timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) == 0);
    CHECK(timer_delete(timer) == 0);
    cpu_set_t cpus;
    CHECK(sched_getaffinity(0, sizeof cpus, &cpus) == 0);
    CHECK(sched_setaffinity(0, sizeof cpus, &cpus) == 0);
    struct rlimit files;
    CHECK(getrlimit(RLIMIT_NOFILE, &files) == 0 && setrlimit(RLIMIT_NOFILE, &files) == 0);
    CHECK(prctl(PR_SET_NAME, "inside") == 0);
    CHECK(epoll_create1(EPOLL_CLOEXEC) >= 0);
    CHECK(open("/dev/null", O_RDWR) >= 0 && open("/proc/self/maps", O_RDONLY) >= 0);
    CHECK(open("/proc/self/cgroup", O_RDONLY) >= 0);
}

static void what_libraries_need(void) {
    as_a_runtime();
    over_loopback();
    names();
}

static void what_libraries_need_works(void **state) {
    inside(&(struct sandbox_options){0}, what_libraries_need);
    const struct sandbox_options strict = {.restricts_files = true,
                                           .landlock = SANDBOX_IF_AVAILABLE};
    inside(&strict, what_libraries_need);
}

/* ---- options ---- */

static void unhindered(void) {
    CHECK(kill(parent, 0) == 0);
    CHECK(syscall(SYS_get_robust_list, 0, &(void *){NULL}, &(size_t){0}) == 0);
}

static void audited(void) {
    unhindered();
    FAILS(syscall(SYS_clone3, NULL, 0), ENOSYS); /* so that libc goes the same way in both modes */
}

static void in_audit_all_works(void **state) {
    inside(&(struct sandbox_options){.seccomp = SANDBOX_AUDIT, .landlock = SANDBOX_WITHOUT},
           audited);
    inside(&(struct sandbox_options){.seccomp = SANDBOX_FREE, .landlock = SANDBOX_WITHOUT},
           unhindered);
}

static void one_more(void) {
    CHECK(syscall(SYS_get_robust_list, 0, &(void *){NULL}, &(size_t){0}) == 0);
    FAILS(fork(), EPERM);
}

static void a_call_is_allowed_by_name(void **state) {
    const struct span good = SPAN_LIT("get_robust_list"),
                      bad[] = {SPAN_LIT("clone3"), SPAN_LIT("get_rich")};
    inside(&(struct sandbox_options){.allowed_calls = {&good, 1}}, one_more);
    struct sock_filter program[SANDBOX_PROGRAM_MAX];
    char said[SANDBOX_SAID_MAX];
    const char *const why[] = {
        "allow_syscalls: 'clone3' cannot be allowed: what it does is not seen from outside",
        "allow_syscalls: 'get_rich' is no system call of this machine"};
    for (int i = 0; i < 2; i++) {
        const struct sandbox_options options = {.allowed_calls = {&bad[i], 1}};
        assert_int_equal(sandbox_program(&options, program, said), 0);
        assert_string_equal(said, why[i]);
    }
}

static void too_much(void) {
    enum { MUCH = 256 << 20 };
    errno = 0;
    CHECK(mmap(NULL, MUCH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
          MAP_FAILED);
    CHECK(errno == ENOMEM);
    CHECK(mmap(NULL, MUCH, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    CHECK(setrlimit(RLIMIT_DATA, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY}) != 0);
}

static void too_many(void) {
    int fd = 0;
    while ((fd = dup(0)) >= 0)
        CHECK(fd < 32);
    CHECK(errno == EMFILE);
}

static void limits_hold(void **state) {
    if (!HAS_SHADOW)
        inside(&(struct sandbox_options){.memory_limit_bytes = 128 << 20}, too_much);
    inside(&(struct sandbox_options){.max_open_files = 32}, too_many);
}

static char *in_folder(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *name, mode_t mode) {
    int fd = open(in_folder(name), O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, "text", 4), 4);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

/* Users that have no processes, as those of a user count together. */
enum { SOMEBODY = 64989, BOMBER = 64990 };

static void as_somebody(void) {
    int signal = 0;
    CHECK(getuid() == SOMEBODY && getegid() == SOMEBODY && getgroups(0, NULL) == 0);
    FAILS(open(in_folder("secret"), O_RDONLY), EACCES);
    CHECK(open(in_folder("public"), O_RDONLY) >= 0);
    CHECK(prctl(PR_GET_PDEATHSIG, &signal) == 0 && signal == SIGKILL);
    CHECK(open("/proc/self/fd", O_RDONLY | O_DIRECTORY) >= 0); /* it may look at itself ... */
    CHECK(prctl(PR_GET_DUMPABLE) == 1);                        /* ... and so may a debugger */
    FAILS(kill(parent, 0), EPERM);
    what_libraries_need();
}

static void enter_as_somebody(void) {
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    CHECK(setgroups(1, &(gid_t){4}) == 0);
    enter(&(struct sandbox_options){
        .changes_user = true, .uid = SOMEBODY, .gid = SOMEBODY, .max_threads = 64});
    as_somebody();
}

static void bombing(void) {
    enum { FEW = 16, MANY = 64 };
    pthread_t threads[MANY];
    enter(&(struct sandbox_options){
        .changes_user = true, .uid = BOMBER, .gid = BOMBER, .max_threads = FEW});
    int started = 0, err = 0;
    while (started < MANY && !err) {
        err = pthread_create(&threads[started], NULL, stay, NULL);
        started += err == 0;
    }
    CHECK(err == EAGAIN && started < FEW);
}

static void it_runs_as_another_user(void **state) {
    if (getuid() != 0) {
        const struct sandbox_options options = {
            .changes_user = true, .uid = SOMEBODY, .gid = SOMEBODY};
        assert_int_not_equal(status_of(&options, names), 0);
        return;
    }
    inside(NULL, enter_as_somebody);
    if (!HAS_SHADOW)
        inside(NULL, bombing);
}

/* ---- files ---- */

static struct sockaddr_un outside = {.sun_family = AF_UNIX, .sun_path = "\0sluice-sandbox-"};
enum { OUTSIDE_LEN = offsetof(struct sockaddr_un, sun_path) + 24 };

/* A socket by a name that is no file. */
static int listen_outside(void) {
    snprintf(outside.sun_path + 16, 8, "%d", (int)getpid());
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&outside, OUTSIDE_LEN), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void within_the_paths(void) {
    CHECK(open(in_folder("read/text"), O_RDONLY) >= 0);
    FAILS(open(in_folder("read/text"), O_RDWR), EACCES);
    FAILS(open(in_folder("read/new"), O_CREAT | O_WRONLY, 0600), EACCES);
    FAILS(open(in_folder("public"), O_RDONLY), EACCES);
    FAILS(open("/", O_RDONLY | O_DIRECTORY), EACCES);
    FAILS(truncate(in_folder("read/text"), 0), EACCES);
    int fd = open(in_folder("write/new"), O_CREAT | O_RDWR, 0600);
    CHECK(fd >= 0 && write(fd, "x", 1) == 1);
    char from[256];
    snprintf(from, sizeof from, "%s", in_folder("write/new"));
    CHECK(rename(from, in_folder("write/newer")) == 0);
    CHECK(unlink(in_folder("write/newer")) == 0);
    CHECK(open(in_folder("library/other.so"), O_RDONLY) >= 0); /* beside the library */
    if (landlock_abi() >= 6)
        FAILS(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&outside, OUTSIDE_LEN),
              EPERM);
    FAILS(execve(true_path, (char *const[]){true_path, NULL}, environ), EACCES);
}

static void files_outside_of_the_paths_are_denied(void **state) {
    char read_path[64], write_path[64], library[64];
    snprintf(read_path, sizeof read_path, "%s/read", folder);
    snprintf(write_path, sizeof write_path, "%s/write", folder);
    snprintf(library, sizeof library, "%s/library/x.so", folder);
    const struct span reads[] = {span_of(read_path)}, writes[] = {span_of(write_path)};
    const struct sandbox_options options = {
        .seccomp = SANDBOX_FREE, /* so that it is Landlock that denies */
        .restricts_files = true,
        .read_paths = {reads, 1},
        .write_paths = {writes, 1},
        .library_path = span_of(library),
    };
    int listening = listen_outside();
    if (landlock_abi() > 2)
        inside(&options, within_the_paths);
    close(listening);
}

static void without_a_filter(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)parent);
    CHECK(open(path, O_RDONLY) < 0);
    FAILS(ptrace(PTRACE_SEIZE, parent, NULL, NULL), EPERM);
    if (landlock_abi() >= 6)
        FAILS(kill(parent, 0), EPERM);
    CHECK(open(in_folder("public"), O_RDONLY) >= 0);
    char from[256];
    snprintf(from, sizeof from, "%s", in_folder("read/moved"));
    CHECK(rename(in_folder("movable"), from) == 0); /* files are as they were */
}

/* What no filter of system calls sees. */
static void a_domain_is_made_even_where_files_are_free(void **state) {
    put("movable", 0600);
    if (landlock_abi() > 1)
        inside(&(struct sandbox_options){.seccomp = SANDBOX_FREE}, without_a_filter);
}

static void a_path_that_is_not_there(void) {
    char said[SANDBOX_SAID_MAX];
    const struct span path = SPAN_LIT("/nonexistent/folder");
    const struct sandbox_options options = {.restricts_files = true, .read_paths = {&path, 1}};
    CHECK(sandbox_enter(&options, &telling, 1, said) == -ENOENT);
    CHECK(strcmp(said, "read_paths: /nonexistent/folder: No such file or directory") == 0);
}

static void a_path_that_is_missing_is_told(void **state) {
    if (landlock_abi() > 0)
        inside(NULL, a_path_that_is_not_there);
}

/* As on a kernel without it. */
static void hide_landlock(void) {
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_landlock_create_ruleset, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog all = {4, program};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all) == 0);
}

static void on_an_old_kernel(void) {
    char said[SANDBOX_SAID_MAX];
    hide_landlock();
    struct sandbox_options options = {.restricts_files = true};
    CHECK(sandbox_enter(&options, &telling, 1, said) == -EOPNOTSUPP);
    CHECK(strstr(said, "no Landlock") && strstr(said, "IF_AVAILABLE"));
    options = (struct sandbox_options){.landlock = SANDBOX_REQUIRED};
    CHECK(sandbox_enter(&options, &telling, 1, said) == -EOPNOTSUPP);
    options = (struct sandbox_options){.restricts_files = true, .landlock = SANDBOX_IF_AVAILABLE};
    CHECK(sandbox_enter(&options, &telling, 1, said) == 0);
    CHECK(strstr(said, "files are not restricted"));
}

static void nothing_to_say(void) {
    char said[SANDBOX_SAID_MAX];
    hide_landlock();
    CHECK(sandbox_enter(&(struct sandbox_options){0}, &telling, 1, said) == 0 && !said[0]);
}

static void a_kernel_without_landlock_is_told(void **state) {
    inside(NULL, on_an_old_kernel);
    inside(NULL, nothing_to_say);
}

static void with_company(void) {
    pthread_t thread;
    char said[SANDBOX_SAID_MAX];
    CHECK(pthread_create(&thread, NULL, stay, NULL) == 0);
    CHECK(sandbox_enter(&(struct sandbox_options){0}, &telling, 1, said) == -EBUSY);
}

static void other_threads_are_an_error(void **state) {
    if (!HAS_SHADOW)
        inside(NULL, with_company);
}

/* ---- the program, run by hand ---- */

static uint32_t run(const struct sock_filter *program, size_t len, const struct seccomp_data *on) {
    uint32_t a = 0;
    for (size_t at = 0; at < len; at++) {
        const struct sock_filter *i = &program[at];
        switch (i->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_true(i->k + 4 <= sizeof *on && i->k % 4 == 0);
            memcpy(&a, (const char *)on + i->k, sizeof a);
            break;
        case BPF_JMP | BPF_JA:
            at += i->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            at += a == i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            at += a >= i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            at += a & i->k ? i->jt : i->jf;
            break;
        case BPF_RET | BPF_K:
            return i->k;
        default:
            fail_msg("instruction %zu is %#x", at, i->code);
        }
    }
    fail_msg("the program ended without an answer");
    return 0;
}

static struct sock_filter program[SANDBOX_PROGRAM_MAX];

static uint32_t answer_to(size_t len, int number, uint64_t first, uint64_t second) {
    const struct seccomp_data call = {
        .nr = number, .arch = (uint32_t)OUR_ARCH, .args = {first, second}};
    return run(program, len, &call);
}

enum { DENIED = SECCOMP_RET_ERRNO | EPERM, ABSENT = SECCOMP_RET_ERRNO | ENOSYS };

static void every_number_gets_its_verdict(void **state) {
    char said[SANDBOX_SAID_MAX];
    uint32_t expected[SANDBOX_CALLS_END];
    bool asked[SANDBOX_CALLS_END] = {false};
    for (int may_exec = 0; may_exec < 2; may_exec++) {
        const struct sandbox_options options = {.allow_exec = may_exec};
        size_t len = sandbox_program(&options, program, said);
        assert_in_range(len, 100, 1024);
        for (int nr = 0; nr < SANDBOX_CALLS_END; nr++)
            expected[nr] = ABSENT;
        for (size_t i = 0; i < sandbox_calls_count; i++) {
            const struct sandbox_call *call = &sandbox_calls[i];
            asked[call->number] = call->verdict == SANDBOX_CALL_ASKED;
            expected[call->number] = call->verdict == SANDBOX_CALL_ALLOWED  ? SECCOMP_RET_ALLOW
                                     : call->verdict == SANDBOX_CALL_ABSENT ? ABSENT
                                     : call->verdict == SANDBOX_CALL_EXEC && may_exec
                                         ? SECCOMP_RET_ALLOW
                                         : DENIED;
        }
        for (int nr = 0; nr < SANDBOX_CALLS_END; nr++)
            if (!asked[nr] && answer_to(len, nr, 0, 0) != expected[nr])
                fail_msg("call %d: %#x", nr, answer_to(len, nr, 0, 0));
        assert_int_equal(answer_to(len, SANDBOX_CALLS_END, 0, 0), ABSENT);
        assert_int_equal(answer_to(len, 0x3fffffff, 0, 0), ABSENT);
    }
}

static void no_call_is_judged_twice(void **state) {
    for (size_t i = 0; i < sandbox_calls_count; i++)
        for (size_t k = 0; k < i; k++)
            if (sandbox_calls[i].number == sandbox_calls[k].number)
                fail_msg("%s and %s", sandbox_calls[i].name, sandbox_calls[k].name);
}

static void another_machines_calls_are_not_judged(void **state) {
    char said[SANDBOX_SAID_MAX];
    size_t len = sandbox_program(&(struct sandbox_options){0}, program, said);
    const struct seccomp_data foreign = {.nr = SYS_read, .arch = FOREIGN_ARCH};
    assert_int_equal(run(program, len, &foreign), SECCOMP_RET_KILL_PROCESS);
#ifdef __x86_64__
    assert_int_equal(answer_to(len, 0x40000000, 0, 0), SECCOMP_RET_KILL_PROCESS);
#endif
    len = sandbox_program(&(struct sandbox_options){.seccomp = SANDBOX_AUDIT}, program, said);
    assert_int_equal(run(program, len, &foreign), SECCOMP_RET_LOG);
    assert_int_equal(answer_to(len, SYS_ptrace, 0, 0), SECCOMP_RET_LOG);
    assert_int_equal(answer_to(len, SANDBOX_CALLS_END, 0, 0), SECCOMP_RET_LOG);
    assert_int_equal(answer_to(len, SYS_clone3, 0, 0), ABSENT);
}

/* The kernel reads 32 bits of these; what stands above them changes nothing. */
static void arguments_decide(void **state) {
    char said[SANDBOX_SAID_MAX];
    const uint64_t above = 1ull << 32, us = (uint64_t)getpid();
    enum { GO_THREAD = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD };
    const struct {
        int number;
        uint64_t first, second;
        bool passes, passes_with_exec;
    } cases[] = {
        {SYS_clone, GO_THREAD, 0, true, true},
        {SYS_clone, SIGCHLD, 0, false, true},
        {SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, false, true},
        {SYS_clone, GO_THREAD | CLONE_NEWUSER, 0, false, false},
        {SYS_clone, CLONE_NEWNET | SIGCHLD, 0, false, false},
        {SYS_clone, CLONE_PARENT | SIGCHLD, 0, false, false},
        {SYS_kill, us, SIGKILL, true, true},
        {SYS_kill, us + 1, SIGKILL, false, true},
        {SYS_kill, above | us, 0, true, true},
        {SYS_tgkill, 0, 0, false, true},
        {SYS_prlimit64, 0, 0, true, true},
        {SYS_prlimit64, us, 0, true, true},
        {SYS_prlimit64, us + 1, 0, false, false},
        {SYS_ioctl, 0, FIONREAD, true, true},
        {SYS_ioctl, 0, TIOCSTI, false, false},
        {SYS_ioctl, 0, above | TIOCSTI, false, false},
        {SYS_fcntl, 0, F_GETFL, true, true},
        {SYS_fcntl, 0, above | F_SETOWN, false, false},
        {SYS_prctl, PR_SET_NAME, 0, true, true},
        {SYS_prctl, PR_SET_PDEATHSIG, 0, false, false},
        {SYS_prctl, above | PR_SET_PDEATHSIG, 0, false, false},
        {SYS_socket, AF_INET6, 0, true, true},
        {SYS_socket, AF_VSOCK, 0, false, false},
        {SYS_setpriority, PRIO_PROCESS, 0, true, true},
        {SYS_setpriority, PRIO_USER, 0, false, false},
        {SYS_personality, 0xffffffff, 0, true, true},
        {SYS_personality, 0x0040000, 0, false, false}, /* ADDR_NO_RANDOMIZE */
    };
    for (int may_exec = 0; may_exec < 2; may_exec++) {
        size_t len =
            sandbox_program(&(struct sandbox_options){.allow_exec = may_exec}, program, said);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            bool passes = may_exec ? cases[i].passes_with_exec : cases[i].passes;
            uint32_t answer = answer_to(len, cases[i].number, cases[i].first, cases[i].second);
            if (answer != (passes ? (uint32_t)SECCOMP_RET_ALLOW : (uint32_t)DENIED))
                fail_msg("case %zu, may_exec %d: %#x", i, may_exec, answer);
        }
    }
}

/* ---- from the configuration to the host process ---- */

/* This program is its own host process: it is started again with --ext-host. What it is asked after the sandbox it
 * answers with what it finds: {the limit of descriptors, errors of opening two files, and of a call}. */
static int host_process(void) {
    struct ext_host_inbox inbox = {0};
    struct ext_host_message request;
    while (ext_host_inbox_next(&inbox, &request)) {
        struct ext_host_message answer = {.kind = EXT_HOST_ANSWER};
        char *memory = NULL;
        struct rlimit files;
        size_t size;
        if (request.kind == EXT_HOST_SANDBOX) {
            sandbox_options_serve(&request, &answer, &memory);
        } else {
            answer.numbers[0] = getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_max : 0;
            for (int i = 0; i < 2; i++)
                answer.numbers[1 + i] =
                    open(request.texts[i].ptr, O_RDWR) < 0 ? (uint64_t)errno : 0;
            bool works = syscall(SYS_get_robust_list, 0, &(void *){NULL}, &(size_t){0}) == 0;
            answer.numbers[3] = works ? 0 : (uint64_t)errno;
        }
        char *bytes = ext_host_encode(&answer, &size);
        if (!bytes || write(EXT_HOST_FD, bytes, size) != (ssize_t)size)
            return 1;
        free(bytes);
        free(memory);
    }
    ext_host_inbox_fini(&inbox);
    return 0;
}

static struct ext_host *start(void) {
    struct ext_host *host;
    assert_int_equal(ext_host_start(&(struct ext_host_options){0}, &host), 0);
    return host;
}

static void options_reach_the_host_process(void **state) {
    char read_path[256], write_path[256], said[SANDBOX_SAID_MAX];
    snprintf(read_path, sizeof read_path, "%s", in_folder("read/text"));
    snprintf(write_path, sizeof write_path, "%s", in_folder("write/text"));
    put("write/text", 0644);
    struct span reads[] = {SPAN_LIT("/usr"), span_of(read_path)}, writes[] = {span_of(write_path)};
    struct span calls[] = {SPAN_LIT("kcmp"), SPAN_LIT("get_robust_list")};
    const struct cfg_sandbox cfg = {
        .allow_syscalls = calls,
        .allow_syscalls_count = 2,
        .restrict_files = true,
        .landlock = CFG_LANDLOCK_IF_AVAILABLE,
        .read_paths = reads,
        .read_paths_count = 2,
        .write_paths = writes,
        .write_paths_count = 1,
        .max_open_files = {true, 64},
    };
    struct sandbox_options options;
    assert_true(sandbox_options_from(&cfg, SPAN_LIT("/lib/x.so"), &options, said));
    struct ext_host *host = start();
    assert_int_equal(sandbox_options_send(&options, host, INT64_MAX, said), 0);
    assert_true(!said[0] || landlock_abi() <= 0);
    const struct ext_host_message question = {
        .kind = EXT_HOST_GO_NEW,
        .texts = {span_make(read_path, strlen(read_path) + 1),
                  span_make(write_path, strlen(write_path) + 1)}};
    struct ext_host_message answer;
    assert_int_equal(ext_host_call(host, &question, &answer, INT64_MAX), 0);
    assert_int_equal(answer.numbers[0], 64);
    assert_int_equal(answer.numbers[1], landlock_abi() > 0 ? EACCES : 0);
    assert_int_equal(answer.numbers[2], 0);
    assert_int_equal(answer.numbers[3], 0);
    ext_host_free(host);
}

static void a_sandbox_that_cannot_be_is_told(void **state) {
    char said[SANDBOX_SAID_MAX];
    struct span call = SPAN_LIT("no_such_call"), path = SPAN_LIT("/nonexistent");
    struct sandbox_options options;
    assert_true(sandbox_options_from(NULL, span_none(), &options, said));
    assert_int_equal(options.seccomp, SANDBOX_DENY);
    const struct cfg_sandbox wrong = {.allow_syscalls = &call, .allow_syscalls_count = 1};
    assert_false(sandbox_options_from(&wrong, span_none(), &options, said));
    assert_non_null(strstr(said, "'no_such_call' is no system call"));
    const struct cfg_sandbox missing = {
        .restrict_files = true, .write_paths = &path, .write_paths_count = 1};
    assert_true(sandbox_options_from(&missing, span_none(), &options, said));
    struct ext_host *host = start();
    assert_int_equal(sandbox_options_send(&options, host, INT64_MAX, said), -EPERM);
    assert_true(strstr(said, "write_paths: /nonexistent: ") || landlock_abi() <= 0);
    ext_host_free(host);
}

/* ---- */

static int make_folder(void **state) {
    const char *const names[] = {"read", "write", "library"};
    if (!mkdtemp(folder) || chmod(folder, 0755) != 0)
        return -1;
    for (int i = 0; i < 3; i++)
        if (mkdir(in_folder(names[i]), 0755) != 0)
            return -1;
    put("read/text", 0644);
    put("library/other.so", 0644);
    put("public", 0644);
    put("secret", 0600);
    return 0;
}

static int remove_folder(void **state) {
    const char *const names[] = {"read/text", "read/moved", "write/text", "library/other.so",
                                 "public",    "secret",     "movable",    "read",
                                 "write",     "library"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void)remove(in_folder(names[i])); /* some were never made */
    return rmdir(folder);
}

int main(int argc, char **argv) {
    if (ext_host_is_asked(argc, argv))
        return host_process();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processes_outside_are_out_of_reach),
        cmocka_unit_test(processes_are_not_started),
        cmocka_unit_test(processes_are_started_where_they_are_allowed),
        cmocka_unit_test(the_machine_is_out_of_reach),
        cmocka_unit_test(privileges_are_gone),
        cmocka_unit_test(descriptors_are_closed_but_the_kept_one),
        cmocka_unit_test(a_foreign_calling_convention_kills),
        cmocka_unit_test(what_libraries_need_works),
        cmocka_unit_test(in_audit_all_works),
        cmocka_unit_test(a_call_is_allowed_by_name),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(it_runs_as_another_user),
        cmocka_unit_test(files_outside_of_the_paths_are_denied),
        cmocka_unit_test(a_domain_is_made_even_where_files_are_free),
        cmocka_unit_test(a_path_that_is_missing_is_told),
        cmocka_unit_test(a_kernel_without_landlock_is_told),
        cmocka_unit_test(other_threads_are_an_error),
        cmocka_unit_test(every_number_gets_its_verdict),
        cmocka_unit_test(no_call_is_judged_twice),
        cmocka_unit_test(another_machines_calls_are_not_judged),
        cmocka_unit_test(arguments_decide),
        cmocka_unit_test(options_reach_the_host_process),
        cmocka_unit_test(a_sandbox_that_cannot_be_is_told),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
