/* test_report: a message is turned into lines, so that one diff serves start line, fields, body and
 * trailers. A body that is no text is one line, which its size and a hash tell from another's.
 *
 * `date` is the one field that differs between two runs by itself (the proxy is configured so): where both have it, it
 * counts as the same. */
#include "tool/test_report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "config/load.h"
#include "tool/line_diff.h"
#include "tool/test_notes.h"

enum {
    CONTEXT = 3,        /* unchanged lines around a change */
    SHOWN_BYTES = 2000, /* of one line */
    TEXT_MAX = 1 << 20, /* a larger body is not told line by line */
};

enum colour { PLAIN, RED, GREEN, BOLD };

static void put_colour(const struct test_report *report, enum colour colour) {
    static const char *const codes[] = {"\033[0m", "\033[31m", "\033[32m", "\033[1m"};
    if (report->has_colours)
        fputs(codes[colour], report->out);
}

static void put_text(FILE *out, struct span text) {
    size_t len = text.len < SHOWN_BYTES ? text.len : SHOWN_BYTES;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == '\t' || (c >= ' ' && c != 0x7f))
            fputc(c, out);
        else
            fprintf(out, "\\x%02x", c);
    }
    if (len < text.len)
        fprintf(out, "... [%zu bytes more]", text.len - len);
}

static void put_line(const struct test_report *report, char mark, struct span line) {
    put_colour(report, mark == '-' ? RED : mark == '+' ? GREEN : PLAIN);
    fprintf(report->out, "  %c ", mark);
    put_text(report->out, line);
    put_colour(report, PLAIN);
    fputc('\n', report->out);
}

/* ---- what changed ---- */

struct lines {
    struct span *items;
    size_t count;
};

static bool is_text(struct span body) {
    for (size_t i = 0; i < body.len; i++) {
        unsigned char c = (unsigned char)body.ptr[i];
        if (c < ' ' && c != '\t' && c != '\n' && c != '\r')
            return false;
    }
    return body.len <= TEXT_MAX && utf8_is_valid(body);
}

static void add_fields(struct cfg_arena *arena, struct lines *lines,
                       const struct message_field *fields, size_t count) {
    for (size_t i = 0; i < count; i++)
        lines->items[lines->count++] =
            cfg_printf(arena, "%.*s: %.*s", (int)fields[i].name.len, fields[i].name.ptr,
                       (int)fields[i].value.len, fields[i].value.ptr);
}

static struct lines lines_of(struct cfg_arena *arena, const struct message *message,
                             bool tells_line_end) {
    size_t body_count = 1;
    struct span *body = NULL;
    if (is_text(message->body))
        body = line_diff_split(arena, message->body, &body_count);
    struct lines lines = {
        cfg_alloc_array(arena, message->fields_count + message->trailers_count + body_count + 4,
                        sizeof(struct span)),
        0};
    lines.items[lines.count++] = message->start;
    add_fields(arena, &lines, message->fields, message->fields_count);
    if (message->body.len)
        lines.items[lines.count++] = SPAN_LIT("");
    for (size_t i = 0; body && i < body_count; i++)
        lines.items[lines.count++] = body[i];
    if (!body)
        lines.items[lines.count++] =
            cfg_printf(arena, "[a body of %zu bytes, no text; hash %016" PRIx64 "]",
                       message->body.len, span_hash(SPAN_HASH, message->body));
    if (tells_line_end && body_count && !span_ends_with(message->body, SPAN_LIT("\n")))
        lines.items[lines.count++] = SPAN_LIT("[no line end at the end of the body]");
    if (message->trailers_count)
        lines.items[lines.count++] = SPAN_LIT("--trailers--");
    add_fields(arena, &lines, message->trailers, message->trailers_count);
    return lines;
}

struct shown_line {
    enum line_diff_mark mark;
    struct span text;
};
struct collected {
    struct shown_line *items;
    size_t count;
};

static void collect(void *arg, enum line_diff_mark mark, struct span line) {
    struct collected *all = arg;
    all->items[all->count++] = (struct shown_line){mark, line};
}

static bool is_near_change(const struct collected *all, size_t at) {
    size_t from = at > CONTEXT ? at - CONTEXT : 0;
    for (size_t i = from; i < all->count && i <= at + CONTEXT; i++)
        if (all->items[i].mark != LINE_SAME)
            return true;
    return false;
}

