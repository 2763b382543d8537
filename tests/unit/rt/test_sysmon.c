/* sysmon.c and stall.c: when sysmon looks, and what it says of coroutines that hold up a P. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "rt/foreign.h"
#include "rt/sysmon.h"
#include "rt_story.h"

/* Of all Ps. */
static struct rt_p_stats totals(void) {
    struct rt_p_stats sum = {0};
    for (unsigned i = 0; i < rt_p_count(); i++) {
        struct rt_p_stats stats;
        rt_p_stats(i, &stats);
        sum.long_runs += stats.long_runs;
        sum.slow_quicks += stats.slow_quicks;
        sum.retakes += stats.retakes;
    }
    return sum;
}

static uint32_t sysmon_level(void) {
    return atomic_load(&sysmon_state) & SYSMON_LEVELS;
}

/* ---- Sleep ---- */

static struct g *sleeper;
static _Atomic bool asleep_seen;

static void await_level(bool asleep) {
    for (int64_t until = story_soon(); (sysmon_level() == SYSMON_ASLEEP) != asleep;) {
        CHECK(clock_mono_ns() < until);
        sched_yield();
    }
}

static void *watches_sleep(void *arg) {
    await_level(true);
    atomic_store(&asleep_seen, true);
    rt_ready(sleeper); /* a P awakes, and with it sysmon */
    await_level(false);
    await_level(true); /* nothing else happens, so it sleeps again */
    rt_stop(0);
    return NULL;
}

static void nothing(void *arg) {}

static void sleep_story(void *arg) {
    foreign_call(nothing, NULL);
    foreign_call_quick("test", nothing, NULL);
    sleeper = rt_self();
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, watches_sleep, NULL) == 0);
    pthread_detach(thread);
    while (!atomic_load(&asleep_seen))
        CHECK(rt_park("until sysmon sleeps", RT_FOREVER) == 0);
    for (;;)
        CHECK(rt_park("for ever", RT_FOREVER) == 0);
}

static void sysmon_sleeps_while_all_ps_do_and_awakes_with_one(void **state) {
    story(1, sleep_story);
    story(2, sleep_story);
}

/* ---- Pace ---- */

static void it_looks_closely_for_a_while_after_a_call_that_blocked(void **state) {
    struct sysmon_pace pace = {0};
    int64_t now_ns = 5 * NS_PER_S;
    int64_t calm_ns = sysmon_pace_next(&pace, now_ns, false, false);
    assert_true(calm_ns >= 4 * NS_PER_MS);

    int64_t fine_ns = sysmon_pace_next(&pace, now_ns, false, true); /* has it become long? */
    assert_true(fine_ns <= NS_PER_MS);
    assert_int_equal(sysmon_pace_next(&pace, now_ns, false, false), calm_ns);

    int64_t burst_ns = sysmon_pace_next(&pace, now_ns, true, true);
    assert_true(burst_ns < fine_ns);
    int ticks = 1;
    while (sysmon_pace_next(&pace, now_ns, false, false) == burst_ns)
        ticks++;
    assert_int_equal(ticks, 5);

    assert_int_equal(sysmon_pace_next(&pace, now_ns + 10 * NS_PER_S - 1, false, false), fine_ns);
    assert_int_equal(sysmon_pace_next(&pace, now_ns + 10 * NS_PER_S, false, false), calm_ns);
}

static struct m *caller;
static sem_t seen_asleep;

static void *sees_it_asleep(void *arg) {
    for (int64_t until = story_soon(); !stall_is_blocked(caller, stall_cpu_ns(caller));)
        CHECK(clock_mono_ns() < until);
    sem_post(&seen_asleep);
    return NULL;
}

static void runs_computes_and_sleeps(void *arg) {
    caller = m_self();
    int64_t begin_ns = stall_cpu_ns(caller);
    CHECK(!stall_is_blocked(caller, stall_cpu_ns(caller))); /* no time of its own has passed */
    while (stall_cpu_ns(caller) < begin_ns + NS_PER_MS) {
    }
    CHECK(stall_is_blocked(caller, begin_ns));
    pthread_t thread;
    sem_init(&seen_asleep, 0, 0);
    CHECK(pthread_create(&thread, NULL, sees_it_asleep, NULL) == 0);
    while (sem_wait(&seen_asleep) < 0) {
    }
    pthread_join(thread, NULL);
}

static void blocked_call_story(void *arg) {
    foreign_call(runs_computes_and_sleeps, NULL);
    rt_stop(0);
}

static void a_call_that_sleeps_or_computes_is_blocked(void **state) {
    story(1, blocked_call_story);
}

/* ---- Without membarrier ---- */

