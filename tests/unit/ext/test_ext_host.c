/* ext_host.c with host processes that misbehave in every way, and what the two say to each other. This program
 * is its own host process: it is started again with --ext-host, and FAKE_HOST says how it is to be. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "ext/host/ext_host.h"
#include "ext/host/ext_host_inbox.h"

/* ---- the host process ---- */

static void flood(void) {
    static char line[1024];
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\n';
    printf("the first line\n");
    for (int i = 0; i < 1024; i++)
        fwrite(line, 1, sizeof(line), stdout);
    fprintf(stdout, "the last line\n");
    fflush(stdout);
}

static size_t open_fds(void) {
    size_t count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void serve(const struct ext_host_message *request) {
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    struct ext_host_message answer = {
        .kind = EXT_HOST_ANSWER,
        .numbers = {request->numbers[0] + 1, open_fds(), sigismember(&mask, SIGUSR1)},
        .texts = {request->texts[1], request->texts[0]},
    };
    size_t size;
    char *bytes = ext_host_encode(&answer, &size);
    for (size_t sent = 0; bytes && sent < size;) {
        ssize_t n = write(EXT_HOST_FD, bytes + sent, size - sent);
        if (n <= 0)
            _exit(9);
        sent += (size_t)n;
    }
    free(bytes);
}

/* Keeps the first of the descriptors that come with a request, and writes to it. */
static void take_one(const struct ext_host_message *request) {
    if (request->fd_count == 0)
        return;
    int kept = request->fds[0];
    request->fds[0] = -1;
    if (write(kept, "taken", 5) != 5)
        _exit(9);
}

static void tell_who(int signal) {
    char name[16] = "";
    (void)prctl(PR_GET_NAME, name); /* its room is what the kernel needs */
    (void)!write(STDERR_FILENO, name, strlen(name));
    _exit(2);
}

static pthread_barrier_t is_there;

static void *wait_for_ever(void *name) {
    (void)pthread_setname_np(pthread_self(), name);
    (void)pthread_barrier_wait(&is_there);
    for (;;)
        pause();
    return NULL;
}

static void *compute_first(void *name) {
    struct timespec time = {0};
    while (time.tv_nsec < 100 * NS_PER_MS)
        (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return wait_for_ever(name);
}

/* One thread has computed, and waits now as the others do, of which one is older and one younger. */
static void wait_in_threads(void) {
    static void *(*const fns[])(void *) = {wait_for_ever, compute_first, wait_for_ever};
    static char names[][16] = {"idle", "has computed", "idle"};
    pthread_t thread;
    (void)signal(SIGSEGV, tell_who);
    (void)pthread_barrier_init(&is_there, NULL, 4);
    for (size_t i = 0; i < 3; i++)
        if (pthread_create(&thread, NULL, fns[i], names[i]) != 0)
            _exit(9);
    (void)pthread_barrier_wait(&is_there);
}

static int fake_host(const char *how) {
    struct ext_host_inbox inbox = {0};
    struct ext_host_message request;
    while (ext_host_inbox_next(&inbox, &request)) {
        if (strcmp(how, "dies") == 0)
            _exit(7);
        if (strcmp(how, "stuck") == 0)
            for (;;)
                pause();
        if (strcmp(how, "floods") == 0)
            flood();
        if (strcmp(how, "computes") == 0)
            wait_in_threads();
        if (strcmp(how, "babbles") == 0) {
            static const char babble[] =
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: never and a day\r\n\r\n";
            if (write(EXT_HOST_FD, babble, sizeof(babble)) < 0)
                _exit(9);
            for (;;)
                pause();
        }
        take_one(&request);
        serve(&request);
    }
    ext_host_inbox_fini(&inbox);
    return 0;
}

/* ---- the parent ---- */

enum { LONG_S = 60 };

static struct ext_host *start(const char *how) {
    char entry[64];
    (void)snprintf(entry, sizeof(entry), "FAKE_HOST=%s", how);
    const char *const environment[] = {entry, NULL};
    struct ext_host *host;
    assert_int_equal(ext_host_start(&(struct ext_host_options){.environment = environment}, &host),
                     0);
    return host;
}

static int call(struct ext_host *host, struct span text, int64_t timeout_ns,
                struct ext_host_message *answer) {
    const struct ext_host_message request = {
        .kind = EXT_HOST_GO_NEW, .numbers = {41}, .texts = {SPAN_LIT("name"), text}};
    return ext_host_call(host, &request, answer, clock_mono_ns() + timeout_ns);
}

static void requests_are_answered_in_turn(void **state) {
    struct ext_host *host = start("answers");
    struct ext_host_message answer;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(call(host, SPAN_LIT("text"), LONG_S * NS_PER_S, &answer), 0);
        assert_int_equal(answer.numbers[0], 42);
        assert_true(span_eq(answer.texts[0], SPAN_LIT("text")));
        assert_true(span_eq(answer.texts[1], SPAN_LIT("name")));
        assert_int_equal(answer.texts[2].len, 0);
    }
    size_t large = 20 << 20; /* more than a socket's buffers, both ways at once */
    char *bytes = calloc(1, large);
    assert_int_equal(call(host, span_make(bytes, large), LONG_S * NS_PER_S, &answer), 0);
    assert_int_equal(answer.texts[0].len, large);
    free(bytes);
    ext_host_end(host, EXT_HOST_ASK);
    assert_true(WIFEXITED(ext_host_status(host)) && WEXITSTATUS(ext_host_status(host)) == 0);
    ext_host_free(host);
}

static void it_inherits_its_socket_and_streams_alone(void **state) {
    int fds[2];
    assert_int_equal(pipe(fds), 0); /* not close-on-exec */
    sigset_t mask, before;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_BLOCK, &mask, &before);
    struct ext_host *host = start("answers");
    sigprocmask(SIG_SETMASK, &before, NULL);
    struct ext_host_message answer;
    assert_int_equal(call(host, SPAN_LIT(""), LONG_S * NS_PER_S, &answer), 0);
    assert_int_equal(answer.numbers[1], 4);
    assert_int_equal(answer.numbers[2], 0); /* no signal is blocked */
    ext_host_free(host);
    close(fds[0]);
    close(fds[1]);
}

