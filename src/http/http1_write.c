/* http1_write: a head as few pieces, each byte of which was copied once at most.
 *
 * A small head is rendered whole into memory that is in the cache. Of a large one, lines that nobody
 * changed stand in the block they were read into, and mostly next to each other:
 *
 *     block   GET /a HTTP/1.1|host: x|accept: *|te: gzip|cookie: 1|\r\n
 *     iovec   [-------------- 1 -------------]           [-- 2 --]        te was removed
 *     arena                                              x-request-id: 7|connection: close|\r\n
 *     iovec                                              [--------------- 3 ----------------]
 *
 * One walk does both. Lines on the wire that lie behind each other become a run, which end_run() copies
 * or makes an iovec; everything else is rendered at `p`, behind what was rendered before, and becomes an
 * iovec when a run follows.
 *
 * Overflow   The last iovec is kept for a chunk that takes all that is left.
 *
 * Framing is decided by `transfer` alone: entries of the map that would contradict it are left out,
 * because a filter's slip must not become request smuggling. Whatever is rendered is checked on its way:
 * the map admits valid fields only, but a line break here would be somebody else's message. */
#include <errno.h>

#include "base/check.h"
#include "http/chars_search.h"
#include "http/header_id.h"
#include "http/header_map_internal.h"
#include "http/http1.h"
#include "http/status.h"

/* Beyond the entries: "transfer-encoding: chunked", "connection: ", line ends, a start line's
 * version, the whole vector that a name is copied in, and room to spare. */
enum { FIXED_BYTES_MAX = HTTP1_SMALL_ROOM - HTTP1_SMALL_HEAD };

struct builder {
    struct http1_writer *writer; /* NULL, like after an overflow: runs are copied */
    const struct header_map *headers;
    const char *end;           /* of the memory that is rendered into */
    char *from;                /* what was rendered and is no piece yet begins here */
    const char *run, *run_end; /* wire lines that wait */
    int rc;
};

static void emit(struct http1_writer *writer, const char *from, const char *end) {
    if (from == end)
        return;
    struct iovec *last = writer->iov_count ? &writer->iov[writer->iov_count - 1] : NULL;
    if (last && (const char *)last->iov_base + last->iov_len == from)
        last->iov_len += (size_t)(end - from);
    else
        writer->iov[writer->iov_count++] =
            (struct iovec){(void *)(uintptr_t)from, (size_t)(end - from)};
    writer->bytes += (size_t)(end - from);
}

/* What was rendered so far is a piece. */
static void emit_rendered(struct builder *b, char *p) {
    b->writer->copied += (size_t)(p - b->from);
    emit(b->writer, b->from, p);
    b->from = p;
}

/* The most that a head comes to, start line included. */
static size_t bound(const struct header_map *map, size_t extra) {
    return map->bytes + 4 * (size_t)map->count + extra + FIXED_BYTES_MAX;
}

/* Memory of the arena to render into. */
static char *open_chunk(struct builder *b, size_t size) {
    b->from = arena_alloc(b->writer->arena, size);
    if (b->from)
        b->end = b->from + size;
    else
        b->rc = -ENOMEM;
    return b->from;
}

/* A run as an iovec, or, when there is room for no more of them, the beginning of one last chunk. */
static NOINLINE char *emit_run(struct builder *b, char *p) {
    emit_rendered(b, p);
    if (b->writer->iov_count < HTTP1_IOV_MAX - 2) {
        emit(b->writer, b->run, b->run_end);
        b->run = b->run_end = NULL;
        return p;
    }
    p = open_chunk(b, bound(b->headers, 0));
    b->writer = NULL;
    return p;
}

/* The lines that wait go out. NULL: see rc. */
static inline char *end_run(struct builder *b, char *p) {
    if (b->writer && b->run != b->run_end)
        p = emit_run(b, p);
    if (b->run != b->run_end && p) {
        size_t len = (size_t)(b->run_end - b->run);
        ASSERT((size_t)(b->end - p) >= len);
        memcpy(p, b->run, len);
        p += len;
        b->run = b->run_end = NULL;
    }
    return p;
}

/* A line stands on the wire as it should go out. */
static inline char *queue(struct builder *b, char *p, const char *line, size_t len) {
    if (b->run_end != line) {
        p = end_run(b, p);
        b->run = line;
    }
    b->run_end = line + len; /* borrow-ok: as the entry's own bytes are */
    return p;
}

static inline char *put(struct builder *b, char *p, struct span bytes) {
    ASSERT((size_t)(b->end - p) >= bytes.len);
    memcpy(p, bytes.ptr, bytes.len);
    return p + bytes.len;
}

