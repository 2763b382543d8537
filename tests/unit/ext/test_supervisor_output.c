/* supervisor_output.c: what a process prints, as it stands in our log. Time is told to it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "ext/remote/supervisor_output.h"

static int log_fd;
static struct supervisor_output output;

static int begin(void **state) {
    char path[64];
    log_fd = memfd_create("log", MFD_CLOEXEC);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", log_fd);
    assert_int_equal(log_open_file(path), 0);
    supervisor_output_init(&output, SPAN_LIT("payments"), 0);
    return 0;
}

static int end(void **state) {
    return close(log_fd);
}

/* "[level][component] text" of all lines, without when and who. Owned. */
static char *logged(void) {
    size_t size = (size_t)lseek(log_fd, 0, SEEK_END);
    char *all = calloc(1, size + 1), *out = all;
    assert_int_equal(pread(log_fd, all, size, 0), (ssize_t)size);
    for (char *line = all; *line;) {
        char *next = strchr(line, '\n') + 1;
        char *from = strchr(strchr(line, ']') + 1, ']') + 1;
        memmove(out, from, (size_t)(next - from));
        out += next - from;
        line = next;
    }
    *out = '\0';
    return all;
}

static void assert_logged(const char *wanted) {
    char *all = logged();
    assert_string_equal(all, wanted);
    free(all);
}

static size_t count_lines(void) {
    size_t count = 0;
    char *all = logged();
    for (const char *at = all; *at; at++)
        count += *at == '\n';
    free(all);
    return count;
}

static void take(const char *text, int64_t now_ns) {
    supervisor_output_take(&output, span_of(text), now_ns);
}

static void a_line_there_is_a_line_here(void **state) {
    take("panic: no such host\n\ngorou", 0);
    assert_logged(
        "[info][isolation] payments: panic: no such host\n[info][isolation] payments: \n");
    take("tine 1 [running]:\nma", 0);
    supervisor_output_end(&output, 0); /* it died in the middle of a line */
    assert_logged("[info][isolation] payments: panic: no such host\n"
                  "[info][isolation] payments: \n"
                  "[info][isolation] payments: goroutine 1 [running]:\n"
                  "[info][isolation] payments: ma\n");
}

/* It is this executable as well: its lines keep their level and their component, if we have that. */
static void our_own_lines_keep_their_level(void **state) {
    take("[2026-01-31 12:00:00.123][77][error][isolation] lost [1]\n", 0);
    take("[2026-01-31 12:00:00.123][77][debug][isolation] not shown\n", 0);
    take("[2026-01-31 12:00:00.123][77][error][nonsense] x\n", 0);
    take("[2026-01-31 12:00:00.123][x][error][isolation] x\n", 0);
    take("[2026-01-31 12:00:00.123][77][error][isolation]x\n", 0);
    take("[off\n[][][][]\n[a][1][off][isolation] x\n", 0);
    assert_logged("[error][isolation] payments: lost [1]\n"
                  "[info][isolation] payments: [2026-01-31 12:00:00.123][77][error][nonsense] x\n"
                  "[info][isolation] payments: [2026-01-31 12:00:00.123][x][error][isolation] x\n"
                  "[info][isolation] payments: [2026-01-31 12:00:00.123][77][error][isolation]x\n"
                  "[info][isolation] payments: [off\n"
                  "[info][isolation] payments: [][][][]\n"
                  "[info][isolation] payments: [a][1][off][isolation] x\n");
}

static void a_long_line_comes_in_parts(void **state) {
    char *text = malloc(2 * SUPERVISOR_OUTPUT_LINE_MAX + 4);
    memset(text, 'x', 2 * SUPERVISOR_OUTPUT_LINE_MAX);
    memcpy(text + 2 * SUPERVISOR_OUTPUT_LINE_MAX, "y\nz", 4);
    take(text, 0);
    free(text);
    assert_int_equal(count_lines(), 3);
    supervisor_output_end(&output, 0);
    assert_int_equal(count_lines(), 4);
}

static void a_flood_is_cut_and_said_to_be(void **state) {
    enum { MORE = 50 };
    for (int i = 0; i < SUPERVISOR_OUTPUT_BURST + MORE; i++)
        take("again\n", 0);
    assert_int_equal(count_lines(), SUPERVISOR_OUTPUT_BURST);
    assert_int_equal(output.left_out, MORE);
    take("after a while\n", NS_PER_S / SUPERVISOR_OUTPUT_PER_S);
    take("too soon\n", NS_PER_S / SUPERVISOR_OUTPUT_PER_S + 1);
    assert_int_equal(count_lines(), SUPERVISOR_OUTPUT_BURST + 2);
    char *all = logged();
    assert_non_null(strstr(all,
                           "[warning][isolation] payments: 50 lines of its output were left out\n"
                           "[info][isolation] payments: after a while\n"));
    free(all);
    supervisor_output_end(&output, 0); /* the end itself is said in any case */
    assert_int_equal(count_lines(), SUPERVISOR_OUTPUT_BURST + 3);
    assert_int_equal(output.left_out_in_all, MORE + 1);
    for (int i = 0; i < SUPERVISOR_OUTPUT_BURST + MORE; i++) /* a day later */
        take("again\n", 86400 * NS_PER_S);
    assert_int_equal(count_lines(), 2 * SUPERVISOR_OUTPUT_BURST + 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_line_there_is_a_line_here, begin, end),
        cmocka_unit_test_setup_teardown(our_own_lines_keep_their_level, begin, end),
        cmocka_unit_test_setup_teardown(a_long_line_comes_in_parts, begin, end),
        cmocka_unit_test_setup_teardown(a_flood_is_cut_and_said_to_be, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
