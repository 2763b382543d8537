/* crash_catch: a process that dies of a fatal signal has a report made of it (crash_report.h), and what that says of the process
 * besides: what it was about, and which configuration it had.
 *
 * Threads  crash_catch_start before others run. Each of the rest: one call at a time, while others run. */
#pragma once
#include <stdint.h>

#include "base/check.h"

struct crash_options {
    const char *dir; /* where reports go, absolute, borrowed for ever; NULL: to standard error */
    unsigned reports_max;
    unsigned
        generation; /* how many processes a supervisor has started, this one included; 0: there is none */
};
/* From now on; it is starting. 0 or -errno. */
MUST_CHECK int crash_catch_start(const struct crash_options *options);

/* What the process is about: "serving". */
void crash_catch_state(const char *state BORROWED_BY(program));

struct crash_config {
    uint64_t version; /* its number; 0: there is none */
    uint64_t hash;    /* resources_hash: by which equal ones are known; 0: it is not known */
    int64_t since_wall_ns;
    const char *origin; /* who asked for it; a literal */
};
/* The configuration that is in force from now on. */
void crash_catch_config(const struct crash_config *config);
/* One is being built, and put in its place, since then; NULL: none is. */
void crash_catch_building(const struct crash_config *config);
