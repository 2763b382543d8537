/* crash: what is said about a fault before the process dies of it. */
#pragma once
#include "base/check.h"

/* Installs the handlers of SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT. What was there before runs
 * after ours. 0 or -errno. */
MUST_CHECK int crash_init(void);
