/* heap_text: a heap profile as Go's debug=1 has it, which people read and `go tool pprof` takes, too:
 *
 *     heap profile: 12: 6144 [100: 51200] @ heapprofile
 *     12: 6144 [100: 51200] @ 0x55d0c0ffee01 0x55d0c0ffee02
 *     #	0x55d0c0ffee00	header_set+0x70	src/http/header.c:81
 *     #	0x55d0c0ffee01	exchange_run+0x13	src/proxy/exchange.c:402
 *     #	labels: {"listener": "edge"}
 *
 * In use: objects, bytes; in brackets allocated. The largest in use first. Where Go says heap/RATE, for
 * readers to scale what was sampled, it is heapprofile here: the numbers are scaled already.
 *
 * Ownership  Entries are borrowed for the call; heap_text_fini frees.
 * Threads    One at a time, and not one that holds a P: writing looks addresses up.
 * Errors     out->failed when memory was short, then or before. */
#pragma once
#include "admin/heap_view.h"

struct heap_text {
    struct text stacks; /* what is text already */
    struct text pcs;    /* what is still to be looked up: uintptr_t, one after the other */
    struct heap_line {
        int64_t values[HEAP_VALUES];
        size_t at, len;        /* in stacks */
        size_t pcs_at, pc_len; /* in pcs, bytes */
        bool is_ours;
    } * lines;
    size_t count, max;
    int64_t totals[HEAP_VALUES];
};

/* A heap_entry_fn: text is a struct heap_text, zero at first. */
void heap_text_add(void *text, const struct heap_entry *entry);
/* With the notes as comments, and at the end what is mapped, so that a reader finds the binaries. */
void heap_text_write(struct heap_text *text, const struct text *notes, struct text *out);
void heap_text_fini(struct heap_text *text);
