/* test_case: the tables of a cases file, and the messages that it names. */
#include "tool/test_case.h"

#include <errno.h>
#include <stdio.h>

#include "config/schema.h"
#include "tool/test_notes.h"

#define BODY_AT(T, flag) .has_at = CFG_AT(T, flag)

static const struct cfg_field expect_fields[] = {
    WRAPPER(struct test_expect, 1, status, CFG_U32, .rules = CFG_RANGE, .min = 200, .max = 599,
            .doc = "Status of the response that the client gets."),
    FIELD(struct test_expect, 5, response_headers, CFG_STRUCT,
          .doc = "Headers that the client gets. A text: all values, joined with `, `; `null`: "
                 "there is no such header; a list: the values, one for each line."),
    FIELD(struct test_expect, 6, response_body, CFG_STRING,
          BODY_AT(struct test_expect, has_response_body), .doc = "Body that the client gets."),
    FIELD(struct test_expect, 8, response_trailers, CFG_STRUCT,
          .doc = "Trailers that the client gets, as `response_headers`."),
    WRAPPER(struct test_expect, 9, response_complete, CFG_BOOL,
            .default_text = "`true`, unless somebody leaves",
            .doc = "Whether the response that the client gets has its end."),
    WRAPPER(struct test_expect, 2, reaches_origin, CFG_BOOL,
            .doc = "Whether the origin gets the request."),
    FIELD(struct test_expect, 3, request_headers, CFG_STRUCT,
          .doc = "Headers that the origin gets, as `response_headers`."),
    FIELD(struct test_expect, 4, request_body, CFG_STRING,
          BODY_AT(struct test_expect, has_request_body), .doc = "Body that the origin gets."),
    FIELD(struct test_expect, 7, request_trailers, CFG_STRUCT,
          .doc = "Trailers that the origin gets, as `response_headers`."),
    FIELD(struct test_expect, 11, metadata, CFG_STRUCT,
          .doc = "Dynamic metadata when the request is over: `{ NAMESPACE: { KEY: value } }`. A "
                 "value is compared whole, keys that do not stand here are not; `null`: there is "
                 "no such key, no such namespace."),
    FIELD(struct test_expect, 12, filter_state, CFG_STRUCT,
          .doc = "Filter state then, as texts: `{ KEY: text }`; `null`: there is none."),
    FIELD(struct test_expect, 13, response_flags, CFG_STRING,
          BODY_AT(struct test_expect, has_response_flags),
          .doc = "As `%RESPONSE_FLAGS%` of an access log; `-`: none."),
    FIELD(struct test_expect, 14, response_code_details, CFG_STRING,
          BODY_AT(struct test_expect, has_response_code_details),
          .doc =
              "As `%RESPONSE_CODE_DETAILS%`: `via_upstream`, or what the filter gave its reply."),
    SCALARS(struct test_expect, 10, log_contains, CFG_STRING,
            .doc = "Texts that the proxy or the filter logs in this case; a line may come up to a "
                   "second late."),
};
static const struct cfg_schema expect_schema = {
    .name = "sluice.filter_test.v1.Expect",
    .doc = "Field of `expect`",
    .size = sizeof(struct test_expect),
    MARK(struct test_expect),
    FIELDS(expect_fields),
};

static const struct cfg_field abort_fields[] = {
    WRAPPER(struct test_abort, 1, after_request_bytes, CFG_U32,
            .doc = "The client leaves, having sent so many bytes of its body."),
    WRAPPER(struct test_abort, 2, after_response_bytes, CFG_U32,
            .doc = "The client leaves, having got so many bytes of the response's body."),
    WRAPPER(struct test_abort, 3, origin_after_bytes, CFG_U32,
            .doc = "The origin leaves, having sent so many bytes of its body."),
};
static const struct cfg_schema abort_schema = {
    .name = "sluice.filter_test.v1.Abort",
    .doc = "Field of `abort`",
    .size = sizeof(struct test_abort),
    MARK(struct test_abort),
    FIELDS(abort_fields),
};

