/* symbols: functions, files and lines for backtraces, from the debug data of the executable and of all
 * loaded libraries, those of Go included. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/check.h"
#include "rt/symbol.h"

/* Makes this process's dumps tell them. Nothing is read before somebody asks. */
void symbols_init(void);
/* Gives back what reading debug data took, tens of megabytes of what a profile of memory would otherwise
 * tell of first. What was found stays. At the end of look-ups, by who may block and holds no P. */
void symbols_rest(void);

/* ---- Of another process ---- */

/* All questions from now on are about that one, which must not end meanwhile, and none of them is asked by dumps. Its libraries that were loaded
 * from copies are those of symbol_add_module. First of all. */
void symbols_of_process(pid_t pid);
/* As struct symbolizer's find. */
unsigned symbols_find(uintptr_t pc, struct symbol *out, unsigned max);

enum { SYMBOLS_BUILD_ID_MAX = 2 * 20 + 1 };
struct symbols_module {
    const char *file;                    /* what people call it; borrowed until symbols_rest */
    uintptr_t base;                      /* where it begins */
    char build_id[SYMBOLS_BUILD_ID_MAX]; /* empty: it has none, or its file is not there */
};
/* False: nothing is there that anybody knows. */
MUST_CHECK bool symbols_module_of(uintptr_t pc, struct symbols_module *out);
/* All that is loaded, by their addresses. fn asks nothing of this file. */
void symbols_each_module(void (*fn)(const struct symbols_module *module, void *arg), void *arg);
