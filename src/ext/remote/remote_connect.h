/* remote_connect: connections that a plugin in a host process asks for (REMOTE_CONNECT): the proxy makes them, as it does for
 * one in this process (go_upstream.h).
 *
 * Threads  The lane's P. */
#pragma once
#include "ext/remote/remote_link.h"

/* A remote_connect_fn (remote_library.h). Its number and handle, by which the host names it; what became of it is told by a call. What the answer's text is borrowed
 * from is *memory, for the caller to free. */
void remote_connect(void *go_library, struct remote_lane *lane, const struct remote_ask *ask,
                    struct remote_answer *answer, void **memory);
