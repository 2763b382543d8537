/* go_stubs: stand-ins for functions that a library calls and this host does not have, because its SDK is newer.
 * A call of one is logged once per function, counted in golang.missing_calls, and answered with -7, which
 * SDKs take for an internal failure; nothing else happens.
 *
 * Ownership  For the life of the process, like the libraries that call them.
 * Threads    go_stubs_define: one at a time (go_library's lock). Stubs: any thread of Go's. */
#pragma once
#include <stddef.h>

#include "base/check.h"

enum { GO_STUB_NAME_MAX = 96, GO_STUBS_AT_ONCE_MAX = 32 };

/* Defines names (C identifiers) for libraries that are loaded from now on; those that are there already
 * stay. 0 or -errno: -EACCES where programs may not be run from memory. */
MUST_CHECK int go_stubs_define(char (*names)[GO_STUB_NAME_MAX], size_t count);
