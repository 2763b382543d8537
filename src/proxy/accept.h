/* accept: takes the connections of a listener, on each P those of the P's own socket.
 *
 * Threads  The P of the listener_fd. */
#pragma once
#include "proxy/listener.h"

/* There may be connections: an edge, the start, the end of an overload. A scheduler callback. */
void accept_now(struct listener_fd *lfd);
/* Of listener_fd.retry. */
void accept_retry(struct timer *timer);
/* There may be a descriptor for those that wait on this P. A scheduler callback. */
void accept_waiting(struct worker *worker);
/* It closes next. */
void accept_stop(struct listener_fd *lfd);
