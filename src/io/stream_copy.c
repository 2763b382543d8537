/* stream_copy: see the header for what it is, and splice_pace.h for when it splices.
 *
 *     take ──► [ pipe ]  or  [ gathered ][ lent ] ──► put ──► written
 *               one of the two, never both
 *
 * I1  Nothing is taken before all that was taken is written: `take` runs only when stream_copy_held is 0. So what the
 *     reader lent stays valid until it is written, and the order is the order of taking.
 * I2  A pipe is held only while bytes are in it, a block only while it has gathered ones.
 *
 * Gathering   A run of less than LITTLE bytes behind which the reader has more at once (a prefix before a body, small
 *             chunks that came together) is copied, and leaves with what follows by one call: copying some
 *             hundred bytes costs a hundredth of a call. It stops at the first run that is large, which goes along
 *             from where it lies, and where the reader would have to be waited for.
 * Errors      Those of a reader stick, as does its end: what stops the gathering shows again at the next take, when
 *             what was gathered is out.
 *
 * Rejected    Flagging what other bytes follow (MSG_MORE): a call more each, and the kernel's timer when what was
 *             announced is an error. A vector of spans from the reader: each decorator would have to cut
 *             and count vectors, for what gathering does with readers that know nothing of it. */
#include "io/stream_copy.h"

#include <assert.h>
#include <string.h>

#include "rt/io_counts.h"
#include "rt/rt.h"

enum { LITTLE = 2048 };
static_assert(BLOCK_DATA_SIZE <= UINT16_MAX, "start and end");

/* No result yet: go on. */
enum { GO_ON = -1 };

void stream_copy_init(struct stream_copy *copy, struct reader from, struct writer to,
                      struct splice_pool *pipes) {
    copy->bytes = 0;
    copy->limit = UINT64_MAX;
    copy->step_max = SPLICE_MAX;
    copy->error = 0;
    copy->moved = NULL;
    copy->from = from;
    copy->to = to;
    copy->splice = splice_begin(pipes);
    copy->lent = span_none();
    copy->block = NULL;
    copy->start = copy->end = 0;
    copy->spliced = copy->cost = 0;
    splice_pace_init(&copy->pace);
    copy->splices = (uint8_t)(pipes ? writer_can_splice(to) : WRITER_SPLICES_NOT);
    copy->splice.through_memory = copy->splices == WRITER_SPLICES_MEMORY;
    copy->blocked = false;
}

static void drop_block(struct stream_copy *copy) {
    if (copy->block)
        block_put(rt_blocks(), copy->block);
    copy->block = NULL;
    copy->start = copy->end = 0;
}

void stream_copy_end(struct stream_copy *copy) {
    if (copy->splice.has_pipe)
        splice_end(&copy->splice);
    copy->splice.held = 0;
    copy->lent = span_none();
    drop_block(copy);
}

static void note_moved(struct stream_copy *copy, size_t bytes) {
    copy->bytes += bytes;
    if (copy->moved)
        copy->moved(copy, bytes);
}

static int failed(struct stream_copy *copy, enum stream_result which, ssize_t error) {
    copy->error = (int)error;
    return (int)which;
}

/* ---- Writing what was taken ---- */

static int put_failed(struct stream_copy *copy, enum stream_mode mode, ssize_t error) {
    if (mode == STREAM_TRY && (error == -EAGAIN || error == -EOPNOTSUPP))
        return STREAM_WRITE_WAITS;
    return failed(copy, STREAM_WRITE_FAILED, error);
}

/* Of what went through memory and not through a pipe the reader might have lent as much. */
static int put_spliced(struct stream_copy *copy, enum stream_mode mode) {
    struct splice *splice = &copy->splice;
    struct io_counts *counts = io_counts_here();
    bool lent = splice->memory != NULL;
    while (splice->held) {
        ssize_t n = mode == STREAM_TRY ? writer_try_splice(copy->to, splice)
                                       : writer_splice(copy->to, splice);
        if (n <= 0) {
            copy->blocked = true;
            return put_failed(copy, mode, n);
        }
        copy->blocked = copy->blocked || splice->held;
        io_counts_add(counts, lent ? IO_STREAM_LEND_BYTES : IO_STREAM_SPLICE_BYTES, (uint64_t)n);
        copy->cost += splice_pace_cost(lent, (size_t)n);
        note_moved(copy, (size_t)n);
    }
    splice_end(splice);
    io_counts_add(counts, lent ? IO_STREAM_LENDS : IO_STREAM_SPLICES, 1);
    splice_pace_spliced(&copy->pace, copy->spliced, copy->blocked);
    copy->blocked = false;
    return GO_ON;
}

/* n bytes are out, the gathered ones first. */
static void advance(struct stream_copy *copy, size_t n) {
    struct io_counts *counts = io_counts_here();
    size_t gathered = (size_t)(copy->end - copy->start), of_block = n < gathered ? n : gathered;
    if (of_block) {
        copy->start = (uint16_t)(copy->start + of_block);
        io_counts_add(counts, IO_STREAM_COPY_BYTES, of_block);
    }
    if (n > of_block) {
        copy->lent = span_from(copy->lent, n - of_block);
        io_counts_add(counts, IO_STREAM_LEND_BYTES, n - of_block);
    }
    copy->cost += (uint32_t)n;
    note_moved(copy, n);
}

