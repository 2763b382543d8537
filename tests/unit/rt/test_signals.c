/* signals.c and crash.c: who hears of a signal, and what is said about a fault. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "rt/backtrace.h"
#include "rt/crash.h"
#include "rt/foreign.h"
#include "rt/labels.h"
#include "rt/signals.h"
#include "crash_story.h"
#include "rt_story.h"

/* ---- SIGURG ---- */

static _Atomic int first_heard, second_heard;
static _Atomic bool second_got_info;

static void first_library(int signo) {
    atomic_fetch_add(&first_heard, signo == SIGURG);
}

static void second_library(int signo, siginfo_t *info, void *context) {
    atomic_fetch_add(&second_heard, signo == SIGURG);
    if (info->si_pid == getpid() && context)
        atomic_store(&second_got_info, true);
}

static void install_first(void) {
    struct sigaction action = {.sa_handler = first_library, .sa_flags = SA_ONSTACK | SA_RESTART};
    CHECK(sigaction(SIGURG, &action, NULL) == 0);
}

static void install_second(void) {
    struct sigaction action = {.sa_sigaction = second_library,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    CHECK(sigaction(SIGURG, &action, NULL) == 0);
}

static void in_child(void (*body)(void)) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        body();
        exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void two_libraries(void) {
    CHECK(signals_init() == 0);
    install_first();
    CHECK(signals_after_dlopen() == 0);
    raise(SIGURG);
    CHECK(first_heard == 1);
    install_second();
    raise(SIGURG);
    CHECK(first_heard == 1); /* swallowed by the second one, */
    CHECK(second_heard == 1);
    CHECK(signals_after_dlopen() == 0);
    CHECK(first_heard == 2); /* and made up for: the first one may be waiting for it */
    CHECK(signals_after_dlopen() == 0);
    int second_before = second_heard;
    raise(SIGURG);
    CHECK(first_heard == 3);
    CHECK(second_heard == second_before + 1);
    CHECK(second_got_info);
    install_first(); /* the first one again: still called once per signal */
    CHECK(signals_after_dlopen() == 0);
    int first_before = first_heard;
    raise(SIGURG);
    CHECK(first_heard == first_before + 1);
}

static void each_library_hears_every_sigurg(void **state) {
    in_child(two_libraries);
}

static void sigpipe_is_ignored(void) {
    CHECK(signals_init() == 0);
    int fds[2];
    CHECK(pipe(fds) == 0);
    close(fds[0]);
    CHECK(write(fds[1], "x", 1) == -1);
    CHECK(errno == EPIPE);
}

static struct sigaction found_by_starter;
static _Atomic int starter_heard;

/* As a Go runtime before its start is complete: it passes the signal on to what it found. */
static void starting_library(int signo, siginfo_t *info, void *context) {
    CHECK(atomic_fetch_add(&starter_heard, 1) < 100);
    found_by_starter.sa_sigaction(signo, info, context);
}

static void a_starting_library(void) {
    CHECK(signals_init() == 0);
    install_first();
    CHECK(signals_after_dlopen() == 0);
    struct sigaction action = {.sa_sigaction = starting_library,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    CHECK(sigaction(SIGURG, &action, &found_by_starter) == 0);
    raise(SIGURG); /* not taken back yet */
    CHECK(starter_heard == 1);
    CHECK(first_heard == 1);
    CHECK(signals_after_dlopen() == 0);
    int before = first_heard;
    raise(SIGURG);
    CHECK(starter_heard >= 2);
    CHECK(first_heard == before + 1);
}

static void a_library_that_forwards_to_us_is_not_called_in_circles(void **state) {
    in_child(a_starting_library);
}

static void a_closed_pipe_kills_nobody(void **state) {
    in_child(sigpipe_is_ignored);
}

/* ---- Signals that start coroutines ---- */

static int terms, hups;

static void on_term(void *arg) {
    CHECK(rt_p_index() == 0);
    CHECK(rt_self() != NULL);
    CHECK(strcmp(arg, "term") == 0);
    terms++;
}

static void on_hup(void *arg) {
    hups++;
}

static void *kills_itself(void *arg) {
    /* It lands on a thread that the runtime never made, and the owner's handler takes it. */
    pthread_kill(pthread_self(), SIGTERM); /* NOLINT(bugprone-bad-signal-to-kill-thread) */
    return NULL;
}

static volatile sig_atomic_t stolen;

static void stolen_by_library(int signo) {
    stolen = 1;
}

static void watch_story(void *arg) {
    static char term[] = "term";
    CHECK(signals_init() == 0);
    CHECK(signals_on(SIGTERM, "on SIGTERM", on_term, term) == 0);
    CHECK(signals_on(SIGHUP, "on SIGHUP", on_hup, NULL) == 0);
    kill(getpid(), SIGTERM);
    STORY_AWAIT(terms == 1);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, kills_itself, NULL) == 0);
    STORY_AWAIT(terms == 2);
    pthread_join(thread, NULL);
    CHECK(hups == 0);
    CHECK(signal(SIGTERM, stolen_by_library) != SIG_ERR);
    CHECK(signals_after_dlopen() == 0);
    kill(getpid(), SIGTERM);
    STORY_AWAIT(terms == 3);
    kill(getpid(), SIGHUP);
    STORY_AWAIT(hups == 1);
    CHECK(!stolen);
    rt_stop(0);
}

static void a_signal_becomes_a_coroutine_on_p_0(void **state) {
    story(1, watch_story);
    story(2, watch_story);
}

/* ---- Crashes ---- */

