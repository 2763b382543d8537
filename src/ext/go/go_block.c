/* go_block: see the header.
 *
 * Blocks are used again, by the P that they are from:
 *
 *     go_block_new ◄── free: the P's alone ◄── go_block_end, if nobody else is at work with the block
 *                        ▲ all at once, when free is empty
 *                      returned: any thread ◄── the last call of a thread of Go's
 *
 * Go has no address of a block, only a handle, which is another one for each request: so a block may be the next
 * request's at once. What Go has the address of is a loan (go_lent.h), which waits for Go's collector.
 *
 * Order     A push releases what the last user wrote; who takes all acquires it. Nothing is ever taken from the middle,
 *           so an address that comes back is no danger (no ABA).
 * Limits    GO_BLOCKS_KEPT by a P: what a burst needed beyond that is given back.
 * Rejected  mem/pool.h: its objects end on Ps, and these on whichever thread is last, which would have to post each to
 *           its P. */
#include "ext/go/go_block.h"

#include <stdlib.h>

#include "ext/ext_handles.h"
#include "ext/go/go_log.h"
#include "ext/go/go_owned.h"
#include "ext/go/go_stats.h"
#include "mem/poison.h"

enum { GO_BLOCKS_KEPT = 256 };

const char go_block_key[] = "request";

/* ---- memory ---- */

static struct home {
    _Alignas(64) struct go_block *free; /* the P's */
    unsigned count;
    _Alignas(64) _Atomic(struct go_block *) returned;
} homes[STATS_SHARD_FOREIGN];

/* ASan finds who uses one that is free. The link stays readable: LeakSanitizer follows it. */
static const size_t poisoned_from = offsetof(struct go_block, loan);

static void *poisoned(struct go_block *block) {
    return (char *)block + poisoned_from;
}

static void take_returned(struct home *home) {
    home->free = atomic_exchange_explicit(&home->returned, NULL, memory_order_acquire);
    home->count = 0;
    for (const struct go_block *block = home->free; block; block = block->next_free)
        home->count++;
}

/* On its P. NULL: there is none. */
static struct go_block *take_free(struct home *home) {
    if (!home->free && atomic_load_explicit(&home->returned, memory_order_relaxed))
        take_returned(home);
    struct go_block *block = home->free;
    if (!block)
        return NULL;
    home->free = block->next_free;
    home->count--;
    mem_unpoison(poisoned(block), sizeof *block - poisoned_from);
    return block;
}

static struct go_block *get_block(unsigned shard) {
    struct go_block *block = shard == STATS_SHARD_FOREIGN ? NULL : take_free(&homes[shard]);
    if (!block)
        block = malloc(sizeof(*block));
    if (block)
        block->home = shard;
    return block;
}

void go_blocks_drop(unsigned shard) {
    struct go_block *block;
    while ((block = take_free(&homes[shard])))
        free(block);
}

/* On its P. */
static void put_block(struct go_block *block) {
    struct home *home = &homes[block->home];
    if (home->count >= GO_BLOCKS_KEPT) {
        free(block);
        return;
    }
    mem_poison(poisoned(block), sizeof *block - poisoned_from);
    block->next_free = home->free;
    home->free = block;
    home->count++;
}

static void return_block(struct go_block *block) {
    _Atomic(struct go_block *) *returned = &homes[block->home].returned;
    mem_poison(poisoned(block), sizeof *block - poisoned_from);
    block->next_free = atomic_load_explicit(returned, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(returned, &block->next_free, block,
                                                  memory_order_release, memory_order_relaxed)) {
    }
}

/* Of this thread: it is in end_handle, on the block's P. Nothing in there parks. */
static _Thread_local bool is_at_home;

/* By whoever is last: the coroutine, or a thread of Go's that was in a call when the exchange ended. */
static NOINLINE void finalize(void *object, const void *key) {
    struct go_block *block = object;
    ext_stream_fini(&block->stream);
    if (block->home == STATS_SHARD_FOREIGN)
        free(block);
    else if (is_at_home)
        put_block(block);
    else
        return_block(block);
}

static NOINLINE int end_handle(uint64_t handle) {
    is_at_home = true;
    int err = handle_destroy(&ext_handles, handle, go_block_key);
    is_at_home = false;
    return err;
}

/* ---- life ---- */

/* Once: it is every request's reason from then on. */
static void tell_of_the_limit(void) {
    static atomic_flag told = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set_explicit(&told, memory_order_relaxed))
        LOG(log_golang, LOG_ERROR,
            "Go has not given back %d requests, and gets no more: a plugin keeps them, or "
            "panics in OnDestroy. Restart this process to serve on",
            (int)GO_REQUESTS_MAX);
}

/* Of an isolated library Go does not have this one, but one in its process: that is counted there. */
static void count_unfinalized(struct go_lent *lent, const struct go_plugin *plugin,
                              unsigned shard) {
    uint64_t *cells = stats_cells(shard);
    lent->counts = !plugin->library->isolated;
    lent->unfinalized = plugin->stats.slots[GO_STAT_UNFINALIZED];
    lent->unfinalized_far = atomic_load_explicit(&plugin->unfinalized_far, memory_order_relaxed);
    if (lent->counts) {
        stats_bump(cells, go_stats.unfinalized->slot, 1);
        stats_bump(cells, lent->unfinalized, 1);
    }
    if (__builtin_expect(lent->unfinalized_far != NULL, false))
        (void)atomic_fetch_add_explicit(lent->unfinalized_far, 1, memory_order_relaxed);
}

struct go_block *go_block_new(const struct go_plugin *plugin, unsigned shard) {
    struct go_block *block = get_block(shard);
    if (!block)
        return NULL;
    block->entered = block->remote = false;
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
    count_unfinalized(lent, plugin, shard);
    lent->request.plugin_name = plugin->name.ptr;
    lent->request.plugin_name_len = plugin->name.len;
    for (int i = 0; i < 2; i++) {
        lent->states[i].req = &lent->request;
        lent->states[i].is_encoding = i;
    }
    loan_lend(&go_lent_requests, block->loan);
    return block;
no_loan:
    tell_of_the_limit();
    (void)end_handle(handle); /* the block's end */
    return NULL;
no_handle:
    finalize(block, NULL); /* away from home, which only costs more */
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
    if (block->entered || block->remote) {
        stats_bump(stats_cells(shard), block->plugin->stats.slots[GO_STAT_REQUESTS], 1);
        go_plugin_stats_add(&block->plugin->stats, shard, &counts);
    }
    if (!block->entered)
        (void)loan_release(&go_lent_requests, lent); /* nobody else has the address */
    int err = end_handle(lent->block);
    ASSERT(err == 0); /* only we do that */
    loan_let_go(&go_lent_requests, loan);
}
