/* client_hello: reading the first message of a TLS handshake (RFC 8446 4.1.2, RFC 5246 7.4.1.2).
 *
 *     record          record        record
 *     ┌─────┬─────────┬─────┬───────┬─────┬───
 *     │22 .n│ 01 len  │22 .m│ ...   │22 .k│ ...        A record holds any part of the message, so that any field
 *     └─────┴─────────┴─────┴───────┴─────┴───         may lie across two of them, or a hundred.
 *
 * Two passes. The first one walks from record to record until the message is whole: most calls, when bytes come
 * one by one, end there. The second one reads the fields by a cursor (struct client_hello_part) that steps over
 * the heads of records; a part of a part (an extension, a list) is a copy of the cursor with fewer bytes left.
 *
 * I1  A part has all of its bytes: the first pass has seen the message's last one.
 * I2  in_record <= what is there behind `at`; 0 with bytes left means that a record's head comes next.
 *
 * What is malformed is as BoringSSL has it, whose verdict is Envoy's: the shape of everything, the lists of
 * extensions whose meaning it knows, a version and a compression method that a server can take. Differences, each
 * towards more that is TLS, so that the server that gets it answers with its own alert:
 *   - a fallback (TLS_FALLBACK_SCSV) is not judged: which versions the server has is not known here;
 *   - a server name with bytes that no host name has (control characters, blanks, 8 bits) is not a malformed
 *     message, it is no name: it would go to logs and headers.
 * And towards less: more than CLIENT_HELLO_EXTENSIONS_MAX extensions; a hello in the format of SSL 2; alerts in
 * front of it.
 *
 * Rejected  Putting the message together in a buffer first: it needs one of 16 KiB for each connection that is
 *           being looked at, while nearly every message lies in one record. */
#include "io/client_hello.h"

enum {
    RECORD_HEAD = 5,
    RECORD_MAX = 16384,
    MESSAGE_HEAD = 4,
    TYPE_HANDSHAKE = 22,
    MESSAGE_CLIENT_HELLO = 1,
    RANDOM_BYTES = 32,
    SESSION_ID_MAX = 32,
    MAJOR_VERSION = 3,
};

enum extension {
    EXT_SERVER_NAME = 0,
    EXT_STATUS_REQUEST = 5,
    EXT_SUPPORTED_GROUPS = 10,
    EXT_POINT_FORMATS = 11,
    EXT_SIGNATURE_ALGORITHMS = 13,
    EXT_PROTOCOLS = 16,
    EXT_CERTIFICATE_TIMESTAMP = 18,
    EXT_EXTENDED_MASTER_SECRET = 23,
    EXT_EARLY_DATA = 42,
    EXT_SUPPORTED_VERSIONS = 43,
    EXT_PSK_MODES = 45,
    EXT_NEXT_PROTOCOL = 13172,
    EXT_ECH = 0xfe0d,
    EXT_RENEGOTIATION = 0xff01,
};

/* ---- parts ---- */

/* n bytes of the part, to `into` unless it is NULL. False: it has fewer. */
static bool take(struct client_hello_part *part, size_t n, void *into) {
    if (n > part->left)
        return false;
    uint8_t *to = into;
    part->left -= (uint32_t)n;
    while (n > 0) {
        if (part->in_record == 0) { /* maybe an empty one: then once more */
            part->in_record = (uint32_t)part->at[3] << 8 | part->at[4];
            part->at += RECORD_HEAD;
            continue;
        }
        size_t run = n < part->in_record ? n : part->in_record;
        if (to) {
            memcpy(to, part->at, run);
            to += run;
        }
        part->at += run;
        part->in_record -= (uint32_t)run;
        n -= run;
    }
    return true;
}

static bool take_u8(struct client_hello_part *part, uint8_t *out) {
    return take(part, 1, out);
}

static bool take_u16(struct client_hello_part *part, uint16_t *out) {
    uint8_t bytes[2];
    if (!take(part, 2, bytes))
        return false;
    *out = (uint16_t)(bytes[0] << 8 | bytes[1]);
    return true;
}

