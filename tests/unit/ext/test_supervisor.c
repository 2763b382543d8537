/* supervisor.c with host processes that misbehave in every way. This program is its own host process: it is started again
 * with --ext-host, and does what a request's first text says. A version is a text: what `prepare` says to it. What
 * the supervisor tells its user is a list of events, which a story waits for. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/stats.h"
#include "ext/host/ext_host_inbox.h"
#include "ext/remote/supervisor_output.h"
#include "ext/remote/spare.h"
#include "ext/remote/supervisor.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { RESTARTS = 15 }; /* a process takes 20 times as long to start */
#else
enum { RESTARTS = 100 };
#endif

/* ---- the host process ---- */

static const char dump[] = "SIGSEGV: segmentation violation\n\n"
                           "goroutine 7 [running]:\nmain.spin()\n\t/src/filter.go:12\n\n";

static void tell_where(int signal) {
    (void)!write(STDERR_FILENO, dump, sizeof(dump) - 1); /* this process ends either way */
    _exit(2);
}

static void *sit(void *started) {
    if (started)
        (void)pthread_barrier_wait(started);
    for (;;)
        pause();
    return NULL;
}

/* As a Go runtime: it has a thread, and takes a SIGSEGV as a reason to list its goroutines. */
static void be_like_go(void) {
    pthread_t thread;
    static pthread_barrier_t started; /* it may still be in it when we are gone */
    (void)signal(SIGSEGV, tell_where);
    if (pthread_barrier_init(&started, NULL, 2) != 0 ||
        pthread_create(&thread, NULL, sit, &started) != 0)
        _exit(9);
    (void)pthread_barrier_wait(&started); /* it takes signals from now on */
}

static void answer(void) {
    const struct ext_host_message message = {.kind = EXT_HOST_ANSWER,
                                             .numbers = {(uint64_t)getpid()}};
    size_t size;
    char *bytes = ext_host_encode(&message, &size);
    if (write(EXT_HOST_FD, bytes, size) != (ssize_t)size)
        _exit(9);
    free(bytes);
}

static void obey(struct span what) {
    if (span_eq(what, SPAN_LIT("panic"))) {
        printf("panic: no such host\n\ngoroutine 1 [running]:\nmain.init.0()\n\t/src/a.go:3\n");
        fflush(stdout);
        _exit(2);
    }
    if (span_eq(what, SPAN_LIT("exit")))
        _exit(0);
    if (span_eq(what, SPAN_LIT("hang")))
        (void)sit(NULL);
    if (span_eq(what, SPAN_LIT("babble")) && write(EXT_HOST_FD, dump, sizeof(dump) - 1) < 0)
        _exit(9);
    if (span_eq(what, SPAN_LIT("flood"))) {
        for (int i = 0; i < 4 * SUPERVISOR_OUTPUT_BURST; i++)
            printf("line %d of a process that has lost its mind\n", i);
        fflush(stdout);
    }
    answer();
}

static int fake_host(void) {
    struct ext_host_inbox inbox = {0};
    struct ext_host_message request;
    be_like_go();
    while (ext_host_inbox_next(&inbox, &request))
        obey(request.texts[0]);
    ext_host_inbox_fini(&inbox);
    return 0;
}

/* ---- faults ---- */

static _Atomic int spawns_to_fail;

int __wrap_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *files,
                       const posix_spawnattr_t *attributes, char *const arguments[],
                       char *const environment[]);
int __real_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *files,
                       const posix_spawnattr_t *attributes, char *const arguments[],
                       char *const environment[]);
int __wrap_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *files,
                       const posix_spawnattr_t *attributes, char *const arguments[],
                       char *const environment[]) {
    if (spawns_to_fail > 0) {
        spawns_to_fail--;
        return EAGAIN;
    }
    return __real_posix_spawn(pid, path, files, attributes, arguments, environment);
}

/* ---- the user ---- */

enum { LONG_S = 120, EVENTS_MAX = 1024 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char *events[EVENTS_MAX];
    size_t count, seen; /* seen: by the story */
    int64_t call_ns;    /* what prepare allows */
    bool meets; /* generation 2 is prepared for as long as 3 needs to be up, and 3 waits for that */
    bool is_prepared, is_up;
} user = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void note(const char *format, ...) PRINTF_LIKE(1, 2);
static void note(const char *format, ...) {
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&user.lock);
    assert_true(user.count < EVENTS_MAX);
    assert_true(vasprintf(&user.events[user.count++], format, args) >= 0);
    pthread_cond_broadcast(&user.changed);
    pthread_mutex_unlock(&user.lock);
    va_end(args);
}

static void show_events(void) {
    for (size_t i = 0; i < user.count; i++)
        fprintf(stderr, "event: %s\n", user.events[i]);
}

/* The next event must be this one; text that ends in "..." is the beginning of one. After another there is no
 * going on: processes and threads are about. */
static void expect(const char *wanted) {
    struct timespec at;
    (void)clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += LONG_S;
    size_t len = strlen(wanted);
    bool is_start = len > 3 && strcmp(wanted + len - 3, "...") == 0;
    pthread_mutex_lock(&user.lock);
    while (user.seen == user.count)
        if (pthread_cond_timedwait(&user.changed, &user.lock, &at) != 0)
            break;
    const char *event = user.seen < user.count ? user.events[user.seen++] : "nothing";
    if (is_start ? strncmp(event, wanted, len - 3) != 0 : strcmp(event, wanted) != 0) {
        fprintf(stderr, "wanted: %s\ncame: %s\n", wanted, event);
        show_events();
        _exit(1);
    }
    pthread_mutex_unlock(&user.lock);
}

