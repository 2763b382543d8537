/* file_watch: one inotify descriptor and one coroutine for the process.
 *
 *     path ──walk──► {directory, name} of the file and of each symbolic link on the way ──► inotify, per directory
 *     event {directory, name} ──► watches that have the pair are marked ──QUIET_MS──► changed(), then walked anew
 *
 * Directories are watched, not files: a file that is replaced is another inode, and one that is not there yet is none.
 * Events of other names in the same directory are nobody's, so a busy directory costs a comparison per event. Directories
 * further up tell only that they go themselves, removed or renamed; where one is missing it is awaited in the one above it.
 *
 * What changes between two looks is not lost: the inotify watch is set before the file is read, because the first look
 * comes after file_watch_add, and a walk that finds other directories than the one before looks once more.
 *
 * W1  `lock` guards the list and what is in it; it is held over no call of `changed` and no park.
 * W2  A watch is freed by whoever drops its last reference: the list's, or the coroutine's while it calls.
 *
 * Rejected  A thread of its own: readers of what changed are on Ps. Watching files: an atomic replacement ends the
 *           watch, and symbolic links are followed. Looking at times of modification every second: a second late, and
 *           two changes within a tick look like one. */
#include "io/file_watch.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "io/sys.h"
#include "rt/foreign.h"
#include "rt/poll.h"
#include "rt/rt.h"
#include "rt/sync.h"

LOG_COMPONENT(file, "file");

enum {
    QUIET_MS = 50,  /* files that belong together are often replaced one after the other */
    LINKS_MAX = 40, /* as the kernel */
    LOOKS_MAX = 8,  /* in a row, of directories that are never the same twice */
    EVENTS_BYTES = 4096,
};
static const uint32_t EVENTS = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE;
static const uint32_t GONE = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT;
static const uint32_t events_of[] = {
    [FILE_WATCH_ANY] = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE,
    [FILE_WATCH_WHOLE] = IN_CLOSE_WRITE | IN_MOVED_TO,
    [FILE_WATCH_MOVED] = IN_MOVED_TO,
};

struct place {
    int directory;   /* inotify's number of it */
    uint32_t events; /* in it, that count; that it goes itself always does */
    char *name;      /* owned; NULL: any */
};

struct file_watch {
    struct list node; /* of `watches` */
    unsigned refs;
    _Atomic bool removed; /* also read without the lock, between two looks */
    bool marked;
    char **files, **directories; /* NULL-terminated, owned */
    uint32_t events;             /* of inotify, that count */
    struct place *places;
    size_t place_count;
    void (*changed)(void *arg);
    void (*release)(void *arg);
    void *arg;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list watches = {&watches, &watches};
static int descriptor = -1; /* since the first watch */

/* ---- walking ---- */

struct walk {
    struct place *places;
    size_t count, capacity;
    uint32_t events; /* of files */
    bool missed;     /* a directory went while its path was walked */
    int error;
};

/* Others may watch the same directory for more. */
static void note_place(struct walk *walk, const char *directory, const char *name,
                       uint32_t events) {
    uint32_t mask = (events ? EVENTS : 0) | GONE | IN_ONLYDIR | IN_MASK_ADD;
    int number = inotify_add_watch(descriptor, directory, mask);
    if (number < 0) {
        walk->missed |= errno == ENOENT;
        if (events && errno != ENOENT && errno != ENOTDIR && errno != EACCES)
            walk->error = -errno;
        return;
    }
    char *copy = name ? strdup(name) : NULL;
    if (walk->count == walk->capacity) {
        size_t capacity = walk->capacity ? 2 * walk->capacity : 4;
        struct place *grown = realloc(walk->places, capacity * sizeof *grown);
        if (grown) {
            walk->places = grown;
            walk->capacity = capacity;
        }
    }
    if (walk->count == walk->capacity || (name && !copy)) {
        walk->error = -ENOMEM;
        free(copy);
        return;
    }
    walk->places[walk->count++] =
        (struct place){.directory = number, .events = events, .name = copy};
}

static bool is_there(const char *path) {
    struct stat found;
    return lstat(path, &found) == 0;
}

/* The path without its first component is `rest`; what is before it is resolved already. "folder/." is all that is in the
 * folder. */
static void walk_path(struct walk *walk, const char *path) {
    char resolved[PATH_MAX] = "", rest[PATH_MAX], target[PATH_MAX];
    if (strlen(path) >= sizeof rest)
        return; /* nobody could open it */
    strcpy(rest, path);
    for (int links = 0; links <= LINKS_MAX;) {
        char *at = rest;
        if (*at == '/')
            strcpy(resolved, "/");
        while (*at == '/')
            at++;
        size_t len = strcspn(at, "/");
        if (len == 0)
            return; /* it names a directory */
        bool is_last = at[len] == '\0';
        char name[NAME_MAX + 1];
        if (len > NAME_MAX)
            return;
        memcpy(name, at, len);
        name[len] = '\0';
        const char *directory = *resolved ? resolved : ".";
        char whole[PATH_MAX];
        const char *slash = *resolved && strcmp(resolved, "/") != 0 ? "/" : "";
        if (snprintf(whole, sizeof whole, "%s%s%s", resolved, slash, name) >= (int)sizeof whole)
            return;
        ssize_t n = readlink(whole, target, sizeof target - 1);
        bool is_missing = n < 0 && errno == ENOENT;
        if (n >= 0 || is_last)
            note_place(walk, directory, strcmp(name, ".") == 0 ? NULL : name, walk->events);
        else
            note_place(walk, directory, name, is_missing ? IN_MOVED_TO | IN_CREATE : 0);
        if (n < 0) {
            if (is_last || (is_missing && !is_there(whole)))
                return;
            strcpy(resolved, whole);
            at += len;
            while (*at == '/')
                at++;
            memmove(rest, at, strlen(at) + 1);
            continue;
        }
        links++;
        target[n] = '\0';
        char next[PATH_MAX];
        if (snprintf(next, sizeof next, "%s%s%s", target, is_last ? "" : "/",
                     is_last ? "" : at + len + 1) >= (int)sizeof next)
            return;
        strcpy(rest, next);
    }
}

static void free_places(struct place *places, size_t count) {
    for (size_t i = 0; i < count; i++)
        free(places[i].name);
    free(places);
}

static bool same_places(const struct file_watch *watch, const struct walk *walk) {
    if (watch->place_count != walk->count)
        return false;
    for (size_t i = 0; i < walk->count; i++)
        if (watch->places[i].directory != walk->places[i].directory)
            return false;
    return true;
}

static bool is_used(int directory) {
    for (struct list *node = watches.next; node != &watches; node = node->next) {
        const struct file_watch *watch = container_of(node, struct file_watch, node);
        for (size_t i = 0; i < watch->place_count; i++)
            if (watch->places[i].directory == directory)
                return true;
    }
    return false;
}

static void drop_places_locked(struct place *places, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!is_used(places[i].directory))
            (void)inotify_rm_watch(descriptor, places[i].directory); /* it may be gone already */
    free_places(places, count);
}

