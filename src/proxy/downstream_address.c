/* downstream_address: who talks to whom on a client's connection, as text. Most requests are logged without
 * it, or not at all: so it is written when somebody asks, once for each request that does. */
#include <string.h>

#include "proxy/downstream.h"
#include "proxy/listener.h"

void downstream_local_address(struct downstream *d, struct address *out) {
    uint32_t known;

    memcpy(&known, d->local_v4, sizeof known);
    if (known != 0) {
        struct compact_address local = {
            .family = AF_INET, .port = htons(address_port(&d->info->listener->addresses[0]))};
        memcpy(local.ip, d->local_v4, sizeof d->local_v4);
        address_unpack(&local, out);
        return;
    }
    socket_local_address(&d->socket, out);
    if (out->len && out->sa.any.sa_family == AF_INET && d->info->listener->has_one_port)
        memcpy(d->local_v4, &out->sa.v4.sin_addr, sizeof d->local_v4);
}

void downstream_address(struct downstream *d, struct address *out) {
    if (d->info->local)
        *out = *d->info->local;
    else
        downstream_local_address(d, out);
}

void downstream_remote_address(const struct downstream *d, struct address *out) {
    if (d->info->remote)
        *out = *d->info->remote;
    else
        address_unpack(&d->peer, out);
}

static struct span address_in_arena(struct exchange *x, const struct address *address) {
    char *text = arena_alloc(&x->arena, ADDRESS_TEXT_MAX);
    return text ? span_make(text, address_text(address, text)) : span_none();
}

struct span exchange_downstream_local(struct exchange *x) {
    struct span *text = &x->info.downstream_local;
    if (span_is_none(*text) && x->downstream) {
        struct address address;
        downstream_address(x->downstream, &address);
        *text = address_in_arena(x, &address);
    }
    return *text;
}

struct span exchange_downstream_direct_remote(struct exchange *x) {
    struct span *text = &x->info.downstream_direct_remote;
    if (span_is_none(*text) && x->downstream) {
        struct address address;
        address_unpack(&x->downstream->peer, &address);
        *text = address_in_arena(x, &address);
    }
    return *text;
}

struct span exchange_downstream_remote(struct exchange *x) {
    struct span *text = &x->info.downstream_remote;
    if (span_is_none(*text) && x->downstream && x->downstream->info->remote)
        *text = address_in_arena(x, x->downstream->info->remote);
    else if (span_is_none(*text))
        *text = exchange_downstream_direct_remote(x);
    return *text;
}

uint64_t exchange_connection_id(const struct exchange *x) {
    return x->downstream ? x->downstream->id : x->info.connection_id;
}
