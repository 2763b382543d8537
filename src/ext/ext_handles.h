/* ext_handles: the handles that extensions hold: of requests and of pieces of bodies. One table for all
 * hosts, so that a handle is good for one object of the process and for no other's.
 *
 * Threads  Any; handles are made by the exchange's coroutine. */
#pragma once
#include "mem/handle.h"

/* A million exchanges at a time, less what they show of their bodies. */
enum { EXT_HANDLES_MAX = 1 << 21 };

extern struct handle_table ext_handles;

/* Idempotent; before the first exchange with an extension. Any thread. 0 or -ENOMEM. */
MUST_CHECK int ext_handles_init(void);
