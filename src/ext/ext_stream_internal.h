/* ext_stream_internal: the parts of ext_stream's arrows, for ext_past and for streams without an exchange here
 * (remote/host_stream.c). All with the stream's lock. */
#pragma once
#include "ext/ext_stream.h"

void ext_facts_note_locked(struct ext_stream *stream, struct exchange *x);
/* All that both sides borrow or own is given up; foreign code that has one finds it destroyed. */
void ext_sides_abandon_locked(struct ext_stream *stream);
/* The side is lent from here on: the phase, views of what is shown, and a buffer that has its handle. */
struct ext_showing {
    enum ext_phase phase;
    struct ext_view headers, trailers; /* entries NULL: not shown */
    struct ext_buffer *buffer;         /* transferred */
};
void ext_side_show_locked(struct ext_side *side, const struct ext_showing *showing);
/* As the functions without _locked. */
void ext_side_take_back_locked(struct ext_stream *stream, struct ext_side *side,
                               struct ext_taken *taken);
void ext_side_release_locked(struct ext_side *side, struct ext_buffers *to);
struct ext_buffer *ext_side_pop_newest_locked(struct ext_side *side);
/* entries is transferred; NULL: there was no memory. */
void ext_side_freeze_locked(struct ext_side *side, struct header *entries,
                            const struct ext_view *view);

/* NULL: not shown. */
struct ext_view ext_view_of(const struct header_map *map);
/* A log shows this. */
void ext_room_show_locked(struct ext_room *room, const struct ext_view *view, bool told);
/* Opens the log phase on these; told: ext_stream_open_log. */
void ext_views_log_locked(struct ext_stream *stream, const struct ext_view maps[2][2], bool told);
