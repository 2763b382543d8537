/* probe: tries the libraries of a configuration, Go's and those in C, and their configurations, in processes of their own
 * before the proxy loads them: what panics, crashes, hangs or calls exit there is a problem of the config,
 * with its cause, and not the end of the proxy.
 *
 *     for each library, all at the same time:  dlopen and init, then for each use of it
 *     Parse ─ a filter from it ─┬─ Parse of a route level ─ Merge ─ a filter from that ─ next level ...
 *
 * Of a filter in C: dlopen and constructors, configure; configure_route and merge_config for each level; in the end all is
 * given back. Which exchanges come no probe knows.
 *
 * What passed is remembered by the library's build, its settings and the configuration, so neither a reload of what
 * did not change nor a second copy of a library costs a process. Plugins find SLUICE_PROBE=1 in their environment.
 *
 * A library that is to run in a host process is tried as it will run: in that one's sandbox. Others have all rights, as
 * they will have in the proxy.
 *
 * Threads  Any real thread that may block (blocking_call), one call at a time. */
#pragma once
#include "config/resources.h"

struct probe_options {
    bool disabled; /* --no-probe: files are looked at, and nothing of them runs */
    bool always;   /* --mode validate: also what the config says not to probe */
    bool
        isolated; /* --isolate-extensions: libraries of HTTP filters in Go are tried in their sandbox */
    /* Which libraries are tried, by their library_id; NULL: all. Called on several threads. */
    bool (*wants)(void *arg, struct span library_id);
    void *arg;
};

/* Reports problems; the libraries may be loaded when there are none. Returns when all processes have ended. */
void probe_config(const struct resources *resources, const struct probe_options *options,
                  struct cfg_problems *problems);
