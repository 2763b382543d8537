/* symbol: names of addresses, for people who read backtraces.
 *
 * The runtime depends on no debug format. A layer above that can read one sets a symbolizer; without
 * it an address is told as the exported function or the file it lies in, and an offset.
 *
 * Threads  symbol_of: any, but not one that holds a P (it may read files) and no signal handler. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

struct symbol {
    const char *function; /* never NULL; of an unknown one the file that the address lies in */
    uint64_t offset;      /* from its start */
    const char *file;     /* source file, or NULL */
    unsigned line;
};

enum { SYMBOL_INLINED_MAX = 16 };

struct symbolizer {
    /* What stands at pc: the innermost inlined function first, the real one last. Fills up to max and
     * returns how many, 0 when it does not know. Strings are borrowed for ever. Threads as above, many
     * at once. */
    unsigned (*find)(uintptr_t pc, struct symbol *out, unsigned max);
};

/* Borrowed for ever. Before anybody asks, or at any time by one thread. */
void symbol_set_finder(const struct symbolizer *symbolizer BORROWED_BY(program));

/* A library that was loaded from somewhere else than its file, as from a copy in memory: the loader's name for it says
 * nothing to anybody. */
struct symbol_module {
    struct symbol_module *next; /* the list's */
    uintptr_t base;             /* as dladdr has it */
    const char *file;           /* what people call it */
    const char *bytes;          /* the path that its bytes can be read from */
};
/* Any thread. It stays. */
void symbol_add_module(struct symbol_module *module BORROWED_BY(program));
/* NULL: there is none at this base. Any thread, signal handlers too. */
const struct symbol_module *symbol_module_at(uintptr_t base);
/* The newest one; the others follow it. NULL: there is none. Any thread, signal handlers too. */
const struct symbol_module *symbol_modules(void);
/* What people call the library there, without directories; otherwise is its name when it is none of these. */
const char *symbol_file_name(const void *base, const char *otherwise BORROWED_BY(result));

/* At least 1. max >= 1. Strings are borrowed for ever. */
unsigned symbol_of(uintptr_t pc, struct symbol *out, unsigned max);
