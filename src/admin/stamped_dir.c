/* stamped_dir: writes sets of files so that nobody sees a part of one.
 *
 *     lock the folder -> new files under names of no set -> the oldest sets go -> rename all
 *
 * I1  While the lock (flock on the folder, which ends with the process) is held, nobody else adds or
 *     removes: so the temporary names are always the same, what a dead process left under them is
 *     replaced, and there are never more sets than are allowed.
 * I2  The older ones go when the new files are written, so a full disk costs none of them.
 * I3  A file is synced before it gets its name: an error that the file system would tell later is
 *     told now, and a set that survives a crash of the machine is whole.
 *
 * A set of which somebody removed a file counts and goes as a whole one does, but is not listed. */
#include "admin/stamped_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

/* ---- Names ---- */

/* After the prefix. A digit for each 0, else the character itself. */
static const char stamp_form[] = "-00000000T000000.000Z";
enum { STAMP_LEN = sizeof stamp_form - 1 };

struct stamp {
    char text[STAMP_LEN + 1];
};

/* Which file of its set it is, or -1: the name is none of ours. */
static int parse_name(const struct stamped_form *form, struct span name, struct stamp *stamp) {
    struct span prefix = span_of(form->prefix);
    if (!span_starts_with(name, prefix) || name.len - prefix.len < STAMP_LEN)
        return -1;
    struct span rest = span_from(name, prefix.len);
    for (size_t i = 0; i < STAMP_LEN; i++) {
        bool is_right = stamp_form[i] == '0' ? rest.ptr[i] >= '0' && rest.ptr[i] <= '9'
                                             : rest.ptr[i] == stamp_form[i];
        if (!is_right)
            return -1;
    }
    *stamp = (struct stamp){{0}};
    memcpy(stamp->text, rest.ptr, STAMP_LEN);
    for (unsigned which = 0; which < form->count; which++)
        if (span_eq(span_from(rest, STAMP_LEN), span_of(form->ends[which])))
            return (int)which;
    return -1;
}

static void put_names(const struct stamped_form *form, const struct stamp *stamp,
                      struct stamped_set *set) {
    for (unsigned which = 0; which < form->count; which++)
        snprintf(set->names[which], sizeof set->names[which], "%s%s%s", form->prefix, stamp->text,
                 form->ends[which]);
}

static void put_temporary(const struct stamped_form *form, unsigned which,
                          char out[STAMPED_NAME_MAX]) {
    snprintf(out, STAMPED_NAME_MAX, ".%s-%u.tmp", form->prefix, which);
}

static struct stamp stamp_of(int64_t wall_ns) {
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    char day[24];
    strftime(day, sizeof day, "%Y%m%dT%H%M%S", &utc);
    struct stamp stamp;
    snprintf(stamp.text, sizeof stamp.text, "-%.15s.%03uZ", day,
             (unsigned)(wall_ns % NS_PER_S / NS_PER_MS) % 1000);
    return stamp;
}

static int64_t time_of(const struct stamp *stamp) {
    struct tm utc = {0};
    unsigned ms = 0;
    if (sscanf(stamp->text, "-%4d%2d%2dT%2d%2d%2d.%3uZ", &utc.tm_year, &utc.tm_mon, &utc.tm_mday,
               &utc.tm_hour, &utc.tm_min, &utc.tm_sec, &ms) != 7)
        return 0;
    utc.tm_year -= 1900;
    utc.tm_mon -= 1;
    return (int64_t)timegm(&utc) * NS_PER_S + ms * NS_PER_MS;
}

/* ---- What is there ---- */

struct found {
    struct stamp stamp;
    int64_t bytes;
    unsigned has; /* a bit for each file */
};
struct founds {
    struct found *items;
    size_t count;
};

static int by_age(const void *a, const void *b) {
    return strcmp(((const struct found *)a)->stamp.text, ((const struct found *)b)->stamp.text);
}

/* One item for each file: those of a set are merged afterwards. */
static int add_found(struct founds *founds, const struct found *found) {
    if ((founds->count & (founds->count - 1)) == 0) { /* a power of two, or none: it is full */
        size_t max = founds->count ? 2 * founds->count : 1;
        struct found *items = realloc(founds->items, max * sizeof *items);
        if (!items)
            return -ENOMEM;
        founds->items = items;
    }
    founds->items[founds->count++] = *found;
    return 0;
}

