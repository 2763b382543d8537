/* go_log: what Go libraries write to the log, under the component "golang".
 *
 * Threads  Any. Libraries log from the first moment of dlopen on, from their own threads. */
#pragma once
#include "base/log.h"
#include "base/stats.h"

extern struct log_component log_golang;

/* NULL, but in a host process that serves: gets what would be written to the log here. */
extern _Atomic(void (*)(enum log_level level, struct span text)) go_log_elsewhere;

/* A line of a library's, here or elsewhere, if its level is to be seen. */
void go_log_say(enum log_level level, struct span text);

/* Between begin and end, what this thread's calls into Go log at level error is also kept, so that a
 * config error can say what the plugin's parser said. buffer gets a NUL-terminated text, messages
 * joined by "; ", empty when nothing was logged. Not nested. */
void go_log_capture_begin(char *buffer, size_t size);
void go_log_capture_end(void);
