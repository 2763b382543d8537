/* go_side: one direction of one exchange on one Go filter: shows headers, body and trailers, waits
 * while Go has them, and sends on what Go lets go.
 *
 * Pull     Envoy pushes data into a filter; here the filter pulls: the next chunk is read only when
 *          the consumer asks for one, or while Go holds the headers. While Go has a chunk nothing is
 *          read, which is the back-pressure.
 * Threads  The exchange's coroutines; one at a time per side.
 * Parks    go_side_run, and next() of the body that it puts in the message's place. */
#pragma once
#include "ext/ext_stream.h"
#include "ext/go/go_abi.h"
#include "ext/go/go_ahead.h"
#include "io/reader.h"
#include "proxy/message.h"

struct go_filter;

struct go_side {
    struct go_filter *filter;
    enum ext_direction direction;
    enum go_state state;
    struct message *message;
    struct reader inner; /* the body that we wrap, owned once wrapped */
    bool wrapped;
    bool body_ended;          /* inner is at its end */
    bool headers_held;        /* by status 3 or 4, until something is let go */
    bool looked_at;           /* at the chunk that was shown last, or changed it */
    bool over;                /* replied, or the exchange is over: nothing more is shown */
    int error;                /* sticky, of next() */
    struct ext_buffer *whole; /* state 3: what came and was not shown yet */
    struct ext_buffers out;   /* let go, not yet taken by the consumer */
    size_t lent;              /* bytes of out's head that the consumer has */
    struct ext_buffers added; /* of the call just made */
    struct go_ahead ahead;    /* what was shown, or pulled, before its time */
};

enum {
    /* One chunk in memory that is shown to Go is at most this. One in a pipe is what splicing takes at a time. */
    GO_CHUNK_MAX = 64 * 1024,
    /* Status 4 keeps chunks without regard to the buffer limit (as on Envoy, where nothing bounds
     * them); past this a filter is taken to be broken. */
    GO_HELD_BYTES_MAX = 64 << 20,
};

void go_side_init(struct go_side *side, struct go_filter *filter, enum ext_direction direction,
                  struct message *message);

/* May a callback of this phase end with this status? Others leave the side in Go, as on Envoy. */
bool go_status_fits(enum ext_phase phase, uint64_t status);

/* Shows the headers, and the body while headers are held; then wraps the message's body. Returns when
 * the headers may go on, or when the exchange is over (exchange_alive tells). */
void go_side_run(struct go_side *side);

/* The exchange ends: gives back memory. The wrapped body stays to be closed by its owner. */
void go_side_fini(struct go_side *side);
