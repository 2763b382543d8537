/* proxy_header: the PROXY protocol, versions 1 and 2, read and written: what a proxy in front says about the
 * connection that it passes on (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt).
 *
 *     version 1   PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n
 *     version 2   signature(12) version|command family|transport length(2) addresses TLVs
 *
 * A header is believed by whoever reads it: accept it only from those who are to be believed.
 *
 * Verdict    Of a prefix of the stream, which may grow byte by byte: the same bytes give the same verdict however
 *            they were cut, and bytes that cannot become a header are told of at once.
 * Ownership  proxy_header.tlvs borrows the bytes that were read. Nothing is allocated.
 * Threads    Pure functions. */
#pragma once
#include <sys/types.h>

#include "io/address.h"

enum proxy_header_verdict {
    PROXY_HEADER_MORE, /* not whole: call again with more bytes behind these */
    PROXY_HEADER_DONE,
    PROXY_HEADER_ABSENT, /* they begin with something else */
    PROXY_HEADER_BAD,    /* they begin as a header does, and are none */
};

enum {
    /* Of a line with its CRLF. The specification counts to 107; Envoy takes one more. */
    PROXY_HEADER_V1_MAX = 108,
    PROXY_HEADER_V2_HEAD = 16,
    PROXY_HEADER_MAX = PROXY_HEADER_V2_HEAD + UINT16_MAX,
    PROXY_HEADER_V1 = 1 << 0,
    PROXY_HEADER_V2 = 1 << 1,
    PROXY_HEADER_ANY = PROXY_HEADER_V1 | PROXY_HEADER_V2,
};

/* Types of TLVs that have a meaning to us or to everybody (section 2.2). */
enum proxy_tlv_type {
    PROXY_TLV_ALPN = 0x01,
    PROXY_TLV_AUTHORITY = 0x02, /* the host that the client asked for */
    PROXY_TLV_CRC32C = 0x03,
    PROXY_TLV_NOOP = 0x04,
    PROXY_TLV_UNIQUE_ID = 0x05,
    PROXY_TLV_SSL = 0x20,
    PROXY_TLV_NETNS = 0x30,
};

struct proxy_header {
    uint8_t version;    /* 1 or 2; known as soon as the signature is whole, else 0 */
    bool has_addresses; /* false: UNKNOWN or LOCAL, the connection's own addresses count */
    struct address source, destination;
    struct span tlvs; /* well-formed; empty if there are none */
    size_t bytes;     /* of the whole header */
};

/* bytes: the stream from its beginning. Fills *header on DONE, and its version in any case. A header whose version
 * is not among `versions` is ABSENT. */
enum proxy_header_verdict proxy_header_read(struct span bytes BORROWED_BY(header),
                                            unsigned versions, struct proxy_header *header);

struct proxy_tlv {
    uint8_t type;
    struct span value;
};
/* The next of a header's TLVs; false at the end. Advances *rest. */
bool proxy_tlv_next(struct span *rest BORROWED_BY(tlv), struct proxy_tlv *tlv);

/* The line of version 1 into out (PROXY_HEADER_V1_MAX bytes); how long it is. Absent addresses make it "PROXY
 * UNKNOWN"; if only one is IPv6, the other one is said as ::ffff:a.b.c.d. */
size_t proxy_header_write_v1(char *out, const struct address *source,
                             const struct address *destination);

/* How many bytes the header of version 2 with these TLVs has. TLVs that would make it longer than a header can be
 * are left out, as on Envoy, and counted in *left_out, which may be NULL. */
size_t proxy_header_size_v2(const struct address *source, const struct address *destination,
                            const struct proxy_tlv *tlvs, size_t tlv_count, size_t *left_out);
/* It, into out, which has room for as many. Absent addresses: LOCAL, without TLVs. If only one is IPv6, the other
 * one is said as ::ffff:a.b.c.d. */
size_t proxy_header_write_v2(char *out, const struct address *source,
                             const struct address *destination, const struct proxy_tlv *tlvs,
                             size_t tlv_count);