static void merge_sets(struct founds *founds) {
    if (founds->count == 0)
        return;
    qsort(founds->items, founds->count, sizeof *founds->items, by_age);
    size_t last = 0;
    for (size_t i = 1; i < founds->count; i++) {
        struct found *item = &founds->items[i];
        if (by_age(item, &founds->items[last]) != 0) {
            founds->items[++last] = *item;
            continue;
        }
        founds->items[last].bytes += item->bytes;
        founds->items[last].has |= item->has;
    }
    founds->count = last + 1;
}

/* Oldest first, in memory of malloc. 0 or -errno, and then there is nothing to free. */
static NOINLINE int find_all(const struct stamped_form *form, int folder, struct founds *founds) {
    *founds = (struct founds){0};
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *stream = fdopendir(fd);
    if (!stream) {
        int err = -errno;
        close(fd);
        return err;
    }
    int err = 0;
    for (const struct dirent *entry; err == 0 && (entry = readdir(stream));) {
        struct found found = {.bytes = 0};
        struct stat info;
        int which = parse_name(form, span_of(entry->d_name), &found.stamp);
        if (which < 0 || fstatat(folder, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(info.st_mode))
            continue;
        found.has = 1U << which;
        found.bytes = info.st_size;
        err = add_found(founds, &found);
    }
    closedir(stream);
    if (err < 0) {
        free(founds->items);
        *founds = (struct founds){0};
        return err;
    }
    merge_sets(founds);
    return 0;
}

static NOINLINE int make_folder(const char *path) {
    return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : -errno;
}

static NOINLINE int open_folder(const struct stamped_dir *dir) {
    int fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int stamped_dir_init(struct stamped_dir *dir, const struct stamped_form *form, const char *path,
                     unsigned sets_max, int64_t bytes_max) {
    struct stamped_dir made = {.form = form, .sets_max = sets_max, .bytes_max = bytes_max};
    int err = make_folder(path);
    if (err < 0)
        return err;
    char *absolute = realpath(path, NULL);
    if (!absolute)
        return -errno;
    int len = snprintf(made.path, sizeof made.path, "%s", absolute);
    free(absolute);
    if (len < 0 || (size_t)len >= sizeof made.path)
        return -ENAMETOOLONG;
    int folder = open_folder(&made);
    if (folder < 0)
        return folder;
    err = faccessat(folder, ".", W_OK | X_OK, AT_EACCESS) == 0 ? 0 : -errno;
    close(folder);
    if (err == 0)
        *dir = made;
    return err;
}

/* ---- Writing ---- */

static int write_all(int fd, struct span bytes) {
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes = span_from(bytes, (size_t)n);
    }
    return fsync(fd) == 0 ? 0 : -errno;
}

/* What is there under its name was left by a process that died, or is somebody's trap. */
static int write_temporary(const struct stamped_form *form, int folder, unsigned which,
                           struct span bytes) {
    char name[STAMPED_NAME_MAX];
    put_temporary(form, which, name);
    if (unlinkat(folder, name, 0) != 0 && errno != ENOENT)
        return -errno;
    int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int err = write_all(fd, bytes);
    if (close(fd) != 0 && err == 0)
        err = -errno;
    return err;
}

/* All files of a set, those that are there. */
static int remove_set(const struct stamped_form *form, int folder, const struct stamped_set *set) {
    for (unsigned which = 0; which < form->count; which++)
        if (unlinkat(folder, set->names[which], 0) != 0 && errno != ENOENT)
            return -errno;
    return 0;
}

/* Until one more of those bytes fits. */
static int make_room(const struct stamped_dir *dir, int folder, int64_t bytes) {
    struct founds founds;
    int err = find_all(dir->form, folder, &founds);
    if (err < 0)
        return err;
    int64_t total = bytes;
    for (size_t i = 0; i < founds.count; i++)
        total += founds.items[i].bytes;
    for (size_t i = 0; i < founds.count && err == 0; i++) {
        if (founds.count - i < dir->sets_max && total <= dir->bytes_max)
            break;
        struct stamped_set oldest;
        put_names(dir->form, &founds.items[i].stamp, &oldest);
        err = remove_set(dir->form, folder, &oldest);
        total -= founds.items[i].bytes;
    }
    free(founds.items);
    return err;
}

static bool is_free(const struct stamped_form *form, int folder, const struct stamped_set *set) {
    struct stat info;
    for (unsigned which = 0; which < form->count; which++)
        if (fstatat(folder, set->names[which], &info, AT_SYMLINK_NOFOLLOW) == 0)
            return false;
    return true;
}

static int name_set(const struct stamped_form *form, int folder, int64_t wall_ns,
                    struct stamped_set *set) {
    for (set->taken_ns = wall_ns - wall_ns % NS_PER_MS;; set->taken_ns += NS_PER_MS) {
        struct stamp stamp = stamp_of(set->taken_ns);
        put_names(form, &stamp, set);
        if (is_free(form, folder, set))
            break;
    }
    for (unsigned which = 0; which < form->count; which++) {
        char temporary[STAMPED_NAME_MAX];
        put_temporary(form, which, temporary);
        if (renameat(folder, temporary, folder, set->names[which]) != 0) {
            int err = -errno;
            (void)remove_set(form, folder, set); /* it says already that it failed */
            return err;
        }
    }
    return 0;
}

static int write_set(const struct stamped_dir *dir, int folder, int64_t wall_ns,
                     const struct span *contents, struct stamped_set *set) {
    const struct stamped_form *form = dir->form;
    int err = 0;
    for (unsigned which = 0; which < form->count && err == 0; which++)
        err = write_temporary(form, folder, which, contents[which]);
    if (err == 0)
        err = make_room(dir, folder, set->bytes);
    if (err == 0)
        err = name_set(form, folder, wall_ns, set);
    for (unsigned which = 0; which < form->count && err < 0; which++) {
        char temporary[STAMPED_NAME_MAX];
        put_temporary(form, which, temporary);
        (void)unlinkat(folder, temporary, 0); /* whichever of them is there */
    }
    return err;
}

int stamped_dir_add(const struct stamped_dir *dir, int64_t wall_ns, const struct span *contents,
                    struct stamped_set *set) {
    int err = make_folder(dir->path); /* somebody may have removed it */
    if (err < 0)
        return err;
    int folder = open_folder(dir);
    if (folder < 0)
        return folder;
    struct stamped_set made = {.bytes = 0};
    for (unsigned which = 0; which < dir->form->count; which++)
        made.bytes += (int64_t)contents[which].len;
    err = flock(folder, LOCK_EX | LOCK_NB) == 0 ? 0 : -EBUSY;
    if (err == 0)
        err = write_set(dir, folder, wall_ns, contents, &made);
    close(folder);
    if (err == 0)
        *set = made;
    return err;
}

/* ---- Reading ---- */

int stamped_dir_list(const struct stamped_dir *dir, struct stamped_set **sets) {
    *sets = NULL;
    int folder = open_folder(dir);
    if (folder < 0)
        return folder;
    struct founds founds;
    int count = find_all(dir->form, folder, &founds);
    close(folder);
    if (count < 0 || founds.count == 0)
        return count;
    struct stamped_set *made = calloc(founds.count, sizeof *made);
    count = made ? 0 : -ENOMEM;
    for (size_t i = founds.count; made && i-- > 0;) {
        const struct found *found = &founds.items[i];
        if (found->has != (1U << dir->form->count) - 1)
            continue;
        struct stamped_set *set = &made[count++];
        put_names(dir->form, &found->stamp, set);
        set->taken_ns = time_of(&found->stamp);
        set->bytes = found->bytes;
    }
    free(founds.items);
    *sets = made;
    return count;
}

int stamped_dir_read(const struct stamped_dir *dir, struct span name, struct text *out) {
    struct stamp stamp;
    int which = parse_name(dir->form, name, &stamp);
    if (which < 0)
        return -EINVAL;
    struct stamped_set set;
    put_names(dir->form, &stamp, &set);
    int folder = open_folder(dir);
    if (folder < 0)
        return folder;
    int err = 0;
    int fd = openat(folder, set.names[which], O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        err = -errno;
    close(folder);
    if (err < 0)
        return err;
    char buffer[16 * 1024];
    ssize_t n;
    while ((n = read(fd, buffer, sizeof buffer)) > 0)
        text_put(out, span_make(buffer, (size_t)n));
    if (n < 0)
        err = -errno;
    close(fd);
    return err;
}
