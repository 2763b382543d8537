/* shm_slot: answers to threads that wait for them.
 *
 *      host                     word               proxy
 *      claim: ASKED ──────────► ASKED
 *      wait: CAS to ASLEEP ───► ASLEEP
 *                               ANSWERED|len ◄──── exchange; it wakes who was ASLEEP
 *
 * Order     The exchange releases the answer's bytes, the load that sees ANSWERED acquires them. Both who may sleep and
 *           who wakes change the word by read-modify-write, so one sees the other, and a futex sleeps only while the
 *           word is ASLEEP.
 * Late      An answer may come when nobody waits for it any more. So a slot whose question was sent is given to the
 *           next only when its answer is there (SLOT_LEFT): two Ps never write into one slot at a time, and no answer
 *           is taken for another question's. Each question is answered, or the host ends.
 * Private   Who has which slot is in the host's own memory: the proxy need not know, and so need not believe it. */
#include "ext/remote/shm_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "ext/remote/ring_sleep.h"

int remote_slots_init(struct remote_shm *shm) {
    shm->slot_uses = calloc(shm->layout.slot_count, sizeof *shm->slot_uses);
    if (!shm->slot_uses)
        return -ENOMEM;
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&shm->lock, NULL);
    (void)pthread_cond_init(&shm->released, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return 0;
}

void remote_slots_fini(struct remote_shm *shm) {
    if (!shm->slot_uses)
        return;
    (void)pthread_cond_destroy(&shm->released);
    (void)pthread_mutex_destroy(&shm->lock);
    free(shm->slot_uses);
}

/* ---- the proxy's ---- */

char *remote_shm_answer_room(struct remote_shm *shm, uint32_t slot) {
    if (slot >= shm->layout.slot_count)
        return NULL;
    return shm->answers + (size_t)slot * REMOTE_SLOT_SIZE;
}

void remote_shm_answer(struct remote_shm *shm, uint32_t slot, size_t len) {
    ASSERT(slot < shm->layout.slot_count);
    ASSERT(len <= REMOTE_SLOT_SIZE);
    _Atomic uint32_t *state = &shm->words[slot].state;
    if (atomic_exchange(state, SLOT_ANSWERED | (uint32_t)len) == SLOT_ASLEEP)
        remote_wake(state, INT_MAX);
}

/* ---- the host's ---- */

static bool is_answered(const struct remote_shm *shm, uint32_t slot) {
    return atomic_load_explicit(&shm->words[slot].state, memory_order_acquire) & SLOT_ANSWERED;
}

static bool take_slot_locked(struct remote_shm *shm, uint32_t *slot) {
    for (uint32_t i = 0; i < shm->layout.slot_count; i++) {
        uint32_t one = (shm->next_slot + i) % shm->layout.slot_count;
        uint8_t *use = &shm->slot_uses[one];
        if (*use == SLOT_TAKEN || (*use == SLOT_LEFT && !is_answered(shm, one)))
            continue;
        *use = SLOT_TAKEN;
        shm->next_slot = one; /* the same again: its pages are touched already */
        *slot = one;
        return true;
    }
    return false;
}

int remote_shm_slot_claim(struct remote_shm *shm, int64_t deadline_ns, uint32_t *slot) {
    /* Nobody tells of an answer that comes to a slot that was left, so we look again now and then. */
    enum { LOOK_AGAIN_NS = 10 * 1000 * 1000 };
    int err = 0;
    pthread_mutex_lock(&shm->lock);
    while (err == 0 && !take_slot_locked(shm, slot)) {
        int64_t now_ns = clock_mono_ns();
        if (now_ns >= deadline_ns) {
            err = -ETIMEDOUT;
            break;
        }
        int64_t until_ns =
            deadline_ns - now_ns < LOOK_AGAIN_NS ? deadline_ns : now_ns + LOOK_AGAIN_NS;
        struct timespec until = {.tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S};
        (void)pthread_cond_timedwait(&shm->released, &shm->lock, &until);
    }
    pthread_mutex_unlock(&shm->lock);
    if (err == 0)
        atomic_store_explicit(&shm->words[*slot].state, SLOT_ASKED, memory_order_relaxed);
    return err;
}

int remote_shm_slot_wait(struct remote_shm *shm, uint32_t slot, int64_t deadline_ns,
                         struct span *answer) {
    ASSERT(slot < shm->layout.slot_count);
    _Atomic uint32_t *word = &shm->words[slot].state;
    for (;;) {
        uint32_t state = SLOT_ASKED;
        if (!atomic_compare_exchange_strong(word, &state, SLOT_ASLEEP) && (state & SLOT_ANSWERED)) {
            size_t len = state & ~SLOT_ANSWERED;
            ASSERT(len <= REMOTE_SLOT_SIZE); /* the proxy is trusted, and a mistake is seen */
            *answer = span_make(shm->answers + (size_t)slot * REMOTE_SLOT_SIZE, len);
            return 0;
        }
        if (deadline_ns != INT64_MAX && clock_mono_ns() >= deadline_ns)
            return -ETIMEDOUT;
        remote_sleep(word, SLOT_ASLEEP, deadline_ns);
    }
}

void remote_shm_slot_release(struct remote_shm *shm, uint32_t slot, bool asked) {
    ASSERT(slot < shm->layout.slot_count);
    pthread_mutex_lock(&shm->lock);
    ASSERT(shm->slot_uses[slot] == SLOT_TAKEN);
    shm->slot_uses[slot] = asked && !is_answered(shm, slot) ? SLOT_LEFT : SLOT_FREE;
    pthread_cond_signal(&shm->released);
    pthread_mutex_unlock(&shm->lock);
}
