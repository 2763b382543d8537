/* log.c: the line's form, levels, and files that are rotated under it. */
#include <errno.h>
#include <pthread.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

LOG_COMPONENT(red, "red");
LOG_COMPONENT(blue, "blue");

static char directory[] = "/tmp/sluice-log-XXXXXX";
static char path[128], rotated[128];
static char text[1 << 20];

static int open_log(void **state) {
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/log", directory);
    snprintf(rotated, sizeof rotated, "%s/log.1", directory);
    return log_open_file(path);
}

static int remove_log(void **state) {
    unlink(path);
    unlink(rotated);
    return rmdir(directory);
}

static void read_text(const char *from) {
    FILE *file = fopen(from, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
}

static int empty_log(void **state) {
    log_set_level(LOG_INFO);
    return truncate(path, 0);
}

static void a_line_looks_like_envoys(void **state) {
    LOG(log_red, LOG_WARN, "answer %d", 42);
    LOG(log_blue, LOG_INFO, "ends in newline\n");
    read_text(path);
    regex_t form;
    assert_int_equal(
        regcomp(&form,
                "^\\[[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}\\]"
                "\\[[0-9]+\\]\\[warning\\]\\[red\\] answer 42\n"
                "\\[.*\\]\\[info\\]\\[blue\\] ends in newline\n$",
                REG_EXTENDED | REG_NOSUB),
        0);
    assert_int_equal(regexec(&form, text, 0, NULL, 0), 0);
    regfree(&form);
}

static int evaluated;
static int evaluate(void) {
    return ++evaluated;
}

static void levels_are_per_component(void **state) {
    evaluated = 0;
    LOG(log_red, LOG_DEBUG, "hidden %d", evaluate());
    assert_int_equal(evaluated, 0);
    assert_true(log_set_component_level(SPAN_LIT("red"), LOG_DEBUG));
    assert_false(log_set_component_level(SPAN_LIT("nobody"), LOG_DEBUG));
    LOG(log_red, LOG_DEBUG, "shown %d", evaluate());
    LOG(log_blue, LOG_DEBUG, "hidden %d", evaluate());
    assert_int_equal(evaluated, 1);
    log_set_level(LOG_OFF);
    LOG(log_red, LOG_CRITICAL, "hidden %d", evaluate());
    assert_int_equal(evaluated, 1);
    read_text(path);
    assert_non_null(strstr(text, "shown 1\n"));
    assert_null(strstr(text, "hidden"));

    bool found_red = false;
    for (unsigned i = 0; log_component_at(i); i++)
        found_red |= log_component_at(i) == &log_red;
    assert_true(found_red);
}

static void level_names_are_envoys(void **state) {
    enum log_level level;
    for (int i = LOG_TRACE; i <= LOG_OFF; i++) {
        assert_true(log_level_parse(span_of(log_level_name((enum log_level)i)), &level));
        assert_int_equal(level, i);
    }
    assert_true(log_level_parse(SPAN_LIT("warn"), &level));
    assert_int_equal(level, LOG_WARN);
    assert_false(log_level_parse(SPAN_LIT("loud"), &level));
}

static void a_peer_cannot_forge_lines(void **state) {
    LOG(log_red, LOG_INFO, "a\rb\x1b[31mc\td");
    read_text(path);
    assert_non_null(strstr(text, "a?b?[31mc\td\n"));
}

static void a_long_line_is_cut(void **state) {
    char *longer = malloc(3 * LOG_LINE_MAX);
    memset(longer, 'x', 3 * LOG_LINE_MAX - 1);
    longer[3 * LOG_LINE_MAX - 1] = '\0';
    LOG(log_red, LOG_INFO, "%s", longer);
    LOG(log_red, LOG_INFO, "next");
    free(longer);
    read_text(path);
    char *newline = strchr(text, '\n');
    assert_non_null(newline);
    assert_true(newline - text < LOG_LINE_MAX);
    assert_non_null(strstr(newline, "next\n"));
}

static void *writes_lines(void *arg) {
    for (int i = 0; i < 500; i++)
        LOG(log_blue, LOG_INFO, "<%s>", (const char *)arg);
    return NULL;
}

/* Writers never see a closed descriptor, and each line is in one of the two files. */
static void reopening_after_a_rotation_loses_no_line(void **state) {
    static char name[] = "writer";
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, writes_lines, name), 0);
    assert_int_equal(rename(path, rotated), 0);
    log_reopen();
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    LOG(log_red, LOG_INFO, "after");
    int count = 0;
    read_text(rotated);
    for (const char *at = text; (at = strstr(at, "<writer>\n")); at++)
        count++;
    read_text(path);
    for (const char *at = text; (at = strstr(at, "<writer>\n")); at++)
        count++;
    assert_int_equal(count, 1500);
    assert_non_null(strstr(text, "after"));
}

static void a_file_that_cannot_be_opened_changes_nothing(void **state) {
    assert_int_equal(log_open_file("/nonexistent/log"), -ENOENT);
    LOG(log_red, LOG_INFO, "still here");
    read_text(path);
    assert_non_null(strstr(text, "still here"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_line_looks_like_envoys, empty_log),
        cmocka_unit_test_setup(levels_are_per_component, empty_log),
        cmocka_unit_test_setup(level_names_are_envoys, empty_log),
        cmocka_unit_test_setup(a_peer_cannot_forge_lines, empty_log),
        cmocka_unit_test_setup(a_long_line_is_cut, empty_log),
        cmocka_unit_test_setup(reopening_after_a_rotation_loses_no_line, empty_log),
        cmocka_unit_test_setup(a_file_that_cannot_be_opened_changes_nothing, empty_log),
    };
    return cmocka_run_group_tests(tests, open_log, remove_log);
}
