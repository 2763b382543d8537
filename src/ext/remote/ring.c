/* ring: bytes in a circle, mapped twice in a row, so that each record is in one piece.
 *
 *      head (consumer's)                 tail (producers')
 *        │                                 │
 *     ...[length|kind|payload..][length|kind|payload....]  free ...       offset i lies at data[i % size]
 *
 * head and tail count bytes since the beginning and never wrap (2^64). Each is published by its writer and kept by
 * him privately: nobody reads back a word that is his own to write. Of the other's word a copy is kept that is
 * looked at again only when it says "full" or "empty", so the words' cache lines move once per batch.
 *
 * R1  head <= tail <= head + size, all multiples of 8. What is read from shared memory is read once, into a private
 *     variable, and believed only if R1 holds with it and it has not gone backwards. In unsigned arithmetic all of
 *     that is one comparison with what is known: anything else is far more than size.
 * R2  A record's head is one word of 64 bits, read once. Its length is at most remote_record_max and the record ends
 *     at or before tail, as it was seen: so it is inside of the data and, thanks to the second mapping, in one piece.
 * R3  Each record moves head by 8 or more towards a tail that is private: a consumer that has not looked at the
 *     shared tail again ends after size / 8 records. How often it looks again is for its user to bound.
 *     Two skips in a row are no producer's of ours, so a hostile one does not keep it there either.
 * R4  A record before its commit is beyond tail, so one whose producer dies never was.
 *
 * Warm      A ring that is never nearly full would still go through all of its memory, which would be resident then,
 *           and cold in caches whenever it comes round again. So a producer that enters another WARM_BYTES of it and
 *           finds everything taken goes back to the beginning: a skip, which is a head with the length SKIP, counts
 *           for all bytes up to the end. It is committed with the record behind it.
 *
 * Order     (a) commit writes the record, then releases tail; the consumer acquires tail, then reads.
 *           (b) done has read, then releases head; a producer acquires head, then writes there.
 *
 * No lost wake-up. Consumer: (c1) asleep = 1, (c2) look at tail, (c3) sleep while asleep == 1. Producer: (p1) tail or
 *   nudges, (p2) look at asleep, and (p3) if it is 1 make it 0 and wake. c1, c2 and p2 are seq_cst; p1 is a release alone,
 *   as most commits are followed by others, and is made seq_cst by p2's function, which adds 0 to tail first: one
 *   locked instruction per round instead of one per record. In the one order of those four either p2 comes after
 *   c1 and sees it, or that addition, and with it the commit, comes before c2, which sees the record. p3 by exchange:
 *   of many producers one pays for the system call. A futex sleeps only if asleep is still 1, an eventfd that was
 *   rung before the poller sleeps ends that sleep, so nothing is lost between c2 and c3 either.
 *
 *   Room is the same the other way round: who finds the ring full says so in `wanted` and looks at head again; the
 *   consumer adds 0 to head, as above, and looks at `wanted`. It does so whenever it has taken another quarter of
 *   the ring, not for each record, or producers would wake for room that the next one fills. That is enough: who
 *   waits needs at most a quarter, so when he looks more than three of them are in use, and the consumer tells when it
 *   has taken one: of a room that is still too small he says so again, and the same is true of what is left.
 *   tests/unit/ext/model/model_ring.c tries every interleaving.
 *
 * Rejected  A lock in shared memory, robust or not: the other process may die or lie in it. Multi-producer commits by
 *           compare-and-swap on tail: a producer that is interrupted between reserving and committing holds up all
 *           that follow, and one that dies, for ever. A wake per commit: measured, 6 to 9 us of both processes each,
 *           where one for 16 messages is 2.7. Spinning before sleeping: on shared cores it takes the time from who
 *           would answer. */
#include "ext/remote/ring.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/clock.h"
#include "ext/remote/ring_sleep.h"

enum { WARM_BYTES = 1 << 16 };
#define SKIP UINT32_MAX /* no length: see Warm */

typedef _Atomic uint64_t record_head;
static_assert(sizeof(record_head) == REMOTE_RECORD_HEAD, "a record's head is one word");

/* With its head, rounded up. No overflow: 64 bits. */
static uint64_t whole(uint64_t len) {
    return REMOTE_RECORD_HEAD + ((len + 7) & ~7ULL);
}

static char *at(const struct remote_ring_memory *memory, uint64_t offset) {
    return memory->data + (offset & (memory->size - 1));
}

/* ---- producers ---- */

void remote_ring_out_init(struct remote_ring_out *out, const struct remote_ring_memory *memory,
                          int bell) {
    *out = (struct remote_ring_out){.memory = *memory, .bell = bell};
    (void)pthread_mutex_init(&out->lock, NULL); /* cannot fail without attributes */
}

void remote_ring_out_fini(struct remote_ring_out *out) {
    (void)pthread_mutex_destroy(&out->lock);
}

static uint64_t free_bytes(const struct remote_ring_out *out) {
    return out->memory.size - (out->tail - out->head);
}

