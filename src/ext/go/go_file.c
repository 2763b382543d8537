/* go_file: see the header. The whole file is copied, debug information too, 10 ms for 10 MB: profiles and debuggers
 * name functions by it, and the file itself may be another one by then.
 *
 * Rejected  The file itself for the first copy and a memfd from the second on: saves the memory of whoever never swaps,
 *           and loses every proxy whose library is overwritten in place. Copies in a directory: there may be none that
 *           can be written to and executed from. */
#include "ext/go/go_file.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U /* Linux 6.3; mapping it as code needs no x */
#endif

static struct go_stamp stamp_of(const struct stat *st) {
    return (struct go_stamp){
        .device = st->st_dev,
        .inode = st->st_ino,
        .size = (uint64_t)st->st_size,
        .modified_ns = st->st_mtim.tv_sec * NS_PER_S + st->st_mtim.tv_nsec,
        .changed_ns = st->st_ctim.tv_sec * NS_PER_S + st->st_ctim.tv_nsec,
    };
}

int go_stamp_of(const char *path, struct go_stamp *out) {
    struct stat st;
    if (stat(path, &st) != 0)
        return -errno;
    *out = stamp_of(&st);
    return 0;
}

bool go_stamp_eq(const struct go_stamp *a, const struct go_stamp *b) {
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

/* Where vm.memfd_noexec is 2 only one that cannot be executed is allowed, and older kernels know no such thing. */
static int open_memory(const char *path) {
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    char cut[128];
    (void)snprintf(cut, sizeof cut, "%s", name);
    int fd = memfd_create(cut, MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(cut, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd < 0 ? -errno : fd;
}

static int copy_bytes(int from, int to, uint64_t size) {
    while (size > 0) {
        ssize_t n = sendfile(to, from, NULL, size);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return -EAGAIN; /* it was cut off meanwhile */
        if (n > 0)
            size -= (uint64_t)n;
    }
    return 0;
}

/* 0 or -errno; *fd is open in any case. */
static int fill(int from, int *fd, const char *path, struct go_stamp *stamp) {
    struct stat st;
    if (fstat(from, &st) != 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    *stamp = stamp_of(&st);
    *fd = open_memory(path);
    if (*fd < 0)
        return *fd;
    int err = copy_bytes(from, *fd, stamp->size);
    if (err)
        return err;
    if (fstat(from, &st) != 0)
        return -errno;
    struct go_stamp after = stamp_of(&st);
    if (!go_stamp_eq(stamp, &after))
        return -EAGAIN;
    int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    return fcntl(*fd, F_ADD_SEALS, seals) == 0 ? 0 : -errno;
}

static void describe(struct go_file *file) {
    (void)snprintf(file->name, sizeof file->name, "/proc/%d/fd/%d", (int)getpid(), file->fd);
    build_id_read(file->fd, &file->build);
}

int go_file_copy(const char *path, struct go_file *out) {
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang us */
    if (from < 0)
        return -errno;
    struct go_file file = {.fd = -1};
    int err = fill(from, &file.fd, path, &file.stamp);
    (void)close(from); /* it was only read */
    if (err) {
        if (file.fd >= 0)
            (void)close(file.fd); /* nothing of it is wanted */
        return err;
    }
    describe(&file);
    *out = file;
    return 0;
}

int go_file_of_copy(int fd, struct go_file *out) {
    struct stat st;
    if (fstat(fd, &st) != 0)
        return -errno;
    *out = (struct go_file){.fd = fd, .stamp = stamp_of(&st)};
    describe(out);
    return 0;
}

void go_file_close(struct go_file *file) {
    (void)close(file->fd); /* memory; nothing to lose */
    file->fd = -1;
}

/* The size, too: tools that change a file that is linked leave its ids. */
bool go_file_same_build(const struct go_file *a, const struct go_file *b) {
    if (a->build.len == 0)
        return go_stamp_eq(&a->stamp, &b->stamp);
    return build_id_eq(&a->build, &b->build) && a->stamp.size == b->stamp.size;
}

/* Linkers write the section headers last, at the end of the file. Whoever makes room for a file first fills it with zeros,
 * of which no section of names consists. */
bool go_file_is_whole(const struct go_file *file) {
    Elf64_Ehdr head;
    Elf64_Shdr names;
    if (pread(file->fd, &head, sizeof head, 0) != (ssize_t)sizeof head)
        return false;
    if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
        return head.e_ident[0] !=
               0; /* zeros: its beginning is to come; else it is something else */
    uint64_t size = (uint64_t)head.e_shnum * head.e_shentsize;
    if (head.e_shoff > file->stamp.size || size > file->stamp.size - head.e_shoff)
        return false;
    if (head.e_shstrndx >= head.e_shnum || head.e_shentsize != sizeof names)
        return true; /* it is for others to say what is wrong with it */
    uint64_t at = head.e_shoff + head.e_shstrndx * sizeof names;
    return pread(file->fd, &names, sizeof names, (off_t)at) == (ssize_t)sizeof names &&
           names.sh_type != SHT_NULL;
}

uint64_t go_file_memory_bytes(const struct go_file *file) {
    struct stat st;
    return fstat(file->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}
