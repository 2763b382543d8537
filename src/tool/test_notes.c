/* test_notes: the format is made once for all cases, since the proxy reads its configuration once. */
#include "tool/test_notes.h"

#include <stdio.h>
#include <string.h>

#include "config/load.h"

enum { NUMBER_TEXT_MAX = 32 };

static const char client_key[] = "client";

bool test_notes_are_expected(const struct test_expect *expect) {
    return expect && (expect->metadata || expect->filter_state || expect->has_response_flags ||
                      expect->has_response_code_details);
}

/* ---- the format ---- */

enum notes { NOTES_METADATA, NOTES_FILTER_STATE };

static const struct cfg_value *names_of(const struct test_expect *expect, enum notes which) {
    if (!expect)
        return NULL;
    return which == NOTES_METADATA ? expect->metadata : expect->filter_state;
}

static bool has_name(const struct cfg_value *names, struct span key) {
    for (size_t i = 0; names && i < names->fields_count; i++)
        if (span_eq(names->fields[i].key, key))
            return true;
    return false;
}

static bool was_named(const struct test_case *cases, size_t count, enum notes which,
                      struct span key) {
    for (size_t i = 0; i < count; i++)
        if (has_name(names_of(cases[i].expect, which), key))
            return true;
    return false;
}

/* "KEY": "%COMMAND(KEY)%" for each name of the cases, once. */
static void put_questions(struct cfg_buf *buf, const struct test_case *cases, size_t count,
                          enum notes which) {
    bool is_first = true;
    for (size_t i = 0; i < count; i++) {
        const struct cfg_value *names = names_of(cases[i].expect, which);
        for (size_t k = 0; names && k < names->fields_count; k++) {
            struct span key = names->fields[k].key;
            if (was_named(cases, i, which, key))
                continue;
            cfg_buf_text(buf, is_first ? "" : ", ");
            cfg_json_string(buf, key);
            cfg_buf_text(buf,
                         which == NOTES_METADATA ? ": \"%DYNAMIC_METADATA(" : ": \"%FILTER_STATE(");
            cfg_buf_span(buf, key);
            cfg_buf_text(buf, which == NOTES_METADATA ? ")%\"" : ":PLAIN)%\"");
            is_first = false;
        }
    }
}

char *test_notes_format(const struct test_case *cases, size_t count) {
    struct cfg_buf buf = {0};
    bool any = false;
    for (size_t i = 0; i < count; i++)
        any |= test_notes_are_expected(cases[i].expect);
    if (!any)
        return NULL;
    cfg_buf_printf(&buf,
                   "{\"%s\": \"%%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%%\", \"response_flags\": "
                   "\"%%RESPONSE_FLAGS%%\", \"response_code_details\": "
                   "\"%%RESPONSE_CODE_DETAILS%%\", \"metadata\": {",
                   client_key);
    put_questions(&buf, cases, count, NOTES_METADATA);
    cfg_buf_text(&buf, "}, \"filter_state\": {");
    put_questions(&buf, cases, count, NOTES_FILTER_STATE);
    cfg_buf_text(&buf, "}}");
    return cfg_buf_take(&buf);
}

/* What stands between the brackets of a command as it is. */
static bool can_be_asked_for(struct span name) {
    for (size_t i = 0; i < name.len; i++)
        if (memchr(":()%\"\\", name.ptr[i], 6) || (unsigned char)name.ptr[i] < ' ')
            return false;
    return name.len > 0;
}

static bool check_names(const struct test_expect *expect, const char *what,
                        const struct cfg_value *names, struct cfg_problems *problems) {
    for (size_t i = 0; names && i < names->fields_count; i++) {
        struct span key = names->fields[i].key;
        if (can_be_asked_for(key))
            continue;
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &expect->mark,
                        "%s: %.*s: a name that is empty or has one of : ( ) %% \" \\ cannot be "
                        "asked for",
                        what, (int)key.len, key.ptr);
        return false;
    }
    return true;
}

