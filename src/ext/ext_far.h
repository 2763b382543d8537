/* ext_far: the other end of a stream whose exchange is in another process: it is told what foreign code decides and
 * changes, and asked what is not known here. Whoever embeds a struct ext_far in his mirror of the exchange
 * (remote/host_stream.h) fills the table; a stream whose exchange is here has none.
 *
 * Threads  Any, with the stream's lock, and only while foreign code may do what it does (go_gate.c): so not after
 *          ext_stream_end. That it is held while an answer is waited for is right, though an answer takes some 20 us: who
 *          answers needs nothing of ours, changes made before a question are seen by it, and later ones wait. */
#pragma once
#include "ext/ext_buffer.h"
#include "ext/remote/remote_message.h"

struct ext_side;
struct ext_far;

struct ext_far_itab {
    /* A continue or a reply was accepted. */
    void (*decided)(struct ext_far *far, struct ext_side *side);
    /* The route is to be chosen by the headers as they are now. */
    void (*refreshed)(struct ext_far *far);
    /* A shown buffer: its bytes are here then. 0 or -errno. */
    int (*look)(struct ext_far *far, struct ext_side *side, struct ext_buffer *buffer);
    /* Changes one; n: how much is drained. 0 or -errno as ext_buffer.h, then nothing was changed. */
    int (*change)(struct ext_far *far, struct ext_side *side, struct ext_buffer *buffer,
                  enum remote_buffer_action action, struct span bytes, uint64_t n);
    /* Fills in what is the stream's of ask, and waits. The code of the answer (enum go_code); what *answer borrows is
     * there until `asked`, which must follow. */
    int (*ask)(struct ext_far *far, struct remote_ask *ask, struct remote_answer *answer);
    void (*asked)(struct ext_far *far, const struct remote_ask *ask);
};

struct ext_far {
    const struct ext_far_itab *itab;
};
