/* live_config: the configuration that serves. It is loaded at the start, and again whenever it is told to: then the new
 * one is built beside the one that serves, off the Ps, and takes its place as a whole, or not at all.
 *
 *     file ─► load, probe, build ─► new clusters warm ─► sockets ─► each P takes it ─► what is gone drains
 *       └───────────┴────────────────────┴──────────────────┴── refused: why, with file and line; the old one goes on
 *
 * What cannot change while the process runs (the admin, the node, overload_manager, limits of the process) is refused by
 * name. Whoever asks while a change is under way, or before it serves, waits for the next one, which is then made once for
 * all who wait.
 *
 * Ownership  What is returned is borrowed until the next change, but where it is said otherwise.
 * Threads    P 0's coroutines. */
#pragma once
#include <stdio.h>

#include "config/config.h"
#include "discovery/file_source.h"
#include "proxy/snapshot.h"

struct options;
struct overload_manager;

/* Before anything else. Borrowed for ever. */
void live_config_init(const struct options *options);
/* Loads and builds, without serving. False when the config was refused; its problems are printed then. To be validated
 * are also the files that it names, which else are read by file_sources.h. *overload: of it, for good; NULL: it has
 * none. */
bool live_config_load(struct overload_manager **overload);
/* Starts its clusters, waits until each has had its first answer or given up, then opens and serves its listeners. */
bool live_config_serve(void);

/* How files of discovery are read. */
struct file_source_how live_config_files(const struct options *options);

/* NULL: nothing is loaded yet. */
struct snapshot *live_config_snapshot(void);

/* Reads the file again. origin is a literal: who asked. True: *said, transferred, tells what changed; false: why not, a
 * line for each problem. NULL when memory is short. Parks. */
bool live_config_reload(const char *origin BORROWED_BY(program), char **said);

/* For discovery.h. What runs, leased; and a candidate in its place, which it borrows: -EAGAIN when the bootstrap is another
 * one by now. What is offered before live_config_serve is what that serves. */
struct resources *live_config_resources(void);
MUST_CHECK int live_config_apply(struct resources *candidate, struct cfg_problems *problems);

/* What was tried, the latest first. */
struct live_config_attempt {
    uint64_t version; /* 0: it was refused */
    uint64_t hash;    /* of what was taken; 0: it is not known */
    int64_t at_wall_ns;
    const char *origin; /* literal */
    const char *said;   /* borrowed until fn returns */
};
void live_config_each_attempt(void (*fn)(const struct live_config_attempt *attempt, void *arg),
                              void *arg);