bool test_notes_check(const struct test_expect *expect, struct cfg_problems *problems) {
    const struct cfg_value *metadata = expect->metadata;
    for (size_t i = 0; metadata && i < metadata->fields_count; i++) {
        const struct cfg_value_field *field = &metadata->fields[i];
        if (field->value.kind == CFG_VALUE_STRUCT || field->value.kind == CFG_VALUE_NULL)
            continue;
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &expect->mark,
                        "metadata: %.*s: expected an object, the namespace's keys and values, or "
                        "null: there is none",
                        (int)field->key.len, field->key.ptr);
        return false;
    }
    const struct cfg_value *state = expect->filter_state;
    for (size_t i = 0; state && i < state->fields_count; i++) {
        const struct cfg_value_field *field = &state->fields[i];
        if (field->value.kind <= CFG_VALUE_STRING)
            continue;
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &expect->mark,
                        "filter_state: %.*s: expected a text (in quotes where it looks like "
                        "something else), or null: there is none",
                        (int)field->key.len, field->key.ptr);
        return false;
    }
    return check_names(expect, "metadata", metadata, problems) &&
           check_names(expect, "filter_state", state, problems);
}

/* ---- what came of it ---- */

const struct cfg_value *test_notes_field(const struct cfg_value *struct_value, struct span key) {
    if (!struct_value || struct_value->kind != CFG_VALUE_STRUCT)
        return NULL;
    for (size_t i = 0; i < struct_value->fields_count; i++) {
        const struct cfg_value_field *field = &struct_value->fields[i];
        if (span_eq(field->key, key))
            return field->value.kind == CFG_VALUE_NULL ? NULL : &field->value;
    }
    return NULL;
}

bool test_notes_find(struct span lines, uint16_t port, struct cfg_arena *arena,
                     struct cfg_value *out) {
    char end[16];
    int n = snprintf(end, sizeof(end), ":%u", port);
    struct span line;
    while (span_next_token(&lines, '\n', &line)) {
        if (!line.len)
            continue;
        /* The last one may be the beginning of a line, whose rest is still to come. */
        bool is_whole = value_json_read(arena, line, out) == 0;
        const struct cfg_value *client =
            is_whole ? test_notes_field(out, span_of(client_key)) : NULL;
        if (client && client->kind == CFG_VALUE_STRING &&
            span_ends_with(client->string, span_make(end, (size_t)n)))
            return true;
        cfg_arena_fini(arena);
    }
    return false;
}

static bool same_fields(const struct cfg_value *is, const struct cfg_value *expected) {
    if (is->fields_count != expected->fields_count)
        return false;
    for (size_t i = 0; i < expected->fields_count; i++) {
        const struct cfg_value_field *field = &expected->fields[i];
        if (!test_notes_same(test_notes_field(is, field->key), &field->value))
            return false;
    }
    return true;
}

static bool same_items(const struct cfg_value *is, const struct cfg_value *expected) {
    if (is->items_count != expected->items_count)
        return false;
    for (size_t i = 0; i < expected->items_count; i++)
        if (!test_notes_same(&is->items[i], &expected->items[i]))
            return false;
    return true;
}

static bool is_number_text(const struct cfg_value *number, struct span text) {
    char digits[NUMBER_TEXT_MAX];
    int n = snprintf(digits, sizeof(digits), "%.15g", number->number);
    return span_eq(span_make(digits, (size_t)n), text);
}

bool test_notes_same(const struct cfg_value *is, const struct cfg_value *expected) {
    bool is_none = !is || is->kind == CFG_VALUE_NULL;
    bool expects_none = !expected || expected->kind == CFG_VALUE_NULL;
    if (is_none || expects_none)
        return is_none && expects_none;
    if (is->kind == CFG_VALUE_NUMBER && expected->kind == CFG_VALUE_STRING)
        return is_number_text(is, expected->string);
    if (is->kind != expected->kind)
        return false;
    switch (expected->kind) {
    case CFG_VALUE_NUMBER:
        return is->number == expected->number;
    case CFG_VALUE_STRING:
        return span_eq(is->string, expected->string);
    case CFG_VALUE_BOOL:
        return is->boolean == expected->boolean;
    case CFG_VALUE_STRUCT:
        return same_fields(is, expected);
    case CFG_VALUE_LIST:
        return same_items(is, expected);
    case CFG_VALUE_NULL:
        break;
    }
    return true;
}
