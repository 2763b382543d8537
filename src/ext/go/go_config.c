/* go_config: parse, merge, destroy; once for each copy of the library.
 *
 * Merging (parent id, level) is cached in the level: a list that only grows, read without a lock. Each pair
 * is merged once: the merge runs with the level's lock, on a thread where user code may take its time, and
 * who asks for the same one meanwhile waits there. golang.library.LIBRARY.merges counts them. Merged results
 * live as long as the level. Envoy keeps one merge per route config and deletes replaced ones two seconds
 * later, which races with streams that are about to start. */
#include "ext/go/go_config.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/intern.h"
#include "config/golang_config.h"
#include "ext/go/go_any.h"
#include "ext/go/go_isolate.h"
#include "ext/go/go_lent.h"
#include "ext/go/go_log.h"
#include "ext/go/go_seats.h"
#include "ext/remote/host_metric.h"
#include "ext/remote/remote_library.h"

struct merge {
    struct merge *next;
    uint64_t parent, merged;
};

struct go_route_config {
    struct go_user user;                         /* of struct level */
    const struct cfg_golang_plugin_entry *entry; /* of the snapshot; NULL: nothing for the plugin */
    struct span plugin_name;                     /* interned */
};

struct level {
    struct go_edition edition;
    uint64_t id;
    pthread_mutex_t lock; /* of merging */
    _Atomic(struct merge *) merges;
};

/* ---- calls, on a thread stack ---- */

static void destroy(const struct go_library *library, uint64_t id) {
    if (id && library->isolated)
        remote_library_drop(library->remote, id);
    else if (id)
        library->fn.destroy_config(id, 0);
}

/* ---- parse ---- */

uint64_t go_config_parse(struct go_library *library, const struct go_config_source *source,
                         char said[GO_LIBRARY_WHY_MAX]) {
    if (library->isolated)
        return remote_library_configure(library->remote,
                                        &(struct remote_config){.name = source->name,
                                                                .bytes = source->bytes,
                                                                .kind = source->is_route
                                                                            ? REMOTE_NOTE_ROUTE
                                                                            : REMOTE_NOTE_FILTER},
                                        said);
    struct go_http_config on_stack, *config = &on_stack;
    struct loan loan = {0};
    said[0] = 0;
    if (!source->is_route) {
        loan = loan_new(&go_lent_configs, STATS_SHARD_FOREIGN);
        config = loan.memory; /* Go gives it back, also when it refuses */
    }
    if (!config) {
        (void)snprintf(said, GO_LIBRARY_WHY_MAX, "out of memory");
        return 0;
    }
    *config = (struct go_http_config){
        .plugin_name_ptr = (uint64_t)(uintptr_t)source->name.ptr,
        .plugin_name_len = source->name.len,
        .config_ptr = (uint64_t)(uintptr_t)source->bytes.ptr,
        .config_len = source->bytes.len,
        .is_route_config = source->is_route,
        .concurrency = library->concurrency,
    };
    if (!source->is_route) {
        struct go_lent_config *lent = loan.memory;
        lent->far_id = source->far_id;
        loan_lend(&go_lent_configs, loan);
        if (lent->far_id)
            host_metrics_await(lent);
    }
    go_log_capture_begin(said, GO_LIBRARY_WHY_MAX);
    uint64_t id = library->fn.new_config(config);
    go_log_capture_end();
    /* Only now: a parser that drops its callbacks gets it finalized while New still reads it. */
    if (!source->is_route)
        loan_let_go(&go_lent_configs, loan);
    return id;
}

uint64_t go_config_merge(const struct go_library *library, struct span name, uint64_t parent,
                         uint64_t child) {
    if (library->isolated)
        return remote_library_merge(library->remote, name, parent, child);
    return library->fn.merge_config((uint64_t)(uintptr_t)name.ptr, name.len, parent, child);
}

/* 0 and the problem reported when the plugin refused it. any NULL: an empty one. On a thread stack. */
static uint64_t parse(struct go_library *library, struct span name, const struct cfg_any *any,
                      bool is_route, const struct cfg_mark *mark, struct cfg_problems *problems) {
    size_t len;
    char said[GO_LIBRARY_WHY_MAX];
    char *bytes = go_any_bytes(any, &len);
    if (!bytes) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "out of memory");
        return 0;
    }
    const struct go_config_source source = {name, span_make(bytes, len), is_route, 0};
    uint64_t id = go_config_parse(library, &source, said);
    free(bytes);
    if (id == 0)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "the plugin %.*s refused it: %s",
                        (int)name.len, name.ptr, said[0] ? said : "see the log");
    return id;
}