/* 0, -EAGAIN or -EPROTO. */
static int look_for_room_locked(struct remote_ring_out *out, uint64_t size) {
    if (free_bytes(out) >= size)
        return 0;
    uint64_t head = atomic_load(&out->memory.words->head);           /* (b); seq_cst for _want */
    if (head - out->head > out->tail - out->head || head % 8 != 0) { /* R1 */
        out->broken = true;
        return -EPROTO;
    }
    out->head = head;
    return free_bytes(out) >= size ? 0 : -EAGAIN;
}

/* Where the ring begins anew behind offset. */
static uint64_t round_end(const struct remote_ring_memory *memory, uint64_t offset) {
    return (offset | (memory->size - 1)) + 1;
}

/* Where a record of size bytes goes, for which there is room at tail. */
static uint64_t warm_start_locked(struct remote_ring_out *out, uint64_t size) {
    uint64_t part = out->tail / WARM_BYTES, next = round_end(&out->memory, out->tail);
    if (part == out->looked)
        return out->tail;
    out->looked = part;
    if ((out->tail & (out->memory.size - 1)) < WARM_BYTES ||
        next + size - out->tail > out->memory.size)
        return out->tail;
    if (atomic_load_explicit(&out->memory.words->head, memory_order_acquire) != out->tail)
        return out->tail;
    out->head = out->tail;
    return next;
}

int remote_ring_out_begin(struct remote_ring_out *out, size_t max_len, char **room) {
    if (max_len > remote_record_max(out->memory.size))
        return -EMSGSIZE;
    pthread_mutex_lock(&out->lock);
    int err = out->broken ? -EPROTO : look_for_room_locked(out, whole(max_len));
    if (err < 0) {
        pthread_mutex_unlock(&out->lock);
        return err;
    }
    out->start = warm_start_locked(out, whole(max_len));
    out->room = max_len;
    *room = at(&out->memory, out->start) + REMOTE_RECORD_HEAD;
    return 0;
}

static void put_head(struct remote_ring_out *out, uint64_t where, uint32_t kind, uint32_t len) {
    record_head *head = (record_head *)(void *)at(&out->memory, where);
    atomic_store_explicit(head, (uint64_t)kind << 32 | len, memory_order_relaxed);
}

void remote_ring_out_commit(struct remote_ring_out *out, uint32_t kind, size_t len) {
    ASSERT(len <= out->room);
    if (out->start != out->tail)
        put_head(out, out->tail, 0, SKIP);
    put_head(out, out->start, kind, (uint32_t)len);
    out->tail = out->start + whole(len);
    atomic_store_explicit(&out->memory.words->tail, out->tail, memory_order_release); /* (a) */
    pthread_mutex_unlock(&out->lock);
}

void remote_ring_out_cancel(struct remote_ring_out *out) {
    out->looked = 0; /* the next one looks again */
    pthread_mutex_unlock(&out->lock);
}

int remote_ring_out_put(struct remote_ring_out *out, uint32_t kind, struct span payload) {
    char *room;
    int err = remote_ring_out_begin(out, payload.len, &room);
    if (err < 0)
        return err;
    if (payload.len)
        memcpy(room, payload.ptr, payload.len);
    remote_ring_out_commit(out, kind, payload.len);
    return 0;
}

bool remote_ring_out_wake(struct remote_ring_out *out) {
    struct remote_ring_words *words = out->memory.words;
    (void)atomic_fetch_add(&words->tail, 0); /* p1, for all commits before */
    if (!atomic_load(&words->asleep) || !atomic_exchange(&words->asleep, 0))
        return false;
    if (out->bell == REMOTE_BELL_NONE)
        remote_wake(&words->asleep, 1);
    else
        remote_ring_bell(out->bell);
    return true;
}

void remote_ring_out_nudge(struct remote_ring_out *out) {
    atomic_fetch_add(&out->memory.words->nudges, 1); /* a p1 of its own */
    (void)remote_ring_out_wake(out);
}

int remote_ring_out_want(struct remote_ring_out *out, size_t max_len, uint32_t who) {
    ASSERT(who != 0);
    ASSERT(max_len <= remote_record_max(out->memory.size));
    pthread_mutex_lock(&out->lock);
    atomic_store(&out->memory.words->wanted, who);
    int err = out->broken ? -EPROTO : look_for_room_locked(out, whole(max_len));
    pthread_mutex_unlock(&out->lock);
    return err;
}

int remote_ring_out_wait(struct remote_ring_out *out, size_t max_len, int64_t deadline_ns) {
    enum { WE = 1 };
    int err;
    while ((err = remote_ring_out_want(out, max_len, WE)) == -EAGAIN) {
        remote_sleep(&out->memory.words->wanted, WE, deadline_ns);
        if (deadline_ns != INT64_MAX && clock_mono_ns() >= deadline_ns)
            return -ETIMEDOUT;
    }
    return err;
}

/* ---- the consumer ---- */