static int put_pieces(struct stream_copy *copy, enum stream_mode mode) {
    size_t size;
    while ((size = stream_copy_held(copy)) > 0) {
        struct iovec pieces[2];
        int n_pieces = 0;
        if (copy->end > copy->start)
            pieces[n_pieces++] =
                (struct iovec){copy->block->data + copy->start, (size_t)(copy->end - copy->start)};
        if (copy->lent.len)
            pieces[n_pieces++] = (struct iovec){(void *)(uintptr_t)copy->lent.ptr, copy->lent.len};
        ssize_t n = mode == STREAM_TRY ? writer_try_write(copy->to, pieces, n_pieces)
                                       : writer_write(copy->to, pieces, n_pieces);
        if (n < 0)
            return put_failed(copy, mode, n);
        advance(copy, mode == STREAM_TRY ? (size_t)n : size);
        if (mode == STREAM_TRY && n == 0)
            return STREAM_WRITE_WAITS;
    }
    drop_block(copy);
    return GO_ON;
}

static int put(struct stream_copy *copy, enum stream_mode mode) {
    if (copy->splice.held)
        return put_spliced(copy, mode);
    return stream_copy_held(copy) ? put_pieces(copy, mode) : GO_ON;
}

/* ---- Taking ---- */

static int take_ended(struct stream_copy *copy, ssize_t n) {
    if (n == 0)
        return STREAM_END;
    if (n == -EAGAIN)
        return STREAM_READ_WAITS;
    if (n == -EOPNOTSUPP)
        return STREAM_READ_UNKNOWN;
    return failed(copy, STREAM_READ_FAILED, n);
}

static size_t size_to_splice(struct stream_copy *copy, uint64_t left) {
    if (copy->splices == WRITER_SPLICES_NOT)
        return 0;
    size_t size = splice_pace_size(&copy->pace, reader_unread(copy->from), copy->step_max);
    if (size > left)
        size = (size_t)left;
    return size && splice_can_begin(copy->splice.pool, copy->splice.through_memory, copy->step_max)
               ? size
               : 0;
}

/* What the reader lends, after little runs of it that are there. */
static int take_lent(struct stream_copy *copy, enum stream_mode mode, size_t max) {
    struct span run;
    ssize_t n = mode == STREAM_WAIT ? reader_next(copy->from, max, &run)
                                    : reader_try_next(copy->from, max, &run);
    if (n <= 0)
        return take_ended(copy, n);
    size_t size = run.len;
    while (run.len < LITTLE && size < max && copy->end + run.len <= BLOCK_DATA_SIZE &&
           reader_peek(copy->from) == READER_READY) {
        if (!copy->block && !(copy->block = block_get(rt_blocks())))
            break;
        memcpy(copy->block->data + copy->end, run.ptr, run.len);
        copy->end = (uint16_t)(copy->end + run.len);
        n = reader_next(copy->from, max - size, &run);
        if (n <= 0) {
            run = span_none();
            break;
        }
        size += run.len;
    }
    copy->lent = run;
    struct io_counts *counts = io_counts_here();
    if (run.len)
        io_counts_add(counts, IO_STREAM_LENDS, 1);
    if (copy->end) {
        io_counts_add(counts, IO_STREAM_COPIES, 1);
        io_counts_add(counts, IO_COPIED_BYTES, copy->end);
    }
    splice_pace_copied(&copy->pace, size);
    return GO_ON;
}

static int take(struct stream_copy *copy, enum stream_mode mode) {
    uint64_t left = copy->limit - copy->bytes;
    if (left == 0)
        return STREAM_END;
    size_t size = size_to_splice(copy, left);
    ssize_t n = -ENOBUFS;
    if (size) {
        n = mode == STREAM_WAIT ? reader_splice(copy->from, &copy->splice, size)
                                : reader_try_splice(copy->from, &copy->splice, size);
        splice_pace_took(&copy->pace, n > 0 ? (size_t)n : 0);
    }
    if (n > 0) {
        copy->spliced = (uint32_t)n;
        return GO_ON;
    }
    if (n != -ENOBUFS && n != -EOPNOTSUPP)
        return take_ended(copy, n);
    size = copy->step_max < SPLICE_PACE_ASK ? copy->step_max : SPLICE_PACE_ASK;
    return take_lent(copy, mode, left < size ? (size_t)left : size);
}

/* ---- */

/* Enough of it: others first. */
static int end_turn(struct stream_copy *copy, enum stream_mode mode) {
    if (copy->cost < SPLICE_PACE_TURN_COST || reader_peek(copy->from) == READER_END)
        return GO_ON;
    copy->cost = 0;
    if (mode == STREAM_TRY)
        return STREAM_TURN;
    rt_yield_to_events();
    /* Whoever never has to wait would else never hear of it. */
    return rt_cancelled() ? failed(copy, STREAM_READ_FAILED, -ECANCELED) : GO_ON;
}

enum stream_result stream_copy_run(struct stream_copy *copy, enum stream_mode mode) {
    int result;
    for (;;) {
        result = put(copy, mode);
        if (result == GO_ON)
            result = end_turn(copy, mode);
        if (result == GO_ON)
            result = take(copy, mode);
        if (result != GO_ON)
            return (enum stream_result)result;
    }
}