/* Of threads that do not know each other; all have come. */
static void expect_in_any_order(const char *const *wanted) {
    size_t first = user.seen;
    for (; *wanted; wanted++, user.seen++) {
        size_t i = first;
        while (i < user.count && strcmp(user.events[i], *wanted) != 0)
            i++;
        if (i == user.count)
            show_events();
        assert_true(i < user.count);
    }
}

static int say(struct ext_host *host, const char *what, struct ext_host_message *reply) {
    const struct ext_host_message request = {.kind = EXT_HOST_GO_LOAD, .texts = {span_of(what)}};
    return ext_host_call(host, &request, reply, clock_mono_ns() + user.call_ns);
}

static void meet(bool *mine, const bool *other) {
    pthread_mutex_lock(&user.lock);
    *mine = true;
    pthread_cond_broadcast(&user.changed);
    while (!*other)
        (void)pthread_cond_wait(&user.changed, &user.lock);
    pthread_mutex_unlock(&user.lock);
}

static int on_prepare(void *arg, void *version, struct ext_host *host, uint64_t generation,
                      char *why) {
    struct ext_host_message reply;
    note("prepare %llu %s", (unsigned long long)generation, (const char *)version);
    if (strcmp(version, "refused") == 0) {
        (void)snprintf(why, SUPERVISOR_WHY_MAX, "its config is refused");
        return -EINVAL;
    }
    int err = say(host, version, &reply);
    if (user.meets && generation == 2)
        meet(&user.is_prepared, &user.is_up);
    return err;
}

static void on_up(void *arg, void *version, uint64_t generation) {
    if (user.meets && generation == 3)
        meet(&user.is_up, &user.is_prepared);
    note("up %llu %s", (unsigned long long)generation, (const char *)version);
}

static void on_lost(void *arg, void *version, uint64_t generation, enum supervisor_loss loss,
                    struct span cause) {
    static const char *const names[] = {"crashed", "hung", "retired", "stopped"};
    note("lost %llu %s %s: %.*s", (unsigned long long)generation, (const char *)version,
         names[loss], (int)cause.len, cause.ptr);
}

static void on_put_off(void *arg, void *version, uint64_t generation) {
    note("put off %llu", (unsigned long long)generation);
}

static void on_release(void *arg, void *version) {
    note("release %s", (const char *)version);
}

static const struct supervisor_user functions = {.prepare = on_prepare,
                                                 .up = on_up,
                                                 .lost = on_lost,
                                                 .put_off = on_put_off,
                                                 .release = on_release};

/* What is told is told by its version, again. */
static int on_farewell(void *arg, void *version, struct ext_host *host, int64_t deadline_ns) {
    struct ext_host_message reply;
    bool hangs = strcmp(version, "serve the second") == 0;
    const struct ext_host_message request = {
        .kind = EXT_HOST_GO_LOAD, .texts = {hangs ? SPAN_LIT("hang") : SPAN_LIT("serve")}};
    int64_t until_ns = hangs ? clock_mono_ns() + 1 : deadline_ns;
    int err = ext_host_call(host, &request, &reply, until_ns);
    note("farewell %s: %s", (const char *)version, err ? strerror(-err) : "heard");
    return err;
}

static const struct supervisor_user polite = {.prepare = on_prepare,
                                              .up = on_up,
                                              .farewell = on_farewell,
                                              .lost = on_lost,
                                              .release = on_release};

static struct supervisor_options options = {
    .library = SPAN_INIT("payments"),
    .stat_prefix = "golang.library",
    .user = &functions,
    .restarts = {.failures_max = 3, .window_ns = LONG_S * NS_PER_S},
    .when_stuck = EXT_HOST_DUMP,
    .drain_ns = LONG_S * NS_PER_S,
};

static char serve[] = "serve", second[] = "serve the second", panic_[] = "panic", hang[] = "hang",
            babble[] = "babble", flood[] = "flood", refused[] = "refused", exits[] = "exit";

static struct supervisor *start_politely(void *version) {
    struct supervisor *supervisor;
    struct supervisor_options own = options;
    own.user = &polite;
    assert_int_equal(supervisor_start(&own, version, &supervisor), 0);
    return supervisor;
}

static struct supervisor *start_with(struct restart_settings restarts, void *version) {
    struct supervisor *supervisor;
    struct supervisor_options own = options;
    own.restarts = restarts;
    assert_int_equal(supervisor_start(&own, version, &supervisor), 0);
    return supervisor;
}

static struct supervisor *start(void *version) {
    return start_with(options.restarts, version);
}

static struct supervisor_status status_of(struct supervisor *supervisor) {
    struct supervisor_status status;
    supervisor_status(supervisor, &status);
    return status;
}

static pid_t await_spare(bool is_there) {
    int64_t until_ns = clock_mono_ns() + LONG_S * NS_PER_S;
    pid_t pid;
    while (((pid = spare_pid()) != 0) != is_there) {
        assert_true(clock_mono_ns() < until_ns);
        (void)poll(NULL, 0, 1);
    }
    return pid;
}

static int64_t counted(enum stat_kind kind, const char *name) {
    return stat_value(stats_get(kind, span_of(name), span_of(name), NULL, 0));
}

/* ---- the log, and what is left behind ---- */

