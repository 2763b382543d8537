/* tls: a connection after its handshake, between the wire and the user's bytes.
 *
 *      wire ──recv──► OpenSSL's read buffer ──decrypts in place, copies──► the user's memory
 *      user's pieces ──gathered into records of 16 KiB──► OpenSSL's write buffer ──┬─ one record: send
 *                                      several: room of the P, one send for them ──┘
 *
 * OpenSSL sees the wire through a BIO whose functions never wait. Reading is one recv into OpenSSL's own
 * buffer, with all that there is up to a record (read_ahead: without it each record would be two
 * calls, one for its five bytes of header). In bulk, which is where the user has room for several records, it is
 * one recv into room of the P's, of no more than is certain to fit the user's when it is decrypted, so nothing of it
 * is left there; half a record at its end is in OpenSSL's buffer then. Its buffers are there only while they hold something
 * (SSL_MODE_RELEASE_BUFFERS), so an idle connection has none, and one in the middle of a record has one.
 *
 * T1  No coroutine parks inside OpenSSL: its queue of errors and its random numbers belong to the thread, and who
 *     wakes may be on another one. All waiting is socket.c's, behind -EAGAIN.
 * T2  The queue of errors is empty between our functions: whoever makes one fail empties it.
 * T3  Writing never blocks, as far as OpenSSL knows: what the kernel does not take is kept (unsent) and goes
 *     first the next time. What the user is not told to be sent of it is `owed` (transport.h): he
 *     comes again with the same bytes, and those are only flushed. Of a send that was given up the rest
 *     stays in unsent, because half a record must not be followed by another.
 * T4  OpenSSL takes the end of the wire for an end (SSL_OP_IGNORE_UNEXPECTED_EOF): it would not write any more
 *     otherwise, and who ends his way so still wants his answer. That it was not said is kept (truncated).
 * T5  After an error there is no more OpenSSL: it says so again and again, from `error`.
 *
 * Threads  The P's, but for the handshake, which runs on other threads and so touches no socket (tls_handshake.c).
 *
 * Rejected  More than a record in OpenSSL's buffer: OpenSSL 3.0 moves what is behind a record there each time it begins
 *           one. A P's buffer to receive into where less than four records have room: from there everything is
 *           copied once more.
 *           Small records to begin with, so that a client sees the first bytes before a whole 16 KiB came:
 *           each record costs about a thousand instructions, most responses are smaller than one, and
 *           neither Envoy nor nginx does. */
#include "io/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "base/stats.h"
#include "io/splice.h"
#include "io/tls_internal.h"
#include "rt/rt.h"

enum {
    RECORD = SSL3_RT_MAX_PLAIN_LENGTH,
    RECORD_ON_WIRE = RECORD + 5 + SSL3_RT_MAX_ENCRYPTED_OVERHEAD,
    MANY = 4 * RECORD, /* room that is worth receiving into in bulk */
    RECORDS_AT_ONCE = SPLICE_MEMORY_SIZE / RECORD,
};

/* Of a P: what is written during one of its functions. */
struct tls_out {
    size_t used;
    char gathered[RECORD];
    char bytes[RECORDS_AT_ONCE * RECORD_ON_WIRE];
};
static struct tls_out *outs[RT_P_MAX]; /* each its P's; made when first needed, and kept */

static struct tls_out *out_here(void) {
    struct tls_out **out = &outs[rt_p_index()];
    if (!*out)
        *out = malloc(sizeof **out);
    return *out;
}

/* memcpy of a whole record is `rep movsb`, which on some processors (Zen 3 and 4) does 1.9 GB/s instead of 40 where
 * the addresses modulo a page are just behind one another, and where a record and its copy lie does not
 * change. Of pieces below glibc's threshold for that it is a loop, of 36 GB/s at any address. */
static void copy_record(char *to, const char *from, size_t size) {
    enum { PIECE = 2048 };
    while (size) {
        size_t n = size < PIECE ? size : PIECE;
        memcpy(to, from, n);
        to += n;
        from += n;
        size -= n;
    }
}

/* ---- What the kernel does not take ---- */

int tls_keep_unsent(struct tls *tls, const char *bytes, size_t size) {
    size_t end = tls->unsent_at + tls->unsent_size;
    if (end + size > tls->unsent_room) {
        size_t room = end + size + (tls->handshaking ? RECORD / 4 : 0);
        char *grown = realloc(tls->unsent, room);
        if (!grown)
            return -ENOMEM;
        tls->unsent = grown;
        tls->unsent_room = room;
    }
    memcpy(tls->unsent + end, bytes, size);
    tls->unsent_size += size;
    return 0;
}