/* Until no directory goes meanwhile, which the one above would have told of if it had been watched by then. */
static void walk_often(struct walk *walk, const char *path) {
    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        walk->missed = false;
        walk_path(walk, path);
        if (!walk->missed)
            return;
    }
}

/* True when it stands on other directories than before. 0 or -errno in *rc. */
static NOINLINE bool walk_locked(struct file_watch *watch, int *rc) {
    struct walk walk = {.events = watch->events};
    for (char **file = watch->files; *file; file++)
        walk_often(&walk, *file);
    for (char **directory = watch->directories; *directory; directory++)
        walk_often(&walk, *directory);
    bool differs = !same_places(watch, &walk);
    struct place *old = watch->places;
    size_t old_count = watch->place_count;
    watch->places = walk.places;
    watch->place_count = walk.count;
    drop_places_locked(old, old_count);
    *rc = walk.error;
    return differs;
}

/* ---- adding and removing ---- */

static char **copy_names(const struct span *names, size_t count, const char *behind) {
    char **copy = calloc(count + 1, sizeof *copy);
    for (size_t i = 0; copy && i < count; i++) {
        if (asprintf(&copy[i], "%.*s%s", (int)names[i].len, names[i].ptr, behind) < 0) {
            copy[i] = NULL;
            while (i > 0)
                free(copy[--i]);
            free(copy);
            return NULL;
        }
    }
    return copy;
}

static void free_names(char **names) {
    for (size_t i = 0; names && names[i]; i++)
        free(names[i]);
    free(names);
}

static void free_watch(struct file_watch *watch) {
    free_names(watch->files);
    free_names(watch->directories);
    free(watch);
}

static void unref(struct file_watch *watch) {
    pthread_mutex_lock(&lock);
    bool last = --watch->refs == 0;
    if (last) {
        list_remove(&watch->node);
        struct place *places = watch->places;
        size_t count = watch->place_count;
        watch->place_count = 0;
        drop_places_locked(places, count);
    }
    pthread_mutex_unlock(&lock);
    if (!last)
        return;
    watch->release(watch->arg);
    free_watch(watch);
}

