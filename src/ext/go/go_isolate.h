/* go_isolate: which libraries run in host processes (ext/remote/remote_library.h), and with which settings.
 *
 * Threads  Whoever builds configurations. */
#pragma once
#include "ext/go/go_library.h"

/* From now on libraries are isolated whatever their configurations say. */
void go_isolate_all(bool all);

/* Is it to be? As a configuration says, or go_isolate_all. */
bool go_is_isolated(const struct cfg_go_library *cfg);

/* Starts the process of one that is, and has none yet; the first configuration's settings count. Its number of seats is
 * settled (go_seats.h). The process is up when it returns 0; -EINVAL with a problem. On a thread stack. */
MUST_CHECK int go_isolate(struct go_library *library, const struct cfg_go_library *cfg,
                          const struct cfg_mark *mark, struct cfg_problems *problems);
