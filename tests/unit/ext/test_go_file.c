/* go_file.c: what tells a file from the one that stands there later, and a copy that nobody can change, from wherever it is. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "../file_tree.h"
#include "elf_image.h"
#include "ext/go/go_file.h"

static char path[64];

static void put_bytes(const char *at, const void *bytes, size_t size) {
    int fd = open(at, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

/* A library by the ids in its notes, which is `more` bytes longer than it need be. */
static void put_library(const char *id, size_t more) {
    static const char *const names[] = {ELF_IMAGE_31, NULL};
    static struct elf_image image;
    elf_make(&image, names, NULL);
    const struct elf_note notes[] = {{"GNU", NT_GNU_BUILD_ID, id, strlen(id)}, {0}};
    elf_add_notes(&image, *id ? notes : notes + 1, 4);
    put_bytes(path, image.bytes, image.size + more);
}

static struct go_file copy(void) {
    struct go_file file;
    assert_int_equal(go_file_copy(path, &file), 0);
    return file;
}

static struct go_stamp stamp(void) {
    struct go_stamp it;
    assert_int_equal(go_stamp_of(path, &it), 0);
    return it;
}

static void a_stamp_tells_what_stands_there_later(void **state) {
    char other[80];
    put_library("one", 0);
    struct go_stamp first = stamp(), again = stamp();
    assert_true(go_stamp_eq(&first, &again));
    /* In one tick of the file system's clock everything but the size may be as it was. */
    put_library("one", 1);
    struct go_stamp longer = stamp();
    assert_false(go_stamp_eq(&first, &longer));
    assert_int_equal(longer.inode, first.inode);
    /* Of the same size, and with its time set back, as cp -p and rsync do. */
    snprintf(other, sizeof other, "%s.other", path);
    assert_int_equal(rename(path, other), 0);
    put_library("two", 1);
    const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(utimensat(AT_FDCWD, other, times, 0), 0);
    struct go_stamp replaced = stamp(), old;
    assert_int_equal(go_stamp_of(other, &old), 0);
    assert_int_equal(old.modified_ns, replaced.modified_ns);
    assert_int_equal(old.size, replaced.size);
    assert_false(go_stamp_eq(&old, &replaced));
    unlink(other);
    unlink(path);
    assert_int_equal(go_stamp_of(path, &old), -ENOENT);
}

