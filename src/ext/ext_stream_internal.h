/* ext_stream_internal: what ext_past shares with ext_stream. All with the stream's lock. */
#pragma once
#include "ext/ext_stream.h"

void ext_facts_note_locked(struct ext_stream *stream, struct exchange *x);
/* All that both sides borrow or own is given up; foreign code that has one finds it destroyed. */
void ext_sides_abandon_locked(struct ext_stream *stream);
/* A log shows this. */
void ext_room_show_locked(struct ext_room *room, const struct ext_view *view, bool told);
/* Opens the log phase on these; told: ext_stream_open_log. */
void ext_views_log_locked(struct ext_stream *stream, const struct ext_view maps[2][2], bool told);
