/* crash_catch: a process that dies of a fatal signal has a report made of it (crash_report.h).
 *
 * Threads  Both before and while others run; one at a time. */
#pragma once
#include <stdint.h>

#include "base/check.h"

struct config;

/* From now on. dir: where reports go, absolute, borrowed for ever; NULL: to standard error. 0 or -errno. */
MUST_CHECK int crash_catch_start(const char *dir BORROWED_BY(program), unsigned reports_max);

/* The configuration that is in force from now on: a report has its hash, by which equal ones are known, and its number. */
void crash_catch_config(const struct config *config, uint64_t version);
