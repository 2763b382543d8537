/* line_diff: the longest common subsequence by its textbook table: length[i][j] of what from[i..] and to[j..]
 * have in common. Messages have tens of lines, so a table is fine; what both begin and end with is left out of it first. */
#include "tool/line_diff.h"

struct table {
    uint16_t *lengths;
    size_t columns;
};

static uint16_t *cell(const struct table *t, size_t i, size_t j) {
    return &t->lengths[i * t->columns + j];
}

static struct table make_table(struct cfg_arena *arena, const struct span *from, size_t rows,
                               const struct span *to, size_t columns) {
    struct table t = {.columns = columns + 1};
    t.lengths = cfg_alloc_array(arena, (rows + 1) * (columns + 1), sizeof(*t.lengths));
    for (size_t i = rows; i-- > 0;)
        for (size_t j = columns; j-- > 0;) {
            uint16_t down = *cell(&t, i + 1, j), right = *cell(&t, i, j + 1);
            *cell(&t, i, j) = span_eq(from[i], to[j]) ? (uint16_t)(*cell(&t, i + 1, j + 1) + 1)
                              : down >= right         ? down
                                                      : right;
        }
    return t;
}

static void give(const struct line_diff_sink *sink, enum line_diff_mark mark,
                 const struct span *lines, size_t count) {
    for (size_t i = 0; i < count; i++)
        sink->line(sink->arg, mark, lines[i]);
}

static void walk(struct cfg_arena *arena, const struct span *from, size_t rows,
                 const struct span *to, size_t columns, const struct line_diff_sink *sink) {
    struct table t = make_table(arena, from, rows, to, columns);
    size_t i = 0, j = 0;
    while (i < rows || j < columns) {
        if (i < rows && j < columns && span_eq(from[i], to[j])) {
            give(sink, LINE_SAME, &from[i++], 1);
            j++;
        } else if (i < rows && (j == columns || *cell(&t, i + 1, j) >= *cell(&t, i, j + 1))) {
            give(sink, LINE_REMOVED, &from[i++], 1);
        } else {
            give(sink, LINE_ADDED, &to[j++], 1);
        }
    }
}

bool line_diff(struct cfg_arena *arena, const struct span *from, size_t from_count,
               const struct span *to, size_t to_count, const struct line_diff_sink *sink) {
    size_t head = 0, tail = 0;
    while (head < from_count && head < to_count && span_eq(from[head], to[head]))
        head++;
    while (tail < from_count - head && tail < to_count - head &&
           span_eq(from[from_count - 1 - tail], to[to_count - 1 - tail]))
        tail++;
    size_t rows = from_count - head - tail, columns = to_count - head - tail;
    give(sink, LINE_SAME, from, head);
    if (rows > LINE_DIFF_LINES_MAX || columns > LINE_DIFF_LINES_MAX) {
        give(sink, LINE_REMOVED, from + head, rows);
        give(sink, LINE_ADDED, to + head, columns);
    } else {
        walk(arena, from + head, rows, to + head, columns, sink);
    }
    give(sink, LINE_SAME, from + from_count - tail, tail);
    return rows || columns;
}

struct span *line_diff_split(struct cfg_arena *arena, struct span text BORROWED_BY(result),
                             size_t *count) {
    size_t lines = 0, at = 0;
    for (size_t i = 0; i < text.len; i++)
        lines += text.ptr[i] == '\n';
    lines += text.len && text.ptr[text.len - 1] != '\n';
    struct span *out = cfg_alloc_array(arena, lines, sizeof(*out));
    for (size_t i = 0; i < lines; i++) {
        struct span rest = span_from(text, at);
        ptrdiff_t end = span_find(rest, '\n');
        out[i] = end < 0 ? rest : span_make(rest.ptr, (size_t)end);
        at += out[i].len + 1;
    }
    *count = lines;
    return out;
}
