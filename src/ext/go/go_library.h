/* go_library: a shared library built on Envoy's Go SDK, loaded into this process.
 *
 * Ownership  A library is never unloaded (a Go runtime cannot be), so pointers are good for ever.
 * Threads    go_library_get: any thread but a P's coroutine (dlopen blocks, and Go starts threads).
 * Keys       library_id as on Envoy: the first path wins. A later, different path under the same id
 *            goes on with the first library, with a warning. Two ids of one file are one library. */
#pragma once
#include "config/config.h"
#include "ext/go/go_abi.h"
#include "ext/go/go_elf.h"
#include "ext/go/go_stats.h"
#include "ext/seat.h"

enum { GO_LIBRARY_WHY_MAX = 1024 };

struct go_library {
    struct go_library *next;
    void *handle;
    char *id; /* the first library_id that it was loaded by */
    char *path;
    char *gogc, *memory_limit; /* what it was loaded with; empty: the process's */
    struct go_elf elf;
    struct go_functions fn;
    /* go_seats.h: settled by the first configuration of an HTTP filter; of a network filter or cluster
     * specifier. */
    uint32_t concurrency; /* announced; the number of seats */
    _Atomic(struct seat_set *) seats, call_seats;
    struct go_library_stats stats;
    _Atomic(struct go_plugin *) plugins; /* go_plugin.h */
};

/* What only counts when the library is loaded; a later, different wish is a warning. Absent spans leave it
 * to the process's environment. */
struct go_library_wish {
    struct span gogc;         /* GOGC: "50", "off" */
    struct span memory_limit; /* GOMEMLIMIT: "512MiB" */
};

/* Returns when the library's Go runtime has started and all its init functions are done. wish: NULL for none.
 * NULL with a sentence in why. A sentence together with a library is a warning; *why is empty
 * otherwise. */
struct go_library *go_library_get(struct span library_id, struct span path,
                                  const struct go_library_wish *wish, char why[GO_LIBRARY_WHY_MAX]);

/* The same for a configuration that names one: what is wrong, or a warning, is a problem at mark. NULL: one that refuses. */
struct go_library *go_library_named(struct span library_id, struct span path,
                                    const struct go_library_wish *wish, const struct cfg_mark *mark,
                                    struct cfg_problems *problems);

/* All that are loaded, by next, the last one first; the list only grows, at its head. Any thread. */
struct go_library *go_library_first(void);

/* Is a C function of the SDK implemented here? (go_exports_table.c) */
bool go_export_is_known(struct span name);

/* fn(arg) on a real thread stack, where Go may be called: directly, or through foreign_call when a
 * coroutine asks (and then it parks). */
void go_on_thread_stack(void (*fn)(void *arg), void *arg);
