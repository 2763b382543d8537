/* chan: a ring of elements, a queue of parked senders, a queue of parked receivers, one spin-lock.
 *
 *                 head      head + count
 *                  v           v
 *     ring     [ ][3][4][5][6][ ]      elements 3 to 6, oldest first
 *     senders   -> [waiter on A's stack] -> [waiter on B's stack]
 *     receivers -> [waiter on C's stack]
 *
 * C1  With an element in the ring nobody waits to receive; with a free slot nobody waits to send. Who
 *     would break this hands over instead: a sender copies to the slot of the first receiver that
 *     waits, a receiver takes the oldest element and moves that of the first sender into the ring
 *     (or, without a ring, takes it from the sender's stack). So elements are received in the order
 *     in which their sends began to wait, and an awakened coroutine has nothing left to compete for.
 * C2  A closed channel has no waiters and gets none: close serves them all.
 * (A waiter of a select that another channel has served may linger; it counts for nothing.)
 *
 * A wait and its server. The server is the operation, or the close, that ends another's wait, from any
 * thread. The wait is on the stack of its coroutine, which can wake for its own reasons meanwhile: a
 * deadline, a cancellation, a token that was meant for something else.
 *
 *     coroutine                         server
 *     lock; queue up; unlock
 *     park ............................ lock; unlink; served = waiter; copy; unlock
 *     woken  <------------------------- rt_ready(g)
 *     spin until released  <----------- released = true, and touches neither wait nor g again
 *     return
 *
 *   W1  served changes once, under the lock of a channel in whose queue the waiter is found. So a
 *       deadline is decided under that lock: if the waiter is still linked the coroutine unlinks it
 *       and nothing was sent or received; if not, the operation has happened and its result counts.
 *   W2  A select is in several queues under several locks, so there served goes by compare-and-swap:
 *       against other servers, and against the select's own deadline. Who loses skips the waiter.
 *   W3  The coroutine does not return, so it does not end and its stack does not change, before it has
 *       seen released (acquire; the server's store releases). That is what entitles the server to
 *       rt_ready(g), and what lets the wake-up, which may cost a system call, stay outside the lock.
 *       It hardly ever spins: the server's P cannot run it before the server is through, and another
 *       P gets to it later than the server to its next instruction. When a server loses its core just
 *       there the coroutine offers its own, and lets the others of its P run.
 *   W4  Parking again is right only while served is NULL: then the token is still to come. That read
 *       needs no order. If the park ate the server's token, rt_ready has shown us its stores.
 *
 * tests/unit/rt/model/model_chan.c plays all of this in every order.
 *
 * Order  Everything else is ordered by the lock. A send happens before its receive ends: both hold it.
 * Rejected  rt_ready under the lock, the waiter retaking it before it returns: a locked instruction
 *           for every wait, and a system call under a spin-lock. An rt_ready in two steps, so that the
 *           system call comes after released: the same CPU time on two busy cores. rt_park_unlock: the
 *           lock would be held over the switch to g0; a token that comes early is remembered anyway. A
 *           lock-free ring: with close, select and deadlines each operation takes more locked
 *           instructions than the one of spin_lock (its unlock is a plain store). */
#include "rt/chan.h"

#include <stdlib.h>
#include <string.h>

#include "rt/chan_internal.h"

struct chan *chan_new(size_t elem_size_bytes, uint32_t capacity) {
    ASSERT(elem_size_bytes <= CHAN_ELEM_MAX);
    ASSERT(capacity <= CHAN_CAPACITY_MAX);
    size_t size = sizeof(struct chan) + elem_size_bytes * capacity;
    size_t align = alignof(struct chan);
    struct chan *ch = aligned_alloc(align, (size + align - 1) / align * align);
    if (!ch)
        return NULL;
    *ch = (struct chan){.elem_size_bytes = (uint32_t)elem_size_bytes, .capacity = capacity};
    atomic_init(&ch->refs, 1);
    list_init(&ch->senders);
    list_init(&ch->receivers);
    return ch;
}

struct chan *chan_ref(struct chan *ch) {
    uint32_t before = atomic_fetch_add_explicit(&ch->refs, 1, memory_order_relaxed);
    ASSERT(before > 0);
    return ch;
}

