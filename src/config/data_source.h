/* data_source: the bytes that a DataSource stands for: inline, a file's, an environment variable's.
 *
 * Threads  Off the Ps: a file may block. */
#pragma once
#include "config/config.h"

/* A copy in malloc memory, owned, NUL-terminated beyond *len; NULL: there is none, and a problem at `mark` says why,
 * with `what` (a field's name) before it. max: bytes of a file. A source of which nothing is set is empty. */
MUST_CHECK char *cfg_data_source_read(const struct cfg_data_source *source, const char *what,
                                      size_t max, const struct cfg_mark *mark,
                                      struct cfg_problems *problems, size_t *len);
