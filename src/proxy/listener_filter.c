#include "proxy/listener_filter.h"

static const struct listener_filter_kind *kinds[LISTENER_FILTER_KINDS_MAX];
static unsigned kind_count;

void listener_filter_register(const struct listener_filter_kind *kind) {
    ASSERT(kind_count < LISTENER_FILTER_KINDS_MAX);
    kinds[kind_count++] = kind;
}

const struct listener_filter_kind *listener_filter_find(const struct cfg_schema *schema) {
    for (unsigned i = 0; i < kind_count; i++)
        if (kinds[i]->schema == schema)
            return kinds[i];
    return NULL;
}
