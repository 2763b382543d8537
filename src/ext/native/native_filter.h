/* native_filter: the HTTP filter sluice.filters.http.native: filters in C from shared objects.
 *
 * Ownership  A config owns what the plug-in's configure made. An instance lives in the exchange's arena.
 * Threads    Configs: off the Ps, then read-only. Instances: the exchange's coroutines. */
#pragma once
#include <pthread.h>

#include "ext/native/native_library.h"
#include "proxy/exchange.h"

extern const struct filter_kind filter_kind_native;

struct cfg_native;
struct cfg_native_per_route;
struct native_remote;

struct native_config {
    struct native_library *library; /* NULL: it is dry */
    void *made;                     /* by configure */
    size_t stack_bytes;
    uint32_t max_faults; /* 0: any number */
    uint64_t far_id;     /* of a library in a host process (native_remote.h) */
    bool is_open;        /* such a process is lost: exchanges go on without the filter */
    bool bypass;         /* what comes after them */
};

/* What plug-ins know as their exchange. */
struct sluice_exchange {
    struct exchange *x;
    const struct filter_factory *factory;
    const struct native_config *config;
    void *self;
    struct native_remote *remote; /* NULL: it runs here */
    enum native_state { NATIVE_RUNS, NATIVE_FAULTED, NATIVE_CLOSED, NATIVE_BYPASSED } state;
    bool looks_on; /* in log_periodic: it may be parked in another call, and changes nothing */
    void *held[4]; /* bodies, by malloc */
    unsigned held_count;
};

/* What is read when a plug-in asks about its configuration. */
struct cfg_value;
struct sluice_config {
    const struct cfg_value *value; /* or NULL */
    struct span json;
    const struct cfg_mark *mark;
    struct cfg_problems *problems;
    const struct native_library *library;
    bool reported;
};

/* A call of the plug-in for an exchange: with the stack that it asked for, and noted as the filter's doing. False: it is
 * not to be called any more, or faulted, which has been told and answered with 500. what: a literal. */
MUST_CHECK bool native_filter_call(struct sluice_exchange *e, const char *what, rt_fn enter,
                                   void *arg);
/* It faulted, elsewhere or here. */
void native_filter_faulted(struct sluice_exchange *e, const struct native_fault *fault,
                           const char *what);

/* Answers. */
COLD void native_filter_fail(struct sluice_exchange *e, unsigned status, struct span details);
/* With 503: its host process is gone, and the exchange cannot do without. */
COLD void native_filter_lost(struct sluice_exchange *e);

/* native_config.c */
/* dry: of a configuration that nobody will serve with. Nothing is loaded: it was tried elsewhere (ext/host/probe.h). Not
 * while others load. */
void native_config_set_dry(bool dry);
int native_config_new(const struct cfg_any *any, struct cfg_problems *problems, void **out);
void native_config_free(void *config);
int native_route_config_new(const struct cfg_any *any, void *filter_config,
                            struct cfg_problems *problems, void **out);
void native_route_config_free(void *route_config);
/* fn(arg) on a thread's stack: a coroutine's may be too small, and what blocks there may not block a P. */
void native_on_thread_stack(rt_fn fn, void *arg);
/* For free_config and free_route_config: fn(made), if there are both. */
void native_give_back(struct native_library *library, void (*fn)(void *made), void *made);
/* Why a fault refuses a configuration. what: in which of its functions. */
void native_config_fault(const struct native_library *library, const struct native_fault *fault,
                         const char *what, const struct cfg_mark *mark,
                         struct cfg_problems *problems);

/* native_remote_config.c: of libraries in host processes */
/* From now on all are in such whatever their configurations say. Whoever builds configurations. */
void native_isolate_all(bool all);
bool native_is_isolated(const struct cfg_native *cfg);
/* Its process is up, and has accepted the configuration: 0 with *library and its id. -EINVAL with a problem. */
int native_remote_configure(const struct cfg_native *cfg, struct cfg_problems *problems,
                            struct native_library **library, uint64_t *id);
int native_remote_configure_route(struct native_library *library, uint64_t filter_id,
                                  const struct cfg_native_per_route *cfg,
                                  struct cfg_problems *problems, uint64_t *id);
void native_remote_drop(struct native_library *library, uint64_t id);

/* native_merge.c */
struct native_route_config;
struct native_merges {
    pthread_mutex_t lock; /* of merging */
    _Atomic(struct native_merge *) first;
};
void native_merges_init(struct native_merges *merges);
/* Nobody uses what was merged any more. */
void native_merges_fini(struct native_merges *merges, struct native_library *library);
void *native_merged_config(struct sluice_exchange *e);
/* What the place makes of config, now or before. NULL: memory is short; or it faulted, when *faulted, which fault tells.
 * Parks while others merge. */
void *native_merge(struct native_route_config *place, void *config, struct native_fault *fault,
                   bool *faulted);
/* What the place has made of config before; NULL: nothing. */
void *native_known_merge(struct native_route_config *place, const void *config);
/* What applies to it in the routes, the least specific first: native_route_configs. May park. */
unsigned native_route_levels(struct sluice_exchange *e, const void *levels[FILTER_ROUTE_LEVELS]);

/* What there is in a place in the routes. */
struct native_route_config {
    struct native_library *library; /* NULL: it is dry */
    void *made;                     /* by configure_route */
    uint64_t far_id;                /* of a library in a host process */
    struct native_merges merges;
};

/* native_notes.c: as in struct sluice_host. */
int native_attribute(struct sluice_exchange *e, struct sluice_span path, struct sluice_span *text);
int native_filter_state_set(struct sluice_exchange *e, struct sluice_span key,
                            struct sluice_span text, unsigned flags);
int native_filter_state(struct sluice_exchange *e, struct sluice_span key,
                        struct sluice_span *text);
int native_metadata_set_text(struct sluice_exchange *e, struct sluice_span name_space,
                             struct sluice_span key, struct sluice_span text);
int native_metadata_set_number(struct sluice_exchange *e, struct sluice_span name_space,
                               struct sluice_span key, double number);
int native_metadata_set_json(struct sluice_exchange *e, struct sluice_span name_space,
                             struct sluice_span key, struct sluice_span json);
bool native_metadata_text(struct sluice_exchange *e, struct sluice_span name_space,
                          struct sluice_span key, struct sluice_span *text);
bool native_metadata_number(struct sluice_exchange *e, struct sluice_span name_space,
                            struct sluice_span key, double *number);
int native_metadata_json(struct sluice_exchange *e, struct sluice_span name_space,
                         struct sluice_span key, struct sluice_span *json);

/* native_body.c: as in struct sluice_host. */
bool native_has_body(struct sluice_exchange *e, enum sluice_part part);
int native_body_observe(struct sluice_exchange *e, enum sluice_part part,
                        const struct sluice_observer *observer);
int native_body_transform(struct sluice_exchange *e, enum sluice_part part, sluice_next_fn next,
                          void *arg BORROWED_BY(e));
int native_body_next(struct sluice_body *body, struct sluice_span *out);
int native_body_read(struct sluice_exchange *e, enum sluice_part part, size_t limit,
                     struct sluice_span *out);
int native_body_set(struct sluice_exchange *e, enum sluice_part part, struct sluice_span bytes);