/* False where there are no filters: an emulator. */
static bool forbid_membarrier(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

static void outlasts_sysmon(void *arg) {
    for (int64_t until = story_soon(); totals().retakes == 0;)
        CHECK(clock_mono_ns() < until);
}

static void without_story(void *arg) {
    CHECK(atomic_load(&sysmon_state) & SYSMON_STRONG);
    foreign_call(outlasts_sysmon, NULL);
    sleep_story(NULL);
}

static void without_membarrier_it_is_the_same(void **state) {
    story_skip_if_emulated("it has no seccomp");
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (!forbid_membarrier())
            _exit(77);
        struct rt_options options = {.p_count = 2};
        exit(rt_run(&options, without_story, NULL));
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
}

/* ---- Long runs ---- */

static NOINLINE void spins_until(const _Atomic bool *seen) {
    while (!atomic_load_explicit(seen, memory_order_relaxed)) {
    }
}

/* Tells a coroutine that makes no calls when its run was counted. */
struct watch {
    _Atomic bool seen;
    uint64_t before;
};

static void *watches_count(void *arg) {
    struct watch *watch = arg;
    for (int64_t until = story_soon(); totals().long_runs == watch->before;) {
        CHECK(clock_mono_ns() < until);
        struct timespec pause = {.tv_nsec = 100 * NS_PER_US};
        nanosleep(&pause, NULL);
    }
    atomic_store(&watch->seen, true);
    return NULL;
}

static NOINLINE void one_long_run(void) {
    static struct watch watch;
    rt_yield(); /* a run of its own: the one so far may have been long, and counted */
    watch.before = totals().long_runs;
    atomic_store(&watch.seen, false);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, watches_count, &watch) == 0);
    spins_until(&watch.seen);
    pthread_join(thread, NULL);
    CHECK(totals().long_runs == watch.before + 1);
    CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
}

static char log_path[] = "/tmp/sluice-test-sysmon-XXXXXX";

/* How often the log has the words. */
static unsigned logged(const char *words) {
    FILE *file = fopen(log_path, "r");
    CHECK(file);
    unsigned count = 0;
    static char line[LOG_LINE_MAX];
    while (fgets(line, sizeof line, file))
        count += strstr(line, words) != NULL;
    fclose(file);
    return count;
}

static void open_log(void) {
    int fd = mkstemp(log_path);
    CHECK(fd >= 0);
    close(fd);
    CHECK(log_open_file(log_path) == 0);
}

static void spinning_story(void *arg) {
    open_log();
    for (int i = 0; i < 3; i++)
        one_long_run(); /* at one site: a count for each, a line for the first */
    CHECK(totals().long_runs == 3);
#ifndef RT_HAS_TSAN /* it holds signals back while the code makes no calls */
    CHECK(logged("coroutine main ran for more than ") == 1);
    CHECK(logged("without a runtime call, at: test_rt_sysmon+0x") == 1);
#endif
    CHECK(unlink(log_path) == 0);
    rt_stop(0);
}

static void a_coroutine_that_computes_for_long_is_counted(void **state) {
    story(1, spinning_story);
    story(2, spinning_story);
}

/* A thread that gets no processor does not answer when it is asked for its stack: then the run is counted
 * without a line, and the next one of the site is asked again. A file that comes slowly is another site. */
static void blocked_story(void *arg) {
    static const char line[] = "coroutine main was blocked in the kernel for more than ";
    open_log();
    struct timespec nap = {.tv_nsec = 10 * NS_PER_MS}; /* what is being tested, until it is seen */
    for (int64_t until = story_soon(); logged(line) == 0;) {
        CHECK(clock_mono_ns() < until);
        nap.tv_nsec *= nap.tv_nsec < NS_PER_S / 4 ? 2 : 1;
        nanosleep(&nap, NULL); /* the question what it does may end it early */
        rt_yield();
    }
    CHECK(totals().long_runs >= 1);
    CHECK(unlink(log_path) == 0);
    rt_stop(0);
}

static void a_coroutine_blocked_in_a_system_call_is_counted(void **state) {
    story(1, blocked_story);
}

/* Half a second's worth of runs of a millisecond of CPU each. */
static void short_runs(void *arg) {
    for (int i = 0; i < 500; i++) {
        struct timespec ts;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
        int64_t until_ns = ts.tv_sec * NS_PER_S + ts.tv_nsec + NS_PER_MS;
        do {
            clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
        } while (ts.tv_sec * NS_PER_S + ts.tv_nsec < until_ns);
        rt_yield();
    }
}

static void short_story(void *arg) {
    short_runs(NULL);
    CHECK(totals().long_runs == 0);
    rt_stop(0);
}

