/* remote_exchange: one exchange on one Go filter whose library runs in a host process: what the host says of it is done
 * to its ext_stream here, as a Go library in this process would.
 *
 * Ownership  Lies in its filter. Borrows the block, from the filter's creation until its end.
 * Threads    The exchange's P; the stream's lock for what it says.
 * Trust      The host is believed nothing: a change that the side's state does not allow, or that may not go on the
 *            wire, is dropped and counted, as of a library in this process. */
#pragma once
#include "base/list.h"
#include "ext/go/go_block.h"
#include "ext/remote/remote_party.h"

struct remote_filter;
struct remote_exchange {
    struct remote_party party;
    uint64_t config_id; /* once it was entered */
    bool undecided[2];  /* its host held this side when it was lost: that ended the loan */
    /* Of the loan of headers: what is ahead of it, in the order shown, and how many of those calls the host has begun. */
    struct {
        enum remote_ahead offered;
        uint8_t calls;
    } ahead[2];
    bool end_told; /* the host tells Go of its end without another word */
    struct go_block *block;
    struct remote_filter *filter; /* of its configuration, which lives longer */
    struct remote_out reply;      /* the body of a reply, so far */
    struct list logs;             /* struct remote_log_wait, in the order they were sent */
};

/* A log that somebody waits for, who may outlive the exchange. On his stack. */
struct remote_log_wait {
    struct list node; /* unlinked: it is over */
    struct g *g;
};

/* What a configured filter says of its exchanges. */
struct remote_filter {
    bool
        is_open; /* on_failure: OPEN: they go on without the filter; else they are answered with 503 */
    /* A guess for each direction, by what the latest ones did: then bodies go along with calls. */
    _Atomic bool looks_at_bodies[2];
};

/* Its block is to be set. */
void remote_exchange_init(struct remote_exchange *x, struct remote_filter *filter BORROWED_BY(x),
                          struct go_plugin *plugin BORROWED_BY(x));
