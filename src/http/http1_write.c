/* http1_write: a head as few iovecs.
 *
 * Lines that nobody changed stand in the block they were read into, and mostly next to each other:
 *
 *     block   GET /a HTTP/1.1|host: x|accept: *|te: gzip|cookie: 1|\r\n
 *     iovec   [-------------- 1 -------------]           [-- 2 --]        te was removed
 *     arena                                              x-request-id: 7|connection: close|\r\n
 *     iovec                                              [--------------- 3 ----------------]
 *
 * queue() collects lines that lie behind each other into a run; flush() sends the run. What is
 * rendered goes to one arena chunk, and emit() merges what follows the last iovec in memory, so
 * neighbours in the chunk become one iovec as well.
 *
 * Small heads are rendered whole into one iovec, runs included: see COPY_MAX.
 * Overflow   The last iovec is kept for a chunk that takes all that is left.
 *
 * Framing is decided by `transfer` alone: entries of the map that would contradict it are left out,
 * because a filter's slip must not become request smuggling. */
#include <errno.h>

#include "base/check.h"
#include "http/header_map_internal.h"
#include "http/http1.h"
#include "http/status.h"

/* A head up to this size is copied. Measured with writev on loopback TCP: each iovec more costs the
 * kernel 35 ns, and so does copying 1 KiB; a head that was changed would need two or three more. */
enum { COPY_MAX = 1024 };

/* Beyond the entries: "transfer-encoding: chunked", "connection: ", line ends, a start line's
 * version, and room to spare. */
enum { FIXED_BYTES_MAX = 160 };

struct builder {
    struct http1_writer *writer;
    const struct header_map *headers;
    char *chunk, *chunk_end; /* free part of the current arena chunk */
    char *copy;              /* copy_all: where in it the copy begins, not emitted yet */
    struct span run;         /* wire lines not sent yet */
    bool copy_all;           /* from here on all goes to the chunk */
    int rc;
};

static struct span iov_span(const struct iovec *iov) {
    return span_make(iov->iov_base, iov->iov_len);
}

static bool follows(const struct http1_writer *writer, const char *ptr) {
    if (writer->iov_count == 0)
        return false;
    struct span last = iov_span(&writer->iov[writer->iov_count - 1]);
    return last.ptr + last.len == ptr;
}

static void emit(struct http1_writer *writer, struct span bytes) {
    if (bytes.len == 0)
        return;
    if (follows(writer, bytes.ptr)) {
        writer->iov[writer->iov_count - 1].iov_len += bytes.len;
    } else {
        ASSERT(writer->iov_count < HTTP1_IOV_MAX);
        union { /* iovec serves readv as well and has no const */
            const char *in;
            void *out;
        } base = {bytes.ptr};
        writer->iov[writer->iov_count++] = (struct iovec){base.out, bytes.len};
    }
    writer->bytes += bytes.len;
}

/* A chunk for `size` bytes of rendered lines. */
static void open_chunk(struct builder *b, size_t size) {
    b->chunk = b->copy = arena_alloc(b->writer->arena, size);
    b->chunk_end = b->chunk ? b->chunk + size : NULL;
    if (!b->chunk)
        b->rc = -ENOMEM;
}

static void render(struct builder *b, struct span bytes) {
    if (b->rc || bytes.len == 0)
        return;
    ASSERT((size_t)(b->chunk_end - b->chunk) >= bytes.len);
    memcpy(b->chunk, bytes.ptr, bytes.len);
    if (!b->copy_all)
        emit(b->writer, span_make(b->chunk, bytes.len));
    b->chunk += bytes.len;
}

static void render_text(struct builder *b, struct span name, struct span value) {
    if (b->rc)
        return;
    char *p = b->chunk;
    size_t len = name.len + 2 + value.len + 2;
    ASSERT((size_t)(b->chunk_end - p) >= len);
    memcpy(p, name.ptr, name.len);
    p += name.len;
    *p++ = ':';
    *p++ = ' ';
    if (value.len)
        memcpy(p, value.ptr, value.len);
    p += value.len;
    *p++ = '\r';
    *p++ = '\n';
    if (!b->copy_all)
        emit(b->writer, span_make(b->chunk, len));
    b->chunk = p;
}

static void render_line(struct builder *b, const struct header *entry) {
    /* The map admits valid fields only; a line break here would be somebody else's message. */
    bool valid = header_value_is_valid(header_value(entry)) &&
                 (entry->id != HDR_OTHER || header_name_is_valid(header_name(entry)));
    ASSERT_SLOW(valid);
    if (valid)
        render_text(b, header_name(entry), header_value(entry));
}

