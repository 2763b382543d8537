/* file_sources: the files that listeners, clusters and routes come from: those that the bootstrap names in
 * dynamic_resources, and those where a listener looks for its routes. Read at start, and again whenever they change.
 *
 * Threads  file_sources_start: a coroutine, once. file_sources_look: any thread, after that.
 * Parks    file_sources_start does, until all files were offered once. */
#pragma once
#include "discovery/file_source.h"

/* Problems with files and directories that a bootstrap, or a listener, names and that are not there. Off the Ps. */
void file_sources_require(const struct resources *set, struct cfg_problems *problems);
/* Offers what the files hold, and follows them from then on. What a file holds may be refused, which is no error here.
 * The name in how is borrowed for ever. -ENOMEM. */
MUST_CHECK int file_sources_start(const struct file_source_how *how);
/* After what runs was changed by somebody else: files that are named now are read, others are not followed any more. */
void file_sources_look(void);
