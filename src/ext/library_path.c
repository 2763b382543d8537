/* library_path: see the header. */
#include "ext/library_path.h"

#include <stdio.h>
#include <string.h>

char *library_path(struct span path) {
    char *out = NULL;
    const char *prefix = path.len && memchr(path.ptr, '/', path.len) ? "" : "./";
    if (asprintf(&out, "%s%.*s", prefix, (int)path.len, path.ptr) < 0)
        return NULL;
    return out;
}
