/* library_path: the file that library_path of a configuration names. */
#pragma once
#include "base/check.h"
#include "base/span.h"

/* As dlopen has to be told it: a name without a slash is a file in the working directory, never one of the
 * loader's path. Owned, free(); NULL when memory is short. Any thread. */
MUST_CHECK char *library_path(struct span path);