static void drop_unsent(struct tls *tls) {
    free(tls->unsent);
    tls->unsent = NULL;
    tls->unsent_at = tls->unsent_size = tls->unsent_room = 0;
}

/* 0, -EAGAIN or an error. */
static int flush(struct tls *tls) {
    while (tls->unsent_size) {
        struct iovec piece = {tls->unsent + tls->unsent_at, tls->unsent_size};
        ssize_t n = socket_raw_try_send(tls->socket, &piece, 1, tls->unsent_size);
        if (n < 0)
            return (int)n;
        tls->unsent_at += (size_t)n;
        tls->unsent_size -= (size_t)n;
    }
    if (tls->unsent)
        drop_unsent(tls);
    return 0;
}

/* Sends, and keeps what does not go now. 0 or an error. */
static int send_or_keep(struct tls *tls, const char *bytes, size_t size) {
    if (!tls->unsent_size) {
        struct iovec piece = {(void *)(uintptr_t)bytes, size};
        ssize_t n = socket_raw_try_send(tls->socket, &piece, 1, size);
        if (n == (ssize_t)size)
            return 0;
        if (n < 0 && n != -EAGAIN)
            return (int)n;
        if (n > 0) {
            bytes += n;
            size -= (size_t)n;
        }
    }
    return tls_keep_unsent(tls, bytes, size);
}

/* ---- The wire, as OpenSSL sees it ---- */

/* The wire's bytes; or many of them, which are then fed. */
static ssize_t read_some(struct tls *tls, char *into, size_t size) {
    if (tls->handshaking || tls->had_many)
        return -EAGAIN;
    if (!tls->many)
        return socket_raw_try_receive(tls->socket, into, size);
    tls->had_many = true;
    ssize_t n = socket_raw_try_receive(tls->socket, tls->out->bytes, tls->many);
    if (n > 0)
        tls->fed = span_make(tls->out->bytes, (size_t)n);
    return n;
}

static int wire_read(BIO *bio, char *into, size_t size, size_t *got) {
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    *got = 0;
    ssize_t n = tls->fed.len ? 0 : read_some(tls, into, size);
    if (tls->fed.len) {
        *got = size < tls->fed.len ? size : tls->fed.len;
        copy_record(into, tls->fed.ptr, *got);
        tls->fed = span_from(tls->fed, *got);
        if (tls->fed.len == 0 && tls->early) {
            free(tls->early);
            tls->early = NULL;
        }
        return 1;
    }
    if (n > 0) {
        *got = (size_t)n;
        return 1;
    }
    if (n == -EAGAIN)
        BIO_set_retry_read(bio);
    else if (n < 0)
        tls->raw_error = (int)n;
    else
        tls->raw_ended = true;
    return 0;
}

static int wire_write(BIO *bio, const char *bytes, size_t size, size_t *written) {
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    int rc = 0;
    if (tls->handshaking) {
        rc = tls_keep_unsent(tls, bytes, size);
    } else if (!tls->direct && size <= sizeof tls->out->bytes - tls->out->used) {
        copy_record(tls->out->bytes + tls->out->used, bytes, size);
        tls->out->used += size;
    } else {
        if (!tls->direct && tls->out->used) {
            rc = send_or_keep(tls, tls->out->bytes, tls->out->used);
            tls->out->used = 0;
        }
        if (rc == 0)
            rc = send_or_keep(tls, bytes, size);
    }
    if (rc != 0) {
        tls->raw_error = rc;
        return 0;
    }
    *written = size;
    return 1;
}

static long wire_control(BIO *bio, int what, long number, void *pointer) {
    const struct tls *tls = BIO_get_data(bio);
    switch (what) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_EOF:
        return tls->raw_ended;
    }
    return 0;
}

static BIO_METHOD *wire_method;
static void make_wire_method(void) {
    wire_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "wire");
    if (!wire_method)
        return;
    (void)BIO_meth_set_read_ex(wire_method, wire_read);
    (void)BIO_meth_set_write_ex(wire_method, wire_write);
    (void)BIO_meth_set_ctrl(wire_method, wire_control);
}

struct tls *tls_new(struct socket *socket, struct tls_context *context) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, make_wire_method);
    struct tls *tls = calloc(1, sizeof *tls);
    if (!tls)
        return NULL;
    tls->transport.itab = &tls_transport;
    tls->socket = socket;
    tls->context = tls_context_ref(context);
    tls->ssl = SSL_new(context->ctx);
    BIO *bio = wire_method ? BIO_new(wire_method) : NULL;
    if (!tls->ssl || !bio) {
        BIO_free(bio);
        tls_free(tls);
        ERR_clear_error();
        return NULL;
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_app_data(tls->ssl, tls);
    return tls;
}

