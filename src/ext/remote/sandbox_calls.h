/* sandbox_calls: every system call that we know, and what the profile does with it. */
#pragma once
#include "base/span.h"

enum sandbox_verdict {
    SANDBOX_CALL_UNKNOWN = 0, /* ENOSYS: a libc that is newer than this table falls back */
    SANDBOX_CALL_ALLOWED,
    SANDBOX_CALL_ASKED, /* its arguments decide: sandbox_seccomp.c */
    SANDBOX_CALL_EXEC,  /* allowed to one that may start processes */
    SANDBOX_CALL_DENIED,
    SANDBOX_CALL_ABSENT, /* ENOSYS, though the kernel has it */
};

enum { SANDBOX_CALLS_END = 512 }; /* past every number */

struct sandbox_call {
    const char *name;
    int number;
    enum sandbox_verdict verdict;
};

extern const struct sandbox_call sandbox_calls[];
extern const size_t sandbox_calls_count;

/* NULL: no such name on this machine. */
const struct sandbox_call *sandbox_call_find(struct span name);