static int log_fd;

static bool is_logged(const char *text) {
    size_t size = (size_t)lseek(log_fd, 0, SEEK_END);
    char *all = calloc(1, size + 1);
    assert_int_equal(pread(log_fd, all, size, 0), (ssize_t)size);
    bool is = strstr(all, text) != NULL;
    free(all);
    return is;
}

static void await_logged(const char *text) {
    int64_t until_ns = clock_mono_ns() + LONG_S * NS_PER_S;
    while (!is_logged(text)) {
        assert_true(clock_mono_ns() < until_ns);
        (void)poll(NULL, 0, 1);
    }
}

static size_t entries_of(const char *path) {
    size_t count = 0;
    DIR *directory = opendir(path);
    assert_non_null(directory);
    while (readdir(directory))
        count++;
    (void)closedir(directory);
    return count;
}

static size_t fds_before, threads_before;

static int begin(void **state) {
    user.seen = user.count = 0;
    user.call_ns = LONG_S * NS_PER_S;
    assert_int_equal(ftruncate(log_fd, 0), 0);
    fds_before = entries_of("/proc/self/fd");
    threads_before = entries_of("/proc/self/task");
    return 0;
}

static int end(void **state) {
    assert_int_equal(user.seen, user.count); /* nothing came that no story tells of */
    for (size_t i = 0; i < user.count; i++)
        free(user.events[i]);
    assert_int_equal(entries_of("/proc/self/fd"), fds_before);
    assert_int_equal(entries_of("/proc/self/task"), threads_before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child, dead or alive */
    assert_int_equal(errno, ECHILD);
    return 0;
}

/* ---- stories ---- */

static void it_comes_up_and_is_stopped(void **state) {
    char why[SUPERVISOR_WHY_MAX];
    struct supervisor *supervisor = start(serve);
    assert_int_equal(supervisor_await_up(supervisor, clock_mono_ns() + LONG_S * NS_PER_S, why), 0);
    struct supervisor_status status = status_of(supervisor);
    assert_string_equal(status.library, "payments");
    assert_int_equal(status.state, SUPERVISOR_UP);
    assert_int_equal(status.generation, 1);
    assert_int_equal(kill(status.pid, 0), 0);
    assert_true(status.up_since_ns > 0 && status.time_to_up_ns > 0);
    assert_int_equal(counted(STAT_GAUGE, "golang.library.payments.state"), SUPERVISOR_UP);
    expect("prepare 1 serve");
    expect("up 1 serve");
    supervisor_stop(supervisor);
    expect("lost 1 serve stopped: ");
    expect("release serve");
    assert_int_equal(spare_pid(), 0); /* with the last one */
}

static void one_that_is_killed_is_replaced_by_the_spare(void **state) {
    int64_t crashes = counted(STAT_COUNTER, "golang.library.payments.crashes");
    struct supervisor *supervisor = start(serve);
    expect("prepare 1 serve");
    expect("up 1 serve");
    pid_t spare = await_spare(true);
    (void)kill(status_of(supervisor).pid, SIGKILL);
    expect("lost 1 serve crashed: was killed by SIGKILL...");
    expect("prepare 2 serve");
    expect("up 2 serve");
    char why[SUPERVISOR_WHY_MAX];
    assert_int_equal(supervisor_await_up(supervisor, 0, why), 0);
    struct supervisor_status status = status_of(supervisor);
    assert_int_equal(status.pid, spare);
    assert_int_equal(status.spares_used, 1);
    assert_int_equal(status.crashes, 1);
    assert_int_equal(status.failures_lately, 1);
    assert_string_equal(status.last_cause,
                        "was killed by SIGKILL, as the kernel does when memory is short");
    assert_int_equal(counted(STAT_COUNTER, "golang.library.payments.crashes"), crashes + 1);
    assert_true(is_logged("[error][isolation] payments: its process"));
    assert_true(is_logged(
        "was killed by SIGKILL, as the kernel does when memory is short; it is started again\n"));
    supervisor_stop(supervisor);
    expect("lost 2 serve stopped: ");
    expect("release serve");
}

/* The spare is killed too: then it takes a little longer. */
static void without_its_spare_it_starts_a_process(void **state) {
    struct supervisor *supervisor = start(serve);
    expect("prepare 1 serve");
    expect("up 1 serve");
    (void)kill(await_spare(true), SIGKILL);
    (void)await_spare(false); /* it has been reaped */
    (void)kill(status_of(supervisor).pid, SIGKILL);
    expect("lost 1 serve crashed: was killed by SIGKILL...");
    expect("prepare 2 serve");
    expect("up 2 serve");
    supervisor_stop(supervisor);
    expect("lost 2 serve stopped: ");
    expect("release serve");
}

static int say_exit(void *arg, struct ext_host *host, uint64_t generation) {
    struct ext_host_message reply;
    return say(host, arg, &reply);
}

static void one_that_exits_by_itself_has_crashed(void **state) {
    struct supervisor *supervisor = start(serve);
    expect("prepare 1 serve");
    expect("up 1 serve");
    assert_int_equal(supervisor_call(supervisor, 1, say_exit, exits), -EPIPE);
    expect("lost 1 serve crashed: ended the process with exit status 0");
    expect("prepare 2 serve");
    expect("up 2 serve");
    assert_int_equal(supervisor_call(supervisor, 1, say_exit, serve),
                     -EPIPE); /* that one is gone */
    supervisor_stop(supervisor);
    expect("lost 2 serve stopped: ");
    expect("release serve");
}

static void one_that_crashes_as_it_starts_is_down_soon(void **state) {
    char why[SUPERVISOR_WHY_MAX];
    struct supervisor *supervisor = start(panic_);
    assert_int_equal(supervisor_await_up(supervisor, clock_mono_ns() + LONG_S * NS_PER_S, why),
                     -EPIPE);
    assert_string_equal(why, "panicked\n    panic: no such host\n    goroutine 1 [running]:\n"
                             "    main.init.0()\n    \t/src/a.go:3");
    for (int i = 1; i <= 3; i++) {
        char wanted[64];
        (void)snprintf(wanted, sizeof(wanted), "prepare %d panic", i);
        expect(wanted);
    }
    await_logged("; it failed too often, and stays down until it is loaded again\n");
    struct supervisor_status status = status_of(supervisor);
    assert_int_equal(status.state, SUPERVISOR_DOWN);
    assert_int_equal(status.pid, 0);
    assert_int_equal(status.next_try_ns, 0); /* none: failures_max, and no trial */
    assert_string_equal(status.last_cause, "panicked");
    assert_int_equal(supervisor_call(supervisor, 0, say_exit, serve), -EPIPE);
    assert_true(is_logged("[info][isolation] payments: panic: no such host\n"));
    assert_true(
        is_logged("panicked | panic: no such host | goroutine 1 [running]: | main.init.0()"));
    assert_int_equal(supervisor_replace(supervisor, serve, why), 0); /* somebody mended it */
    expect("prepare 4 serve");
    expect("up 4 serve");
    expect("release panic");
    supervisor_stop(supervisor);
    expect("lost 4 serve stopped: ");
    expect("release serve");
}

static void one_that_is_down_is_tried_now_and_then(void **state) {
    struct restart_settings restarts = {
        .failures_max = 1, .window_ns = LONG_S * NS_PER_S, .probe_ns = NS_PER_MS};
    struct supervisor *supervisor = start_with(restarts, serve);
    expect("prepare 1 serve");
    expect("up 1 serve");
    (void)kill(status_of(supervisor).pid, SIGKILL);
    expect("lost 1 serve crashed: was killed by SIGKILL...");
    expect("prepare 2 serve");
    expect("up 2 serve");
    assert_true(is_logged("it failed too often, and is tried again in 0.001 s\n"));
    supervisor_stop(supervisor);
    expect("lost 2 serve stopped: ");
    expect("release serve");
}

static void one_that_is_stuck_tells_where_and_is_killed(void **state) {
    int64_t hangs = counted(STAT_COUNTER, "golang.library.payments.hangs");
    struct supervisor *supervisor = start(serve);
    expect("prepare 1 serve");
    supervisor_stuck(supervisor, 7, "a call that there is not"); /* nor such a generation */
    expect("up 1 serve");
    supervisor_stuck(supervisor, 1, "a call of decode_headers");
#ifdef __SANITIZE_THREAD__ /* its own thread may be the one that is asked, and knows nothing */
    expect("lost 1 serve hung: hung in a call of decode_headers...");
#else
    expect("lost 1 serve hung: hung in a call of decode_headers\n    goroutine 7 [running]:\n"
           "    main.spin()\n    \t/src/filter.go:12");
    assert_true(is_logged("[info][isolation] payments: main.spin()\n"));
#endif
    expect("prepare 2 serve");
    expect("up 2 serve");
    supervisor_stuck(supervisor, 1, "a call of one that is gone");
    assert_int_equal(supervisor_call(supervisor, 2, say_exit, serve), 0); /* it lives */
    assert_int_equal(status_of(supervisor).hangs, 1);
    assert_int_equal(counted(STAT_COUNTER, "golang.library.payments.hangs"), hangs + 1);
    supervisor_stop(supervisor);
    expect("lost 2 serve stopped: ");
    expect("release serve");
}

static void a_call_that_times_out_is_a_hang(void **state) {
    struct supervisor *supervisor = start(serve);
    expect("prepare 1 serve");
    expect("up 1 serve");
    (void)await_spare(true);
    user.call_ns = 20 * NS_PER_MS;
    assert_int_equal(supervisor_call(supervisor, 0, say_exit, hang), -ETIMEDOUT);
    user.call_ns = LONG_S * NS_PER_S;
    expect("lost 1 serve hung: gave no answer within 0.0...");
    expect("prepare 2 ...");
    expect("up 2 serve");
    supervisor_stop(supervisor);
    expect("lost 2 serve stopped: ");
    expect("release serve");
}

struct call {
    struct supervisor *supervisor;
    int result;
};

static int note_and_hang(void *arg, struct ext_host *host, uint64_t generation) {
    note("asked %llu", (unsigned long long)generation);
    return say_exit(hang, host, generation);
}

static void *call_that_hangs(void *arg) {
    struct call *call = arg;
    call->result = supervisor_call(call->supervisor, 1, note_and_hang, NULL);
    return NULL;
}

/* Its time would be two minutes, but a callback has missed its own: nobody waits for the rest. */
static void one_that_is_stuck_keeps_no_call_waiting(void **state) {
    pthread_t thread;
    struct call call = {.supervisor = start(serve)};
    expect("prepare 1 serve");
    expect("up 1 serve");
    assert_int_equal(pthread_create(&thread, NULL, call_that_hangs, &call), 0);
    expect("asked 1");
    supervisor_stuck(call.supervisor, 1, "a call of decode_headers");
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(call.result, -ETIMEDOUT);
    expect("lost 1 serve hung: hung in a call of decode_headers...");
    expect("prepare 2 serve");
    expect("up 2 serve");
    supervisor_stop(call.supervisor);
    expect("lost 2 serve stopped: ");
    expect("release serve");
}

/* A call that waits until it has heard that its process is retired. */
static int retire_itself(void *arg, struct ext_host *host, uint64_t generation) {
    struct ext_host_message reply;
    const struct ext_host_message request = {.kind = EXT_HOST_GO_LOAD,
                                             .texts = {SPAN_LIT("serve")}};
    (void)kill(ext_host_pid(host), SIGSTOP);
    supervisor_retire(arg, generation);
    int err = ext_host_call(host, &request, &reply, clock_mono_ns() + NS_PER_MS);
    (void)kill(ext_host_pid(host), SIGCONT);
    return err == -ETIMEDOUT ? 0 : -EPROTO;
}

static void news_that_come_during_a_call_are_looked_at_after_it(void **state) {
    char why[SUPERVISOR_WHY_MAX];
    struct supervisor *supervisor = start(serve);
    expect("prepare 1 serve");
    expect("up 1 serve");
    assert_int_equal(supervisor_replace(supervisor, second, why), 0);
    expect("prepare 2 serve the second");
    expect("up 2 serve the second");
    assert_int_equal(supervisor_call(supervisor, 1, retire_itself, supervisor), 0);
    expect("lost 1 serve retired: ");
    expect("release serve");
    supervisor_stop(supervisor);
    expect("lost 2 serve the second stopped: ");
    expect("release serve the second");
}

static void one_that_talks_nonsense_is_given_up(void **state) {
    char why[SUPERVISOR_WHY_MAX];
    struct restart_settings once = {.failures_max = 1, .window_ns = NS_PER_S};
    struct supervisor *supervisor = start_with(once, babble);
    assert_int_equal(supervisor_await_up(supervisor, clock_mono_ns() + LONG_S * NS_PER_S, why),
                     -EPROTO);
    assert_string_equal(why, "was not made ready: Protocol error");
    assert_int_equal(status_of(supervisor).crashes, 0);
    expect("prepare 1 babble");
    supervisor_stop(supervisor);
    expect("release babble");
}

static void a_flood_neither_blocks_it_nor_fills_the_log(void **state) {
    struct supervisor *supervisor = start(flood);
    expect("prepare 1 flood");
    expect("up 1 flood");
    supervisor_stop(supervisor);
    expect("lost 1 flood stopped: ");
    expect("release flood");
    assert_true(is_logged("payments: line 0 of"));
    assert_true(is_logged("lines of its output were left out\n"));
    assert_false(is_logged("payments: line 3999 of"));
    assert_true(counted(STAT_COUNTER, "golang.library.payments.output_lines_left_out") > 1000);
}

static void without_processes_it_is_tried_again(void **state) {
    spawns_to_fail = 2;
    struct supervisor *supervisor = start(serve);
    expect("prepare 3 serve");
    expect("up 3 serve");
    assert_true(is_logged("no process: cannot be started: Resource temporarily unavailable"));
    assert_int_equal(status_of(supervisor).crashes, 0);
    assert_int_equal(status_of(supervisor).failures_lately, 2);
    supervisor_stop(supervisor);
    expect("lost 3 serve stopped: ");
    expect("release serve");
}

static void it_is_stopped_while_it_starts(void **state) {
    struct supervisor *supervisor = start(hang); /* it would take its two minutes */
    expect("prepare 1 hang");
    supervisor_stop(supervisor);
    expect("release hang");
    struct restart_settings later = {
        .base_ns = NS_PER_S * LONG_S, .max_ns = NS_PER_S * LONG_S, .window_ns = NS_PER_S * LONG_S};
    supervisor = start_with(later, panic_); /* and here it waits for its turn */
    expect("prepare 1 panic");
    expect("prepare 2 panic");
    supervisor_stop(supervisor);
    expect("release panic");
}

static void a_replacement_serves_while_the_old_one_drains(void **state) {
    char why[SUPERVISOR_WHY_MAX];
    struct supervisor *supervisor = start(serve);
    expect("prepare 1 serve");
    expect("up 1 serve");
    pid_t old = status_of(supervisor).pid;
    supervisor_retire(supervisor, 1); /* it is the current one: not yet */
    assert_int_equal(supervisor_replace(supervisor, second, why), 0);
    expect("prepare 2 serve the second");
    expect("up 2 serve the second");
    expect("lost 1 serve retired: ");
    expect("release serve");
    assert_int_equal(kill(old, 0), -1);

    assert_int_equal(supervisor_replace(supervisor, serve, why), 0); /* and back */
    expect("prepare 3 serve");
    expect("up 3 serve");
    assert_int_equal(supervisor_call(supervisor, 2, say_exit, serve), 0); /* it drains */
    assert_int_equal(supervisor_call(supervisor, 3, say_exit, serve), 0);
    assert_int_equal(status_of(supervisor).draining, 1);
    assert_int_equal(status_of(supervisor).generation, 3);
    assert_int_equal(status_of(supervisor).restarts, 0);
    (void)kill(status_of(supervisor).pid, SIGKILL);
    expect("lost 3 serve crashed: was killed by SIGKILL...");
    expect("prepare 4 serve");
    expect("up 4 serve");
    assert_int_equal(supervisor_call(supervisor, 2, say_exit, exits), -EPIPE); /* it dies over it */
    expect("lost 2 serve the second crashed: ended the process with exit status 0");
    expect("release serve the second");
    assert_true(is_logged("it is not started again, as it was replaced\n"));
    supervisor_stop(supervisor);
    expect("lost 4 serve stopped: ");
    expect("release serve");
}

/* Generation 1 is up, and 2 on trial. */
static struct supervisor *start_with_trial(uint64_t *generation) {
    char why[SUPERVISOR_WHY_MAX];
    struct supervisor *supervisor = start(serve);
    expect("prepare 1 serve");
    expect("up 1 serve");
    assert_int_equal(supervisor_try(supervisor, second, generation, why), 0);
    expect("prepare 2 serve the second");
    return supervisor;
}

/* On trial it is nobody's current one, whatever befalls the one that is; then it is, or it ends. */
static void one_on_trial_is_promoted_or_withdrawn(void **state) {
    char why[SUPERVISOR_WHY_MAX];
    uint64_t generation = 0;
    struct supervisor *supervisor = start_with_trial(&generation);
    assert_int_equal(generation, 2);
    assert_int_equal(status_of(supervisor).generation, 1);
    supervisor_retire(supervisor, 1); /* it is the current one still */
    assert_int_equal(supervisor_call(supervisor, 2, say_exit, serve), 0);
    (void)kill(status_of(supervisor).pid, SIGKILL);
    expect("lost 1 serve crashed: was killed by SIGKILL...");
    expect("prepare 3 serve");
    expect("up 3 serve");
    assert_int_equal(supervisor_call(supervisor, 2, say_exit, serve), 0);
    supervisor_withdraw(supervisor, 2);
    supervisor_retire(supervisor, 2);
    expect("lost 2 serve the second retired: ");
    expect("release serve the second");
    assert_int_equal(supervisor_promote(supervisor, 2), -EPIPE);
    supervisor_withdraw(supervisor, 3); /* the current one is not on trial */

    assert_int_equal(supervisor_try(supervisor, second, &generation, why), 0);
    expect("prepare 4 serve the second");
    assert_int_equal(supervisor_promote(supervisor, generation), 0);
    expect("up 4 serve the second");
    assert_int_equal(status_of(supervisor).generation, 4);
    supervisor_retire(supervisor, 3);
    expect("lost 3 serve retired: ");
    expect("release serve");
    (void)kill(status_of(supervisor).pid, SIGKILL); /* from now on it is started again */
    expect("lost 4 serve the second crashed: was killed by SIGKILL...");
    expect("prepare 5 serve the second");
    expect("up 5 serve the second");
    supervisor_stop(supervisor);
    expect("lost 5 serve the second stopped: ");
    expect("release serve the second");
}

static void one_that_ends_on_trial_is_not_started_again(void **state) {
    char why[SUPERVISOR_WHY_MAX];
    uint64_t generation = 0;
    struct supervisor *supervisor = start_with_trial(&generation);
    assert_int_equal(supervisor_call(supervisor, 2, say_exit, exits), -EPIPE);
    expect("lost 2 serve the second crashed: ended the process with exit status 0");
    expect("release serve the second");
    assert_true(is_logged("it was on trial, and is not started again\n"));
    assert_int_equal(status_of(supervisor).state, SUPERVISOR_UP);
    assert_int_equal(supervisor_promote(supervisor, 2), -EPIPE);
    assert_int_equal(supervisor_try(supervisor, refused, &generation, why), -EINVAL);
    expect("prepare 3 refused");
    assert_int_equal(generation, 2);
    supervisor_stop(supervisor);
    expect("lost 1 serve stopped: ");
    expect("release serve");
}

static void who_does_not_drain_in_time_ends(void **state) {
    char why[SUPERVISOR_WHY_MAX];
    options.drain_ns = 10 * NS_PER_MS;
    struct supervisor *supervisor = start(serve);
    options.drain_ns = LONG_S * NS_PER_S;
    expect("prepare 1 serve");
    expect("up 1 serve");
    assert_int_equal(supervisor_replace(supervisor, second, why), 0);
    expect("prepare 2 serve the second");
    expect("up 2 serve the second");
    expect("lost 1 serve retired: ");
    expect("release serve");
    supervisor_stop(supervisor);
    expect("lost 2 serve the second stopped: ");
    expect("release serve the second");
}

static void a_replacement_that_fails_changes_nothing(void **state) {
    char why[SUPERVISOR_WHY_MAX];
    struct supervisor *supervisor = start(serve);
    expect("prepare 1 serve");
    expect("up 1 serve");
    pid_t pid = status_of(supervisor).pid;
    assert_int_equal(supervisor_replace(supervisor, refused, why), -EINVAL);
    assert_string_equal(why, "was not made ready: its config is refused");
    expect("prepare 2 refused");
    assert_int_equal(supervisor_replace(supervisor, panic_, why), -EPIPE);
    assert_int_equal(strncmp(why, "panicked\n    panic: no such host", 31), 0);
    expect("prepare 3 panic");
    assert_true(is_logged("it does not replace the one that is there\n"));
    assert_int_equal(status_of(supervisor).pid, pid);
    assert_int_equal(status_of(supervisor).state, SUPERVISOR_UP);
    assert_int_equal(status_of(supervisor).failures_lately, 0);
    supervisor_stop(supervisor);
    expect("lost 1 serve stopped: ");
    expect("release serve");
}

static void *replace_with_hang(void *arg) {
    char why[SUPERVISOR_WHY_MAX];
    return (void *)(intptr_t)supervisor_replace(arg, hang, why); /* a small number */
}

/* One replacement at a time; a crash of the current one is not kept waiting by it; a stop ends it. */
static void a_replacement_that_takes_long_is_in_nobodys_way(void **state) {
    char why[SUPERVISOR_WHY_MAX];
    pthread_t thread;
    struct supervisor *supervisor = start(serve);
    expect("prepare 1 serve");
    expect("up 1 serve");
    assert_int_equal(pthread_create(&thread, NULL, replace_with_hang, supervisor), 0);
    expect("prepare 2 hang");
    assert_int_equal(supervisor_replace(supervisor, second, why), -EBUSY);
    (void)kill(status_of(supervisor).pid, SIGKILL);
    expect("lost 1 serve crashed: was killed by SIGKILL...");
    expect("prepare 3 serve");
    expect("up 3 serve");
    assert_int_equal(supervisor_call(supervisor, 3, say_exit, serve), 0); /* up has returned */
    supervisor_stop(supervisor);
    void *result;
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((intptr_t)result, -ECANCELED);
    expect("lost 3 serve stopped: ");
    expect("release serve");
}

/* Whoever is up last would be given what begins. */
static void one_that_is_started_again_does_not_come_after_its_replacement(void **state) {
    char why[SUPERVISOR_WHY_MAX];
    struct supervisor *supervisor = start(serve);
    expect("prepare 1 serve");
    expect("up 1 serve");
    user.meets = true;
    (void)kill(status_of(supervisor).pid, SIGKILL);
    expect("lost 1 serve crashed: was killed by SIGKILL...");
    expect("prepare 2 serve");
    assert_int_equal(supervisor_replace(supervisor, second, why), 0);
    user.meets = false;
    expect("prepare 3 serve the second");
    expect("up 3 serve the second");
    expect("lost 2 serve retired: ");
    expect("release serve");
    assert_int_equal(status_of(supervisor).generation, 3);
    supervisor_stop(supervisor);
    expect("lost 3 serve the second stopped: ");
    expect("release serve the second");
}

static void a_replacement_gets_one_that_is_down_up(void **state) {
    char why[SUPERVISOR_WHY_MAX];
    struct restart_settings once = {.failures_max = 1, .window_ns = LONG_S * NS_PER_S};
    struct supervisor *supervisor = start_with(once, panic_);
    expect("prepare 1 panic");
    assert_int_equal(supervisor_await_up(supervisor, clock_mono_ns() + LONG_S * NS_PER_S, why),
                     -EPIPE);
    assert_int_equal(status_of(supervisor).state, SUPERVISOR_DOWN);
    assert_int_equal(supervisor_replace(supervisor, serve, why), 0);
    expect("prepare 2 serve");
    expect("up 2 serve");
    expect("release panic");
    assert_int_equal(status_of(supervisor).state, SUPERVISOR_UP);
    assert_int_equal(status_of(supervisor).failures_lately, 0);
    supervisor_stop(supervisor);
    expect("lost 2 serve stopped: ");
    expect("release serve");
}

static void who_is_looked_at_with_a_debugger_may_be_slow(void **state) {
    struct supervisor *supervisor = start(serve);
    expect("prepare 1 serve");
    expect("up 1 serve");
    pid_t pid = status_of(supervisor).pid;
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0) {
        print_message("skipped: no debugger may attach here\n");
    } else {
        supervisor_stuck(supervisor, 1, "a call of decode_headers");
        expect("put off 1");
        assert_true(is_logged("a debugger is attached"));
        assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, NULL, __WALL), pid); /* it has stopped, for us */
        assert_int_equal(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
        supervisor_stuck(supervisor, 1, "a call of decode_headers");
        expect("lost 1 serve hung: ...");
        expect("prepare 2 serve");
        expect("up 2 serve");
    }
    supervisor_stop(supervisor);
    expect(user.count > 5 ? "lost 2 serve stopped: " : "lost 1 serve stopped: ");
    expect("release serve");
}

