/* whole_file: see the header.
 *
 * Whether somebody has a file open for writing the kernel tells who asks for a lease on it, which is given back at once.
 * Who has it open and writes nothing for QUIET_MS is not writing; nor is it sure that there is such a one, as file systems of a
 * network refuse leases in the same way. Only a file's owner is told, and who has CAP_LEASE; for others it rests when
 * it is as old as REST_MS. A file that was another one before the reading than after it is read again.
 *
 * Pipes have no such thing, and an end; who does not write to one for PIPE_MS is waited for no longer. */
#include "config/whole_file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    PATIENCE_MS = 2000,
    LOOK_MS = 5,
    REST_MS = 50,
    QUIET_MS = 1000,
    PIPE_MS = 5000,
    FIRST_BYTES = 16384,
};

struct text {
    char *bytes;
    size_t len, capacity;
};

static int64_t ns_of(const struct timespec *at) {
    return at->tv_sec * NS_PER_S + at->tv_nsec;
}

static bool is_being_written(int fd, const struct stat *file) {
    /* Of who opens it right now; nobody minds one more of these: */
    (void)fcntl(fd, F_SETSIG, SIGURG);
    if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
        (void)fcntl(fd, F_SETLEASE, F_UNLCK);
        return false;
    }
    if (errno != EACCES && errno != EAGAIN) /* it knows no leases */
        return false;
    int64_t rest_ms = errno == EAGAIN ? QUIET_MS : REST_MS;
    int64_t age_ns = clock_wall_ns() - ns_of(&file->st_mtim);
    return age_ns >= 0 && age_ns < rest_ms * NS_PER_MS;
}

static bool is_same(const struct stat *a, const struct stat *b) {
    return a->st_size == b->st_size && ns_of(&a->st_mtim) == ns_of(&b->st_mtim) &&
           ns_of(&a->st_ctim) == ns_of(&b->st_ctim);
}

/* One more byte than max is asked for, which tells that there are more. */
static int make_room(struct text *text, size_t max) {
    if (text->len < text->capacity)
        return 0;
    size_t capacity = text->capacity ? 2 * text->capacity : FIRST_BYTES;
    if (capacity > max + 1)
        capacity = max + 1;
    char *grown = realloc(text->bytes, capacity + 1);
    if (!grown)
        return -ENOMEM;
    text->bytes = grown;
    text->capacity = capacity;
    return 0;
}

/* Also what is no file: then each piece is waited for. */
static int read_all(int fd, bool is_file, size_t max, struct text *text) {
    text->len = 0;
    for (;;) {
        int rc = make_room(text, max);
        if (rc != 0)
            return rc;
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (!is_file && poll(&ready, 1, PIPE_MS) == 0)
            return -ETIMEDOUT;
        ssize_t n = read(fd, text->bytes + text->len, text->capacity - text->len);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        text->len += (size_t)n;
        if (text->len > max)
            return -EFBIG;
    }
}

/* -EBUSY: not now. */
static int try(int fd, size_t max, struct text *text) {
    struct stat before, after;
    if (fstat(fd, &before) != 0)
        return -errno;
    const bool is_file = S_ISREG(before.st_mode);
    if (is_file && is_being_written(fd, &before))
        return -EBUSY;
    int rc = read_all(fd, is_file, max, text);
    if (rc != 0 || !is_file)
        return rc;
    if (fstat(fd, &after) != 0)
        return -errno;
    return is_same(&before, &after) ? 0 : -EBUSY;
}

int whole_file_read(const char *path, size_t max, char **bytes, size_t *len) {
    static const struct timespec pause = {.tv_nsec = LOOK_MS * NS_PER_MS};
    const int64_t until_ns = clock_mono_ns() + PATIENCE_MS * NS_PER_MS;
    struct text text = {0};
    int rc;
    do {
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* each time: it may be replaced */
        if (fd < 0) {
            rc = -errno;
            break;
        }
        rc = try(fd, max, &text);
        (void)close(fd); /* it was only read */
        if (rc == -EBUSY)
            (void)nanosleep(&pause, NULL);
    } while (rc == -EBUSY && clock_mono_ns() < until_ns);
    if (rc != 0) {
        free(text.bytes);
        return rc;
    }
    text.bytes[text.len] = '\0';
    *bytes = text.bytes;
    *len = text.len;
    return 0;
}

const char *whole_file_problem(int rc) {
    if (rc == -EBUSY)
        return "somebody is writing it, and does not end";
    if (rc == -ETIMEDOUT)
        return "is no file, and nobody writes to it";
    return strerror(-rc);
}
