/* tls_handshake: as straight-line code: a step of OpenSSL, what it has to say is sent, what comes is received.
 *
 * A step works in memory only: it reads from the inbuf and writes into memory of the connection's own, so
 * it may run anywhere, and does: on a thread's own stack (foreign_call), because certificates are parsed
 * and verified by recursion that a coroutine's stack is too small for, and because it takes from tens of
 * microseconds to milliseconds, during which another thread may have the P; or, when the context wants it,
 * as a blocking_call, which begins without the P. With the usual keys and curves, and nobody to verify, a step
 * of a server stays below the millisecond after which another thread would get the P, so it keeps it
 * (foreign_call_short): beside some 400 us of ECDSA on a busy machine sysmon's looks were another 80.
 *
 * What a client sends behind its last message, as a first request, is in OpenSSL's buffer by then or still in the
 * inbuf; that goes to the connection (`early`), before anything that the kernel has. */
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/tls.h"
#include "io/tls_internal.h"
#include "rt/foreign.h"
#include "rt/rt.h"

static const char reason[] = "tls handshake";

struct step {
    struct tls *tls;
    bool done, wants_more;
    bool no_certificate;
    char text[TLS_ERROR_MAX];
};

/* Any thread. */
static void take_step(void *arg) {
    struct step *step = arg;
    SSL *ssl = step->tls->ssl;
    ERR_clear_error(); /* of whoever had this thread before */
    int rc = SSL_do_handshake(ssl);
    step->done = rc == 1;
    step->wants_more = !step->done && SSL_get_error(ssl, rc) == SSL_ERROR_WANT_READ;
    if (step->done || step->wants_more)
        return;
    step->no_certificate =
        ERR_GET_REASON(ERR_peek_error()) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE;
    tls_error_take(step->text);
}

static int say(struct tls_fault *fault, enum tls_fault_kind kind, const char *text, int error) {
    fault->kind = kind;
    tls_error_say(fault->text, "%s", text);
    return error;
}

static int run_step(struct step *step) {
    struct tls *tls = step->tls;
    step->done = step->wants_more = false;
    if (!tls->context->blocking_keys) {
        if (tls->context->takes_long)
            foreign_call(take_step, step);
        else
            foreign_call_short(take_step, step);
        return 0;
    }
    int rc = blocking_call(take_step, step);
    if (rc == -EAGAIN) { /* no thread to be had: here, then */
        foreign_call(take_step, step);
        rc = 0;
    }
    return rc;
}

static int send_out(struct tls *tls, int64_t deadline_ns) {
    if (!tls->unsent_size)
        return 0;
    struct iovec piece = {tls->unsent + tls->unsent_at, tls->unsent_size};
    int64_t stall_ns = deadline_ns == RT_FOREVER ? RT_FOREVER : deadline_ns - rt_now_ns();
    int rc = stall_ns > 0 ? socket_send(tls->socket, &piece, 1, reason, stall_ns) : -ETIMEDOUT;
    tls->unsent_size = 0;
    return rc;
}

static enum tls_fault_kind kind_of(const struct tls *tls, const struct step *step) {
    return step->no_certificate ? TLS_FAULT_NO_CERTIFICATE
           : tls->verify_fault  ? tls->verify_fault
                                : TLS_FAULT_PROTOCOL;
}

static int refuse(struct tls *tls, const struct step *step, struct tls_fault *fault) {
    struct iovec alert = {tls->unsent + tls->unsent_at, tls->unsent_size};
    if (tls->unsent_size)
        (void)!socket_try_send(tls->socket, &alert, 1); /* if it goes, the peer knows why */
    return say(fault, kind_of(tls, step), step->text, -EPROTO);
}

static int shake(struct tls *tls, struct inbuf *in, int64_t deadline_ns, struct tls_fault *fault) {
    for (;;) {
        struct step step = {.tls = tls};
        tls->fed = inbuf_bytes(in);
        int rc = run_step(&step);
        inbuf_consume(in, inbuf_len(in) - tls->fed.len);
        if (rc != 0)
            return say(fault, TLS_FAULT_SOCKET, "", rc);
        if (!step.done && !step.wants_more)
            return refuse(tls, &step, fault);
        rc = send_out(tls, deadline_ns);
        if (rc != 0)
            return say(fault, TLS_FAULT_SOCKET, "", rc);
        if (step.done)
            return 0;
        ssize_t n = socket_receive(tls->socket, in, reason, deadline_ns);
        if (n == 0)
            n = -ECONNRESET;
        if (n < 0)
            return say(fault, TLS_FAULT_SOCKET, "", (int)n);
    }
}

static int keep_early(struct tls *tls, struct inbuf *in) {
    struct span rest = inbuf_bytes(in);
    tls->fed = span_none();
    if (rest.len) {
        tls->early = malloc(rest.len);
        if (!tls->early)
            return -ENOMEM;
        memcpy(tls->early, rest.ptr, rest.len);
        tls->fed = span_make(tls->early, rest.len);
        inbuf_consume(in, rest.len);
    }
    inbuf_idle(in);
    return 0;
}

