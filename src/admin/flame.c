/* flame: stacks as they come, while addresses are kept; those are then sorted, and looked up once each. */
#include "admin/flame.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/symbols.h"
#include "rt/symbol.h"

void flame_begin(struct flame *flame, struct text *out, const char *unit) {
    *flame = (struct flame){.json = {.out = out, .style = JSON_COMPACT}};
    json_open(&flame->json, '{');
    json_field(&flame->json, "unit", span_of(unit));
    json_key(&flame->json, "stacks");
    json_open(&flame->json, '[');
}

static void keep(struct flame *flame, uintptr_t pc) {
    if (flame->count == flame->max) {
        size_t max = flame->max ? 2 * flame->max : 4096;
        uintptr_t *more = realloc(flame->pcs, max * sizeof *more);
        if (!more) {
            flame->json.out->failed = true;
            return;
        }
        flame->pcs = more;
        flame->max = max;
    }
    flame->pcs[flame->count++] = pc;
}

static void open_stack(struct json *json, int64_t value, const char *coroutine,
                       const struct label *labels, unsigned label_count) {
    json_open(json, '[');
    json_i64(json, value);
    json_string(json, span_of(coroutine));
    json_open(json, '{');
    for (unsigned i = 0; i < label_count; i++)
        json_field(json, labels[i].key, span_of(labels[i].value));
    json_close(json, '}');
}

void flame_add(struct flame *flame, const struct stack_count *stack, int64_t value) {
    const struct labels *labels = stack->labels;
    open_stack(&flame->json, value, stack->name ? stack->name : "no coroutine",
               labels ? labels->items : NULL, labels ? labels->count : 0);
    for (unsigned i = 0; i < stack->depth; i++) {
        /* A return address is that of the next instruction. */
        uintptr_t pc = i == 0 && stack->is_first_exact ? stack->pcs[i] : stack->pcs[i] - 1;
        json_u64(&flame->json, pc);
        keep(flame, pc);
    }
    json_close(&flame->json, ']');
}

static int by_address(const void *a, const void *b) {
    uintptr_t one = *(const uintptr_t *)a, other = *(const uintptr_t *)b;
    return one < other ? -1 : one > other;
}

static void put_symbols(struct json *json, const struct symbol *symbols, unsigned count) {
    json_open(json, '[');
    for (unsigned i = 0; i < count; i++) {
        json_open(json, '[');
        json_string(json, span_of(symbols[i].function));
        json_string(json, span_of(symbols[i].file ? symbols[i].file : ""));
        json_close(json, ']');
    }
    json_close(json, ']');
}

static void put_frame(struct json *json, uintptr_t pc) {
    struct symbol symbols[SYMBOL_INLINED_MAX];
    unsigned count = symbol_of(pc, symbols, SYMBOL_INLINED_MAX);
    char key[32];
    snprintf(key, sizeof key, "%" PRIuPTR, pc);
    json_key(json, key);
    put_symbols(json, symbols, count);
}

void flame_add_told(struct flame *flame, const struct told_stack *stack, int64_t value) {
    open_stack(&flame->json, value, "", stack->labels, stack->label_count);
    for (unsigned i = 0; i < stack->depth; i++)
        put_symbols(&flame->json, stack->frames[i].symbols, stack->frames[i].count);
    json_close(&flame->json, ']');
}

void flame_end(struct flame *flame, int64_t duration_ns, uint64_t lost, struct span notes) {
    struct json *json = &flame->json;
    json_close(json, ']');
    json_key(json, "frames");
    json_open(json, '{');
    if (flame->count > 0)
        qsort(flame->pcs, flame->count, sizeof *flame->pcs, by_address);
    for (size_t i = 0; i < flame->count && !json->out->failed; i++)
        if (i == 0 || flame->pcs[i] != flame->pcs[i - 1])
            put_frame(json, flame->pcs[i]);
    json_close(json, '}');
    json_key(json, "duration_ns");
    json_i64(json, duration_ns);
    json_key(json, "lost");
    json_u64(json, lost);
    json_field(json, "notes", notes);
    json_close(json, '}');
    free(flame->pcs);
    symbols_rest();
}
