/* stamped_dir.c: a folder that holds whole sets only, and not too many, whatever goes wrong. */
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
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin/stamped_dir.h"
#include "base/clock.h"

/* 2026-11-21T17:40:05.123Z */
static const int64_t noon_ns = 1795282805123 * NS_PER_MS;

static const struct stamped_form pairs_form = {"heap", 2, {"-before.pb.gz", "-after.pb.gz"}};

/* ---- The n-th call of these fails ---- */

static int fail_in, fail_errno; /* 0: none does */

static bool is_to_fail(void) {
    if (fail_in == 0 || --fail_in > 0)
        return false;
    errno = fail_errno;
    return true;
}
ssize_t __real_write(int fd, const void *bytes, size_t len);
ssize_t __wrap_write(int fd, const void *bytes, size_t len);
ssize_t __wrap_write(int fd, const void *bytes, size_t len) {
    return is_to_fail() ? -1 : __real_write(fd, bytes, len);
}
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd) {
    return is_to_fail() ? -1 : __real_fsync(fd);
}
int __real_renameat(int from, const char *a, int to, const char *b);
int __wrap_renameat(int from, const char *a, int to, const char *b);
int __wrap_renameat(int from, const char *a, int to, const char *b) {
    return is_to_fail() ? -1 : __real_renameat(from, a, to, b);
}
DIR *__real_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd) {
    return is_to_fail() ? NULL : __real_fdopendir(fd);
}

/* ---- A folder for each test ---- */

static char folder[64];

static void path_in(char out[256], const char *name) {
    snprintf(out, 256, "%s/%s", folder, name);
}