void chan_unref(struct chan *ch) {
    /* Releases what this holder did to the channel; the last one acquires it from all the others. */
    uint32_t before = atomic_fetch_sub_explicit(&ch->refs, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before > 1)
        return;
    ASSERT(list_is_empty(&ch->senders)); /* who waits holds a reference */
    ASSERT(list_is_empty(&ch->receivers));
    free(ch);
}

/* ---- Waits ---- */

void chan_release(struct chan_wait *wait) {
    rt_ready(wait->g);
    atomic_store_explicit(&wait->released, true, memory_order_release); /* W3 */
}

static bool is_released(struct chan_wait *wait) {
    return atomic_load_explicit(&wait->released, memory_order_acquire); /* W3 */
}

void chan_await_release(struct chan_wait *wait) {
    for (unsigned turn = 1; !is_released(wait); turn++) {
        spin_pause();
        if (turn % SPIN_TURNS == 0) { /* the server lost its core */
            (void)sched_yield();
            rt_yield();
        }
    }
}

int chan_await(struct chan_wait *wait, const char *reason, int64_t deadline_ns) {
    for (;;) {
        int err = rt_park(reason, deadline_ns);
        if (is_released(wait))
            return 0;
        if (err < 0)
            return err;
        if (atomic_load_explicit(&wait->served, memory_order_relaxed)) { /* W4 */
            chan_await_release(wait);
            return 0;
        }
    }
}

/* W1, W2. The first waiter that is still to be served, unlinked and served now. */
static struct chan_waiter *serve_first(struct list *queue) {
    struct list *node;
    while ((node = list_pop_front(queue))) {
        struct chan_waiter *waiter = container_of(node, struct chan_waiter, node);
        struct chan_wait *wait = waiter->wait;
        if (!wait->is_select) {
            atomic_store_explicit(&wait->served, waiter, memory_order_relaxed);
            return waiter;
        }
        struct chan_waiter *nobody = NULL;
        if (atomic_compare_exchange_strong_explicit(&wait->served, &nobody, waiter,
                                                    memory_order_relaxed, memory_order_relaxed))
            return waiter;
    }
    return NULL;
}

/* Takes the lock over from its caller. */
static int wait_locked(struct chan *ch, struct list *queue, struct chan_waiter *waiter,
                       const char *reason, int64_t deadline_ns) {
    struct chan_wait wait = {.g = rt_self()};
    ASSERT(wait.g);
    waiter->wait = &wait;
    list_push_back(queue, &waiter->node);
    spin_unlock(&ch->lock);
    int err = chan_await(&wait, reason, deadline_ns);
    if (err < 0) {
        spin_lock(&ch->lock);
        bool served = atomic_load_explicit(&wait.served, memory_order_relaxed);
        if (!served)
            list_remove(&waiter->node);
        spin_unlock(&ch->lock);
        if (!served)
            return err;
        chan_await_release(&wait);
    }
    return wait.closed ? -EPIPE : 0;
}

static int wait_on_nil(const char *reason, int64_t deadline_ns) {
    int err;
    do {
        err = rt_park(reason, deadline_ns);
    } while (err == 0);
    return err;
}

/* ---- Elements ---- */

static void copy_elem(const struct chan *ch, void *into, const void *from) {
    if (ch->elem_size_bytes == sizeof(void *)) /* nearly always: two instructions, not a call */
        memcpy(into, from, sizeof(void *));
    else if (ch->elem_size_bytes > 0)
        memcpy(into, from, ch->elem_size_bytes);
}

/* The n-th slot from the oldest element, n <= capacity: the one after the last is the first again. */
static void *slot(struct chan *ch, uint32_t n) {
    uint32_t at = ch->head + n;
    if (at >= ch->capacity)
        at -= ch->capacity;
    return ch->ring + (size_t)at * ch->elem_size_bytes;
}

