/* proxy_header: reading and writing headers of the PROXY protocol.
 *
 * What is a header and what is none is as on Envoy, where it is stricter than the specification: PROXY with a family
 * other than IPv4 and IPv6 (AF_UNIX, AF_UNSPEC) is bad, as are addresses that nobody can have as a peer (0.0.0.0,
 * broadcast, multicast). Where Envoy looks only after 16 bytes, or at the end of the line, the first byte that does
 * not fit is enough here. Stricter than there:
 *   - a zone ("fe80::1%eth0") and ports that are not just digits are bad;
 *   - version 1 ends its line with the first CRLF, and a CR or LF of their own are bad.
 *
 * A checksum (PP2_TYPE_CRC32C) is not verified: TCP has one, and who lies about addresses can compute another. */
#include "io/proxy_header.h"

#include <arpa/inet.h>

static const struct span signature_v1 = SPAN_INIT("PROXY ");
static const struct span signature_v2 = SPAN_INIT("\r\n\r\n\0\r\nQUIT\n");

enum {
    V2_VERSION = 2,
    V2_LOCAL = 0,
    V2_PROXY = 1,
    V2_INET = 1,
    V2_INET6 = 2,
    V2_STREAM = 1,
    V2_DATAGRAM = 2,
    V2_INET_BYTES = 12,
    V2_INET6_BYTES = 36,
    TLV_HEAD = 3,
    PORT_DIGITS_MAX = 5,
};

/* ---- addresses ---- */

static bool is_unicast(const struct address *address) {
    if (address->sa.any.sa_family == AF_INET6) {
        const struct in6_addr *ip = &address->sa.v6.sin6_addr;
        return !IN6_IS_ADDR_UNSPECIFIED(ip) && !IN6_IS_ADDR_MULTICAST(ip);
    }
    in_addr_t ip = ntohl(address->sa.v4.sin_addr.s_addr);
    return ip != INADDR_ANY && ip != INADDR_BROADCAST && !IN_MULTICAST(ip);
}

static void set_v4(struct address *out, const uint8_t *ip, const uint8_t *port) {
    *out = (struct address){.len = sizeof out->sa.v4};
    out->sa.v4.sin_family = AF_INET;
    memcpy(&out->sa.v4.sin_addr, ip, 4);
    memcpy(&out->sa.v4.sin_port, port, 2);
}

static void set_v6(struct address *out, const uint8_t *ip, const uint8_t *port) {
    *out = (struct address){.len = sizeof out->sa.v6};
    out->sa.v6.sin6_family = AF_INET6;
    memcpy(&out->sa.v6.sin6_addr, ip, 16);
    memcpy(&out->sa.v6.sin6_port, port, 2);
}

static bool are_unicast(const struct proxy_header *header) {
    return is_unicast(&header->source) && is_unicast(&header->destination);
}

/* ---- version 1 ---- */

/* The next word of a line in which exactly one blank is between two. */
static bool next_word(struct span *rest, struct span *word) {
    if (span_is_none(*rest))
        return false;
    ptrdiff_t blank = span_find(*rest, ' ');
    *word = span_make(rest->ptr, blank < 0 ? rest->len : (size_t)blank);
    *rest = blank < 0 ? span_none() : span_from(*rest, (size_t)blank + 1);
    return true;
}

static bool parse_end(struct span host, struct span port, sa_family_t family, struct address *out) {
    uint64_t number;
    return port.len <= PORT_DIGITS_MAX && span_to_u64(port, &number) && number <= UINT16_MAX &&
           address_parse(host, (uint16_t)number, out) && out->sa.any.sa_family == family;
}

/* What stands behind "PROXY ". */
static bool parse_line(struct span line, struct proxy_header *header) {
    struct span family, source, destination, source_port, destination_port;
    if (!next_word(&line, &family))
        return false;
    if (span_eq(family, SPAN_LIT("UNKNOWN")))
        return true; /* whatever follows */
    bool v4 = span_eq(family, SPAN_LIT("TCP4"));
    if (!v4 && !span_eq(family, SPAN_LIT("TCP6")))
        return false;
    header->has_addresses = true;
    return next_word(&line, &source) && next_word(&line, &destination) &&
           next_word(&line, &source_port) && next_word(&line, &destination_port) &&
           span_is_none(line) &&
           parse_end(source, source_port, v4 ? AF_INET : AF_INET6, &header->source) &&
           parse_end(destination, destination_port, v4 ? AF_INET : AF_INET6,
                     &header->destination) &&
           are_unicast(header);
}

