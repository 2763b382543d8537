/* go_block: what Sluice has of one request on one Go filter, for as long as there is an exchange: the
 * ext_stream that Go's calls work on.
 *
 * Ownership  The exchange's, from go_block_new to go_block_end. Go reaches it by the handle in what it was
 *            lent (go_lent.h), so a call keeps it until it is done, and after go_block_end finds nothing.
 *            It ends with the last call that is at work with it, and is then another request's.
 * Threads    The exchange's coroutines; the stream's lock for what it says. */
#pragma once
#include "ext/ext_stream.h"
#include "ext/go/go_lent.h"
#include "ext/go/go_plugin.h"

struct go_block {
    struct go_block *next_free;
    unsigned home;        /* shard of the P that it goes back to */
    struct loan loan;     /* of lent: the exchange's lease on it */
    struct go_lent *lent; /* valid while there is an exchange, whatever Go does */
    bool entered;         /* Go knows lent's address, and gives it back */
    bool remote;          /* a host process has heard of it, and says what it counts */
    const struct go_library *library;
    const struct go_plugin *plugin;
    struct ext_stream stream;
    struct go_counts counts; /* the stream's lock */
};

/* What a handle of a block is looked up with. */
extern const char go_block_key[];

/* shard: of the P. NULL when memory is short, or when there are GO_REQUESTS_MAX. */
struct go_block *go_block_new(const struct go_plugin *plugin, unsigned shard);
/* Before the first call into Go. */
void go_block_enter(struct go_block *block, uint64_t config_id, uint32_t worker_id);
/* What is free of this shard's. Of tests: when nobody uses it. */
void go_blocks_drop(unsigned shard);
/* After ext_stream_end, and after the last call into Go. What Go was not lent ends here too, and its
 * counts are added to the plugin's. */
void go_block_end(struct go_block *block, unsigned shard);
