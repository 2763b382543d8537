/* spike_dir: writes pairs of files so that nobody sees half of one.
 *
 *     lock the folder -> two new files under names of no pair -> the oldest pairs go -> rename both
 *
 * I1  While the lock (flock on the folder, which ends with the process) is held, nobody else adds or
 *     removes: so the two temporary names are always the same, what a dead process left under them is
 *     replaced, and there are never more pairs than are allowed.
 * I2  The older ones go when the new files are written, so a full disk costs none of them.
 * I3  A file is synced before it gets its name: an error that the file system would tell later is
 *     told now, and a pair that survives a crash of the machine is whole.
 *
 * A half pair, whose other file somebody removed, counts and goes as a pair does, but is not listed. */
#include "admin/spike_dir.h"

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

static const char temporary[2][24] = {".heap-spike-before.tmp", ".heap-spike-after.tmp"};
static const char *const ends[2] = {"-before.pb.gz", "-after.pb.gz"};
enum { BEFORE, AFTER };

/* ---- Names ---- */

/* A digit for each 0, else the character itself. */
static const char stamp_form[] = "heap-00000000T000000.000Z";
enum { STAMP_LEN = sizeof stamp_form - 1 };

struct stamp {
    char text[STAMP_LEN + 1];
};

/* Which of both it is, or -1: the name is none of ours. */
static int parse_name(struct span name, struct stamp *stamp) {
    if (name.len < STAMP_LEN)
        return -1;
    for (size_t i = 0; i < STAMP_LEN; i++) {
        bool is_right = stamp_form[i] == '0' ? name.ptr[i] >= '0' && name.ptr[i] <= '9'
                                             : name.ptr[i] == stamp_form[i];
        if (!is_right)
            return -1;
    }
    *stamp = (struct stamp){{0}};
    memcpy(stamp->text, name.ptr, STAMP_LEN);
    for (int which = BEFORE; which <= AFTER; which++)
        if (span_eq(span_from(name, STAMP_LEN), span_of(ends[which])))
            return which;
    return -1;
}

static void put_names(const struct stamp *stamp, struct spike_pair *pair) {
    snprintf(pair->before, sizeof pair->before, "%s%s", stamp->text, ends[BEFORE]);
    snprintf(pair->after, sizeof pair->after, "%s%s", stamp->text, ends[AFTER]);
}

static struct stamp stamp_of(int64_t wall_ns) {
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    char day[24];
    strftime(day, sizeof day, "%Y%m%dT%H%M%S", &utc);
    struct stamp stamp;
    snprintf(stamp.text, sizeof stamp.text, "heap-%.15s.%03uZ", day,
             (unsigned)(wall_ns % NS_PER_S / NS_PER_MS) % 1000);
    return stamp;
}

static int64_t time_of(const struct stamp *stamp) {
    struct tm utc = {0};
    unsigned ms = 0;
    if (sscanf(stamp->text, "heap-%4d%2d%2dT%2d%2d%2d.%3uZ", &utc.tm_year, &utc.tm_mon,
               &utc.tm_mday, &utc.tm_hour, &utc.tm_min, &utc.tm_sec, &ms) != 7)
        return 0;
    utc.tm_year -= 1900;
    utc.tm_mon -= 1;
    return (int64_t)timegm(&utc) * NS_PER_S + ms * NS_PER_MS;
}

/* ---- What is there ---- */

struct found {
    struct stamp stamp;
    int64_t bytes;
    bool has[2];
};
struct founds {
    struct found *items;
    size_t count;
};

static int by_age(const void *a, const void *b) {
    return strcmp(((const struct found *)a)->stamp.text, ((const struct found *)b)->stamp.text);
}

/* One item for each file: those of a pair are merged afterwards. */
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

static void merge_pairs(struct founds *founds) {
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
        founds->items[last].has[BEFORE] |= item->has[BEFORE];
        founds->items[last].has[AFTER] |= item->has[AFTER];
    }
    founds->count = last + 1;
}

/* Oldest first, in memory of malloc. 0 or -errno, and then there is nothing to free. */
static NOINLINE int find_all(int folder, struct founds *founds) {
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
        int which = parse_name(span_of(entry->d_name), &found.stamp);
        if (which < 0 || fstatat(folder, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(info.st_mode))
            continue;
        found.has[which] = true;
        found.bytes = info.st_size;
        err = add_found(founds, &found);
    }
    closedir(stream);
    if (err < 0) {
        free(founds->items);
        *founds = (struct founds){0};
        return err;
    }
    merge_pairs(founds);
    return 0;
}

static NOINLINE int make_folder(const char *path) {
    return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : -errno;
}

