/* go_swap: another build of a library takes the place of the one that serves, in the running proxy.
 *
 *     file replaced ─inotify─► copy ─► same build? ─► probe ─► load beside the old ─► all configurations made ─► current
 *     POST /extensions/reload ─┘          nothing to do   └───────── any of these failed: the old one goes on ─────┘
 *
 * With hot_swap.rollout it becomes the candidate instead (proxy/rollout.h), and current or drained in the end.
 *
 * The old one drains: exchanges that began in it end in it, then its configurations are destroyed. Its code, its Go
 * runtime and its goroutines stay, since nothing unloads them; how many such copies there may be is bounded.
 *
 * Threads  As each function says. One swap at a time. */
#pragma once
#include "ext/ext_row.h"
#include "ext/go/go_origin.h"
#include "ext/go/go_renew.h"
#include "ext/host/probe.h"

/* Files of libraries that are loaded are watched from now on. resources are leased until the next call; they are what
 * the libraries' configurations were built from. On P 0, after which file_watch_run. Where files cannot be watched the log
 * says so. */
void go_swap_watch(struct resources *resources, const struct probe_options *probe);

/* Between them no library is swapped: configurations are probed and built. On one thread, off the Ps. */
void go_swap_pause(void);
void go_swap_resume(void);

/* What brings new files of it out by degrees. NULL when memory is short. */
MUST_CHECK struct rollout *go_swap_rollout(struct go_origin *origin BORROWED_BY(rollout),
                                           const struct cfg_rollout *cfg);

/* go_renewal_now. */
enum go_renewed go_swap_now(struct go_origin *origin, char **why);

/* One row for each library. 0, or -ENOMEM or what hindered it to read /proc. On a thread that may block (blocking_call). */
MUST_CHECK int go_swap_each_row(ext_row_fn fn, void *arg);
