/* test_report: what is shown of a case: what the filter changed, what was expected, what went wrong.
 *
 * Ownership  Borrows the arena and the stream. */
#pragma once
#include <stdio.h>

#include "tool/test_exchange.h"

struct test_report {
    struct cfg_arena *arena;
    FILE *out;
    bool has_colours;
    bool failed; /* some check of the case */
};

/* Without: the same messages past no filter; NULL when that cannot be compared (somebody leaves). */
void test_report_changes(struct test_report *report, const struct test_result *without,
                         const struct test_result *with);
/* One line for each thing that test expects, and for what goes without saying. log: what was logged. */
void test_report_checks(struct test_report *report, const struct test_case *test,
                        const struct test_result *with, struct span log);
/* The same for what the proxy noted; NULL: it has not, which fails. */
void test_report_notes(struct test_report *report, const struct test_expect *expect,
                       const struct cfg_value *notes);
/* A line of its own: what failed. text may have more lines, which are what the process said. */
void test_report_failure(struct test_report *report, const char *format, ...) PRINTF_LIKE(2, 3);
/* Lines of a log, indented, without what a terminal would act on. */
void test_report_log(struct test_report *report, struct span log);
