/* overload_monitor: a file is read at each look instead of being watched: it is a few bytes, and so it
 * does not matter whether it was written in place or moved there. */
#include "proxy/overload_monitor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static NOINLINE int read_number(const char *path, double *out, const char **why) {
    char text[64];
    FILE *file = fopen(path, "re");
    if (!file) {
        *why = "the file cannot be opened";
        return -errno;
    }
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r' || text[n - 1] == ' '))
        n--;
    text[n] = '\0';
    char *end;
    double value = strtod(text, &end);
    if (n == 0 || *end || end == text) {
        *why = "the file holds no number";
        return -EINVAL;
    }
    if (!(value >= 0 && value <= 1)) {
        *why = "the number in the file is not within 0 and 1";
        return -ERANGE;
    }
    *out = value;
    return 0;
}

static int share_of(uint64_t bytes, const struct overload_monitor *monitor, double *pressure) {
    *pressure = (double)bytes / (double)monitor->max_bytes;
    return 0;
}

int overload_monitor_measure(const struct overload_monitor *monitor, const struct memory_use *use,
                             double *pressure, const char **why) {
    switch (monitor->kind) {
    case MONITOR_FILE:
        return read_number(monitor->path, pressure, why);
    case MONITOR_FIXED_HEAP:
        return share_of(use->allocated, monitor, pressure);
    case MONITOR_CONNECTIONS:
        *pressure = (double)connection_limit_open(monitor->connections) /
                    (double)connection_limit_max(monitor->connections);
        return 0;
    case MONITOR_ANONYMOUS:
        break;
    }
    if (use->anonymous == 0) {
        *why = "/proc/self/statm cannot be read";
        return -ENOENT;
    }
    return share_of(use->anonymous, monitor, pressure);
}