void tls_free(struct tls *tls) {
    SSL_free(tls->ssl);
    tls_context_unref(tls->context);
    free(tls->early);
    free(tls->unsent);
    free(tls->verify_name);
    free(tls->session_key);
    free(tls->failure);
    if (tls->peer)
        tls_identity_fini(tls->peer);
    if (tls->local)
        tls_identity_fini(tls->local);
    free(tls->peer);
    free(tls->local);
    free(tls->peer_pem);
    free(tls->chain_pem);
    free(tls);
}

/* ---- Receiving ---- */

static void fail(struct tls *tls, int error) {
    char text[TLS_ERROR_MAX];
    tls_error_take(text);
    tls->rx = TLS_RX_FAILED;
    tls->tx_failed = true;
    tls->transport.has_bytes = true; /* an error is something to receive, and so is an end */
    tls->error = error;
    if (!tls->failure)
        tls->failure = strdup(text);
}

/* OpenSSL waits for the rest of one. */
static bool is_inside_record(const SSL *ssl) {
    return SSL_has_pending(ssl) || strcmp(SSL_rstate_string(ssl), "RB") == 0;
}

/* What a read that gave nothing came to: -EAGAIN, 0 or an error. Takes the errors. */
static NOINLINE ssize_t nothing_read(struct tls *tls) {
    tls->transport.has_bytes = false;
    int why = SSL_get_error(tls->ssl, 0);
    if (why == SSL_ERROR_WANT_READ) {
        int rc = flush(tls); /* an answer to what it read, as of a key update */
        return rc == 0 ? -EAGAIN : rc;
    }
    bool cut_off = tls->raw_ended && is_inside_record(tls->ssl);
    if (why == SSL_ERROR_ZERO_RETURN && !cut_off) {
        tls->rx = TLS_RX_END;
        tls->transport.truncated = tls->raw_ended;
        if (tls->raw_ended && tls->context->truncated)
            stat_inc(tls->context->truncated, rt_p_index());
        tls->transport.has_bytes = true;
        tls->transport.ended = true;
        return 0;
    }
    if (cut_off)
        ERR_raise(ERR_LIB_SSL, SSL_R_UNEXPECTED_EOF_WHILE_READING);
    fail(tls, tls->raw_error ? tls->raw_error : cut_off ? -ECONNRESET : -EPROTO);
    (void)flush(tls); /* the alert, if it goes; the error is reported anyway */
    return tls->error;
}

static ssize_t receive(struct tls *tls, char *into, size_t size) {
    size_t got = 0, n;
    do {
        if (SSL_read_ex(tls->ssl, into + got, size - got, &n) != 1) {
            ssize_t rc = nothing_read(tls);
            return got ? (ssize_t)got : rc;
        }
        got += n;
    } while (got < size && (tls->fed.len || SSL_has_pending(tls->ssl)));
    tls->transport.has_bytes = tls->fed.len || SSL_has_pending(tls->ssl);
    return (ssize_t)got;
}

/* What OpenSSL holds, decrypted or not, is less than RECORD_ON_WIRE, and what comes shrinks: so all that one recv brings
 * fits. Behind an end and an error nothing is looked at. */
static ssize_t receive_many(struct tls *tls, char *into, size_t size) {
    size -= RECORD_ON_WIRE;
    tls->many = size < sizeof tls->out->bytes ? size : sizeof tls->out->bytes;
    ssize_t n = receive(tls, into, size + RECORD_ON_WIRE);
    ASSERT(tls->fed.len == 0 || tls->rx != TLS_RX_OPEN);
    tls->fed = span_none();
    tls->many = 0;
    tls->had_many = false;
    return n;
}

/* Nothing is in `out` outside of tls_try_send and a receive, and what OpenSSL writes meanwhile goes at once. */
static NOINLINE ssize_t tls_try_receive(struct socket *socket, void *into, size_t size) {
    struct tls *tls = tls_of(socket);
    if (tls->rx != TLS_RX_OPEN)
        return tls->rx == TLS_RX_END ? 0 : tls->error;
    tls->direct = true;
    if (size >= MANY && !tls->fed.len && (tls->out = out_here()) != NULL)
        return receive_many(tls, into, size);
    return receive(tls, into, size);
}

static NOINLINE bool tls_has_unread(struct socket *socket) {
    struct tls *tls = tls_of(socket);
    char byte;
    size_t n;
    if (tls->rx != TLS_RX_OPEN)
        return true;
    tls->direct = true;
    if (SSL_peek_ex(tls->ssl, &byte, 1, &n) != 1)
        return nothing_read(tls) != -EAGAIN;
    tls->transport.has_bytes = true;
    return true;
}

