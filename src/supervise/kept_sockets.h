/* kept_sockets: the listening sockets that outlive the process that accepts from them. As long as one is open here, who
 * connects is in its queue, whether somebody accepts or not.
 *
 * Each knows which generation of the serving process made it, and which one has it now: what a generation that comes to
 * nothing has opened is closed, and what the one that took over did not take.
 *
 * Ownership  The set owns its descriptors. Threads  One. */
#pragma once
#include <stddef.h>

#include "supervise/link.h"

struct kept_socket {
    char key[LINK_KEY_MAX];
    uint32_t number;
    int fd;
    uint64_t made_by, used_by; /* generations */
};

struct kept_sockets { /* zeroed: empty */
    struct kept_socket *all;
    size_t count, room;
};

/* The generation listens on it: fd is transferred, or -1: it is one that is kept. 0; -ENOENT: that is not; -ENOMEM, and
 * then fd is closed. */
MUST_CHECK int kept_sockets_use(struct kept_sockets *kept, const char *key, uint32_t number, int fd,
                                uint64_t generation);
/* Out of the set: the descriptor, transferred. -ENOENT: there is none such. */
MUST_CHECK int kept_sockets_take(struct kept_sockets *kept, const char *key, uint32_t number);
/* Nobody listens there any more, or the generation was the only one: it is closed. */
void kept_sockets_close(struct kept_sockets *kept, const char *key, uint32_t number);
/* Those that the generation has not used are closed: it has all that there is to be. */
void kept_sockets_retain(struct kept_sockets *kept, uint64_t generation);
/* It ended before it served: those that it made are closed. */
void kept_sockets_undo(struct kept_sockets *kept, uint64_t generation);
/* All are closed. */
void kept_sockets_clear(struct kept_sockets *kept);
