#include "proxy/filter_registry.h"

#include "base/check.h"

static const struct filter_kind *kinds[FILTER_KINDS_MAX];
static unsigned kind_count;

void filter_register(const struct filter_kind *kind) {
    ASSERT(kind_count < FILTER_KINDS_MAX);
    kinds[kind_count++] = kind;
}

const struct filter_kind *filter_find(const struct cfg_schema *schema) {
    for (unsigned i = 0; i < kind_count; i++)
        if (kinds[i]->schema == schema)
            return kinds[i];
    return NULL;
}
