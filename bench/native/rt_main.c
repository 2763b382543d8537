/* bench_rt: Sluice's coroutine runtime, one case per run of the program. bench/rt_go does the same
 * with Go's, case by case under the same names, and ./dev bench rt lets them take turns.
 *
 *     bench_rt CASE COUNT       prints "ns_wall ns_cpu ops", of this process, user and system;
 *                               parked adds "rss_bytes pte_bytes", the growth while it ran
 *     bench_rt serve N          a server for bench_rt_load, see bench_serve_blocked
 *
 * What one operation is, on both sides:
 *   switch              a yield, of one of two coroutines on one P
 *   spawn               a coroutine started that ends at once; 100 are started, then waited for by a
 *                       waitgroup. One P
 *   chan_same_p         an element there and one back over two unbuffered channels, between two
 *                       coroutines on one P
 *   chan_cross_p        the same with two Ps, left to the scheduler
 *   chan_pinned_p       the same with each side on a thread of its own: go_on 0 and 1, in Go
 *                       runtime.LockOSThread on both
 *   chan_unbuffered     an element from a coroutine that sends to one that receives. One P
 *   chan_buffered       the same through a channel with room for 128
 *   chan_buffered_2p    the same with two Ps
 *   select4             an element received by a select over four unbuffered channels; each has a
 *                       coroutine that sends. One P
 *   mutex               lock, add to a counter, unlock: 8 coroutines on two Ps
 *   mutex_yield         the same with a yield while it is locked
 *   timer               a timer of over an hour armed and one of 1,000 disarmed, 500 of them armed all
 *                       the time. One P
 *   echo64              64 bytes to a server and back, over one of 64 TCP connections on loopback; both
 *                       ends are coroutines of this process. Two Ps
 *   foreign_call        a C function that adds to a counter, called by foreign_call; in Go by cgo
 *   foreign_call_quick  the same by foreign_call_quick; in Go by cgo
 *   callback            the C function calls back into ours, which locks what belongs to the host, adds
 *                       to it and unlocks; in Go an exported function does, with a sync.Mutex
 *   callback_wake       the function called back wakes another coroutine and the caller waits for that
 *                       one's answer
 *   work_1p, work_2p    an element computed (about 0.3 us), sent through a channel with room for 16 and
 *                       computed with again, by 32 pairs of coroutines that also yield every fourth
 *                       time. How the two compare says how a second core is used
 *   parked              a coroutine started that parks for good
 * Coroutines are stealable; NAME_pinned is the same case with pinned ones. Both sides run a sixteenth of
 * COUNT before they measure, except for parked. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/log.h"
#include "rt_bench.h"

static struct {
    const struct bench_case *what;
    uint64_t count;
    unsigned blocked_per_p;
} job;

void bench_check(const char *what, int result) {
    if (result >= 0)
        return;
    fprintf(stderr, "bench_rt: %s: %s\n", what, strerror(-result));
    exit(1);
}

void bench_go(enum rt_place place, unsigned p_index, const char *name, rt_fn fn, void *arg) {
    int err;
    if (place == RT_ANYWHERE)
        err = go(name, fn, arg);
    else if (place == RT_HERE)
        err = go_here(name, fn, arg);
    else
        err = go_on(p_index, name, fn, arg);
    bench_check(name, err);
}

static int64_t cpu_ns(void) {
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage); /* cannot fail with these arguments */
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * NS_PER_US;
}

struct memory {
    long rss_kb, page_tables_kb;
};

static struct memory memory_now(void) {
    struct memory memory = {0};
    char line[128];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status)) {
        (void)sscanf(line, "VmRSS: %ld", &memory.rss_kb);
        (void)sscanf(line, "VmPTE: %ld", &memory.page_tables_kb);
    }
    if (status)
        (void)fclose(status);
    return memory;
}

static void measure(void *arg) {
    bench_fn run = job.what->run;
    if (!job.what->is_cold)
        run(job.count / 16 + 1);
    struct memory memory = memory_now();
    int64_t wall = clock_mono_ns(), cpu = cpu_ns();
    run(job.count);
    wall = clock_mono_ns() - wall;
    cpu = cpu_ns() - cpu;
    printf("%lld %lld %llu", (long long)wall, (long long)cpu, (unsigned long long)job.count);
    if (job.what->is_cold) {
        struct memory after = memory_now();
        printf(" %ld %ld", (after.rss_kb - memory.rss_kb) * 1024,
               (after.page_tables_kb - memory.page_tables_kb) * 1024);
    }
    printf("\n");
    fflush(stdout);
    rt_stop(0);
}

/* rt_run's own coroutine is pinned. */
static void start(void *arg) {
    bench_go(RT_ANYWHERE, 0, "bench", measure, NULL);
}

static void serve(void *arg) {
    bench_serve_blocked(job.blocked_per_p);
}

static const struct bench_case *find(const char *name) {
    const struct bench_case *const tables[] = {bench_sched_cases, bench_chan_cases,
                                               bench_sync_cases, bench_foreign_cases,
                                               bench_net_cases};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (const struct bench_case *each = tables[i]; each->name; each++)
            if (strcmp(each->name, name) == 0)
                return each;
    return NULL;
}

int main(int argc, char **argv) {
    log_set_level(LOG_ERROR); /* warnings about what runs long: here that is the point */
    if (argc != 3)
        goto usage;
    unsigned long long number = strtoull(argv[2], NULL, 10);
    if (strcmp(argv[1], "serve") == 0) {
        job.blocked_per_p = (unsigned)number;
        bench_check("rt_run", rt_run(&(struct rt_options){.p_count = 2}, serve, NULL));
        return 0;
    }
    job.what = find(argv[1]);
    job.count = number;
    if (!job.what || job.count == 0)
        goto usage;
    bench_check("rt_run", rt_run(&(struct rt_options){.p_count = job.what->p_count}, start, NULL));
    return 0;
usage:
    fprintf(stderr, "usage: bench_rt CASE COUNT | bench_rt serve BLOCKED-CALLS-PER-P\n");
    return 2;
}
