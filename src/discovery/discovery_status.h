/* discovery_status: what became of what a source said: in the log, in statistics by Envoy's names, and for the admin.
 *
 * Ownership  Part of its source. Texts are copied.
 * Threads    A status is changed by the coroutine of its source. discovery_each_status: any coroutine or thread. */
#pragma once
#include "base/list.h"
#include "base/stats.h"
#include "config/resources.h"

struct discovery_file;

/* Why a resource is not taken, though nothing of its file is when one is refused. */
struct discovery_refusal {
    char *name; /* NULL: it is the file as a whole, or something else that it would make wrong */
    char *details;
};

struct discovery_status {
    struct list node;
    enum resource_type type;
    char *origin;
    char *version;         /* of what was taken last; NULL: nothing was */
    char *refused_version; /* NULL: nothing is refused; empty: it is not known */
    char *details;         /* why it is refused */
    struct discovery_refusal
        *refusals; /* the same by resource, in the order of the first problem of each */
    size_t refusal_count;
    int64_t refused_wall_ns;
};

/* -ENOMEM. */
MUST_CHECK int discovery_status_init(struct discovery_status *status, enum resource_type type,
                                     struct span origin);
void discovery_status_fini(struct discovery_status *status);

/* Which of the statistics' families an event counts in: those of the type, or for routes of each who asks. */
struct discovery_audience {
    struct span stat_prefix, name;
};
struct discovery_taken {
    struct span version;
    size_t count;                    /* of resources */
    int64_t offered_wall_ns;         /* what became what it is since then, changed with it */
    const struct resources *running; /* what runs with it; all is borrowed for the call */
};
void discovery_accepted(struct discovery_status *status, const struct discovery_taken *taken,
                        const struct discovery_audience *audience, size_t audience_count);
/* What has been told already is not told, or counted, again. file: what says it; NULL: that is not known. */
void discovery_refused(struct discovery_status *status, const struct discovery_file *file,
                       const struct cfg_problems *problems,
                       const struct discovery_audience *audience, size_t audience_count);

/* Whether anything is. */
bool discovery_has_refused(void);
/* With a lock held: fn neither parks nor comes back here. */
void discovery_each_status(void (*fn)(const struct discovery_status *status, void *arg), void *arg);
