/* go_isolate: see the header. */
#include "ext/go/go_isolate.h"

#include <errno.h>

#include "ext/go/go_remote_kind.h"
#include "ext/remote/remote_settings.h"

static bool isolates_all;

void go_isolate_all(bool all) {
    isolates_all = all;
}

bool go_is_isolated(const struct cfg_go_library *cfg) {
    return isolates_all || cfg->isolation.where == CFG_ISOLATION_PROCESS;
}

int go_isolate(struct go_library *library, const struct cfg_go_library *cfg,
               const struct cfg_mark *mark, struct cfg_problems *problems) {
    char why[SUPERVISOR_WHY_MAX] = "";
    if (library->remote)
        return 0;
    const struct remote_library_options options = {
        .id = library->id,
        .path = library->path,
        .kind = &go_remote_kind,
        .arg = library,
        .seats = library->concurrency,
        .rollout = cfg->hot_swap.rollout,
    };
    library->remote =
        remote_library_configured(&options, &cfg->isolation, &cfg->probe.timeout, why);
    if (!library->remote)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark,
                        "library %s in a process of its own: %s", library->id, why);
    return library->remote ? 0 : -EINVAL;
}
