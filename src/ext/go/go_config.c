/* go_config: parse, merge, destroy.
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
#include "ext/go/go_any.h"
#include "ext/go/go_lent.h"
#include "ext/go/go_log.h"
#include "ext/go/go_seats.h"

struct merge {
    struct merge *next;
    uint64_t parent, merged;
};

struct go_route_config {
    struct go_library *library;
    uint64_t id;
    pthread_mutex_t lock; /* of merging */
    _Atomic(struct merge *) merges;
};

/* ---- calls, on a thread stack ---- */

struct new_call {
    struct go_library *library;
    struct go_http_config *config;
    uint64_t id;
    char *said; /* GO_LIBRARY_WHY_MAX */
};

static void call_new(void *arg) {
    struct new_call *call = arg;
    go_log_capture_begin(call->said, GO_LIBRARY_WHY_MAX);
    call->id = call->library->fn.new_config(call->config);
    go_log_capture_end();
}

struct id_call {
    const struct go_library *library;
    struct span name;
    uint64_t parent, id;
};

static void call_destroy(void *arg) {
    struct id_call *call = arg;
    call->library->fn.destroy_config(call->id, 0);
}

static void call_merge(void *arg) {
    struct id_call *call = arg;
    call->id = call->library->fn.merge_config((uint64_t)(uintptr_t)call->name.ptr, call->name.len,
                                              call->parent, call->id);
}

static void destroy(const struct go_library *library, uint64_t id) {
    if (id)
        go_on_thread_stack(call_destroy, &(struct id_call){.library = library, .id = id});
}

/* ---- parse ---- */

uint64_t go_config_parse(struct go_library *library, struct span name, struct span bytes,
                         bool is_route, char said[GO_LIBRARY_WHY_MAX]) {
    struct go_http_config on_stack, *config = &on_stack;
    struct new_call call = {.library = library, .said = said};
    struct loan loan = {0};
    said[0] = 0;
    if (!is_route) {
        loan = loan_new(&go_lent_configs, STATS_SHARD_FOREIGN);
        config = loan.memory; /* Go gives it back, also when it refuses */
    }
    if (!config) {
        (void)snprintf(said, GO_LIBRARY_WHY_MAX, "out of memory");
        return 0;
    }
    *config = (struct go_http_config){
        .plugin_name_ptr = (uint64_t)(uintptr_t)name.ptr,
        .plugin_name_len = name.len,
        .config_ptr = (uint64_t)(uintptr_t)bytes.ptr,
        .config_len = bytes.len,
        .is_route_config = is_route,
        .concurrency = library->concurrency,
    };
    call.config = config;
    if (!is_route)
        loan_lend(&go_lent_configs, loan);
    go_on_thread_stack(call_new, &call);
    /* Only now: a parser that drops its callbacks gets it finalized while New still reads it. */
    if (!is_route)
        loan_let_go(&go_lent_configs, loan);
    return call.id;
}

uint64_t go_config_merge(const struct go_library *library, struct span name, uint64_t parent,
                         uint64_t child) {
    struct id_call call = {library, name, parent, child};
    go_on_thread_stack(call_merge, &call);
    return call.id;
}

/* 0 and the problem reported when the plugin refused it. any NULL: an empty one. */
static uint64_t parse(struct go_library *library, struct span name, const struct cfg_any *any,
                      bool is_route, const struct cfg_mark *mark, struct cfg_problems *problems) {
    size_t len;
    char said[GO_LIBRARY_WHY_MAX];
    char *bytes = go_any_bytes(any, &len);
    if (!bytes) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "out of memory");
        return 0;
    }
    uint64_t id = go_config_parse(library, name, span_make(bytes, len), is_route, said);
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

static int dry_config_new(const struct cfg_golang *cfg, struct cfg_problems *problems, void **out) {
    struct go_config *config = calloc(1, sizeof(*config));
    if (!config) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
        return -EINVAL;
    }
    *out = config;
    return 0;
}