/* Whoever writes over the file, or cuts it off, does not touch the copy; nor can anybody who has its descriptor. */
static void nobody_can_change_a_copy(void **state) {
    put_library("one", 0);
    struct go_file file = copy();
    char first[4], byte = 0;
    assert_int_equal(pread(file.fd, first, sizeof first, 0), sizeof first);
    put_bytes(path, "short", 5);
    struct stat st;
    assert_int_equal(fstat(file.fd, &st), 0);
    assert_int_equal(st.st_size, file.stamp.size);
    assert_true(go_file_memory_bytes(&file) >= file.stamp.size);
    assert_int_equal(pwrite(file.fd, &byte, 1, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(file.fd, 0), -1);
    assert_int_equal(ftruncate(file.fd, st.st_size + 1), -1);
    assert_int_equal(fcntl(file.fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
    assert_ptr_equal(mmap(NULL, 1, PROT_WRITE, MAP_SHARED, file.fd, 0), MAP_FAILED);
    /* By its name, too, which is what the dynamic loader opens; and it may be code. */
    int fd = open(file.name, O_RDONLY | O_CLOEXEC);
    char now[4];
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, now, sizeof now, 0), sizeof now);
    assert_memory_equal(now, first, sizeof now);
    void *code = mmap(NULL, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    assert_ptr_not_equal(code, MAP_FAILED);
    munmap(code, 1);
    close(fd);
    fd = open(file.name, O_RDWR | O_CLOEXEC);
    assert_int_equal(fd < 0 ? -1 : pwrite(fd, &byte, 1, 0), -1);
    if (fd >= 0)
        close(fd);
    go_file_close(&file);
}

static void another_process_takes_a_copy_for_what_it_is(void **state) {
    put_library("one", 0);
    struct go_file file = copy(), there;
    assert_int_equal(go_file_of_copy(dup(file.fd), &there), 0);
    assert_true(build_id_eq(&file.build, &there.build));
    assert_true(go_file_same_build(&file, &there));
    assert_true(go_file_is_whole(&there));
    assert_int_equal(access(there.name, R_OK), 0);
    go_file_close(&there);
    go_file_close(&file);
    assert_int_equal(go_file_of_copy(-1, &there), -EBADF);
}

static void what_is_no_file_is_not_copied(void **state) {
    struct go_file file;
    unlink(path);
    assert_int_equal(go_file_copy(path, &file), -ENOENT);
    assert_int_equal(go_file_copy(root, &file), -EISDIR);
    assert_int_equal(go_file_copy("/dev/null", &file), -EINVAL);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(go_file_copy(path, &file),
                     -EINVAL); /* and nobody waits for who writes into it */
    unlink(path);
}

/* Nothing is held then: the lowest free descriptor is the one that was before. */
static void a_copy_that_cannot_be_made_holds_nothing(void **state) {
    struct go_file file;
    int before = dup(0), after;
    close(before);
    assert_int_equal(go_file_copy("/dev/null", &file), -EINVAL);
    assert_int_equal(go_file_copy(root, &file), -EISDIR);
    after = dup(0);
    close(after);
    assert_int_equal(before, after);
}

static void one_build_in_two_files(void **state) {
    put_library("one", 0);
    struct go_file first = copy();
    unlink(path);
    put_library("one", 0);
    struct go_file second = copy();
    assert_true(go_file_same_build(&first, &second));
    go_file_close(&second);
    put_library("one", 8); /* stripped, or something was added, which leaves the ids as they are */
    second = copy();
    assert_false(go_file_same_build(&first, &second));
    go_file_close(&second);
    put_library("two", 0);
    second = copy();
    assert_false(go_file_same_build(&first, &second));
    go_file_close(&second);
    go_file_close(&first);
    /* Without ids each file is a build of its own. */
    put_library("", 0);
    first = copy();
    second = copy();
    assert_true(go_file_same_build(&first, &second));
    go_file_close(&second);
    put_library("", 8);
    second = copy();
    assert_false(go_file_same_build(&first, &second));
    go_file_close(&second);
    go_file_close(&first);
}

static bool is_whole(const void *bytes, size_t size) {
    put_bytes(path, bytes, size);
    struct go_file file = copy();
    bool whole = go_file_is_whole(&file);
    go_file_close(&file);
    return whole;
}

static void half_a_file_is_known_for_it(void **state) {
    static const char *const names[] = {ELF_IMAGE_31, NULL};
    static struct elf_image image;
    static char zeros[sizeof image.bytes];
    elf_make(&image, names, NULL);
    assert_true(is_whole(image.bytes, image.size));
    for (size_t size = 0; size < image.size; size += 97)
        assert_false(is_whole(image.bytes, size));
    /* Its room was made first: what is not there yet are zeros. */
    for (size_t size = 0; size + sizeof(Elf64_Shdr) * 2 < image.size; size += 97) {
        memcpy(zeros, image.bytes, size);
        assert_false(is_whole(zeros, image.size));
    }
    /* What is something else altogether is not waited for. */
    static const char script[sizeof(Elf64_Ehdr)] = "#!/bin/sh";
    assert_true(is_whole(script, sizeof script));
}

/* ---- file systems that allow less ---- */

enum { MOUNTED = 0, CANNOT_MOUNT = 77 };

/* In a process with mounts of its own. */
static void copies_from(unsigned long flags) {
    char folder[80], file[96];
    snprintf(folder, sizeof folder, "%s/mount", root);
    snprintf(file, sizeof file, "%s/library.so", folder);
    put_library("one", 0);
    mkdir(folder, 0755);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct go_file copied;
        if ((unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ||
            mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("tmpfs", folder, "tmpfs", 0, NULL) != 0)
            _exit(CANNOT_MOUNT);
        int from = open(path, O_RDONLY), to = open(file, O_WRONLY | O_CREAT, 0644);
        struct stat st;
        char bytes[sizeof(struct elf_image)];
        if (from < 0 || to < 0 || fstat(from, &st) != 0 ||
            read(from, bytes, (size_t)st.st_size) != st.st_size ||
            write(to, bytes, (size_t)st.st_size) != st.st_size || close(to) != 0)
            _exit(1);
        if (mount(NULL, folder, NULL, MS_REMOUNT | flags, NULL) != 0)
            _exit(CANNOT_MOUNT);
        if (go_file_copy(file, &copied) != 0 || !go_file_is_whole(&copied))
            _exit(2);
        int fd = open(copied.name, O_RDONLY);
        void *code = mmap(NULL, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
        _exit(code == MAP_FAILED ? 3 : MOUNTED);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CANNOT_MOUNT) {
        print_message("skipped: nothing can be mounted here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), MOUNTED);
}

static void a_library_on_a_read_only_file_system(void **state) {
    copies_from(MS_RDONLY);
}

/* Mapped from there it could not be code. */
static void a_library_on_a_file_system_without_executables(void **state) {
    copies_from(MS_NOEXEC | MS_NOSUID | MS_NODEV);
}

static int begin(void **state) {
    int err = make_root(state);
    snprintf(path, sizeof path, "%s/library.so", root);
    return err;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stamp_tells_what_stands_there_later),
        cmocka_unit_test(nobody_can_change_a_copy),
        cmocka_unit_test(another_process_takes_a_copy_for_what_it_is),
        cmocka_unit_test(what_is_no_file_is_not_copied),
        cmocka_unit_test(a_copy_that_cannot_be_made_holds_nothing),
        cmocka_unit_test(one_build_in_two_files),
        cmocka_unit_test(half_a_file_is_known_for_it),
        cmocka_unit_test(a_library_on_a_read_only_file_system),
        cmocka_unit_test(a_library_on_a_file_system_without_executables),
    };
    return cmocka_run_group_tests(tests, begin, remove_root);
}
