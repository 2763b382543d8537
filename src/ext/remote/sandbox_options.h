/* sandbox_options: the sandbox that a configuration asks for, and how the host process hears of it. */
#pragma once
#include "config/sandbox_config.h"
#include "ext/host/ext_host_wire.h"
#include "ext/remote/sandbox.h"

/* cfg NULL: what a library gets that has no `sandbox`. library_path may be absent. False: said has what is wrong
 * with it, which depends on this machine. */
MUST_CHECK bool sandbox_options_from(const struct cfg_sandbox *cfg BORROWED_BY(out),
                                     struct span library_path BORROWED_BY(out),
                                     struct sandbox_options *out, char said[SANDBOX_SAID_MAX]);

/* A copy that borrows nothing. Owned, free(); NULL when memory is short. */
struct sandbox_options *sandbox_options_copy(const struct sandbox_options *options);

/* Has the process enter it: the first call of a host, before it loads anything. 0, and said has a warning or ""; -EPERM: it could
 * not, and said has the reason: it must end; else as ext_host_call. */
struct ext_host;
MUST_CHECK int sandbox_options_send(const struct sandbox_options *options, struct ext_host *host,
                                    int64_t deadline_ns, char said[SANDBOX_SAID_MAX]);

/* The other end: enters, and fills the answer. What stays open is the standard streams and EXT_HOST_FD, by which others come
 * later. *memory as for ext_host_serve_go. */
void sandbox_options_serve(const struct ext_host_message *request, struct ext_host_message *answer,
                           char **memory);
