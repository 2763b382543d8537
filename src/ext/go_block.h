/* go_block: what Sluice and a Go library share of one request: the structs whose addresses Go keeps,
 * and the ext_stream behind them.
 *
 * Ownership  Two references once Go was entered: the host's, until the exchange ended, and Go's, until
 *            its garbage collector finalises the request, which may be the same instant, minutes
 *            later or never. Freed with the last one, so an address never comes back while Go
 *            may still hold it. The gauge golang.unfinalized_requests counts what is alive.
 * Threads    Finalize touches the count only. Everything else: the stream's lock. */
#pragma once
#include "ext/ext_stream.h"
#include "ext/go_library.h"

struct go_kept; /* a string lent to Go until Finalize */

struct go_block {
    struct go_request request; /* first: Go's pointers are ours */
    struct go_process_state states[2];
    _Atomic uint32_t refs;
    bool entered; /* the coroutine's: Go holds a reference and waits for its end */
    const struct go_library *library;
    struct ext_stream stream;
    struct go_kept *kept; /* the stream's lock */
    size_t kept_bytes;
    char *value; /* of the last GetStringValue; the SDK allows one at a time */
    size_t value_room;
};
static_assert(offsetof(struct go_block, request) == 0, "a request pointer is a block pointer");

/* What GetHeader may lend per request: Go never copies these, so they pile up until Finalize. */
enum { GO_KEPT_BYTES_MAX = 4 << 20 };

/* plugin_name lives as long as the process. NULL when memory is short. */
struct go_block *go_block_new(const struct go_library *library,
                              struct span plugin_name BORROWED_BY(result), unsigned shard);
/* Before the first call into Go: from now on Go has a reference. */
void go_block_enter(struct go_block *block, uint64_t config_id, uint32_t worker_id);
/* shard: of the P, or STATS_SHARD_FOREIGN. */
void go_block_unref(struct go_block *block, unsigned shard);

/* A copy that lives until Finalize; an equal one is used again. The absent span past the limit or
 * without memory. With the lock. */
struct span go_block_keep_locked(struct go_block *block, struct span bytes);
/* A copy that lives until the next one. With the lock. */
struct span go_block_value_locked(struct go_block *block, struct span bytes);