static bool take_part(struct client_hello_part *part, size_t n, struct client_hello_part *out) {
    *out = *part;
    if (!take(part, n, NULL))
        return false;
    out->left = (uint32_t)n;
    return true;
}

/* A length, and as many bytes. */
static bool take_list8(struct client_hello_part *part, struct client_hello_part *out) {
    uint8_t n;
    return take_u8(part, &n) && take_part(part, n, out);
}

static bool take_list16(struct client_hello_part *part, struct client_hello_part *out) {
    uint16_t n;
    return take_u16(part, &n) && take_part(part, n, out);
}

/* Nothing but a list of numbers of two bytes, at least one. */
static bool is_list_of_u16(struct client_hello_part part) {
    struct client_hello_part list;
    return take_list16(&part, &list) && part.left == 0 && list.left > 0 && list.left % 2 == 0;
}

/* ---- extensions ---- */

static bool is_grease(uint16_t value) {
    return (value & 0x0f0f) == 0x0a0a && value >> 8 == (value & 0xff);
}

static bool read_server_name(struct client_hello_part part, struct client_hello *hello) {
    struct client_hello_part list, name;
    uint8_t type;
    if (!take_list16(&part, &list) || part.left != 0 || !take_u8(&list, &type) || type != 0 ||
        !take_list16(&list, &name) || list.left != 0)
        return false;
    size_t len = name.left;
    if (len == 0 || len > CLIENT_HELLO_NAME_MAX || !take(&name, len, hello->server_name))
        return false;
    bool is_name = true;
    for (size_t i = 0; i < len; i++) {
        char c = hello->server_name[i];
        if (c == '\0')
            return false;
        is_name = is_name && c > ' ' && c <= '~';
        if (c >= 'A' && c <= 'Z')
            hello->server_name[i] = (char)(c + ('a' - 'A'));
    }
    hello->server_name_len = is_name ? (uint8_t)len : 0;
    return true;
}

/* Malformed ones are for the server to complain about; here they are none, as on Envoy. */
static void read_protocols(struct client_hello_part part, struct client_hello *hello) {
    struct client_hello_part list, rest, name;
    if (!take_list16(&part, &list) || part.left != 0 || list.left < 2)
        return;
    for (rest = list; rest.left > 0;)
        if (!take_list8(&rest, &name) || name.left == 0)
            return;
    hello->has_protocols = true;
    hello->protocols = list;
}

/* The highest that it has in common with a server of TLS 1.0 to 1.3; false: none, or malformed. */
static bool read_versions(struct client_hello_part part, struct client_hello *hello) {
    struct client_hello_part list;
    if (!take_list8(&part, &list) || part.left != 0 || list.left == 0 || list.left % 2 != 0)
        return false;
    hello->has_supported_versions = true;
    uint16_t best = 0, version;
    while (take_u16(&list, &version)) {
        hello->has_grease |= is_grease(version);
        if (version >= TLS_1_0 && version <= TLS_1_3 && version > best)
            best = version;
    }
    hello->version = best;
    return best != 0;
}

static bool is_status_request(struct client_hello_part part) {
    const uint8_t ocsp = 1;
    struct client_hello_part responders, extensions;
    uint8_t type;
    return take_u8(&part, &type) &&
           (type != ocsp ||
            (take_list16(&part, &responders) && take_list16(&part, &extensions) && part.left == 0));
}

/* A list of one byte each, with the one that every curve has: uncompressed. */
static bool is_point_formats(struct client_hello_part part) {
    struct client_hello_part list;
    uint8_t format;
    if (!take_list8(&part, &list) || part.left != 0)
        return false;
    while (take_u8(&list, &format))
        if (format == 0)
            return true;
    return false;
}

static bool is_ech(struct client_hello_part part) {
    const uint8_t outer = 0, inner = 1;
    uint8_t type;
    return take_u8(&part, &type) && (type == outer || (type == inner && part.left == 0));
}

/* Whether the content of an extension has the shape that a server insists on. Some it does not look at if the
 * version is 1.3, which has no use for them. */
