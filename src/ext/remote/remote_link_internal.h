/* remote_link_internal: what remote_link.c does with one record of a P's ring, apart from the ring: so that a hostile host
 * process can be played without one. */
#pragma once
#include "ext/remote/remote_link.h"

/* On the lane's P, of a lane that is open and not broken. The record is ours: the host cannot write to it while it is
 * looked at. 0, or -errno: it makes no sense, and its host is to be ended. */
MUST_CHECK int remote_lane_hear(struct remote_lane *lane, uint32_t kind, struct span record);
