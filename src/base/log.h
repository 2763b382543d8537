/* log: lines in Envoy's default format, "[2026-01-31 12:00:00.123][tid][level][component] text".
 *
 * Threads    Any thread, foreign ones included; a line is one write(2), so lines never mix.
 * Parks      Never. Errors of the write itself are dropped: there is nowhere left to tell them.
 * Limits     A line is cut at LOG_LINE_MAX bytes; control bytes in it are escaped. */
#pragma once
#include "base/check.h"
#include "base/span.h"
#include <stdatomic.h>

enum log_level { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_CRITICAL, LOG_OFF };
enum { LOG_LINE_MAX = 16384, LOG_COMPONENTS_MAX = 32 };

/* A component is a static object with a level of its own: `LOG_COMPONENT(go, "golang");` at file
 * scope of one .c file, `extern struct log_component log_go;` where others need it. Components
 * register at start-up through a constructor and are listed by /logging. */
struct log_component {
    const char *name;
    _Atomic int level; /* enum log_level */
};

#define LOG_COMPONENT(ident, text)                                                                 \
    struct log_component log_##ident = {text, LOG_INFO};                                           \
    __attribute__((constructor)) static void log_register_##ident(void) {                          \
        log_register(&log_##ident);                                                                \
    }                                                                                              \
    struct log_component log_##ident

void log_register(struct log_component *component BORROWED_BY(program));

static inline bool log_enabled(const struct log_component *component, enum log_level level) {
    return (int)level >= atomic_load_explicit(&component->level, memory_order_relaxed);
}

void log_write(struct log_component *component, enum log_level level, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* The arguments are evaluated only when the level is on. */
#define LOG(component, log_lvl, ...)                                                               \
    (log_enabled(&(component), (log_lvl)) ? log_write(&(component), (log_lvl), __VA_ARGS__)        \
                                          : (void)0)

/* Text of many lines that follows a line of the log, as it is: dumps. Borrows text. */
void log_text(const char *text, size_t len);

/* Applies to all components, those registered later included. */
void log_set_level(enum log_level level);
/* False when no component has that name. */
bool log_set_component_level(struct span name, enum log_level level);
/* "trace".."off", also "warning"; false on another word. */
bool log_level_parse(struct span word, enum log_level *out);
const char *log_level_name(enum log_level level);

/* The i-th component or NULL; stable order of registration. */
struct log_component *log_component_at(unsigned index);

/* Sends lines to a file (append) instead of stderr. 0 or -errno, and then nothing changed.
 * log_reopen opens the same path again, after a rotation. */
MUST_CHECK int log_open_file(const char *path);
void log_reopen(void);
