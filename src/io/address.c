#include "io/address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <stdio.h>

bool address_parse(struct span host, uint16_t port, struct address *out) {
    char text[INET6_ADDRSTRLEN + 1];
    if (host.len == 0 || host.len >= sizeof text)
        return false;
    memcpy(text, host.ptr, host.len);
    text[host.len] = '\0';
    struct address parsed = {0};
    if (inet_pton(AF_INET, text, &parsed.sa.v4.sin_addr) == 1) {
        parsed.sa.v4.sin_family = AF_INET;
        parsed.sa.v4.sin_port = htons(port);
        parsed.len = sizeof parsed.sa.v4;
    } else if (inet_pton(AF_INET6, text, &parsed.sa.v6.sin6_addr) == 1) {
        parsed.sa.v6.sin6_family = AF_INET6;
        parsed.sa.v6.sin6_port = htons(port);
        parsed.len = sizeof parsed.sa.v6;
    } else {
        return false;
    }
    *out = parsed;
    return true;
}

void address_pack(const struct address *address, struct compact_address *out) {
    *out = (struct compact_address){.family = address->sa.any.sa_family};
    if (address->len == 0) {
        out->family = AF_UNSPEC;
    } else if (out->family == AF_INET6) {
        memcpy(out->ip, &address->sa.v6.sin6_addr, 16);
        out->scope = address->sa.v6.sin6_scope_id;
        out->port = address->sa.v6.sin6_port;
    } else {
        memcpy(out->ip, &address->sa.v4.sin_addr, 4);
        out->port = address->sa.v4.sin_port;
    }
}

void address_unpack(const struct compact_address *compact, struct address *out) {
    *out = (struct address){.len = 0};
    if (compact->family == AF_INET6) {
        out->len = sizeof out->sa.v6;
        memcpy(&out->sa.v6.sin6_addr, compact->ip, 16);
        out->sa.v6.sin6_scope_id = compact->scope;
        out->sa.v6.sin6_port = compact->port;
    } else if (compact->family == AF_INET) {
        out->len = sizeof out->sa.v4;
        memcpy(&out->sa.v4.sin_addr, compact->ip, 4);
        out->sa.v4.sin_port = compact->port;
    }
    out->sa.any.sa_family = compact->family;
}

uint16_t address_port(const struct address *address) {
    if (address->len == 0)
        return 0;
    return ntohs(address->sa.any.sa_family == AF_INET6 ? address->sa.v6.sin6_port
                                                       : address->sa.v4.sin_port);
}

/* By hand: inet_ntop and snprintf are 700 instructions, and a proxy at the edge says it of each request. */
static size_t put_v4(const struct in_addr *host, char *out) {
    const unsigned char *bytes = (const unsigned char *)host;
    size_t len = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (i > 0)
            out[len++] = '.';
        len += span_put_u64(out + len, bytes[i]);
    }
    return len;
}

size_t address_host_text(const struct address *address, char *out) {
    size_t len = 0;
    if (address->len == 0) {
        out[0] = '\0';
    } else if (address->sa.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address->sa.v6.sin6_addr, out, ADDRESS_TEXT_MAX);
        len = strlen(out);
    } else {
        len = put_v4(&address->sa.v4.sin_addr, out);
        out[len] = '\0';
    }
    return len;
}

size_t address_text(const struct address *address, char *out) {
    bool v6 = address->len != 0 && address->sa.any.sa_family == AF_INET6;
    size_t len = address_host_text(address, out + v6);
    if (len == 0) {
        out[0] = '\0';
        return 0;
    }
    if (v6) {
        out[0] = '[';
        out[++len] = ']';
        len++;
    }
    out[len++] = ':';
    len += span_put_u64(out + len, address_port(address));
    out[len] = '\0';
    return len;
}

bool address_parse_loose(struct span text, struct address *out) {
    text = span_trim(text);
    if (address_parse(text, 0, out))
        return true;
    struct span host = text;
    struct span port = span_none();
    if (text.len && text.ptr[0] == '[') {
        ptrdiff_t end = span_find(text, ']');
        if (end < 0)
            return false;
        host = span_make(text.ptr + 1, (size_t)end - 1);
        port = span_from(text, (size_t)end + 1);
        if (port.len == 0)
            return address_parse(host, 0, out);
        if (port.ptr[0] != ':')
            return false;
        port = span_from(port, 1);
    } else {
        ptrdiff_t colon = span_find(text, ':');
        if (colon < 0)
            return false;
        host = span_make(text.ptr, (size_t)colon);
        port = span_from(text, (size_t)colon + 1);
    }
    uint64_t number;
    return span_to_u64(port, &number) && number <= UINT16_MAX &&
           address_parse(host, (uint16_t)number, out);
}

bool address_eq(const struct address *a, const struct address *b) {
    if (a->len != b->len)
        return false;
    if (a->len == 0)
        return true;
    if (a->sa.any.sa_family != b->sa.any.sa_family || address_port(a) != address_port(b))
        return false;
    if (a->sa.any.sa_family == AF_INET6)
        return memcmp(&a->sa.v6.sin6_addr, &b->sa.v6.sin6_addr, sizeof a->sa.v6.sin6_addr) == 0;
    return a->sa.v4.sin_addr.s_addr == b->sa.v4.sin_addr.s_addr;
}

void address_of_socket(int fd, struct address *out) {
    struct address local = {.len = sizeof local.sa};
    if (getsockname(fd, &local.sa.any, &local.len) != 0)
        local.len = 0;
    *out = local;
}

void address_before_nat(int fd, sa_family_t family, struct address *out) {
    struct address before = {.len = sizeof before.sa};
    bool v6 = family == AF_INET6;
    int level = v6 ? SOL_IPV6 : SOL_IP, option = v6 ? IP6T_SO_ORIGINAL_DST : SO_ORIGINAL_DST;
    if (getsockopt(fd, level, option, &before.sa.any, &before.len) != 0)
        before.len = 0; /* ENOENT: no NAT knows the connection; ENOPROTOOPT: there is none */
    *out = before;
}

void address_of_peer(int fd, struct address *out) {
    struct address peer = {.len = sizeof peer.sa};
    if (getpeername(fd, &peer.sa.any, &peer.len) != 0)
        peer.len = 0;
    *out = peer;
}

bool address_is_loopback(const struct address *address) {
    if (address->len == 0)
        return false;
    if (address->sa.any.sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&address->sa.v6.sin6_addr);
    return ntohl(address->sa.v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

void address_of_machine(struct address *out) {
    struct ifaddrs *all = NULL;
    (void)address_parse(SPAN_LIT("127.0.0.1"), 0, out);
    if (getifaddrs(&all) != 0)
        return;
    for (struct ifaddrs *at = all; at; at = at->ifa_next) {
        if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET)
            continue;
        struct address found = {.len = sizeof found.sa.v4};
        memcpy(&found.sa.v4, at->ifa_addr, sizeof found.sa.v4);
        if (!address_is_loopback(&found)) {
            *out = found;
            break;
        }
    }
    freeifaddrs(all);
}
