#include "proxy/transport_socket.h"

static const struct transport_socket_kind *kinds[TRANSPORT_SOCKET_KINDS_MAX];
static unsigned kind_count;

void transport_socket_register(const struct transport_socket_kind *kind) {
    ASSERT(kind_count < TRANSPORT_SOCKET_KINDS_MAX);
    kinds[kind_count++] = kind;
}

const struct transport_socket_kind *transport_socket_find(const struct cfg_schema *schema) {
    for (unsigned i = 0; i < kind_count; i++)
        if (kinds[i]->schema == schema)
            return kinds[i];
    return NULL;
}
