/* request_line: recognising the first line of a request.
 *
 *     METHOD blanks TARGET blanks HTTP/1.1 blanks LF         blanks: SP and HTAB, and CR at the end
 *
 * As on Envoy (its parser there is QUICHE's, with methods of any name): several blanks are as good as one, the
 * version may be missing (HTTP/0.9), a version that is not 1.1 counts as 1.0, and the LF decides, with or without
 * its CR. Differences: a method that cannot become one is told of before the line ends, and control characters
 * are no blanks. */
#include "io/request_line.h"

static const struct span preface = SPAN_INIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

static bool is_alpha(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_one_of(char c, struct span set) {
    return span_find(set, c) >= 0;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

/* RFC 9110 5.6.2. The http layer has a table for it, which stands above this one. */
static bool is_method_char(char c) {
    return is_alpha(c) || is_digit(c) || is_one_of(c, SPAN_LIT("!#$%&'*+-.^_`|~"));
}

static bool are_path_chars(struct span text) {
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] < '!' || text.ptr[i] > '~')
            return false;
    return true;
}

static bool are_host_chars(struct span text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (!is_alpha(c) && !is_digit(c) && !is_one_of(c, SPAN_LIT("!$%&'()*+,-.:;=@[]_~")))
            return false;
        if (c == '@' && i > 0 && text.ptr[i - 1] == '@')
            return false;
    }
    return true;
}

/* scheme "://": how long that is, 0: there is none. */
static size_t scheme_len(struct span target) {
    size_t len = 0;
    while (len < target.len && (is_alpha(target.ptr[len]) ||
                                (len > 0 && (is_digit(target.ptr[len]) ||
                                             is_one_of(target.ptr[len], SPAN_LIT("+-."))))))
        len++;
    return len > 0 && span_starts_with(span_from(target, len), SPAN_LIT("://")) ? len + 3 : 0;
}

static bool is_target(struct span target, bool is_connect) {
    if (target.len == 0)
        return false;
    if (target.ptr[0] == '/' || target.ptr[0] == '*')
        return are_path_chars(target);
    size_t host = is_connect ? 0 : scheme_len(target), path = host;
    if (!is_connect && host == 0)
        return false;
    while (path < target.len && target.ptr[path] != '/' && target.ptr[path] != '?')
        path++;
    return are_host_chars(span_make(target.ptr + host, path - host)) &&
           are_path_chars(span_from(target, path));
}

/* Absent: HTTP/0.9. */
static bool is_version(struct span text) {
    return text.len == 0 || (text.len == 8 && span_starts_with(text, SPAN_LIT("HTTP/")) &&
                             is_digit(text.ptr[5]) && text.ptr[6] == '.' && is_digit(text.ptr[7]));
}

static size_t method_len(struct span bytes) {
    size_t len = 0;
    while (len < bytes.len && is_method_char(bytes.ptr[len]))
        len++;
    return len;
}

static struct span skip_blanks(struct span text) {
    while (text.len > 0 && is_blank(text.ptr[0]))
        text = span_from(text, 1);
    return text;
}

/* The next word; *rest is what follows. */
static struct span take_word(struct span *rest) {
    struct span text = skip_blanks(*rest);
    size_t len = 0;
    while (len < text.len && !is_blank(text.ptr[len]))
        len++;
    *rest = skip_blanks(span_from(text, len));
    return span_make(text.ptr, len);
}

enum request_line request_line_look(struct span bytes) {
    size_t common = bytes.len < preface.len ? bytes.len : preface.len;
    if (span_eq(span_make(bytes.ptr, common), span_make(preface.ptr, common)))
        return common == preface.len ? REQUEST_LINE_H2C : REQUEST_LINE_MORE;
    size_t method_bytes = method_len(bytes);
    if (method_bytes == bytes.len)
        return REQUEST_LINE_MORE;
    if (method_bytes == 0 || !is_blank(bytes.ptr[method_bytes]))
        return REQUEST_LINE_NONE;
    ptrdiff_t end = span_find(bytes, '\n');
    if (end < 0)
        return REQUEST_LINE_MORE;
    struct span line = span_make(bytes.ptr, (size_t)end);
    while (line.len > 0 && (is_blank(line.ptr[line.len - 1]) || line.ptr[line.len - 1] == '\r'))
        line.len--;
    struct span method = take_word(&line), target = take_word(&line);
    if (!is_target(target, span_eq(method, SPAN_LIT("CONNECT"))) || !is_version(line))
        return REQUEST_LINE_NONE;
    return span_eq(line, SPAN_LIT("HTTP/1.1")) ? REQUEST_LINE_HTTP_1_1 : REQUEST_LINE_HTTP_1_0;
}

bool request_line_begins(struct span bytes) {
    size_t method_bytes = method_len(bytes);
    if (method_bytes == 0 || method_bytes == bytes.len || !is_blank(bytes.ptr[method_bytes]))
        return false;
    struct span rest = span_from(bytes, method_bytes);
    struct span target = take_word(&rest);
    return is_target(target, span_eq(span_make(bytes.ptr, method_bytes), SPAN_LIT("CONNECT")));
}
