#include "proxy/network_filter.h"

static const struct network_filter_kind *kinds[NETWORK_FILTER_KINDS_MAX];
static unsigned kind_count;

void network_filter_register(const struct network_filter_kind *kind) {
    ASSERT(kind_count < NETWORK_FILTER_KINDS_MAX);
    kinds[kind_count++] = kind;
}

const struct network_filter_kind *network_filter_find(const struct cfg_schema *schema) {
    for (unsigned i = 0; i < kind_count; i++)
        if (kinds[i]->schema == schema)
            return kinds[i];
    return NULL;
}
