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
 * What is malformed is what keeps BoringSSL from asking who is meant, whose verdict is Envoy's: a message, a list of
 * extensions, a server name or an encrypted hello of the wrong shape, an extension that comes twice. What else a server
 * would not take (versions, compression, the other extensions) is its own to refuse, with its own alert. Differences:
 *   - a version in front that is none of TLS 1.0 to 1.3 is not TLS; Envoy closes the connection;
 *   - a server name with bytes that no host name has (control characters, blanks, 8 bits) is no name, while the message
 *     is one: it would go to logs and headers;
 *   - more than CLIENT_HELLO_EXTENSIONS_MAX extensions are too many, and alerts in front of it are not skipped.
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
    EMPTY_RECORDS_MAX = 32, /* in a row */
};

enum extension {
    EXT_SERVER_NAME = 0,
    EXT_PROTOCOLS = 16,
    EXT_SUPPORTED_VERSIONS = 43,
    EXT_ECH = 0xfe0d,
};

/* ---- parts ---- */

/* What take is for: the bytes may lie in several records. */
static NOINLINE void gather(struct client_hello_part *part, size_t n, uint8_t *to) {
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
}

/* n bytes of the part, to `into` unless it is NULL. False: it has fewer. */
static inline bool take(struct client_hello_part *part, size_t n, void *into) {
    if (n > part->left)
        return false;
    part->left -= (uint32_t)n;
    if (n > part->in_record) {
        gather(part, n, into);
        return true;
    }
    if (into)
        memcpy(into, part->at, n);
    part->at += n;
    part->in_record -= (uint32_t)n;
    return true;
}

static inline bool take_u8(struct client_hello_part *part, uint8_t *out) {
    return take(part, 1, out);
}

static inline bool take_u16(struct client_hello_part *part, uint16_t *out) {
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

/* The highest of those known; malformed ones are as none. */
static void read_versions(struct client_hello_part part, struct client_hello *hello) {
    struct client_hello_part list;
    uint16_t version;
    if (!take_list8(&part, &list) || part.left != 0 || list.left == 0 || list.left % 2 != 0)
        return;
    hello->has_supported_versions = true;
    hello->version = 0;
    while (take_u16(&list, &version)) {
        hello->has_grease |= is_grease(version);
        if (version >= TLS_1_0 && version <= TLS_1_3 && version > hello->version)
            hello->version = version;
    }
}

/* RFC 9849 5: the outer one has a key and what is encrypted with it. */
static bool is_ech(struct client_hello_part part) {
    const uint8_t outer = 0;
    struct client_hello_part key, payload;
    uint16_t kdf, aead;
    uint8_t type, config_id;
    if (!take_u8(&part, &type))
        return false;
    return type != outer ||
           (take_u16(&part, &kdf) && take_u16(&part, &aead) && take_u8(&part, &config_id) &&
            take_list16(&part, &key) && take_list16(&part, &payload) && part.left == 0);
}

struct extensions {
    struct client_hello_part all;
    uint16_t types[CLIENT_HELLO_EXTENSIONS_MAX];
};

static bool next_extension(struct client_hello_part *rest, uint16_t *type,
                           struct client_hello_part *content) {
    return take_u16(rest, type) && take_list16(rest, content);
}

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
        hello->has_ech |= type == EXT_ECH;
        hello->has_grease |= is_grease(type);
        if ((type == EXT_SERVER_NAME && !read_server_name(content, hello)) ||
            (type == EXT_ECH && !is_ech(content)))
            return false;
        if (type == EXT_PROTOCOLS)
            read_protocols(content, hello);
        if (type == EXT_SUPPORTED_VERSIONS)
            read_versions(content, hello);
    }
    return true;
}

/* ---- the message ---- */

/* Of a client that says no more than the version in front: 1.2 is the last one that is said there. */
static bool take_legacy_version(struct client_hello *hello) {
    hello->version = hello->legacy_version < TLS_1_2 ? hello->legacy_version : TLS_1_2;
    return hello->legacy_version >= TLS_1_0 && hello->legacy_version <= TLS_1_3;
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
    if (!take_u16(&message, &hello->legacy_version) || !take_legacy_version(hello) ||
        !take(&message, RANDOM_BYTES, NULL) || !take_list8(&message, &session_id) ||
        session_id.left > SESSION_ID_MAX || !take_list16(&message, &ciphers) || ciphers.left == 0 ||
        ciphers.left % 2 != 0 || !take_list8(&message, &methods) || methods.left == 0)
        return false;
    if (message.left > 0 && (!take_list16(&message, &extensions.all) || message.left != 0))
        return false;
    count_ciphers(ciphers, hello);
    return read_extensions(&extensions, hello);
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
    size_t at = 0, gathered = 0, empty = 0;
    while (at < bytes.len) {
        size_t have = bytes.len - at;
        if (!is_record_head(start + at, have))
            return CLIENT_HELLO_NONE;
        if (have < RECORD_HEAD)
            return CLIENT_HELLO_MORE;
        size_t size = (size_t)start[at + 3] << 8 | start[at + 4];
        at += RECORD_HEAD;
        empty = size == 0 ? empty + 1 : 0;
        if (empty > EMPTY_RECORDS_MAX)
            return CLIENT_HELLO_NONE;
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
