/* remote_settings: see the header. */
#include "ext/remote/remote_settings.h"

#include "ext/remote/sandbox_options.h"

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

struct remote_library *remote_library_configured(const struct remote_library_options *options,
                                                 const struct cfg_go_isolation *cfg,
                                                 const struct cfg_duration *start_timeout,
                                                 char *why) {
    struct sandbox_options sandbox;
    if (!sandbox_options_from(cfg->has_sandbox ? &cfg->sandbox : NULL, span_of(options->path),
                              &sandbox, why))
        return NULL;
    struct remote_library_options all = *options;
    all.start_timeout_ns = start_timeout->set ? start_timeout->ns : START_TIMEOUT_DEFAULT_NS;
    all.callback_timeout_ns =
        cfg->callback_timeout.set ? cfg->callback_timeout.ns : CALLBACK_TIMEOUT_DEFAULT_NS;
    all.restarts = restarts_of(&cfg->restarts);
    all.sandbox = &sandbox;
    return remote_library_new(&all, why);
}