struct file_watch *file_watch_add(const struct file_watch_options *options, int *rc) {
    struct file_watch *watch = calloc(1, sizeof *watch);
    if (watch) {
        watch->files = copy_names(options->files, options->file_count, "");
        watch->directories = copy_names(options->directories, options->directory_count, "/.");
    }
    if (!watch || !watch->files || !watch->directories) {
        if (watch)
            free_watch(watch);
        *rc = -ENOMEM;
        return NULL;
    }
    watch->refs = 1;
    watch->events = events_of[options->events];
    watch->changed = options->changed;
    watch->release = options->release;
    watch->arg = options->arg;
    watch->marked = true;
    pthread_mutex_lock(&lock);
    if (descriptor < 0)
        descriptor = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    *rc = descriptor < 0 ? -errno : 0;
    if (*rc == 0) {
        list_push_back(&watches, &watch->node);
        walk_locked(watch, rc);
        if (*rc != 0) {
            list_remove(&watch->node);
            struct place *places = watch->places;
            size_t count = watch->place_count;
            drop_places_locked(places, count);
        }
    }
    pthread_mutex_unlock(&lock);
    if (*rc == 0)
        return watch;
    free_watch(watch);
    return NULL;
}

void file_watch_remove(struct file_watch *watch) {
    watch->removed = true;
    unref(watch);
}

/* ---- the coroutine ---- */

static bool is_of(const struct inotify_event *event, const struct place *place) {
    if (event->wd != place->directory)
        return false;
    return (event->mask & GONE) ||
           ((event->mask & place->events) &&
            (!place->name || (event->len && strcmp(place->name, event->name) == 0)));
}

static void mark_locked(const struct inotify_event *event) {
    for (struct list *node = watches.next; node != &watches; node = node->next) {
        struct file_watch *watch = container_of(node, struct file_watch, node);
        if (event->mask & IN_Q_OVERFLOW)
            watch->marked = true; /* events were lost */
        for (size_t i = 0; i < watch->place_count && !watch->marked; i++)
            watch->marked = is_of(event, &watch->places[i]);
    }
}

/* All events there are. 0 or -errno, -EAGAIN excepted. */
static int take_events(struct poll_fd *pd) {
    char events[EVENTS_BYTES] __attribute__((aligned(__alignof__(struct inotify_event))));
    for (;;) {
        ssize_t n = sys_read(pd->fd, events, sizeof events);
        if (n == -EAGAIN) {
            poll_not_readable(pd);
            return 0;
        }
        if (n <= 0)
            return n == 0 ? -EIO : (int)n;
        pthread_mutex_lock(&lock);
        for (char *at = events; at < events + n;) {
            const struct inotify_event *event = (const void *)at; /* its size keeps them aligned */
            mark_locked(event);
            at += sizeof *event + event->len;
        }
        pthread_mutex_unlock(&lock);
    }
}

static struct file_watch *next_marked(void) {
    struct file_watch *found = NULL;
    pthread_mutex_lock(&lock);
    for (struct list *node = watches.next; node != &watches && !found; node = node->next) {
        struct file_watch *watch = container_of(node, struct file_watch, node);
        if (watch->marked && !watch->removed)
            found = watch;
    }
    if (found) {
        found->marked = false;
        found->refs++;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

struct rewalk {
    struct file_watch *watch;
    bool differs;
};

static void rewalk(void *arg) {
    struct rewalk *task = arg;
    int rc;
    pthread_mutex_lock(&lock);
    task->differs = walk_locked(task->watch, &rc);
    pthread_mutex_unlock(&lock);
    if (rc != 0)
        LOG(log_file, LOG_ERROR, "cannot watch all of the directories of %s: %s",
            task->watch->files[0] ? task->watch->files[0] : "a watched_directory", strerror(-rc));
}

static void look_at(struct file_watch *watch) {
    for (int looks = 0; looks < LOOKS_MAX && !watch->removed; looks++) {
        watch->changed(watch->arg);
        struct rewalk task = {.watch = watch};
        if (blocking_call(rewalk, &task) != 0 || !task.differs)
            break;
    }
    unref(watch);
}

static void await_changes(void *arg) {
    struct poll_fd pd;
    int rc = poll_open(&pd, descriptor, NULL);
    while (rc == 0) {
        for (struct file_watch *watch; (watch = next_marked());)
            look_at(watch);
        rc = poll_wait_readable(&pd, "file changes", RT_FOREVER);
        if (rc == 0)
            rc = rt_sleep_until(clock_mono_ns() + QUIET_MS * NS_PER_MS);
        if (rc == 0)
            rc = take_events(&pd);
    }
    LOG(log_file, LOG_ERROR, "changed files will not be noticed: %s", strerror(-rc));
}

int file_watch_run(void) {
    pthread_mutex_lock(&lock);
    static bool runs;
    bool begins = descriptor >= 0 && !runs;
    runs = runs || begins;
    pthread_mutex_unlock(&lock);
    if (!begins)
        return 0;
    const struct go_options options = {.name = "file changes", .place = RT_ON_P};
    return go_with(&options, await_changes, NULL);
}
