/* go_isolate: see the header. */
#include "ext/go/go_isolate.h"

#include <errno.h>

#include "ext/remote/remote_library.h"
#include "ext/remote/sandbox_options.h"

static bool isolates_all;

void go_isolate_all(bool all) {
    isolates_all = all;
}

bool go_is_isolated(const struct cfg_go_library *cfg) {
    return isolates_all || cfg->isolation.where == CFG_ISOLATION_PROCESS;
}

static const int64_t START_TIMEOUT_DEFAULT_NS = 10 * NS_PER_S,
                     CALLBACK_TIMEOUT_DEFAULT_NS = 10 * NS_PER_S;

static struct restart_settings restarts_of(const struct cfg_go_restarts *cfg) {
    struct restart_settings settings = restart_settings_default;
    const struct {
        const struct cfg_duration *wish;
        int64_t *into;
    } table[] = {
        {&cfg->base_interval, &settings.base_ns},
        {&cfg->max_interval, &settings.max_ns},
        {&cfg->window, &settings.window_ns},
        {&cfg->retry_after, &settings.probe_ns},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].wish->set)
            *table[i].into = table[i].wish->ns;
    if (cfg->max_failures.set)
        settings.failures_max = cfg->max_failures.value;
    return settings;
}

static struct remote_library *start_host(struct go_library *library,
                                         const struct cfg_go_library *cfg,
                                         char why[SUPERVISOR_WHY_MAX]) {
    const struct cfg_go_isolation *wish = &cfg->isolation;
    const struct cfg_duration *start = &cfg->probe.timeout;
    struct sandbox_options sandbox;
    if (!sandbox_options_from(wish->has_sandbox ? &wish->sandbox : NULL, span_of(library->path),
                              &sandbox, why))
        return NULL;
    const struct remote_library_options options = {
        .library = library,
        .seats = library->concurrency,
        .gogc = cfg->gogc,
        .memory_limit = cfg->go_memory_limit,
        .start_timeout_ns = start->set ? start->ns : START_TIMEOUT_DEFAULT_NS,
        .callback_timeout_ns =
            wish->callback_timeout.set ? wish->callback_timeout.ns : CALLBACK_TIMEOUT_DEFAULT_NS,
        .restarts = restarts_of(&wish->restarts),
        .sandbox = &sandbox,
    };
    return remote_library_new(&options, why);
}

int go_isolate(struct go_library *library, const struct cfg_go_library *cfg,
               const struct cfg_mark *mark, struct cfg_problems *problems) {
    char why[SUPERVISOR_WHY_MAX] = "";
    if (library->remote)
        return 0;
    library->remote = start_host(library, cfg, why);
    if (!library->remote)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark,
                        "library %s in a process of its own: %s", library->id, why);
    return library->remote ? 0 : -EINVAL;
}
