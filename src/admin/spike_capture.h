/* spike_capture: when the memory in use rises suddenly, what it was before and after, as two heap profiles
 * in a folder: `go tool pprof -base` of the two names who took it.
 *
 *     a cycle of the heap profile closes -> heap/spike.h judges -> both readings -> admin/stamped_dir.h
 *
 * The stats are heap.spikes, heap.spike_profiles_written and heap.spike_write_errors. A spike whose
 * profiles cannot be written is a line in the log and a count, nothing more.
 *
 * Threads  It works on the thread that closes cycles, without a P.
 * Costs    Nothing on a request's path. A spike: looking up functions and lines: a second of that
 *          thread and, meanwhile, tens of megabytes, the first time most. */
#pragma once
#include "admin/stamped_dir.h"
#include "base/stats.h"
#include "heap/spike.h"

/* heap_profile_read_cycle, or a test's. */
typedef int (*spike_read_fn)(uint64_t cycle, heap_site_fn fn, void *arg,
                             struct heap_reading *reading);

enum { SPIKE_BEFORE, SPIKE_AFTER }; /* the files of a set */

struct spike_capture {
    struct spike_watch watch;
    struct stamped_dir dir;
    spike_read_fn read;
    const struct statistic *spikes, *profiles_written, *write_errors;
};

/* 0, or what stamped_dir_init says. */
MUST_CHECK int spike_capture_init(struct spike_capture *capture, const struct spike_rule *rule,
                                  const char *dir_path, spike_read_fn read);
/* For each closed cycle, one at a time, in order; now_ns on the monotonic clock. */
void spike_capture_cycle(struct spike_capture *capture, const struct heap_totals *totals,
                         int64_t now_ns);

/* Captures spikes of this process from now on, once and for ever. Stats must be there. 0, or what
 * stamped_dir_init says. */
MUST_CHECK int spike_capture_start(const struct spike_rule *rule, const char *dir_path);
/* NULL: it was not started. Its dir and its watch's rule do not change. */
const struct spike_capture *spike_capture_of_process(void);

/* "go tool pprof -base BEFORE AFTER" with paths that a shell takes as they are. */
void spike_put_command(struct text *out, const struct stamped_dir *dir,
                       const struct stamped_set *pair);