/* A thousand times more bytes than one read takes: the descriptors come with the first. Those that it does not
 * keep are closed. */
static void descriptors_travel_with_a_request(void **state) {
    enum { SENT = 3 };
    int fds[2], sent[SENT];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    for (int i = 0; i < SENT; i++)
        sent[i] = fds[1];
    struct ext_host *host = start("answers");
    size_t large = 4 << 20;
    char *bytes = calloc(1, large);
    struct ext_host_message request = {.kind = EXT_HOST_GO_NEW,
                                       .texts = {SPAN_LIT(""), span_make(bytes, large)},
                                       .fds = sent,
                                       .fd_count = SENT};
    struct ext_host_message answer;
    int64_t deadline_ns = clock_mono_ns() + LONG_S * NS_PER_S;
    assert_int_equal(ext_host_call(host, &request, &answer, deadline_ns), 0);
    assert_int_equal(answer.numbers[1], 4 + SENT);
    char taken[8];
    assert_int_equal(read(fds[0], taken, sizeof(taken)), 5);
    assert_int_equal(call(host, SPAN_LIT(""), LONG_S * NS_PER_S, &answer), 0);
    assert_int_equal(answer.numbers[1], 4 + 1); /* the one it kept */
    ext_host_end(host, EXT_HOST_ASK);
    assert_int_equal(ext_host_status(host), 0);
    ext_host_free(host);
    close(fds[1]);
    assert_int_equal(read(fds[0], taken, sizeof(taken)), 0); /* nobody has it any more */
    close(fds[0]);
    free(bytes);
}

static void one_that_dies_is_told_with_its_status(void **state) {
    struct ext_host *host = start("dies");
    struct ext_host_message answer;
    assert_int_equal(call(host, SPAN_LIT("x"), LONG_S * NS_PER_S, &answer), -EPIPE);
    ext_host_end(host, EXT_HOST_ASK);
    assert_int_equal(WEXITSTATUS(ext_host_status(host)), 7);
    assert_int_equal(call(host, SPAN_LIT("x"), LONG_S * NS_PER_S, &answer), -EPIPE);
    ext_host_free(host);
}

static void one_that_is_stuck_is_killed(void **state) {
    struct ext_host *host = start("stuck");
    struct ext_host_message answer;
    assert_int_equal(call(host, SPAN_LIT("x"), 50 * NS_PER_MS, &answer), -ETIMEDOUT);
    ext_host_end(host, EXT_HOST_DUMP); /* it has no Go runtime to ask */
    assert_true(WIFSIGNALED(ext_host_status(host)));
    assert_int_equal(WTERMSIG(ext_host_status(host)), SIGKILL);
    ext_host_free(host);
}

