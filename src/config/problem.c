/* problem: the list of what is wrong with a configuration, and places in it. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "config/load.h"

void cfg_problems_fini(struct cfg_problems *problems) {
    for (size_t i = 0; i < problems->count; i++) {
        free(problems->items[i].text);
        free((char *)(uintptr_t)problems->items[i].mark.file.ptr);
        free((char *)(uintptr_t)problems->items[i].mark.path.ptr);
    }
    free(problems->items);
    *problems = (struct cfg_problems){0};
}

static bool reserve(struct cfg_problems *problems) {
    if (problems->count < problems->capacity)
        return true;
    size_t capacity = problems->capacity ? problems->capacity * 2 : 8;
    struct cfg_problem *grown = realloc(problems->items, capacity * sizeof(*grown));
    if (!grown)
        return false;
    problems->items = grown;
    problems->capacity = capacity;
    return true;
}

static void add(struct cfg_problems *problems, enum cfg_problem_kind kind,
                const struct cfg_mark *mark, const char *format, va_list args) {
    static const struct cfg_mark nowhere;
    if (!mark)
        mark = &nowhere;
    char *text = NULL;
    if (!reserve(problems) || vasprintf(&text, format, args) < 0) {
        problems->lost = true;
        return;
    }
    char *file = strndup(mark->file.ptr ? mark->file.ptr : "", mark->file.len);
    char *path = strndup(mark->path.ptr ? mark->path.ptr : "", mark->path.len);
    if (!file || !path) {
        free(text);
        free(file);
        free(path);
        problems->lost = true;
        return;
    }
    struct cfg_problem *problem = &problems->items[problems->count++];
    problem->kind = kind;
    problem->mark =
        (struct cfg_mark){.file = span_of(file), .line = mark->line, .path = span_of(path)};
    problem->text = text;
}

void cfg_problem_add(struct cfg_problems *problems, enum cfg_problem_kind kind,
                     const struct cfg_mark *mark, const char *format, ...) {
    va_list args;
    va_start(args, format);
    add(problems, kind, mark, format, args);
    va_end(args);
}

void cfg_problems_move(struct cfg_problems *into, struct cfg_problems *from) {
    for (size_t i = 0; i < from->count; i++) {
        const struct cfg_problem *problem = &from->items[i];
        cfg_problem_add(into, problem->kind, &problem->mark, "%s", problem->text);
    }
    into->lost |= from->lost;
    cfg_problems_fini(from);
}

bool cfg_problems_refuse(const struct cfg_problems *problems) {
    for (size_t i = 0; i < problems->count; i++) {
        if (problems->items[i].kind != CFG_PROBLEM_WARNING)
            return true;
    }
    return problems->lost;
}

static void print_one(const struct cfg_problem *p, FILE *out) {
    if (p->mark.file.len)
        fprintf(out, "%.*s:", (int)p->mark.file.len, p->mark.file.ptr);
    if (p->mark.line)
        fprintf(out, "%" PRIu32 ":", p->mark.line);
    if (p->mark.file.len || p->mark.line)
        fputc(' ', out);
    if (p->mark.path.len)
        fprintf(out, "%.*s: ", (int)p->mark.path.len, p->mark.path.ptr);
    if (p->kind == CFG_PROBLEM_WARNING)
        fputs("warning: ", out);
    fprintf(out, "%s\n", p->text);
}

static void print_lost(const struct cfg_problems *problems, FILE *out) {
    if (problems->lost)
        fputs("out of memory: further problems are not listed\n", out);
}

void cfg_problems_print(const struct cfg_problems *problems, FILE *out) {
    for (size_t i = 0; i < problems->count; i++)
        print_one(&problems->items[i], out);
    print_lost(problems, out);
}

void cfg_problems_print_sorted(const struct cfg_problems *problems, FILE *out) {
    static const char *const headings[] = {
        [CFG_PROBLEM_INVALID] = "invalid",
        [CFG_PROBLEM_UNKNOWN] = "unknown to Envoy, as far as this release knows it",
        [CFG_PROBLEM_UNSUPPORTED] = "not supported yet: Envoy has it, this release does not",
        [CFG_PROBLEM_WARNING] = "warnings",
    };
    for (size_t kind = 0; kind < COUNT_OF(headings); kind++) {
        size_t count = 0;
        for (size_t i = 0; i < problems->count; i++)
            count += problems->items[i].kind == kind;
        if (count == 0)
            continue;
        fprintf(out, "%s (%zu):\n", headings[kind], count);
        for (size_t i = 0; i < problems->count; i++) {
            if (problems->items[i].kind == kind) {
                fputs("  ", out);
                print_one(&problems->items[i], out);
            }
        }
    }
    print_lost(problems, out);
}

/* ---- places ---- */

