/* message: a reader of message files. They are written by hand, or cut out of a recording, so lines may end
 * in LF or CRLF, names may have capitals, and what can be computed may be missing. What is sent is then
 * strict HTTP/1.1, so a file that would not be that is refused here, with its line.
 *
 * A body is everything behind the empty line, byte by byte. An editor ends a file with a line end that the
 * body did not have: with content-length, line ends behind so many bytes are left out. */
#include "tool/message.h"

#include "config/cfg_buf.h"
#include "http/chars.h"

struct reading {
    struct cfg_arena *arena;
    struct span text;
    size_t at;
    unsigned line; /* of the line read last */
    struct message_error *error;
};

static bool refuse(struct reading *r, const char *what) {
    *r->error = (struct message_error){r->line ? r->line : 1, span_of(what)};
    return false;
}

/* False at the end of the text. Without its line end. */
static bool next_line(struct reading *r, struct span *out) {
    if (r->at >= r->text.len)
        return false;
    struct span rest = span_from(r->text, r->at);
    ptrdiff_t end = span_find(rest, '\n');
    struct span line = end < 0 ? rest : span_make(rest.ptr, (size_t)end);
    r->at += line.len + (end >= 0);
    r->line++;
    if (line.len && line.ptr[line.len - 1] == '\r')
        line.len--;
    *out = line;
    return true;
}

static struct span next_word(struct span *rest) {
    ptrdiff_t blank = span_find(*rest, ' ');
    struct span word = blank < 0 ? *rest : span_make(rest->ptr, (size_t)blank);
    *rest = span_trim(span_from(*rest, word.len));
    return word;
}

static bool is_token(struct span s) {
    for (size_t i = 0; i < s.len; i++)
        if (!chars_is(s.ptr[i], CHAR_TOKEN))
            return false;
    return s.len > 0;
}

static bool is_value(struct span s) {
    for (size_t i = 0; i < s.len; i++)
        if (((unsigned char)s.ptr[i] < ' ' && s.ptr[i] != '\t') || s.ptr[i] == 0x7f)
            return false;
    return true;
}

static bool is_version(struct span s) {
    return s.len == 0 || span_eq(s, SPAN_LIT("HTTP/1.1"));
}

static bool read_request_line(struct reading *r, struct span line, struct message *out) {
    struct span rest = span_trim(line);
    struct span method = next_word(&rest), target = next_word(&rest), version = next_word(&rest);
    if (!is_token(method) || target.len == 0 || rest.len || !is_value(target))
        return refuse(r, "expected a request line: METHOD TARGET, as in \"GET / HTTP/1.1\"");
    if (!is_version(version))
        return refuse(r, "the version of a message can only be HTTP/1.1");
    out->method = cfg_copy(r->arena, method);
    out->start = cfg_printf(r->arena, "%.*s %.*s HTTP/1.1", (int)method.len, method.ptr,
                            (int)target.len, target.ptr);
    return true;
}

static bool read_status_line(struct reading *r, struct span line, struct message *out) {
    struct span rest = span_trim(line);
    struct span word = next_word(&rest);
    if (span_starts_with(word, SPAN_LIT("HTTP/"))) {
        if (!is_version(word))
            return refuse(r, "the version of a message can only be HTTP/1.1");
        word = next_word(&rest);
    }
    uint64_t status;
    if (!span_to_u64(word, &status) || status < 200 || status > 599 || word.len != 3 ||
        !is_value(rest))
        return refuse(r, "expected a status line, as in \"HTTP/1.1 200 OK\", of 200 to 599");
    out->status = (unsigned)status;
    out->start = cfg_printf(r->arena, "HTTP/1.1 %.*s %.*s", (int)word.len, word.ptr, (int)rest.len,
                            rest.ptr);
    return true;
}

static struct span in_small_letters(struct cfg_arena *arena, struct span s) {
    char *out = cfg_alloc(arena, s.len + 1);
    for (size_t i = 0; i < s.len; i++)
        out[i] = (char)(s.ptr[i] >= 'A' && s.ptr[i] <= 'Z' ? s.ptr[i] | 0x20 : s.ptr[i]);
    return span_make(out, s.len);
}

static void add_field(struct cfg_arena *arena, struct message_field **fields, size_t *count,
                      struct span name, struct span value) {
    if (*count % 16 == 0) {
        struct message_field *grown = cfg_alloc_array(arena, *count + 16, sizeof(*grown));
        if (*count)
            memcpy(grown, *fields, *count * sizeof(*grown));
        *fields = grown;
    }
    (*fields)[(*count)++] = (struct message_field){name, value};
}

/* Up to an empty line, or the end. */
static bool read_fields(struct reading *r, struct message_field **fields, size_t *count) {
    struct span line;
    while (next_line(r, &line) && line.len) {
        ptrdiff_t colon = span_find(line, ':');
        if (colon < 1)
            return refuse(r, "expected \"name: value\", or an empty line before the body");
        struct span name = span_make(line.ptr, (size_t)colon);
        struct span value = span_trim(span_from(line, (size_t)colon + 1));
        if (!is_token(name))
            return refuse(r, "this is no name that a field can have");
        if (!is_value(value))
            return refuse(r, "a field's value cannot hold control characters");
        if (*count == MESSAGE_FIELDS_MAX)
            return refuse(r, "too many fields");
        add_field(r->arena, fields, count, in_small_letters(r->arena, name), value);
    }
    return true;
}