static NOINLINE bool has_pending(const struct tls *tls) {
    return tls->fed.len || SSL_has_pending(tls->ssl);
}

static bool wants_key_log(struct socket *socket, const struct tls_context *context) {
    struct address local, remote = {.len = sizeof remote.sa};
    if (context->key_log_fd < 0)
        return false;
    if (!context->key_log_wanted)
        return true;
    socket_local_address(socket, &local);
    socket_remote_address(socket, &remote);
    return context->key_log_wanted(context->key_log_arg, &local, &remote);
}

static int handshake(struct tls *tls, struct inbuf *in, int64_t deadline_ns,
                     struct tls_fault *fault) {
    struct socket *socket = tls->socket;
    uint64_t rx_bytes = socket->rx_bytes, tx_bytes = socket->tx_bytes;
    *fault = (struct tls_fault){.kind = TLS_FAULT_NONE};
    tls->handshaking = true;
    tls->logs_keys = wants_key_log(socket, tls->context);
    int rc = shake(tls, in, deadline_ns, fault);
    tls->handshaking = false;
    if (rc == 0 && keep_early(tls, in) != 0)
        rc = say(fault, TLS_FAULT_SOCKET, "", -ENOMEM);
    socket->rx_bytes = rx_bytes;
    socket->tx_bytes = tx_bytes;
    if (rc != 0) {
        tls_free(tls);
        return rc;
    }
    if (!tls->context->is_server)
        tls_sessions_renew(tls);
    free(tls->unsent);
    tls->unsent = NULL;
    tls->unsent_room = tls->unsent_at = 0;
    tls->transport.has_bytes = has_pending(tls);
    socket_set_transport(socket, &tls->transport);
    return 0;
}

int tls_accept(struct socket *socket, struct tls_context *context, struct inbuf *in,
               int64_t deadline_ns, struct tls_fault *fault) {
    ASSERT(context->is_server);
    struct tls *tls = tls_new(socket, context);
    if (!tls)
        return say(fault, TLS_FAULT_SOCKET, "", -ENOMEM);
    SSL_set_accept_state(tls->ssl);
    return handshake(tls, in, deadline_ns, fault);
}

/* ---- Clients ---- */

static bool copy_of(struct span text, char **out) {
    *out = strndup(text.len ? text.ptr : "", text.len);
    return *out != NULL;
}

/* A session that began with another name may have been verified for that one only. */
static bool make_session_key(struct tls *tls, const struct tls_peer *peer) {
    return asprintf(&tls->session_key, "%.*s %.*s", (int)peer->server_name.len,
                    peer->server_name.len ? peer->server_name.ptr : "", (int)peer->verify_name.len,
                    peer->verify_name.len ? peer->verify_name.ptr : "") >= 0;
}

static NOINLINE int offer_alpn(struct tls *tls, struct span name) {
    unsigned char wire[256];
    if (name.len == 0)
        return 0;
    if (name.len > 255)
        return -EINVAL;
    wire[0] = (unsigned char)name.len;
    memcpy(wire + 1, name.ptr, name.len);
    return SSL_set_alpn_protos(tls->ssl, wire, (unsigned)name.len + 1) == 0 ? 0 : -ENOMEM;
}

static NOINLINE int prepare_client(struct tls *tls, const struct tls_peer *peer) {
    char *server_name;
    if (!copy_of(peer->server_name, &server_name))
        return -ENOMEM;
    if (!make_session_key(tls, peer)) {
        tls->session_key = NULL;
        free(server_name);
        return -ENOMEM;
    }
    int rc = offer_alpn(tls, peer->alpn);
    if (rc == 0 && *server_name && SSL_set_tlsext_host_name(tls->ssl, server_name) != 1)
        rc = -EINVAL; /* longer than a name can be */
    if (rc == 0 && peer->verify_name.len && !copy_of(peer->verify_name, &tls->verify_name))
        rc = -ENOMEM;
    if (rc == 0) {
        SSL_SESSION *session = tls_sessions_take(&tls->context->sessions, tls->session_key);
        if (session) {
            (void)SSL_set_session(tls->ssl, session); /* without it the handshake is a whole one */
            SSL_SESSION_free(session);
        }
        SSL_set_connect_state(tls->ssl);
    }
    ERR_clear_error();
    free(server_name);
    return rc;
}

int tls_connect(struct socket *socket, struct tls_context *context, const struct tls_peer *peer,
                struct inbuf *in, int64_t deadline_ns, struct tls_fault *fault) {
    ASSERT(!context->is_server);
    ASSERT(inbuf_len(in) == 0);
    struct tls *tls = tls_new(socket, context);
    if (!tls)
        return say(fault, TLS_FAULT_SOCKET, "", -ENOMEM);
    int rc = prepare_client(tls, peer);
    if (rc != 0) {
        tls_free(tls);
        return say(fault, TLS_FAULT_SOCKET, "", rc);
    }
    return handshake(tls, in, deadline_ns, fault);
}
