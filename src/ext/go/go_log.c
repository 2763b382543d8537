/* go_log: see the header. The SDK's own api.LogX filters by the level it polls once a second;
 * callbacks.Log does not filter, so the component's level decides here as well. */
#include "ext/go/go_log.h"

#include <stdio.h>

#include "ext/go/go_exports.h"

LOG_COMPONENT(golang, "golang");

_Atomic(void (*)(enum log_level level, struct span text)) go_log_elsewhere;

static _Thread_local struct {
    char *buffer;
    size_t size;
} capture;

void go_log_capture_begin(char *buffer, size_t size) {
    buffer[0] = 0;
    capture.buffer = buffer;
    capture.size = size;
}

void go_log_capture_end(void) {
    capture.buffer = NULL;
}

void go_log_say(enum log_level level, struct span text) {
    void (*elsewhere)(enum log_level level, struct span text) =
        atomic_load_explicit(&go_log_elsewhere, memory_order_acquire); /* remote/host_text.c */
    if (!elsewhere)
        LOG(log_golang, level, "%.*s", (int)text.len, text.ptr);
    else if (log_enabled(&log_golang, level))
        elsewhere(level, text);
}

GO_EXPORT void envoyGoFilterLog(uint32_t level, void *text, int len) {
    if (len < 0 || !text)
        len = 0;
    if (level >= LOG_OFF)
        return;
    if (level >= LOG_ERROR && capture.buffer) {
        size_t used = strlen(capture.buffer);
        (void)snprintf(capture.buffer + used, capture.size - used, "%s%.*s", used ? "; " : "", len,
                       (const char *)text);
    }
    go_log_say((enum log_level)level, span_make(text ? text : "", (size_t)len));
}

GO_EXPORT uint32_t envoyGoFilterLogLevel(void) {
    int level = atomic_load_explicit(&log_golang.level, memory_order_relaxed);
    return level < LOG_TRACE ? LOG_TRACE : level > LOG_OFF ? LOG_OFF : (uint32_t)level;
}
