/* crash_catch: the part of it that is done by the process that dies, in the signal handler.
 *
 *     thread that got the signal                      child: sluice --crash-report
 *       registers, its stack, what it works on ─pipe─►  reads all, and then
 *       asks the other threads what they do    ──────►    /proc/PARENT/maps, and the files that are mapped there
 *       waits for the child's end             ◄───────  the report, with functions and lines
 *       dies of the signal: core dump, exit status
 *
 * Here is done what only this process can, and with async-signal-safe calls alone: addresses are collected, nothing is
 * looked up. All that needs memory, files and debug data is done by a fresh process, so whatever is broken here (the heap,
 * a lock that is held) is not in its way. It is this program again, by /proc/self/exe: also when another release is installed
 * in its place by now.
 *
 * C1  _Fork calls no handlers and takes no lock (it is there for signal handlers), and the child does nothing but dup2,
 *     and exec. What it inherits is closed on exec.
 * C2  Whatever waits has an end: rt/crash.c's alarm, which kills the process by the signal that it got. The child lives on
 *     then, and has an alarm of its own.
 * C3  A fault in here is this thread's second one: rt/crash.c then lets the process die at once.
 * C4  What is said of configurations was written down when they changed. There are two places for each, and the next one is
 *     written to that which nobody reads, then named. Who reports sets is_dying before it looks which one that is; who sees
 *     it set changes nothing more. All four are seq_cst: the one change that may have begun before writes to the other place,
 *     so what is read stays as it is.
 *
 * Rejected  A file of facts that the next start makes a report of: it would not know the files that were mapped, and Go libraries
 *           are mapped from copies in memory that end with the process. A child that reads our memory and registers by
 *           ptrace: containers and Yama forbid that often, and our unwinder is here anyway, for the heap profile. posix_spawn: it
 *           is not promised to be async-signal-safe. A child that stands by from the start: memory for something that
 *           hardly ever happens. libunwind, libbacktrace in the handler: they allocate and lock. */
#include "crash/crash_catch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/span.h"
#include "crash/crash_facts.h"
#include "crash/crash_report.h"
#include "crash/crash_walk.h"
#include "rt/backtrace.h"
#include "rt/crash.h"
#include "rt/symbol.h"

/* C4. */
struct place {
    struct crash_config both[2];
    _Atomic unsigned current; /* index */
};

static struct {
    const char *dir; /* constant once it is started, as the next three */
    char reports_max[16];
    unsigned generation;
    int64_t started_ns;
    _Atomic(const char *) state;
    _Atomic bool is_dying;
    struct place config, building;
} catch;

/* ---- Facts ---- */

struct writer {
    int fd; /* -1: nobody reads any more */
    size_t len;
    char buffer[1024];
};

static void flush(struct writer *writer) {
    for (size_t at = 0; at < writer->len && writer->fd >= 0;) {
        ssize_t n = write(writer->fd, writer->buffer + at, writer->len - at);
        if (n > 0)
            at += (size_t)n;
        else if (n == 0 || errno != EINTR)
            writer->fd = -1; /* our owner closes it */
    }
    writer->len = 0;
}

static void put_byte(struct writer *writer, char c) {
    if (writer->len == sizeof writer->buffer)
        flush(writer);
    writer->buffer[writer->len++] = c;
}

/* What would end the line is not passed on. */
static void put(struct writer *writer, const char *text) {
    for (; *text; text++)
        put_byte(writer, (unsigned char)*text < ' ' ? '?' : *text);
}

static void put_u64(struct writer *writer, uint64_t value) {
    char digits[SPAN_U64_DIGITS_MAX];
    size_t len = span_put_u64(digits, value);
    for (size_t i = 0; i < len; i++)
        put_byte(writer, digits[i]);
}

static void put_hex(struct writer *writer, uint64_t value) {
    unsigned shift = 60;
    while (shift > 0 && value >> shift == 0)
        shift -= 4;
    for (;; shift -= 4) {
        put_byte(writer, "0123456789abcdef"[value >> shift & 15]);
        if (shift == 0)
            return;
    }
}

static void put_key(struct writer *writer, const char *key) {
    put(writer, key);
    put_byte(writer, ' ');
}

static void end_line(struct writer *writer) {
    put_byte(writer, '\n');
}

