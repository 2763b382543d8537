/* crash_dir: the folder of reports of processes that died (crash/crash_report.h): crash-20261121T174005.123Z.txt. The first
 * line of each says it in short. Number and size are bounded; the oldest go.
 *
 * Threads  Any; what is of the process is set before others run. Files block: not on a P. */
#pragma once
#include "admin/stamped_dir.h"

enum {
    CRASH_REPORT_BYTES_MAX = 256 * 1024, /* of one; the rest is cut */
    CRASH_REPORTS_DEFAULT = 20,
    CRASH_REPORTS_MAX = 1000,
};

/* 0, or what stamped_dir_init says. */
MUST_CHECK int crash_dir_init(struct stamped_dir *dir, const char *path, unsigned reports_max);

/* Appends the first line of a report. As stamped_dir_read. */
MUST_CHECK int crash_dir_headline(const struct stamped_dir *dir, struct span name,
                                  struct text *out);

/* ---- Of the process ---- */

/* Once. As crash_dir_init. */
MUST_CHECK int crash_dir_use(const char *path, unsigned reports_max);
/* NULL: it has none. */
const struct stamped_dir *crash_dir_of_process(void);
/* Reports there are. 0 where there is no folder. */
unsigned crash_dir_count(void);
/* Says in the log how former processes died, of which nobody has said it so far. */
void crash_dir_tell(void);
