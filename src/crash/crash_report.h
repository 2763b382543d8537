/* crash_report: `sluice --crash-report`, the process that makes a report of the one that started it, which waits for it in a
 * signal handler and then dies (crash_catch.h).
 *
 * A report is text for people: what happened, in which function of which library for which filter and route, the registers, the stack
 * of each thread with functions and lines, what was loaded. It has no contents of memory but registers and return addresses.
 *
 * Threads  Its own process has one. */
#pragma once
#include <stdbool.h>

#include "admin/symbols.h"
#include "admin/text.h"
#include "crash/crash_facts.h"

#define CRASH_REPORT_VERB "--crash-report"

/* argv is the folder, or empty for standard error, and how many reports may be there. */
bool crash_report_is_asked(int argc, char **argv);
/* The exit code: 0 when there is a report. */
int crash_report_main(int argc, char **argv);

/* How addresses get names. */
struct crash_names {
    /* As struct symbolizer's find. */
    unsigned (*find)(uintptr_t pc, struct symbol *out, unsigned max);
    /* False: nothing is there. */
    bool (*module_of)(uintptr_t pc, struct symbols_module *out);
    void (*each_module)(void (*fn)(const struct symbols_module *module, void *arg), void *arg);
};
/* Appends the report, at most CRASH_REPORT_BYTES_MAX. */
void crash_report_write(const struct crash_facts *facts, const struct crash_names *names,
                        struct text *out);
