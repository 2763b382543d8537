/* stamped_dir: a folder of sets of files, bounded in number and bytes, that are written now and then and read by people.
 *
 *     PREFIX-20261121T174005.123ZEND          a set has one file, or two that differ in their ends
 *
 * A name is the time in UTC, so names sort by age. The files of a set are whole when they have their names; a new set makes
 * the oldest ones go, whichever process wrote them, and is kept itself whatever its size. Other files in the folder are not
 * touched. Files have mode 0600: what they tell of is who uses the proxy for what. The folder is made when it is not there
 * (0700; its parent must be).
 *
 * Threads  Any, several and several processes at a time: the folder is locked while it is written to.
 * Parks    Nothing does, and files block: not on a P. */
#pragma once
#include <stdint.h>

#include "admin/text.h"
#include "base/span.h"

enum {
    STAMPED_FILES_MAX = 2, /* of a set */
    STAMPED_NAME_MAX = 48, /* of a file, with its NUL */
    STAMPED_PATH_MAX = 4096 - STAMPED_NAME_MAX,
};

/* What the sets of a folder are called. Literals. */
struct stamped_form {
    const char *prefix;
    unsigned count; /* files in a set, 1 to STAMPED_FILES_MAX */
    const char *ends[STAMPED_FILES_MAX];
};

struct stamped_dir {
    const struct stamped_form *form;
    char path[STAMPED_PATH_MAX]; /* absolute */
    unsigned sets_max;
    int64_t bytes_max;
};
/* 0, or -errno when there could nothing be written now: no such parent, no permission, no folder. */
MUST_CHECK int stamped_dir_init(struct stamped_dir *dir,
                                const struct stamped_form *form BORROWED_BY(program),
                                const char *path, unsigned sets_max, int64_t bytes_max);

struct stamped_set {
    char names[STAMPED_FILES_MAX][STAMPED_NAME_MAX]; /* of files in the folder */
    int64_t taken_ns;                                /* wall clock */
    int64_t bytes;                                   /* of all */
};

/* Writes a set of that time, or of the next millisecond that has none: a content for each file. Fills set. 0, -EBUSY
 * (another process is at it), or -errno, and nothing of it is left. */
MUST_CHECK int stamped_dir_add(const struct stamped_dir *dir, int64_t wall_ns,
                               const struct span *contents, struct stamped_set *set);

/* All whole sets, newest first, in memory that the caller owns: free(). Their number, or -errno. */
int stamped_dir_list(const struct stamped_dir *dir, struct stamped_set **sets);

/* Appends the file to out. 0, -EINVAL for a name that is none of a set's files, -ENOENT or another
 * -errno; -ENOMEM as out->failed. */
MUST_CHECK int stamped_dir_read(const struct stamped_dir *dir, struct span name, struct text *out);