static int make_folder(void **state) {
    snprintf(folder, sizeof folder, "/tmp/test_stamped_dir.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

/* How many files there are, hidden ones too. */
static unsigned files(void) {
    unsigned count = 0;
    DIR *stream = opendir(folder);
    assert_non_null(stream);
    for (const struct dirent *entry; (entry = readdir(stream));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(stream);
    return count;
}

static int remove_folder(void **state) {
    fail_in = 0;
    DIR *stream = opendir(folder);
    for (const struct dirent *entry; stream && (entry = readdir(stream));)
        (void)unlinkat(dirfd(stream), entry->d_name, 0);
    closedir(stream);
    return rmdir(folder);
}

static void write_file(const char *name, const char *text) {
    char path[256];
    path_in(path, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static struct stamped_dir dir_of(unsigned pairs_max, int64_t bytes_max) {
    struct stamped_dir dir;
    assert_int_equal(stamped_dir_init(&dir, &pairs_form, folder, pairs_max, bytes_max), 0);
    return dir;
}

static int add(const struct stamped_dir *dir, int64_t wall_ns, const char *before,
               const char *after, struct stamped_set *pair) {
    return stamped_dir_add(dir, wall_ns, (struct span[]){span_of(before), span_of(after)}, pair);
}

/* So many pairs, a second apart. */
static void fill(const struct stamped_dir *dir, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        struct stamped_set pair;
        assert_int_equal(add(dir, noon_ns + i * NS_PER_S, "12345", "67890", &pair), 0);
    }
}

static void assert_listed(const struct stamped_dir *dir, const char *const *names, int count) {
    struct stamped_set *pairs;
    assert_int_equal(stamped_dir_list(dir, &pairs), count);
    for (int i = 0; i < count; i++)
        assert_string_equal(pairs[i].names[0], names[i]);
    free(pairs);
}
static int listed(const struct stamped_dir *dir) {
    struct stamped_set *pairs;
    int count = stamped_dir_list(dir, &pairs);
    free(pairs);
    return count;
}

static void assert_reads(const struct stamped_dir *dir, const char *name, const char *text) {
    struct text out = {0};
    assert_int_equal(stamped_dir_read(dir, span_of(name), &out), 0);
    assert_true(span_eq(text_span(&out), span_of(text)));
    text_fini(&out);
}

/* ---- Stories ---- */

static void test_a_pair_is_named_by_its_time(void **state) {
    struct stamped_dir dir = dir_of(10, 1000);
    assert_int_equal(listed(&dir), 0);
    struct stamped_set pair;
    assert_int_equal(add(&dir, noon_ns + 456, "before", "after it", &pair), 0);
    assert_string_equal(pair.names[0], "heap-20261121T174005.123Z-before.pb.gz");
    assert_string_equal(pair.names[1], "heap-20261121T174005.123Z-after.pb.gz");
    assert_int_equal(pair.taken_ns, noon_ns);
    assert_int_equal(pair.bytes, 14);
    assert_int_equal(files(), 2);
    assert_reads(&dir, pair.names[0], "before");
    assert_reads(&dir, pair.names[1], "after it");

    char path[256];
    path_in(path, pair.names[0]);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);

    struct stamped_set *pairs;
    assert_int_equal(stamped_dir_list(&dir, &pairs), 1);
    assert_memory_equal(pairs[0].names[0], pair.names[0], strlen(pair.names[0]) + 1);
    assert_memory_equal(pairs[0].names[1], pair.names[1], strlen(pair.names[1]) + 1);
    assert_int_equal(pairs[0].taken_ns, noon_ns);
    assert_int_equal(pairs[0].bytes, 14);
    free(pairs);
}

static void test_two_of_one_millisecond_have_two_names(void **state) {
    struct stamped_dir dir = dir_of(10, 1000);
    struct stamped_set pair;
    assert_int_equal(add(&dir, noon_ns, "a", "b", &pair), 0);
    assert_int_equal(add(&dir, noon_ns, "c", "d", &pair), 0);
    assert_string_equal(pair.names[1], "heap-20261121T174005.124Z-after.pb.gz");
    assert_reads(&dir, "heap-20261121T174005.123Z-after.pb.gz", "b");
}

static void test_a_set_may_have_one_file(void **state) {
    static const struct stamped_form form = {"crash", 1, {".txt"}};
    struct stamped_dir dir;
    assert_int_equal(stamped_dir_init(&dir, &form, folder, 2, 1000), 0);
    write_file("heap-20260101T000000.000Z-after.pb.gz", "of another kind");
    for (unsigned i = 0; i < 4; i++) {
        struct stamped_set set;
        struct span content = SPAN_LIT("what was to be said");
        assert_int_equal(stamped_dir_add(&dir, noon_ns + i * NS_PER_S, &content, &set), 0);
    }
    static const char *const names[] = {"crash-20261121T174008.123Z.txt",
                                        "crash-20261121T174007.123Z.txt"};
    assert_listed(&dir, names, 2);
    assert_reads(&dir, names[1], "what was to be said");
    assert_int_equal(files(), 3);
}

static void test_the_oldest_go_when_there_are_too_many(void **state) {
    struct stamped_dir dir = dir_of(3, 1000);
    fill(&dir, 5);
    static const char *const names[] = {"heap-20261121T174009.123Z-before.pb.gz",
                                        "heap-20261121T174008.123Z-before.pb.gz",
                                        "heap-20261121T174007.123Z-before.pb.gz"};
    assert_listed(&dir, names, 3);
    assert_int_equal(files(), 6);
    /* Of another process with a smaller bound, too. */
    dir = dir_of(1, 1000);
    struct stamped_set pair;
    assert_int_equal(add(&dir, noon_ns + 60 * NS_PER_S, "x", "y", &pair), 0);
    assert_int_equal(files(), 2);
}

static void test_the_oldest_go_when_they_are_too_large(void **state) {
    struct stamped_dir dir = dir_of(100, 29); /* each pair has 10 */
    fill(&dir, 5);
    assert_int_equal(listed(&dir), 2);
    dir.bytes_max = 30;
    fill(&dir, 2);
    assert_int_equal(listed(&dir), 3);
    /* One that is too large by itself is kept nevertheless: it is what somebody wants to see. */
    struct stamped_set pair;
    assert_int_equal(
        add(&dir, noon_ns + 60 * NS_PER_S, "more than thirty bytes ", "of both files", &pair), 0);
    assert_int_equal(listed(&dir), 1);
    assert_int_equal(files(), 2);
}

static void test_other_files_are_left_alone(void **state) {
    struct stamped_dir dir = dir_of(1, 1);
    static const char *const others[] = {"heap-20261121T174005.123Z-before.pb.gz.old",
                                         "heap-2026-before.pb.gz",
                                         "core",
                                         ".hidden",
                                         "heap-20261121T174005.123Z-between.pb.gz",
                                         "heap-x0261121T174005.123Z-after.pb.gz"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        write_file(others[i], "a large file that is none of ours");
    fill(&dir, 2);
    assert_int_equal(listed(&dir), 1);
    assert_int_equal(files(), 2 + sizeof others / sizeof *others);
}

static void test_half_a_pair_is_not_shown_and_goes_in_its_turn(void **state) {
    struct stamped_dir dir = dir_of(2, 1000);
    write_file("heap-20260101T000000.000Z-after.pb.gz", "somebody removed the other");
    fill(&dir, 1);
    assert_int_equal(listed(&dir), 1);
    assert_int_equal(files(), 3);
    fill(&dir, 1);
    assert_int_equal(listed(&dir), 2);
    assert_int_equal(files(), 4);
}

static void test_what_a_dead_process_left_is_replaced(void **state) {
    struct stamped_dir dir = dir_of(10, 1000);
    write_file(".heap-0.tmp", "half of it");
    write_file("target", "not to be touched");
    char link[256];
    path_in(link, ".heap-1.tmp");
    assert_int_equal(symlink("target", link), 0); /* or somebody's trap */
    fill(&dir, 1);
    assert_reads(&dir, "heap-20261121T174005.123Z-before.pb.gz", "12345");
    assert_int_equal(files(), 3);
    char path[256];
    path_in(path, "target");
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, strlen("not to be touched"));
}

static void test_a_folder_that_was_removed_is_made_again(void **state) {
    struct stamped_dir dir = dir_of(10, 1000);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(listed(&dir), -ENOENT);
    fill(&dir, 1);
    assert_int_equal(listed(&dir), 1);
    struct stat info;
    assert_int_equal(stat(folder, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0700);
}

static void test_a_relative_folder_becomes_absolute(void **state) {
    char home[1024];
    assert_non_null(getcwd(home, sizeof home));
    assert_int_equal(chdir(folder), 0);
    struct stamped_dir dir;
    assert_int_equal(stamped_dir_init(&dir, &pairs_form, "made", 1, 1), 0);
    assert_int_equal(chdir(home), 0);
    char path[256];
    path_in(path, "made");
    assert_string_equal(dir.path, path);
    assert_int_equal(rmdir(path), 0);
}

static void test_a_folder_that_cannot_be_is_refused_at_once(void **state) {
    struct stamped_dir dir;
    write_file("file", "");
    char path[256], deeper[300];
    path_in(path, "file");
    assert_int_equal(stamped_dir_init(&dir, &pairs_form, path, 1, 1), -ENOTDIR);
    snprintf(deeper, sizeof deeper, "%s/dir", path);
    assert_int_equal(stamped_dir_init(&dir, &pairs_form, deeper, 1, 1), -ENOTDIR);
    path_in(path, "no/parent");
    assert_int_equal(stamped_dir_init(&dir, &pairs_form, path, 1, 1), -ENOENT);
}

/* root may write anywhere. */
static void as_nobody(void) {
    if (geteuid() == 0)
        assert_int_equal(seteuid(65534), 0);
}
static void as_before(void) {
    assert_int_equal(seteuid(getuid()), 0);
}

static void test_a_folder_that_may_not_be_written_to(void **state) {
    struct stamped_dir dir = dir_of(10, 1000), other;
    fill(&dir, 1);
    assert_int_equal(chmod(folder, 0555), 0);
    as_nobody();
    struct stamped_set pair;
    int refused = stamped_dir_init(&other, &pairs_form, folder, 1, 1);
    int err = add(&dir, noon_ns, "a", "b", &pair);
    as_before();
    assert_int_equal(refused, -EACCES);
    assert_int_equal(err, -EACCES);
    assert_int_equal(chmod(folder, 0700), 0);
    assert_int_equal(files(), 2);
}

/* ---- What goes wrong while it writes ---- */

static void test_whichever_call_fails_nothing_of_the_pair_is_left(void **state) {
    struct stamped_dir dir = dir_of(2, 1000);
    fill(&dir, 2);
    int calls = 0;
    for (int err = -1; err != 0;) {
        struct stamped_set pair;
        fail_in = ++calls;
        fail_errno = ENOSPC;
        err = add(&dir, noon_ns + 60 * NS_PER_S, "new before", "new after", &pair);
        if (err == 0)
            break;
        assert_int_equal(err, -ENOSPC);
        fail_in = 0;
        /* What was there is whole. It makes room only for what is on the disk already. */
        assert_int_equal(files() % 2, 0);
        assert_int_equal(files(), 2 * listed(&dir));
        assert_in_range(listed(&dir), calls < 6 ? 2 : 1, 2);
        assert_reads(&dir, "heap-20261121T174006.123Z-before.pb.gz", "12345");
    }
    fail_in = 0;
    assert_int_equal(calls,
                     8); /* two of write and fsync, the listing, two renames, and one success */
    assert_int_equal(files(), 4);
    assert_reads(&dir, "heap-20261121T174105.123Z-after.pb.gz", "new after");
}

static void test_a_limit_for_files_is_an_error_like_any_other(void **state) {
    struct stamped_dir dir = dir_of(10, 100000);
    fill(&dir, 1);
    signal(SIGXFSZ, SIG_IGN); /* as server.c does */
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){.rlim_cur = 4096, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    static char large[8192];
    memset(large, 'x', sizeof large);
    struct stamped_set pair;
    struct span contents[] = {SPAN_LIT("fits"), span_make(large, sizeof large)};
    int err = stamped_dir_add(&dir, noon_ns + NS_PER_S, contents, &pair);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(err, -EFBIG);
    assert_int_equal(files(), 2);
}

static void test_one_process_writes_at_a_time(void **state) {
    struct stamped_dir dir = dir_of(10, 1000);
    int other = open(folder, O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(other, LOCK_EX), 0);
    struct stamped_set pair;
    assert_int_equal(add(&dir, noon_ns, "a", "b", &pair), -EBUSY);
    assert_int_equal(files(), 0);
    close(other);
    assert_int_equal(add(&dir, noon_ns, "a", "b", &pair), 0);
}

/* ---- What may be asked for ---- */

static void test_only_names_of_pairs_are_read(void **state) {
    struct stamped_dir dir = dir_of(10, 1000);
    fill(&dir, 1);
    write_file("secret", "secret");
    static const char *const bad[] = {
        "", "secret", "../secret", "/etc/passwd", "heap-20261121T174005.123Z-before.pb.gz/..",
        "./heap-20261121T174005.123Z-before.pb.gz", "heap-20261121T174005.123Z",
        "heap-20261121T174005.123Z/../secret", ".heap-0.tmp",
        "heap-20261121T174005.123z-before.pb.gz",
        /* longer than any name */
        "heap-20261121T174005.123Z-before.pb.gz.heap-20261121T174005.123Z-before.pb.gz"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct text out = {0};
        assert_int_equal(stamped_dir_read(&dir, span_of(bad[i]), &out), -EINVAL);
        assert_int_equal(out.len, 0);
    }
    struct text out = {0};
    struct span absent = SPAN_LIT("heap-20261121T174006.123Z-before.pb.gz");
    assert_int_equal(stamped_dir_read(&dir, absent, &out), -ENOENT);
    /* A link under such a name is not followed. */
    char link[256];
    path_in(link, "heap-20261121T174006.123Z-before.pb.gz");
    assert_int_equal(symlink("secret", link), 0);
    assert_int_equal(stamped_dir_read(&dir, absent, &out), -ELOOP);
    assert_int_equal(listed(&dir), 1);
    assert_int_equal(out.len, 0);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        STORY(test_a_pair_is_named_by_its_time),
        STORY(test_two_of_one_millisecond_have_two_names),
        STORY(test_a_set_may_have_one_file),
        STORY(test_the_oldest_go_when_there_are_too_many),
        STORY(test_the_oldest_go_when_they_are_too_large),
        STORY(test_other_files_are_left_alone),
        STORY(test_half_a_pair_is_not_shown_and_goes_in_its_turn),
        STORY(test_what_a_dead_process_left_is_replaced),
        STORY(test_a_folder_that_was_removed_is_made_again),
        STORY(test_a_relative_folder_becomes_absolute),
        STORY(test_a_folder_that_cannot_be_is_refused_at_once),
        STORY(test_a_folder_that_may_not_be_written_to),
        STORY(test_whichever_call_fails_nothing_of_the_pair_is_left),
        STORY(test_a_limit_for_files_is_an_error_like_any_other),
        STORY(test_one_process_writes_at_a_time),
        STORY(test_only_names_of_pairs_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
