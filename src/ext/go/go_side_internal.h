/* go_side_internal: what go_ahead.c needs of go_side.c. Each: 0, or -errno when the side is over, as the functions there. */
#pragma once
#include "ext/go/go_side.h"

/* Shows a piece, and does what comes of it. buffer is transferred. Parks. */
MUST_CHECK int go_side_show_data(struct go_side *side, struct ext_buffer *buffer, bool end);
/* The second half of it: Go has been called with the newest shown piece, and this came of it. */
MUST_CHECK int go_side_data_shown(struct go_side *side, int status, bool async, bool end);
/* Keeps it until the whole body is there. */
MUST_CHECK int go_side_gather(struct go_side *side, struct span chunk);
/* So much of a body is held. */
MUST_CHECK int go_side_charge(struct go_side *side, size_t bytes);
/* The side is over, after a reply or since its exchange is: -ECANCELED. */
int go_side_end(struct go_side *side, enum go_state state);
/* Gives the plugin's reply, which stays the caller's: the side is over. */
int go_side_answer(struct go_side *side, const struct ext_reply *reply);
