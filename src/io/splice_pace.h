/* splice_pace: whether the next bytes of a stream are worth splicing, and how many of them at a time.
 *
 *     reader_next   ─ lent bytes ─► a send             copied twice by the kernel, in and out
 *     reader_splice ─ a pipe ─────► splice_send        not at all
 *
 * Which way      Splicing is for bytes that nobody looks at (the reader says so), that are known to come, and
 *                that come in large pieces: it takes a system call more than a receive and a send do, and
 *                saves copying. So it begins where SPLICE_LEAST bytes are still unread, and a piece of less
 *                than LITTLE sends the stream back to copying, until a copied run of a good part of a
 *                block shows that there is more to be had at once. A stream whose length nobody knows begins
 *                with that proof.
 * How much       As much at a time as the receiver takes at a time: `step` doubles when the peer took a whole
 *                one at once and halves when it did not, between a block and SPLICE_MAX. What a receiver
 *                does not take stays in the pipe, so this bounds the kernel's memory that a slow one
 *                pins. One that does not even take a block at once is served by copying for a while, and
 *                leaves its pipe to others.
 * Whose turn     Both peers may be fast enough for a copy to go on without ever waiting. After a TURN_COST of
 *                it others run, those among them that have something to read by now. A byte through a pipe costs
 *                about a quarter of a copied one, and the turns may be longer: a step of SPLICE_MAX is one, of some
 *                350 us, and so are smaller ones together. Each end of a turn is a call of the poller, and with one
 *                for every 256 KiB there were 1.0 of those per MB of TCP instead of 0.8.
 *                Through memory in large pieces (TLS) it costs no less than a copied one, so a turn of about that
 *                long is 256 KiB.
 *
 * Threads        One coroutine at a time. Never parks. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/splice.h"

enum splice_pace_comes { SPLICE_PACE_UNKNOWN, SPLICE_PACE_LARGE, SPLICE_PACE_LITTLE };

struct splice_pace { /* private */
    uint32_t step;   /* to be spliced at a time */
    uint8_t comes;   /* enum splice_pace_comes: how the bytes do, by the last of them */
    uint8_t copies;  /* runs that are not to be spliced */
    bool splices;    /* the last bytes were spliced */
};

enum {
    SPLICE_PACE_ASK = 64 * 1024,        /* of a reader at a time when copying */
    SPLICE_PACE_TURN_COST = 64 * 1024,  /* in copied bytes: 60 to 80 us */
    SPLICE_PACE_PER_COST = 16,          /* bytes through a pipe for a copied one */
    SPLICE_PACE_PER_MEMORY_COST = 4,    /* and through memory */
    SPLICE_PACE_LEAST = 16 * 1024,      /* to begin with */
    SPLICE_PACE_LITTLE_SIZE = 4 * 1024, /* not worth it, even in the middle */
    SPLICE_PACE_LARGE_RUN = 8 * 1024,
    SPLICE_PACE_STEP_LEAST = BLOCK_DATA_SIZE,
    SPLICE_PACE_STEP_FIRST = 64 * 1024,
    SPLICE_PACE_COPIES = 16, /* runs, for a receiver that takes little */
};

static inline void splice_pace_init(struct splice_pace *pace) {
    *pace = (struct splice_pace){.step = SPLICE_PACE_STEP_FIRST};
}

/* How much to splice now, up to `most`, of a reader that has so much unread (reader_unread); 0: the next
 * bytes are copied. */
static inline size_t splice_pace_size(const struct splice_pace *pace, uint64_t unread,
                                      size_t most) {
    if (unread < SPLICE_PACE_LITTLE_SIZE || pace->comes == SPLICE_PACE_LITTLE || pace->copies)
        return 0;
    if (!pace->splices && unread < SPLICE_PACE_LEAST)
        return 0;
    if (unread == UINT64_MAX && pace->comes == SPLICE_PACE_UNKNOWN)
        return 0;
    return most < pace->step ? most : pace->step;
}

/* A pipe was had, and filled with `moved` bytes; 0: it was not to be. */
static inline void splice_pace_took(struct splice_pace *pace, size_t moved) {
    pace->splices = moved > 0;
}

/* All of the pipe went out. blocked: not at once. */
static inline void splice_pace_spliced(struct splice_pace *pace, size_t moved, bool blocked) {
    pace->comes = moved < SPLICE_PACE_LITTLE_SIZE ? SPLICE_PACE_LITTLE : SPLICE_PACE_LARGE;
    if (blocked) {
        if (pace->step == SPLICE_PACE_STEP_LEAST)
            pace->copies = SPLICE_PACE_COPIES;
        pace->step =
            pace->step / 2 < SPLICE_PACE_STEP_LEAST ? SPLICE_PACE_STEP_LEAST : pace->step / 2;
    } else if (moved >= pace->step) {
        pace->step = pace->step * 2 > SPLICE_MAX ? SPLICE_MAX : pace->step * 2;
    }
}

/* What spliced bytes cost of a turn. */
static inline uint32_t splice_pace_cost(bool through_memory, size_t bytes) {
    return (uint32_t)bytes / (through_memory ? SPLICE_PACE_PER_MEMORY_COST : SPLICE_PACE_PER_COST);
}

/* A run went out that was copied. */
static inline void splice_pace_copied(struct splice_pace *pace, size_t run) {
    if (run >= SPLICE_PACE_LARGE_RUN)
        pace->comes = SPLICE_PACE_LARGE;
    if (pace->copies)
        pace->copies--;
}
