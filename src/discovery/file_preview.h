/* file_preview: what a proxy would run after its start: the bootstrap's own resources, and those of the files that it and
 * its listeners name, each read once, and none of them followed. For who judges a configuration without serving it.
 *
 * Parks    Never; it reads files: off the Ps. */
#pragma once
#include "discovery/file_source.h"

/* Owned; NULL: memory is short, which is a problem, too. Problems are what would be refused at the start, whether by the
 * bootstrap or by one of the files; what a file with problems says is in the set where it can be, so that who builds of
 * it can tell the other mistakes. */
struct resources *file_preview_read(struct config *bootstrap, const struct file_source_how *how,
                                    struct cfg_problems *problems);