static void fact_u64(struct writer *writer, const char *key, uint64_t value) {
    put_key(writer, key);
    put_u64(writer, value);
    end_line(writer);
}

static void fact_hex(struct writer *writer, const char *key, uint64_t value) {
    put_key(writer, key);
    put_hex(writer, value);
    end_line(writer);
}

static void fact(struct writer *writer, const char *key, const char *value) {
    put_key(writer, key);
    put(writer, value);
    end_line(writer);
}

static void fact_labels(struct writer *writer, const struct label *labels, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        put_key(writer, "label");
        fact(writer, labels[i].key, labels[i].value);
    }
}

/* told: lines. */
static void fact_told(struct writer *writer, const char *told) {
    while (*told) {
        put_key(writer, "told");
        for (; *told && *told != '\n'; told++)
            put_byte(writer, *told);
        end_line(writer);
        told += *told == '\n';
    }
}

static void fact_coroutine(struct writer *writer, uint64_t id, const char *name) {
    if (!name)
        return;
    put_key(writer, "coroutine");
    put_u64(writer, id);
    put_byte(writer, ' ');
    put(writer, name);
    end_line(writer);
}

static void fact_signal(struct writer *writer, const struct crash *crash) {
    const siginfo_t *info = crash->info;
    fact_u64(writer, "signal", (uint64_t)crash->signo);
    put_key(writer, "code");
    if (info->si_code < 0)
        put_byte(writer, '-');
    put_u64(writer, info->si_code < 0 ? -(uint64_t)info->si_code : (uint64_t)info->si_code);
    end_line(writer);
    if (info->si_code > 0) {
        fact_hex(writer, "address", (uint64_t)(uintptr_t)info->si_addr);
    } else if (info->si_code == SI_USER || info->si_code == SI_TKILL || info->si_code == SI_QUEUE) {
        put_key(writer, "sender");
        put_u64(writer, (uint64_t)info->si_pid);
        put_byte(writer, ' ');
        put_u64(writer, info->si_uid);
        end_line(writer);
    }
}

static void fact_config(struct writer *writer, const char *key, const struct place *place) {
    const struct crash_config *config = &place->both[atomic_load(&place->current)];
    if (!config->version)
        return;
    put_key(writer, key);
    put_hex(writer, config->hash);
    put_byte(writer, ' ');
    put_u64(writer, config->version);
    put_byte(writer, ' ');
    put_u64(writer, (uint64_t)config->since_wall_ns);
    put_byte(writer, ' ');
    put(writer, config->origin);
    end_line(writer);
}

/* Our parent: with its end we are told to end, too. */
static void fact_supervisor(struct writer *writer) {
    fact_u64(writer, "generation", catch.generation);
    fact_u64(writer, "supervisor", (uint64_t)getppid());
}

static void fact_process(struct writer *writer) {
    fact_u64(writer, "pid", (uint64_t)getpid());
    fact_u64(writer, "time_ns", (uint64_t)clock_wall_ns());
    fact_u64(writer, "uptime_ns", (uint64_t)(clock_mono_ns() - catch.started_ns));
    if (catch.generation)
        fact_supervisor(writer);
    fact(writer, "state", atomic_load_explicit(&catch.state, memory_order_relaxed));
    fact_config(writer, "config", &catch.config);
    fact_config(writer, "building", &catch.building);
    for (const struct symbol_module *module = symbol_modules(); module; module = module->next) {
        put_key(writer, "module");
        put_hex(writer, module->base);
        put_byte(writer, ' ');
        fact(writer, module->bytes, module->file);
    }
}

static void fact_register(const char *name, uintptr_t value, void *arg) {
    struct writer *writer = arg;
    put_key(writer, "register");
    fact_hex(writer, name, value);
}

static void fact_frames(struct writer *writer, const uintptr_t *pcs, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        fact_hex(writer, "frame", pcs[i]);
}

static void fact_this_thread(struct writer *writer, const struct crash *crash) {
    char name[16 + 1] = "";
    uintptr_t pcs[CRASH_FRAMES_MAX];
    fact_u64(writer, "thread", (uint64_t)gettid());
    if (prctl(PR_GET_NAME, name) == 0)
        fact(writer, "name", name);
    fact(writer, "place", crash->place);
    fact_coroutine(writer, crash->coroutine_id, crash->coroutine);
    fact_labels(writer, crash->labels, crash->label_count);
    fact_told(writer, crash->told);
    flush(writer); /* so that there is something, whatever the stack is like */
    fact_frames(writer, pcs, crash_walk(crash->ucontext, pcs, CRASH_FRAMES_MAX));
}