int go_config_new(const struct cfg_any *typed_config, struct cfg_problems *problems, void **out) {
    const struct cfg_golang *cfg = typed_config->message;
    if (is_dry)
        return dry_config_new(cfg, problems, out);
    const struct go_library_wish wish = {cfg->gogc, cfg->go_memory_limit};
    struct go_library *library =
        go_library_named(cfg->library_id, cfg->library_path, &wish, &cfg->mark, problems);
    if (!library)
        return -EINVAL;
    if (!library->elf.has_http) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "%s has no HTTP filters",
                        library->path);
        return -EINVAL;
    }
    struct go_config *config = calloc(1, sizeof(*config));
    /* Go reads the name at any time, so it is one for ever. */
    const char *kept_name = intern(cfg->plugin_name, SIZE_MAX);
    if (!config || !kept_name) {
        free(config);
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
        return -EINVAL;
    }
    struct span name = span_make(kept_name, cfg->plugin_name.len);
    config->library = library;
    config->plugin_name = name;
    config->plugin = go_plugin_get(library, GO_PLUGIN_HTTP, name);
    config->seats =
        go_seats_settled(library, GO_SEATS_OF_WORKERS, &cfg->go_seats, &cfg->mark, problems);
    config->seat_wait_ns = go_seat_wait_ns(&cfg->seat_wait_timeout);
    config->lenient = cfg->late_calls == CFG_LATE_CALLS_LENIENT;
    if (!config->lenient)
        atomic_store_explicit(&go_lent_strict, true, memory_order_relaxed);
    if (!config->plugin || !config->seats) {
        free(config);
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
        return -EINVAL;
    }
    config->id = parse(library, name, cfg->has_plugin_config ? &cfg->plugin_config : NULL, false,
                       &cfg->mark, problems);
    if (config->id == 0) {
        free(config);
        return -EINVAL;
    }
    *out = config;
    return 0;
}

void go_config_free(void *arg) {
    struct go_config *config = arg;
    if (!config)
        return;
    destroy(config->library, config->id);
    free(config);
}

int go_route_config_new(const struct cfg_any *any, void *filter_config,
                        struct cfg_problems *problems, void **out) {
    const struct cfg_golang_per_route *cfg = any->message;
    const struct go_config *filter = filter_config;
    struct go_route_config *level = calloc(1, sizeof(*level));
    if (!level) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &any->mark, "out of memory");
        return -EINVAL;
    }
    level->library = filter->library;
    (void)pthread_mutex_init(&level->lock, NULL); /* cannot fail with default attributes */
    for (size_t i = 0; filter->library && i < cfg->plugins_config_count; i++) {
        const struct cfg_golang_plugin_entry *entry = &cfg->plugins_config[i];
        if (!span_eq(entry->key, filter->plugin_name))
            continue;
        /* `disabled` is read nowhere, as on Envoy: the plugin gets an empty Any. */
        const struct cfg_any *config = entry->value.disabled ? NULL : &entry->value.config;
        level->id =
            parse(filter->library, filter->plugin_name, config, true, &entry->value.mark, problems);
        if (level->id == 0) {
            go_route_config_free(level);
            return -EINVAL;
        }
    }
    *out = level;
    return 0;
}

void go_route_config_free(void *arg) {
    struct go_route_config *level = arg;
    if (!level)
        return;
    for (struct merge *merge = atomic_load(&level->merges); merge;) {
        struct merge *next = merge->next;
        destroy(level->library, merge->merged);
        free(merge);
        merge = next;
    }
    destroy(level->library, level->id);
    (void)pthread_mutex_destroy(&level->lock); /* nobody holds it: the snapshot is gone */
    free(level);
}

/* ---- merge ---- */

static uint64_t merge_find(const struct merge *merge, uint64_t parent) {
    for (; merge; merge = merge->next)
        if (merge->parent == parent)
            return merge->merged;
    return 0;
}

struct merge_call {
    struct go_route_config *level;
    struct span name;
    uint64_t parent, merged;
};

/* On a thread stack. merged 0: memory is short. */
static void merge_once(void *arg) {
    struct merge_call *call = arg;
    struct go_route_config *level = call->level;
    pthread_mutex_lock(&level->lock);
    struct merge *first =
        atomic_load_explicit(&level->merges, memory_order_relaxed); /* the lock's */
    call->merged = merge_find(first, call->parent);
    struct merge *merge = call->merged ? NULL : malloc(sizeof(*merge));
    if (merge) {
        struct id_call once = {level->library, call->name, call->parent, level->id};
        call_merge(&once);
        call->merged = once.id;
        *merge = (struct merge){first, call->parent, call->merged};
        atomic_store_explicit(&level->merges, merge, memory_order_release); /* for go_config_for */
        stat_inc(level->library->stats.merges, STATS_SHARD_FOREIGN);
    }
    pthread_mutex_unlock(&level->lock);
}

static uint64_t merge_make(struct go_route_config *level, struct span name, uint64_t parent) {
    struct merge_call call = {level, name, parent, 0};
    go_on_thread_stack(merge_once, &call);
    return call.merged;
}

uint64_t go_config_for(const struct go_config *config, const void *const *levels, unsigned count) {
    uint64_t id = config->id;
    for (unsigned i = 0; i < count && id; i++) {
        /* Levels come as const because filters share them; the cache inside is its own business. */
        struct go_route_config *level = (struct go_route_config *)(uintptr_t)levels[i];
        if (level->id == 0)
            continue;
        /* acquire pairs with merge_once's release */
        uint64_t merged =
            merge_find(atomic_load_explicit(&level->merges, memory_order_acquire), id);
        id = merged ? merged : merge_make(level, config->plugin_name, id);
    }
    return id;
}
