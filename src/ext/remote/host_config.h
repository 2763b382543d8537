/* host_config: configurations in a host process, by the ids that the proxy gives them: Go's own change with each process, and
 * the proxy tells a new one of the same configurations again.
 *
 * Threads  Any. An id is never used again, and dropped only when no stream has it or will have it. */
#pragma once
#include "ext/go/go_plugin.h"

struct host_config {
    uint64_t id, go_id;
    const struct go_plugin *plugin;
};

/* 0 or -ENOMEM. */
MUST_CHECK int host_config_keep(const struct host_config *config);
/* False: the proxy has not told of it. */
MUST_CHECK bool host_config_find(uint64_t id, struct host_config *out);
/* The same, and forgets it. */
bool host_config_take(uint64_t id, struct host_config *out);
/* Forgets all, and gives fn each. */
void host_config_take_all(void (*fn)(const struct host_config *config));
