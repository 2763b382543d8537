/* wire, TLS: how load.c speaks to a server with -DLOAD_TLS. The interface is that of wire_plain.h.
 *
 * The handshake is waited for when a connection is opened, so it is no part of what is measured. A record is taken
 * whole or not at all: what OpenSSL had left over would not make the socket readable. */
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tls_client.h"

#define WIRE_USAGE " tls=1.2|1.3 [cipher=NAME]"

struct wire {
    int fd;
    SSL *ssl;
};

static struct tls_wish wire_wish;
static SSL_CTX *wire_context;

static inline bool wire_read_option(const char *option) {
    return tls_read_option(&wire_wish, option);
}

static inline bool wire_prepare(void) {
    if (wire_wish.version == 0)
        return false;
    wire_context = tls_new_context(&wire_wish);
    return true;
}

static inline void wire_open(struct wire *wire, int fd) {
    wire->fd = fd;
    wire->ssl = SSL_new(wire_context);
    if (!wire->ssl || !SSL_set_fd(wire->ssl, fd) || SSL_connect(wire->ssl) != 1 ||
        !tls_is_as_wished(&wire_wish, wire->ssl) || fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        fputs("load: the handshake did not come to what was asked for\n", stderr);
        exit(1);
    }
}

static inline void wire_close(struct wire *wire) {
    SSL_free(wire->ssl);
    close(wire->fd);
}

static inline ssize_t wire_result(struct wire *wire, int n) {
    int why = SSL_get_error(wire->ssl, n);
    if (why == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return -1;
}

static inline ssize_t wire_send(struct wire *wire, const char *bytes, size_t count) {
    int n = SSL_write(wire->ssl, bytes, (int)count);
    return n > 0 ? n : wire_result(wire, n);
}

static inline ssize_t wire_receive(struct wire *wire, char *to, size_t room) {
    size_t got = 0;
    while (room - got >= SSL3_RT_MAX_PLAIN_LENGTH) {
        int n = SSL_read(wire->ssl, to + got, (int)(room - got));
        if (n <= 0)
            return got > 0 ? (ssize_t)got : wire_result(wire, n);
        got += (size_t)n;
    }
    return (ssize_t)got;
}
