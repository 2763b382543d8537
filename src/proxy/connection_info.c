/* connection_info: memory is a list of pieces from malloc, some hundred bytes in all: a block of 16 KiB for each idle
 * connection would be too much. */
#include "proxy/connection_info.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/downstream.h"
#include "proxy/filter_state.h"
#include "proxy/metadata.h"

struct connection_info *connection_info_own(struct downstream *d) {
    if (!d->info->shared)
        return (struct connection_info *)(uintptr_t)d->info;
    struct connection_info *info = calloc(1, sizeof *info);
    if (!info)
        return NULL;
    info->chain = d->info->chain;
    info->listener = d->info->listener;
    list_init(&info->upstreams);
    d->info = info;
    return info;
}

struct connection_memory {
    struct connection_memory *next;
    _Alignas(16) char bytes[];
};

void *connection_info_alloc(struct connection_info *info, size_t size) {
    ASSERT(!info->shared);
    struct connection_memory *piece = malloc(sizeof *piece + size);
    if (!piece)
        return NULL;
    piece->next = info->memory;
    info->memory = piece;
    return piece->bytes;
}

struct span connection_info_keep(struct connection_info *info, struct span bytes) {
    char *copy = connection_info_alloc(info, bytes.len + 1);
    if (!copy)
        return span_none();
    if (bytes.len)
        memcpy(copy, bytes.ptr, bytes.len);
    copy[bytes.len] = '\0';
    return span_make(copy, bytes.len);
}

void connection_info_free(struct connection_info *info) {
    ASSERT(!info->shared);
    struct connection_memory *next;
    for (struct connection_memory *at = info->memory; at; at = next) {
        next = at->next;
        free(at);
    }
    metadata_unref(info->metadata);
    filter_state_unref(info->filter_state);
    free(info);
}