/* Go takes the processor away from a goroutine that computes now and then. */
static void who_has_computed_is_asked_where_it_is(void **state) {
    struct ext_host *host = start("computes");
    struct ext_host_message answer;
    assert_int_equal(call(host, SPAN_LIT("x"), LONG_S * NS_PER_S, &answer), 0);
    ext_host_end(host, EXT_HOST_DUMP);
    assert_true(span_eq(ext_host_output(host), SPAN_LIT("has computed")));
    ext_host_free(host);
}

/* It prints more than a pipe holds before it answers. */
static void what_it_prints_never_blocks_it(void **state) {
    struct ext_host *host = start("floods");
    struct ext_host_message answer;
    assert_int_equal(call(host, SPAN_LIT("x"), LONG_S * NS_PER_S, &answer), 0);
    ext_host_end(host, EXT_HOST_ASK);
    struct span output = ext_host_output(host);
    assert_true(output.len > EXT_HOST_OUTPUT_MAX - 1);
    assert_true(output.len < EXT_HOST_OUTPUT_MAX + 100);
    assert_true(span_starts_with(output, SPAN_LIT("the first line\nxxx")));
    struct span end = span_from(output, output.len - 15);
    assert_true(span_eq(end, SPAN_LIT("\nthe last line\n")));
    assert_non_null(memmem(output.ptr, output.len, "bytes left out]", 15));
    ext_host_free(host);
}

static void one_that_talks_nonsense_is_not_believed(void **state) {
    struct ext_host *host = start("babbles");
    struct ext_host_message answer;
    assert_int_equal(call(host, SPAN_LIT("x"), LONG_S * NS_PER_S, &answer), -EPROTO);
    ext_host_end(host, EXT_HOST_KILL);
    ext_host_free(host);
}

static void a_message_is_read_byte_by_byte(void **state) {
    const struct ext_host_message message = {
        .kind = EXT_HOST_GO_MERGE,
        .numbers = {1, 2, 3, UINT64_MAX},
        .texts = {SPAN_LIT("one"), span_none(), SPAN_LIT(""), SPAN_LIT("four")}};
    size_t size, wanted;
    char *bytes = ext_host_encode(&message, &size);
    struct ext_host_message out;
    for (size_t len = 0; len < size; len++) {
        char *part = malloc(len ? len : 1); /* a step beyond is caught */
        memcpy(part, bytes, len);
        assert_int_equal(ext_host_decode(span_make(part, len), &out, &wanted), -EAGAIN);
        assert_true(wanted == 0 || wanted == size);
        free(part);
    }
    assert_int_equal(ext_host_decode(span_make(bytes, size), &out, &wanted), 0);
    assert_int_equal(out.kind, EXT_HOST_GO_MERGE);
    assert_memory_equal(out.numbers, message.numbers, sizeof(out.numbers));
    assert_true(span_eq(out.texts[3], SPAN_LIT("four")));
    memset(bytes + size - 7 - 16, 0xff, 4); /* the first text's length */
    assert_int_equal(ext_host_decode(span_make(bytes, size), &out, &wanted), -EPROTO);
    free(bytes);
    const struct ext_host_message huge = {
        .texts = {span_make("", EXT_HOST_MESSAGE_MAX)}}; /* refused before it is read */
    assert_null(ext_host_encode(&huge, &size));
}

int main(int argc, char **argv) {
    if (ext_host_is_asked(argc, argv))
        return fake_host(getenv("FAKE_HOST"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_answered_in_turn),
        cmocka_unit_test(it_inherits_its_socket_and_streams_alone),
        cmocka_unit_test(descriptors_travel_with_a_request),
        cmocka_unit_test(one_that_dies_is_told_with_its_status),
        cmocka_unit_test(one_that_is_stuck_is_killed),
        cmocka_unit_test(who_has_computed_is_asked_where_it_is),
        cmocka_unit_test(what_it_prints_never_blocks_it),
        cmocka_unit_test(one_that_talks_nonsense_is_not_believed),
        cmocka_unit_test(a_message_is_read_byte_by_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
