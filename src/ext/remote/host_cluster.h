/* host_cluster: questions to cluster specifiers in a host process.
 *
 * Threads  The seat's. */
#pragma once
#include "ext/remote/host_stream.h"

/* Asks the plugin, and tells the proxy what it said. */
void host_cluster_specify(struct host_seat *seat, const struct remote_specify *specify);