static void fact_other_thread(pid_t tid, const struct backtrace *backtrace, void *arg) {
    static const char *const places[] = {
        [BACKTRACE_RUNNING] = "in coroutine",
        [BACKTRACE_FOREIGN] = "in foreign code called by coroutine",
        [BACKTRACE_THREAD] = "in the scheduler",
    };
    struct writer *writer = arg;
    fact_u64(writer, "thread", (uint64_t)tid);
    fact(writer, "place", places[backtrace->where]);
    if (backtrace->where == BACKTRACE_FOREIGN) { /* its frames are the coroutine's */
        put_key(writer, "waits");
        end_line(writer);
    }
    fact_coroutine(writer, backtrace->g_id, backtrace->name);
    fact_labels(writer, backtrace->described, backtrace->described_count);
    fact_told(writer, backtrace->told);
    fact_frames(writer, backtrace->pcs, backtrace->count);
}

static void put_facts(int fd, const struct crash *crash) {
    struct writer writer = {.fd = fd};
    atomic_store(&catch.is_dying, true);
    put_key(&writer, "sluice-crash");
    put_u64(&writer, CRASH_FACTS_VERSION);
    end_line(&writer);
    fact_process(&writer);
    fact_signal(&writer, crash);
    if (assert_failed_text())
        fact(&writer, "assertion", assert_failed_text());
    crash_each_register(crash->ucontext, fact_register, &writer);
    fact_this_thread(&writer, crash);
    crash_each_thread(fact_other_thread, &writer);
    put_key(&writer, "end");
    end_line(&writer);
    flush(&writer);
}

/* ---- The child ---- */

/* In the child, up to exec. */
static _Noreturn void become_reporter(int facts) {
    static char program[] = "sluice", verb[] = CRASH_REPORT_VERB, none[] = "";
    char *argv[] = {program, verb, catch.dir ? (char *)(uintptr_t) catch.dir : none,
                    catch.reports_max, NULL};
    sigset_t mask;
    sigemptyset(&mask);
    if (dup2(facts, STDIN_FILENO) == STDIN_FILENO && sigprocmask(SIG_SETMASK, &mask, NULL) == 0)
        (void)execve("/proc/self/exe", argv, environ);
    _exit(1);
}

static bool await(pid_t pid) {
    for (;;) {
        int status;
        pid_t ended = waitpid(pid, &status, WNOHANG);
        if (ended == pid)
            return WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (ended < 0 && errno != EINTR)
            return false;
        (void)nanosleep(&(struct timespec){.tv_nsec = 2 * NS_PER_MS}, NULL);
    }
}

static bool report(const struct crash *crash) {
    int facts[2];
    if (pipe2(facts, O_CLOEXEC) != 0)
        return false;
    pid_t pid = _Fork();
    if (pid == 0)
        become_reporter(facts[0]);
    (void)close(facts[0]);
    if (pid > 0)
        put_facts(facts[1], crash);
    (void)close(facts[1]);
    return pid > 0 && await(pid);
}

/* ---- Before ---- */

int crash_catch_start(const struct crash_options *options) {
    catch.dir = options->dir;
    catch.generation = options->generation;
    catch.started_ns = clock_mono_ns();
    (void)snprintf(catch.reports_max, sizeof catch.reports_max, "%u", options->reports_max);
    crash_catch_state("starting");
    return crash_set_reporter(report);
}

void crash_catch_state(const char *state) {
    atomic_store_explicit(&catch.state, state, memory_order_relaxed);
}

static void change(struct place *place, const struct crash_config *config) {
    if (atomic_load(&catch.is_dying))
        return;
    unsigned next = !atomic_load(&place->current);
    place->both[next] = config ? *config : (struct crash_config){0};
    atomic_store(&place->current, next);
}

void crash_catch_config(const struct crash_config *config) {
    change(&catch.config, config);
}

void crash_catch_building(const struct crash_config *config) {
    change(&catch.building, config);
}
