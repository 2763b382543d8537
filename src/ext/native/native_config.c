/* native_config: the plug-in reads its configuration, on a thread's stack; a fault in that refuses the configuration. */
#include <errno.h>
#include <stdlib.h>

#include "config/cfg_buf.h"
#include "config/native_config.h"
#include "ext/native/native_filter.h"
#include "rt/foreign.h"
#include "rt/symbol.h"

enum { MAX_FAULTS_DEFAULT = 5 };

/* ---- calls of the plug-in ---- */

struct configure_call {
    struct native_library *library;
    struct sluice_config *config;
    void *filter_config; /* of configure_route */
    bool is_route;
    void *made;
    int rc;
    struct native_fault fault;
    bool returned;
};

static NATIVE_ENTER void enter_configure(void *arg) {
    struct configure_call *call = arg;
    const struct sluice_plugin *plugin = &call->library->plugin;
    if (call->is_route)
        call->rc = plugin->configure_route(call->config, call->filter_config, &call->made);
    else
        call->rc = plugin->configure(call->config, &call->made);
    NATIVE_ENTERED();
}

static void configure(void *arg) {
    struct configure_call *call = arg;
    call->returned = native_call(&call->library->text, enter_configure, call, &call->fault);
}

struct free_call {
    struct native_library *library;
    void (*fn)(void *made);
    void *made;
};

static NATIVE_ENTER void enter_free(void *arg) {
    struct free_call *call = arg;
    call->fn(call->made);
    NATIVE_ENTERED();
}

static void free_made(void *arg) {
    struct free_call *call = arg;
    struct native_fault fault;
    if (!native_call(&call->library->text, enter_free, call, &fault))
        native_library_faulted(call->library, &fault, "free_config", STATS_SHARD_FOREIGN);
}

void native_on_thread_stack(rt_fn fn, void *arg) {
    if (rt_self() && !foreign_is_active())
        foreign_call(fn, arg);
    else
        fn(arg);
}

void native_give_back(struct native_library *library, void (*fn)(void *made), void *made) {
    if (fn && made)
        native_on_thread_stack(free_made, &(struct free_call){library, fn, made});
}

/* ---- */

void native_config_fault(const struct native_library *library, const struct native_fault *fault,
                         const char *what, const struct cfg_mark *mark,
                         struct cfg_problems *problems) {
    struct symbol where;
    (void)symbol_of(fault->pcs[0], &where, 1);
    cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark,
                    "the plug-in %s faulted in %s: %s at address %#llx, in %s", library->name, what,
                    native_fault_name(fault), (unsigned long long)fault->address, where.function);
}

/* 0, or -EINVAL with a problem. */
static int run_configure(struct configure_call *call, const struct cfg_value *value,
                         const struct cfg_mark *mark, struct cfg_problems *problems) {
    struct cfg_buf json = {0};
    cfg_native_json(&json, value);
    struct sluice_config config = {.value = value,
                                   .json = cfg_buf_view(&json),
                                   .mark = mark,
                                   .problems = problems,
                                   .library = call->library};
    call->config = &config;
    const char *what = call->is_route ? "configure_route" : "configure";
    int err = 0;
    if (json.failed)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "out of memory");
    else
        native_on_thread_stack(configure, call);
    if (json.failed || !call->returned || call->rc < 0 || config.reported)
        err = -EINVAL;
    if (!json.failed && !call->returned)
        native_config_fault(call->library, &call->fault, what, mark, problems);
    else if (call->returned && call->rc < 0 && !config.reported)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark,
                        "the plug-in %s refused its configuration: %s", call->library->name,
                        strerror(-call->rc));
    cfg_buf_fini(&json);
    call->config = NULL;
    return err;
}

static bool is_dry;

void native_config_set_dry(bool dry) {
    is_dry = dry;
}

/* size zeros. */
static int new_dry(size_t size, const struct cfg_mark *mark, struct cfg_problems *problems,
                   void **out) {
    void *made = calloc(1, size);
    if (!made) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "out of memory");
        return -EINVAL;
    }
    *out = made;
    return 0;
}

