/* tls_client: how the drivers of the benchmarks speak TLS: one version and one cipher suite, so that all
 * servers are asked for the same. Who they are is not checked; that they can sign is, by the handshake.
 *
 *     tls=1.2|1.3   cipher=NAME, as OpenSSL calls it; that of the handshake when absent */
#pragma once
#include <openssl/ssl.h>
#include <stdbool.h>

struct tls_wish {
    int version; /* TLS1_2_VERSION or TLS1_3_VERSION */
    const char *cipher;
};

/* Whether it was one of the options, and a right one. */
bool tls_read_option(struct tls_wish *wish, const char *option);
/* Owned by the caller. Ends the program when OpenSSL does not know what is wished for. */
SSL_CTX *tls_new_context(const struct tls_wish *wish);
/* What the handshake came to is what was wished for. */
bool tls_is_as_wished(const struct tls_wish *wish, const SSL *ssl);