/* Sends the lines queued: from where they lie, or copied. */
static void flush(struct builder *b) {
    struct span run = b->run;
    if (run.len == 0)
        return;
    b->run = span_none();
    if (!b->copy_all && b->writer->iov_count >= HTTP1_IOV_MAX - 2 && !follows(b->writer, run.ptr)) {
        b->copy_all = true;
        open_chunk(b, b->headers->bytes + 4 * (size_t)b->headers->count + FIXED_BYTES_MAX);
    }
    if (b->copy_all)
        render(b, run);
    else
        emit(b->writer, run);
}

/* A span that stands on the wire as it should go out. */
static void queue(struct builder *b, struct span line) {
    if (b->run.len && b->run.ptr + b->run.len == line.ptr) {
        b->run.len += line.len; /* borrow-ok: both are borrowed, line lies behind it */
    } else {
        flush(b);
        b->run = line;
    }
}

static struct span wire_line(const struct header *entry) {
    return span_make(entry->name_ptr,
                     (size_t)(entry->value_ptr + entry->value_len + 2 - entry->name_ptr));
}

static struct span wire_host(struct span authority) {
    const size_t name = sizeof "host: " - 1;
    return span_make(authority.ptr - name, name + authority.len + 2);
}

/* What a message may say about its length besides `transfer`. */
struct length_rule {
    bool allowed;   /* a Content-Length may go out */
    bool only_zero; /* and must then be 0 */
    bool seen;
};

/* Whether the map's entry goes out at all. */
static bool may_send(const struct header *entry, struct length_rule *rule) {
    switch (entry->id) {
    case HDR_METHOD:
    case HDR_PATH:
    case HDR_AUTHORITY:
    case HDR_SCHEME:
    case HDR_STATUS:
    case HDR_PROTOCOL:
    case HDR_TRANSFER_ENCODING:
    case HDR_CONNECTION:
    case HDR_KEEP_ALIVE:
    case HDR_PROXY_CONNECTION:
        return false;
    case HDR_CONTENT_LENGTH:
        if (!rule->allowed || rule->seen)
            return false;
        if (rule->only_zero && !span_eq(header_value(entry), SPAN_LIT("0")))
            return false;
        rule->seen = true;
        return true;
    default:
        return true;
    }
}

static void send_fields(struct builder *b, struct length_rule *rule, struct span host_line) {
    const struct header_map *map = b->headers;
    for (uint32_t i = 0; i < map->count; i++) {
        const struct header *entry = &map->entries[i];
        if (!may_send(entry, rule))
            continue;
        bool in_place = (entry->flags & HEADER_WIRE_LINE) != 0;
        /* Host is no entry. It goes out from its place among the lines, so that it parts no run:
         * before the first one that stood behind it, or that is new. */
        if (host_line.len && (!in_place || (uintptr_t)entry->name_ptr > (uintptr_t)host_line.ptr)) {
            queue(b, host_line);
            host_line = span_none();
        }
        if (in_place) {
            queue(b, wire_line(entry));
        } else {
            flush(b);
            render_line(b, entry);
        }
    }
    if (host_line.len)
        queue(b, host_line);
    flush(b);
}

/* What was copied becomes one iovec. */
static int finish(struct builder *b) {
    if (b->rc == 0 && b->copy_all)
        emit(b->writer, span_make(b->copy, (size_t)(b->chunk - b->copy)));
    return b->rc;
}

static void send_tail(struct builder *b, enum http1_transfer transfer, struct span connection) {
    if (transfer == HTTP1_SEND_CHUNKED)
        render_text(b, SPAN_LIT("transfer-encoding"), SPAN_LIT("chunked"));
    if (!span_is_none(connection))
        render_text(b, SPAN_LIT("connection"), connection);
    render(b, SPAN_LIT("\r\n"));
}

static void begin(struct builder *b, struct http1_writer *writer, struct arena *arena,
                  const struct header_map *headers) {
    writer->iov_count = 0;
    writer->bytes = 0;
    writer->arena = arena;
    *b = (struct builder){.writer = writer, .headers = headers};
}

/* Opens the one chunk for all that is rendered: everything, or what is not on the wire already. */
static void open_first_chunk(struct builder *b, size_t extra) {
    const struct header_map *map = b->headers;
    size_t all = map->bytes + 4 * (size_t)map->count + extra + FIXED_BYTES_MAX;
    b->copy_all = all <= COPY_MAX + FIXED_BYTES_MAX;
    if (!b->copy_all)
        for (uint32_t i = 0; i < map->count; i++)
            if (map->entries[i].flags & HEADER_WIRE_LINE)
                all -= map->entries[i].name_len + map->entries[i].value_len + 4;
    open_chunk(b, all);
}

