/* dump_internal: what dump_collect.c finds out and dump.c prints. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

/* One chain of calls, kept once however many have it. */
struct dump_stack {
    uint64_t hash;
    struct dump_stack *next;
    unsigned count;
    uintptr_t pcs[]; /* innermost first */
};

enum dump_status {
    DUMP_PARKED,  /* reason says for what */
    DUMP_READY,   /* in a queue */
    DUMP_RUNNING, /* pcs[0] is where it stands */
    DUMP_FOREIGN,
    DUMP_BLOCKING,
};
enum { DUMP_ANY_P = UINT16_MAX };

struct dump_record {
    uint64_t id;
    const char *name, *reason;
    int64_t wait_ns; /* 0: not known, or not waiting */
    uintptr_t created_by;
    const struct dump_stack *stack; /* NULL: could not be seen */
    struct labels *labels;          /* leased, or NULL */
    uint16_t p;                     /* that it is pinned to, or DUMP_ANY_P */
    uint8_t priority;
    uint8_t status;   /* enum dump_status */
    bool is_p_frozen; /* its P gave no answer */
};

struct dump {
    struct dump_record *records; /* by id */
    size_t count;
    struct dump_part *parts; /* own the stacks and the leases of labels */
    unsigned part_count;
};

/* Not on a P. 0 or -ENOMEM. On success the caller owes dump_free. */
MUST_CHECK int dump_collect(struct dump *out);
void dump_free(struct dump *dump);