static bool is_dry;

void go_config_set_dry(bool dry) {
    is_dry = dry;
}

bool go_config_is_dry(void) {
    return is_dry;
}

static struct go_edition *make_config(struct go_user *user, struct go_library *library,
                                      struct cfg_problems *problems) {
    const struct go_filter_config *filter = container_of(user, struct go_filter_config, user);
    const struct cfg_golang *cfg = filter->cfg;
    if (!library->elf.has_http) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "%s has no HTTP filters",
                        library->path);
        return NULL;
    }
    struct go_config *config = calloc(1, sizeof(*config));
    if (!config) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
        return NULL;
    }
    config->edition.library = library;
    config->plugin_name = filter->plugin_name;
    config->plugin = go_plugin_get(library, GO_PLUGIN_HTTP, filter->plugin_name);
    config->seats =
        go_seats_settled(library, GO_SEATS_OF_WORKERS, &cfg->library, &cfg->mark, problems);
    config->seat_wait_ns = go_seat_wait_ns(&cfg->library);
    config->phase_timeout_ns = cfg->phase_timeout.set ? cfg->phase_timeout.ns : 0;
    config->lenient = cfg->late_calls == CFG_LATE_CALLS_LENIENT;
    config->remote.is_open = cfg->on_failure == CFG_ON_FAILURE_OPEN;
    if (!config->plugin || !config->seats)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
    else if (!library->isolated || go_isolate(library, &cfg->library, &cfg->mark, problems) == 0)
        config->id =
            parse(library, filter->plugin_name, cfg->has_plugin_config ? &cfg->plugin_config : NULL,
                  false, &cfg->mark, problems);
    if (config->id == 0) {
        free(config);
        return NULL;
    }
    return &config->edition;
}

static void drop_config(struct go_edition *edition) {
    const struct go_config *config = container_of(edition, struct go_config, edition);
    destroy(edition->library, config->id);
}

static void free_config(struct go_edition *edition) {
    free(container_of(edition, struct go_config, edition));
}

static const struct go_user_itab config_itab = {
    .make = make_config, .drop = drop_config, .free = free_config};

int go_config_new(const struct cfg_any *typed_config, struct cfg_problems *problems, void **out) {
    const struct cfg_golang *cfg = typed_config->message;
    struct go_library *library =
        is_dry
            ? NULL
            : go_library_named(&cfg->library, go_is_isolated(&cfg->library), &cfg->mark, problems);
    if (!library && !is_dry)
        return -EINVAL;
    struct go_filter_config *filter = calloc(1, sizeof(*filter));
    /* Go reads the name at any time, so it is one for ever. */
    const char *kept_name = intern(cfg->plugin_name, SIZE_MAX);
    if (!filter || !kept_name) {
        free(filter);
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
        return -EINVAL;
    }
    filter->cfg = cfg;
    filter->plugin_name = span_make(kept_name, cfg->plugin_name.len);
    if (cfg->late_calls != CFG_LATE_CALLS_LENIENT)
        atomic_store_explicit(&go_lent_strict, true, memory_order_relaxed);
    if (library && go_user_add(&filter->user, library->origin, &config_itab, problems) != 0) {
        free(filter);
        return -EINVAL;
    }
    *out = filter;
    return 0;
}

void go_config_free(void *arg) {
    struct go_filter_config *filter = arg;
    if (!filter)
        return;
    go_user_remove(&filter->user);
    free(filter);
}

static struct go_edition *make_level(struct go_user *user, struct go_library *library,
                                     struct cfg_problems *problems) {
    const struct go_route_config *route = container_of(user, struct go_route_config, user);
    const struct cfg_golang_plugin_entry *entry = route->entry;
    struct level *level = calloc(1, sizeof(*level));
    if (!level) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &entry->value.mark, "out of memory");
        return NULL;
    }
    level->edition.library = library;
    /* `disabled` is read nowhere, as on Envoy: the plugin gets an empty Any. */
    level->id =
        parse(library, route->plugin_name, entry->value.disabled ? NULL : &entry->value.config,
              true, &entry->value.mark, problems);
    if (level->id == 0) {
        free(level);
        return NULL;
    }
    (void)pthread_mutex_init(&level->lock, NULL); /* cannot fail with default attributes */
    return &level->edition;
}

