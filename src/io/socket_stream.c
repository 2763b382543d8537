#include "io/socket_stream.h"

#include <errno.h>

#include "io/splice.h"
#include "io/sys.h"
#include "rt/rt.h"

/* ---- Reading ---- */

void socket_reader_init(struct socket_reader *reader, struct socket *socket, struct inbuf *in,
                        const char *reason, int64_t idle_ns) {
    *reader =
        (struct socket_reader){.socket = socket, .in = in, .reason = reason, .idle_ns = idle_ns};
}

static inline void use_up_lent(struct socket_reader *reader) {
    inbuf_consume(reader->in, reader->lent);
    reader->lent = 0;
    if (!reader->in->block)
        inbuf_idle(reader->in); /* an arena's, to which nothing is added */
}

void socket_reader_done(struct socket_reader *reader) {
    use_up_lent(reader);
    inbuf_idle(reader->in);
}

void socket_reader_resume(struct socket_reader *reader) {
    if (reader->error == -ECANCELED)
        reader->error = 0;
}

static int64_t until(int64_t wait_ns) {
    return wait_ns == RT_FOREVER ? RT_FOREVER : rt_now_ns() + wait_ns;
}

/* Nothing, more of which is not to be had: the end, or an error. */
static ssize_t over(struct socket_reader *reader, ssize_t rc) {
    if (rc == 0)
        reader->ended = true;
    else
        reader->error = (int)rc;
    return rc;
}

static ssize_t lend(struct socket_reader *reader, size_t max, struct span *out) {
    struct span bytes = inbuf_bytes(reader->in);
    reader->lent = (uint32_t)(bytes.len < max ? bytes.len : max);
    *out = span_make(bytes.ptr, reader->lent);
    return reader->lent;
}

static ssize_t next(void *data, size_t max, struct span *out) {
    struct socket_reader *reader = data;
    *out = span_make("", 0);
    use_up_lent(reader);
    if (inbuf_len(reader->in) == 0) {
        if (reader->error || reader->ended)
            return reader->error;
        ssize_t n =
            socket_receive(reader->socket, reader->in, reader->reason, until(reader->idle_ns));
        if (n <= 0)
            return over(reader, n);
    }
    return lend(reader, max, out);
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    struct socket_reader *reader = data;
    *out = span_make("", 0);
    use_up_lent(reader);
    if (inbuf_len(reader->in) == 0) {
        if (reader->error || reader->ended)
            return reader->error;
        ssize_t n = socket_try_receive(reader->socket, reader->in);
        if (n <= 0)
            inbuf_idle(reader->in); /* who waits holds no memory */
        if (n <= 0)
            return n == -EAGAIN ? n : over(reader, n);
    }
    return lend(reader, max, out);
}

static enum reader_peek peek(void *data) {
    const struct socket_reader *reader = data;
    if (inbuf_len(reader->in) > reader->lent || reader->error)
        return READER_READY;
    return reader->ended ? READER_END : READER_MAY_PARK;
}

static uint64_t unread(void *data) {
    const struct socket_reader *reader = data;
    bool none = reader->error || reader->ended || inbuf_len(reader->in) > reader->lent;
    return none ? 0 : UINT64_MAX;
}

static ssize_t splice_in(void *data, struct splice *splice, size_t max) {
    struct socket_reader *reader = data;
    ASSERT(unread(data) > 0);
    socket_reader_done(reader);
    ssize_t n = splice_receive(splice, reader->socket, max, reader->reason, until(reader->idle_ns));
    return n > 0 || n == -ENOBUFS ? n : over(reader, n);
}

static ssize_t try_splice_in(void *data, struct splice *splice, size_t max) {
    struct socket_reader *reader = data;
    ASSERT(unread(data) > 0);
    socket_reader_done(reader);
    ssize_t n = splice_try_receive(splice, reader->socket, max);
    return n > 0 || n == -ENOBUFS || n == -EAGAIN ? n : over(reader, n);
}

static void close_reader(void *data) {
    struct socket_reader *reader = data;
    socket_reader_done(reader);
    if (!reader->error && !reader->ended)
        reader->error = -ECANCELED;
}

struct reader socket_reader(struct socket_reader *reader) {
    static const struct reader_itab itab = {.next = next,
                                            .close = close_reader,
                                            .peek = peek,
                                            .unread = unread,
                                            .splice = splice_in,
                                            .try_next = try_next,
                                            .try_splice = try_splice_in};
    return (struct reader){&itab, reader};
}

/* ---- Writing ---- */

void socket_writer_init(struct socket_writer *writer, struct socket *socket, const char *reason,
                        int64_t stall_ns) {
    *writer = (struct socket_writer){.socket = socket, .reason = reason, .stall_ns = stall_ns};
}

static int sticky(struct socket_writer *writer, ssize_t rc) {
    if (rc < 0)
        writer->error = (int)rc;
    return (int)rc;
}

static int write_pieces(void *data, struct iovec *pieces, int count) {
    struct socket_writer *writer = data;
    ASSERT(!writer->finished);
    if (writer->error)
        return writer->error;
    return sticky(writer,
                  socket_send(writer->socket, pieces, count, writer->reason, writer->stall_ns));
}

static ssize_t tried(struct socket_writer *writer, ssize_t n) {
    return n >= 0 || n == -EAGAIN || n == -EOPNOTSUPP ? n : sticky(writer, n);
}

static ssize_t try_write(void *data, const struct iovec *pieces, int count) {
    struct socket_writer *writer = data;
    ASSERT(!writer->finished);
    if (writer->error)
        return writer->error;
    return tried(writer, socket_try_send(writer->socket, pieces, count));
}

static enum writer_splices can_splice(void *data) {
    const struct socket_writer *writer = data;
    return socket_can_splice(writer->socket) ? WRITER_SPLICES_PIPE : WRITER_SPLICES_MEMORY;
}

static ssize_t splice_out(void *data, struct splice *splice) {
    struct socket_writer *writer = data;
    ASSERT(!writer->finished);
    if (writer->error)
        return writer->error;
    ssize_t n = splice_send(splice, writer->socket, false, writer->reason, writer->stall_ns);
    return n < 0 ? sticky(writer, n) : n;
}

static ssize_t try_splice_out(void *data, struct splice *splice) {
    struct socket_writer *writer = data;
    ASSERT(!writer->finished);
    if (writer->error)
        return writer->error;
    return tried(writer, splice_try_send(splice, writer->socket, false));
}

static int finish(void *data) {
    struct socket_writer *writer = data;
    ASSERT(!writer->finished);
    writer->finished = true;
    return writer->error ? writer->error : sticky(writer, socket_shutdown(writer->socket));
}

static void abort_writer(void *data) {
    struct socket_writer *writer = data;
    socket_reset_on_close(writer->socket);
    if (!writer->error)
        writer->error = -ECANCELED;
}

struct writer socket_writer(struct socket_writer *writer) {
    static const struct writer_itab itab = {.write = write_pieces,
                                            .try_write = try_write,
                                            .can_splice = can_splice,
                                            .splice = splice_out,
                                            .try_splice = try_splice_out,
                                            .finish = finish,
                                            .abort = abort_writer};
    return (struct writer){&itab, writer};
}
