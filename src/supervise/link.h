/* link: what the process that serves tells the one that supervises it, and gets from it before it begins, over a socket of
 * kind SOCK_SEQPACKET. Descriptors travel with messages.
 *
 *     supervisor                                   process that serves
 *     SOCKET  a listening socket that it kept ───► (each of them)
 *     GO      that was all ──────────────────────►
 *             ◄─────────────────────────── SOCKET  listens on one: a new one travels along, a kept one does not
 *             ◄─────────────────────────── CLOSED  listens there no more
 *             ◄─────────────────────────── READY   accepts connections
 *             ◄─────────────────────────── BEAT    each processor has turned round lately
 *
 * From then on the supervisor speaks by signals: SIGTERM to end, SIGUSR2 to leave to the next process what is to come.
 * Both may be of different releases: a message has a version, and who does not know it says so.
 *
 * Threads  Any; each call is one system call. */
#pragma once
#include <stdint.h>

#include "base/check.h"
#include "io/address.h"

#define LINK_ENVIRON "SLUICE_SUPERVISOR" /* the number of the descriptor, in the environment */

enum {
    LINK_VERSION = 1,
    LINK_NAME_MAX = 128, /* of a listener, cut */
    LINK_KEY_MAX = LINK_NAME_MAX + ADDRESS_TEXT_MAX,
};

/* Another process serves until this one is ready. Releases that do not know it do not look. */
#define LINK_TAKES_OVER "takes over"

enum link_kind { LINK_SOCKET = 1, LINK_GO, LINK_CLOSED, LINK_READY, LINK_BEAT };

struct link_message {
    uint32_t version;
    uint32_t kind;
    uint32_t
        number; /* of SOCKET and CLOSED: which of those of the address; of GO: the generation, from 1 */
    char key
        [LINK_KEY_MAX]; /* what tells its address from others, with NUL; of GO: LINK_TAKES_OVER, or empty */
};

/* fd travels along, borrowed; -1: none does. 0 or -errno; -EAGAIN only with MSG_DONTWAIT in flags. */
MUST_CHECK int link_send(int socket, struct link_message *message, int fd, int flags);
/* *fd is owned, or -1. 1: there is a message; 0: the other end is closed; -errno; -EPROTO: it is no such message. */
MUST_CHECK int link_receive(int socket, struct link_message *out, int *fd, int flags);