/* Copies a value and says whether it may go out. */
static inline bool put_value(char *p, const char *from, size_t len) {
#ifdef __SSE2__
    if (len >= 8 && len <= 16) { /* both its ends in one vector */
        __m128i head = _mm_loadl_epi64((const __m128i *)(const void *)from);
        __m128i tail = _mm_loadl_epi64((const __m128i *)(const void *)(from + len - 8));
        _mm_storel_epi64((__m128i *)(void *)p, head);
        _mm_storel_epi64((__m128i *)(void *)(p + len - 8), tail);
        return chars_control_mask(_mm_unpacklo_epi64(head, tail)) == 0;
    }
    if (len > 16) {
        unsigned bad = 0;
        size_t last = len - 16;
        for (size_t at = 0;; at = at + 16 < last ? at + 16 : last) {
            __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(from + at));
            _mm_storeu_si128((__m128i *)(void *)(p + at), v);
            bad |= chars_control_mask(v);
            if (at == last)
                return bad == 0;
        }
    }
    bool bad = false;
    for (size_t i = 0; i < len; i++) {
        bad |= chars_is_control(from[i]);
        p[i] = from[i];
    }
    return !bad;
#else
    if (len)
        memcpy(p, from, len);
    return header_value_is_valid(span_make(from, len));
#endif
}

static inline char *put_line_value(char *p, char *start, const char *value, size_t len) {
    memcpy(p, ": ", 2);
    p += 2;
    if (!put_value(p, value, len))
        return start; /* rather no line than two */
    memcpy(p + len, "\r\n", 2);
    return p + len + 2;
}

/* A line with one of our names. */
static inline char *put_known(struct builder *b, char *p, enum header_id id, const char *value,
                              size_t len) {
    size_t name_len = header_name_lens[id];
    ASSERT((size_t)(b->end - p) >= HEADER_NAME_BYTES + len + 4);
    memcpy(p, header_names[id].text, HEADER_NAME_BYTES); /* all of it: of a known size */
    return put_line_value(p + name_len, p, value, len);
}

static inline char *put_field(struct builder *b, char *p, const struct header *entry) {
    if (entry->id != HDR_OTHER)
        return put_known(b, p, (enum header_id)entry->id, entry->value_ptr, entry->value_len);
    if (!header_name_is_valid(header_name(entry)))
        return p;
    ASSERT((size_t)(b->end - p) >= entry->name_len + (size_t)entry->value_len + 4);
    char *at = put(b, p, header_name(entry));
    return put_line_value(at, p, entry->value_ptr, entry->value_len);
}

#define BIT(id) (UINT64_C(1) << HDR_##id)

/* What a message may say about its length besides `transfer`. */
struct length_rule {
    uint64_t skipped; /* a bit of these ids: the entry does not go out */
    bool only_zero;   /* a Content-Length must be 0 */
    bool seen;
};

static struct length_rule length_rule(bool allowed, bool only_zero) {
    const uint64_t never = BIT(METHOD) | BIT(PATH) | BIT(AUTHORITY) | BIT(SCHEME) | BIT(STATUS) |
                           BIT(PROTOCOL) | BIT(TRANSFER_ENCODING) | BIT(CONNECTION) |
                           BIT(KEEP_ALIVE) | BIT(PROXY_CONNECTION);
    return (struct length_rule){.skipped = never | (allowed ? 0 : BIT(CONTENT_LENGTH)),
                                .only_zero = only_zero};
}

/* One Content-Length goes out at most. */
static bool may_send_length(const struct header *entry, struct length_rule *rule) {
    if (rule->only_zero && !span_eq(header_value(entry), SPAN_LIT("0")))
        return false;
    rule->skipped |= BIT(CONTENT_LENGTH);
    rule->seen = true;
    return true;
}

/* host: a line "host: value\r\n" on the wire that goes out too, or the absent span. */
static char *put_fields(struct builder *b, char *p, struct length_rule *rule, struct span host) {
    const struct header *entry = b->headers->entries;
    for (const struct header *end = entry + b->headers->count; entry < end; entry++) {
        if (rule->skipped >> entry->id & 1)
            continue;
        if (entry->id == HDR_CONTENT_LENGTH && !may_send_length(entry, rule))
            continue;
        bool in_place = (entry->flags & HEADER_WIRE_LINE) != 0;
        /* Host is no entry. It goes out from its place among the lines, so that it parts no run:
         * before the first one that stood behind it, or that is new. */
        if (host.len && (!in_place || (uintptr_t)entry->name_ptr > (uintptr_t)host.ptr)) {
            p = queue(b, p, host.ptr, host.len);
            host = span_none();
        }
        if (in_place) {
            p = queue(b, p, entry->name_ptr,
                      (size_t)(entry->value_ptr + entry->value_len + 2 - entry->name_ptr));
        } else {
            p = end_run(b, p);
            if (p)
                p = put_field(b, p, entry);
        }
        if (!p)
            return NULL;
    }
    if (host.len)
        p = queue(b, p, host.ptr, host.len);
    return p ? end_run(b, p) : NULL;
}

