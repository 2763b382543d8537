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
#include "ext/remote/remote_message.h"

struct remote_lane;
struct remote_filter;
struct remote_exchange {
    struct remote_lane *lane; /* NULL: the host has not heard of it, or is gone (remote_link.h) */
    uint64_t number;
    uint64_t config_id; /* once it was entered */
    uint32_t seat;
    bool sent; /* a message; at `sent_at` of the seat's ring, or behind it */
    uint64_t sent_at;
    bool lost;         /* its host is gone */
    bool unheard;      /* but has not looked at anything of it: another may serve it */
    bool undecided[2]; /* and held this side then: what ended the loan was its loss */
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
    struct go_plugin *plugin;
    _Atomic bool
        looks_at_bodies; /* a guess, by what the latest ones did: then bodies go along with calls */
};

/* Does the changes, and posts the decision if there is one. 0, or -EPROTO: no host of ours says such a thing. */
MUST_CHECK int remote_exchange_result(struct remote_exchange *x, const struct remote_result *result,
                                      struct remote_in *ops);
/* The oldest log is over. */
void remote_exchange_logged(struct remote_exchange *x);
/* All are: nobody will say so any more. */
void remote_exchange_end_logs(struct remote_exchange *x);
/* Answers to a question about it; what the answer's text is borrowed from is *memory, for the caller to free. */
void remote_exchange_answer(struct remote_exchange *x, const struct remote_ask *ask, size_t room,
                            struct remote_answer *answer, void **memory);
/* The host is gone, and heard of the exchange or not: its coroutines are woken, and see by lost and undecided what has happened. */
void remote_exchange_lose(struct remote_exchange *x);
