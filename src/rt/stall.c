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
 * LONG_RUN_NS and two coarse ticks of CPU time is not. Each run is counted once.
 *
 * A broken quick call is the same call at looks QUICK_CALL_NS apart (foreign.c, F5), between which its
 * thread ran all that time, or is asleep now. One such pair is no proof: what the kernel does for others
 * while a thread is about to run counts as that thread's time, and took 20 us on a busy virtual machine.
 * So QUICK_LOOKS pairs in a row are.
 *
 * Nothing is reported while the process is traced: a debugger stops threads one by one, at will. A
 * process that was stopped as a whole is sysmon's to notice (stall_forget).
 *
 * Threads  sysmon only. A struct m is never freed, and its cpu_clock and tid are set before it first
 *          owns a P, which the load of P.owner acquires; a thread that has ended has no clock. */
#include "rt/sysmon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "rt/foreign.h"

enum {
    SITES_MAX = 64, /* a program with more is not helped by more lines */
    QUICK_LOOKS = 2,
};
static const int64_t long_run_ns = 10 * NS_PER_MS; /* Go's time slice */

/* What does not change while one coroutine runs. */
struct run_id {
    uintptr_t owner;
    uint64_t switches, foreign_calls, polls;
};

struct run {
    struct run_id id;
    int64_t since_ns; /* first seen */
    int64_t cpu_ns;   /* the M's CPU clock then, or a tick later; -1: not yet asked */
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

/* Of the thread of m so far, -1 when it has ended. */
static int64_t cpu_ns(struct m *m) {
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

static bool is_traced(void) {
    char text[1024];
    read_start("/proc/self/status", text, sizeof text);
    const char *tracer = strstr(text, "TracerPid:");
    return tracer && atoi(tracer + strlen("TracerPid:")) != 0;
}

/* ---- Long runs ---- */

static void report_run(struct p *p, struct run *run) {
    run->reported = true;
    if (!is_traced())
        counter_add(&p->long_runs, 1);
}

bool stall_look(struct p *p, int64_t now_ns, bool fine) {
    struct run *run = &runs[p->index];
    struct m *m = owner_of(p);
    bool runs_one = m && !atomic_load_explicit(&p->sleeping, memory_order_relaxed);
    struct run_id id = {
        .owner = (uintptr_t)m,
        .switches = atomic_load_explicit(&p->switches, memory_order_relaxed),
        .foreign_calls = atomic_load_explicit(&p->foreign_calls, memory_order_relaxed),
        .polls = atomic_load_explicit(&p->polls, memory_order_relaxed),
    };
    if (!runs_one || memcmp(&id, &run->id, sizeof id) != 0) {
        /* A clock per P and millisecond would cost; the next look is soon enough to ask then. */
        int64_t cpu = runs_one && !fine ? cpu_ns(m) : -1;
        *run = (struct run){.id = id, .since_ns = now_ns, .cpu_ns = cpu, .last_cpu_ns = cpu};
        return false;
    }
    if (run->reported)
        return false;
    int64_t cpu = cpu_ns(m);
    if (run->cpu_ns < 0)
        run->cpu_ns = cpu;
    bool stands = cpu == run->last_cpu_ns;
    run->last_cpu_ns = cpu;
    if (cpu < 0 || now_ns - run->since_ns < long_run_ns)
        return false;
    run->asleep_looks = stands && is_asleep(m) ? run->asleep_looks + 1 : 0;
    if (cpu - run->cpu_ns < long_run_ns && run->asleep_looks < 2)
        return true;
    report_run(p, run);
    return false;
}

void stall_forget(void) {
    memset(runs, 0, sizeof runs);
}

/* ---- Quick calls ---- */

static void report_quick(struct p *p, const char *site) {
    if (is_traced())
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
    quick->cpu_ns = cpu_ns(m);
    quick->m = m;
    return true;
}

/* False when there is no more to see: the call has ended, or its thread was not let run. */
static bool quick_is_still_the_same(struct p *p) {
    struct quick *quick = &quicks[p->index];
    if (!quick->m)
        return false;
    int64_t cpu = cpu_ns(quick->m);
    bool broken = cpu - quick->cpu_ns >= QUICK_CALL_NS || is_asleep(quick->m);
    quick->cpu_ns = cpu;
    if (broken && atomic_load_explicit(&p->quick_site, memory_order_acquire) &&
        atomic_load_explicit(&p->quick_calls, memory_order_relaxed) == quick->number)
        return true;
    quick->m = NULL;
    return false;
}

void stall_look_at_quick_calls(void) {
    bool any = false;
    for (unsigned i = 0; i < rt_sched.p_count; i++)
        any |= quick_first_look(rt_sched.ps[i]);
    for (unsigned look = 0; any && look < QUICK_LOOKS; look++) {
        struct timespec promise = {.tv_nsec = QUICK_CALL_NS};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &promise, NULL);
        any = false;
        for (unsigned i = 0; i < rt_sched.p_count; i++)
            any |= quick_is_still_the_same(rt_sched.ps[i]);
    }
    for (unsigned i = 0; any && i < rt_sched.p_count; i++) {
        if (quicks[i].m) {
            quicks[i].reported = quicks[i].number;
            report_quick(rt_sched.ps[i], quicks[i].site);
        }
    }
}
