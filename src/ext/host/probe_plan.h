/* probe_plan: what of a configuration has to be tried, library by library. Internal to the probe.
 *
 * Ownership  Spans and marks borrow from the bootstrap; bytes are the plan's. */
#pragma once
#include "config/bootstrap.h"
#include "config/resources.h"
#include "config/golang_config.h"
#include "ext/go/go_library.h"

/* Tells one thing that passed from all others; equal ones need not be tried twice. */
typedef unsigned __int128 probe_key;
probe_key probe_key_add(probe_key key, const void *bytes, size_t len);

enum probe_kind { PROBE_HTTP, PROBE_CLUSTER, PROBE_NETWORK, PROBE_NATIVE };

/* One configuration of a plugin, or of a filter in C: a cluster specifier's, a network filter's, an HTTP filter's own (no parent), or one level of a route merged into the one above. */
struct probe_node {
    enum probe_kind kind;
    size_t parent; /* index, PROBE_NO_PARENT for a filter's own */
    struct span plugin;
    char *bytes; /* of the Any; JSON for C */
    size_t len;
    const struct cfg_mark *mark;
    probe_key key;
    bool failed; /* or not worth trying: what it stands on failed */
    uint64_t id; /* of the host process, merged */
};
static const size_t PROBE_NO_PARENT = SIZE_MAX;

struct probe_library {
    bool is_native;       /* filters in C, not Go */
    struct span id, path; /* the id of those in C is their path */
    struct go_library_wish wish;
    bool has_http;
    bool may_be_isolated;              /* it has what a host process serves */
    bool is_isolated;                  /* as the first of these says, and in */
    const struct cfg_sandbox *sandbox; /* NULL: the usual one */
    uint32_t go_seats;                 /* of its first HTTP filter; 0: the default */
    const struct cfg_mark *mark;       /* of the first that names it */
    bool disabled;
    int64_t timeout_ns;
    struct probe_node *nodes; /* parents before children */
    size_t count, room;
    struct cfg_problems problems; /* found while it is tried */
};

struct probe_plan {
    struct probe_library *libraries; /* in the order of the configuration */
    size_t count, room;
    bool memory_short;
};

void probe_plan_make(const struct resources *resources, struct probe_plan *out);
void probe_plan_fini(struct probe_plan *plan);
