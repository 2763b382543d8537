/* ext_host_cause: why a host process is no more, in words for a config error: the line by which Go ended it and the
 * goroutine that it happened in, out of everything that the process printed.
 *
 * Pure: the output is whatever a library printed, and may be anything.
 * Limits  CAUSE_LINES_MAX lines of CAUSE_LINE_BYTES_MAX bytes. */
#pragma once
#include "base/check.h"
#include "base/span.h"

enum { CAUSE_LINES_MAX = 24, CAUSE_LINE_BYTES_MAX = 300 };

/* A predicate, "panicked", and behind it what Go said and the goroutine, each as an indented line. status: as
 * waitpid gave it; stuck_ms: it was ended because it gave no answer for so long, or 0. Owned, free(); NULL when
 * memory is short. */
char *ext_host_cause(struct span output, int status, int64_t stuck_ms);
