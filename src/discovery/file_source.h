/* file_source: one file that listeners, clusters or routes come from: watched, and read when it changed. */
#pragma once
#include "base/list.h"
#include "discovery/discovery_file.h"
#include "discovery/discovery_status.h"

struct cfg_config_source;
struct route_asks;

/* Belongs to who reads it, a coroutine at a time, but for `changed`. */
struct file_source {
    struct list node;
    struct discovery_status status; /* its type, and the path as its origin */
    char *directory;                /* NULL: the file itself is watched */
    struct file_watch *watch;       /* NULL: not yet, or it cannot be */
    _Atomic bool changed;           /* set when it may have */
    void (*wake)(void);             /* called after that, on any thread */
    bool named;                     /* by what runs; else it goes */
    bool was_read;                  /* then: */
    uint64_t text_hash;             /* what was in it */
    struct discovery_file *held;    /* refused: owned, to be offered again */
};

/* Counts as changed. NULL: memory is short. */
struct file_source *file_source_new(enum resource_type type, const struct cfg_config_source *from,
                                    void (*wake)(void));
/* Once nothing can be told of it any more, which may be later. */
void file_source_free(struct file_source *source);

/* The rest is for threads off the Ps. */
struct file_source_how {
    const char *descriptor_set; /* as of config_source */
    bool reject_unknown;        /* fields; else they are warnings */
};
/* Owned; NULL: it could not be read. What listeners name has to be there: else there are problems, and the file. */
struct discovery_file *file_source_load(enum resource_type type, const char *path,
                                        const struct file_source_how *how,
                                        struct cfg_problems *problems);
/* The same of a source, which is watched from the first call on. */
struct discovery_file *file_source_read(struct file_source *source,
                                        const struct file_source_how *how,
                                        struct cfg_problems *problems);
/* Files and directories that are named have to be there: as on Envoy, so that a slip in a path is seen. False: not all of
 * it is. */
bool file_source_require(const struct cfg_config_source *from, struct cfg_problems *problems);
void file_source_require_asked(const struct route_asks *asks, struct cfg_problems *problems);
