/* sniff: the first byte says what there is to choose from; then the few candidates judge for themselves.
 *
 * Lines  HTTP/1.x and Redis' inline requests share their shape, and some names (GET, COPY, MOVE, ACL):
 *            GET /index.html HTTP/1.1     HTTP: it says so at its end
 *            GET /index.html              Redis, a key may be called that; HTTP/0.9 says the same, and is dead
 *            GET /aaaa... (128 bytes)     HTTP: a path, and longer than people type keys
 *        So HTTP needs its version, Redis a command that exists, and any other line is unknown.
 * RESP   Clients send arrays of bulk strings (*2\r\n$4\r\n...). The other types are replies, which a client sends in
 *        replication only; they are one line of a strict shape each. */
#include "io/sniff.h"

#include "io/client_hello.h"
#include "io/proxy_header.h"
#include "io/redis_command.h"
#include "io/request_line.h"

enum {
    TLS_SEEN = 6, /* a record's head and the type of its message */
    RESP_DIGITS_MAX = 10,
};

/* ---- Redis ---- */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* [-]digits CR LF at *at, which moves behind it. */
static enum sniff_protocol take_number(struct span bytes, size_t *at) {
    size_t i = *at, first;
    if (i < bytes.len && bytes.ptr[i] == '-')
        i++;
    for (first = i; i < bytes.len && is_digit(bytes.ptr[i]);)
        i++;
    if (i - first > RESP_DIGITS_MAX)
        return SNIFF_UNKNOWN;
    if (i == bytes.len)
        return SNIFF_MORE;
    if (i == first || bytes.ptr[i] != '\r')
        return SNIFF_UNKNOWN;
    if (i + 1 == bytes.len)
        return SNIFF_MORE;
    *at = i + 2;
    return bytes.ptr[i + 1] == '\n' ? SNIFF_REDIS : SNIFF_UNKNOWN;
}

/* An array, and the beginning of its first string. */
static enum sniff_protocol look_at_array(struct span bytes) {
    size_t at = 1;
    enum sniff_protocol found = take_number(bytes, &at);
    if (found != SNIFF_REDIS)
        return found;
    if (at == bytes.len)
        return SNIFF_MORE;
    return bytes.ptr[at] == '$' ? SNIFF_REDIS : SNIFF_UNKNOWN;
}

/* A line of printable text with CRLF. */
static enum sniff_protocol look_at_text(struct span bytes) {
    size_t i = 1;
    while (i < bytes.len && bytes.ptr[i] >= ' ' && bytes.ptr[i] <= '~')
        i++;
    if (i == bytes.len)
        return SNIFF_MORE;
    if (bytes.ptr[i] != '\r')
        return SNIFF_UNKNOWN;
    if (i + 1 == bytes.len)
        return SNIFF_MORE;
    return bytes.ptr[i + 1] == '\n' ? SNIFF_REDIS : SNIFF_UNKNOWN;
}

/* ---- lines ---- */

static enum sniff_protocol of_request(enum request_line line) {
    return line == REQUEST_LINE_HTTP_1_1   ? SNIFF_HTTP_1_1
           : line == REQUEST_LINE_HTTP_1_0 ? SNIFF_HTTP_1_0
           : line == REQUEST_LINE_H2C      ? SNIFF_H2C
                                           : SNIFF_UNKNOWN;
}

/* The version's place at the end of the line is taken. */
static bool says_version(struct span line) {
    while (line.len > 0 && line.ptr[line.len - 1] <= ' ')
        line.len--;
    return line.len > 8 && span_starts_with(span_from(line, line.len - 8), SPAN_LIT("HTTP/"));
}

/* Whether the first word is one. */
static bool is_inline_command(struct span bytes) {
    size_t len = 0;
    while (len < bytes.len && span_find(SPAN_LIT(" \t\r\n"), bytes.ptr[len]) < 0)
        len++;
    return redis_is_command(span_make(bytes.ptr, len));
}

static enum sniff_protocol look_at_line(struct span bytes) {
    enum request_line line = request_line_look(bytes);
    if (line == REQUEST_LINE_H2C)
        return SNIFF_H2C;
    ptrdiff_t end = span_find(bytes, '\n');
    if (end >= 0 && line >= REQUEST_LINE_HTTP_1_0 &&
        says_version(span_make(bytes.ptr, (size_t)end)))
        return of_request(line);
    if (end >= 0 && line != REQUEST_LINE_MORE) /* MORE: may become the preface, which has lines */
        return is_inline_command(bytes) ? SNIFF_REDIS : SNIFF_UNKNOWN;
    if (bytes.len <
        SNIFF_BYTES) /* a command's line ends, and until then its CR is no part of a request */
        return line == REQUEST_LINE_NONE && !is_inline_command(bytes) ? SNIFF_UNKNOWN : SNIFF_MORE;
    if (request_line_begins(bytes))
        return SNIFF_HTTP_1_1;
    return is_inline_command(bytes) ? SNIFF_REDIS : SNIFF_UNKNOWN;
}

/* ---- all ---- */

static enum sniff_protocol look_for_tls(struct span bytes) {
    struct client_hello hello;
    struct span head = span_make(bytes.ptr, bytes.len < TLS_SEEN ? bytes.len : TLS_SEEN);
    if (client_hello_read(head, &hello) == CLIENT_HELLO_NONE)
        return SNIFF_UNKNOWN;
    return bytes.len < TLS_SEEN ? SNIFF_MORE : SNIFF_TLS;
}

/* Only the signature. SNIFF_UNKNOWN: it is none. */
static enum sniff_protocol look_for_proxy(struct span bytes) {
    struct proxy_header header;
    enum proxy_header_verdict verdict = proxy_header_read(bytes, PROXY_HEADER_ANY, &header);
    if (verdict == PROXY_HEADER_ABSENT)
        return SNIFF_UNKNOWN;
    return header.version ? SNIFF_PROXY : SNIFF_MORE;
}

enum sniff_protocol sniff(struct span bytes) {
    size_t at = 1;
    enum sniff_protocol found;
    if (bytes.len == 0)
        return SNIFF_MORE;
    if (bytes.len > SNIFF_BYTES)
        bytes.len = SNIFF_BYTES;
    switch (bytes.ptr[0]) {
    case 22:
        return look_for_tls(bytes);
    case '*':
        found = look_at_array(bytes);
        break;
    case ':':
    case '$':
        found = take_number(bytes, &at);
        break;
    case '+':
    case '-':
        found = look_at_text(bytes);
        break;
    case '\r':
        found = look_for_proxy(bytes);
        break;
    case 'P':
        found = look_for_proxy(bytes);
        if (found == SNIFF_UNKNOWN)
            found = look_at_line(bytes);
        break;
    default:
        found = look_at_line(bytes);
    }
    return found == SNIFF_MORE && bytes.len == SNIFF_BYTES ? SNIFF_UNKNOWN : found;
}

struct span sniff_name(enum sniff_protocol protocol) {
    static const struct span names[] = {
        [SNIFF_MORE] = SPAN_INIT("unknown"),      [SNIFF_UNKNOWN] = SPAN_INIT("unknown"),
        [SNIFF_HTTP_1_0] = SPAN_INIT("http/1.0"), [SNIFF_HTTP_1_1] = SPAN_INIT("http/1.1"),
        [SNIFF_H2C] = SPAN_INIT("h2c"),           [SNIFF_REDIS] = SPAN_INIT("redis"),
        [SNIFF_TLS] = SPAN_INIT("tls"),           [SNIFF_PROXY] = SPAN_INIT("proxy"),
    };
    return names[protocol];
}