static char *put_tail(struct builder *b, char *p, enum http1_transfer transfer,
                      struct span connection) {
    static const char chunked[] = "chunked";
    if (transfer == HTTP1_SEND_CHUNKED)
        p = put_known(b, p, HDR_TRANSFER_ENCODING, chunked, sizeof chunked - 1);
    if (!span_is_none(connection))
        p = put_known(b, p, HDR_CONNECTION, connection.ptr, connection.len);
    return put(b, p, SPAN_LIT("\r\n"));
}

static char *fail(struct builder *b, int rc) {
    b->rc = rc;
    return NULL;
}

/* "METHOD path HTTP/1.1\r\n" */
static char *put_request_line(struct builder *b, char *p) {
    static const char version[] = " HTTP/1.1\r\n";
    const struct header_map *map = b->headers;
    if (!header_has(map, HDR_METHOD))
        return fail(b, -EINVAL);
    const struct header *method = &map->entries[header_map_first(map, HDR_METHOD)];
    struct span target = header_get(map, HDR_PATH);
    if ((method->flags & HEADER_WIRE_START) && header_has(map, HDR_PATH) &&
        (map->entries[header_map_first(map, HDR_PATH)].flags & HEADER_WIRE_START))
        return queue(b, p, method->value_ptr,
                     (size_t)(target.ptr + target.len - method->value_ptr) + sizeof version - 1);
    if (span_eq(header_value(method), SPAN_LIT("CONNECT")))
        target = header_get(map, HDR_AUTHORITY);
    if (!header_pseudo_is_valid(HDR_METHOD, header_value(method)) ||
        !header_pseudo_is_valid(HDR_PATH, target))
        return fail(b, -EINVAL);
    p = put(b, p, header_value(method));
    *p++ = ' ';
    p = put(b, p, target);
    return put(b, p, span_make(version, sizeof version - 1));
}

static char *put_request(struct builder *b, char *p, enum http1_transfer transfer,
                         struct span connection) {
    const struct header_map *map = b->headers;
    struct span host_line = span_none();
    p = put_request_line(b, p);
    if (p && header_has(map, HDR_AUTHORITY)) {
        const struct header *authority = &map->entries[header_map_first(map, HDR_AUTHORITY)];
        const size_t name = sizeof "host: " - 1;
        if (authority->flags & HEADER_WIRE_HOST)
            host_line = span_make(authority->value_ptr - name, name + authority->value_len + 2);
        else if (!header_pseudo_is_valid(HDR_AUTHORITY, header_value(authority)))
            return fail(b, -EINVAL);
        else if ((p = end_run(b, p)) != NULL)
            p = put_known(b, p, HDR_HOST, authority->value_ptr, authority->value_len);
    }
    struct length_rule rule = length_rule(
        transfer == HTTP1_SEND_LENGTH || transfer == HTTP1_SEND_NONE, transfer == HTTP1_SEND_NONE);
    if (p)
        p = put_fields(b, p, &rule, host_line);
    if (p && transfer == HTTP1_SEND_LENGTH && !rule.seen)
        return fail(b, -EINVAL);
    return p ? put_tail(b, p, transfer, connection) : NULL;
}

static char *put_response(struct builder *b, char *p, unsigned minor_version,
                          enum http1_transfer transfer, struct span connection) {
    struct span digits = header_get(b->headers, HDR_STATUS);
    if (!header_pseudo_is_valid(HDR_STATUS, digits))
        return fail(b, -EINVAL);
    if (transfer == HTTP1_SEND_CHUNKED && minor_version == 0)
        return fail(b, -EINVAL);

    unsigned status = (unsigned)((digits.ptr[0] - '0') * 100 + (digits.ptr[1] - '0') * 10 +
                                 (digits.ptr[2] - '0'));
    struct span line = status_line(status);
    if (minor_version == 1 && !span_is_none(line)) {
        p = put(b, p, line);
    } else {
        p = put(b, p, minor_version ? SPAN_LIT("HTTP/1.1 ") : SPAN_LIT("HTTP/1.0 "));
        p = put(b, p, digits);
        *p++ = ' ';
        p = put(b, p, http1_reason(status));
        p = put(b, p, SPAN_LIT("\r\n"));
    }

    /* Without a body a length still tells of the body that HEAD or 304 stands for; 1xx and 204
     * stand for none. */
    struct length_rule rule =
        length_rule(transfer == HTTP1_SEND_LENGTH ||
                        (transfer == HTTP1_SEND_NONE && status >= 200 && status != 204),
                    false);
    p = put_fields(b, p, &rule, span_none());
    if (p && transfer == HTTP1_SEND_LENGTH && !rule.seen)
        return fail(b, -EINVAL);
    return p ? put_tail(b, p, transfer, connection) : NULL;
}

