#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

static struct log_component *components[LOG_COMPONENTS_MAX];
static _Atomic unsigned component_count;
static _Atomic int default_level = LOG_INFO;
static _Atomic int log_fd = STDERR_FILENO;
static char *log_path; /* set once at start */

static const char *const level_names[] = {"trace", "debug",    "info", "warning",
                                          "error", "critical", "off"};

void log_register(struct log_component *component) {
    unsigned index = atomic_fetch_add(&component_count, 1);
    ASSERT(index < LOG_COMPONENTS_MAX);
    component->level = default_level;
    components[index] = component;
}

struct log_component *log_component_at(unsigned index) {
    return index < atomic_load(&component_count) ? components[index] : NULL;
}

void log_set_level(enum log_level level) {
    default_level = (int)level;
    for (unsigned i = 0; i < component_count; i++)
        components[i]->level = (int)level;
}

bool log_set_component_level(struct span name, enum log_level level) {
    for (unsigned i = 0; i < component_count; i++) {
        if (span_eq(span_of(components[i]->name), name)) {
            components[i]->level = (int)level;
            return true;
        }
    }
    return false;
}

bool log_level_parse(struct span word, enum log_level *out) {
    if (span_eq(word, SPAN_LIT("warn"))) {
        *out = LOG_WARN;
        return true;
    }
    for (int i = LOG_TRACE; i <= LOG_OFF; i++) {
        if (span_eq(word, span_of(level_names[i]))) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

const char *log_level_name(enum log_level level) {
    return level_names[level];
}

int log_open_file(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    free(log_path);
    log_path = strdup(path);
    atomic_store(&log_fd, fd);
    return 0;
}

/* The new file takes the old one's descriptor number, so a line being written meanwhile lands in
 * one of the two and nobody can write to a closed descriptor. */
void log_reopen(void) {
    if (!log_path)
        return;
    int fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    (void)dup3(fd, atomic_load(&log_fd), O_CLOEXEC); /* on failure the old file goes on */
    close(fd);
}

static size_t put_prefix(char *line, size_t size, const char *component, enum log_level level) {
    int64_t wall_ns = clock_wall_ns();
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    int n = snprintf(line, size, "[%04d-%02d-%02d %02d:%02d:%02d.%03d][%ld][%s][%s] ",
                     tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                     (int)(wall_ns % NS_PER_S / NS_PER_MS), (long)syscall(SYS_gettid),
                     level_names[level], component);
    return (size_t)n;
}

/* Control bytes would let a peer drive the terminal that shows the log. Tabs stay, and newlines: our
 * own texts have several lines (dumps, stacks of extensions), and what we print of a peer was checked
 * by a parser that lets no newline through. */
static size_t escape_control(char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 && text[i] != '\t' && text[i] != '\n')
            text[i] = '?';
    return len;
}

void log_write(struct log_component *component, enum log_level level, const char *format, ...) {
    /* Lines are short as a rule and this may run on a coroutine's stack of 64 KiB. */
    char line[LOG_LINE_MAX];
    size_t used = put_prefix(line, sizeof line, component->name, level);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    if (n < 0)
        return;
    size_t body = (size_t)n;
    if (body > sizeof line - used - 2)
        body = sizeof line - used - 2;
    used += escape_control(line + used, body);
    if (line[used - 1] != '\n')
        line[used++] = '\n';
    ssize_t written = write(atomic_load(&log_fd), line, used);
    (void)written; /* there is nowhere left to tell it */
}

void log_text(const char *text, size_t len) {
    while (len > 0) {
        ssize_t written = write(atomic_load(&log_fd), text, len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return; /* as above */
        text += written;
        len -= (size_t)written;
    }
}
