/* A file is read as a whole, whatever somebody does to it meanwhile. */
#include "config/whole_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64];

static int make_file(void **state) {
    (void)state;
    strcpy(path, "/tmp/whole-file-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_it(void **state) {
    (void)state;
    return unlink(path);
}

static void assert_reads(const char *wanted) {
    char *bytes;
    size_t len;
    assert_int_equal(whole_file_read(path, 100, &bytes, &len), 0);
    assert_string_equal(bytes, wanted);
    assert_int_equal(len, strlen(wanted));
    free(bytes);
}

static void put(int fd, const char *text) {
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void what_has_more_bytes_than_are_wanted_is_refused(void **state) {
    (void)state;
    char *bytes;
    size_t len;
    int fd = open(path, O_WRONLY);
    put(fd, "twelve bytes");
    assert_int_equal(close(fd), 0);
    assert_int_equal(whole_file_read(path, 11, &bytes, &len), -EFBIG);
    assert_int_equal(whole_file_read("/dev/zero", 100000, &bytes, &len), -EFBIG);
    assert_int_equal(whole_file_read(path, 12, &bytes, &len), 0);
    free(bytes);
    assert_reads("twelve bytes");
}

static void an_empty_file_is_one(void **state) {
    (void)state;
    assert_reads("");
}

static void a_folder_and_what_is_not_there_are_none(void **state) {
    (void)state;
    char *bytes;
    size_t len;
    assert_int_equal(whole_file_read("/tmp", 100, &bytes, &len), -EISDIR);
    assert_int_equal(whole_file_read("/tmp/no/such", 100, &bytes, &len), -ENOENT);
}

struct writer {
    pthread_t thread;
    int fd, watch;
};

/* Once somebody has looked at the first half, and gone away again. */
static void *write_the_rest(void *arg) {
    struct writer *writer = arg;
    struct inotify_event closed;
    assert_int_equal(read(writer->watch, &closed, sizeof closed), sizeof closed);
    put(writer->fd, " and the rest");
    (void)close(writer->fd);
    return NULL;
}

static void who_is_writing_is_waited_for(void **state) {
    (void)state;
    struct writer writer = {.fd = open(path, O_WRONLY), .watch = inotify_init1(IN_CLOEXEC)};
    assert_true(inotify_add_watch(writer.watch, path, IN_CLOSE_NOWRITE) > 0);
    put(writer.fd, "a half");
    assert_int_equal(pthread_create(&writer.thread, NULL, write_the_rest, &writer), 0);
    assert_reads("a half and the rest");
    pthread_join(writer.thread, NULL);
    (void)close(writer.watch);
}

static void who_has_it_open_and_writes_nothing_is_not(void **state) {
    (void)state;
    int fd = open(path, O_WRONLY);
    put(fd, "all of it");
    assert_reads("all of it");
    (void)close(fd);
}

static _Atomic bool done;

static void *write_for_ever(void *arg) {
    (void)arg;
    while (!done) {
        int fd = open(path, O_WRONLY | O_TRUNC);
        put(fd, "a piece");
        (void)close(fd);
    }
    return NULL;
}

static void who_writes_for_ever_is_given_up(void **state) {
    (void)state;
    pthread_t writer;
    char *bytes;
    size_t len;
    int fd = open(path, O_WRONLY); /* and is never done with it */
    put(fd, "a piece");
    done = false;
    assert_int_equal(pthread_create(&writer, NULL, write_for_ever, NULL), 0);
    while (whole_file_read(path, 100, &bytes, &len) != -EBUSY)
        free(bytes); /* the machine stood still, and the writer with it */
    done = true;
    pthread_join(writer, NULL);
    (void)close(fd);
}

/* Once the first half was taken out of it. */
static void *fill_the_pipe(void *arg) {
    const int *fd = arg;
    int left = 1;
    while (left > 0) {
        assert_int_equal(ioctl(*fd, FIONREAD, &left), 0);
        sched_yield();
    }
    put(*fd, " and the rest");
    (void)close(*fd);
    return NULL;
}

static void a_pipe_is_read_to_its_end(void **state) {
    (void)state;
    pthread_t writer;
    int ends[2];
    char name[64], *bytes;
    size_t len;
    assert_int_equal(pipe(ends), 0);
    put(ends[1], "a half");
    assert_int_equal(pthread_create(&writer, NULL, fill_the_pipe, &ends[1]), 0);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    assert_int_equal(whole_file_read(name, 100, &bytes, &len), 0);
    assert_string_equal(bytes, "a half and the rest");
    free(bytes);
    pthread_join(writer, NULL);
    close(ends[0]);
}

static void a_pipe_that_nobody_writes_to_is_not_waited_for(void **state) {
    (void)state;
    char *bytes;
    size_t len;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(whole_file_read(path, 100, &bytes, &len), -ETIMEDOUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_has_more_bytes_than_are_wanted_is_refused, make_file,
                                        remove_it),
        cmocka_unit_test_setup_teardown(an_empty_file_is_one, make_file, remove_it),
        cmocka_unit_test_setup_teardown(a_folder_and_what_is_not_there_are_none, make_file,
                                        remove_it),
        cmocka_unit_test_setup_teardown(who_is_writing_is_waited_for, make_file, remove_it),
        cmocka_unit_test_setup_teardown(who_has_it_open_and_writes_nothing_is_not, make_file,
                                        remove_it),
        cmocka_unit_test_setup_teardown(who_writes_for_ever_is_given_up, make_file, remove_it),
        cmocka_unit_test(a_pipe_is_read_to_its_end),
        cmocka_unit_test_setup_teardown(a_pipe_that_nobody_writes_to_is_not_waited_for, make_file,
                                        remove_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