static const struct cfg_field case_fields[] = {
    FIELD(struct test_case, 1, name, CFG_STRING, .rules = CFG_REQUIRED, .doc = "What it shows."),
    FIELD(struct test_case, 2, request, CFG_STRING, .doc = "The client's message."),
    FIELD(struct test_case, 3, request_file, CFG_STRING,
          .doc = "The same from a file, relative to this one."),
    FIELD(struct test_case, 4, response, CFG_STRING, .default_text = "200 and no body",
          .doc = "The origin's message."),
    FIELD(struct test_case, 5, response_file, CFG_STRING,
          .doc = "The same from a file, relative to this one."),
    SCALARS(struct test_case, 6, request_chunks, CFG_U32, .default_text = "at once",
            .doc = "The body goes out in pieces of these sizes, `[1, 7]`; the last size counts for "
                   "all that is left."),
    SCALARS(struct test_case, 7, response_chunks, CFG_U32, .default_text = "at once",
            .doc = "The same for the response."),
    FIELD(struct test_case, 8, request_delay, CFG_DURATION,
          .doc = "A pause before each piece, `0.01s`. Without one, pieces may reach the filter "
                 "together."),
    FIELD(struct test_case, 9, response_delay, CFG_DURATION, .doc = "The same for the response."),
    POINTER(struct test_case, 10, abort, struct test_abort, abort_schema,
            .doc = "Who leaves early."),
    WRAPPER(struct test_case, 11, repeat, CFG_U32, .rules = CFG_RANGE, .min = 1,
            .max = TEST_REPEAT_MAX, .default_text = "`1`",
            .doc = "So many times, one after the other; what is expected is so each time."),
    FIELD(struct test_case, 12, timeout, CFG_DURATION, .rules = CFG_RANGE, .min = 1,
          .max = INT64_MAX, .default_text = "`--timeout-ms`", .doc = "Of each time."),
    POINTER(struct test_case, 13, expect, struct test_expect, expect_schema,
            .doc =
                "What must come of it. Without: the filter survives, and the response is whole."),
};
static const struct cfg_schema case_schema = {
    .name = "sluice.filter_test.v1.Case",
    .doc = "Field of a case",
    .size = sizeof(struct test_case),
    MARK(struct test_case),
    FIELDS(case_fields),
};

static const struct cfg_field file_fields[] = {
    FIELD(struct test_file, 1, plugin, CFG_STRING, .doc = "As `--plugin`, which wins."),
    FIELD(struct test_file, 2, config, CFG_STRUCT, .doc = "As `--config`, which wins."),
    LIST(struct test_file, 3, cases, struct test_case, case_schema, .rules = CFG_REQUIRED,
         .doc = "One after the other, by one filter."),
};
const struct cfg_schema test_file_schema = {
    .name = "sluice.filter_test.v1.File",
    .doc = "Field of the file",
    .size = sizeof(struct test_file),
    MARK(struct test_file),
    FIELDS(file_fields),
};

void test_file_print_fields(FILE *out) {
    static const struct cfg_schema *const all[] = {&test_file_schema, &case_schema, &abort_schema,
                                                   &expect_schema};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        fprintf(out, "%s| %s | without it | |\n|---|---|---|\n", i ? "\n" : "", all[i]->doc);
        for (size_t k = 0; k < all[i]->fields_count; k++) {
            const struct cfg_field *field = &all[i]->fields[k];
            bool is_required = field->rules & CFG_REQUIRED;
            fprintf(out, "| `%s` | %s | %s |\n", field->name,
                    is_required           ? "an error"
                    : field->default_text ? field->default_text
                                          : "",
                    field->doc);
        }
    }
}

int test_file_load(const char *path, struct config **out, struct cfg_problems *problems) {
    const struct config_source source = {.path = path};
    return config_load_as(&test_file_schema, &source, out, NULL, problems);
}

/* ---- messages ---- */

/* The whole file; false with a problem added. */
static NOINLINE bool read_file(struct cfg_arena *arena, struct span path, struct span *out,
                               const struct cfg_mark *mark, struct cfg_problems *problems) {
    FILE *file = fopen(path.ptr, "re");
    struct cfg_buf buf = {.arena = arena};
    char bytes[16 * 1024];
    size_t n;
    while (file && buf.len <= MESSAGE_BYTES_MAX && (n = fread(bytes, 1, sizeof(bytes), file)) > 0)
        cfg_buf_add(&buf, bytes, n);
    bool failed = !file || ferror(file);
    if (failed)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "cannot read %s: %s", path.ptr,
                        strerror(errno));
    else if (buf.len > MESSAGE_BYTES_MAX)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "%s is larger than %d MiB", path.ptr,
                        MESSAGE_BYTES_MAX >> 20);
    if (file)
        (void)fclose(file); /* it was only read */
    *out = cfg_buf_view(&buf);
    return !failed && buf.len <= MESSAGE_BYTES_MAX;
}

