/* go_gate: how a call of a Go library gets at its request, and whether it may.
 *
 *     struct go_gate gate;
 *     int code = go_gate_side(s, &gate);       // or go_gate_request(r, &gate)
 *     if (code)
 *         return code;
 *     ...                                      // the stream is locked
 *     return go_gate_leave(&gate, GO_OK);
 *
 * Threads  Any. A gate belongs to its caller.
 * Codes    In this order: not lent (any more) -1, not in Go -3, destroyed -2; a NULL process state -3. After the
 *          stream's end, and for -1, -5 unless the configuration is STRICT about late calls. */
#pragma once
#include "ext/ext_far.h"
#include "ext/go/go_block.h"

struct go_gate {
    struct loan loan; /* of lent: Go's collector may give it back while we are at work */
    struct go_lent *lent;
    struct go_block *block;    /* leased; NULL when the exchange has ended */
    struct ext_stream *stream; /* locked, when there is a block */
    enum ext_direction direction;
    struct ext_side *side; /* NULL for calls on the request, and without a block */
};

/* s: a process state, r: a request, as Go has their addresses. 0 with the stream locked: call go_gate_leave. Else the
 * code to answer. */
MUST_CHECK int go_gate_side(const void *s, struct go_gate *gate);
MUST_CHECK int go_gate_request(const void *r, struct go_gate *gate);
/* Both halves of go_gate_side: 0 with the gate open, whether it is Go's turn or not, even without a block; and whether
 * it is. */
MUST_CHECK int go_gate_find_side(const void *s, struct go_gate *gate);
MUST_CHECK int go_gate_pass_side(struct go_gate *gate);
/* Returns code. */
int go_gate_leave(struct go_gate *gate, int code);

/* NULL, but in a host process. */
static inline struct ext_far *go_gate_far(const struct go_gate *gate) {
    return __builtin_expect(gate->stream->far != NULL, false) ? gate->stream->far : NULL;
}
/* After a continue or a reply. */
static inline void go_gate_decided(const struct go_gate *gate) {
    struct ext_far *far = go_gate_far(gate);
    if (far)
        far->itab->decided(far, gate->side);
}

/* Borrowed as the gate's lent is. */
struct span go_gate_plugin(const struct go_gate *gate);
/* Bytes of Go's. A negative length is a plugin's overflow; it is as good as no bytes. */
static inline struct span go_gate_input(const void *bytes, int len) {
    return bytes && len > 0 ? span_make(bytes, (size_t)len) : span_make("", 0);
}
/* Lengths are ints at this border. */
static inline void go_gate_lend_out(struct span from, uint64_t *value, int *len) {
    *value = (uint64_t)(uintptr_t)from.ptr;
    *len = (int)from.len;
}
