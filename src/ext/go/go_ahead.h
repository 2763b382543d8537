/* go_ahead: what a filter whose library is in a host process is told with the headers, since it would be shown that next
 * in any case: a body that is there. One message and one wake-up of each process instead of two or three.
 *
 *     response   headers ──2──► the piece ──2──► the end     of the filter that is last to see it: what comes behind is
 *                                                            the client's connection, which nobody else looks at between
 *     both       headers ──3──► the whole body, with the end: while headers are held nothing else goes on
 *
 * A call that ends otherwise than taken for given is the last of its message, and what it was not called for is shown later,
 * as ever. What comes of the calls is kept here until the exchange gets there: then the body is pulled, or goes out, or
 * a reply is given, as if Go had been called only now.
 *
 * A guess, as those of go_side.c are: a plugin that waited for its latest headers to have the whole body will again, and
 * one that decides elsewhere, and later, what becomes of a body is not asked ahead: headers would wait for it.
 *
 * Threads  The exchange's coroutines. Parks: go_ahead_step alone; what go_ahead_pull pulls is there. */
#pragma once
#include "ext/ext_stream.h"
#include "ext/remote/remote_message.h"

struct go_side;

enum { GO_AHEAD_MAX = 16 * 1024 };

struct go_ahead {
    struct ext_buffer *pulled; /* owned: it was not shown, and is the next to be */
    enum remote_ahead kind;    /* what `pulled` may be offered for */
    uint8_t calls;             /* made, and not accounted for yet, the last of them with: */
    bool end_is_next;          /* the piece was accounted for */
    bool async, looked_at;
    int status;
    size_t size;             /* of what it was called with */
    struct ext_reply *reply; /* owned */
};

/* Before the headers are lent. 0, or -errno: there was no memory for what was pulled. */
MUST_CHECK int go_ahead_pull(struct go_side *side);
/* While they are, before they are shown. */
void go_ahead_offer(struct go_side *side);
/* The loan is over, with this status; or in vain, so all that was offered is shown later. The headers' own status. */
int go_ahead_settle(struct go_side *side, int status, bool *async, struct ext_taken *taken);
void go_ahead_take_back(struct go_side *side);
/* Something is here that comes before what is in the body's reader. */
static inline bool go_ahead_holds(const struct go_ahead *ahead) {
    return ahead->pulled || ahead->calls;
}
/* That is next. 0, or -errno when the side is over. May park. */
MUST_CHECK int go_ahead_step(struct go_side *side);
void go_ahead_fini(struct go_ahead *ahead);