static char *page_without_access(void) {
    return mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void wild_write(void *arg) {
    *page_without_access() = 1;
}

static void a_fault_says_where(void **state) {
    assert_died(crash_status(wild_write), SIGSEGV);
    assert_said("got SIGSEGV at address 0x");
    assert_said("in coroutine main");
    assert_said("registers: ");
}

static void foreign_body(void *arg) {
    foreign_call(wild_write, NULL);
}

static void a_fault_of_foreign_code_names_its_caller(void **state) {
    assert_died(crash_status(foreign_body), SIGSEGV);
    assert_said("in foreign code called by coroutine main");
}

static void assertion_body(void *arg) {
    ASSERT(!"told so");
}

static void a_failed_assertion_leaves_a_backtrace(void **state) {
    assert_died(crash_status(assertion_body), SIGABRT);
    assert_said("assertion failed: !\"told so\"");
    assert_said("got SIGABRT, in coroutine main");
}

/* ---- A report ---- */

static bool says_what_it_is_told(const struct crash *crash) {
    fprintf(stderr, "reporter: signal %d %s %s", crash->signo, crash->place, crash->coroutine);
    for (unsigned i = 0; i < crash->label_count; i++)
        fprintf(stderr, " %s=%s", crash->labels[i].key, crash->labels[i].value);
    fprintf(stderr, "\n%s", crash->told);
    return true;
}

static size_t tells_which(const struct labels_describer *self, char *out, size_t max) {
    return (size_t)snprintf(out, max, "request %s\n", "GET /a");
}

static unsigned describes_nothing(const struct labels_describer *self, struct label *out,
                                  unsigned max) {
    return 0;
}

static const struct labels_describer teller = {.describe = describes_nothing, .tell = tells_which};

static void reported_body(void *arg) {
    CHECK(crash_set_reporter(says_what_it_is_told) == 0);
    const struct label label = {"route", "api"};
    labels_describe_by(&teller);
    labels_do(&label, 1, wild_write, NULL);
}

static void a_reporter_is_told_and_no_backtrace_printed(void **state) {
    assert_died(crash_status(reported_body), SIGSEGV);
    char words[96];
    snprintf(words, sizeof words,
             "reporter: signal %d in coroutine main route=api\nrequest GET /a\n", SIGSEGV);
    assert_said(words);
    assert_null(strstr(crash_text, "[0x"));
}

static bool cannot(const struct crash *crash) {
    return false;
}

static void trap_body(void *arg) {
    CHECK(crash_set_reporter(cannot) == 0);
    (void)raise(SIGTRAP);
}

static void without_a_report_there_is_a_backtrace(void **state) {
    assert_died(crash_status(trap_body), SIGTRAP);
    assert_said("got SIGTRAP, in coroutine main");
    assert_said("[0x");
}

static bool faults_itself(const struct crash *crash) {
    wild_write(NULL);
    return true;
}

static void faulty_reporter_body(void *arg) {
    CHECK(crash_set_reporter(faults_itself) == 0);
    (void)raise(SIGABRT);
}

/* The second fault is the one that it dies of. */
static void a_report_that_faults_is_the_end(void **state) {
    assert_died(crash_status(faulty_reporter_body), SIGSEGV);
    assert_said("got SIGABRT, in coroutine main");
}

/* As when CRASH_PATIENCE_S is over. */
static bool never_ends(const struct crash *crash) {
    (void)raise(SIGALRM);
    return true;
}

static void patience_body(void *arg) {
    CHECK(crash_set_reporter(never_ends) == 0);
    (void)raise(SIGABRT);
}

static void a_report_that_never_ends_is_not_waited_for(void **state) {
    assert_died(crash_status(patience_body), SIGABRT);
    assert_said("the report takes too long");
}

static void put_thread(pid_t tid, const struct backtrace *backtrace, void *arg) {
    fprintf(stderr, "%s %s in %u frames\n", backtrace->name ? backtrace->name : "no coroutine",
            backtrace->where == BACKTRACE_RUNNING ? "runs" : "waits", backtrace->count);
    if (*backtrace->told)
        fprintf(stderr, "it tells %s", backtrace->told);
}

static bool asks_others(const struct crash *crash) {
    crash_each_thread(put_thread, NULL);
    return true;
}

static _Atomic bool is_away;

static void stays_away(void *arg) {
    is_away = true;
    for (;;)
        pause();
}

static void is_foreign(void *arg) {
    labels_describe_by(&teller);
    foreign_call(stays_away, NULL);
}

static void others_body(void *arg) {
    CHECK(crash_set_reporter(asks_others) == 0);
    CHECK(go("it is away", is_foreign, NULL) == 0);
    while (!is_away)
        rt_yield();
    (void)raise(SIGABRT);
}

static void the_other_threads_say_what_they_do(void **state) {
    assert_died(crash_status(others_body), SIGABRT);
    assert_said("it is away waits in ");
    assert_said("it tells request GET /a");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reporter_is_told_and_no_backtrace_printed),
        cmocka_unit_test(without_a_report_there_is_a_backtrace),
        cmocka_unit_test(a_report_that_faults_is_the_end),
        cmocka_unit_test(a_report_that_never_ends_is_not_waited_for),
        cmocka_unit_test(the_other_threads_say_what_they_do),
        cmocka_unit_test(each_library_hears_every_sigurg),
        cmocka_unit_test(a_library_that_forwards_to_us_is_not_called_in_circles),
        cmocka_unit_test(a_closed_pipe_kills_nobody),
        cmocka_unit_test(a_signal_becomes_a_coroutine_on_p_0),
        cmocka_unit_test(a_fault_says_where),
        cmocka_unit_test(a_fault_of_foreign_code_names_its_caller),
        cmocka_unit_test(a_failed_assertion_leaves_a_backtrace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