static NOINLINE int open_folder(const struct spike_dir *dir) {
    int fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int spike_dir_init(struct spike_dir *dir, const char *path, unsigned pairs_max, int64_t bytes_max) {
    struct spike_dir made = {.pairs_max = pairs_max, .bytes_max = bytes_max};
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
static int write_temporary(int folder, int which, struct span bytes) {
    if (unlinkat(folder, temporary[which], 0) != 0 && errno != ENOENT)
        return -errno;
    int fd = openat(folder, temporary[which], O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    0600);
    if (fd < 0)
        return -errno;
    int err = write_all(fd, bytes);
    if (close(fd) != 0 && err == 0)
        err = -errno;
    return err;
}

/* Until one more of those bytes fits. */
static int make_room(const struct spike_dir *dir, int folder, int64_t bytes) {
    struct founds founds;
    int err = find_all(folder, &founds);
    if (err < 0)
        return err;
    int64_t total = bytes;
    for (size_t i = 0; i < founds.count; i++)
        total += founds.items[i].bytes;
    for (size_t i = 0; i < founds.count && err == 0; i++) {
        if (founds.count - i < dir->pairs_max && total <= dir->bytes_max)
            break;
        struct spike_pair oldest;
        put_names(&founds.items[i].stamp, &oldest);
        if ((unlinkat(folder, oldest.before, 0) != 0 && errno != ENOENT) ||
            (unlinkat(folder, oldest.after, 0) != 0 && errno != ENOENT))
            err = -errno;
        total -= founds.items[i].bytes;
    }
    free(founds.items);
    return err;
}

static int name_pair(int folder, int64_t wall_ns, struct spike_pair *pair) {
    struct stat info;
    for (pair->taken_ns = wall_ns - wall_ns % NS_PER_MS;; pair->taken_ns += NS_PER_MS) {
        struct stamp stamp = stamp_of(pair->taken_ns);
        put_names(&stamp, pair);
        if (fstatat(folder, pair->before, &info, AT_SYMLINK_NOFOLLOW) != 0 &&
            fstatat(folder, pair->after, &info, AT_SYMLINK_NOFOLLOW) != 0)
            break;
    }
    if (renameat(folder, temporary[BEFORE], folder, pair->before) != 0)
        return -errno;
    if (renameat(folder, temporary[AFTER], folder, pair->after) == 0)
        return 0;
    int err = -errno;
    (void)unlinkat(folder, pair->before, 0); /* it says already that it failed */
    return err;
}

int spike_dir_add(const struct spike_dir *dir, int64_t wall_ns, struct span before,
                  struct span after, struct spike_pair *pair) {
    int err = make_folder(dir->path); /* somebody may have removed it */
    if (err < 0)
        return err;
    int folder = open_folder(dir);
    if (folder < 0)
        return folder;
    struct spike_pair made = {.bytes = (int64_t)(before.len + after.len)};
    err = flock(folder, LOCK_EX | LOCK_NB) == 0 ? 0 : -EBUSY;
    if (err < 0)
        goto unlocked;
    if ((err = write_temporary(folder, BEFORE, before)) < 0 ||
        (err = write_temporary(folder, AFTER, after)) < 0 ||
        (err = make_room(dir, folder, made.bytes)) < 0 ||
        (err = name_pair(folder, wall_ns, &made)) < 0) {
        (void)unlinkat(folder, temporary[BEFORE], 0); /* whichever of them is there */
        (void)unlinkat(folder, temporary[AFTER], 0);
    }
unlocked:
    close(folder);
    if (err == 0)
        *pair = made;
    return err;
}

/* ---- Reading ---- */

int spike_dir_list(const struct spike_dir *dir, struct spike_pair **pairs) {
    *pairs = NULL;
    int folder = open_folder(dir);
    if (folder < 0)
        return folder;
    struct founds founds;
    int count = find_all(folder, &founds);
    close(folder);
    if (count < 0 || founds.count == 0)
        return count;
    struct spike_pair *made = calloc(founds.count, sizeof *made);
    count = made ? 0 : -ENOMEM;
    for (size_t i = founds.count; made && i-- > 0;) {
        const struct found *found = &founds.items[i];
        if (!found->has[BEFORE] || !found->has[AFTER])
            continue;
        struct spike_pair *pair = &made[count++];
        put_names(&found->stamp, pair);
        pair->taken_ns = time_of(&found->stamp);
        pair->bytes = found->bytes;
    }
    free(founds.items);
    *pairs = made;
    return count;
}

int spike_dir_read(const struct spike_dir *dir, struct span name, struct text *out) {
    struct stamp stamp;
    int which = parse_name(name, &stamp);
    if (which < 0)
        return -EINVAL;
    struct spike_pair pair;
    put_names(&stamp, &pair);
    int folder = open_folder(dir);
    if (folder < 0)
        return folder;
    int err = 0;
    int fd = openat(folder, which == BEFORE ? pair.before : pair.after,
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
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
