/* go_remote_cluster: a question to a cluster specifier whose library runs in a host process: a message there, and one back.
 *
 * Threads  The exchange's coroutine, which parks. */
#pragma once
#include "ext/ext_room.h"
#include "ext/go/go_plugin.h"
#include "mem/arena.h"

struct go_remote_question {
    struct go_plugin *plugin;
    uint64_t config_id; /* the proxy's */
    struct ext_view headers;
    int64_t seat_wait_ns;
};
struct go_remote_answer {
    uint64_t len; /* of the name; 0: none */
    bool panicked;
    struct span
        name; /* in the arena; absent: memory was short; empty: none, or one that is too long */
};

/* 0; -ETIMEDOUT: all seats are blocked; -ECANCELED: the exchange is over; else an answer cannot be had: -EPIPE: there is no
 * process, or it was lost over it; -EMSGSIZE: the headers are larger than a message; -ENOMEM. */
MUST_CHECK int go_remote_specify(const struct go_remote_question *question, struct arena *arena,
                                 struct go_remote_answer *out);
