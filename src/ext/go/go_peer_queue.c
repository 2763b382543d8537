/* go_peer_queue: what Go asks of a connection that is here is copied to its queue; of one that is elsewhere it goes there
 * (go_far_peer.h). All with the peer's lock. */
#include "ext/go/go_peer_queue.h"

#include <stdlib.h>

#include "ext/ext_handles.h"
#include "ext/go/go_far_peer.h"
#include "ext/go/go_log.h"

/* The message has a lease of its own: there is a handle as long as the peer is not closed. */
static void post_locked(struct go_peer *peer, struct rt_post *post) {
    void *same = handle_lease(&ext_handles, peer->handle, go_peer_key);
    ASSERT(same == peer);
    rt_post(peer->p_index, post);
}

static void hurry_locked(struct go_peer *peer) {
    if (peer->hard)
        return;
    peer->hard = true;
    post_locked(peer, &peer->hard_post);
}

static int break_off_locked(struct go_peer *peer) {
    peer->broken = true;
    hurry_locked(peer);
    return GO_INTERNAL_FAILURE;
}

static void push_locked(struct go_peer *peer, struct go_command *command) {
    command->next = NULL;
    if (peer->last)
        peer->last->next = command;
    else
        peer->first = command;
    peer->last = command;
    peer->queued += go_command_size(command);
    if (!peer->posted) {
        peer->posted = true;
        post_locked(peer, &peer->post);
    }
}

void go_peer_forget_write(struct go_command *command) {
    free(command);
}

static struct go_command *command_new(size_t len) {
    struct go_command *command = malloc(sizeof *command + len);
    if (command)
        *command = (struct go_command){.len = len};
    return command;
}

struct go_command *go_peer_begin_write_locked(struct go_peer *peer, size_t len) {
    if (peer->broken)
        return NULL;
    if (len > GO_PEER_QUEUE_MAX || peer->queued > GO_PEER_QUEUE_MAX - len) {
        stat_inc(go_peer_stats.overflows, STATS_SHARD_FOREIGN);
        LOG(log_golang, LOG_WARN,
            "a plugin wrote %d MiB that the other side does not take: the connection is broken off",
            GO_PEER_QUEUE_MAX >> 20);
        (void)!break_off_locked(peer);
        return NULL;
    }
    struct go_command *command = command_new(len);
    if (command)
        peer->queued += go_command_size(command);
    else
        (void)!break_off_locked(peer);
    return command;
}

char *go_peer_write_room(struct go_command *command) {
    return command->bytes;
}

void go_peer_end_write_locked(struct go_peer *peer, struct go_command *command, bool end) {
    command->end = end;
    peer->queued -= go_command_size(command);
    peer->counts.body_bytes_from_go += command->len;
    push_locked(peer, command);
}

int go_peer_write_locked(struct go_peer *peer, struct span bytes, bool end) {
    if (peer->closed)
        return GO_FILTER_IS_DESTROYED;
    if (peer->far) {
        peer->far->itab->write(peer->far, bytes, end);
        go_peer_note_full(peer->far->handle);
        return GO_OK;
    }
    struct go_command *command = go_peer_begin_write_locked(peer, bytes.len);
    if (!command)
        return GO_INTERNAL_FAILURE;
    if (bytes.len)
        memcpy(command->bytes, bytes.ptr, bytes.len);
    go_peer_end_write_locked(peer, command, end);
    if (peer->queued > GO_PEER_QUEUE_HIGH)
        go_peer_note_full(peer->handle);
    return GO_OK;
}

int go_peer_close_locked(struct go_peer *peer, int type) {
    if (peer->closed)
        return GO_FILTER_IS_DESTROYED;
    const enum go_close_type close_type = type >= GO_CLOSE_FLUSH && type <= GO_CLOSE_RESET
                                              ? (enum go_close_type)type
                                              : GO_CLOSE_NO_FLUSH;
    if (peer->far) {
        peer->far->itab->close(peer->far, close_type);
        return GO_OK;
    }
    struct go_command *command = command_new(0);
    if (!command)
        return break_off_locked(peer);
    command->is_close = true;
    command->close_type = close_type;
    push_locked(peer, command);
    if (command->close_type != GO_CLOSE_FLUSH && command->close_type != GO_CLOSE_FLUSH_AND_DELAY)
        hurry_locked(peer);
    return GO_OK;
}

int go_peer_half_close_locked(struct go_peer *peer, bool enable) {
    if (peer->closed)
        return GO_FILTER_IS_DESTROYED;
    peer->half_closes = enable;
    if (peer->far)
        peer->far->itab->half_close(peer->far, enable);
    return GO_OK;
}