struct span message_field(const struct message_field *fields, size_t count, struct span name,
                          size_t n) {
    for (size_t i = 0; i < count; i++)
        if (span_eq(fields[i].name, name) && n-- == 0)
            return fields[i].value;
    return span_none();
}

static bool only_line_ends(struct span s) {
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] != '\r' && s.ptr[i] != '\n')
            return false;
    return true;
}

/* At a line that says so, with the line end before it left out; else text.len. */
static size_t find_trailers(struct span body, size_t *body_len) {
    static const struct span mark = SPAN_INIT("--trailers--");
    for (size_t at = 0; at < body.len;) {
        struct span rest = span_from(body, at);
        ptrdiff_t end = span_find(rest, '\n');
        struct span line = end < 0 ? rest : span_make(rest.ptr, (size_t)end);
        size_t next = at + line.len + (end >= 0);
        if (line.len && line.ptr[line.len - 1] == '\r')
            line.len--;
        if (span_eq(line, mark)) {
            *body_len = at;
            if (at && body.ptr[at - 1] == '\n')
                *body_len = at - (at > 1 && body.ptr[at - 2] == '\r' ? 2 : 1);
            return next;
        }
        at = next;
    }
    *body_len = body.len;
    return body.len;
}

static bool read_chunked_body(struct reading *r, struct span body, struct message *out) {
    size_t len;
    size_t trailers = find_trailers(body, &len);
    out->body = span_make(body.ptr, len);
    for (size_t i = 0; i < trailers; i++)
        r->line += body.ptr[i] == '\n';
    r->at += trailers;
    return read_fields(r, &out->trailers, &out->trailers_count) &&
           (only_line_ends(span_from(r->text, r->at)) ||
            refuse(r, "nothing can stand behind the trailers"));
}

static bool has_no_body(const struct message *message) {
    return message->kind == MESSAGE_RESPONSE && (message->status == 204 || message->status == 304);
}

static bool read_body(struct reading *r, struct message *out) {
    struct span body = span_from(r->text, r->at);
    struct span coding =
        message_field(out->fields, out->fields_count, SPAN_LIT("transfer-encoding"), 0);
    struct span length =
        message_field(out->fields, out->fields_count, SPAN_LIT("content-length"), 0);
    if (has_no_body(out)) {
        if (!only_line_ends(body) || coding.ptr)
            return refuse(r, "a response with this status has no body");
        return true;
    }
    if (coding.ptr) {
        out->chunked = span_eq_nocase(coding, SPAN_LIT("chunked"));
        if (!out->chunked)
            return refuse(r, "transfer-encoding can only be chunked");
        if (length.ptr)
            return refuse(r, "content-length and transfer-encoding exclude each other");
        return read_chunked_body(r, body, out);
    }
    uint64_t bytes = body.len;
    if (length.ptr && (!span_to_u64(length, &bytes) || bytes > body.len))
        return refuse(r, "content-length is no number, or more than there is of the body");
    if (!only_line_ends(span_from(body, (size_t)bytes)))
        return refuse(r, "the body is longer than content-length says");
    out->body = span_make(body.ptr, (size_t)bytes);
    if (!length.ptr && (bytes || out->kind == MESSAGE_RESPONSE))
        add_field(r->arena, &out->fields, &out->fields_count, SPAN_LIT("content-length"),
                  cfg_printf(r->arena, "%zu", (size_t)bytes));
    return true;
}

bool message_read(struct cfg_arena *arena, enum message_kind kind, struct span text,
                  struct message *out, struct message_error *error) {
    struct reading r = {.arena = arena, .text = text, .error = error};
    struct span line;
    *out = (struct message){.kind = kind};
    bool found;
    while ((found = next_line(&r, &line)) && span_trim(line).len == 0)
        ;
    if (!found)
        return refuse(&r, "there is no message");
    bool ok = kind == MESSAGE_REQUEST ? read_request_line(&r, line, out)
                                      : read_status_line(&r, line, out);
    if (!ok || !read_fields(&r, &out->fields, &out->fields_count))
        return false;
    if (kind == MESSAGE_REQUEST &&
        !message_field(out->fields, out->fields_count, SPAN_LIT("host"), 0).ptr)
        add_field(arena, &out->fields, &out->fields_count, SPAN_LIT("host"),
                  SPAN_LIT("filter.test"));
    return read_body(&r, out);
}

static void put_fields(struct cfg_buf *buf, const struct message_field *fields, size_t count) {
    for (size_t i = 0; i < count; i++) {
        cfg_buf_span(buf, fields[i].name);
        cfg_buf_text(buf, ": ");
        cfg_buf_span(buf, fields[i].value);
        cfg_buf_text(buf, "\r\n");
    }
    cfg_buf_text(buf, "\r\n");
}

struct span message_head(struct cfg_arena *arena, const struct message *message) {
    struct cfg_buf buf = {.arena = arena};
    cfg_buf_span(&buf, message->start);
    cfg_buf_text(&buf, "\r\n");
    put_fields(&buf, message->fields, message->fields_count);
    return cfg_buf_view(&buf);
}

struct span message_chunked_end(struct cfg_arena *arena, const struct message *message) {
    struct cfg_buf buf = {.arena = arena};
    cfg_buf_text(&buf, "0\r\n");
    put_fields(&buf, message->trailers, message->trailers_count);
    return cfg_buf_view(&buf);
}