void remote_ring_in_init(struct remote_ring_in *in, const struct remote_ring_memory *memory) {
    *in = (struct remote_ring_in){.memory = *memory};
}

static int broken(struct remote_ring_in *in) {
    in->broken = true;
    return -EPROTO;
}

static void tell_who_waits(struct remote_ring_in *in) {
    struct remote_ring_words *words = in->memory.words;
    in->told = in->head;
    (void)atomic_fetch_add(&words->head, 0);
    uint32_t who = atomic_load(&words->wanted) ? atomic_exchange(&words->wanted, 0) : 0;
    if (who == 0)
        return;
    if (in->tell)
        in->tell(in->tell_arg, who);
    else
        remote_wake(&words->wanted, INT_MAX);
}

/* The head of the record where we are; tail is beyond. */
static uint64_t read_head(const struct remote_ring_in *in) {
    const record_head *head = (const record_head *)(const void *)at(&in->memory, in->head);
    return atomic_load_explicit(head, memory_order_relaxed);
}

int remote_ring_in_next(struct remote_ring_in *in, struct remote_record *record) {
    ASSERT(in->current == 0);
    if (in->broken)
        return -EPROTO;
    if (in->tail == in->head) {
        uint64_t tail =
            atomic_load_explicit(&in->memory.words->tail, memory_order_acquire); /* (a) */
        if (tail - in->head > in->memory.size || tail % 8 != 0)                  /* R1 */
            return broken(in);
        in->tail = tail;
        if (tail == in->head)
            return -EAGAIN;
    }
    uint64_t word = read_head(in);
    if ((uint32_t)word == SKIP) {
        uint64_t next = round_end(&in->memory, in->head);
        if (next >= in->tail) /* a record is behind it */
            return broken(in);
        in->head = next;
        word = read_head(in);
    }
    uint32_t len = (uint32_t)word;
    if (len > remote_record_max(in->memory.size) || whole(len) > in->tail - in->head) /* R2 */
        return broken(in);
    in->current = (size_t)whole(len);
    /* Before anything of it is done: what died over it, has begun it. */
    atomic_store_explicit(&in->memory.words->begun, in->head + in->current, memory_order_release);
    record->kind = (uint32_t)(word >> 32);
    record->payload = span_make(at(&in->memory, in->head) + REMOTE_RECORD_HEAD, len);
    return 0;
}

uint64_t remote_ring_out_position(struct remote_ring_out *out) {
    pthread_mutex_lock(&out->lock);
    uint64_t position = out->tail;
    pthread_mutex_unlock(&out->lock);
    return position;
}

bool remote_ring_out_was_taken(const struct remote_ring_out *out, uint64_t position) {
    return atomic_load_explicit(&out->memory.words->begun, memory_order_acquire) > position;
}

void remote_ring_in_done(struct remote_ring_in *in) {
    ASSERT(in->current > 0);
    in->head += in->current;
    in->current = 0;
    atomic_store_explicit(&in->memory.words->head, in->head, memory_order_release); /* (b) */
    if (in->head - in->told >= in->memory.size / 4)
        tell_who_waits(in);
}

bool remote_ring_in_has(const struct remote_ring_in *in) {
    return in->tail != in->head ||
           atomic_load_explicit(&in->memory.words->tail, memory_order_relaxed) != in->head;
}

/* Who is about to sleep has given back all that he has taken: so a head that is the tail is the last word. */
bool remote_ring_in_is_quiet(const struct remote_ring_in *in) {
    const struct remote_ring_words *words = in->memory.words;
    return atomic_load(&words->asleep) != 0 &&
           atomic_load(&words->tail) == atomic_load(&words->head);
}

bool remote_ring_in_was_nudged(struct remote_ring_in *in) {
    uint32_t nudges = atomic_load_explicit(&in->memory.words->nudges, memory_order_acquire);
    bool was = nudges != in->nudges;
    in->nudges = nudges;
    return was;
}

bool remote_ring_in_fall_asleep(struct remote_ring_in *in) {
    struct remote_ring_words *words = in->memory.words;
    atomic_store(&words->asleep, 1); /* c1 */
    if (in->tail == in->head && atomic_load(&words->tail) == in->head &&
        atomic_load(&words->nudges) == in->nudges) /* c2 */
        return true;
    remote_ring_in_awake(in);
    return false;
}

void remote_ring_in_awake(struct remote_ring_in *in) {
    atomic_store_explicit(&in->memory.words->asleep, 0, memory_order_relaxed);
}

int remote_ring_in_wait(struct remote_ring_in *in, int64_t deadline_ns) {
    while (remote_ring_in_fall_asleep(in)) {
        remote_sleep(&in->memory.words->asleep, 1, deadline_ns);
        remote_ring_in_awake(in);
        if (remote_ring_in_has(in))
            break;
        if (deadline_ns != INT64_MAX && clock_mono_ns() >= deadline_ns)
            return -ETIMEDOUT;
    }
    return 0;
}
