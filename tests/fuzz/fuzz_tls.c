/* The handshake of a server: whatever a client sends, cut wherever. The first byte says into pieces of which size. What
 * is checked is OpenSSL's use of our wire: it takes what it is given, and asks for more or ends. */
#include <stdint.h>
#include <stdlib.h>

#include "../unit/io/tls_certs.h"
#include "io/tls_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tls_context *context(void) {
    static struct tls_context *made;
    if (made)
        return made;
    static struct cert cert;
    static char error[TLS_ERROR_MAX];
    cert_make(&cert, (struct cert_wish){.common_name = "a", .names = "DNS:a.test"});
    struct tls_certificate given = cert_given(&cert);
    struct tls_validation validation = {.ca = span_of(cert.pem)};
    struct span alpn = SPAN_LIT("http/1.1");
    struct tls_tickets *tickets = tls_tickets_new(NULL, 0);
    made = tls_context_new(&(struct tls_options){.is_server = true,
                                                 .certificates = &given,
                                                 .certificate_count = 1,
                                                 .validation = &validation,
                                                 .tickets = tickets,
                                                 .alpn = &alpn,
                                                 .alpn_count = 1},
                           error);
    ASSERT(made);
    tls_tickets_unref(tickets);
    return made;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    size_t piece = data[0] ? data[0] : SIZE_MAX;
    struct tls *tls = tls_new(NULL, context());
    ASSERT(tls);
    tls->handshaking = true;
    SSL_set_accept_state(tls->ssl);
    bool goes_on = true;
    for (size_t at = 1; at < size && goes_on;) {
        size_t run = size - at < piece ? size - at : piece;
        tls->fed = span_make(data + at, run);
        at += run;
        int rc = SSL_do_handshake(tls->ssl);
        ASSERT(rc != 1); /* nobody can know the keys */
        goes_on = SSL_get_error(tls->ssl, rc) == SSL_ERROR_WANT_READ;
        ASSERT(!goes_on || tls->fed.len == 0);
    }
    char text[TLS_ERROR_MAX];
    tls_error_take(text);
    ASSERT(goes_on || *text);
    tls_free(tls);
    return 0;
}