int chan_send_locked(struct chan *ch, const void *elem, struct chan_wait **peer) {
    if (ch->closed)
        return -EPIPE;
    struct chan_waiter *receiver = serve_first(&ch->receivers);
    if (receiver) {
        ASSERT_SLOW(ch->count == 0); /* C1 */
        if (receiver->into)
            copy_elem(ch, receiver->into, elem);
        *peer = receiver->wait;
        return 0;
    }
    if (ch->count == ch->capacity)
        return -EAGAIN;
    copy_elem(ch, slot(ch, ch->count), elem);
    ch->count++;
    return 0;
}

int chan_recv_locked(struct chan *ch, void *elem, struct chan_wait **peer) {
    struct chan_waiter *sender = serve_first(&ch->senders);
    if (sender)
        *peer = sender->wait;
    if (ch->count == 0) {
        if (!sender)
            return ch->closed ? -EPIPE : -EAGAIN;
        if (elem)
            copy_elem(ch, elem, sender->from);
        return 0;
    }
    ASSERT_SLOW(!sender || ch->count == ch->capacity); /* C1 */
    if (elem)
        copy_elem(ch, elem, slot(ch, 0));
    if (sender)
        copy_elem(ch, slot(ch, ch->count), sender->from); /* the slot that was freed just now */
    else
        ch->count--;
    ch->head = ch->head + 1 == ch->capacity ? 0 : ch->head + 1;
    return 0;
}

/* ---- Operations ---- */

/* Flat, because each frame between a park and its caller costs a mispredicted return: see g_switch.h. */

int chan_try_send(struct chan *ch, const void *elem) {
    if (!ch)
        return -EAGAIN;
    struct chan_wait *peer = NULL;
    spin_lock(&ch->lock);
    int err = chan_send_locked(ch, elem, &peer);
    spin_unlock(&ch->lock);
    if (peer)
        chan_release(peer);
    return err;
}

FLATTEN int chan_send(struct chan *ch, const void *elem, int64_t deadline_ns) {
    if (!ch)
        return wait_on_nil("send on NULL", deadline_ns);
    struct chan_wait *peer = NULL;
    spin_lock(&ch->lock);
    int err = chan_send_locked(ch, elem, &peer);
    if (err == -EAGAIN) {
        struct chan_waiter waiter = {.from = elem};
        return wait_locked(ch, &ch->senders, &waiter, "chan send", deadline_ns);
    }
    spin_unlock(&ch->lock);
    if (peer)
        chan_release(peer);
    return err;
}

int chan_try_recv(struct chan *ch, void *elem) {
    if (!ch)
        return -EAGAIN;
    struct chan_wait *peer = NULL;
    spin_lock(&ch->lock);
    int err = chan_recv_locked(ch, elem, &peer);
    spin_unlock(&ch->lock);
    if (peer)
        chan_release(peer);
    return err;
}

FLATTEN int chan_recv(struct chan *ch, void *elem, int64_t deadline_ns) {
    if (!ch)
        return wait_on_nil("receive from NULL", deadline_ns);
    struct chan_wait *peer = NULL;
    spin_lock(&ch->lock);
    int err = chan_recv_locked(ch, elem, &peer);
    if (err == -EAGAIN) {
        struct chan_waiter waiter = {.into = elem};
        return wait_locked(ch, &ch->receivers, &waiter, "chan receive", deadline_ns);
    }
    spin_unlock(&ch->lock);
    if (peer)
        chan_release(peer);
    return err;
}

void chan_close(struct chan *ch) {
    ASSERT(ch);
    struct list served;
    list_init(&served);
    spin_lock(&ch->lock);
    if (!ch->closed) {
        ch->closed = true;
        struct chan_waiter *waiter;
        while ((waiter = serve_first(&ch->receivers)) || (waiter = serve_first(&ch->senders)))
            list_push_back(&served, &waiter->node);
    }
    spin_unlock(&ch->lock);
    struct list *node;
    while ((node = list_pop_front(&served))) {
        struct chan_wait *wait = container_of(node, struct chan_waiter, node)->wait;
        wait->closed = true;
        chan_release(wait);
    }
}

uint32_t chan_len(struct chan *ch) {
    if (!ch)
        return 0;
    spin_lock(&ch->lock);
    uint32_t count = ch->count;
    spin_unlock(&ch->lock);
    return count;
}

uint32_t chan_capacity(const struct chan *ch) {
    return ch ? ch->capacity : 0;
}
