/* remote_peer: a connection whose library runs in a host process: the calls that go_peer.h makes are messages to it
 * (remote_peer_message.h), and what the plugin wrote comes as messages, to the same queue that it has in this process.
 *
 *     go_peer_call ──► a seat that nobody is in, for the call's own time ──► CALL ──► parks until RETURNED
 *     queue of commands ◄── WRITE, CLOSE, HALF_CLOSE
 *
 * A connection is a party of its lane (remote_party.h), by whose number the host speaks of it, and each call another
 * one, since a callback may wait for what another connection's does.
 *
 * Ownership  Lies with its go_peer, which frees it.
 * Threads    The connection's P.
 * Trust      The host is believed nothing: its queue has the limits that it has in this process, and a number that is no
 *            connection's of this lane is nobody's.
 * Memory     Of a call its P holds one record at a time, and parks while there is no room for it. What a plugin writes
 *            counts as queued from its first part on (GO_PEER_QUEUE_MAX). */
#pragma once
#include "ext/go/go_peer.h"
#include "ext/remote/remote_party.h"

struct remote_peer;

/* Whose it is, of the library's processes, the first call settles. NULL when memory is short. */
MUST_CHECK struct remote_peer *remote_peer_new(struct go_peer *peer BORROWED_BY(result));
/* The host's name for it, while it has one. */
uint64_t remote_peer_number(const struct remote_peer *remote);
/* NULL is none. */
void remote_peer_free(struct remote_peer *remote);

/* It is that lane's from now on, whose process has heard of it. 0 or -ENOMEM. */
MUST_CHECK int remote_peer_enter(struct remote_peer *remote, struct remote_lane *lane);

/* A call; patience_ns is for a seat, and of the first one for a process, too. 0; -ETIMEDOUT; -ECANCELED; -EPIPE: there is
 * none, or the one that knew the connection is gone. Once it was sent it waits for the end, whoever cancels. Parks. */
MUST_CHECK int remote_peer_call(struct remote_peer *remote, struct go_peer_call *call,
                                int64_t patience_ns);

/* The connection of that number; NULL: there is none. */
struct go_peer *remote_peer_find(const struct remote_lane *lane, uint64_t number);
