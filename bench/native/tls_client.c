#include "tls_client.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool tls_read_option(struct tls_wish *wish, const char *option) {
    if (strcmp(option, "tls=1.2") == 0)
        wish->version = TLS1_2_VERSION;
    else if (strcmp(option, "tls=1.3") == 0)
        wish->version = TLS1_3_VERSION;
    else if (strncmp(option, "cipher=", 7) == 0)
        wish->cipher = option + 7;
    else
        return false;
    return true;
}

SSL_CTX *tls_new_context(const struct tls_wish *wish) {
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    bool is_set =
        context && SSL_CTX_set_min_proto_version(context, wish->version) &&
        SSL_CTX_set_max_proto_version(context, wish->version) &&
        SSL_CTX_set1_groups_list(context, "X25519:P-256"); /* the latter for a key of it */
    if (is_set && wish->cipher)
        is_set = wish->version == TLS1_2_VERSION ? SSL_CTX_set_cipher_list(context, wish->cipher)
                                                 : SSL_CTX_set_ciphersuites(context, wish->cipher);
    if (!is_set) {
        ERR_print_errors_fp(stderr);
        exit(2);
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    return context;
}

bool tls_is_as_wished(const struct tls_wish *wish, const SSL *ssl) {
    return SSL_version(ssl) == wish->version &&
           (!wish->cipher ||
            strcmp(SSL_CIPHER_get_name(SSL_get_current_cipher(ssl)), wish->cipher) == 0);
}
