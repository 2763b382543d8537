/* loan: memory beside a table of handles, one piece for each of its slots.
 *
 *     handles   [slot 0][slot 1][slot 2] ...      where no foreign code writes: whether it is lent
 *                   │       │       │
 *     memory    [ piece ][ piece ][ piece ] ...   where its addresses point
 *
 * An address is looked up by arithmetic and never followed, so any number will do for one. The
 * finalizer of the handle is that of the loan; after it the slot, and with it the piece, is free. */
#include "mem/loan.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "mem/poison.h"

enum { LOAN_ALIGN_LOG2 = 6 }; /* a cache line: two loans do not share one */

/* A power of two: a look-up divides by it, and a division costs as much as the rest of it. */
static unsigned stride_log2_of(const struct loan_kind *kind) {
    unsigned log2 = LOAN_ALIGN_LOG2;
    while ((size_t)1 << log2 < kind->size)
        log2++;
    return log2;
}

static size_t stride_of(const struct loan_pool *pool) {
    return (size_t)1 << pool->stride_log2;
}

int loan_pool_init(struct loan_pool *pool, const struct loan_kind *kind) {
    ASSERT(kind->size > 0);
    int err = handle_table_init(&pool->handles, kind->max);
    if (err)
        return err;
    pool->kind = kind;
    pool->stride_log2 = stride_log2_of(kind);
    void *memory = mmap(NULL, (size_t)kind->max << pool->stride_log2, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        handle_table_fini(&pool->handles);
        return -ENOMEM;
    }
    pool->memory = memory;
    return 0;
}

void loan_pool_fini(struct loan_pool *pool) {
    mem_unpoison(pool->memory, (size_t)pool->kind->max << pool->stride_log2);
    (void)munmap(pool->memory, (size_t)pool->kind->max << pool->stride_log2); /* it was mapped so */
    handle_table_fini(&pool->handles);
}

static void end(void *memory, const void *key) {
    const struct loan_pool *pool = key;
    if (pool->kind->finalize)
        pool->kind->finalize(memory);
    mem_poison(memory, stride_of(pool));
}

struct loan loan_new(struct loan_pool *pool, unsigned shard) {
    struct loan loan = {.handle = handle_reserve(&pool->handles, shard)};
    if (!loan.handle)
        return loan;
    loan.memory = pool->memory + ((size_t)handle_index(loan.handle) << pool->stride_log2);
    mem_unpoison(loan.memory, pool->kind->size);
    memset(loan.memory, 0, pool->kind->size);
    return loan;
}

void loan_lend(struct loan_pool *pool, struct loan loan) {
    handle_open(&pool->handles, loan.handle,
                &(struct handle_object){
                    .object = loan.memory, .key = pool, .finalize = end, .leased = true});
}

/* The handle of the loan that an address lies in; 0 for none. */
static uint64_t handle_of(const struct loan_pool *pool, const void *address) {
    uintptr_t offset = (uintptr_t)address - (uintptr_t)pool->memory; /* wraps for what lies below */
    if (offset >= (size_t)pool->kind->max << pool->stride_log2)
        return 0;
    return handle_at(&pool->handles, (uint32_t)(offset >> pool->stride_log2));
}

struct loan loan_keep(struct loan_pool *pool, const void *address) {
    struct loan loan = {.handle = handle_of(pool, address)};
    loan.memory = handle_lease(&pool->handles, loan.handle, pool);
    return loan;
}

void loan_let_go(struct loan_pool *pool, struct loan loan) {
    handle_release(&pool->handles, loan.handle);
}

int loan_release(struct loan_pool *pool, const void *address) {
    uint64_t handle = handle_of(pool, address);
    if (((uintptr_t)address - (uintptr_t)pool->memory) &
        (stride_of(pool) - 1)) /* not its first byte */
        return -ESTALE;
    return handle_destroy(&pool->handles, handle, pool);
}
