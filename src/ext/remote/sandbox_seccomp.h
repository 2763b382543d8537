/* sandbox_seccomp: the filter of system calls of a host process. Internal to sandbox.c and its test. */
#pragma once
#include <linux/filter.h>

#include "ext/remote/sandbox.h"

enum { SANDBOX_PROGRAM_MAX = 2048 };

/* The program for this process: its id is in it. How long it is; 0: said has what is wrong with the options. */
MUST_CHECK size_t sandbox_program(const struct sandbox_options *options,
                                  struct sock_filter program[SANDBOX_PROGRAM_MAX],
                                  char said[SANDBOX_SAID_MAX]);
/* Makes and installs it, for all threads. 0 or -errno with the reason. no_new_privs must be set. */
MUST_CHECK int sandbox_filter_calls(const struct sandbox_options *options,
                                    char said[SANDBOX_SAID_MAX]);
