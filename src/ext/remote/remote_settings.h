/* remote_settings: a library's process as its configuration wants it: timeouts, restarts, sandbox (struct cfg_go_isolation). */
#pragma once
#include "config/golang_config.h"
#include "ext/remote/remote_library.h"

/* remote_library_new with the options' rest filled in. start_timeout: 10 s when it is not set. */
struct remote_library *remote_library_configured(const struct remote_library_options *options,
                                                 const struct cfg_go_isolation *cfg,
                                                 const struct cfg_duration *start_timeout,
                                                 char *why);
