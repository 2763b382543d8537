/* stall: finds coroutines that hold up their P, for sysmon.
 *
 * A long run is one coroutine (or scheduler callback) on a P for LONG_RUN_NS without a return to the
 * scheduler, a foreign call or a poll: none of the P's counters moves. Time on the wall proves nothing,
 * since the kernel may have run somebody else, so one of two things must be seen as well:
 *   computes  the M's own CPU clock went on by LONG_RUN_NS since the run was first seen;
 *   sleeps    two looks in a row find the M's thread asleep in the kernel (S or D in its stat file)
 *             and its CPU clock where it was: a system call that blocks, or a page that comes slowly.
 * A thread that is runnable but does not run is neither, however long it takes.
 *
 * The run is first seen at a tick, so one of a little more than LONG_RUN_NS may be missed and one of
 * LONG_RUN_NS and two coarse ticks of CPU time is not. Each run is counted once, and each site logged
 * once, with its stack: a signal makes the thread look (backtrace.h), so a system call that is not
 * restarted after signals may return EINTR, as with Go's preemption.
 *
 * A broken quick call is the same call at looks some time apart (foreign.c, F5), between which its thread
 * ran all that time, or is asleep at the end. QUICK_CALL_NS apart is no proof: what the kernel does for
 * others while a thread is about to run counts as that thread's time, and took 20 us more than once on a
 * busy virtual machine. So that look only sorts out the many, and QUICK_PROOF_NS more are the proof.
 *
 * Nothing is reported while the process is traced: a debugger stops threads one by one, at will. A
 * process that was stopped as a whole is sysmon's to notice (stall_forget).
 *
 * Threads  sysmon only. A struct m is never freed, and its cpu_clock and tid are set before it first
 *          owns a P, which the load of P.owner acquires; a thread that has ended has no clock. */
#include "rt/sysmon.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <unwind.h>

#include "base/clock.h"
#include "base/process.h"
#include "rt/foreign.h"
#include "rt/symbol.h"

enum {
    SITES_MAX = 64, /* a program with more is not helped by more lines */
    QUICK_PROOF_NS = 5 * QUICK_CALL_NS,
};
static const int64_t long_run_ns = 10 * NS_PER_MS; /* Go's time slice */
static const int64_t computes_ns = NS_PER_MS / 4;  /* between two close looks */
static const int64_t backtrace_patience_ns = 20 * NS_PER_MS;

/* What does not change while one coroutine runs. */
struct run_id {
    uintptr_t owner;
    uint64_t switches, foreign_calls, polls;
};

struct run {
    struct run_id id;
    int64_t since_ns;     /* first seen */
    uint64_t quick_calls; /* then */
    int64_t cpu_ns;       /* the M's CPU clock then, or a tick later; -1: not yet asked */
    int64_t last_cpu_ns;
    unsigned asleep_looks;
    bool reported;
};
static struct run runs[RT_P_MAX];

struct quick {
    struct m *m; /* NULL: none in flight */
    const char *site;
    uint64_t number;
    int64_t cpu_ns;
    uint64_t reported; /* the number of the last broken one */
};
static struct quick quicks[RT_P_MAX];

static struct m *owner_of(struct p *p) {
    uintptr_t owner = atomic_load_explicit(&p->owner, memory_order_acquire);
    return owner & P_OWNER_FOREIGN ? NULL : (struct m *)owner;
}

/* ---- What a thread does ---- */