/* ---- small heads ---- */

static bool is_small(const struct header_map *headers, size_t extra) {
    return bound(headers, extra) <= HTTP1_SMALL_ROOM;
}

/* A request's authority may stand in it twice: as CONNECT's target and as Host. */
static size_t request_extra(const struct header_map *headers, struct span connection) {
    return connection.len + header_get(headers, HDR_AUTHORITY).len;
}

static struct builder in_room(const struct header_map *headers, char *room) {
    return (struct builder){.headers = headers, .end = room + HTTP1_SMALL_ROOM, .from = room};
}

ssize_t http1_render_request(char *room, const struct header_map *headers,
                             enum http1_transfer transfer, struct span connection) {
    if (!is_small(headers, request_extra(headers, connection)))
        return -E2BIG;
    struct builder b = in_room(headers, room);
    const char *end = put_request(&b, room, transfer, connection);
    return end ? end - room : b.rc;
}

ssize_t http1_render_response(char *room, const struct header_map *headers, unsigned minor_version,
                              enum http1_transfer transfer, struct span connection) {
    if (!is_small(headers, connection.len))
        return -E2BIG;
    struct builder b = in_room(headers, room);
    const char *end = put_response(&b, room, minor_version, transfer, connection);
    return end ? end - room : b.rc;
}

/* ---- heads of any size ---- */

/* A chunk for all that is rendered: everything of a small head, else what is not on the wire already. */
static char *begin(struct builder *b, struct http1_writer *writer, struct arena *arena,
                   const struct header_map *headers, size_t extra) {
    writer->iov_count = 0;
    writer->bytes = writer->copied = 0;
    writer->arena = arena;
    *b = (struct builder){.writer = writer, .headers = headers};
    size_t size = bound(headers, extra);
    bool small = size <= HTTP1_SMALL_ROOM;
    if (!small)
        for (uint32_t i = 0; i < headers->count; i++)
            if (headers->entries[i].flags & HEADER_WIRE_LINE)
                size -= headers->entries[i].name_len + headers->entries[i].value_len + 4;
    char *p = open_chunk(b, size);
    if (small)
        b->writer = NULL;
    return p;
}

/* What was rendered last is a piece, too. */
static int finish(struct builder *b, struct http1_writer *writer, char *p) {
    b->writer = writer;
    if (p)
        emit_rendered(b, p);
    return b->rc;
}

int http1_write_request(struct http1_writer *writer, struct arena *arena,
                        const struct header_map *headers, enum http1_transfer transfer,
                        struct span connection) {
    struct builder b;
    char *p = begin(&b, writer, arena, headers, request_extra(headers, connection));
    return finish(&b, writer, p ? put_request(&b, p, transfer, connection) : NULL);
}

int http1_write_response(struct http1_writer *writer, struct arena *arena,
                         const struct header_map *headers, unsigned minor_version,
                         enum http1_transfer transfer, struct span connection) {
    struct builder b;
    char *p = begin(&b, writer, arena, headers, connection.len);
    return finish(&b, writer, p ? put_response(&b, p, minor_version, transfer, connection) : NULL);
}

size_t http1_chunk_head(char *out, uint64_t size) {
    static const char digits[] = "0123456789abcdef";
    unsigned count = size ? (67 - (unsigned)__builtin_clzll(size)) / 4 : 1;
    for (unsigned i = 0; i < count; i++)
        out[i] = digits[size >> 4 * (count - 1 - i) & 15];
    out[count] = '\r';
    out[count + 1] = '\n';
    return count + 2;
}

int http1_write_trailers(struct http1_writer *writer, struct arena *arena,
                         const struct header_map *trailers) {
    struct builder b;
    char *p = begin(&b, writer, arena, trailers, 0);
    struct length_rule rule = length_rule(false, false);
    if (p)
        p = put(&b, p, SPAN_LIT("0\r\n"));
    if (p)
        p = put_fields(&b, p, &rule, span_none());
    if (p)
        p = put(&b, p, SPAN_LIT("\r\n"));
    return finish(&b, writer, p);
}
