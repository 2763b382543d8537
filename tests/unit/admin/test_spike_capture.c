/* spike_capture.c: from totals of cycles to files, lines of the log and stats. What `go tool pprof` makes of
 * the files is tests/e2e/test_heap_spike.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <unistd.h>
#include <zlib.h>

#include "admin/spike_capture.h"
#include "base/log.h"

#define MIB (1LL << 20)

/* ---- A heap profile of one site ---- */

static struct {
    uint64_t cycles[8]; /* that were read */
    unsigned count;
    int err;
} readings;

static int read_cycle(uint64_t cycle, heap_site_fn fn, void *arg, struct heap_reading *reading) {
    readings.cycles[readings.count++ % 8] = cycle;
    if (readings.err < 0)
        return readings.err;
    const uintptr_t pcs[] = {0x1001, 0x2001};
    const struct heap_site site = {
        .pcs = pcs, .depth = 2, .live = {(int64_t)cycle, (int64_t)cycle * MIB}};
    fn(arg, &site);
    *reading = (struct heap_reading){.rate = 1, .cycle = cycle, .closed_ns = 1};
    return 0;
}

/* ---- One test's ---- */

static char home[64], dir_path[80], log_path[80];
static struct spike_capture capture;
static uint64_t cycle;
static int64_t now_ns;

static void start_with(const char *rule_text) {
    struct spike_rule rule = spike_rule_default();
    assert_null(spike_rule_parse(rule_text, &rule));
    assert_int_equal(spike_capture_init(&capture, &rule, dir_path, read_cycle), 0);
}

static int set_up(void **state) {
    snprintf(home, sizeof home, "/tmp/test_spike_capture.XXXXXX");
    if (!mkdtemp(home) || stats_init(1) != 0)
        return -1;
    snprintf(dir_path, sizeof dir_path, "%s/it's here", home);
    snprintf(log_path, sizeof log_path, "%s/log", home);
    memset(&readings, 0, sizeof readings);
    cycle = 0;
    now_ns = 1;
    stats_reset_counters();
    return log_open_file(log_path);
}

static int tear_down(void **state) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", home);
    return system(command);
}

static void close_cycle(int64_t live, int64_t allocated) {
    struct heap_totals totals = {
        .cycle = ++cycle, .live.bytes = live, .allocated_in_cycle.bytes = allocated};
    now_ns += HEAP_CYCLE_NS;
    spike_capture_cycle(&capture, &totals, now_ns);
}
static void steady(unsigned cycles) {
    for (unsigned i = 0; i < cycles; i++)
        close_cycle(100 * MIB, MIB);
}

static void assert_stats(int64_t spikes, int64_t written, int64_t errors) {
    assert_int_equal(stat_value(capture.spikes), spikes);
    assert_int_equal(stat_value(capture.profiles_written), written);
    assert_int_equal(stat_value(capture.write_errors), errors);
}

static void assert_log_has(const char *text) {
    static char log[65536];
    FILE *file = fopen(log_path, "r");
    assert_non_null(file);
    log[fread(log, 1, sizeof log - 1, file)] = '\0';
    fclose(file);
    if (!strstr(log, text))
        fail_msg("'%s' is not in the log:\n%s", text, log);
}

/* Strings of protobuf are in it as they are. */
static bool file_has(const char *name, const char *text) {
    char path[256];
    static char bytes[65536];
    snprintf(path, sizeof path, "%s/%s", dir_path, name);
    gzFile file = gzopen(path, "rb");
    assert_non_null(file);
    int len = gzread(file, bytes, sizeof bytes);
    gzclose(file);
    assert_true(len > 0);
    return memmem(bytes, (size_t)len, text, strlen(text)) != NULL;
}

/* ---- Stories ---- */

static void test_a_spike_is_written_and_told(void **state) {
    start_with("cooldown=1m");
    steady(12);
    assert_stats(0, 0, 0);
    assert_int_equal(readings.count, 0); /* nothing is read for nothing */
    close_cycle(200 * MIB, MIB);
    assert_stats(1, 2, 0);
    assert_int_equal(readings.count, 2);
    assert_int_equal(readings.cycles[0], 12);
    assert_int_equal(readings.cycles[1], 13);

    struct stamped_set *pairs;
    assert_int_equal(stamped_dir_list(&capture.dir, &pairs), 1);
    static const char story[] =
        "live memory rose from 100.0 MiB to 200.0 MiB in cycle 13, 1.8 times "
        "the average of 110.0 MiB";
    assert_true(file_has(pairs[0].names[SPIKE_BEFORE], story)); /* go tool pprof -comments */
    assert_true(file_has(pairs[0].names[SPIKE_AFTER], story));
    assert_log_has(story);
    assert_log_has(pairs[0].names[SPIKE_BEFORE]);
    assert_log_has(pairs[0].names[SPIKE_AFTER]);
    /* To paste as it is: a shell sees two paths. */
    struct text command = {0};
    spike_put_command(&command, &capture.dir, &pairs[0]);
    text_putc(&command, '\0');
    assert_log_has(command.data);
    char expected[512];
    snprintf(expected, sizeof expected,
             "go tool pprof -base '%s/it'\\''s here/%s' '%s/it'\\''s here/%s'", home,
             pairs[0].names[SPIKE_BEFORE], home, pairs[0].names[SPIKE_AFTER]);
    assert_string_equal(command.data, expected);
    text_fini(&command);
    free(pairs);

    close_cycle(400 * MIB, MIB);
    close_cycle(800 * MIB, MIB); /* it cools down */
    assert_stats(1, 2, 0);
}

static void test_garbage_says_that_it_is(void **state) {
    start_with("garbage=64MiB");
    steady(12);
    close_cycle(100 * MIB, 4096 * MIB);
    assert_stats(1, 2, 0);
    assert_log_has("what a cycle allocates rose from 1.0 MiB to 4.0 GiB in cycle 13");
}

static void test_what_cannot_be_written_is_told_and_counted(void **state) {
    start_with("cooldown=0s");
    steady(12);
    assert_int_equal(rmdir(dir_path), 0);
    FILE *file = fopen(dir_path, "w"); /* a file is in the way */
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    close_cycle(200 * MIB, MIB);
    assert_stats(1, 0, 1);
    assert_log_has("Not a directory: name another folder (--heap-spike-dir)");
    /* And once it is gone, the next one is captured. */
    assert_int_equal(unlink(dir_path), 0);
    steady(12);
    close_cycle(200 * MIB, MIB);
    assert_stats(2, 2, 1);
}

static void test_what_cannot_be_read_is_told_and_counted(void **state) {
    start_with("cooldown=0s");
    steady(12);
    readings.err = -ENOMEM;
    close_cycle(200 * MIB, MIB);
    assert_stats(1, 0, 1);
    assert_log_has("memory is short");
    struct stamped_set *pairs;
    assert_int_equal(stamped_dir_list(&capture.dir, &pairs), 0);
    free(pairs);
}

static void test_a_folder_that_cannot_be_is_refused_at_once(void **state) {
    struct spike_rule rule = spike_rule_default();
    assert_int_equal(spike_capture_init(&capture, &rule, "/proc/none", read_cycle), -ENOENT);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        STORY(test_a_spike_is_written_and_told),
        STORY(test_garbage_says_that_it_is),
        STORY(test_what_cannot_be_written_is_told_and_counted),
        STORY(test_what_cannot_be_read_is_told_and_counted),
        STORY(test_a_folder_that_cannot_be_is_refused_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
