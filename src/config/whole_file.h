/* whole_file: all of a file, as it is when nobody writes to it. Who writes a file in place, and has it open, is waited for,
 * so that half of a configuration, or of a key, is not taken for all of it.
 *
 * Threads  Any that may wait: off the Ps. */
#pragma once
#include <stddef.h>

#include "base/check.h"

/* 0: *bytes is malloc'ed, with a NUL behind its *len. Or -errno; -EFBIG: it has more than max bytes; -EBUSY: somebody wrote
 * to it all the time; -ETIMEDOUT: of a pipe, or a device, nothing came. */
MUST_CHECK int whole_file_read(const char *path, size_t max, char **bytes, size_t *len);

/* "cannot be opened: no such file", of what it answered; borrowed for ever, or until the next call of this thread. */
const char *whole_file_problem(int rc);
