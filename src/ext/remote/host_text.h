/* host_text: what a library logs in a host process, which the proxy writes to its log (go_log.h).
 *
 * Threads  Any. */
#pragma once
#include "base/span.h"

/* From now on the proxy gets it: the process serves. */
void host_text_begin(void);