static void show_collected(struct test_report *report, const struct collected *all) {
    size_t left_out = 0;
    for (size_t i = 0; i < all->count; i++) {
        if (!is_near_change(all, i)) {
            left_out++;
            continue;
        }
        if (left_out)
            fprintf(report->out, "    [%zu lines as they were]\n", left_out);
        left_out = 0;
        put_line(report, (char)all->items[i].mark, all->items[i].text);
    }
    if (left_out)
        fprintf(report->out, "    [%zu lines as they were]\n", left_out);
}

/* The message as it is, but for a date that both have: from's. */
static struct message with_date_of(struct cfg_arena *arena, const struct message *message,
                                   const struct message *from) {
    struct message out = *message;
    struct span date = message_field(from->fields, from->fields_count, SPAN_LIT("date"), 0);
    out.fields = cfg_alloc_array(arena, out.fields_count + 1, sizeof(*out.fields));
    for (size_t i = 0; i < out.fields_count; i++) {
        out.fields[i] = message->fields[i];
        if (date.ptr && span_eq(out.fields[i].name, SPAN_LIT("date")))
            out.fields[i].value = date;
    }
    return out;
}

static void show_difference(struct test_report *report, const char *what,
                            const struct message *without, const struct message *with) {
    struct cfg_arena *arena = report->arena;
    struct message dated = with_date_of(arena, with, without);
    bool ends_differ =
        span_ends_with(without->body, SPAN_LIT("\n")) != span_ends_with(with->body, SPAN_LIT("\n"));
    struct lines from = lines_of(arena, without, ends_differ);
    struct lines to = lines_of(arena, &dated, ends_differ);
    struct collected all = {
        cfg_alloc_array(arena, from.count + to.count + 1, sizeof(struct shown_line)), 0};
    const struct line_diff_sink sink = {collect, &all};
    if (line_diff(arena, from.items, from.count, to.items, to.count, &sink)) {
        fprintf(report->out, "  %s\n", what);
        show_collected(report, &all);
    } else {
        fprintf(report->out, "  %s: unchanged\n", what);
    }
}

static void show_whole(struct test_report *report, const struct message *message) {
    struct lines lines = lines_of(report->arena, message, false);
    for (size_t i = 0; i < lines.count; i++)
        put_line(report, '+', lines.items[i]);
}

void test_report_changes(struct test_report *report, const struct test_result *without,
                         const struct test_result *with) {
    FILE *out = report->out;
    if (!without) {
        fprintf(out, "  request: %s\n",
                with->request_complete ? "reached the origin whole"
                : with->request_came   ? "reached the origin in part"
                                       : "did not reach the origin");
        fprintf(out, "  response: %s\n",
                with->response_complete ? "reached the client whole"
                : with->response_came   ? "reached the client in part"
                                        : "did not reach the client");
        return;
    }
    if (with->request_came && without->request_came)
        show_difference(report, "request", &without->request, &with->request);
    if (!with->request_came && with->response_came) {
        fputs("  request: answered by the filter, the origin did not get it\n  response\n", out);
        show_whole(report, &with->response);
    } else if (with->response_came) {
        show_difference(report, "response", &without->response, &with->response);
    }
}

/* ---- what was expected ---- */

static void put_check(struct test_report *report, bool ok) {
    report->failed |= !ok;
    put_colour(report, ok ? GREEN : RED);
    fputs(ok ? "  pass" : "  FAIL", report->out);
    put_colour(report, PLAIN);
    fputc(' ', report->out);
}

void test_report_failure(struct test_report *report, const char *format, ...) {
    va_list args;
    put_check(report, false);
    va_start(args, format);
    vfprintf(report->out, format, args);
    va_end(args);
    fputc('\n', report->out);
}

static void check_flag(struct test_report *report, const char *what, bool is, bool wanted) {
    put_check(report, is == wanted);
    fprintf(report->out, "%s: %s", what, is ? "true" : "false");
    fprintf(report->out, is == wanted ? "\n" : ", expected %s\n", wanted ? "true" : "false");
}

/* The absent span: there is none. */
static void tell_check(struct test_report *report, bool ok, const char *what, struct span name,
                       struct span is, struct span wanted) {
    put_check(report, ok);
    fprintf(report->out, "%s%s%.*s: ", what, name.len ? " " : "", (int)name.len, name.ptr);
    put_text(report->out, is.ptr ? is : SPAN_LIT("(none)"));
    if (!ok) {
        fputs("\n       expected: ", report->out);
        put_text(report->out, wanted.ptr ? wanted : SPAN_LIT("(none)"));
    }
    fputc('\n', report->out);
}

