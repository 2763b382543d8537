/* rwlock: one compare-and-swap as long as nobody has to wait.
 *
 *     state:   readers that hold it << 2 | QUEUED | WRITING
 *
 *   R1  WRITING excludes readers: one of the two is 0.
 *   R2  QUEUED says that somebody waits. It is set and cleared with the lock held only. While it is set
 *       newcomers queue, and nobody enters but by settle_locked, which hands the lock over: who is
 *       claimed holds it already.
 *   R3  Without QUEUED the holder's unlock is one compare-and-swap. With it, whoever leaves the lock
 *       free (the writer, the last reader) takes the spin-lock first, and no one else can enter or free
 *       the object before it lets go of that: the ones it hands over to are woken later.
 *   R4  With the lock held, either somebody holds the rwlock or both queues are empty; and readers wait
 *       only while a writer writes or waits. A writer that gives up may be what held readers back, so
 *       it settles, too.
 *
 * Fairness  After a write all readers that wait go, then the first writer. After the last reader goes
 *       the first writer. Readers that come while a writer waits queue, so each batch of readers ends;
 *       writers that come while readers wait do not overtake them, so each reader waits for one write.
 *
 * Order  Each change of state that enters acquires, each that leaves releases. Who is handed the lock
 *       acquires by its wake-up (waiters.c) from who settled, and that one has acquired from the
 *       readers that left before, whose changes of state form one release sequence. */
#include "rt/rwlock.h"

enum { WRITING = 1, QUEUED = 2, READER = 4 };

void rwlock_init(struct rwlock *rw) {
    *rw = (struct rwlock){0};
}

static uint32_t state_of(struct rwlock *rw) {
    return atomic_load_explicit(&rw->state, memory_order_relaxed);
}

static bool change_state(struct rwlock *rw, uint32_t *from, uint32_t to) {
    return atomic_compare_exchange_weak_explicit(&rw->state, from, to, memory_order_acq_rel,
                                                 memory_order_relaxed);
}

/* With QUEUED set, so that only readers that leave change the state meanwhile. Hands the lock to who is
 * to have it now, and sets right QUEUED. */
static void settle_locked(struct rwlock *rw, bool readers_first, struct waiters *claimed) {
    uint32_t add = 0;
    if (!(state_of(rw) & WRITING)) {
        if (waiters_is_empty(&rw->writers) || (readers_first && !waiters_is_empty(&rw->readers)))
            add = READER * waiters_claim_all_locked(&rw->readers, claimed);
        else if (state_of(rw) < READER && waiters_claim_to_locked(&rw->writers, claimed))
            add = WRITING;
    }
    if (waiters_is_empty(&rw->readers) && waiters_is_empty(&rw->writers))
        add -= QUEUED;
    atomic_fetch_add_explicit(&rw->state, add, memory_order_acq_rel);
}

/* blockers: the bits of the state that one who comes has to wait for. */
static int enter(struct rwlock *rw, uint32_t blockers, uint32_t mine, struct waiters *queue,
                 const char *reason, int64_t deadline_ns) {
    uint32_t state = state_of(rw);
    while (!(state & blockers))
        if (change_state(rw, &state, state + mine))
            return 0;

    struct waiter waiter;
    spin_lock(&rw->lock);
    state = state_of(rw);
    while (!(state & QUEUED)) {
        bool free = !(state & blockers);
        if (!change_state(rw, &state, free ? state + mine : state | QUEUED))
            continue;
        if (!free)
            break;
        spin_unlock(&rw->lock);
        return 0;
    }
    waiters_push_back(queue, &waiter);
    spin_unlock(&rw->lock);
    int err = waiter_wait(queue, &waiter, &rw->lock, reason, deadline_ns);
    if (err < 0) {
        struct waiters claimed = {0};
        settle_locked(rw, false, &claimed); /* R4 */
        spin_unlock(&rw->lock);
        waiters_wake(&claimed);
    }
    return err;
}

static void leave(struct rwlock *rw, uint32_t mine, bool readers_first) {
    uint32_t state = state_of(rw);
    for (;;) {
        if (!(state & QUEUED) || state >= 2 * READER) {
            if (change_state(rw, &state, state - mine))
                return;
            continue;
        }
        spin_lock(&rw->lock);
        if (state_of(rw) & QUEUED)
            break;
        spin_unlock(&rw->lock); /* those who waited have given up */
        state = state_of(rw);
    }
    struct waiters claimed = {0};
    atomic_fetch_sub_explicit(&rw->state, mine, memory_order_acq_rel);
    settle_locked(rw, readers_first, &claimed);
    spin_unlock(&rw->lock);
    waiters_wake(&claimed);
}

int rwlock_read_lock(struct rwlock *rw, int64_t deadline_ns) {
    return enter(rw, WRITING | QUEUED, READER, &rw->readers, "rwlock read", deadline_ns);
}

void rwlock_read_unlock(struct rwlock *rw) {
    ASSERT(state_of(rw) >= READER);
    leave(rw, READER, false);
}

int rwlock_write_lock(struct rwlock *rw, int64_t deadline_ns) {
    return enter(rw, UINT32_MAX, WRITING, &rw->writers, "rwlock write", deadline_ns);
}

void rwlock_write_unlock(struct rwlock *rw) {
    ASSERT(state_of(rw) & WRITING);
    leave(rw, WRITING, true);
}
