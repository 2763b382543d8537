/* go_file: the file of a library: which one it is, and a copy of it in memory that nobody can change.
 *
 * A library is mapped, not read: who writes into the file (cp over it, scp) changes code that is running, and who cuts it off
 * ends the process with SIGBUS. So what is loaded is a copy, in a memfd, sealed. It needs no directory that may be written
 * to, none that may be executed from, and to the dynamic loader each copy is a library of its own.
 *
 * Ownership  A go_file has the descriptor of its copy. Of a loaded library it stays open for ever: the loader knows
 *            libraries by name too, and the name has the descriptor's number in it. Debuggers read it there.
 * Threads    Any real thread that may block. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "ext/host/build_id.h"

/* Tells a file from what stands there later. */
struct go_stamp {
    uint64_t device, inode, size;
    int64_t modified_ns, changed_ns;
};

struct go_file {
    int fd; /* of the copy */
    char name
        [48]; /* what dlopen takes: /proc/PID/fd/FD, and not "self", so that a debugger finds it, too */
    struct go_stamp stamp; /* of the original */
    struct build_id build;
};

/* 0 or -errno: there is no such file. */
MUST_CHECK int go_stamp_of(const char *path, struct go_stamp *out);
bool go_stamp_eq(const struct go_stamp *a, const struct go_stamp *b);

/* 0, or -errno and nothing is held. -EAGAIN: it was changed while it was copied. */
MUST_CHECK int go_file_copy(const char *path, struct go_file *out);
/* The same of a copy that another process made, and handed over. The descriptor is transferred. 0 or -errno. */
MUST_CHECK int go_file_of_copy(int fd, struct go_file *out);
/* Of a copy that was not loaded. */
void go_file_close(struct go_file *file);

/* One build: nothing would change if the one were loaded in the other's place. */
bool go_file_same_build(const struct go_file *a, const struct go_file *b);
/* False while a writer is at it: less is there than the ELF header announces, or zeros. */
bool go_file_is_whole(const struct go_file *file);
/* Of the copy. */
uint64_t go_file_memory_bytes(const struct go_file *file);