static enum proxy_header_verdict read_v1(struct span bytes, struct proxy_header *header) {
    size_t len = bytes.len < PROXY_HEADER_V1_MAX ? bytes.len : PROXY_HEADER_V1_MAX;
    size_t end = signature_v1.len;
    while (end < len && bytes.ptr[end] != '\r' && bytes.ptr[end] != '\n')
        end++;
    if (end + 1 >= len) /* at most a CR is there of the line's end */
        return len == PROXY_HEADER_V1_MAX || (end < len && bytes.ptr[end] != '\r')
                   ? PROXY_HEADER_BAD
                   : PROXY_HEADER_MORE;
    if (bytes.ptr[end] != '\r' || bytes.ptr[end + 1] != '\n')
        return PROXY_HEADER_BAD;
    header->bytes = end + 2;
    struct span line = span_make(bytes.ptr + signature_v1.len, end - signature_v1.len);
    return parse_line(line, header) ? PROXY_HEADER_DONE : PROXY_HEADER_BAD;
}

/* ---- version 2 ---- */

static uint16_t get_u16(const uint8_t *at) {
    return (uint16_t)(at[0] << 8 | at[1]);
}

bool proxy_tlv_next(struct span *rest, struct proxy_tlv *tlv) {
    if (rest->len < TLV_HEAD)
        return false;
    size_t size = get_u16((const uint8_t *)rest->ptr + 1);
    if (size > rest->len - TLV_HEAD)
        return false;
    *tlv = (struct proxy_tlv){(uint8_t)rest->ptr[0], span_make(rest->ptr + TLV_HEAD, size)};
    *rest = span_from(*rest, TLV_HEAD + size);
    return true;
}

static bool are_well_formed(struct span tlvs) {
    struct proxy_tlv tlv;
    while (proxy_tlv_next(&tlvs, &tlv)) {
    }
    return tlvs.len == 0;
}

/* How many bytes of addresses there are; -1: a command, family or transport that is refused. have > 12 bytes. */
static int address_bytes(const uint8_t *at, size_t have) {
    if (at[12] >> 4 != V2_VERSION || (at[12] & 0xf) > V2_PROXY)
        return -1;
    if ((at[12] & 0xf) == V2_LOCAL || have < 14)
        return 0;
    uint8_t transport = at[13] & 0xf, family = at[13] >> 4;
    if (transport != V2_STREAM && transport != V2_DATAGRAM)
        return -1;
    return family == V2_INET ? V2_INET_BYTES : family == V2_INET6 ? V2_INET6_BYTES : -1;
}

static enum proxy_header_verdict read_v2(struct span bytes, struct proxy_header *header) {
    const uint8_t *at = (const uint8_t *)bytes.ptr;
    if (bytes.len <= signature_v2.len)
        return PROXY_HEADER_MORE;
    int addresses = address_bytes(at, bytes.len);
    if (addresses < 0)
        return PROXY_HEADER_BAD;
    if (bytes.len < PROXY_HEADER_V2_HEAD)
        return PROXY_HEADER_MORE;
    size_t size = get_u16(at + 14);
    if (size < (size_t)addresses)
        return PROXY_HEADER_BAD;
    if (bytes.len - PROXY_HEADER_V2_HEAD < size)
        return PROXY_HEADER_MORE;
    header->bytes = PROXY_HEADER_V2_HEAD + size;
    at += PROXY_HEADER_V2_HEAD;
    header->tlvs = span_make(at + addresses, 0);
    if (addresses == 0) /* LOCAL: what follows is skipped */
        return PROXY_HEADER_DONE;
    header->has_addresses = true;
    if (addresses == V2_INET_BYTES) {
        set_v4(&header->source, at, at + 8);
        set_v4(&header->destination, at + 4, at + 10);
    } else {
        set_v6(&header->source, at, at + 32);
        set_v6(&header->destination, at + 16, at + 34);
    }
    header->tlvs.len = size - (size_t)addresses;
    return are_unicast(header) && are_well_formed(header->tlvs) ? PROXY_HEADER_DONE
                                                                : PROXY_HEADER_BAD;
}

/* ---- both ---- */

static bool may_begin(struct span bytes, struct span signature) {
    size_t len = bytes.len < signature.len ? bytes.len : signature.len;
    return span_eq(span_make(bytes.ptr, len), span_make(signature.ptr, len));
}

enum proxy_header_verdict proxy_header_read(struct span bytes, unsigned versions,
                                            struct proxy_header *header) {
    header->version = 0;
    bool v1 = (versions & PROXY_HEADER_V1) && may_begin(bytes, signature_v1);
    bool v2 = (versions & PROXY_HEADER_V2) && may_begin(bytes, signature_v2);
    if (!v1 && !v2)
        return PROXY_HEADER_ABSENT;
    if (bytes.len < (v1 ? signature_v1.len : signature_v2.len))
        return PROXY_HEADER_MORE;
    struct proxy_header read = {.version = v1 ? 1 : 2, .tlvs = {"", 0}};
    enum proxy_header_verdict verdict = v1 ? read_v1(bytes, &read) : read_v2(bytes, &read);
    if (verdict == PROXY_HEADER_DONE)
        *header = read;
    header->version = read.version;
    return verdict;
}

/* ---- writing ---- */