static struct span path_beside(struct cfg_arena *arena, struct span file, struct span path) {
    const char *slash = file.len ? memrchr(file.ptr, '/', file.len) : NULL;
    if (!slash || path.ptr[0] == '/')
        return cfg_copy(arena, path);
    return cfg_printf(arena, "%.*s%.*s", (int)(slash + 1 - file.ptr), file.ptr, (int)path.len,
                      path.ptr);
}

static bool read_one(struct cfg_arena *arena, const struct test_case *test, enum message_kind kind,
                     struct span text, struct span file, struct message *out,
                     struct cfg_problems *problems) {
    const char *what = kind == MESSAGE_REQUEST ? "request" : "response";
    struct span path = span_none();
    if (text.ptr && file.ptr) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &test->mark,
                        "%s and %s_file cannot both be set: they are one choice", what, what);
        return false;
    }
    if (file.ptr) {
        path = path_beside(arena, test->mark.file, file);
        if (!read_file(arena, path, &text, &test->mark, problems))
            return false;
    }
    struct message_error error;
    if (message_read(arena, kind, text, out, &error))
        return true;
    struct cfg_mark mark = {.file = path, .line = error.line};
    if (path.ptr)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &mark, "%s", error.text.ptr);
    else
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &test->mark, "line %u of %s: %s", error.line,
                        what, error.text.ptr);
    return false;
}

static bool check_headers(const struct test_expect *expect, const char *name,
                          const struct cfg_value *headers, struct cfg_problems *problems) {
    for (size_t i = 0; headers && i < headers->fields_count; i++) {
        const struct cfg_value_field *field = &headers->fields[i];
        bool is_text = field->value.kind <= CFG_VALUE_STRING;
        if (field->value.kind == CFG_VALUE_LIST) {
            is_text = true;
            for (size_t k = 0; k < field->value.items_count; k++)
                is_text &= field->value.items[k].kind == CFG_VALUE_NUMBER ||
                           field->value.items[k].kind == CFG_VALUE_STRING;
        }
        if (is_text)
            continue;
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &expect->mark,
                        "%s: %.*s: expected a text (in quotes where it looks like something else), "
                        "a list of texts, or null: no such header",
                        name, (int)field->key.len, field->key.ptr);
        return false;
    }
    return true;
}

static bool check_sizes(const struct test_case *test, const uint32_t *sizes, size_t count,
                        const char *name, struct cfg_problems *problems) {
    for (size_t i = 0; i < count; i++)
        if (sizes[i] == 0) {
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &test->mark,
                            "%s: a piece has one byte at least", name);
            return false;
        }
    return true;
}

bool test_case_read(struct cfg_arena *arena, const struct test_case *test,
                    struct test_messages *out, struct cfg_problems *problems) {
    const struct test_expect *expect = test->expect;
    if (!test->request.ptr && !test->request_file.ptr) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &test->mark,
                        "one of request, request_file is required");
        return false;
    }
    struct span response = test->response;
    if (!response.ptr && !test->response_file.ptr)
        response = SPAN_LIT("HTTP/1.1 200 OK\n");
    bool ok = read_one(arena, test, MESSAGE_REQUEST, test->request, test->request_file,
                       &out->request, problems);
    ok = read_one(arena, test, MESSAGE_RESPONSE, response, test->response_file, &out->response,
                  problems) &&
         ok;
    ok = check_sizes(test, test->request_chunks, test->request_chunks_count, "request_chunks",
                     problems) &&
         ok;
    ok = check_sizes(test, test->response_chunks, test->response_chunks_count, "response_chunks",
                     problems) &&
         ok;
    if (expect) {
        ok = check_headers(expect, "request_headers", expect->request_headers, problems) && ok;
        ok = check_headers(expect, "response_headers", expect->response_headers, problems) && ok;
        ok = check_headers(expect, "request_trailers", expect->request_trailers, problems) && ok;
        ok = check_headers(expect, "response_trailers", expect->response_trailers, problems) && ok;
        ok = test_notes_check(expect, problems) && ok;
    }
    return ok;
}
