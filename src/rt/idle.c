/* idle: sleeping, looking for work ("spinning", Go's word) and waking.
 *
 * Work is of two kinds. A P's own (its inbox, its poller, its timers, the end of the runtime) wakes that P
 * and no other: the flag `sleeping`. Shared work (rings, runnext, global queue) may be run by any P: the
 * list of idle Ps and the number of spinners decide whether one is woken, and which.
 *
 *                      idle_new_work claims it            finds work: idle_found
 *      asleep, listed ------------------------> spinning -----------------------> busy
 *            ^    \____ own work: idle_wake ______|________________________________^ |
 *            |                                    | finds nothing                    | nothing left,
 *            +------------- idle_fall_asleep -----+------- no more may spin ---------+ may spin
 *
 * The list has two bits per P: AWAKE, IDLE, GRANTED. Whoever wants a P moves it from IDLE by
 * compare-and-swap, so it is woken once; GRANTED says that the waker has counted it as a spinner already.
 * All accesses below are seq_cst: the proofs need one order of all of them. (Fences would do, but
 * ThreadSanitizer does not know fences.) A wake-up between the last look and the sleep is not lost: the
 * eventfd is in the epoll set.
 *
 * No lost wake-up, own work. Giver: make it visible, load sleeping. P: store sleeping, look. Either the
 *   look sees the work or the giver sees sleeping and interrupts the poller. The CAS on sleeping lets one
 *   of many givers pay for the write.
 *
 * No lost wake-up, shared work. Giver: (g1) make it visible, (g2) load spinning, (g3) load the list. P:
 *   (p1) spinning - 1 if it spins, (p2) list itself, (p3) look. Claim: no P stays asleep while work is
 *   there that nobody is bound to find. When g2 finds no spinner and g3
 *   - an idle P: it is woken as a spinner; or somebody claims it first, and then we look again.
 *   - none: every P that sleeps later lists itself (p2) after g3, so its look (p3) sees the work. (A P
 *     that idle_claim took is on its way to work of its own, that is, busy.)
 *   When g2 finds a spinner S, S does one of these after g2:
 *   - finds nothing: p1 comes after g2, so p3 sees the work.
 *   - finds other work: idle_found does p1, looks, and becomes a giver for what it sees. What it cannot
 *     see is on the way from a ring to the global queue or from ring to ring, in the hands of a P that is
 *     itself a giver when it is through (queues.c) or a spinner (a thief).
 *   - is no P but a waker between its CAS on spinning and the claim. If the claim fails it takes its
 *     count back and starts over as a giver, on our behalf too.
 *   A P at p3 that sees work while somebody spins sleeps all the same: it is in the list, and the spinner
 *   is bound by the same cases. With no spinner it becomes the one.
 *
 * The first shared coroutine. Ps do not list themselves before idle_share, so that pinned work never pays
 *   for the list. idle_share: store shared, load each sleeping. P: store sleeping, load shared. Either P
 *   lists itself or idle_share wakes it, and it lists itself next time.
 *
 * Not too many awake
 *   - Any number of givers wakes one P at a time: only who moves spinning from 0 to 1 wakes.
 *   - The next is woken by a spinner that found work and sees more, not by one that took the last.
 *   - At most half as many spin as are busy: more would only fight over the same rings. Those that
 *     see work beyond that number sleep (previous paragraph).
 *   - A spinner gives up after one search (steal.c) and does not come back by itself.
 *
 * Rejected  A scan of all P.sleeping on each push: O(P) loads of other Ps' cache lines on the path of a
 *           wake-up. A stack of idle Ps under a lock: the list of 32 Ps is one word. Waking another P
 *           whenever a spinner finds work, as Go does: each wake-up costs an eventfd write and a thread
 *           switch, and one that finds nothing is for nothing. */
#include "rt/idle.h"

#include <stddef.h>

#include "rt/rt.h"

enum { AWAKE, IDLE, GRANTED };
enum { FIELD_BITS = 2, FIELDS = 64 / FIELD_BITS, WORDS = RT_P_MAX / FIELDS };
#define FIELD_MASK 3ULL
#define IDLE_BITS 0x5555555555555555ULL /* IDLE in each field */

static struct {
    unsigned p_count, words;
    struct idle_p *ps[RT_P_MAX];
    _Atomic uint32_t shared;
    _Alignas(64) _Atomic uint64_t list[WORDS];
    _Alignas(64) _Atomic uint32_t spinning;
} idle;

static unsigned shift_of(unsigned index) {
    return index % FIELDS * FIELD_BITS;
}

void idle_init(unsigned p_count) {
    ASSERT(p_count <= RT_P_MAX);
    idle.p_count = p_count;
    idle.words = (p_count + FIELDS - 1) / FIELDS;
    atomic_store(&idle.shared, 0);
    atomic_store(&idle.spinning, 0);
    for (unsigned w = 0; w < WORDS; w++)
        atomic_store(&idle.list[w], 0);
}