static void check_text(struct test_report *report, const char *what, struct span name,
                       struct span is, struct span wanted) {
    tell_check(report, !is.ptr == !wanted.ptr && span_eq(is, wanted), what, name, is, wanted);
}

/* As it is written: 12, not 12.000000. */
static struct span text_of(struct cfg_arena *arena, const struct cfg_value *value) {
    if (value->kind == CFG_VALUE_NUMBER)
        return cfg_printf(arena, "%.15g", value->number);
    return value->string.ptr ? value->string : SPAN_LIT("");
}

/* All values with "\n" or ", " between them; the absent span when there are none. */
static struct span joined(struct cfg_arena *arena, const struct message_field *fields, size_t count,
                          struct span name, const char *between) {
    struct cfg_buf buf = {.arena = arena};
    struct span value;
    size_t n = 0;
    for (; (value = message_field(fields, count, name, n)).ptr; n++) {
        cfg_buf_text(&buf, n ? between : "");
        cfg_buf_span(&buf, value);
    }
    return n ? cfg_buf_view(&buf) : span_none();
}

static void check_field(struct test_report *report, const char *what,
                        const struct cfg_value_field *wanted, const struct message_field *fields,
                        size_t count) {
    struct cfg_arena *arena = report->arena;
    char *name = cfg_alloc(arena, wanted->key.len + 1);
    for (size_t i = 0; i < wanted->key.len; i++)
        name[i] = (char)(wanted->key.ptr[i] >= 'A' && wanted->key.ptr[i] <= 'Z'
                             ? wanted->key.ptr[i] | 0x20
                             : wanted->key.ptr[i]);
    struct span key = span_make(name, wanted->key.len);
    const struct cfg_value *value = &wanted->value;
    if (value->kind == CFG_VALUE_LIST) {
        struct cfg_buf list = {.arena = arena};
        for (size_t i = 0; i < value->items_count; i++) {
            cfg_buf_text(&list, i ? " | " : "");
            cfg_buf_span(&list, text_of(arena, &value->items[i]));
        }
        struct span is = joined(arena, fields, count, key, " | ");
        check_text(report, what, key, is, value->items_count ? cfg_buf_view(&list) : span_none());
        return;
    }
    check_text(report, what, key, joined(arena, fields, count, key, ", "),
               value->kind == CFG_VALUE_NULL ? span_none() : text_of(arena, value));
}

/* Either may be empty; where no message came there is none. */
static void check_body(struct test_report *report, const char *what, bool came, struct span is,
                       struct span wanted) {
    struct span body = span_make(is.len ? is.ptr : "", is.len);
    check_text(report, what, SPAN_LIT(""), came ? body : span_none(),
               span_make(wanted.len ? wanted.ptr : "", wanted.len));
}

static void check_fields(struct test_report *report, const char *what,
                         const struct cfg_value *wanted, const struct message_field *fields,
                         size_t count) {
    for (size_t i = 0; wanted && i < wanted->fields_count; i++)
        check_field(report, what, &wanted->fields[i], fields, count);
}

static void check_response(struct test_report *report, const struct test_case *test,
                           const struct test_result *with) {
    const struct test_expect *expect = test->expect;
    if (with->bad)
        test_report_failure(report, "the response is no HTTP: %s", with->bad);
    if (expect && expect->response_complete.set)
        check_flag(report, "response_complete", with->response_complete,
                   expect->response_complete.value);
    else if (!test->abort && !with->response_complete && !with->bad)
        test_report_failure(report, "%s",
                            with->response_came ? "the response breaks off before its end"
                                                : "the connection was closed without a response");
    if (!expect)
        return;
    if (expect->status.set) {
        uint32_t status = with->response_came ? with->response.status : 0;
        put_check(report, status == expect->status.value);
        fprintf(report->out, "status: %u", status);
        if (status != expect->status.value)
            fprintf(report->out, ", expected %u", expect->status.value);
        fputc('\n', report->out);
    }
    check_fields(report, "response header", expect->response_headers, with->response.fields,
                 with->response.fields_count);
    if (expect->has_response_body)
        check_body(report, "response body", with->response_came, with->response.body,
                   expect->response_body);
    check_fields(report, "response trailer", expect->response_trailers, with->response.trailers,
                 with->response.trailers_count);
}

