/* local_reply: responses made here, in Envoy's shapes: plain, header-only, and gRPC. */
#pragma once
#include "proxy/exchange.h"

/* Copies every span of `reply` into the arena. */
MUST_CHECK int local_reply_copy(struct arena *arena, const struct local_reply *reply,
                                struct local_reply *out);
/* Fills x->response (initialised and empty) from it and notes code, details and flags. */
MUST_CHECK int local_reply_fill(struct exchange *x, const struct local_reply *reply);