int64_t stall_cpu_ns(struct m *m) {
    struct timespec ts;
    if (clock_gettime(m->cpu_clock, &ts) < 0)
        return -1;
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* The file's first bytes as a string; empty when it cannot be read. */
static void read_start(const char *path, char *out, size_t size) {
    out[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = read(fd, out, size - 1);
    out[n > 0 ? n : 0] = '\0';
    (void)close(fd);
}

/* Waits in the kernel for something other than a processor. Without /proc nobody ever does. */
static bool is_asleep(struct m *m) {
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat",
             (int)atomic_load_explicit(&m->tid, memory_order_relaxed));
    read_start(path, text, sizeof text);
    const char *name_end = strrchr(text, ')'); /* "17 (name) S ..." */
    return name_end && (name_end[2] == 'S' || name_end[2] == 'D');
}

bool stall_is_blocked(struct m *m, int64_t cpu_ns) {
    return stall_cpu_ns(m) - cpu_ns >= computes_ns || is_asleep(m);
}

/* ---- Long runs ---- */

static const void *module_of(uintptr_t pc) {
    Dl_info info;
    return pc && dladdr((const void *)pc, &info) ? info.dli_fbase : NULL;
}

/* What names the place: in our own code the function, elsewhere also the coroutine and the second
 * frame, since code without frame pointers hides who called it. */
static uint64_t site_of(const struct backtrace *bt) {
    void *at = (void *)bt->pcs[0]; /* NOLINT(performance-no-int-to-ptr) */
    uint64_t function = (uintptr_t)_Unwind_FindEnclosingFunction(at);
    if (module_of(bt->pcs[0]) == module_of((uintptr_t)stall_look))
        return function ? function : bt->pcs[0];
    uint64_t caller = bt->count > 1 ? bt->pcs[1] : 0;
    return function * 31 + caller * 17 + (uintptr_t)bt->name;
}

/* True for a site that has no line yet and gets one. */
static bool is_new_site(uint64_t site) {
    static uint64_t sites[SITES_MAX];
    static unsigned count;
    for (unsigned i = 0; i < count; i++)
        if (sites[i] == site)
            return false;
    if (count == SITES_MAX)
        return false;
    sites[count++] = site;
    if (count == SITES_MAX)
        LOG(log_rt, LOG_WARN, "further sites of long runs are only counted");
    return true;
}

/* " program+0x1234 libc.so.6+0x56": what addr2line -e takes. */
static void print_stack(const struct backtrace *bt, char *out, size_t size) {
    size_t len = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < bt->count; i++) {
        uintptr_t pc = bt->pcs[i] - (i > 0); /* the call, not what follows it */
        Dl_info info;
        const char *file = "";
        if (dladdr((const void *)pc, &info) && info.dli_fname) {
            file = symbol_file_name(info.dli_fbase, info.dli_fname);
            pc -= (uintptr_t)info.dli_fbase;
        }
        int n = snprintf(out + len, size - len, " %s+%#lx", file, (unsigned long)pc);
        if (n < 0 || (size_t)n >= size - len)
            return; /* the innermost frames are what matters */
        len += (size_t)n;
    }
}

static void log_run(struct p *p, const struct run *run, struct m *m, int64_t now_ns) {
    bool asleep = run->asleep_looks > 0;
    const char *site = atomic_load_explicit(&p->quick_site, memory_order_relaxed);
    bool quick =
        site || run->quick_calls != atomic_load_explicit(&p->quick_calls, memory_order_relaxed);
    struct backtrace bt;
    if (backtrace_running(m, &bt, backtrace_patience_ns) < 0 || bt.count == 0)
        return;
    /* If it has ended just now the stack may be somebody else's. One that was asleep has ended because
     * we asked. */
    if (!asleep && atomic_load_explicit(&p->switches, memory_order_relaxed) != run->id.switches)
        return;
    if (!is_new_site(site_of(&bt)))
        return;
    char stack[1024];
    print_stack(&bt, stack, sizeof stack);
    const char *kind = bt.name  ? "coroutine "
                       : !quick ? "a scheduler callback"
                       : !site  ? "a coroutine in quick calls"
                                : "a coroutine in quick calls at ";
    const char *name = bt.name ? bt.name : site ? site : "";
    struct labels *labels = labels_merge(NULL, bt.described, bt.described_count);
    char text[LABELS_TEXT_MAX];
    bool is_described = labels_text(labels, text, sizeof text) > 0;
    labels_unref(labels);
    LOG(log_rt, LOG_WARN, "%s%s%s%s %s for more than %lld ms without a runtime call, at:%s", kind,
        name, is_described ? " " : "", text, asleep ? "was blocked in the kernel" : "ran",
        (long long)((now_ns - run->since_ns) / NS_PER_MS), stack);
}

static void report_run(struct p *p, struct run *run, struct m *m, int64_t now_ns) {
    run->reported = true;
    if (process_is_traced(getpid()))
        return;
    log_run(p, run, m, now_ns);
    counter_add(&p->long_runs, 1);
}

