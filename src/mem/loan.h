/* loan: memory of ours whose address foreign code keeps, because its interface wants an address, and gives
 * back some day, or twice, or never.
 *
 *  Go                              here
 *  ─────────────────────────────── ────────────────────────────────────────────────────────────────────
 *  p := new(T), handed to C        loan_new, filled in, loan_lend: foreign code may keep the address
 *  (p stays while C has it)        held by the callee: the memory stays until loan_release(address), which
 *                                  the callee calls, also when all that the loan was about died long ago
 *  runtime.SetFinalizer(p, f)      loan_kind.finalize: runs once, after loan_release and after the last
 *                                  loan_let_go; before the memory can be used again
 *  runs in any goroutine           on whichever thread came last; it needs no P. What belongs to a P, a
 *                                  lease on a block for one, the finalizer sends there by rt_post
 *  runtime.KeepAlive(p)            loan_keep .. loan_let_go around a call: while it works with the memory
 *                                  it is not finalized, even if the callee gives it back meanwhile (a
 *                                  collector does as soon as it finds the address unused by its own code,
 *                                  and the call's argument is not in its own code)
 *  use after free                  loan_keep is refused: NULL. An address that is no loan's is refused too
 *  finalized twice: a crash        loan_release: 0 once, -ESTALE from then on
 *
 * What no address can tell: whether it means the loan that had it before. The pool uses its memory in turn:
 * it takes 64 others of the same P, as long as the pool is not full, before an address is good again.
 *
 * Ownership  The maker's until loan_lend. Then it has a lease, which it gives back by loan_let_go, and
 *            the callee has the loan, which it gives back by loan_release: the last of all ends it.
 * Threads    Any; loan_new: the thread that its shard belongs to.
 * Limits     max loans at a time. Memory of a loan stays the pool's; under ASan it is poisoned between
 *            loans, so that we find our own late uses. */
#pragma once
#include <stddef.h>

#include "mem/handle.h"

struct loan_kind {
    size_t size; /* of a loan */
    uint32_t max;
    void (*finalize)(void *memory); /* may be NULL */
};

struct loan_pool {
    const struct loan_kind *kind;
    struct handle_table handles; /* the handle of a loan has the index of its memory */
    char *memory;
    unsigned stride_log2;
};

/* 0 or -ENOMEM. For the life of the process. */
MUST_CHECK int loan_pool_init(struct loan_pool *pool,
                              const struct loan_kind *kind BORROWED_BY(pool));
void loan_pool_fini(struct loan_pool *pool); /* of tests */

/* A lease on a loan: given back by loan_let_go, exactly once. */
struct loan {
    void *memory;
    uint64_t handle;
};

/* Zeroed memory that is the maker's alone; memory NULL when there are max already. loan_lend must follow:
 * from then on its address is good, and the maker has a lease. */
MUST_CHECK struct loan loan_new(struct loan_pool *pool, unsigned shard);
void loan_lend(struct loan_pool *pool, struct loan loan);

/* The loan that this address lies in, leased. memory NULL: none, or given back. */
MUST_CHECK struct loan loan_keep(struct loan_pool *pool, const void *address);
void loan_let_go(struct loan_pool *pool, struct loan loan);

/* The callee gives it back. address: of the loan's first byte. 0 or -ESTALE: none, or given back. */
int loan_release(struct loan_pool *pool, const void *address);

static inline uint32_t loan_count(const struct loan_pool *pool) {
    return handle_count(&pool->handles);
}
