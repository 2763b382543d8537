/* go_gate: keep what Go's address lies in (go_lent.h), lease the block that this has the handle of, take the lock, look
 * whether it is Go's turn.
 *
 *  - No address is followed before it is known to be lent. Go's collector may finalize the request while
 *    one of its last calls is still in here, its argument being all that is left of it (what
 *    runtime.KeepAlive is for, and the SDK has none): the lease makes Finalize wait for that call.
 *  - The block ends with the exchange, also while a call is at work with it: who has leased it finds
 *    `destroyed` under the lock, who comes later finds no block and is answered by what is left in lent.
 *  - Late calls. A stream ends when its client likes, so a goroutine cannot know that it is late; and if it
 *    has no RecoverPanic, the SDK's panic over our code is the end of the process, with all of its
 *    requests. A lenient filter's is answered -5: "absent" to the SDK's getters, ignored by all else. A
 *    call out of turn in a stream that goes on is a mistake of its author, which shows in the first test:
 *    it is answered as Envoy does either way.
 *  - What ends an exchange takes the same lock, so a call sees the exchange's memory or the gate, and
 *    never something in between. */
#include "ext/go/go_gate.h"

#include "ext/ext_handles.h"
#include "ext/go/go_stats.h"

int go_gate_leave(struct go_gate *gate, int code) {
    if (gate->block) {
        ext_unlock(gate->stream);
        handle_release(&ext_handles, gate->lent->block);
    }
    loan_let_go(&go_lent_requests, gate->loan);
    return code;
}

static int stale(struct go_gate *gate, int code) {
    go_stats_count(GO_STALE_CALLS, 1);
    return go_gate_leave(gate, code);
}

/* The stream has ended, or is about to. */
static int late(struct go_gate *gate, int code) {
    return stale(gate, gate->lent->lenient ? GO_VALUE_NOT_FOUND : code);
}

/* What the address lies in, if it is Go's to use: true with the loan kept and, if there still is one, the
 * block leased and its stream locked. */
static bool open_gate(const void *address, struct go_gate *gate) {
    *gate = (struct go_gate){.loan = loan_keep(&go_lent_requests, address)};
    gate->lent = gate->loan.memory;
    if (!gate->lent)
        return false;
    gate->block = handle_lease(&ext_handles, gate->lent->block, go_block_key);
    if (gate->block) {
        gate->stream = &gate->block->stream;
        ext_lock(gate->stream);
        gate->block->counts.crossings++;
    }
    return true;
}

/* An address that was given back, or was never lent. */
static int not_lent(void) {
    go_stats_count(GO_STALE_CALLS, 1);
    go_stats_count(GO_STALE_HANDLES, 1);
    return atomic_load_explicit(&go_lent_strict, memory_order_relaxed) ? GO_FILTER_IS_GONE
                                                                       : GO_VALUE_NOT_FOUND;
}

static bool was_in_go(const struct go_process_state *state) {
    int32_t now = atomic_load_explicit(&state->state, memory_order_relaxed);
    return now == GO_PROCESSING_HEADER || now == GO_PROCESSING_DATA || now == GO_PROCESSING_TRAILER;
}

/* Which of the two states it is, is told by where it lies: what is in there is Go's to read, and so
 * maybe to write. 0 with the gate open, or the code to answer. */
int go_gate_find_side(const void *s, struct go_gate *gate) {
    if (!s)
        return GO_NOT_IN_GO;
    if (!open_gate(s, gate))
        return not_lent();
    if (s != &gate->lent->states[EXT_REQUEST] && s != &gate->lent->states[EXT_RESPONSE]) {
        (void)go_gate_leave(gate, 0);
        return not_lent();
    }
    gate->direction = s == &gate->lent->states[EXT_REQUEST] ? EXT_REQUEST : EXT_RESPONSE;
    if (gate->block)
        gate->side = &gate->stream->sides[gate->direction];
    return GO_OK;
}

/* Is it Go's turn? 0, or the gate is closed and the code is to be answered. */
int go_gate_pass_side(struct go_gate *gate) {
    if (!gate->block)
        return late(gate, was_in_go(&gate->lent->states[gate->direction]) ? GO_FILTER_IS_DESTROYED
                                                                          : GO_NOT_IN_GO);
    bool logging = gate->stream->logging && gate->block->library->elf.level >= GO_LEVEL_32;
    if (gate->side->phase == EXT_NOT_LENT && !logging && !gate->stream->cut)
        return stale(gate, GO_NOT_IN_GO);
    if (gate->stream->destroyed || (gate->side->abandoned && !logging))
        return late(gate, GO_FILTER_IS_DESTROYED);
    return GO_OK;
}

/* 0 with the lock held, or the code to answer. */
int go_gate_side(const void *s, struct go_gate *gate) {
    int code = go_gate_find_side(s, gate);
    return code ? code : go_gate_pass_side(gate);
}

int go_gate_request(const void *r, struct go_gate *gate) {
    if (!r)
        return GO_FILTER_IS_GONE;
    if (!open_gate(r, gate))
        return not_lent();
    if (r != &gate->lent->request) {
        (void)go_gate_leave(gate, 0);
        return not_lent();
    }
    const struct go_process_state *states = gate->lent->states;
    if (!gate->block)
        return late(gate, was_in_go(&states[0]) || was_in_go(&states[1]) ? GO_FILTER_IS_DESTROYED
                                                                         : GO_NOT_IN_GO);
    const struct ext_side *sides = gate->stream->sides;
    bool logging = gate->stream->logging;
    if (sides[0].phase == EXT_NOT_LENT && sides[1].phase == EXT_NOT_LENT && !logging &&
        !gate->stream->cut)
        return stale(gate, GO_NOT_IN_GO);
    /* A side whose coroutine has left holds nothing: what is asked may be going away. */
    bool held = (sides[0].phase != EXT_NOT_LENT && !sides[0].abandoned) ||
                (sides[1].phase != EXT_NOT_LENT && !sides[1].abandoned);
    if (gate->stream->destroyed || (!held && !logging))
        return late(gate, GO_FILTER_IS_DESTROYED);
    return GO_OK;
}

struct span go_gate_plugin(const struct go_gate *gate) {
    return span_make(gate->lent->request.plugin_name, gate->lent->request.plugin_name_len);
}