void test_report_checks(struct test_report *report, const struct test_case *test,
                        const struct test_result *with, struct span log) {
    const struct test_expect *expect = test->expect;
    if (expect && expect->reaches_origin.set)
        check_flag(report, "reaches_origin", with->request_came, expect->reaches_origin.value);
    if (expect) {
        check_fields(report, "request header", expect->request_headers, with->request.fields,
                     with->request.fields_count);
        if (expect->has_request_body)
            check_body(report, "request body", with->request_came, with->request.body,
                       expect->request_body);
        check_fields(report, "request trailer", expect->request_trailers, with->request.trailers,
                     with->request.trailers_count);
    }
    check_response(report, test, with);
    for (size_t i = 0; expect && i < expect->log_contains_count; i++) {
        struct span text = expect->log_contains[i];
        bool found = memmem(log.ptr, log.len, text.ptr, text.len) != NULL;
        put_check(report, found);
        fprintf(report->out, "log %s: ", found ? "contains" : "does not contain");
        put_text(report->out, text);
        fputc('\n', report->out);
    }
}

static struct span json_of(struct cfg_arena *arena, const struct cfg_value *value) {
    struct cfg_buf buf = {.arena = arena};
    if (!value || value->kind == CFG_VALUE_NULL)
        return span_none();
    cfg_json_tree(&buf, value);
    return cfg_buf_view(&buf);
}

static void check_value(struct test_report *report, const char *what, struct span name,
                        const struct cfg_value *is, const struct cfg_value *wanted) {
    tell_check(report, test_notes_same(is, wanted), what, name, json_of(report->arena, is),
               json_of(report->arena, wanted));
}

static void check_namespace(struct test_report *report, const struct cfg_value_field *wanted,
                            const struct cfg_value *metadata) {
    const struct cfg_value *is = test_notes_field(metadata, wanted->key);
    if (wanted->value.kind == CFG_VALUE_NULL) {
        check_value(report, "metadata", wanted->key, is, NULL);
        return;
    }
    for (size_t i = 0; i < wanted->value.fields_count; i++) {
        const struct cfg_value_field *field = &wanted->value.fields[i];
        struct span name = cfg_printf(report->arena, "%.*s %.*s", (int)wanted->key.len,
                                      wanted->key.ptr, (int)field->key.len, field->key.ptr);
        check_value(report, "metadata", name, test_notes_field(is, field->key), &field->value);
    }
}

static struct span note_text(const struct cfg_value *notes, const char *name) {
    const struct cfg_value *value = test_notes_field(notes, span_of(name));
    return value && value->kind == CFG_VALUE_STRING ? value->string : span_none();
}

void test_report_notes(struct test_report *report, const struct test_expect *expect,
                       const struct cfg_value *notes) {
    if (!notes) {
        test_report_failure(report, "the proxy has not told what became of the request");
        return;
    }
    const struct cfg_value *metadata = test_notes_field(notes, SPAN_LIT("metadata"));
    for (size_t i = 0; expect->metadata && i < expect->metadata->fields_count; i++)
        check_namespace(report, &expect->metadata->fields[i], metadata);
    const struct cfg_value *state = test_notes_field(notes, SPAN_LIT("filter_state"));
    for (size_t i = 0; expect->filter_state && i < expect->filter_state->fields_count; i++) {
        const struct cfg_value_field *field = &expect->filter_state->fields[i];
        const struct cfg_value *is = test_notes_field(state, field->key);
        bool is_none = field->value.kind == CFG_VALUE_NULL;
        check_text(report, "filter_state", field->key,
                   is ? text_of(report->arena, is) : span_none(),
                   is_none ? span_none() : text_of(report->arena, &field->value));
    }
    if (expect->has_response_flags)
        check_text(report, "response_flags", SPAN_LIT(""), note_text(notes, "response_flags"),
                   expect->response_flags);
    if (expect->has_response_code_details)
        check_text(report, "response_code_details", SPAN_LIT(""),
                   note_text(notes, "response_code_details"), expect->response_code_details);
}

void test_report_log(struct test_report *report, struct span log) {
    struct span line;
    while (span_next_token(&log, '\n', &line)) {
        if (!line.len)
            continue;
        fputs("  | ", report->out);
        put_text(report->out, line);
        fputc('\n', report->out);
    }
}
