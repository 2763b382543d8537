/* sandbox_seccomp: a program in classic BPF that the kernel runs before each system call:
 *
 *     the machine's calling convention? ─ no ─► the process is killed
 *     a binary search by number:  [0 .. 8] allowed │ [9] EPERM │ [10] its arguments decide │ ...
 *
 * One leaf for each run of numbers of the same verdict. Linux keeps a bitmap of calls that are allowed whatever their
 * arguments (since 5.11), so the steady path of a filter does not run the program at all.
 *
 * Arguments are looked at as the kernel does: all of them here are 32 bits wide in the kernel (ids, flags, commands), so
 * only the lower half counts, and garbage in the upper one deceives nobody. What lies in memory cannot be looked at: another thread
 * may change it after the look. */
#include "ext/remote/sandbox_seccomp.h"

#include <asm/termbits.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/ioprio.h>
#include <linux/netlink.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <asm/ioctls.h>
#include <asm/sockios.h>
#include <unistd.h>

#include "ext/remote/sandbox_calls.h"

#if defined(__x86_64__)
enum { OUR_ARCH = (int)AUDIT_ARCH_X86_64 };
enum {
    X32_BIT = 0x40000000
}; /* calls of the x32 convention, which shares the architecture's name */
#elif defined(__aarch64__)
enum { OUR_ARCH = (int)AUDIT_ARCH_AARCH64 };
#else
#error "a profile of system calls must be written for this machine"
#endif

struct program {
    struct sock_filter *insns;
    size_t len;
    uint32_t denied, unknown, foreign; /* what a filter answers */
    bool may_exec;
    uint32_t pid;
};

static void emit(struct program *p, uint16_t code, uint32_t k, uint8_t if_true, uint8_t if_false) {
    ASSERT(p->len < SANDBOX_PROGRAM_MAX);
    p->insns[p->len++] = (struct sock_filter){code, if_true, if_false, k};
}

static void answer(struct program *p, uint32_t action) {
    emit(p, BPF_RET | BPF_K, action, 0, 0);
}

