/* spike_dir: a folder of pairs of heap profiles, one of before a spike and one of after, bounded in number
 * and bytes.
 *
 *     heap-20261121T174005.123Z-before.pb.gz
 *     heap-20261121T174005.123Z-after.pb.gz
 *
 * A name is the time in UTC, so names sort by age. Both files of a pair are whole when they have their
 * names; a new pair makes the oldest ones go, whichever process wrote them, and is kept itself whatever
 * its size. Other files in the folder are not touched. Files have mode 0600: what they tell of is who
 * uses the proxy for what. The folder is made when it is not there (0700; its parent must be).
 *
 * Threads  Any, several and several processes at a time: the folder is locked while it is written to.
 * Parks    Nothing does, and files block: not on a P. */
#pragma once
#include <stdint.h>

#include "admin/text.h"
#include "base/span.h"

enum {
    SPIKE_NAME_MAX = 48, /* of a file, with its NUL */
    SPIKE_PATH_MAX = 4096 - SPIKE_NAME_MAX,
};

struct spike_dir {
    char path[SPIKE_PATH_MAX]; /* absolute */
    unsigned pairs_max;
    int64_t bytes_max;
};
/* 0, or -errno when there could nothing be written now: no such parent, no permission, no folder. */
MUST_CHECK int spike_dir_init(struct spike_dir *dir, const char *path, unsigned pairs_max,
                              int64_t bytes_max);

struct spike_pair {
    char before[SPIKE_NAME_MAX], after[SPIKE_NAME_MAX]; /* names of files in the folder */
    int64_t taken_ns;                                   /* wall clock */
    int64_t bytes;                                      /* of both */
};

/* Writes a pair of that time, or of the next millisecond that has none. Fills pair. 0, -EBUSY (another
 * process is at it), or -errno, and nothing of it is left. */
MUST_CHECK int spike_dir_add(const struct spike_dir *dir, int64_t wall_ns, struct span before,
                             struct span after, struct spike_pair *pair);

/* All pairs, newest first, in memory that the caller owns: free(). Their number, or -errno. */
int spike_dir_list(const struct spike_dir *dir, struct spike_pair **pairs);

/* Appends the file to out. 0, -EINVAL for a name that is none of a pair's files, -ENOENT or another
 * -errno; -ENOMEM as out->failed. */
MUST_CHECK int spike_dir_read(const struct spike_dir *dir, struct span name, struct text *out);
