#include "config/data_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static char *copy_of(struct span bytes, size_t *len) {
    char *copy = malloc(bytes.len + 1);
    if (!copy)
        return NULL;
    if (bytes.len)
        memcpy(copy, bytes.ptr, bytes.len);
    copy[bytes.len] = '\0';
    *len = bytes.len;
    return copy;
}

/* 0 or an errno value. */
static int read_all(int fd, char *into, size_t max, size_t *len) {
    ssize_t n = 1;
    *len = 0;
    while (n > 0 && *len <= max) {
        n = read(fd, into + *len, max + 1 - *len);
        *len += n > 0 ? (size_t)n : 0;
    }
    if (n < 0)
        return errno;
    return *len > max ? EFBIG : 0;
}

/* NULL and *error. */
static char *read_file(const char *path, size_t max, size_t *len, int *error) {
    char *bytes = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        *error = errno;
        return NULL;
    }
    char *room = malloc(max + 1);
    *error = room ? read_all(fd, room, max, len) : ENOMEM;
    (void)close(fd); /* only read */
    if (*error == 0)
        bytes = copy_of(span_make(room, *len), len);
    if (*error == 0 && !bytes)
        *error = ENOMEM;
    free(room);
    return bytes;
}

char *cfg_data_source_read(const struct cfg_data_source *source, const char *what, size_t max,
                           const struct cfg_mark *mark, struct cfg_problems *problems,
                           size_t *len) {
    struct span bytes = span_none();
    int error = ENOMEM;
    if (source->specifier_case == CFG_DATA_FILENAME) {
        char *file = read_file(source->filename.ptr, max, len, &error);
        if (!file)
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "%s: %s: %s", what,
                            source->filename.ptr, strerror(error));
        return file;
    }
    if (source->specifier_case == CFG_DATA_INLINE_BYTES)
        bytes = source->inline_bytes;
    if (source->specifier_case == CFG_DATA_INLINE_STRING)
        bytes = source->inline_string;
    if (source->specifier_case == CFG_DATA_ENVIRONMENT) {
        const char *value = getenv(source->environment_variable.ptr);
        if (!value) {
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark,
                            "%s: there is no environment variable %s", what,
                            source->environment_variable.ptr);
            return NULL;
        }
        bytes = span_of(value);
    }
    char *copy = copy_of(bytes, len);
    if (!copy)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "%s: %s", what, strerror(error));
    return copy;
}