static bool is_v6(const struct address *address) {
    return address->sa.any.sa_family == AF_INET6;
}

static bool are_there(const struct address *source, const struct address *destination) {
    return source->len != 0 && destination->len != 0;
}

/* The 16 bytes of an address, an IPv4 one mapped. */
static void put_v6(char *out, const struct address *address) {
    if (is_v6(address)) {
        memcpy(out, &address->sa.v6.sin6_addr, 16);
        return;
    }
    memset(out, 0, 10);
    memset(out + 10, 0xff, 2);
    memcpy(out + 12, &address->sa.v4.sin_addr, 4);
}

static void put_u16(char *out, uint16_t value) {
    out[0] = (char)(value >> 8);
    out[1] = (char)value;
}

static size_t put_span(char *out, struct span text) {
    memcpy(out, text.ptr, text.len);
    return text.len;
}

static size_t put_host(char *out, const struct address *address, bool as_v6) {
    char text[ADDRESS_TEXT_MAX];
    struct address mapped = {.len = sizeof mapped.sa.v6};
    if (as_v6 && !is_v6(address)) {
        mapped.sa.v6.sin6_family = AF_INET6;
        put_v6((char *)&mapped.sa.v6.sin6_addr, address);
        address = &mapped;
    }
    size_t len = address_host_text(address, text);
    memcpy(out, text, len);
    out[len] = ' ';
    return len + 1;
}

size_t proxy_header_write_v1(char *out, const struct address *source,
                             const struct address *destination) {
    if (!are_there(source, destination))
        return put_span(out, SPAN_LIT("PROXY UNKNOWN\r\n"));
    bool v6 = is_v6(source) || is_v6(destination);
    size_t len = put_span(out, v6 ? SPAN_LIT("PROXY TCP6 ") : SPAN_LIT("PROXY TCP4 "));
    len += put_host(out + len, source, v6);
    len += put_host(out + len, destination, v6);
    len += span_put_u64(out + len, address_port(source));
    out[len++] = ' ';
    len += span_put_u64(out + len, address_port(destination));
    return len + put_span(out + len, SPAN_LIT("\r\n"));
}

static size_t address_part(const struct address *source, const struct address *destination) {
    if (!are_there(source, destination))
        return 0;
    return is_v6(source) || is_v6(destination) ? V2_INET6_BYTES : V2_INET_BYTES;
}

/* Those behind the addresses that do not fit any more are passed over, and smaller ones behind them still fit. */
static size_t tlv_bytes_if_fits(size_t used, const struct proxy_tlv *tlv) {
    size_t size = TLV_HEAD + tlv->value.len;
    return used + size <= UINT16_MAX ? size : 0;
}

size_t proxy_header_size_v2(const struct address *source, const struct address *destination,
                            const struct proxy_tlv *tlvs, size_t tlv_count, size_t *left_out) {
    size_t used = address_part(source, destination), out = 0;
    for (size_t i = 0; i < tlv_count && are_there(source, destination); i++) {
        size_t size = tlv_bytes_if_fits(used, &tlvs[i]);
        used += size;
        out += size == 0;
    }
    if (left_out)
        *left_out = out;
    return PROXY_HEADER_V2_HEAD + used;
}

size_t proxy_header_write_v2(char *out, const struct address *source,
                             const struct address *destination, const struct proxy_tlv *tlvs,
                             size_t tlv_count) {
    size_t used = address_part(source, destination);
    char *at = out + put_span(out, signature_v2);
    char *addresses = out + PROXY_HEADER_V2_HEAD;
    at[0] = V2_VERSION << 4 | (used ? V2_PROXY : V2_LOCAL);
    at[1] = 0;
    if (used == V2_INET_BYTES) {
        at[1] = V2_INET << 4 | V2_STREAM;
        memcpy(addresses, &source->sa.v4.sin_addr, 4);
        memcpy(addresses + 4, &destination->sa.v4.sin_addr, 4);
    } else if (used == V2_INET6_BYTES) {
        at[1] = V2_INET6 << 4 | V2_STREAM;
        put_v6(addresses, source);
        put_v6(addresses + 16, destination);
    }
    if (used > 0) {
        put_u16(addresses + used - 4, address_port(source));
        put_u16(addresses + used - 2, address_port(destination));
    } else {
        tlv_count = 0;
    }
    for (size_t i = 0; i < tlv_count; i++) {
        size_t size = tlv_bytes_if_fits(used, &tlvs[i]);
        if (size == 0)
            continue;
        addresses[used] = (char)tlvs[i].type;
        put_u16(addresses + used + 1, (uint16_t)tlvs[i].value.len);
        if (tlvs[i].value.len)
            memcpy(addresses + used + TLV_HEAD, tlvs[i].value.ptr, tlvs[i].value.len);
        used += size;
    }
    put_u16(at + 2, (uint16_t)used);
    return PROXY_HEADER_V2_HEAD + used;
}
