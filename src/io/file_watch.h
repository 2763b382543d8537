/* file_watch: tells when files may have changed, however that came about: written in place, replaced by a rename, or
 * behind a symbolic link that was changed, as Kubernetes does with secrets and config maps:
 *
 *     /certs/tls.crt -> ..data/tls.crt      /certs/..data -> ..2026_01_31      and ..data is renamed over
 *
 * Directories on the way that are not there, are removed, or replaced by others, are awaited.
 *
 * Ownership  file_watch_add copies the names. `arg` is the watch's until release(arg), which is called once, when the
 *            watch was removed and no call of `changed` runs or will come.
 * Threads    Add and remove: any thread; they make system calls. `changed` and `release` run on the coroutine that
 *            file_watch_run starts, release also on the thread that removes.
 * Errors     The kernel's limits (fs.inotify): -EMFILE, -ENOSPC. */
#pragma once
#include "base/check.h"
#include "base/span.h"

struct file_watch;

enum file_watch_events {
    FILE_WATCH_ANY,   /* also that it is made, which is before anything is in it */
    FILE_WATCH_WHOLE, /* it was moved to its place, or who wrote it has closed it */
    FILE_WATCH_MOVED, /* it was moved to its place */
};

struct file_watch_options {
    const struct span *files; /* with all symbolic links on the way to them */
    size_t file_count;
    const struct span *directories; /* in which any change counts */
    size_t directory_count;
    enum file_watch_events events;
    /* May park. Called once for several changes that come together, and once after it was added, for what changed
     * since the files were read. There may have been no change after all. */
    void (*changed)(void *arg);
    void (*release)(void *arg);
    void *arg;
};

/* NULL and *rc = -errno; then release is not called. */
struct file_watch *file_watch_add(const struct file_watch_options *options, int *rc);
void file_watch_remove(struct file_watch *watch);

/* Inside rt_run, after watches may have come: starts the coroutine, on P 0, with the first of them. -ENOMEM. */
MUST_CHECK int file_watch_run(void);
