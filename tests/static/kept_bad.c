/* Spans and their pointers left where they outlive the borrow. */
#include <stdlib.h>

#include "base/span.h"

struct table {
    struct span name;
    const char *value;
    struct span parts[4];
    struct table *next;
};
static struct span last_seen;

void table_name(struct table *table, struct span name) {
    table->name = name; /* finding */
}

void table_value(struct table *table, struct span value) {
    if (value.len > 0)
        table->next->value = value.ptr + 1; /* finding */
}

void table_part(struct table *table, const struct span *parts, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        table->parts[i] = parts[i]; /* finding */
}

void remember(struct span seen) {
    last_seen = seen; /* finding */
}

struct table *table_new(struct span name, const char *value) {
    struct table *table = calloc(1, sizeof *table);
    if (!table)
        return NULL;
    *table = (struct table){.name = name, .value = "none"}; /* finding */
    table->parts[0] = span_of(value);                       /* finding */
    return table;
}

/* Through a local and a jump, and through functions that are marked or whose bodies tell. */
void marked(struct table *table, struct span name BORROWED_BY(table));
static void seen_through(struct table *table, struct span name) {
    table->name = span_from(name, 1);
}
void by_detour(struct table *table, struct span name, bool quick) {
    struct table made = {0};
    if (quick)
        goto fill;
    marked(table, name);       /* finding */
    seen_through(table, name); /* finding */
fill:
    made.name = name;
    *table = made; /* finding */
}

/* A mark names one holder, and only that. */
void wrong_holder(struct table *table, struct table *other, struct span name BORROWED_BY(table)) {
    table->name = name;
    other->name = name; /* finding */
}

/* Nobody can be given a span of a local to keep, mark or no mark. */
void of_a_local(struct table *table, int number) {
    char text[32] = {(char)number};
    table->name = span_make(text, 1);  /* finding */
    marked(table, span_make(text, 1)); /* finding */
    struct span both[] = {table->name, span_make(text, 1)};
    table->parts[1] = both[1]; /* finding */
}

/* Who is called through a pointer is called by anybody: no body tells. */
static void hidden(struct table *table, struct span name) {
    table->name = name; /* finding */
}
void (*const by_pointer)(struct table *table, struct span name) = hidden;

/* A copy of a struct copies its pointers. */
void by_memcpy(struct table *table, struct span name, const struct span parts[4]) {
    memcpy(&table->name, &name, sizeof name);         /* finding */
    memcpy(table->parts, parts, sizeof table->parts); /* finding */
}
