/* line_diff: what makes one text of another, line by line, as `diff -u` marks it.
 *
 * Pure. Limits  LINE_DIFF_LINES_MAX lines of each: more is told as removed and added whole. */
#pragma once
#include "config/cfg_buf.h"

enum { LINE_DIFF_LINES_MAX = 2000 };

enum line_diff_mark { LINE_SAME = ' ', LINE_REMOVED = '-', LINE_ADDED = '+' };

struct line_diff_sink {
    void (*line)(void *arg, enum line_diff_mark mark, struct span line);
    void *arg;
};
/* Gives the lines to the sink: those removed before those added in their place. Memory from the arena. True when there
 * is a difference. */
bool line_diff(struct cfg_arena *arena, const struct span *from, size_t from_count,
               const struct span *to, size_t to_count, const struct line_diff_sink *sink);

/* The lines of a text, without their ends; a text that does not end in one has an unfinished last line. */
struct span *line_diff_split(struct cfg_arena *arena, struct span text BORROWED_BY(result),
                             size_t *count);
