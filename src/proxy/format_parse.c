/* format_parse: "%COMMAND(argument):LENGTH%" compiled to a list of operators.
 *
 * The shape is Envoy's: COMMAND is [A-Z0-9_]+, the argument is the shortest text in brackets behind
 * which the command ends properly, so it may itself hold ")" and "%". "%%" is a percent sign. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "config/data_source.h"
#include "proxy/format_internal.h"

/* ---- arguments ---- */

struct parser {
    struct span text;
    size_t at; /* position of the command in text */
    struct span name, argument;
    size_t max_len;
    bool has_length;
    const struct cfg_mark *mark;
    struct cfg_problems *problems;
    struct format *format;
};

static void refuse(struct parser *p, const char *why) {
    cfg_problem_add(p->problems, CFG_PROBLEM_INVALID, p->mark,
                    "format: %%%.*s%% at position %zu: %s", (int)p->name.len, p->name.ptr, p->at,
                    why);
}

static char *copy_bytes(struct span text) {
    char *data = malloc(text.len + 1);
    if (!data)
        return NULL;
    if (text.len > 0)
        memcpy(data, text.ptr, text.len);
    data[text.len] = '\0';
    return data;
}

static struct span copy(struct span text) {
    char *data = copy_bytes(text);
    return data ? span_make(data, text.len) : span_none();
}

static bool header_field(struct parser *p, struct span name, struct span *out, enum header_id *id) {
    char *bytes = copy_bytes(name);
    if (!bytes) {
        refuse(p, "out of memory");
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        if (bytes[i] >= 'A' && bytes[i] <= 'Z')
            bytes[i] = (char)(bytes[i] | 0x20);
    }
    struct span lower = span_make(bytes, name.len);
    *out = lower;
    *id = header_id_of(lower);
    struct span token = lower.len > 0 && lower.ptr[0] == ':' ? span_from(lower, 1) : lower;
    if (name.len > 0 && !header_name_is_valid(token)) {
        refuse(p, "Invalid header configuration. Format string contains invalid characters.");
        return false;
    }
    return true;
}

/* "NAME" or "NAME?OTHER". */
static bool parse_headers(struct parser *p, struct format_op *op) {
    ptrdiff_t mark = span_find(p->argument, '?');
    struct span name = mark < 0 ? p->argument : span_make(p->argument.ptr, (size_t)mark);
    if (!header_field(p, name, &op->name, &op->id))
        return false;
    if (mark >= 0) {
        struct span other = span_from(p->argument, (size_t)mark + 1);
        if (span_find(other, '?') >= 0) {
            refuse(p, "More than 1 alternative header specified");
            return false;
        }
        if (!header_field(p, other, &op->other_name, &op->other_id))
            return false;
    }
    if (op->kind == OP_REQUEST_HEADER) { /* a request's host is its :authority */
        op->id = op->id == HDR_HOST ? HDR_AUTHORITY : op->id;
        op->other_id = op->other_id == HDR_HOST ? HDR_AUTHORITY : op->other_id;
    }
    return true;
}

static bool parse_point(struct parser *p, struct span name, int *out) {
    static const char *const names[] = {"DS_RX_BEG", "DS_RX_END", "US_TX_BEG", "US_TX_END",
                                        "US_RX_BEG", "US_RX_END", "DS_TX_BEG", "DS_TX_END"};
    static_assert(sizeof(names) / sizeof(names[0]) == POINT_NOW, "one name per point");
    for (int i = 0; i < POINT_NOW; i++) {
        if (span_eq(name, span_of(names[i]))) {
            *out = i;
            return true;
        }
    }
    cfg_problem_add(p->problems, CFG_PROBLEM_UNSUPPORTED, p->mark,
                    "format: %%COMMON_DURATION%% at position %zu: the time point '%.*s' is not "
                    "supported",
                    p->at, (int)name.len, name.ptr ? name.ptr : "");
    return false;
}

/* "START:END" or "START:END:ms|us|ns". */
static bool parse_duration(struct parser *p, struct format_op *op) {
    struct span parts[3] = {{0}};
    size_t count = 0;
    struct span rest = p->argument;
    for (;;) {
        ptrdiff_t colon = span_find(rest, ':');
        if (count == 3) {
            count = 4;
            break;
        }
        parts[count++] = colon < 0 ? rest : span_make(rest.ptr, (size_t)colon);
        if (colon < 0)
            break;
        rest = span_from(rest, (size_t)colon + 1);
    }
    if (count < 2 || count > 3) {
        refuse(p, "Invalid common duration configuration");
        return false;
    }
    if (count == 2 || span_eq(parts[2], SPAN_LIT("ms"))) {
        op->unit_ns = NS_PER_MS;
    } else if (span_eq(parts[2], SPAN_LIT("us"))) {
        op->unit_ns = NS_PER_US;
    } else if (span_eq(parts[2], SPAN_LIT("ns"))) {
        op->unit_ns = 1;
    } else {
        refuse(p, "Invalid common duration precision, ms, us or ns would be right");
        return false;
    }
    return parse_point(p, parts[0], &op->start) && parse_point(p, parts[1], &op->end);
}

