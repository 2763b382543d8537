#include "http/authority.h"

#include "http/chars.h"

enum { PORT_DIGITS_MAX = 5, PORT_MAX = 65535 };

/* Where the host ends: at the colon of the port, or at the end. */
static size_t host_len(struct span authority) {
    size_t at = 0;
    if (authority.len && authority.ptr[0] == '[') {
        ptrdiff_t close = span_find(authority, ']');
        if (close < 0)
            return authority.len;
        at = (size_t)close + 1;
    }
    while (at < authority.len && authority.ptr[at] != ':')
        at++;
    return at;
}

static bool is_ipv6_literal(struct span host) {
    if (host.len < 4 || host.ptr[host.len - 1] != ']') /* "[::]" is the shortest */
        return false;
    unsigned colons = 0;
    for (size_t i = 1; i < host.len - 1; i++) {
        char c = host.ptr[i];
        if (!chars_is(c, CHAR_HEX) && c != ':' && c != '.')
            return false;
        colons += c == ':';
    }
    return colons >= 2 && colons <= 8;
}

bool authority_is_valid(struct span authority) {
    size_t end = 0;
    if (authority.len && authority.ptr[0] == '[') {
        end = host_len(authority);
        if (!is_ipv6_literal(span_make(authority.ptr, end)))
            return false;
    } else {
        while (end < authority.len && chars_is(authority.ptr[end], CHAR_AUTHORITY))
            end++;
    }
    if (end == authority.len)
        return true;
    if (end == 0 || authority.ptr[end] != ':' || authority.len - end - 1 > PORT_DIGITS_MAX)
        return false;
    unsigned port = 0;
    for (size_t i = end + 1; i < authority.len; i++) {
        if (authority.ptr[i] < '0' || authority.ptr[i] > '9')
            return false;
        port = port * 10 + (unsigned)(authority.ptr[i] - '0');
    }
    return port <= PORT_MAX;
}

struct span authority_host(struct span authority) {
    return span_make(authority.ptr, host_len(authority));
}

struct span authority_port(struct span authority) {
    size_t end = host_len(authority);
    return end == authority.len ? span_none() : span_from(authority, end + 1);
}
