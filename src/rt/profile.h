/* profile: what the runtime's threads spend processor time on, as stacks that are counted.
 *
 *    profile_start -> (a while) -> profile_stop -> profile_read
 *
 * Each thread of the runtime (Ms, those of blocking_call, sysmon; those that start meanwhile, too) looks
 * at itself each time that it has used 1 / hz of a second. A thread that waits costs nothing and is not
 * seen. Foreign code is followed down to the coroutine that called it, as far as it keeps frame pointers.
 * Off, nothing is armed and no path is longer; at 100 Hz a sample costs some microseconds.
 *
 * Its signal is one of ours and not SIGPROF: Go libraries may profile themselves meanwhile.
 *
 * Threads  Any, one profile at a time in the process.
 * Parks    Nothing here does. profile_read sorts and may wait for a handler: not on a P (blocking_call).
 * Limits   The log has a fixed size; samples that find it full are counted as lost. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "rt/dump.h"

enum {
    PROFILE_HZ = 100, /* Go's */
    PROFILE_HZ_MAX = 1000,
    /* Half a minute of 100 busy processors with stacks of 40 frames; memory is taken as it fills. */
    PROFILE_LOG_BYTES = 128 * 1024 * 1024,
};

struct profile_info {
    int64_t started_ns; /* wall clock */
    int64_t duration_ns, period_ns;
    uint64_t samples, lost;
    unsigned unseen_threads; /* the system gave no timer for so many */
};

/* hz of 0 is PROFILE_HZ, log_bytes of 0 PROFILE_LOG_BYTES. Drops a profile that was stopped and not read.
 * 0, -EBUSY (one is running or being read), -EINVAL (hz), -ENOMEM, or what sigaction said. */
MUST_CHECK int profile_start(unsigned hz, size_t log_bytes);
/* 0 or -EINVAL when none runs. No timer is left. */
MUST_CHECK int profile_stop(void);
/* Calls fn for each different stack of the profile that was stopped, with its number of samples, in no
 * order that means something, and drops it. With a fn of NULL it only drops. Fills info. 0, -EINVAL when
 * there is none, or -ENOMEM, and then it is dropped all the same. */
int profile_read(stack_count_fn fn, void *arg, struct profile_info *info);