static bool parse_grpc(struct parser *p, struct format_op *op) {
    if (span_eq(p->argument, SPAN_LIT("SNAKE_STRING"))) {
        op->which = GRPC_SNAKE;
    } else if (span_eq(p->argument, SPAN_LIT("NUMBER"))) {
        op->which = GRPC_NUMBER;
    } else if (p->argument.len > 0 && !span_eq(p->argument, SPAN_LIT("CAMEL_STRING"))) {
        refuse(p, "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER.");
        return false;
    }
    return true;
}

/* "WQ|NQ" and "ORIG|PATH|ORIG_OR_PATH", with a ":" between. */
static bool parse_path(struct parser *p, struct format_op *op) {
    ptrdiff_t colon = span_find(p->argument, ':');
    struct span query = colon < 0 ? p->argument : span_make(p->argument.ptr, (size_t)colon);
    struct span source = colon < 0 ? span_none() : span_from(p->argument, (size_t)colon + 1);
    op->part = 1;
    if (span_eq(query, SPAN_LIT("NQ"))) {
        op->part = 0;
    } else if (query.len > 0 && !span_eq(query, SPAN_LIT("WQ"))) {
        refuse(p, "Invalid PATH option, only 'WQ'/'NQ' are allowed");
        return false;
    }
    if (span_eq(source, SPAN_LIT("ORIG"))) {
        op->which = PATH_ORIGINAL;
    } else if (span_eq(source, SPAN_LIT("PATH"))) {
        op->which = PATH_CURRENT;
    } else if (source.len > 0 && !span_eq(source, SPAN_LIT("ORIG_OR_PATH"))) {
        refuse(p, "Invalid PATH option, only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed");
        return false;
    }
    return true;
}

/* "NAMESPACE:KEY:KEY"; METADATA says first which metadata that is. */
static bool parse_metadata(struct parser *p, struct format_op *op) {
    struct span rest = p->argument;
    if (op->which == 1) {
        ptrdiff_t colon = span_find(rest, ':');
        struct span type = colon < 0 ? rest : span_make(rest.ptr, (size_t)colon);
        if (!span_eq(type, SPAN_LIT("DYNAMIC"))) {
            cfg_problem_add(p->problems, CFG_PROBLEM_UNSUPPORTED, p->mark,
                            "format: %%METADATA%% at position %zu: '%.*s' is not supported; there "
                            "is DYNAMIC",
                            p->at, (int)type.len, type.ptr ? type.ptr : "");
            return false;
        }
        rest = colon < 0 ? SPAN_LIT("") : span_from(rest, (size_t)colon + 1);
    }
    ptrdiff_t colon = span_find(rest, ':');
    struct span name_space = colon < 0 ? rest : span_make(rest.ptr, (size_t)colon);
    op->text = copy(name_space);
    op->name = copy(colon < 0 ? SPAN_LIT("") : span_from(rest, (size_t)colon + 1));
    if (name_space.len == 0) {
        refuse(p, "the metadata's namespace is missing");
        return false;
    }
    rest = op->name;
    op->keys = calloc(rest.len + 1, sizeof op->keys[0]);
    if (span_is_none(op->text) || span_is_none(op->name) || !op->keys)
        return false;
    while (rest.len > 0) {
        colon = span_find(rest, ':');
        op->keys[op->key_count++] = colon < 0 ? rest : span_make(rest.ptr, (size_t)colon);
        rest = colon < 0 ? SPAN_LIT("") : span_from(rest, (size_t)colon + 1);
    }
    return true;
}

