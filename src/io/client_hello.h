/* client_hello: what a TLS client says before anything is encrypted: which host it wants, which protocols it
 * speaks. Reads the first message of the handshake where it lies, over as many records and packets as it comes
 * in, and leaves all of it for whoever is to answer it.
 *
 * Verdict    Of a prefix of the stream, which may grow byte by byte: the same bytes give the same verdict however
 *            they were cut. Bytes that cannot become a ClientHello are told of at once.
 * Work       Each call looks at the head of each record (5 bytes in up to 16 KiB) and, once the message is whole,
 *            at all of it. Nothing is kept between calls, nothing is allocated.
 * Ownership  Names are copied out: they may lie across records.
 * Threads    Pure functions. */
#pragma once
#include "base/span.h"

enum client_hello_verdict {
    CLIENT_HELLO_MORE, /* not whole: call again with more bytes behind these */
    CLIENT_HELLO_DONE,
    CLIENT_HELLO_NONE, /* something else, or malformed */
};

enum {
    CLIENT_HELLO_NAME_MAX = 255, /* of a server name, and of a protocol */
    /* Of a message. 64 extensions of a certificate request's size fit; BoringSSL, and so Envoy, has the same. */
    CLIENT_HELLO_MESSAGE_MAX = 16384,
    /* Clients have some twenty; each is compared with each, as none may come twice. */
    CLIENT_HELLO_EXTENSIONS_MAX = 128,
    TLS_1_0 = 0x0301,
    TLS_1_2 = 0x0303,
    TLS_1_3 = 0x0304,
};

/* A part of the message. Private but for being copied. */
struct client_hello_part {
    const uint8_t *at;
    uint32_t in_record; /* bytes before the next record's head */
    uint32_t left;      /* bytes of the part, without the heads in between */
};

struct client_hello {
    uint16_t legacy_version;
    uint16_t version; /* the highest that it offers, of TLS_1_0 .. TLS_1_3; 0: none of them */
    uint16_t cipher_count;
    uint16_t extension_count;
    uint32_t wire_bytes; /* of the records, up to the message's last byte */
    bool has_supported_versions;
    bool has_grease;         /* RFC 8701: offers what nobody has, to keep servers honest */
    bool has_ech;            /* its server name may be a facade, the real one is encrypted */
    bool has_protocols;      /* ALPN, well-formed */
    uint8_t server_name_len; /* 0: it names none, or one with bytes that no name has */
    char server_name[CLIENT_HELLO_NAME_MAX]; /* in lower case */
    struct client_hello_part protocols;      /* for client_hello_next_protocol */
};

/* bytes: the stream from its beginning. Fills *hello on CLIENT_HELLO_DONE only; it refers to the bytes, for
 * client_hello_next_protocol. */
enum client_hello_verdict client_hello_read(struct span bytes BORROWED_BY(hello),
                                            struct client_hello *hello);

/* The next of the protocols that it offers, in its order of preference: copied to name, and how long it is; 0 at
 * the end. *rest begins as hello->protocols. */
size_t client_hello_next_protocol(struct client_hello_part *rest, char name[CLIENT_HELLO_NAME_MAX]);
