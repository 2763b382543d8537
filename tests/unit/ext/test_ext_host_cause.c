/* ext_host_cause.c: what is told of a process that ended, out of what it printed. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "ext/host/ext_host_cause.h"

static const int exit_2 = 2 << 8, exit_3 = 3 << 8;

static void says(const char *output, int status, int64_t stuck_ms, const char *wanted) {
    char *copy = strdup(output); /* a step beyond is caught */
    char *text = ext_host_cause(span_make(copy, strlen(output)), status, stuck_ms);
    assert_string_equal(text, wanted);
    free(text);
    free(copy);
}

static void a_panic_is_its_line_and_its_goroutine(void **state) {
    says("starting\n"
         "panic: something that was recovered\n"
         "panic: no such host\n\n"
         "goroutine 1 [running, locked to thread]:\n"
         "main.init.0()\n\t/src/f.go:12 +0x1d\n\n"
         "goroutine 5 [select]:\nother.work()\n\t/src/o.go:1 +0x1\n",
         exit_2, 0,
         "panicked\n    panic: no such host\n    goroutine 1 [running, locked to thread]:\n"
         "    main.init.0()\n    \t/src/f.go:12 +0x1d");
}

static void a_crash_in_c_has_no_frames_of_the_runtime(void **state) {
    says("SIGSEGV: segmentation violation\nPC=0x1 m=0 sigcode=1 addr=0x8\n"
         "signal arrived during cgo execution\n\n"
         "goroutine 1 gp=0xc0 m=0 mp=0x7f [syscall, locked to thread]:\n"
         "runtime.cgocall(0x1, 0x2)\n\t/go/cgocall.go:1 +0x4 fp=0x1 sp=0x2 pc=0x3\n"
         "main.crash()\n\t/src/f.go:3 +0x5 fp=0x4 sp=0x5 pc=0x6\n",
         SIGQUIT, 0,
         "crashed\n    SIGSEGV: segmentation violation\n    PC=0x1 m=0 sigcode=1 addr=0x8\n"
         "    signal arrived during cgo execution\n    goroutine 1 [syscall, locked to thread]:\n"
         "    main.crash()\n    \t/src/f.go:3 +0x5");
    says("fatal error: concurrent map writes\n\nruntime stack:\nruntime.throw()\n\n"
         "goroutine 7 [running]:\nmain.f()\n",
         exit_2, 0,
         "crashed\n    fatal error: concurrent map writes\n    goroutine 7 [running]:\n"
         "    main.f()");
}

static void of_a_stuck_one_the_goroutine_that_we_wait_for_is_shown(void **state) {
    static const char dump[] = "SIGSEGV: segmentation violation\nPC=0x1\n\n"
                               "goroutine 0 gp=0x1 m=3 mp=0x2 [idle]:\nruntime.futex()\n\n"
                               "goroutine 4 [sleep]:\nother.ticks()\n\n"
                               "goroutine 1 [select (no cases)]:\nmain.init.1()\n"
                               "runtime.doInit1(0x1)\n\n";
    says(dump, SIGABRT, 1500,
         "gave no answer within 1.5 s\n    goroutine 1 [select (no cases)]:\n    main.init.1()");
    says("waiting for the database\n", SIGKILL, 2000, "gave no answer within 2 s");
}

static void an_exit_is_its_status_and_the_last_lines(void **state) {
    says("cannot read \x1b[31m/etc/x\n", exit_3, 0,
         "ended the process with exit status 3\n    cannot read ?[31m/etc/x");
    says("1\n2\n3\n4\n5\n6\n7\n8\n9\n", exit_3, 0,
         "ended the process with exit status 3\n    2\n    3\n    4\n    5\n    6\n    7\n    8\n"
         "    9");
    says("", SIGBUS, 0, "crashed by SIGBUS");
    says("", SIGKILL, 0, "was killed by SIGKILL, as the kernel does when memory is short");
}

static void a_crash_without_go_is_our_own_report_as_far_as_it_is_the_librarys(void **state) {
    static const char report[] = "hello\n\nsluice 0.1.0 got SIGSEGV at address 0x8, on a thread\n"
                                 "registers: rip=0x1\nsluice(+0x1)[0x11]\nsluice(+0x2)[0x12]\n"
                                 "/lib/libc.so.6(+0x3)[0x13]\n/lib/libc.so.6(memset+0x4)[0x14]\n"
                                 "/opt/f.so(+0x5)[0x15]\nsluice(+0x6)[0x16]\n"
                                 "/opt/f.so(+0x7)[0x17]\nsluice(+0x8)[0x18]\n"
                                 "/lib/libc.so.6(main+0x9)[0x19]\n";
    says(report, SIGSEGV, 0,
         "crashed by SIGSEGV\n    SIGSEGV at address 0x8\n    /lib/libc.so.6(memset+0x4)\n"
         "    /opt/f.so(+0x5)\n    sluice(+0x6)\n    /opt/f.so(+0x7)");
    says(report, SIGSEGV, 500,
         "gave no answer within 0.5 s\n    /lib/libc.so.6(memset+0x4)\n    /opt/f.so(+0x5)\n"
         "    sluice(+0x6)\n    /opt/f.so(+0x7)");
    says("\nsluice 0.1.0 got SIGABRT, in", SIGABRT, 0, "crashed by SIGABRT\n    SIGABRT");
}

static void length_is_bounded(void **state) {
    char output[40000] = "panic: deep\n\ngoroutine 1 [running]:\n";
    size_t len = strlen(output);
    while (len < sizeof(output) - 1) {
        output[len] = len % 1000 == 0 ? '\n' : 'x';
        len++;
    }
    char *text = ext_host_cause(span_make(output, len), exit_2, 0);
    assert_true(strlen(text) < (CAUSE_LINES_MAX + 2) * (CAUSE_LINE_BYTES_MAX + 10));
    assert_non_null(strstr(text, "\n    ..."));
    free(text);
}

static void whatever_was_printed_is_only_text(void **state) {
    static const char words[] = "goroutine 1 [a]:\n\npanic: SIG: fatal error:  gp=0x[ fp=0x\t\nx";
    unsigned seed = 3;
    for (int i = 0; i < 5000; i++) {
        size_t len = (size_t)rand_r(&seed) % 200;
        char *output = malloc(len ? len : 1);
        for (size_t k = 0; k < len; k++)
            output[k] = words[(size_t)rand_r(&seed) % 3 ? (k + (size_t)i) % (sizeof(words) - 1)
                                                        : (size_t)rand_r(&seed) % sizeof(words)];
        free(ext_host_cause(span_make(output, len), rand_r(&seed) % 2 ? exit_2 : SIGSEGV,
                            rand_r(&seed) % 2));
        free(output);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_panic_is_its_line_and_its_goroutine),
        cmocka_unit_test(a_crash_in_c_has_no_frames_of_the_runtime),
        cmocka_unit_test(of_a_stuck_one_the_goroutine_that_we_wait_for_is_shown),
        cmocka_unit_test(an_exit_is_its_status_and_the_last_lines),
        cmocka_unit_test(a_crash_without_go_is_our_own_report_as_far_as_it_is_the_librarys),
        cmocka_unit_test(length_is_bounded),
        cmocka_unit_test(whatever_was_printed_is_only_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