static void drop_level(struct go_edition *edition) {
    const struct level *level = container_of(edition, struct level, edition);
    for (struct merge *merge = atomic_load(&level->merges); merge; merge = merge->next)
        destroy(edition->library, merge->merged);
    destroy(edition->library, level->id);
}

static void free_level(struct go_edition *edition) {
    struct level *level = container_of(edition, struct level, edition);
    for (struct merge *merge = atomic_load(&level->merges); merge;) {
        struct merge *next = merge->next;
        free(merge);
        merge = next;
    }
    (void)pthread_mutex_destroy(&level->lock); /* nobody holds it: the snapshot is gone */
    free(level);
}

static const struct go_user_itab level_itab = {
    .make = make_level, .drop = drop_level, .free = free_level};

int go_route_config_new(const struct cfg_any *any, void *filter_config,
                        struct cfg_problems *problems, void **out) {
    const struct cfg_golang_per_route *cfg = any->message;
    const struct go_filter_config *filter = filter_config;
    struct go_route_config *route = calloc(1, sizeof(*route));
    if (!route) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &any->mark, "out of memory");
        return -EINVAL;
    }
    route->plugin_name = filter->plugin_name;
    for (size_t i = 0; i < cfg->plugins_config_count; i++)
        if (span_eq(cfg->plugins_config[i].key, filter->plugin_name))
            route->entry = &cfg->plugins_config[i];
    if (filter->user.origin && route->entry &&
        go_user_add(&route->user, filter->user.origin, &level_itab, problems) != 0) {
        free(route);
        return -EINVAL;
    }
    *out = route;
    return 0;
}

void go_route_config_free(void *arg) {
    struct go_route_config *route = arg;
    if (!route)
        return;
    go_user_remove(&route->user);
    free(route);
}

/* ---- merge ---- */

static uint64_t merge_find(const struct merge *merge, uint64_t parent) {
    for (; merge; merge = merge->next)
        if (merge->parent == parent)
            return merge->merged;
    return 0;
}

struct merge_call {
    struct level *level;
    struct span name;
    uint64_t parent, merged;
};

/* On a thread stack. merged 0: memory is short. */
static void merge_once(void *arg) {
    struct merge_call *call = arg;
    struct level *level = call->level;
    const struct go_library *library = level->edition.library;
    pthread_mutex_lock(&level->lock);
    struct merge *first =
        atomic_load_explicit(&level->merges, memory_order_relaxed); /* the lock's */
    call->merged = merge_find(first, call->parent);
    struct merge *merge = call->merged ? NULL : malloc(sizeof(*merge));
    if (merge) {
        call->merged = go_config_merge(library, call->name, call->parent, level->id);
        *merge = (struct merge){first, call->parent, call->merged};
        atomic_store_explicit(&level->merges, merge, memory_order_release); /* for go_config_for */
        stat_inc(library->stats.merges, STATS_SHARD_FOREIGN);
    }
    pthread_mutex_unlock(&level->lock);
}

static uint64_t merge_make(struct level *level, struct span name, uint64_t parent) {
    struct merge_call call = {level, name, parent, 0};
    go_on_thread_stack(merge_once, &call);
    return call.merged;
}

uint64_t go_config_for(const struct go_config *config, const void *const *levels, unsigned count) {
    uint64_t id = config->id;
    for (unsigned i = 0; i < count && id; i++) {
        const struct go_route_config *route = levels[i];
        if (!route->entry)
            continue;
        struct go_edition *edition = go_user_edition(&route->user, config->edition.library);
        ASSERT(edition); /* it was added before the exchange began, and after its filter */
        struct level *level = container_of(edition, struct level, edition);
        /* acquire pairs with merge_once's release */
        uint64_t merged =
            merge_find(atomic_load_explicit(&level->merges, memory_order_acquire), id);
        id = merged ? merged : merge_make(level, config->plugin_name, id);
    }
    return id;
}
