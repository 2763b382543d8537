/* Spans that end in time, are copied, or whose keeping is declared. */
#include <stdlib.h>

#include "base/span.h"

struct table {
    struct span name;
    const char *value;
    struct table *next;
};

void table_name(struct table *table, struct span name BORROWED_BY(table)) {
    table->name = name;
}

struct table *table_new(struct span name BORROWED_BY(result)) {
    struct table *table = calloc(1, sizeof *table);
    if (table)
        table->name = name;
    return table;
}

static struct span last_seen;
void remember(struct span seen BORROWED_BY(program)) {
    last_seen = seen;
}

/* A copy under the same name is no longer the borrow. */
struct span copied(struct span s);
void keeps_a_copy(struct table *table, struct span name) {
    name = copied(name);
    table->name = name;
}

/* A local may hold anything: it ends first. */
size_t counts(struct span text) {
    char digits[4];
    struct table local = {.name = text, .value = digits};
    struct table *at = &local;
    at->name = span_make(digits, sizeof digits);
    table_name(&local, text);
    return local.name.len + at->name.len;
}

/* What is copied out is a number. */
void measure(struct table *table, struct span text, size_t *len) {
    *len = text.len;
    table->next->value = text.len > 3 ? "long" : "short";
}

/* A cursor moves on within what it borrows already. */
void advance(struct span *rest) {
    *rest = span_from(*rest, 1);
    rest->ptr += 1;
}

void for_a_while(struct table *table, struct span name) {
    struct span before = table->name;
    table->name = name; /* borrow-ok: taken out again below */
    counts(table->name);
    table->name = before;
}

/* An object behind a void * is no bytes. */
void next_part(void *data, struct span *out) {
    struct table *table = data;
    *out = span_of(table->value);
}

/* A copy of the bytes, or one that ends first. */
void by_memcpy(char out[8], struct span name) {
    struct span same;
    memcpy(&same, &name, sizeof same);
    memcpy(out, same.ptr, same.len < 8 ? same.len : 8);
}
