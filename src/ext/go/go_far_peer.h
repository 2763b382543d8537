/* go_far_peer: a connection that is in another process, for a go_peer here that has no connection of its own: what Go asks
 * of it goes there (ext/remote/host_peer.h).
 *
 * Threads  Any, with the peer's lock, of one that is not closed. */
#pragma once
#include "ext/go/go_peer.h"
#include "ext/remote/remote_message.h"

struct go_far_peer;
struct go_far_peer_itab {
    /* They are done in their order. */
    void (*write)(struct go_far_peer *far, struct span bytes, bool end);
    void (*close)(struct go_far_peer *far, enum go_close_type type);
    void (*half_close)(struct go_far_peer *far, bool enable);
    /* Waits for the answer, which is borrowed until `asked`, and that always follows. The code. */
    int (*ask)(struct go_far_peer *far, struct remote_ask *ask, struct remote_answer *answer);
    void (*asked)(struct go_far_peer *far, const struct remote_ask *ask);
};
struct go_far_peer {
    const struct go_far_peer_itab *itab;
    uint64_t handle; /* of its go_peer there */
};