/* A record may carry nothing for the user, as a ticket, or not be whole: then he does not hear of it. */
static unsigned tls_event(struct socket *socket, unsigned events) {
    struct tls *tls = tls_of(socket);
    if (tls->rx == TLS_RX_OPEN && !tls->transport.has_bytes && !tls_has_unread(socket))
        return events & SOCKET_HUNG_UP;
    static const unsigned told[] = {
        [TLS_RX_OPEN] = 0, [TLS_RX_END] = POLL_EVENT_HUP, [TLS_RX_FAILED] = SOCKET_HUNG_UP};
    return SOCKET_INPUT | told[tls->rx] | (events & SOCKET_HUNG_UP);
}

/* ---- Sending ---- */

/* Where the bytes of a send are. */
struct source {
    const struct iovec *piece;
    size_t at; /* in it */
    size_t left;
};

static void skip(struct source *source, size_t size) {
    ASSERT(size <= source->left);
    source->left -= size;
    source->at += size;
    while (source->left && source->at >= source->piece->iov_len) {
        source->at -= source->piece->iov_len;
        source->piece++;
    }
}

/* The next record's bytes, where they lie or gathered. */
static struct span next_record(struct source *source, struct tls_out *out) {
    skip(source, 0); /* past what is empty */
    size_t size = source->left < RECORD ? source->left : RECORD;
    const char *from = (const char *)source->piece->iov_base + source->at;
    if (source->piece->iov_len - source->at >= size)
        return span_make(from, size);
    size_t used = 0;
    struct source at = *source;
    while (used < size) {
        size_t run = at.piece->iov_len - at.at;
        if (run > size - used)
            run = size - used;
        copy_record(out->gathered + used, (const char *)at.piece->iov_base + at.at, run);
        used += run;
        skip(&at, run);
    }
    return span_make(out->gathered, size);
}

static NOINLINE int failed_write(struct tls *tls) {
    int error = tls->raw_error ? tls->raw_error : -EPROTO;
    fail(tls, error);
    return error;
}

static NOINLINE ssize_t tls_try_send(struct socket *socket, const struct iovec *pieces, int count,
                                     size_t size) {
    struct tls *tls = tls_of(socket);
    if (tls->tx_failed)
        return tls->error;
    ASSERT(!tls->sent_end);
    int rc = tls->unsent_size ? flush(tls) : 0;
    if (rc < 0)
        return rc;
    struct source source = {.piece = pieces, .left = size};
    size_t done = tls->transport.owed;
    tls->transport.owed = 0;
    skip(&source, done);
    struct tls_out *out = out_here();
    if (!out)
        return done ? (ssize_t)done : -ENOMEM;
    tls->out = out;
    while (source.left) {
        size_t batch = 0, last = 0;
        out->used = 0;
        tls->direct = source.left <= RECORD;
        for (unsigned i = 0; i < RECORDS_AT_ONCE && source.left; i++) {
            struct span record = next_record(&source, out);
            if (SSL_write_ex(tls->ssl, record.ptr, record.len, &last) != 1)
                return failed_write(tls);
            skip(&source, last);
            batch += last;
        }
        if (out->used) {
            rc = send_or_keep(tls, out->bytes, out->used);
            if (rc < 0) {
                tls->raw_error = rc;
                return failed_write(tls);
            }
        }
        if (tls->unsent_size) {
            done += batch - last;
            tls->transport.owed = last;
            break;
        }
        done += batch;
    }
    return done ? (ssize_t)done : -EAGAIN;
}

/* ---- The end ---- */

static NOINLINE void say_end(struct tls *tls) {
    if (tls->sent_end || tls->tx_failed || tls->unsent_size ||
        (tls->socket->pd.ready & POLL_EVENT_ERR))
        return;
    tls->sent_end = true;
    tls->direct = true;
    if (SSL_shutdown(tls->ssl) < 0)
        ERR_clear_error();
}

static int tls_shutdown(struct socket *socket) {
    struct tls *tls = tls_of(socket);
    say_end(tls);
    return 0;
}

static void tls_close(struct socket *socket) {
    struct tls *tls = tls_of(socket);
    say_end(tls);
    tls_free(tls);
}

const struct transport_itab tls_transport = {
    tls_try_receive, tls_try_send, tls_has_unread, tls_event, tls_shutdown, tls_close,
};

#ifdef __SANITIZE_THREAD__
/* OpenSSL is not instrumented. What orders its sharing of memory, its counts of references, ThreadSanitizer does not see;
 * but its calls of malloc, free and memcpy it does. */
const char *__tsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void) {
    return "called_from_lib:libcrypto.so\ncalled_from_lib:libssl.so\n";
}
#endif