static void collect(void *arg, const struct supervisor_status *status) {
    char *names = arg;
    strcat(strcat(names, status->library), supervisor_state_name(status->state));
}

static void all_of_them_are_told(void **state) {
    char names[64] = "";
    struct supervisor *first = start(serve);
    expect("prepare 1 serve");
    expect("up 1 serve");
    options.library = SPAN_LIT("quotas");
    struct supervisor *other = start(hang);
    options.library = SPAN_LIT("payments");
    expect("prepare 1 hang");
    assert_int_equal(supervisor_call(first, 1, say_exit, serve), 0); /* up has returned */
    supervisor_each(collect, names);
    assert_string_equal(names, "paymentsupquotasstarting");
    supervisor_stop(first);
    expect("lost 1 serve stopped: ");
    expect("release serve");
    *names = '\0';
    supervisor_each(collect, names);
    assert_string_equal(names, "quotasstarting");
    supervisor_stop(other);
    expect("release hang");
}

static void a_hundred_restarts_leave_nothing_behind(void **state) {
    const struct restart_settings at_once = {.window_ns = LONG_S * NS_PER_S};
    struct supervisor *supervisor = start_with(at_once, serve);
    char wanted[64];
    for (int i = 1; i <= RESTARTS; i++) {
        (void)snprintf(wanted, sizeof(wanted), "prepare %d serve", i);
        expect(wanted);
        (void)snprintf(wanted, sizeof(wanted), "up %d serve", i);
        expect(wanted);
        (void)kill(status_of(supervisor).pid, SIGKILL);
        (void)snprintf(wanted, sizeof(wanted), "lost %d serve crashed: was killed by SIGKILL...",
                       i);
        expect(wanted);
    }
    (void)snprintf(wanted, sizeof(wanted), "prepare %d serve", RESTARTS + 1);
    expect(wanted);
    (void)snprintf(wanted, sizeof(wanted), "up %d serve", RESTARTS + 1);
    expect(wanted);
    assert_int_equal(supervisor_call(supervisor, 0, say_exit, serve), 0); /* up has returned */
    assert_int_equal(status_of(supervisor).restarts, RESTARTS);
    assert_int_equal(entries_of("/proc/self/task"), threads_before + 1);
    supervisor_stop(supervisor);
    (void)snprintf(wanted, sizeof(wanted), "lost %d serve stopped: ", RESTARTS + 1);
    expect(wanted);
    expect("release serve");
}

