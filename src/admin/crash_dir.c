/* crash_dir: which reports have been told of is noted in the folder itself, by the name of the newest one: whoever starts
 * next may be told of what is newer. When that cannot be noted it is told twice, which is better than never. */
#include "admin/crash_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

LOG_COMPONENT(crash, "crash");

static const struct stamped_form crash_form = {"crash", 1, {".txt"}};
static const char told_name[] = ".crash-told";

int crash_dir_init(struct stamped_dir *dir, const char *path, unsigned reports_max) {
    return stamped_dir_init(dir, &crash_form, path, reports_max,
                            (int64_t)reports_max * CRASH_REPORT_BYTES_MAX);
}

int crash_dir_headline(const struct stamped_dir *dir, struct span name, struct text *out) {
    struct text whole = {0};
    int err = stamped_dir_read(dir, name, &whole);
    struct span text = text_span(&whole);
    ptrdiff_t end = span_find(text, '\n');
    if (err == 0)
        text_put(out, end < 0 ? text : span_make(text.ptr, (size_t)end));
    text_fini(&whole);
    return err;
}

/* ---- Of the process ---- */

static struct stamped_dir of_process;
static bool has_dir;

int crash_dir_use(const char *path, unsigned reports_max) {
    int err = crash_dir_init(&of_process, path, reports_max);
    has_dir = err == 0;
    return err;
}

const struct stamped_dir *crash_dir_of_process(void) {
    return has_dir ? &of_process : NULL;
}

unsigned crash_dir_count(void) {
    struct stamped_set *sets;
    int count = has_dir ? stamped_dir_list(&of_process, &sets) : 0;
    if (count > 0)
        free(sets);
    return count > 0 ? (unsigned)count : 0;
}

static NOINLINE void read_told(int folder, char out[STAMPED_NAME_MAX]) {
    int fd = openat(folder, told_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t len = fd < 0 ? 0 : read(fd, out, STAMPED_NAME_MAX - 1);
    out[len > 0 ? len : 0] = '\0';
    if (fd >= 0)
        (void)close(fd);
}

static NOINLINE bool write_told(int folder, const char *name) {
    int fd = openat(folder, told_name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    size_t len = strlen(name);
    bool is_written = fd >= 0 && write(fd, name, len) == (ssize_t)len;
    if (fd >= 0)
        (void)close(fd);
    return is_written;
}

static void tell(const struct stamped_set *newest, unsigned earlier) {
    struct text line = {0};
    if (crash_dir_headline(&of_process, span_of(newest->names[0]), &line) == 0 && !line.failed)
        LOG(log_crash, LOG_ERROR, "the process before died: %.*s; report: %s/%s", (int)line.len,
            line.data ? line.data : "", of_process.path, newest->names[0]);
    text_fini(&line);
    if (earlier > 0)
        LOG(log_crash, LOG_ERROR, "%u more reports of processes that died are in %s", earlier,
            of_process.path);
}

void crash_dir_tell(void) {
    struct stamped_set *sets;
    char told[STAMPED_NAME_MAX];
    int count = has_dir ? stamped_dir_list(&of_process, &sets) : 0;
    int folder = count > 0 ? open(of_process.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (folder >= 0) {
        unsigned news = 0;
        read_told(folder, told);
        while (news < (unsigned)count && strcmp(sets[news].names[0], told) > 0)
            news++;
        if (news > 0 && !write_told(folder, sets[0].names[0]))
            LOG(log_crash, LOG_WARN, "%s/%s cannot be written: the next start tells of the same",
                of_process.path, told_name);
        if (news > 0)
            tell(&sets[0], news - 1);
        (void)close(folder);
    }
    if (count > 0)
        free(sets);
}