/* "KEY" or "KEY:PLAIN". Keys of others' objects have no value here, as one that nobody set has none on Envoy. */
static bool parse_filter_state(struct parser *p, struct format_op *op) {
    static const struct {
        struct span key;
        enum format_filter_state state;
    } known[] = {
        {SPAN_INIT("sluice.flow_id"), STATE_FLOW_ID},
        {SPAN_INIT("sluice.timestamp_ns"), STATE_TIMESTAMP},
        {SPAN_INIT("sluice.src_port"), STATE_SRC_PORT},
        {SPAN_INIT("sluice.protocol"), STATE_PROTOCOL},
    };
    ptrdiff_t colon = span_find(p->argument, ':');
    struct span key = colon < 0 ? p->argument : span_make(p->argument.ptr, (size_t)colon);
    struct span type = colon < 0 ? SPAN_LIT("PLAIN") : span_from(p->argument, (size_t)colon + 1);
    if (!span_eq(type, SPAN_LIT("PLAIN")) && !span_eq(type, SPAN_LIT("TYPED"))) {
        refuse(p, "Invalid filter state serialize type, only support PLAIN/TYPED.");
        return false;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (span_eq(known[i].key, key))
            op->which = known[i].state;
    op->text = copy(key);
    return !span_is_none(op->text);
}

/* ENVIRONMENT and HOSTNAME do not change: they are literals from here on. */
static bool parse_fixed(struct parser *p, struct format_op *op) {
    char name[HOST_NAME_MAX + 1] = "";
    const char *value = "-";
    if (op->which == FIXED_HOST) {
        if (gethostname(name, sizeof(name) - 1) == 0)
            value = name;
    } else {
        struct span variable = copy(p->argument);
        const char *found = variable.ptr ? getenv(variable.ptr) : NULL;
        value = found ? found : value;
        free((void *)(uintptr_t)variable.ptr);
    }
    struct span text = span_of(value);
    if (text.len > p->max_len)
        text.len = p->max_len;
    op->text = copy(text);
    return !span_is_none(op->text);
}

static bool parse_argument(struct parser *p, const struct format_command *command,
                           struct format_op *op) {
    switch (command->kind) {
    case OP_REQUEST_HEADER:
    case OP_RESPONSE_HEADER:
    case OP_TRAILER:
        return parse_headers(p, op);
    case OP_TIME: {
        const char *error = "out of memory";
        if (time_format_compile(p->argument, command->part == 1, &op->time, &error) == 0)
            return true;
        refuse(p, error);
        return false;
    }
    case OP_DURATION:
        op->unit_ns = NS_PER_MS;
        return command->start >= 0 || parse_duration(p, op);
    case OP_GRPC_STATUS:
        return parse_grpc(p, op);
    case OP_PATH:
        return parse_path(p, op);
    case OP_QUERY_PARAM:
        op->text = copy(p->argument);
        return !span_is_none(op->text);
    case OP_LITERAL:
        return parse_fixed(p, op);
    case OP_FIELD:
        if (command->which == FIELD_RESPONSE_CODE_DETAILS &&
            span_eq(p->argument, SPAN_LIT("ALLOW_WHITESPACES")))
            op->which = FIELD_RESPONSE_CODE_DETAILS_SPACES;
        return true;
    case OP_METADATA:
        return parse_metadata(p, op);
    case OP_FILTER_STATE:
        return parse_filter_state(p, op);
    case OP_TLS: {
        bool is_time = command->which == TLS_VALID_FROM || command->which == TLS_VALID_TO;
        const char *error = "out of memory";
        if (!is_time || time_format_compile(p->argument, false, &op->time, &error) == 0)
            return true;
        refuse(p, error);
        return false;
    }
    case OP_ADDRESS:
        return true;
    }
    return false;
}

/* ---- the text ---- */

static void op_fini(struct format_op *op) {
    free((void *)(uintptr_t)op->text.ptr);
    free((void *)(uintptr_t)op->name.ptr);
    free((void *)(uintptr_t)op->other_name.ptr);
    free(op->keys);
    time_format_fini(&op->time);
}

/* Takes over what op owns, also on failure. */
static bool push(struct format *format, struct format_op *op) {
    struct format_op *grown = realloc(format->ops, (format->count + 1) * sizeof(*grown));
    if (!grown) {
        op_fini(op);
        return false;
    }
    format->ops = grown;
    grown[format->count++] = *op;
    return true;
}

static bool push_literal(struct format *format, struct format_out *literal) {
    if (literal->len == 0)
        return true;
    struct format_op op = {.kind = OP_LITERAL,
                           .text = copy(span_make(literal->data, literal->len))};
    literal->len = 0;
    return !span_is_none(op.text) && push(format, &op);
}

static size_t digits_from(struct span text, size_t at) {
    size_t end = at;
    while (end < text.len && text.ptr[end] >= '0' && text.ptr[end] <= '9')
        end++;
    return end;
}

/* Reads ":LENGTH%" or "%" at `at`; the index behind it, or 0. */
static size_t command_end(struct parser *p, size_t at) {
    struct span text = p->text;
    p->has_length = false;
    p->max_len = SIZE_MAX;
    if (at < text.len && text.ptr[at] == ':') {
        size_t end = digits_from(text, at + 1);
        uint64_t length;
        if (!span_to_u64(span_make(text.ptr + at + 1, end - at - 1), &length))
            return 0;
        p->has_length = true;
        p->max_len = length;
        at = end;
    }
    return at < text.len && text.ptr[at] == '%' ? at + 1 : 0;
}

/* Splits the command at p->at; the index behind it, or 0 when it is none. */
static size_t scan_command(struct parser *p) {
    struct span text = p->text;
    size_t end = p->at + 1;
    while (end < text.len &&
           ((text.ptr[end] >= 'A' && text.ptr[end] <= 'Z') ||
            (text.ptr[end] >= '0' && text.ptr[end] <= '9') || text.ptr[end] == '_'))
        end++;
    p->name = span_make(text.ptr + p->at + 1, end - p->at - 1);
    p->argument = span_none();
    if (p->name.len == 0)
        return 0;
    if (end >= text.len || text.ptr[end] != '(')
        return command_end(p, end);
    for (size_t i = end + 1; i < text.len && text.ptr[i] != '\n'; i++) {
        if (text.ptr[i] == ')') {
            size_t behind = command_end(p, i + 1);
            if (behind > 0) {
                p->argument = span_make(text.ptr + end + 1, i - end - 1);
                return behind;
            }
        }
    }
    return 0;
}

static bool check_syntax(struct parser *p, const struct format_command *command) {
    if ((command->syntax & ARGUMENT_REQUIRED) && p->argument.len == 0) {
        refuse(p, "requires parameters");
        return false;
    }
    if (command->syntax == NO_ARGUMENT && (p->argument.len > 0 || p->has_length)) {
        refuse(p, "does not take any parameters or length");
        return false;
    }
    if (!(command->syntax & LENGTH_ALLOWED) && p->has_length) {
        refuse(p, "does not allow length to be specified.");
        return false;
    }
    return true;
}

static bool parse_command(struct parser *p) {
    const struct format_command *command = format_command_find(p->name);
    if (!command && format_command_is_envoys(p->name)) {
        cfg_problem_add(p->problems, CFG_PROBLEM_UNSUPPORTED, p->mark,
                        "format: %%%.*s%% at position %zu is not supported", (int)p->name.len,
                        p->name.ptr, p->at);
        return false;
    }
    if (!command) {
        refuse(p, "no such operator");
        return false;
    }
    if (!check_syntax(p, command))
        return false;
    struct format_op op = {
        .kind = command->kind,
        .which = command->which,
        .part = command->part,
        .start = command->start,
        .end = command->end,
        .max_len = p->max_len,
    };
    if (!parse_argument(p, command, &op)) {
        op_fini(&op);
        return false;
    }
    return push(p->format, &op);
}

/* False with a problem reported; for want of memory the caller reports it. */
static bool parse_text(struct parser *p, struct format_out *literal) {
    struct span text = p->text;
    for (size_t i = 0; i < text.len;) {
        bool doubled = text.ptr[i] == '%' && i + 1 < text.len && text.ptr[i + 1] == '%';
        if (text.ptr[i] != '%' || doubled) {
            format_out_put(literal, span_make(text.ptr + i, 1));
            i += doubled ? 2 : 1;
            continue;
        }
        if (literal->failed || !push_literal(p->format, literal))
            return false;
        p->at = i;
        size_t behind = scan_command(p);
        if (behind == 0) {
            cfg_problem_add(p->problems, CFG_PROBLEM_INVALID, p->mark,
                            "format: couldn't find valid command at position %zu in '%.*s'", i,
                            (int)text.len, text.ptr);
            return false;
        }
        if (!parse_command(p))
            return false;
        i = behind;
    }
    return !literal->failed && push_literal(p->format, literal);
}

struct format *format_compile(struct span text, const struct cfg_mark *mark,
                              struct cfg_problems *problems) {
    size_t before = problems->count;
    struct format_out literal = {0};
    struct format *format = calloc(1, sizeof(*format));
    struct parser p = {.text = text, .mark = mark, .problems = problems, .format = format};
    if (!format || !parse_text(&p, &literal)) {
        if (problems->count == before)
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "format: out of memory");
        format_free(format);
        format = NULL;
    }
    free(literal.data);
    return format;
}

struct format *format_compile_source(const struct cfg_data_source *source,
                                     const struct cfg_mark *mark, struct cfg_problems *problems) {
    size_t len;
    char *text =
        cfg_data_source_read(source, "text_format_source", FORMAT_FILE_MAX, mark, problems, &len);
    struct format *format = text ? format_compile(span_make(text, len), mark, problems) : NULL;
    free(text);
    return format;
}

void format_free(struct format *format) {
    if (!format)
        return;
    for (size_t i = 0; i < format->count; i++)
        op_fini(&format->ops[i]);
    free(format->ops);
    free(format);
}

bool format_is_literal(const struct format *format, struct span *literal) {
    if (format->count > 1 || (format->count == 1 && format->ops[0].kind != OP_LITERAL))
        return false;
    *literal = format->count == 1 ? format->ops[0].text : SPAN_LIT("");
    return true;
}
