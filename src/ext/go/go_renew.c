/* go_renew: see the header.
 *
 * Half a file  Events come when a writer closes the file, or renames it to its place; but also when it creates it, and
 *              writers may open and close it for each piece. So a file is looked at again while it may be half of one, until a
 *              second has passed without a change; then it is what it is. It may be half of one when it changes while
 *              it is copied, when it announces more than there is (go_file_is_whole), and, whatever it announces, when it
 *              is the old one's inode: that is being written over, and a part of it may be the old one's still. What was
 *              renamed to its place is another inode, whole, and taken at once.
 * Same build   Nothing is done for a file that was only touched, or copied over itself.
 * Failures     are remembered by the file's stamp: another event does not try the same file again. Who asks by hand is
 *              served each time, as the cause may lie outside.
 *
 * Rejected  To wait a second for every file: that is as long as everything else takes. To lock the file, or to look who
 *           has it open: writers are on other machines, too. */
#include "ext/go/go_renew.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ext/go/go_log.h"
#include "io/file_watch.h"
#include "rt/foreign.h"
#include "rt/sync.h"

enum { LOOK_AGAIN_MS = 100, SETTLED_MS = 1000 };

void go_renewal_init(struct go_renewal *renewal, const char *id, const char *path,
                     const struct go_renewal_itab *itab, void *arg) {
    *renewal = (struct go_renewal){.id = id, .path = path, .itab = itab, .arg = arg};
    (void)pthread_mutex_init(&renewal->lock, NULL); /* cannot fail with default attributes */
}

/* ---- one attempt ---- */

enum go_renewed go_attempt_say(struct go_attempt *attempt, enum go_renewed result,
                               const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (vasprintf(&attempt->why, format, args) < 0)
        attempt->why = NULL;
    va_end(args);
    return result;
}

enum go_renewed go_attempt_early(struct go_attempt *attempt) {
    attempt->is_early = true;
    return GO_RENEW_UNCHANGED;
}

/* The copy is transferred. */
static enum go_renewed judge(struct go_attempt *attempt, const struct go_file *before,
                             struct go_file *file) {
    const struct go_renewal *renewal = attempt->renewal;
    enum go_renewed result;
    if (before && go_file_same_build(file, before))
        result = go_attempt_say(attempt, GO_RENEW_UNCHANGED, "what serves is this build");
    else if (!attempt->is_last && !go_file_is_whole(file))
        result = go_attempt_early(attempt);
    else
        return renewal->itab->take(renewal->arg, attempt, file);
    go_file_close(file);
    return result;
}

static bool is_written_over(const struct go_stamp *seen, const struct go_file *before) {
    return seen->device == before->stamp.device && seen->inode == before->stamp.inode;
}

static enum go_renewed try(struct go_attempt *attempt) {
    const struct go_renewal *renewal = attempt->renewal;
    const char *path = renewal->path;
    struct go_file serving, file, *before = &serving;
    if (!renewal->itab->serving(renewal->arg, &serving) ||
        (attempt->by_hand && renewal->itab->same_by_hand))
        before = NULL;
    int err = go_stamp_of(path, &attempt->seen);
    if (err)
        attempt->seen = (struct go_stamp){0};
    if (err == -ENOENT && !attempt->by_hand)
        return go_attempt_say(attempt, GO_RENEW_UNCHANGED, "there is no file now");
    if (!err && before && go_stamp_eq(&attempt->seen, &before->stamp))
        return go_attempt_say(attempt, GO_RENEW_UNCHANGED, "what serves is this file");
    if (!err && !attempt->by_hand && renewal->has_failed &&
        go_stamp_eq(&attempt->seen, &renewal->failed))
        return go_attempt_say(attempt, GO_RENEW_UNCHANGED, "this file failed before");
    if (!err && !attempt->is_last && before && is_written_over(&attempt->seen, before))
        return go_attempt_early(attempt);
    err = err ? err : go_file_copy(path, &file);
    if (err == -EAGAIN && !attempt->is_last)
        return go_attempt_early(attempt);
    if (err)
        return go_attempt_say(attempt, GO_RENEW_FAILED, "cannot load %s: %s", path,
                              err == -EAGAIN ? "it is being written" : strerror(-err));
    attempt->seen = file.stamp;
    return judge(attempt, before, &file);
}

