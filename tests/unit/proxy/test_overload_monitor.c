/* overload_monitor.c: pressures from files and from what the process holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/overload_monitor.h"

static char path[] = "/tmp/sluice-pressure-XXXXXX";
static const struct memory_use nothing;

static int make_file(void **state) {
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
    return unlink(path);
}

static int measure(const char *text, double *pressure, const char **why) {
    const struct overload_monitor monitor = {.kind = MONITOR_FILE, .path = path};
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    return overload_monitor_measure(&monitor, &nothing, pressure, why);
}

static void a_file_says_a_number(void **state) {
    static const struct {
        const char *text;
        double pressure;
    } cases[] = {{"0", 0}, {"1", 1}, {"0.5\n", 0.5}, {".25", .25}, {"1e-1 \r\n", 0.1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double pressure = -1;
        const char *why = NULL;
        assert_int_equal(measure(cases[i].text, &pressure, &why), 0);
        assert_true(pressure == cases[i].pressure);
    }
}

static void what_is_no_pressure_is_an_error(void **state) {
    static const struct {
        const char *text;
        int rc;
        const char *why;
    } cases[] = {
        {"", -EINVAL, "the file holds no number"},
        {"\n", -EINVAL, "the file holds no number"},
        {"half", -EINVAL, "the file holds no number"},
        {"0.5 or so", -EINVAL, "the file holds no number"},
        {"1.01", -ERANGE, "the number in the file is not within 0 and 1"},
        {"-0.1", -ERANGE, "the number in the file is not within 0 and 1"},
        {"nan", -ERANGE, "the number in the file is not within 0 and 1"},
        {"inf", -ERANGE, "the number in the file is not within 0 and 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double pressure = 42;
        const char *why = NULL;
        assert_int_equal(measure(cases[i].text, &pressure, &why), cases[i].rc);
        assert_string_equal(why, cases[i].why);
        assert_true(pressure == 42);
    }
    char nowhere[] = "/nonexistent";
    const struct overload_monitor absent = {.kind = MONITOR_FILE, .path = nowhere};
    double pressure;
    const char *why;
    assert_int_equal(overload_monitor_measure(&absent, &nothing, &pressure, &why), -ENOENT);
}

static void memory_is_told_in_parts_of_its_maximum(void **state) {
    const struct memory_use use = {.allocated = 30, .anonymous = 80, .physical = 1000};
    struct overload_monitor monitor = {.kind = MONITOR_FIXED_HEAP, .max_bytes = 40};
    double pressure;
    const char *why;
    assert_int_equal(overload_monitor_measure(&monitor, &use, &pressure, &why), 0);
    assert_true(pressure == 0.75);
    monitor.kind = MONITOR_ANONYMOUS;
    assert_int_equal(overload_monitor_measure(&monitor, &use, &pressure, &why), 0);
    assert_true(pressure == 2);
    assert_int_equal(overload_monitor_measure(&monitor, &nothing, &pressure, &why), -ENOENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_says_a_number),
        cmocka_unit_test(what_is_no_pressure_is_an_error),
        cmocka_unit_test(memory_is_told_in_parts_of_its_maximum),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