static void short_runs_are_not_counted(void **state) {
    story(1, short_story);
}

/* ---- Debuggers ---- */

static int to_parent[2], from_parent[2];

static void says(int fd) {
    CHECK(write(fd, "x", 1) == 1);
}

static void hears(int fd) {
    char byte;
    CHECK(read(fd, &byte, 1) == 1);
}

/* Naps of a millisecond each, in the kernel: whoever stops the process meets one. */
static void naps_story(void *arg) {
    says(to_parent[1]);
    CHECK(fcntl(from_parent[0], F_SETFL, O_NONBLOCK) == 0);
    char byte;
    while (read(from_parent[0], &byte, 1) < 0) {
        struct timespec nap = {.tv_nsec = NS_PER_MS};
        nanosleep(&nap, NULL);
        rt_yield();
    }
    CHECK(totals().long_runs == 0);
    rt_stop(0);
}

static pid_t start_with_pipes(rt_fn body) {
    fflush(NULL);
    assert_int_equal(pipe(to_parent), 0);
    assert_int_equal(pipe(from_parent), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct rt_options options = {.p_count = 1};
        _exit(rt_run(&options, body, NULL)); /* LeakSanitizer cannot look at a traced process */
    }
    return pid;
}

static void a_stopped_process_has_no_long_runs(void **state) {
    pid_t pid = start_with_pipes(naps_story);
    hears(to_parent[0]);
    int status;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(kill(pid, SIGSTOP), 0);
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        assert_true(WIFSTOPPED(status));
        struct timespec stopped = {.tv_nsec = 60 * NS_PER_MS}; /* what is being tested */
        nanosleep(&stopped, NULL);
        assert_int_equal(kill(pid, SIGCONT), 0);
        nanosleep(&stopped, NULL);
    }
    says(from_parent[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* For 100 ms of CPU: many times what is needed to be seen. */
static void spins_while_traced(void *arg) {
    says(to_parent[1]);
    hears(from_parent[0]);
    struct timespec ts;
    do {
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    } while (ts.tv_sec * NS_PER_S + ts.tv_nsec < 100 * NS_PER_MS);
    CHECK(totals().long_runs == 0);
    rt_stop(0);
}

static void a_traced_process_has_no_long_runs(void **state) {
    pid_t pid = start_with_pipes(spins_while_traced);
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0) { /* where nobody may trace */
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        skip();
    }
    hears(to_parent[0]);
    says(from_parent[1]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* ---- Quick calls ---- */

static void breaks_its_promise(void *arg) {
    uint64_t before = totals().slow_quicks;
    bool sleeps = arg != NULL;
    for (int64_t until = story_soon(); totals().slow_quicks == before;) {
        CHECK(clock_mono_ns() < until);
        struct timespec pause = {.tv_nsec = 20 * NS_PER_MS};
        if (sleeps)
            nanosleep(&pause, NULL);
    }
}

static void slow_quick_story(void *arg) {
    foreign_call_quick("spins", breaks_its_promise, NULL);
    CHECK(totals().slow_quicks == 1);
    foreign_call_quick("sleeps", breaks_its_promise, rt_self());
    CHECK(totals().slow_quicks == 2);
#ifndef RT_HAS_TSAN /* where it does not always keep it: its switches take locks and map memory */
    /* What the machine, or one below it, takes from a thread in a call is charged to that. It does not do so always. */
    uint64_t before;
    int attempts = 0;
    do {
        CHECK(attempts++ < 5);
        before = totals().slow_quicks;
        for (int i = 0; i < 1000 * 1000; i++) /* across some ticks */
            foreign_call_quick("keeps it", nothing, NULL);
    } while (totals().slow_quicks != before);
#endif
    rt_stop(0);
}

static void a_slow_quick_call_is_counted_once(void **state) {
    story(1, slow_quick_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sysmon_sleeps_while_all_ps_do_and_awakes_with_one),
        cmocka_unit_test(it_looks_closely_for_a_while_after_a_call_that_blocked),
        cmocka_unit_test(a_call_that_sleeps_or_computes_is_blocked),
        cmocka_unit_test(without_membarrier_it_is_the_same),
        cmocka_unit_test(a_coroutine_that_computes_for_long_is_counted),
        cmocka_unit_test(a_coroutine_blocked_in_a_system_call_is_counted),
        cmocka_unit_test(short_runs_are_not_counted),
        cmocka_unit_test(a_stopped_process_has_no_long_runs),
        cmocka_unit_test(a_traced_process_has_no_long_runs),
        cmocka_unit_test(a_slow_quick_call_is_counted_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
