/* tls_error: OpenSSL's errors in the frame that Envoy prints BoringSSL's in. The numbers are OpenSSL's, and the
 * reasons its words in capitals, which in most cases are the same. */
#include <ctype.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "io/tls_internal.h"

enum { ERRORS_MAX = 4 };

static size_t put(char *out, size_t at, const char *format, ...) PRINTF_LIKE(3, 4);
static size_t put(char *out, size_t at, const char *format, ...) {
    va_list list;
    va_start(list, format);
    int n = vsnprintf(out + at, TLS_ERROR_MAX - at, format, list);
    va_end(list);
    at += n > 0 ? (size_t)n : 0;
    return at < TLS_ERROR_MAX ? at : TLS_ERROR_MAX - 1;
}

static size_t put_reason(char *out, size_t at, unsigned long code) {
    const char *reason = ERR_reason_error_string(code);
    size_t from = at;
    at = reason ? put(out, at, "%s", reason) : put(out, at, "reason %d", ERR_GET_REASON(code));
    for (; from < at; from++)
        out[from] = out[from] == ' ' ? '_' : (char)toupper((unsigned char)out[from]);
    return at;
}

void tls_error_take(char out[TLS_ERROR_MAX]) {
    size_t at = 0;
    unsigned long code;
    out[0] = '\0';
    for (unsigned i = 0; (code = ERR_get_error()) != 0; i++) {
        if (i >= ERRORS_MAX)
            continue;
        const char *library = ERR_lib_error_string(code);
        at = put(out, at, "%s|%lu:%s:OPENSSL_internal:", at ? "" : "TLS_error:", code,
                 library ? library : "");
        at = put_reason(out, at, code);
    }
    if (at)
        (void)put(out, at, ":TLS_error_end");
}

const char *tls_error_reason(void) {
    unsigned long code = ERR_peek_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return reason ? reason : "memory may be short";
}

void tls_error_say(char out[TLS_ERROR_MAX], const char *format, ...) {
    va_list list;
    va_start(list, format);
    (void)vsnprintf(out, TLS_ERROR_MAX, format, list); /* what does not fit is cut off */
    va_end(list);
}
