/* sandbox_calls: an allow-list. What a filter needs of a kernel is known: memory, threads, time, files, sockets. What a
 * kernel will offer next year is not, and it was new calls that sandboxes leaked by (io_uring, userfaultfd,
 * process_vm_*). The price: something harmless that was left out fails. So the list is wide, a library that
 * needs more may have it by name (allowed_calls), and AUDIT tells which.
 *
 * Rejected  A deny-list: open by default. libseccomp: it would write the same program from the same table, which
 *           is what there is to keep; Debian 12's ends at calls of Linux 5.17, and a call that it does not know gets
 *           the default action, EPERM, where a libc expects ENOSYS to fall back. */
#include "ext/remote/sandbox_calls.h"

#include <sys/syscall.h>

/* Newer than the headers we build with; since 5.1 numbers are the same everywhere. */
#define NUMBER_CACHESTAT 451
#define NUMBER_FCHMODAT2 452
#define NUMBER_MAP_SHADOW_STACK 453
#define NUMBER_FUTEX_WAKE 454
#define NUMBER_FUTEX_WAIT 455
#define NUMBER_FUTEX_REQUEUE 456
#define NUMBER_MSEAL 462

#define ALLOW(name)                                                                                \
    { #name, SYS_##name, SANDBOX_CALL_ALLOWED }
#define ASK(name)                                                                                  \
    { #name, SYS_##name, SANDBOX_CALL_ASKED }
#define EXEC(name)                                                                                 \
    { #name, SYS_##name, SANDBOX_CALL_EXEC }
#define DENY(name)                                                                                 \
    { #name, SYS_##name, SANDBOX_CALL_DENIED }

/* clang-format off */
const struct sandbox_call sandbox_calls[] = {
    /* Memory */
    ALLOW(brk), ALLOW(mmap), ALLOW(munmap), ALLOW(mremap), ALLOW(mprotect), ALLOW(madvise),
    ALLOW(mincore), ALLOW(msync), ALLOW(mlock), ALLOW(mlock2), ALLOW(mlockall), ALLOW(munlock),
    ALLOW(munlockall), ALLOW(remap_file_pages), ALLOW(pkey_alloc), ALLOW(pkey_free),
    ALLOW(pkey_mprotect), ALLOW(memfd_create), ALLOW(memfd_secret), ALLOW(membarrier),
    ALLOW(get_mempolicy), ALLOW(set_mempolicy), ALLOW(set_mempolicy_home_node), ALLOW(mbind),
    {"map_shadow_stack", NUMBER_MAP_SHADOW_STACK, SANDBOX_CALL_ALLOWED},
    {"mseal", NUMBER_MSEAL, SANDBOX_CALL_ALLOWED}, DENY(migrate_pages), DENY(move_pages),
    DENY(userfaultfd),

    /* Threads. The flags of clone3 lie in memory, where no filter sees them: libc falls back to clone. */
    ASK(clone), {"clone3", SYS_clone3, SANDBOX_CALL_ABSENT}, ALLOW(exit), ALLOW(exit_group),
    ALLOW(futex), ALLOW(futex_waitv), ALLOW(set_robust_list), ALLOW(set_tid_address), ALLOW(rseq),
    ALLOW(gettid), ALLOW(sched_yield), ALLOW(sched_getaffinity), ALLOW(sched_getattr),
    ALLOW(sched_getparam), ALLOW(sched_getscheduler), ALLOW(sched_get_priority_max),
    ALLOW(sched_get_priority_min), ALLOW(sched_rr_get_interval), ALLOW(getcpu), ALLOW(getpriority),
    ALLOW(ioprio_get), {"futex_wake", NUMBER_FUTEX_WAKE, SANDBOX_CALL_ALLOWED},
    {"futex_wait", NUMBER_FUTEX_WAIT, SANDBOX_CALL_ALLOWED},
    {"futex_requeue", NUMBER_FUTEX_REQUEUE, SANDBOX_CALL_ALLOWED}, ASK(sched_setaffinity),
    ASK(sched_setattr), ASK(sched_setparam), ASK(sched_setscheduler), ASK(setpriority),
    ASK(ioprio_set), DENY(get_robust_list),
#ifdef __x86_64__
    ALLOW(arch_prctl), ALLOW(get_thread_area), ALLOW(set_thread_area), DENY(modify_ldt),
    DENY(ioperm), DENY(iopl),
#endif

    /* Signals, to itself alone */
    ALLOW(rt_sigaction), ALLOW(rt_sigpending), ALLOW(rt_sigprocmask), ALLOW(rt_sigreturn),
    ALLOW(rt_sigsuspend), ALLOW(rt_sigtimedwait), ALLOW(sigaltstack), ALLOW(signalfd4),
    ALLOW(restart_syscall), ASK(kill), ASK(tgkill), ASK(rt_sigqueueinfo), ASK(rt_tgsigqueueinfo),
    DENY(tkill),
#ifdef __x86_64__
    ALLOW(pause), ALLOW(signalfd),
#endif

    /* Processes */
    ALLOW(getpid), ALLOW(getppid), ALLOW(getpgid), ALLOW(getsid), ALLOW(setpgid), ALLOW(setsid),
    ALLOW(wait4), ALLOW(waitid), ALLOW(getrusage), ALLOW(getrlimit), ALLOW(setrlimit), ALLOW(times),
    ALLOW(sysinfo), ALLOW(uname), ALLOW(umask), ALLOW(getcwd), ALLOW(chdir), ALLOW(fchdir),
    ALLOW(seccomp), ALLOW(landlock_create_ruleset), ALLOW(landlock_add_rule),
    ALLOW(landlock_restrict_self), ASK(prctl), ASK(prlimit64), ASK(personality), EXEC(execve),
    EXEC(execveat), EXEC(pidfd_open), EXEC(pidfd_send_signal), DENY(ptrace), DENY(process_vm_readv),
    DENY(process_vm_writev), DENY(process_madvise), DENY(process_mrelease), DENY(pidfd_getfd),
    DENY(kcmp), DENY(perf_event_open), DENY(setns), DENY(unshare), DENY(acct),
#ifdef __x86_64__
    ALLOW(getpgrp), EXEC(fork), EXEC(vfork),
#endif

    /* Users */
    ALLOW(getuid), ALLOW(geteuid), ALLOW(getgid), ALLOW(getegid), ALLOW(getgroups),
    ALLOW(getresuid), ALLOW(getresgid), ALLOW(capget), DENY(capset), DENY(setuid), DENY(setgid),
    DENY(setreuid), DENY(setregid), DENY(setresuid), DENY(setresgid), DENY(setfsuid),
    DENY(setfsgid), DENY(setgroups), DENY(keyctl), DENY(add_key), DENY(request_key),

    /* Time */
    ALLOW(clock_gettime), ALLOW(clock_getres), ALLOW(clock_nanosleep), ALLOW(nanosleep),
    ALLOW(gettimeofday), ALLOW(getitimer), ALLOW(setitimer), ALLOW(timer_create),
    ALLOW(timer_delete), ALLOW(timer_getoverrun), ALLOW(timer_gettime), ALLOW(timer_settime),
    ALLOW(timerfd_create), ALLOW(timerfd_gettime), ALLOW(timerfd_settime), DENY(clock_settime),
    DENY(clock_adjtime), DENY(adjtimex), DENY(settimeofday),
#ifdef __x86_64__
    ALLOW(time), ALLOW(alarm),
#endif

    /* Descriptors */
    ALLOW(read), ALLOW(write), ALLOW(readv), ALLOW(writev), ALLOW(pread64), ALLOW(pwrite64),
    ALLOW(preadv), ALLOW(pwritev), ALLOW(preadv2), ALLOW(pwritev2), ALLOW(lseek), ALLOW(close),
    ALLOW(close_range), ALLOW(dup), ALLOW(dup3), ALLOW(pipe2), ALLOW(splice), ALLOW(tee),
    ALLOW(vmsplice), ALLOW(sendfile), ALLOW(copy_file_range), ALLOW(ppoll), ALLOW(pselect6),
    ALLOW(epoll_create1), ALLOW(epoll_ctl), ALLOW(epoll_pwait), ALLOW(epoll_pwait2),
    ALLOW(eventfd2), ALLOW(getrandom), ASK(fcntl), ASK(ioctl), DENY(io_uring_setup),
    DENY(io_uring_enter), DENY(io_uring_register), DENY(io_setup), DENY(io_destroy),
    DENY(io_submit), DENY(io_cancel), DENY(io_getevents), DENY(io_pgetevents),
#ifdef __x86_64__
    ALLOW(dup2), ALLOW(pipe), ALLOW(poll), ALLOW(select), ALLOW(epoll_create), ALLOW(epoll_wait),
    ALLOW(eventfd),
#endif

    /* Files */
    ALLOW(openat), ALLOW(openat2), ALLOW(newfstatat), ALLOW(fstat), ALLOW(statx), ALLOW(statfs),
    ALLOW(fstatfs), ALLOW(faccessat), ALLOW(faccessat2), ALLOW(readlinkat), ALLOW(getdents64),
    ALLOW(mkdirat), ALLOW(mknodat), ALLOW(unlinkat), ALLOW(renameat2), ALLOW(linkat),
    ALLOW(symlinkat), ALLOW(truncate), ALLOW(ftruncate), ALLOW(fallocate), ALLOW(fadvise64),
    ALLOW(readahead), ALLOW(fsync), ALLOW(fdatasync), ALLOW(sync), ALLOW(syncfs),
    ALLOW(sync_file_range), ALLOW(flock), ALLOW(fchmod), ALLOW(fchmodat), ALLOW(fchown),
    ALLOW(fchownat), ALLOW(utimensat), ALLOW(getxattr), ALLOW(lgetxattr), ALLOW(fgetxattr),
    ALLOW(setxattr), ALLOW(lsetxattr), ALLOW(fsetxattr), ALLOW(listxattr), ALLOW(llistxattr),
    ALLOW(flistxattr), ALLOW(removexattr), ALLOW(lremovexattr), ALLOW(fremovexattr),
    ALLOW(inotify_init1), ALLOW(inotify_add_watch), ALLOW(inotify_rm_watch), ALLOW(renameat),
    {"cachestat", NUMBER_CACHESTAT, SANDBOX_CALL_ALLOWED},
    {"fchmodat2", NUMBER_FCHMODAT2, SANDBOX_CALL_ALLOWED}, DENY(name_to_handle_at),
    DENY(open_by_handle_at), DENY(fanotify_init), DENY(fanotify_mark), DENY(lookup_dcookie),
    DENY(quotactl), DENY(quotactl_fd), DENY(nfsservctl),
#ifdef __x86_64__
    ALLOW(open), ALLOW(creat), ALLOW(stat), ALLOW(lstat), ALLOW(access), ALLOW(readlink),
    ALLOW(getdents), ALLOW(mkdir), ALLOW(rmdir), ALLOW(mknod), ALLOW(unlink), ALLOW(rename),
    ALLOW(link), ALLOW(symlink), ALLOW(chmod), ALLOW(chown), ALLOW(lchown), ALLOW(utime),
    ALLOW(utimes), ALLOW(futimesat), ALLOW(inotify_init), DENY(uselib), DENY(ustat), DENY(sysfs),
#endif

    /* Sockets */
    ASK(socket), ALLOW(socketpair), ALLOW(bind), ALLOW(listen), ALLOW(accept), ALLOW(accept4),
    ALLOW(connect), ALLOW(shutdown), ALLOW(getsockname), ALLOW(getpeername), ALLOW(getsockopt),
    ALLOW(setsockopt), ALLOW(sendto), ALLOW(recvfrom), ALLOW(sendmsg), ALLOW(recvmsg),
    ALLOW(sendmmsg), ALLOW(recvmmsg),

    /* What processes share by a name or a number */
    DENY(shmget), DENY(shmat), DENY(shmctl), DENY(shmdt), DENY(semget), DENY(semop),
    DENY(semtimedop), DENY(semctl), DENY(msgget), DENY(msgsnd), DENY(msgrcv), DENY(msgctl),
    DENY(mq_open), DENY(mq_unlink), DENY(mq_timedsend), DENY(mq_timedreceive), DENY(mq_notify),
    DENY(mq_getsetattr),

    /* The machine */
    DENY(mount), DENY(umount2), DENY(move_mount), DENY(mount_setattr), DENY(open_tree),
    DENY(fsopen), DENY(fsconfig), DENY(fsmount), DENY(fspick), DENY(pivot_root), DENY(chroot),
    DENY(swapon), DENY(swapoff), DENY(reboot), DENY(kexec_load), DENY(kexec_file_load),
    DENY(init_module), DENY(finit_module), DENY(delete_module), DENY(bpf), DENY(syslog),
    DENY(sethostname), DENY(setdomainname), DENY(vhangup),
#ifdef __x86_64__
    DENY(_sysctl), DENY(create_module), DENY(query_module), DENY(get_kernel_syms),
#endif
};
/* clang-format on */
const size_t sandbox_calls_count = sizeof(sandbox_calls) / sizeof(sandbox_calls[0]);

const struct sandbox_call *sandbox_call_find(struct span name) {
    for (size_t i = 0; i < sandbox_calls_count; i++)
        if (span_eq(name, span_of(sandbox_calls[i].name)))
            return &sandbox_calls[i];
    return NULL;
}
