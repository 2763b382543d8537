#include "proxy/cluster_specifier.h"

static const struct cluster_specifier_kind *kinds[CLUSTER_SPECIFIER_KINDS_MAX];
static unsigned kind_count;

void cluster_specifier_register(const struct cluster_specifier_kind *kind) {
    ASSERT(kind_count < CLUSTER_SPECIFIER_KINDS_MAX);
    kinds[kind_count++] = kind;
}

const struct cluster_specifier_kind *cluster_specifier_find(const struct cfg_schema *schema) {
    for (unsigned i = 0; i < kind_count; i++)
        if (kinds[i]->schema == schema)
            return kinds[i];
    return NULL;
}
