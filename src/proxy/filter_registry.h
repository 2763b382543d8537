/* filter_registry: which filters this process has. main registers them at start; the proxy looks
 * them up by the schema of typed_config. Read-only once the first config is built. */
#pragma once
#include "proxy/filter.h"

enum { FILTER_KINDS_MAX = 32 };

void filter_register(const struct filter_kind *kind BORROWED_BY(program));
/* NULL: no filter takes that configuration. */
const struct filter_kind *filter_find(const struct cfg_schema *schema);
