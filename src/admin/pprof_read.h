/* pprof_read: a profile that another program has written, gzipped or not, sample by sample.
 *
 * The bytes come from code that we do not know: whatever is in them, the verdict is an error and never a
 * crash, and what they may take of memory is bounded.
 *
 * Ownership  All is borrowed, by the callback until it returns.
 * Threads    Any; it computes: not one that holds a P. */
#pragma once
#include "admin/pprof.h"

enum {
    PPROF_READ_MAX = 64 << 20,    /* bytes, unzipped */
    PPROF_READ_DEPTH_MAX = 1024,  /* frames of a stack; the outermost are left out */
    PPROF_READ_VALUES_MAX = 16,   /* of a sample */
    PPROF_READ_INLINED_MAX = 256, /* functions at one address */
};

/* values are of the types that were asked for. Labels beyond what a told_stack takes are left out. */
typedef void (*pprof_sample_fn)(void *arg, const struct told_stack *stack, const int64_t *values);

/* Calls fn for each sample. A type that the profile has not is 0. 0; -EINVAL when it is no profile, or is
 * one with none of these types; -EFBIG; -ENOMEM. After an error some samples may have been told. */
MUST_CHECK int pprof_read(struct span file, const struct pprof_type *types, unsigned type_count,
                          pprof_sample_fn fn, void *arg);
