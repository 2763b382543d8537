/* address: IPv4 and IPv6 socket addresses, numeric only; names are the resolver's.
 *
 * Threads  Values. Functions are pure but for address_of_socket, which asks the kernel. */
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/span.h"

enum { ADDRESS_TEXT_MAX = 64 }; /* "[v6%scope]:port" and a NUL */

struct address {
    socklen_t len; /* 0: none */
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } sa;
};

/* The same in 24 bytes, to be kept by the ten thousand. */
struct compact_address {
    uint8_t ip[16]; /* the first four of IPv4 */
    uint32_t scope;
    in_port_t port; /* in network order */
    sa_family_t family;
};
void address_pack(const struct address *address, struct compact_address *out);
void address_unpack(const struct compact_address *compact, struct address *out);

/* False when host is no numeric address. */
bool address_parse(struct span host, uint16_t port, struct address *out);
uint16_t address_port(const struct address *address);
/* "1.2.3.4:80" or "[::1]:80" into out (ADDRESS_TEXT_MAX); returns the length. */
size_t address_text(const struct address *address, char *out);
/* "1.2.3.4" or "::1". */
size_t address_host_text(const struct address *address, char *out);
/* Without a port a string such as "10.0.0.1", " ::1" or "[::1]:80" from a header; false if malformed. */
bool address_parse_loose(struct span text, struct address *out);
bool address_eq(const struct address *a, const struct address *b);
bool address_is_loopback(const struct address *address);
/* This machine's first IPv4 address that is not loopback, else 127.0.0.1: what Envoy puts into
 * x-forwarded-for in place of a loopback peer. */
void address_of_machine(struct address *out);
/* The local address of a socket; len 0 when the kernel does not say. */
void address_of_socket(int fd, struct address *out);
/* Where the peer of a connected socket of that family wanted to go, when NAT of this machine (iptables REDIRECT)
 * brought it here; len 0 when it did not, or the kernel does not say. */
void address_before_nat(int fd, sa_family_t family, struct address *out);
/* The peer's, likewise. */
void address_of_peer(int fd, struct address *out);