/* What is made once and stays: the log's file, statistics, the thread that starts processes. */
static int begin_all(void **state) {
    char path[64];
    log_fd = memfd_create("log", MFD_CLOEXEC);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", log_fd);
    struct ext_host *host;
    bool was_spare;
    if (stats_init(1) != 0 || log_open_file(path) != 0 || spare_take(&host, &was_spare) != 0)
        return -1;
    ext_host_free(host);
    return 0;
}

static void whoever_is_ended_may_say_something_before(void **state) {
    char why[SUPERVISOR_WHY_MAX];
    struct supervisor *supervisor = start_politely(serve);
    expect("prepare 1 serve");
    expect("up 1 serve");
    assert_int_equal(supervisor_replace(supervisor, second, why), 0);
    expect("prepare 2 serve the second");
    expect("up 2 serve the second");
    supervisor_retire(supervisor, 1);
    expect("farewell serve: heard");
    expect("lost 1 serve retired: ");
    expect("release serve");
    supervisor_stop(supervisor); /* this one does not answer, and is killed for it */
    expect("farewell serve the second: Connection timed out");
    expect("lost 2 serve the second stopped: ");
    expect("release serve the second");
}

/* The last one: nothing is started from then on. */
static void at_the_end_all_of_them_end(void **state) {
    struct supervisor *up = start_politely(serve), *none;
    expect("prepare 1 serve");
    expect("up 1 serve");
    struct supervisor *down = start(refused);
    for (int i = 1; i <= 3; i++) {
        char prepared[64];
        (void)snprintf(prepared, sizeof prepared, "prepare %d refused", i);
        expect(prepared);
    }
    supervisor_end_all();
    expect_in_any_order((const char *const[]){"farewell serve: heard", "lost 1 serve stopped: ",
                                              "release serve", "release refused", NULL});
    assert_int_equal(status_of(up).state, SUPERVISOR_STOPPING);
    assert_int_equal(status_of(down).state, SUPERVISOR_STOPPING);
    assert_int_equal(status_of(up).pid, 0);
    assert_int_equal(spare_pid(), 0);
    assert_int_equal(supervisor_call(up, 0, NULL, NULL), -EPIPE);
    assert_int_equal(supervisor_start(&options, serve, &none), -ECANCELED);
    supervisor_end_all(); /* which finds nothing to do */
    supervisor_stop(up);
    supervisor_stop(down);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(int argc, char **argv) {
    if (ext_host_is_asked(argc, argv))
        return fake_host();
    const struct CMUnitTest tests[] = {
        STORY(it_comes_up_and_is_stopped),
        STORY(one_that_is_killed_is_replaced_by_the_spare),
        STORY(without_its_spare_it_starts_a_process),
        STORY(one_that_exits_by_itself_has_crashed),
        STORY(one_that_crashes_as_it_starts_is_down_soon),
        STORY(one_that_is_down_is_tried_now_and_then),
        STORY(one_that_is_stuck_tells_where_and_is_killed),
        STORY(a_call_that_times_out_is_a_hang),
        STORY(one_that_is_stuck_keeps_no_call_waiting),
        STORY(news_that_come_during_a_call_are_looked_at_after_it),
        STORY(one_that_talks_nonsense_is_given_up),
        STORY(a_flood_neither_blocks_it_nor_fills_the_log),
        STORY(without_processes_it_is_tried_again),
        STORY(it_is_stopped_while_it_starts),
        STORY(a_replacement_serves_while_the_old_one_drains),
        STORY(one_on_trial_is_promoted_or_withdrawn),
        STORY(one_that_ends_on_trial_is_not_started_again),
        STORY(who_does_not_drain_in_time_ends),
        STORY(a_replacement_that_fails_changes_nothing),
        STORY(a_replacement_that_takes_long_is_in_nobodys_way),
        STORY(one_that_is_started_again_does_not_come_after_its_replacement),
        STORY(a_replacement_gets_one_that_is_down_up),
        STORY(who_is_looked_at_with_a_debugger_may_be_slow),
        STORY(all_of_them_are_told),
        STORY(a_hundred_restarts_leave_nothing_behind),
        STORY(whoever_is_ended_may_say_something_before),
        STORY(at_the_end_all_of_them_end),
    };
    return cmocka_run_group_tests(tests, begin_all, NULL);
}