static bool is_well_formed(uint16_t type, struct client_hello_part content, bool is_tls_1_3) {
    struct client_hello_part list;
    switch (type) {
    case EXT_STATUS_REQUEST:
        return is_status_request(content);
    case EXT_SUPPORTED_GROUPS:
    case EXT_SIGNATURE_ALGORITHMS:
        return is_list_of_u16(content);
    case EXT_POINT_FORMATS:
        return is_tls_1_3 || is_point_formats(content);
    case EXT_EXTENDED_MASTER_SECRET:
        return is_tls_1_3 || content.left == 0;
    case EXT_CERTIFICATE_TIMESTAMP:
    case EXT_EARLY_DATA:
    case EXT_NEXT_PROTOCOL:
        return content.left == 0;
    case EXT_PSK_MODES:
        return take_list8(&content, &list) && content.left == 0 && list.left > 0;
    case EXT_ECH:
        return is_ech(content);
    case EXT_RENEGOTIATION: /* of a first handshake */
        return is_tls_1_3 || (take_list8(&content, &list) && list.left == 0 && content.left == 0);
    default:
        return true;
    }
}

struct extensions {
    struct client_hello_part all;
    uint16_t types[CLIENT_HELLO_EXTENSIONS_MAX];
};

static bool next_extension(struct client_hello_part *rest, uint16_t *type,
                           struct client_hello_part *content) {
    return take_u16(rest, type) && take_list16(rest, content);
}

/* The list as such, and what of it the version depends on. */
static bool read_extensions(struct extensions *extensions, struct client_hello *hello) {
    struct client_hello_part rest = extensions->all, content;
    while (rest.left > 0) {
        uint16_t type, count = hello->extension_count;
        if (count == CLIENT_HELLO_EXTENSIONS_MAX || !next_extension(&rest, &type, &content))
            return false;
        for (uint16_t i = 0; i < count; i++)
            if (extensions->types[i] == type)
                return false;
        extensions->types[count] = type;
        hello->extension_count++;
        if (type == EXT_SERVER_NAME && !read_server_name(content, hello))
            return false;
        if (type == EXT_SUPPORTED_VERSIONS && !read_versions(content, hello))
            return false;
        if (type == EXT_PROTOCOLS)
            read_protocols(content, hello);
        hello->has_ech |= type == EXT_ECH;
        hello->has_grease |= is_grease(type);
    }
    return true;
}

static bool check_extensions(struct client_hello_part rest, const struct client_hello *hello) {
    struct client_hello_part content;
    uint16_t type;
    while (rest.left > 0)
        if (!next_extension(&rest, &type, &content) ||
            !is_well_formed(type, content, hello->version == TLS_1_3))
            return false;
    return true;
}

/* ---- the message ---- */

/* Of a client that says no more than the version in front: 1.2 is the last one that is said there. */
static bool take_legacy_version(struct client_hello *hello) {
    if (hello->legacy_version < TLS_1_0)
        return false;
    hello->version = hello->legacy_version < TLS_1_2 ? hello->legacy_version : TLS_1_2;
    return true;
}

static bool has_null_compression(struct client_hello_part methods) {
    uint8_t method;
    while (take_u8(&methods, &method))
        if (method == 0)
            return true;
    return false;
}

static void count_ciphers(struct client_hello_part list, struct client_hello *hello) {
    uint16_t cipher;
    hello->cipher_count = (uint16_t)(list.left / 2);
    while (!hello->has_grease && take_u16(&list, &cipher))
        hello->has_grease = is_grease(cipher);
}

static bool read_message(struct client_hello_part message, struct client_hello *hello) {
    struct client_hello_part session_id, ciphers, methods;
    struct extensions extensions = {.all = {NULL, 0, 0}};
    if (!take_u16(&message, &hello->legacy_version) || !take(&message, RANDOM_BYTES, NULL) ||
        !take_list8(&message, &session_id) || session_id.left > SESSION_ID_MAX ||
        !take_list16(&message, &ciphers) || ciphers.left == 0 || ciphers.left % 2 != 0 ||
        !take_list8(&message, &methods) || !has_null_compression(methods))
        return false;
    if (message.left > 0 && (!take_list16(&message, &extensions.all) || message.left != 0))
        return false;
    count_ciphers(ciphers, hello);
    return read_extensions(&extensions, hello) &&
           (hello->has_supported_versions || take_legacy_version(hello)) &&
           check_extensions(extensions.all, hello);
}

