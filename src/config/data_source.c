#include "config/data_source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/whole_file.h"

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

char *cfg_data_source_read(const struct cfg_data_source *source, const char *what, size_t max,
                           const struct cfg_mark *mark, struct cfg_problems *problems,
                           size_t *len) {
    struct span bytes = span_none();
    if (source->specifier_case == CFG_DATA_FILENAME) {
        char *file = NULL;
        int rc = whole_file_read(source->filename.ptr, max, &file, len);
        if (rc != 0)
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "%s: %s: %s", what,
                            source->filename.ptr, whole_file_problem(rc));
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
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "%s: %s", what, strerror(ENOMEM));
    return copy;
}