bool stall_look(struct p *p, int64_t now_ns, bool fine) {
    struct run *run = &runs[p->index];
    struct m *m = owner_of(p);
    bool runs_one = m && !atomic_load_explicit(&p->idle.sleeping, memory_order_relaxed);
    struct run_id id = {
        .owner = (uintptr_t)m,
        .switches = atomic_load_explicit(&p->switches, memory_order_relaxed),
        .foreign_calls = atomic_load_explicit(&p->foreign_calls, memory_order_relaxed),
        .polls = atomic_load_explicit(&p->io.of[IO_WAIT_CALLS], memory_order_relaxed),
    };
    if (!runs_one || memcmp(&id, &run->id, sizeof id) != 0) {
        /* A clock per P and millisecond would cost; the next look is soon enough to ask then. */
        int64_t cpu = runs_one && !fine ? stall_cpu_ns(m) : -1;
        uint64_t quick_calls = atomic_load_explicit(&p->quick_calls, memory_order_relaxed);
        *run = (struct run){.id = id,
                            .since_ns = now_ns,
                            .quick_calls = quick_calls,
                            .cpu_ns = cpu,
                            .last_cpu_ns = cpu};
        return false;
    }
    if (run->reported)
        return false;
    int64_t cpu = stall_cpu_ns(m);
    if (run->cpu_ns < 0)
        run->cpu_ns = cpu;
    bool stands = cpu == run->last_cpu_ns;
    run->last_cpu_ns = cpu;
    if (cpu < 0 || now_ns - run->since_ns < long_run_ns)
        return false;
    run->asleep_looks = stands && is_asleep(m) ? run->asleep_looks + 1 : 0;
    if (cpu - run->cpu_ns < long_run_ns && run->asleep_looks < 2)
        return !stands || run->asleep_looks > 0;
    report_run(p, run, m, now_ns);
    return false;
}

void stall_forget(int64_t now_ns) {
    for (unsigned i = 0; i < rt_sched.p_count; i++) {
        struct run *run = &runs[i]; /* one that was reported stays so */
        run->since_ns = now_ns;
        run->cpu_ns = run->last_cpu_ns = -1;
        run->asleep_looks = 0;
    }
}

/* ---- Quick calls ---- */

static void report_quick(struct p *p, const char *site) {
    if (process_is_traced(getpid()))
        return;
    counter_add(&p->slow_quicks, 1);
    static const char *logged[SITES_MAX];
    static unsigned count;
    for (unsigned i = 0; i < count; i++)
        if (strcmp(logged[i], site) == 0)
            return;
    if (count == SITES_MAX)
        return;
    logged[count++] = site;
    LOG(log_rt, LOG_WARN, "foreign_call_quick at %s took more than %d us; use foreign_call", site,
        QUICK_CALL_NS / 1000);
    if (count == SITES_MAX)
        LOG(log_rt, LOG_WARN, "further sites of slow quick calls are only counted");
}

static bool quick_first_look(struct p *p) {
    struct quick *quick = &quicks[p->index];
    quick->m = NULL;
    const char *site = atomic_load_explicit(&p->quick_site, memory_order_acquire);
    if (!site)
        return false;
    quick->site = site;
    quick->number = atomic_load_explicit(&p->quick_calls, memory_order_relaxed);
    struct m *m = owner_of(p);
    if (!m || quick->number == quick->reported)
        return false;
    quick->cpu_ns = stall_cpu_ns(m);
    quick->m = m;
    return true;
}

/* False when there is no more to see: the call has ended, or its thread was not let run. */
static bool quick_goes_on(struct p *p, int64_t after_ns) {
    struct quick *quick = &quicks[p->index];
    if (!quick->m)
        return false;
    int64_t cpu = stall_cpu_ns(quick->m);
    bool broken = cpu - quick->cpu_ns >= after_ns || is_asleep(quick->m);
    quick->cpu_ns = cpu;
    if (broken && atomic_load_explicit(&p->quick_site, memory_order_acquire) &&
        atomic_load_explicit(&p->quick_calls, memory_order_relaxed) == quick->number)
        return true;
    quick->m = NULL;
    return false;
}

static bool any_quick_goes_on(int64_t after_ns) {
    struct timespec pause = {.tv_nsec = after_ns};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    bool any = false;
    for (unsigned i = 0; i < rt_sched.p_count; i++)
        any |= quick_goes_on(rt_sched.ps[i], after_ns);
    return any;
}

void stall_look_at_quick_calls(void) {
    bool any = false;
    for (unsigned i = 0; i < rt_sched.p_count; i++)
        any |= quick_first_look(rt_sched.ps[i]);
    if (!any || !any_quick_goes_on(QUICK_CALL_NS) || !any_quick_goes_on(QUICK_PROOF_NS))
        return;
    for (unsigned i = 0; i < rt_sched.p_count; i++) {
        if (quicks[i].m) {
            quicks[i].reported = quicks[i].number;
            report_quick(rt_sched.ps[i], quicks[i].site);
        }
    }
}