static void load(struct program *p, size_t offset) {
    emit(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

/* The lower half; both machines put it first. */
static void load_argument(struct program *p, unsigned index) {
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the halves of an argument");
    load(p, offsetof(struct seccomp_data, args) + index * sizeof(uint64_t));
}

static void answer_if(struct program *p, uint32_t value, uint32_t action) {
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    answer(p, action);
}

static void answer_unless(struct program *p, uint32_t value, uint32_t action) {
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0);
    answer(p, action);
}

static void deny_if_any(struct program *p, uint32_t bits) {
    emit(p, BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
    answer(p, p->denied);
}

static void deny_unless_any(struct program *p, uint32_t bits) {
    emit(p, BPF_JMP | BPF_JSET | BPF_K, bits, 1, 0);
    answer(p, p->denied);
}

/* ---- calls whose arguments decide ---- */

static void ask_list(struct program *p, unsigned argument, const uint32_t *values, size_t count,
                     uint32_t if_found, uint32_t otherwise) {
    load_argument(p, argument);
    for (size_t i = 0; i < count; i++)
        answer_if(p, values[i], if_found);
    answer(p, otherwise);
}

/* One that takes a process or a thread: itself. Other threads are not told from other processes by their
 * numbers. */
static void ask_own(struct program *p, unsigned argument) {
    const uint32_t own[] = {0, p->pid};
    ask_list(p, argument, own, 2, SECCOMP_RET_ALLOW, p->denied);
}

/* A child's signals are its own business, but only Landlock tells its number from the proxy's. */
static void ask_signal(struct program *p) {
    if (p->may_exec)
        answer(p, SECCOMP_RET_ALLOW);
    else
        ask_list(p, 0, &p->pid, 1, SECCOMP_RET_ALLOW, p->denied);
}

/* CLONE_PARENT would make the proxy the parent. */
static void ask_clone(struct program *p) {
    load_argument(p, 0);
    if (!p->may_exec)
        deny_unless_any(p, CLONE_THREAD);
    deny_if_any(p, CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                       CLONE_NEWPID | CLONE_NEWNET | CLONE_PTRACE | CLONE_PARENT);
    answer(p, SECCOMP_RET_ALLOW);
}

/* Go lists network interfaces, and libc finds source addresses, by NETLINK_ROUTE. */
static void ask_socket(struct program *p) {
    load_argument(p, 0);
    answer_if(p, AF_UNIX, SECCOMP_RET_ALLOW);
    answer_if(p, AF_INET, SECCOMP_RET_ALLOW);
    answer_if(p, AF_INET6, SECCOMP_RET_ALLOW);
    answer_unless(p, AF_NETLINK, p->denied);
    load_argument(p, 2);
    answer_if(p, NETLINK_ROUTE, SECCOMP_RET_ALLOW);
    answer(p, p->denied);
}

static void ask_priority(struct program *p, uint32_t which_process) {
    load_argument(p, 0);
    answer_unless(p, which_process, p->denied);
    ask_own(p, 1);
}

/* Typing into a terminal; and signals by way of a descriptor, whose owner may be any process of the user. */
static void ask_ioctl(struct program *p) {
    static const uint32_t bad[] = {TIOCSTI,  TIOCLINUX, TIOCSCTTY, TIOCSETD,
                                   TIOCCONS, FIOSETOWN, SIOCSPGRP};
    ask_list(p, 1, bad, sizeof(bad) / sizeof(bad[0]), p->denied, SECCOMP_RET_ALLOW);
}

static void ask_fcntl(struct program *p) {
    enum { SETOWN_EX = 15 }; /* F_SETOWN_EX: with _GNU_SOURCE from another header */
    static const uint32_t bad[] = {F_SETOWN, SETOWN_EX};
    ask_list(p, 1, bad, sizeof(bad) / sizeof(bad[0]), p->denied, SECCOMP_RET_ALLOW);
}

/* Left out: PR_SET_PDEATHSIG, which ties it to the proxy, PR_SET_MM, PR_SET_PTRACER, PR_SET_SECUREBITS ... */
static void ask_prctl(struct program *p) {
    enum { SET_MDWE = 65, GET_MDWE = 66, GET_AUXV = 0x41555856 }; /* newer than our headers */
    static const uint32_t good[] = {
        PR_SET_NAME,
        PR_GET_NAME,
        PR_SET_VMA,
        PR_GET_DUMPABLE,
        PR_SET_DUMPABLE,
        PR_GET_PDEATHSIG,
        PR_GET_KEEPCAPS,
        PR_GET_SECCOMP,
        PR_SET_SECCOMP,
        PR_CAPBSET_READ,
        PR_CAP_AMBIENT,
        PR_GET_TSC,
        PR_GET_SECUREBITS,
        PR_SET_TIMERSLACK,
        PR_GET_TIMERSLACK,
        PR_MCE_KILL_GET,
        PR_SET_NO_NEW_PRIVS,
        PR_GET_NO_NEW_PRIVS,
        PR_GET_CHILD_SUBREAPER,
        PR_GET_TID_ADDRESS,
        PR_SET_THP_DISABLE,
        PR_GET_THP_DISABLE,
        PR_SVE_SET_VL,
        PR_SVE_GET_VL,
        PR_PAC_RESET_KEYS,
        PR_SET_TAGGED_ADDR_CTRL,
        PR_GET_TAGGED_ADDR_CTRL,
        PR_GET_SPECULATION_CTRL,
        SET_MDWE,
        GET_MDWE,
        GET_AUXV,
    };
    ask_list(p, 0, good, sizeof(good) / sizeof(good[0]), SECCOMP_RET_ALLOW, p->denied);
}

static void ask(struct program *p, int number) {
    static const uint32_t personas[] = {0xffffffff, 0}; /* which one is it; the usual one */
    switch (number) {
    case SYS_clone:
        ask_clone(p);
        break;
    case SYS_kill:
    case SYS_tgkill:
    case SYS_rt_sigqueueinfo:
    case SYS_rt_tgsigqueueinfo:
        ask_signal(p);
        break;
    case SYS_sched_setaffinity:
    case SYS_sched_setattr:
    case SYS_sched_setparam:
    case SYS_sched_setscheduler:
    case SYS_prlimit64:
        ask_own(p, 0);
        break;
    case SYS_setpriority:
        ask_priority(p, PRIO_PROCESS);
        break;
    case SYS_ioprio_set:
        ask_priority(p, IOPRIO_WHO_PROCESS);
        break;
    case SYS_socket:
        ask_socket(p);
        break;
    case SYS_ioctl:
        ask_ioctl(p);
        break;
    case SYS_fcntl:
        ask_fcntl(p);
        break;
    case SYS_prctl:
        ask_prctl(p);
        break;
    default:
        ASSERT(number == SYS_personality);
        ask_list(p, 0, personas, 2, SECCOMP_RET_ALLOW, p->denied);
    }
}

/* ---- the search ---- */

struct run { /* of numbers up to the next one's first */
    int first;
    enum sandbox_verdict verdict;
};

static size_t make_runs(const uint8_t *verdicts, struct run *runs) {
    size_t count = 0;
    for (int nr = 0; nr < SANDBOX_CALLS_END; nr++)
        if (count == 0 || verdicts[nr] == SANDBOX_CALL_ASKED ||
            verdicts[nr] != (uint8_t)runs[count - 1].verdict)
            runs[count++] = (struct run){nr, (enum sandbox_verdict)verdicts[nr]};
    return count;
}

static void emit_leaf(struct program *p, const struct run *run) {
    if (run->verdict == SANDBOX_CALL_ASKED)
        ask(p, run->first);
    else
        answer(p, run->verdict == SANDBOX_CALL_ALLOWED   ? SECCOMP_RET_ALLOW
                  : run->verdict == SANDBOX_CALL_DENIED  ? p->denied
                  : run->verdict == SANDBOX_CALL_UNKNOWN ? p->unknown
                                                         : SECCOMP_RET_ERRNO | ENOSYS);
}

/* The accumulator holds the number. A conditional jump reaches 255 instructions, so the far one is by BPF_JA. */
static void emit_search(struct program *p, const struct run *runs, size_t count) {
    if (count == 1) {
        emit_leaf(p, runs);
        return;
    }
    size_t half = count / 2;
    emit(p, BPF_JMP | BPF_JGE | BPF_K, (uint32_t)runs[half].first, 0, 1);
    size_t jump = p->len;
    emit(p, BPF_JMP | BPF_JA, 0, 0, 0);
    emit_search(p, runs, half);
    p->insns[jump].k = (uint32_t)(p->len - jump - 1);
    emit_search(p, runs + half, count - half);
}

/* False: said has the name that is none. */
static bool judge(const struct sandbox_options *options, uint8_t *verdicts, char *said) {
    memset(verdicts, SANDBOX_CALL_UNKNOWN, SANDBOX_CALLS_END);
    for (size_t i = 0; i < sandbox_calls_count; i++) {
        const struct sandbox_call *call = &sandbox_calls[i];
        enum sandbox_verdict verdict = call->verdict;
        if (verdict == SANDBOX_CALL_EXEC)
            verdict = options->allow_exec ? SANDBOX_CALL_ALLOWED : SANDBOX_CALL_DENIED;
        ASSERT(call->number < SANDBOX_CALLS_END);
        verdicts[call->number] = (uint8_t)verdict;
    }
    for (size_t i = 0; i < options->allowed_calls.count; i++) {
        struct span name = options->allowed_calls.items[i];
        const struct sandbox_call *call = sandbox_call_find(name);
        if (!call || call->verdict == SANDBOX_CALL_ABSENT) {
            (void)snprintf(said, SANDBOX_SAID_MAX, "allow_syscalls: '%.*s' %s", (int)name.len,
                           name.ptr,
                           call ? "cannot be allowed: what it does is not seen from outside"
                                : "is no system call of this machine");
            return false;
        }
        verdicts[call->number] = SANDBOX_CALL_ALLOWED;
    }
    return true;
}

size_t sandbox_program(const struct sandbox_options *options,
                       struct sock_filter program[SANDBOX_PROGRAM_MAX],
                       char said[SANDBOX_SAID_MAX]) {
    uint8_t verdicts[SANDBOX_CALLS_END];
    struct run runs[SANDBOX_CALLS_END];
    if (!judge(options, verdicts, said))
        return 0;
    bool logs = options->seccomp == SANDBOX_AUDIT;
    struct program p = {
        .insns = program,
        .denied = logs ? SECCOMP_RET_LOG : SECCOMP_RET_ERRNO | EPERM,
        .unknown = logs ? SECCOMP_RET_LOG : SECCOMP_RET_ERRNO | ENOSYS,
        .foreign = logs ? SECCOMP_RET_LOG : SECCOMP_RET_KILL_PROCESS,
        .may_exec = options->allow_exec,
        .pid = (uint32_t)getpid(),
    };
    load(&p, offsetof(struct seccomp_data, arch));
    answer_unless(&p, (uint32_t)OUR_ARCH, p.foreign);
    load(&p, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
    emit(&p, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
    answer(&p, p.foreign);
#endif
    emit_search(&p, runs, make_runs(verdicts, runs));
    return p.len;
}

int sandbox_filter_calls(const struct sandbox_options *options, char said[SANDBOX_SAID_MAX]) {
    struct sock_filter insns[SANDBOX_PROGRAM_MAX];
    struct sock_fprog program = {.filter = insns};
    const uint32_t action = SECCOMP_RET_LOG;
    program.len = (unsigned short)sandbox_program(options, insns, said);
    if (!program.len)
        return -EINVAL;
    long err = 0;
    if (options->seccomp == SANDBOX_AUDIT)
        err = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action);
    if (err == 0)
        err = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    if (err == 0)
        return 0;
    int code = err > 0 ? -EBUSY : -errno; /* a thread that cannot be given the filter */
    (void)snprintf(said, SANDBOX_SAID_MAX,
                   "the kernel takes no filter of system calls (%s): it must have "
                   "CONFIG_SECCOMP_FILTER; seccomp: NONE does without",
                   strerror(-code));
    return code;
}
