/* go_block: see the header. */
#include "ext/go/go_block.h"

#include <stdlib.h>

#include "ext/ext_handles.h"
#include "ext/go/go_log.h"
#include "ext/go/go_owned.h"
#include "ext/go/go_stats.h"

const char go_block_key[] = "request";

/* By whoever is last: the coroutine, or a thread of Go's that was in a call when the exchange ended. */
static void finalize(void *object, const void *key) {
    struct go_block *block = object;
    ext_stream_fini(&block->stream);
    free(block);
}

/* Once: it is every request's reason from then on. */
static void tell_of_the_limit(void) {
    static atomic_flag told = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set_explicit(&told, memory_order_relaxed))
        LOG(log_golang, LOG_ERROR,
            "Go has not given back %d requests, and gets no more: a plugin keeps them, or "
            "panics in OnDestroy. Restart this process to serve on",
            (int)GO_REQUESTS_MAX);
}

struct go_block *go_block_new(const struct go_plugin *plugin, unsigned shard) {
    struct go_block *block = malloc(sizeof(*block));
    if (!block)
        return NULL;
    block->entered = false;
    block->library = plugin->library;
    block->plugin = plugin;
    block->counts = (struct go_counts){0};
    ext_stream_init(&block->stream);
    uint64_t handle = handle_make(
        &ext_handles, shard,
        &(struct handle_object){.object = block, .key = go_block_key, .finalize = finalize});
    if (!handle)
        goto no_handle;
    block->loan = loan_new(&go_lent_requests, shard);
    struct go_lent *lent = block->lent = block->loan.memory;
    if (!lent)
        goto no_loan;
    lent->block = handle;
    lent->unfinalized = plugin->stats.slots[GO_STAT_UNFINALIZED];
    lent->request.plugin_name = plugin->name.ptr;
    lent->request.plugin_name_len = plugin->name.len;
    for (int i = 0; i < 2; i++) {
        lent->states[i].req = &lent->request;
        lent->states[i].is_encoding = i;
    }
    loan_lend(&go_lent_requests, block->loan);
    uint64_t *cells = stats_cells(shard);
    stats_bump(cells, go_stats.unfinalized->slot, 1);
    stats_bump(cells, plugin->stats.slots[GO_STAT_UNFINALIZED], 1);
    return block;
no_loan:
    tell_of_the_limit();
    (void)handle_destroy(&ext_handles, handle, go_block_key); /* frees the block */
    return NULL;
no_handle:
    ext_stream_fini(&block->stream);
    free(block);
    return NULL;
}

void go_block_enter(struct go_block *block, uint64_t config_id, uint32_t worker_id) {
    ASSERT(!block->entered);
    ASSERT(worker_id < block->library->concurrency);
    block->lent->request.config_id = config_id;
    block->lent->request.worker_id = worker_id;
    block->entered = true;
    go_owned(block);
}

void go_block_end(struct go_block *block, unsigned shard) {
    struct go_lent *lent = block->lent;
    struct loan loan = block->loan;
    ext_lock(&block->stream);
    ASSERT(block->stream.destroyed);
    for (int i = 0; i < 2; i++)
        lent->replied[i] = block->stream.sides[i].replied;
    const struct go_counts counts = block->counts;
    ext_unlock(&block->stream);
    if (block->entered) {
        stats_bump(stats_cells(shard), block->plugin->stats.slots[GO_STAT_REQUESTS], 1);
        go_plugin_stats_add(&block->plugin->stats, shard, &counts);
    }
    if (!block->entered)
        (void)loan_release(&go_lent_requests, lent); /* nobody else has the address */
    int err = handle_destroy(&ext_handles, lent->block, go_block_key);
    ASSERT(err == 0); /* only we do that */
    loan_let_go(&go_lent_requests, loan);
}
