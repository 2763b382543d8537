/* heap_text: addresses and labels as they come, which are looked up and put in order of size at the end:
 * who tells of them holds a lock meanwhile. */
#include "admin/heap_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "admin/symbols.h"
#include "rt/labels.h"
#include "rt/symbol.h"

static void put_symbols(struct text *out, uintptr_t address, const struct symbol *symbols,
                        unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        text_printf(out, "#\t%#" PRIxPTR "\t%s+%#" PRIx64, address, symbols[i].function,
                    symbols[i].offset);
        if (symbols[i].file && *symbols[i].file)
            text_printf(out, "\t%s:%u", symbols[i].file, symbols[i].line);
        text_putc(out, '\n');
    }
}

static void put_labels(struct text *out, const struct labels *labels) {
    char text[LABELS_TEXT_MAX];
    if (labels_text(labels, text, sizeof text) > 0)
        text_printf(out, "#\tlabels: %s\n", text);
}

static void put_pcs(struct text *out, struct span pcs) {
    uintptr_t pc;
    for (struct span rest = pcs; rest.len >= sizeof pc; rest = span_from(rest, sizeof pc)) {
        memcpy(&pc, rest.ptr, sizeof pc);
        text_printf(out, " %#" PRIxPTR, pc);
    }
    text_putc(out, '\n');
    for (struct span rest = pcs; rest.len >= sizeof pc; rest = span_from(rest, sizeof pc)) {
        memcpy(&pc, rest.ptr, sizeof pc);
        struct symbol symbols[SYMBOL_INLINED_MAX];
        put_symbols(out, pc - 1, symbols, symbol_of(pc - 1, symbols, SYMBOL_INLINED_MAX));
    }
}

static void put_told(struct text *out, const struct told_stack *stack) {
    for (unsigned i = 0; i < stack->depth; i++) /* readers take one off, to be in the call */
        text_printf(out, " %#" PRIxPTR, stack->frames[i].address + 1);
    text_putc(out, '\n');
    for (unsigned i = 0; i < stack->depth; i++)
        put_symbols(out, stack->frames[i].address, stack->frames[i].symbols,
                    stack->frames[i].count);
    struct labels *labels = labels_with(
        NULL, stack->labels, stack->label_count < LABELS_MAX ? stack->label_count : LABELS_MAX);
    put_labels(out, labels);
    labels_unref(labels);
}

void heap_text_add(void *arg, const struct heap_entry *entry) {
    struct heap_text *text = arg;
    if (text->count == text->max) {
        size_t max = text->max ? 2 * text->max : 256;
        struct heap_line *lines = realloc(text->lines, max * sizeof *lines);
        if (!lines) {
            text->stacks.failed = true;
            return;
        }
        text->lines = lines;
        text->max = max;
    }
    struct heap_line *line = &text->lines[text->count++];
    line->at = text->stacks.len;
    line->pcs_at = text->pcs.len;
    line->is_ours = entry->stack != NULL;
    if (entry->stack) {
        text_put(&text->pcs, span_make(entry->stack->pcs, entry->stack->depth * sizeof(uintptr_t)));
        put_labels(&text->stacks, entry->stack->labels);
    } else {
        put_told(&text->stacks, entry->told);
    }
    line->len = text->stacks.len - line->at;
    line->pc_len = text->pcs.len - line->pcs_at;
    for (unsigned i = 0; i < HEAP_VALUES; i++) {
        line->values[i] = entry->values[i];
        text->totals[i] += entry->values[i];
    }
}

static int by_size(const void *a, const void *b) {
    const struct heap_line *one = a, *other = b;
    for (int i = HEAP_INUSE_SPACE; i > HEAP_ALLOC_OBJECTS; i -= HEAP_INUSE_SPACE - HEAP_ALLOC_SPACE)
        if (one->values[i] != other->values[i])
            return one->values[i] > other->values[i] ? -1 : 1;
    return one->at < other->at ? -1 : one->at > other->at;
}

static void put_values(struct text *out, const int64_t *values) {
    text_printf(out, "%" PRId64 ": %" PRId64 " [%" PRId64 ": %" PRId64 "] @",
                values[HEAP_INUSE_OBJECTS], values[HEAP_INUSE_SPACE], values[HEAP_ALLOC_OBJECTS],
                values[HEAP_ALLOC_SPACE]);
}

/* Those of Go's that are true here. */
static void put_statistics(const struct heap_text *text, struct text *out) {
    const int64_t *totals = text->totals;
    struct rusage usage;
    text_puts(out, "\n# runtime.MemStats, as the samples have it\n");
    text_printf(out, "# Alloc = %" PRId64 "\n", totals[HEAP_INUSE_SPACE]);
    text_printf(out, "# TotalAlloc = %" PRId64 "\n", totals[HEAP_ALLOC_SPACE]);
    text_printf(out, "# Mallocs = %" PRId64 "\n", totals[HEAP_ALLOC_OBJECTS]);
    text_printf(out, "# HeapObjects = %" PRId64 "\n", totals[HEAP_INUSE_OBJECTS]);
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        text_printf(out, "# MaxRSS = %ld\n", usage.ru_maxrss * 1024L);
}

static void put_file(struct text *out, const char *path) {
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    char buffer[4096];
    for (size_t len; (len = fread(buffer, 1, sizeof buffer, file)) > 0;)
        text_put(out, span_make(buffer, len));
    fclose(file);
}

void heap_text_write(struct heap_text *text, const struct text *notes, struct text *out) {
    int64_t totals[HEAP_VALUES];
    memcpy(totals, text->totals, sizeof totals);
    /* Where both pairs are equal a reader sees two columns and not four; as in Go. */
    if (totals[HEAP_ALLOC_SPACE] == totals[HEAP_INUSE_SPACE])
        totals[HEAP_ALLOC_SPACE]++;
    text_puts(out, "heap profile: ");
    put_values(out, totals);
    text_puts(out, " heapprofile\n");
    struct span rest = text_span(notes);
    for (ptrdiff_t len; (len = span_find(rest, '\n')) >= 0; rest = span_from(rest, (size_t)len + 1))
        text_printf(out, "# %.*s\n", (int)len, rest.ptr);
    if (text->count > 0)
        qsort(text->lines, text->count, sizeof *text->lines, by_size);
    out->failed |= text->stacks.failed | text->pcs.failed;
    for (size_t i = 0; i < text->count && !out->failed; i++) {
        const struct heap_line *line = &text->lines[i];
        text_putc(out, '\n');
        put_values(out, line->values);
        if (line->is_ours)
            put_pcs(out, span_make(text_span(&text->pcs).ptr + line->pcs_at, line->pc_len));
        text_put(out, span_make(text->stacks.data + line->at, line->len));
    }
    put_statistics(text, out);
    text_puts(out, "\nMAPPED_LIBRARIES:\n");
    put_file(out, "/proc/self/maps");
    symbols_rest();
}

void heap_text_fini(struct heap_text *text) {
    text_fini(&text->stacks);
    text_fini(&text->pcs);
    free(text->lines);
    *text = (struct heap_text){0};
}