struct span cfg_path_text(struct cfg_arena *arena, const struct cfg_path *path) {
    /* From the leaf up, to where there is a text already: every route of 10,000 has several marks, and a part or two of
     * their texts are its own. Depth is bounded by NODE_DEPTH_MAX and small constants. */
    const struct cfg_path *parts[NODE_DEPTH_MAX * 4];
    size_t count = 0, size = 1;
    for (; path && !(path->text && path->text->ptr) && count < COUNT_OF(parts); path = path->up) {
        parts[count++] = path;
        size += path->name      ? strlen(path->name) + 1
                : path->key.ptr ? path->key.len + 4
                                : SPAN_U64_DIGITS_MAX + 2;
    }
    struct span above = path && path->text ? *path->text : span_none();
    if (count == 0 && path)
        return above;
    size += above.len;
    struct cfg_buf buf = {.arena = arena, .ptr = cfg_alloc(arena, size), .capacity = size};
    cfg_buf_span(&buf, above);
    while (count-- > 0) {
        const struct cfg_path *part = parts[count];
        if (part->name) {
            if (buf.len)
                cfg_buf_byte(&buf, '.');
            cfg_buf_text(&buf, part->name);
        } else if (part->key.ptr) {
            cfg_buf_text(&buf, "[\"");
            cfg_buf_span(&buf, part->key);
            cfg_buf_text(&buf, "\"]");
        } else {
            char digits[SPAN_U64_DIGITS_MAX];
            cfg_buf_byte(&buf, '[');
            cfg_buf_add(&buf, digits, span_put_u64(digits, part->index));
            cfg_buf_byte(&buf, ']');
        }
    }
    cfg_buf_byte(&buf, '\0');
    return span_make(buf.ptr, buf.len - 1);
}

static void report(struct cfg_loader *loader, enum cfg_problem_kind kind,
                   const struct cfg_tree *node, uint32_t line, const struct cfg_path *path,
                   const char *format, va_list args) {
    struct cfg_mark mark = {.line = line, .path = cfg_path_text(loader->scratch, path)};
    if (node)
        mark.file = node->file;
    add(loader->problems, kind, &mark, format, args);
}

void cfg_report(struct cfg_loader *loader, enum cfg_problem_kind kind, const struct cfg_tree *node,
                const struct cfg_path *path, const char *format, ...) {
    va_list args;
    va_start(args, format);
    report(loader, kind, node, node ? node->line : 0, path, format, args);
    va_end(args);
}

void cfg_report_line(struct cfg_loader *loader, enum cfg_problem_kind kind,
                     const struct cfg_tree *node, uint32_t line, const struct cfg_path *path,
                     const char *format, ...) {
    va_list args;
    va_start(args, format);
    report(loader, kind, node, line, path, format, args);
    va_end(args);
}

struct cfg_mark cfg_mark_at(struct cfg_loader *loader, const struct cfg_tree *node,
                            const struct cfg_path *path) {
    struct cfg_mark mark = {
        .file = node->file, .line = node->line, .path = cfg_path_text(loader->arena, path)};
    if (path && path->text)
        *path->text = mark.path;
    return mark;
}