static void set_options(struct native_config *config, const struct cfg_native *cfg) {
    config->max_faults = cfg->max_faults.set ? cfg->max_faults.value : MAX_FAULTS_DEFAULT;
    config->bypass = cfg->on_fault == CFG_NATIVE_BYPASS;
    config->is_open = cfg->on_failure == CFG_ON_FAILURE_OPEN;
}

static int new_elsewhere(const struct cfg_native *cfg, struct cfg_problems *problems, void **out) {
    struct native_config *config = calloc(1, sizeof *config);
    int err = config ? native_remote_configure(cfg, problems, &config->library, &config->far_id)
                     : -EINVAL;
    if (err) {
        free(config);
        return err;
    }
    set_options(config, cfg);
    *out = config;
    return 0;
}

int native_config_new(const struct cfg_any *any, struct cfg_problems *problems, void **out) {
    const struct cfg_native *cfg = any->message;
    char why[NATIVE_WHY_MAX];
    if (is_dry)
        return new_dry(sizeof(struct native_config), &cfg->mark, problems, out);
    if (native_is_isolated(cfg))
        return new_elsewhere(cfg, problems, out);
    struct native_library *library = native_library_get(cfg->library_path, why);
    if (!library) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "%s", why);
        return -EINVAL;
    }
    struct configure_call call = {.library = library};
    if (library->plugin.configure && run_configure(&call, cfg->config, &cfg->mark, problems) != 0)
        return -EINVAL;
    if (!library->plugin.configure && cfg->config && cfg->config->fields_count) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "the plug-in %s takes no config",
                        library->name);
        return -EINVAL;
    }
    struct native_config *config = malloc(sizeof *config);
    if (!config) {
        native_give_back(library, library->plugin.free_config, call.made);
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
        return -EINVAL;
    }
    *config = (struct native_config){
        .library = library,
        .made = call.made,
        .stack_bytes = cfg->stack_bytes.set ? cfg->stack_bytes.value : library->plugin.stack_bytes,
    };
    set_options(config, cfg);
    *out = config;
    return 0;
}

void native_config_free(void *arg) {
    struct native_config *config = arg;
    if (!config)
        return;
    if (config->far_id)
        native_remote_drop(config->library, config->far_id);
    else if (config->library)
        native_give_back(config->library, config->library->plugin.free_config, config->made);
    free(config);
}

int native_route_config_new(const struct cfg_any *any, void *filter_config,
                            struct cfg_problems *problems, void **out) {
    const struct cfg_native_per_route *cfg = any->message;
    const struct native_config *filter = filter_config;
    struct native_library *library = filter->library;
    if (!library)
        return new_dry(sizeof(struct native_route_config), &cfg->mark, problems, out);
    if (library->remote) {
        struct native_route_config *config = calloc(1, sizeof *config);
        int err = config ? native_remote_configure_route(library, filter->far_id, cfg, problems,
                                                         &config->far_id)
                         : -EINVAL;
        if (err) {
            free(config);
            return err;
        }
        config->library = library;
        *out = config;
        return 0;
    }
    if (!library->plugin.configure_route) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                        "the plug-in %s takes no configuration of routes", library->name);
        return -EINVAL;
    }
    struct configure_call call = {
        .library = library, .filter_config = filter->made, .is_route = true};
    if (run_configure(&call, cfg->config, &cfg->mark, problems) != 0)
        return -EINVAL;
    struct native_route_config *config = calloc(1, sizeof *config);
    if (!config) {
        native_give_back(library, library->plugin.free_route_config, call.made);
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
        return -EINVAL;
    }
    config->library = library;
    config->made = call.made;
    native_merges_init(&config->merges);
    *out = config;
    return 0;
}

void native_route_config_free(void *arg) {
    struct native_route_config *config = arg;
    if (!config)
        return;
    if (config->far_id) {
        native_remote_drop(config->library, config->far_id);
    } else if (config->library) {
        native_merges_fini(&config->merges, config->library);
        native_give_back(config->library, config->library->plugin.free_route_config, config->made);
    }
    free(config);
}