/* Whether line is "METHOD path HTTP/1.1\r\n" of these very spans, so that nobody changed either. */
static bool start_is_unchanged(struct span line, struct span method, struct span path) {
    static const char version[] = " HTTP/1.1\r\n";
    const size_t tail = sizeof version - 1;
    return !span_is_none(line) && method.ptr == line.ptr && path.ptr == line.ptr + method.len + 1 &&
           line.len == method.len + 1 + path.len + tail &&
           memcmp(line.ptr + line.len - tail, version, tail) == 0;
}

int http1_write_request(struct http1_writer *writer, struct arena *arena,
                        const struct header_map *headers, enum http1_transfer transfer,
                        struct span connection, struct span wire_start) {
    struct span method = header_get(headers, HDR_METHOD);
    bool connect = span_eq(method, SPAN_LIT("CONNECT"));
    struct span target = header_get(headers, connect ? HDR_AUTHORITY : HDR_PATH);
    if (!header_pseudo_is_valid(HDR_METHOD, method) || !header_pseudo_is_valid(HDR_PATH, target))
        return -EINVAL;

    struct builder b;
    begin(&b, writer, arena, headers);
    open_first_chunk(&b, target.len + connection.len);

    if (start_is_unchanged(wire_start, method, target)) {
        queue(&b, wire_start);
    } else {
        render(&b, method);
        render(&b, SPAN_LIT(" "));
        render(&b, target);
        render(&b, SPAN_LIT(" HTTP/1.1\r\n"));
    }

    struct span host_line = span_none();
    int at = header_find(headers, HDR_AUTHORITY, span_none(), 0);
    if (at >= 0) {
        const struct header *authority = &headers->entries[at];
        if (authority->flags & HEADER_WIRE_HOST) {
            host_line = wire_host(header_value(authority));
        } else if (header_pseudo_is_valid(HDR_AUTHORITY, header_value(authority))) {
            flush(&b);
            render_text(&b, SPAN_LIT("host"), header_value(authority));
        } else {
            return -EINVAL;
        }
    }
    struct length_rule rule = {
        .allowed = transfer == HTTP1_SEND_LENGTH || transfer == HTTP1_SEND_NONE,
        .only_zero = transfer == HTTP1_SEND_NONE,
    };
    send_fields(&b, &rule, host_line);
    send_tail(&b, transfer, connection);
    int rc = finish(&b);
    return rc ? rc : transfer == HTTP1_SEND_LENGTH && !rule.seen ? -EINVAL : 0;
}

int http1_write_response(struct http1_writer *writer, struct arena *arena,
                         const struct header_map *headers, unsigned minor_version,
                         enum http1_transfer transfer, struct span connection) {
    struct span digits = header_get(headers, HDR_STATUS);
    if (!header_pseudo_is_valid(HDR_STATUS, digits))
        return -EINVAL;
    if (transfer == HTTP1_SEND_CHUNKED && minor_version == 0)
        return -EINVAL;

    struct builder b;
    begin(&b, writer, arena, headers);
    open_first_chunk(&b, connection.len);

    unsigned status = (unsigned)((digits.ptr[0] - '0') * 100 + (digits.ptr[1] - '0') * 10 +
                                 (digits.ptr[2] - '0'));
    struct span line = status_line(status);
    if (minor_version == 1 && !span_is_none(line)) {
        render(&b, line);
    } else {
        render(&b, minor_version ? SPAN_LIT("HTTP/1.1 ") : SPAN_LIT("HTTP/1.0 "));
        render(&b, digits);
        render(&b, SPAN_LIT(" "));
        render(&b, http1_reason(status));
        render(&b, SPAN_LIT("\r\n"));
    }

    /* Without a body a length still tells of the body that HEAD or 304 stands for; 1xx and 204
     * stand for none. */
    struct length_rule rule = {
        .allowed = transfer == HTTP1_SEND_LENGTH ||
                   (transfer == HTTP1_SEND_NONE && status >= 200 && status != 204),
    };
    send_fields(&b, &rule, span_none());
    send_tail(&b, transfer, connection);
    int rc = finish(&b);
    return rc ? rc : transfer == HTTP1_SEND_LENGTH && !rule.seen ? -EINVAL : 0;
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
    begin(&b, writer, arena, trailers);
    if (trailers->count == 0) {
        emit(writer, SPAN_LIT("0\r\n\r\n"));
        return 0;
    }
    b.copy_all = true;
    open_chunk(&b, trailers->bytes + 4 * (size_t)trailers->count + FIXED_BYTES_MAX);
    render(&b, SPAN_LIT("0\r\n"));
    struct length_rule rule = {0};
    send_fields(&b, &rule, span_none());
    render(&b, SPAN_LIT("\r\n"));
    return finish(&b);
}
