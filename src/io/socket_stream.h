/* socket_stream: a socket as a reader and as a writer.
 *
 * The reader lends bytes where the socket put them, in an inbuf, and reads more only when what it lent is
 * used up; what is not in memory yet it also splices. While it waits it holds no memory. The writer sends
 * from where the bytes lie, and splices.
 *
 * Ownership  Both borrow the socket (and the reader its buffer) until their owner drops them; closing them
 *            closes nothing of the socket, which has two ends and one owner. Bytes that the reader has not
 *            lent, or lent and not got back, are in the buffer for whoever is next.
 * Threads    The socket's P. One coroutine may read and another write.
 * Parks      reads for bytes and writes for room, each under the reason that it was given (static).
 * Deadlines  idle_ns and stall_ns are of each wait: -ETIMEDOUT when so long nothing came, or nothing was
 *            taken. RT_FOREVER: no limit. Both may be changed between calls. */
#pragma once
#include "io/inbuf.h"
#include "io/reader.h"
#include "io/socket.h"
#include "io/writer.h"

struct socket_reader {
    struct socket *socket;
    struct inbuf *in;
    const char *reason;
    int64_t idle_ns;
    uint32_t lent; /* bytes of `in` that the last span covered */
    int error;     /* sticky, negative errno; 0: none */
    bool ended;    /* the peer sends no more */
};

void socket_reader_init(struct socket_reader *reader, struct socket *socket BORROWED_BY(reader),
                        struct inbuf *in BORROWED_BY(reader),
                        const char *reason BORROWED_BY(program), int64_t idle_ns);
struct reader socket_reader(struct socket_reader *reader BORROWED_BY(result));
/* What was lent last is used up, without asking for more: the memory may go. */
void socket_reader_done(struct socket_reader *reader);
/* A read was cancelled so that its coroutine does something else first: the next one is not refused. */
void socket_reader_resume(struct socket_reader *reader);

struct socket_writer {
    struct socket *socket;
    const char *reason;
    int64_t stall_ns;
    int error; /* sticky, negative errno; 0: none */
    bool finished;
};

void socket_writer_init(struct socket_writer *writer, struct socket *socket BORROWED_BY(writer),
                        const char *reason BORROWED_BY(program), int64_t stall_ns);
/* finish: the peer sees the end of what we send (TCP: FIN). abort: once its owner closes the socket, the peer
 * sees a reset. */
struct writer socket_writer(struct socket_writer *writer BORROWED_BY(result));