/* The message's own head, over as many records as it takes: type and length. */
struct head {
    uint8_t bytes[MESSAGE_HEAD];
    uint32_t have;
};

static enum client_hello_verdict judge_head(const struct head *head, uint32_t *message_bytes) {
    if (head->have > 0 && head->bytes[0] != MESSAGE_CLIENT_HELLO)
        return CLIENT_HELLO_NONE;
    if (head->have < MESSAGE_HEAD)
        return CLIENT_HELLO_MORE;
    *message_bytes =
        (uint32_t)head->bytes[1] << 16 | (uint32_t)head->bytes[2] << 8 | head->bytes[3];
    return *message_bytes <= CLIENT_HELLO_MESSAGE_MAX ? CLIENT_HELLO_DONE : CLIENT_HELLO_NONE;
}

static bool is_record_head(const uint8_t *at, size_t have) {
    return at[0] == TYPE_HANDSHAKE && (have < 2 || at[1] == MAJOR_VERSION) &&
           (have < 4 || at[3] <= RECORD_MAX >> 8) &&
           (have < RECORD_HEAD || (at[3] << 8 | at[4]) <= RECORD_MAX);
}

/* The first pass: is the message whole, and where does it end? */
static enum client_hello_verdict find_end(struct span bytes, uint32_t *message_bytes,
                                          uint32_t *wire_bytes) {
    const uint8_t *start = (const uint8_t *)bytes.ptr;
    struct head head = {.have = 0};
    enum client_hello_verdict known = CLIENT_HELLO_MORE;
    size_t at = 0, gathered = 0;
    while (at < bytes.len) {
        size_t have = bytes.len - at;
        if (!is_record_head(start + at, have))
            return CLIENT_HELLO_NONE;
        if (have < RECORD_HEAD)
            return CLIENT_HELLO_MORE;
        size_t size = (size_t)start[at + 3] << 8 | start[at + 4];
        at += RECORD_HEAD;
        size_t here = size < bytes.len - at ? size : bytes.len - at;
        for (size_t i = 0; i < here && head.have < MESSAGE_HEAD; i++)
            head.bytes[head.have++] = start[at + i];
        if (known == CLIENT_HELLO_MORE)
            known = judge_head(&head, message_bytes);
        if (known == CLIENT_HELLO_NONE)
            return known;
        gathered += here;
        if (known == CLIENT_HELLO_DONE && gathered >= MESSAGE_HEAD + *message_bytes) {
            *wire_bytes = (uint32_t)(at + here - (gathered - MESSAGE_HEAD - *message_bytes));
            return CLIENT_HELLO_DONE;
        }
        if (here < size)
            return CLIENT_HELLO_MORE;
        at += size;
    }
    return CLIENT_HELLO_MORE;
}

enum client_hello_verdict client_hello_read(struct span bytes, struct client_hello *hello) {
    uint32_t message_bytes = 0, wire_bytes = 0;
    enum client_hello_verdict verdict = find_end(bytes, &message_bytes, &wire_bytes);
    if (verdict != CLIENT_HELLO_DONE)
        return verdict;
    struct client_hello_part message = {
        .at = (const uint8_t *)bytes.ptr,
        .left = MESSAGE_HEAD + message_bytes,
    };
    struct client_hello read;
    memset(&read, 0, offsetof(struct client_hello, server_name));
    read.wire_bytes = wire_bytes;
    read.protocols = (struct client_hello_part){NULL, 0, 0};
    if (!take(&message, MESSAGE_HEAD, NULL) || !read_message(message, &read))
        return CLIENT_HELLO_NONE;
    *hello = read;
    return CLIENT_HELLO_DONE;
}

size_t client_hello_next_protocol(struct client_hello_part *rest,
                                  char name[CLIENT_HELLO_NAME_MAX]) {
    struct client_hello_part one;
    if (!take_list8(rest, &one))
        return 0;
    size_t len = one.left;
    return take(&one, len, name) ? len : 0;
}
