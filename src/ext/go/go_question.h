/* go_question: a question to a cluster specifier whose library is in this process: what Go may ask of the request meanwhile
 * (go_exports_cluster.c).
 *
 * Ownership  What Go knows the headers by is a handle (ext_handles.h), good until the question is closed: a goroutine that
 *            the plugin left behind finds nothing.
 * Threads    Opened and closed by who asks; looked up by any. */
#pragma once
#include <pthread.h>

#include "ext/go/go_quarantine.h"
#include "ext/go/go_stats.h"

struct header_map;

/* What a handle is looked up with. */
extern const char go_question_key[];

struct go_question {
    pthread_mutex_t lock;
    const struct header_map *headers; /* NULL: closed */
    struct go_quarantine_list texts;
    struct go_counts counts;
};

/* Of headers that nobody changes until it is closed. shard: of the P, or seat. NULL when memory is short. */
MUST_CHECK struct go_question *go_question_open(const struct header_map *headers, unsigned shard,
                                                uint64_t *handle);
/* What was counted of it. Once. */
struct go_counts go_question_close(struct go_question *question, uint64_t handle);
