/* ext_past: an exchange as its log phase would have seen it, for an extension that can be told of the end
 * only when the exchange is gone: its headers, trailers and what is known and noted of it, as copies.
 *
 * Ownership  One allocation, the caller's. Between ext_past_open and ext_past_close the stream borrows it.
 * Threads    ext_past_take: the exchange's coroutine. The rest: whichever coroutine ends the stream. */
#pragma once
#include "ext/ext_stream.h"

struct ext_past;

/* Copies all of it (maps as for ext_stream_open_log), and takes everything of the exchange's away from the
 * stream: from here on it may outlive the exchange, as long as *past lives, and what foreign code was lent
 * is gone. NULL when memory is short: nothing was done. */
MUST_CHECK struct ext_past *ext_past_take(struct ext_stream *stream, struct exchange *x,
                                          const struct header_map *maps[2][2]);

/* The log phase, later, as ext_stream_open_log. Edits of it have nowhere to go: dropped. */
void ext_past_open(struct ext_stream *stream, const struct ext_past *past BORROWED_BY(stream),
                   bool told);
void ext_past_close(struct ext_stream *stream);
void ext_past_free(struct ext_past *past);

/* ---- a log in between: the exchange goes on, and whatever foreign code has of it ---- */

/* Copies of the maps, which nobody is at work on at this moment. NULL when memory is short. */
MUST_CHECK struct ext_past *ext_past_look(struct ext_stream *stream, struct exchange *x,
                                          const struct header_map *maps[2][2]);
/* The same of maps that are the caller's to look at, without an exchange. */
MUST_CHECK struct ext_past *ext_past_of(const struct ext_view maps[2][2]);
/* Foreign code that is told of this log may look at both sides until ext_past_hide, however they come and go meanwhile:
 * a side that is lent stays what it is, edits, continue, reply and all, and one that is not, or no longer, shows the
 * copies. Edits of these go nowhere. No side is lent anew in between. told: as ext_stream_open_log. */
void ext_past_show(struct ext_stream *stream, struct ext_past *past BORROWED_BY(stream), bool told);
void ext_past_hide(struct ext_stream *stream, struct ext_past *past);
