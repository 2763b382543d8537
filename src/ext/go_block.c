/* go_block: see the header. */
#include "ext/go_block.h"

#include <stdlib.h>

#include "ext/go_owned.h"
#include "ext/go_stats.h"

struct go_kept {
    struct go_kept *next;
    size_t len;
    char bytes[];
};

struct go_block *go_block_new(const struct go_library *library, struct span plugin_name,
                              unsigned shard) {
    struct go_block *block = malloc(sizeof(*block));
    if (!block)
        return NULL;
    memset(block, 0, offsetof(struct go_block, stream));
    ext_stream_init(&block->stream);
    block->kept = NULL;
    block->kept_bytes = 0;
    block->value = NULL;
    block->value_room = 0;
    block->request.plugin_name = plugin_name.ptr;
    block->request.plugin_name_len = plugin_name.len;
    for (int i = 0; i < 2; i++) {
        block->states[i].req = &block->request;
        block->states[i].is_encoding = i;
    }
    block->library = library;
    atomic_init(&block->refs, 1);
    stat_inc(go_stats.unfinalized, shard);
    return block;
}

void go_block_enter(struct go_block *block, uint64_t config_id, uint32_t worker_id) {
    ASSERT(!block->entered);
    ASSERT(worker_id < block->library->concurrency);
    block->request.config_id = config_id;
    block->request.worker_id = worker_id;
    atomic_store_explicit(&block->refs, 2, memory_order_relaxed);
    block->entered = true;
    go_owned(block);
}

void go_block_unref(struct go_block *block, unsigned shard) {
    /* Release: this side's writes before the free. Acquire: the other side's, for whoever frees. */
    if (atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) != 1)
        return;
    stat_dec(go_stats.unfinalized, shard);
    ext_stream_fini(&block->stream);
    while (block->kept) {
        struct go_kept *next = block->kept->next;
        free(block->kept);
        block->kept = next;
    }
    free(block->value);
    free(block);
}

struct span go_block_keep_locked(struct go_block *block, struct span bytes) {
    for (struct go_kept *kept = block->kept; kept; kept = kept->next)
        if (kept->len == bytes.len && memcmp(kept->bytes, bytes.ptr, bytes.len) == 0)
            return span_make(kept->bytes, kept->len);
    if (bytes.len > GO_KEPT_BYTES_MAX - block->kept_bytes)
        return span_none();
    struct go_kept *kept = malloc(sizeof(*kept) + bytes.len);
    if (!kept)
        return span_none();
    kept->len = bytes.len;
    memcpy(kept->bytes, bytes.ptr, bytes.len);
    kept->next = block->kept;
    block->kept = kept;
    block->kept_bytes += bytes.len;
    return span_make(kept->bytes, kept->len);
}

struct span go_block_value_locked(struct go_block *block, struct span bytes) {
    if (block->value_room < bytes.len || !block->value) {
        char *value = malloc(bytes.len ? bytes.len : 1);
        if (!value)
            return span_none();
        free(block->value);
        block->value = value;
        block->value_room = bytes.len;
    }
    if (bytes.len)
        memcpy(block->value, bytes.ptr, bytes.len);
    return span_make(block->value, bytes.len);
}
