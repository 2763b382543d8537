/* go_library: a shared library built on Envoy's Go SDK, loaded into this process. A library whose file is replaced is
 * loaded again, and is another go_library of the same origin (go_origin.h).
 *
 * Ownership  A library is never unloaded (a Go runtime cannot be), so pointers are good for ever.
 * Threads    go_library_get, _load: any thread but a P's coroutine (dlopen blocks, and Go starts threads). Leases: the P
 *            whose they are.
 * Keys       library_id as on Envoy: the first path wins. A later, different path under the same id
 *            goes on with the first library, with a warning. Two ids of one file are one library. */
#pragma once
#include "config/config.h"
#include "config/golang_config.h"
#include "ext/go/go_abi.h"
#include "ext/go/go_elf.h"
#include "ext/go/go_file.h"
#include "ext/go/go_stats.h"
#include "ext/seat.h"
#include "proxy/p_leases.h"
#include "rt/symbol.h"

enum { GO_LIBRARY_WHY_MAX = 1024 };

struct remote_library;
struct go_origin;

enum go_library_state {
    GO_LIBRARY_LOADED, /* its configurations are being parsed */
    GO_LIBRARY_CURRENT,
    GO_LIBRARY_CANDIDATE, /* serves some, and is compared with the current one */
    GO_LIBRARY_REFUSED,   /* a configuration of; it never served */
    GO_LIBRARY_DRAINING,
    GO_LIBRARY_DRAINED /* its configurations were given back */
};
extern const char *const go_library_state_names[];

struct go_library {
    struct go_library *next;
    void *handle;
    struct go_origin *origin;
    unsigned version; /* of the origin, from 1 on */
    char *told_id;    /* which the library gives back when it calls: tells copies apart */
    struct go_file file;
    struct symbol_module module; /* its names in backtraces */
    _Atomic int state;           /* enum go_library_state */
    struct p_leases leases;
    char *id; /* the first library_id that it was loaded by */
    char *path;
    char *gogc, *memory_limit; /* what it was loaded with; empty: the process's */
    struct go_elf elf;
    bool
        isolated; /* in a host process: handle and fn are NULL, and remote is not, once it was configured */
    struct remote_library *remote;
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
    struct span gogc;                    /* GOGC: "50", "off" */
    struct span memory_limit;            /* GOMEMLIMIT: "512MiB" */
    const struct cfg_hot_swap *hot_swap; /* NULL: nothing is wished */
    bool isolated; /* a library is in one place: the first wish counts, and others are errors */
    const struct go_file *copy; /* loaded instead of what is at the path, and transferred; NULL */
};

/* Returns when the library's Go runtime has started and all its init functions are done. wish: NULL for none.
 * NULL with a sentence in why. A sentence together with a library is a warning; *why is empty
 * otherwise. */
struct go_library *go_library_get(struct span library_id, struct span path,
                                  const struct go_library_wish *wish, char why[GO_LIBRARY_WHY_MAX]);

/* The same for a configuration that names one: what is wrong, or a warning, is a problem at mark. NULL: one that refuses. */
struct go_library *go_library_named(const struct cfg_go_library *cfg, bool isolated,
                                    const struct cfg_mark *mark, struct cfg_problems *problems);

/* Another copy for a library_id that is there, of this file, which is transferred. It has no configuration yet, and
 * nobody uses it. NULL with a sentence in why. */
struct go_library *go_library_load_again(struct go_origin *origin, const struct go_file *file,
                                         char why[GO_LIBRARY_WHY_MAX]);

/* By any of its library_ids; NULL: there is none. Not by who holds a P: it waits while a library is loaded. */
struct go_origin *go_library_origin(struct span library_id);

/* All that are loaded, by next, the last one first; the list only grows, at its head. Any thread. */
struct go_library *go_library_first(void);

/* ---- leases: while a P has one, configurations in this copy stay ---- */

static inline void go_library_lease(struct go_library *library, unsigned p_index) {
    p_leases_lease(&library->leases, p_index);
}
static inline void go_library_release(struct go_library *library, unsigned p_index) {
    p_leases_release(&library->leases, p_index);
}
/* In all; a moment's. Any thread. */
static inline uint64_t go_library_in_flight(const struct go_library *library) {
    return p_leases_count(&library->leases);
}
/* Nobody finds it any more: when the last lease was given back its configurations are. Once; needs the Ps to run. */
void go_library_retire(struct go_library *library);

/* Is a C function of the SDK implemented here? (go_exports_table.c) */
bool go_export_is_known(struct span name);

/* fn(arg) on a real thread stack, where Go may be called: directly, or through foreign_call when a
 * coroutine asks (and then it parks). */
void go_on_thread_stack(void (*fn)(void *arg), void *arg);
