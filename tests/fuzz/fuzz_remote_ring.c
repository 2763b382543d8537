/* A ring whose other end is hostile: it writes anything anywhere in the shared memory between any two steps of ours.
 * Whatever it does, each end stays within the memory, ends its loops, and once it has called the other broken it
 * does not change its mind.
 *
 * The input is a list of steps of three bytes or more: what, and two that say how much. The data is not mapped twice
 * here, but a block of twice the size, so that ASan sees what goes beyond. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ext/remote/ring.h"

enum { SIZE = 2 * REMOTE_RING_SIZE_MIN, INPUT_MAX = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step {
    WRITE_TAIL,
    WRITE_HEAD,
    WRITE_RECORD, /* where the consumer looks next: length and kind as they come */
    WRITE_BYTES,  /* anywhere */
    WRITE_WORDS,  /* the other words */
    PUT,          /* by our end, which then may be at work beside the hostile one */
    PUT_CUT,      /* begin, and cancel or commit of less */
    WANT,
    TAKE,
    TAKE_ALL,
    SLEEP,
    NUDGE,
    STEPS
};

struct ends {
    struct remote_ring_out out;
    struct remote_ring_in in;
    bool out_broken, in_broken;
};

/* R1 of ring.c, of what each end believes. */
static void check_believed(uint64_t head, uint64_t tail) {
    ASSERT(head <= tail && tail - head <= SIZE);
    ASSERT(head % 8 == 0 && tail % 8 == 0);
}

static void check_out(struct ends *ends, int err) {
    ASSERT(err == 0 || err == -EAGAIN || err == -EPROTO);
    ASSERT(!ends->out_broken || err == -EPROTO);
    ends->out_broken |= err == -EPROTO;
}

static bool take(struct ends *ends, uint32_t *sum) {
    struct remote_record record;
    int err = remote_ring_in_next(&ends->in, &record);
    ASSERT(err == 0 || err == -EAGAIN || err == -EPROTO);
    ASSERT(!ends->in_broken || err == -EPROTO);
    ends->in_broken |= err == -EPROTO;
    if (err < 0)
        return false;
    static char copy[SIZE];
    ASSERT(record.payload.len <= remote_record_max(SIZE));
    remote_record_copy(&record, 0, copy, record.payload.len);
    for (size_t i = 0; i < record.payload.len; i++)
        *sum += (unsigned char)copy[i];
    remote_ring_in_done(&ends->in);
    return true;
}

static void put_cut(struct ends *ends, size_t most, size_t len) {
    char *room;
    int err = remote_ring_out_begin(&ends->out, most, &room);
    check_out(ends, err);
    if (err < 0)
        return;
    memset(room, 'r', most);
    if (len <= most)
        remote_ring_out_commit(&ends->out, 2, len);
    else
        remote_ring_out_cancel(&ends->out);
}

/* Small numbers, and those just around the end of the ring and of what counts as one. */
static uint64_t some_offset(uint64_t from, uint16_t much) {
    static const uint64_t far[] = {0, SIZE, 2 * SIZE, UINT64_MAX, 1ULL << 32, 1ULL << 63};
    return from + (much >> 4) * 8ULL + far[much % 6] + (much % 16 == 14);
}

static void do_step(struct ends *ends, unsigned what, uint16_t much, uint32_t *sum) {
    struct remote_ring_words *words = ends->in.memory.words;
    char *at = ends->in.memory.data;
    static char bytes[SIZE];
    switch ((enum step)(what % STEPS)) {
    case WRITE_TAIL:
        atomic_store(&words->tail, some_offset(ends->in.head, much));
        break;
    case WRITE_HEAD:
        atomic_store(&words->head, some_offset(ends->out.head, much));
        break;
    case WRITE_RECORD: {
        uint64_t head = (uint64_t)what << 32 | (uint32_t)some_offset(0, much);
        memcpy(at + ends->in.head % SIZE, &head, sizeof head);
        break;
    }
    case WRITE_BYTES:
        memset(at + much, (int)what, SIZE - much < 100 ? SIZE - (size_t)much : 100);
        break;
    case WRITE_WORDS:
        atomic_store(&words->wanted, much);
        atomic_store(&words->asleep, much / 2);
        atomic_store(&words->nudges, much);
        break;
    case PUT:
        check_out(ends, remote_ring_out_put(&ends->out, 1,
                                            span_make(bytes, much % remote_record_max(SIZE))));
        break;
    case PUT_CUT:
        put_cut(ends, much / 8, much % 8192);
        break;
    case WANT:
        check_out(ends, remote_ring_out_want(&ends->out, much % remote_record_max(SIZE), 1));
        break;
    case TAKE:
        (void)take(ends, sum);
        break;
    case TAKE_ALL: { /* nobody writes meanwhile: it ends after what a ring can hold */
        unsigned count = 0;
        while (take(ends, sum))
            ASSERT(++count <= 2 * SIZE / REMOTE_RECORD_HEAD);
        break;
    }
    case SLEEP:
        if (remote_ring_in_fall_asleep(&ends->in))
            remote_ring_in_awake(&ends->in);
        if (!remote_ring_in_was_nudged(&ends->in) && !remote_ring_in_has(&ends->in))
            ASSERT(remote_ring_in_wait(&ends->in, 1) == -ETIMEDOUT);
        (void)remote_ring_out_wake(&ends->out);
        break;
    case NUDGE:
        if (remote_ring_in_was_nudged(&ends->in)) /* by nobody, perhaps */
            ASSERT(!remote_ring_in_was_nudged(&ends->in));
        remote_ring_out_nudge(&ends->out);
        ASSERT(remote_ring_in_was_nudged(&ends->in));
        break;
    case STEPS:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > INPUT_MAX)
        return 0;
    static _Alignas(128) struct remote_ring_words words;
    memset(&words, 0, sizeof words);
    struct remote_ring_memory memory = {.words = &words, .data = calloc(2, SIZE), .size = SIZE};
    ASSERT(memory.data);
    struct ends ends = {0};
    remote_ring_out_init(&ends.out, &memory, REMOTE_BELL_NONE);
    remote_ring_in_init(&ends.in, &memory);
    uint32_t sum = 0;
    for (size_t i = 0; i + 3 <= size; i += 3) {
        do_step(&ends, data[i], (uint16_t)(data[i + 1] << 8 | data[i + 2]), &sum);
        check_believed(ends.in.head, ends.in.tail);
        check_believed(ends.out.head, ends.out.tail);
    }
    remote_ring_out_fini(&ends.out);
    free(memory.data);
    return (int)(sum & 0); /* what was read was looked at */
}
