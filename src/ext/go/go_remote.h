/* go_remote: the calls of an HTTP filter (go_filter.h) whose library runs in a host process: instead of a callback on
 * this thread a message, and the decision comes as one of a goroutine does.
 *
 * Threads  The exchange's coroutines. Parks: all but go_remote_new. */
#pragma once
#include "ext/go/go_filter.h"

/* In the exchange's arena; its block is to be set. NULL when memory is short. */
MUST_CHECK struct remote_exchange *go_remote_new(struct go_config *config, struct exchange *x);

/* Before a call: the host knows, or is about to be told of, the exchange, and its seat is not blocked. 0; -ECANCELED;
 * -ETIMEDOUT: it was waited for in vain; -EPIPE: there is no host, or the one that knew the exchange is gone;
 * -ENOMEM. patient: it is worth waiting for. */
MUST_CHECK int go_remote_begin(struct go_filter *filter, bool patient);

/* Shows what was just lent, and what is offered ahead (remote_exchange.h). What comes of it ext_side_await tells. 0, or as
 * above. */
MUST_CHECK int go_remote_show(struct go_filter *filter, enum ext_direction direction,
                              enum go_state state, bool end);

/* A log, of maps that stand still while it is sent. Returns when OnLog has, or has been waited for long enough, which the last
 * one is not while its seat is blocked; after a log in between the exchange may be gone. */
void go_remote_log(struct go_filter *filter, uint64_t type, bool complete,
                   const struct header_map *const maps[2][2]);

/* OnDestroy, if the host has heard of it, and not with the last log. The stream has ended. */
void go_remote_end(struct go_filter *filter, uint64_t reason);

/* ---- of any party ---- */

/* wait_ns from now on; RT_FOREVER for one that is further away. */
int64_t go_remote_deadline(int64_t wait_ns);

/* A number and a seat with the process of its plugin's library. 0; -ECANCELED; -ETIMEDOUT: all seats are blocked; -EPIPE: there
 * is no process; -ENOMEM. Parks. */
MUST_CHECK int go_remote_enter(struct remote_party *party, int64_t deadline_ns);
