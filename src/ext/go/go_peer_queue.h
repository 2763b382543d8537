/* go_peer_queue: what Go asked of a connection, in its order. go_peer_queue.c puts it there, by any thread, and go_peer.c
 * does it on the P. */
#pragma once
#include "ext/go/go_peer.h"

struct go_command {
    struct go_command *next;
    bool is_close;
    enum go_close_type close_type;
    bool end;
    size_t len;
    char bytes[];
};

static inline size_t go_command_size(const struct go_command *command) {
    return sizeof *command + command->len;
}
