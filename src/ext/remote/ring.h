/* ring: records from one process to another through shared memory; many producers, all of one process, and one
 * consumer.
 *
 *      producers ──begin, commit──► ┌──────────────────────┐ ──next, done──► consumer
 *          │                        │ records, in order    │                    │
 *          └──────── wake ────────► └──────────────────────┘ ◄─────── wait ─────┘
 *
 * Each end has a private handle, and believes only what it remembers there: see Trust.
 *
 * Trust      Nothing that the other process writes, or leaves unwritten, makes an end read or write outside of the
 *            ring, loop for ever or hang; what cannot be is -EPROTO, from then on for each call. What a payload says
 *            is another matter: it may change while one looks at it, so who does not trust the other end copies
 *            (remote_ring_in_copy) before it looks.
 * Death      The other process may end at any instruction. A record is there whole or not at all; no lock lives in
 *            shared memory.
 * Ownership  A handle borrows the memory (ring_memory.h) until its _fini; the memory is mapped meanwhile.
 * Threads    A remote_ring_out: any thread of the process, for everything. A remote_ring_in: one thread, or who
 *            takes turns in a way that orders them, as what runs on a P does.
 * Parks      Nothing does. _wait sleep the thread: for host processes, never on a P (port.h is for those). */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/span.h"
#include "ext/remote/ring_memory.h"

/* What a record takes beside its payload, and the multiple that it is rounded up to. */
enum { REMOTE_RECORD_HEAD = 8 };
/* A quarter, so that large ones do not have to wait for an empty ring, and one does not hold up all others. */
static inline size_t remote_record_max(uint32_t ring_size) {
    return ring_size / 4 - REMOTE_RECORD_HEAD;
}

/* ---- producers ---- */

/* How the consumer is woken. */
enum { REMOTE_BELL_NONE = -1 }; /* it sleeps on the ring's futex */

struct remote_ring_out {
    struct remote_ring_memory memory;
    int bell; /* an eventfd, or REMOTE_BELL_NONE */
    bool broken;
    pthread_mutex_t lock; /* of what is here and below */
    uint64_t tail, head;  /* the head as it was seen last */
    uint64_t start;       /* between begin and its end: where the record is, */
    size_t room;          /* and its max_len */
    uint64_t looked;      /* the part of the ring in which it was seen last whether all was taken */
};

/* bell: borrowed until _fini. */
void remote_ring_out_init(struct remote_ring_out *out, const struct remote_ring_memory *memory,
                          int bell);
void remote_ring_out_fini(struct remote_ring_out *out);

/* 0, and *room has room for a payload of max_len bytes: the caller holds the ring, and ends that soon, by commit or
 * cancel on the same thread, without parking. -EAGAIN: full; -EMSGSIZE: more than remote_record_max; -EPROTO. */
MUST_CHECK int remote_ring_out_begin(struct remote_ring_out *out, size_t max_len, char **room);
/* len <= max_len. The record is there for who looks; a consumer that sleeps goes on sleeping until remote_ring_out_wake. */
void remote_ring_out_commit(struct remote_ring_out *out, uint32_t kind, size_t len);
void remote_ring_out_cancel(struct remote_ring_out *out);
/* The three in one, of bytes that are there. */
MUST_CHECK int remote_ring_out_put(struct remote_ring_out *out, uint32_t kind, struct span payload);

/* After commits, one for any number of them: true when the consumer slept, and was woken. A system call then, a look
 * at a word else. */
bool remote_ring_out_wake(struct remote_ring_out *out);
/* News that is no record, and finds room always: the consumer is woken, and remote_ring_in_was_nudged. */
void remote_ring_out_nudge(struct remote_ring_out *out);

/* Of a full ring. 0: there is room for max_len by now, try again. -EAGAIN: the consumer is asked to tell `who` (not
 * 0) when it has made room, and who asks last is told; it tells by the futex of remote_ring_out_wait, unless it has
 * a function for it (struct remote_ring_in). -EPROTO. */
MUST_CHECK int remote_ring_out_want(struct remote_ring_out *out, size_t max_len, uint32_t who);
/* Sleeps until there is room for max_len: 0, and then it may be gone again. -ETIMEDOUT, -EPROTO. */
MUST_CHECK int remote_ring_out_wait(struct remote_ring_out *out, size_t max_len,
                                    int64_t deadline_ns);

/* Where what is put from now on will be, or behind it. */
uint64_t remote_ring_out_position(struct remote_ring_out *out);
/* Has the consumer, which is gone, looked at what was put at that position? The record that it died over counts. A
 * consumer that lies says what it likes. */
bool remote_ring_out_was_taken(const struct remote_ring_out *out, uint64_t position);

/* ---- the consumer ---- */

struct remote_record {
    uint32_t kind;       /* as the other end says */
    struct span payload; /* in the ring: borrowed until remote_ring_in_done */
};

struct remote_ring_in {
    struct remote_ring_memory memory;
    uint64_t head, tail; /* the tail as it was seen last */
    uint64_t told;       /* the head when producers were told last */
    uint32_t nudges;     /* as seen last */
    size_t current;      /* bytes of the record that next gave and done has not ended; 0: none */
    bool broken;
    /* Tells who waits for room, by the number given to remote_ring_out_want; NULL: all threads that wait on the
     * ring's futex. */
    void (*tell)(void *arg, uint32_t who);
    void *tell_arg;
};

void remote_ring_in_init(struct remote_ring_in *in, const struct remote_ring_memory *memory);

/* 0 with the oldest record, which stays until done; -EAGAIN: empty; -EPROTO. */
MUST_CHECK int remote_ring_in_next(struct remote_ring_in *in, struct remote_record *record);
/* Its room is the producers' again. */
void remote_ring_in_done(struct remote_ring_in *in);
/* From the record that next gave, size bytes from offset on to private memory; each byte is read once. The caller
 * stays within record->payload.len, which is private. */
static inline void remote_record_copy(const struct remote_record *record, size_t offset, void *to,
                                      size_t size) {
    ASSERT(offset <= record->payload.len);
    ASSERT(size <= record->payload.len - offset);
    memcpy(to, record->payload.ptr + offset, size);
}

/* True once for any number of nudges before. */
MUST_CHECK bool remote_ring_in_was_nudged(struct remote_ring_in *in);

/* A record is there, or the other end is broken: one load of shared memory. */
bool remote_ring_in_has(const struct remote_ring_in *in);

/* Everything that was there is done, and the consumer sleeps. Any thread of the consumer's process: true is so until the
 * next record. */
bool remote_ring_in_is_quiet(const struct remote_ring_in *in);

/* Sleeps until there is a record or a nudge: 0, or -ETIMEDOUT. */
MUST_CHECK int remote_ring_in_wait(struct remote_ring_in *in, int64_t deadline_ns);

/* For who sleeps elsewhere, on the bell. False: there is something, so do not sleep. True: from now on
 * remote_ring_out_wake rings the bell, once; awake takes that back, as far as that is still possible. */
MUST_CHECK bool remote_ring_in_fall_asleep(struct remote_ring_in *in);
void remote_ring_in_awake(struct remote_ring_in *in);