static void conclude(struct go_attempt *attempt) {
    struct go_renewal *renewal = attempt->renewal;
    if (attempt->result == GO_RENEW_FAILED)
        renewal->failed = attempt->seen;
    if (attempt->result != GO_RENEW_UNCHANGED)
        renewal->has_failed = attempt->result == GO_RENEW_FAILED;
    renewal->itab->conclude(renewal->arg, attempt, attempt->why ? attempt->why : "out of memory");
}

static void run_attempt(void *arg) {
    struct go_attempt *attempt = arg;
    struct go_renewal *renewal = attempt->renewal;
    pthread_mutex_lock(&renewal->lock);
    atomic_store_explicit(&renewal->is_busy, true, memory_order_relaxed);
    attempt->is_early = false;
    attempt->result = try(attempt);
    if (!attempt->is_early)
        conclude(attempt);
    atomic_store_explicit(&renewal->is_busy, false, memory_order_relaxed);
    pthread_mutex_unlock(&renewal->lock);
}

static void no_thread(struct go_attempt *attempt) {
    attempt->result = go_attempt_say(attempt, GO_RENEW_FAILED, "no thread can be had");
    LOG(log_golang, LOG_ERROR, "%s: %s was not looked at: no thread can be had",
        attempt->renewal->id, attempt->renewal->path);
}

/* Until the file is whole, or does not change any more. */
static void make_attempt(struct go_attempt *attempt) {
    struct go_stamp seen = {0};
    int64_t settled_ns = 0;
    do {
        if (blocking_call(run_attempt, attempt) != 0) {
            no_thread(attempt);
            return;
        }
        int64_t now_ns = clock_mono_ns();
        if (!go_stamp_eq(&seen, &attempt->seen)) {
            seen = attempt->seen;
            settled_ns = now_ns + SETTLED_MS * NS_PER_MS;
        }
        attempt->is_last = now_ns >= settled_ns;
        if (attempt->is_early && rt_sleep_until(now_ns + LOOK_AGAIN_MS * NS_PER_MS) != 0) {
            attempt->result = go_attempt_say(attempt, GO_RENEW_FAILED,
                                             "it is being written, and who asked has left");
            return;
        }
    } while (attempt->is_early);
}

enum go_renewed go_renewal_now(struct go_renewal *renewal, char **why) {
    struct go_attempt attempt = {.renewal = renewal, .by_hand = true};
    make_attempt(&attempt);
    *why = attempt.why;
    return attempt.result;
}

/* ---- files that change ---- */

static void look(void *arg) {
    struct go_renewal *renewal = arg;
    while (renewal->dirty) {
        struct go_attempt attempt = {.renewal = renewal};
        renewal->dirty = false;
        make_attempt(&attempt);
        free(attempt.why);
    }
    renewal->looking = false;
}

/* On file_watch's coroutine, which others wait for. */
static void changed(void *arg) {
    struct go_renewal *renewal = arg;
    renewal->dirty = true;
    if (renewal->looking)
        return;
    renewal->looking = go_here("library file changed", look, renewal) == 0;
    if (!renewal->looking)
        LOG(log_golang, LOG_ERROR, "%s: %s was not looked at: out of memory", renewal->id,
            renewal->path);
}

/* Watches are for ever. */
static void release(void *arg) {}

void go_renewal_watch(struct go_renewal *renewal) {
    const struct span file = span_of(renewal->path);
    const struct file_watch_options options = {
        .files = &file, .file_count = 1, .changed = changed, .release = release, .arg = renewal};
    int rc;
    if (!file_watch_add(&options, &rc))
        LOG(log_golang, LOG_WARN,
            "%s: changes of %s will not be noticed (%s; see fs.inotify in sysctl): POST "
            "/extensions/reload?library_id=%s has it loaded",
            renewal->id, renewal->path, strerror(-rc), renewal->id);
}
