/* ext_row: a library in this process as /extensions shows it. All is borrowed for the call that passes it. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct rollout;

/* One of the copies that are loaded. */
struct ext_copy_row {
    unsigned version;
    const char *state;    /* of go_library_state_names */
    const char *build_id; /* the linker's, in hexadecimal; empty: it has none */
    const char *sdk, *go;
    uint64_t in_flight;    /* exchanges and connections that began in it and have not ended */
    uint64_t memory_bytes; /* 0: not known */
};

struct ext_row {
    const char *library_id, *path;
    const char *state;      /* SERVING, SWAPPING */
    const char *last_error; /* why the latest swap failed; empty: it did not */
    unsigned kept_max;
    struct rollout *rollout; /* NULL: new files serve all at once */
    uint64_t reloads, failed_reloads;
    const struct ext_copy_row *copies; /* the one that serves first */
    size_t copy_count;
};
typedef void (*ext_row_fn)(void *arg, const struct ext_row *row);
