/* ext_host_inbox: the host process's end of the conversation: requests, whole, with the descriptors that came with them.
 *
 * Ownership  What a request's texts and fds borrow is the inbox's until ext_host_inbox_next or ext_host_inbox_fini.
 * Threads    One at a time; calls block. */
#pragma once
#include "ext/host/ext_host_wire.h"

struct ext_host_inbox {
    char *bytes;
    size_t len, room, taken; /* taken: of the last request */
    int fds[EXT_HOST_FDS_MAX];
    unsigned fd_count;
};

/* Waits for a request on EXT_HOST_FD. The descriptors of the one before that nobody has taken are closed (taken: -1 in
 * their place). False at the end of the conversation, whatever the reason. */
bool ext_host_inbox_next(struct ext_host_inbox *inbox,
                         struct ext_host_message *out BORROWED_BY(inbox));
void ext_host_inbox_fini(struct ext_host_inbox *inbox);
