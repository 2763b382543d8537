/* format: Envoy's substitution formatter, "%REQ(X-A?Y):10% %START_TIME(%s)%", compiled once.
 *
 * Ownership  format_compile borrows nothing: it copies. format_free releases.
 * Threads    Immutable after compiling. format_write on the exchange's P.
 * Errors     An unknown operator or bad argument is a config problem with its position. Operators
 *            that Envoy has and this release lacks are problems of kind UNSUPPORTED. */
#pragma once
#include "config/config.h"

struct exchange;
struct format;

/* NULL and a problem on error. `empty` is what an absent value prints: "-" in logs, "" in headers. */
struct format *format_compile(struct span text, const struct cfg_mark *mark,
                              struct cfg_problems *problems);
void format_free(struct format *format);

/* A growable buffer in malloc memory. */
struct format_out {
    char *data;
    size_t len, capacity;
    bool failed; /* memory was short: data is what fitted */
};
void format_out_put(struct format_out *out, struct span bytes);

/* Appends. all_absent, when not NULL, tells whether every operator in it was without a value. */
void format_write(const struct format *format, struct exchange *x, struct span empty,
                  struct format_out *out, bool *all_absent);
/* True when the text has no operators: the literal is then in *literal. */
bool format_is_literal(const struct format *format, struct span *literal);