void idle_p_init(struct idle_p *p, unsigned index) {
    ASSERT(index < RT_P_MAX);
    p->index = index;
    p->listed = false;
    atomic_store_explicit(&p->spinning, false, memory_order_relaxed);
    atomic_store_explicit(&p->sleeping, 0, memory_order_relaxed);
    idle.ps[index] = p;
}

/* ---- Waking ---- */

void idle_wake(struct idle_p *p) {
    uint32_t asleep = 1;
    if (atomic_load(&p->sleeping) && atomic_compare_exchange_strong(&p->sleeping, &asleep, 0))
        poller_interrupt(p);
}

uint32_t idle_shared(void) {
    return atomic_load(&idle.shared);
}

void idle_share(uint32_t classes) {
    if ((atomic_load_explicit(&idle.shared, memory_order_relaxed) & classes) == classes)
        return;
    if (atomic_fetch_or(&idle.shared, classes))
        return;
    for (unsigned i = 0; i < idle.p_count; i++)
        idle_wake(idle.ps[i]);
}

/* Moves the P from IDLE to the state; false when it is not idle. */
static bool claim_one(unsigned index, uint64_t state) {
    _Atomic uint64_t *word = &idle.list[index / FIELDS];
    unsigned shift = shift_of(index);
    uint64_t old = atomic_load(word);
    while ((old >> shift & FIELD_MASK) == IDLE)
        if (atomic_compare_exchange_weak(word, &old, old ^ (IDLE ^ state) << shift))
            return true;
    return false;
}

static int claim_any(uint64_t state) {
    for (unsigned w = 0; w < idle.words; w++) {
        uint64_t idles;
        while ((idles = atomic_load(&idle.list[w]) & IDLE_BITS)) {
            unsigned index = w * FIELDS + (unsigned)__builtin_ctzll(idles) / FIELD_BITS;
            if (claim_one(index, state))
                return (int)index;
        }
    }
    return -1;
}

int idle_claim(unsigned preferred) {
    if (claim_one(preferred, AWAKE))
        return (int)preferred;
    return claim_any(AWAKE);
}

static bool any_is_idle(void) {
    uint64_t idles = 0;
    for (unsigned w = 0; w < idle.words; w++)
        idles |= atomic_load(&idle.list[w]) & IDLE_BITS;
    return idles != 0;
}

static bool become_only_spinner(void) {
    uint32_t none = 0;
    return atomic_compare_exchange_strong(&idle.spinning, &none, 1);
}

void idle_new_work(void) {
    while (atomic_load(&idle.spinning) == 0 && any_is_idle()) {
        if (!become_only_spinner())
            return;
        int index = claim_any(GRANTED);
        if (index >= 0) {
            idle_wake(idle.ps[index]);
            return;
        }
        atomic_fetch_sub(&idle.spinning, 1); /* others may have relied on us: look again */
    }
}

/* ---- Looking ---- */

static bool spins(struct idle_p *p) {
    return atomic_load_explicit(&p->spinning, memory_order_relaxed);
}

static void set_spins(struct idle_p *p, bool value) {
    atomic_store_explicit(&p->spinning, value, memory_order_relaxed);
}

bool idle_may_spin(struct idle_p *p) {
    if (spins(p))
        return true;
    if (2 * idle_spinning_count() >= idle.p_count - idle_count())
        return false;
    atomic_fetch_add(&idle.spinning, 1);
    set_spins(p, true);
    return true;
}

void idle_found(struct idle_p *p) {
    if (!spins(p))
        return;
    set_spins(p, false);
    atomic_fetch_sub(&idle.spinning, 1);
    if (sched_sees_shared_work(false))
        idle_new_work();
}

/* ---- Sleeping ---- */

bool idle_fall_asleep(struct idle_p *p) {
    if (spins(p)) {
        set_spins(p, false);
        atomic_fetch_sub(&idle.spinning, 1);
    }
    atomic_store(&p->sleeping, 1);
    if (atomic_load(&idle.shared)) {
        p->listed = true;
        atomic_fetch_or(&idle.list[p->index / FIELDS], (uint64_t)IDLE << shift_of(p->index));
    }
    if (sched_sees_own_work(p)) {
        idle_awake(p);
        return false;
    }
    if (!p->listed || !sched_sees_shared_work(true) || !become_only_spinner())
        return true;
    idle_awake(p);
    ASSERT(!spins(p)); /* a grant to us would have counted as a spinner */
    set_spins(p, true);
    return false;
}

void idle_awake(struct idle_p *p) {
    atomic_store_explicit(&p->sleeping, 0, memory_order_relaxed);
    if (!p->listed)
        return;
    p->listed = false;
    unsigned shift = shift_of(p->index);
    uint64_t old = atomic_fetch_and(&idle.list[p->index / FIELDS], ~(FIELD_MASK << shift));
    if ((old >> shift & FIELD_MASK) == GRANTED)
        set_spins(p, true);
}

unsigned idle_spinning_count(void) {
    return atomic_load(&idle.spinning);
}

unsigned idle_count(void) {
    unsigned count = 0;
    for (unsigned w = 0; w < idle.words; w++)
        count += (unsigned)__builtin_popcountll(atomic_load(&idle.list[w]) & IDLE_BITS);
    return count;
}
