/* sandbox_landlock: the files of a host process, and what else Landlock keeps it from. Internal to sandbox.c. */
#pragma once
#include "ext/remote/sandbox.h"

/* For the calling thread and those it starts. 0 or -errno with the reason; 0 with a warning in said: the kernel
 * has no Landlock and options can do without. no_new_privs must be set. */
MUST_CHECK int sandbox_restrict_files(const struct sandbox_options *options,
                                      char said[SANDBOX_SAID_MAX]);
