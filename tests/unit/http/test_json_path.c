/* Paths: what they mean, and what whoever wrote one that means nothing is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "http/json_path.h"

static void describe(struct span text, char *out, size_t size) {
    const char *problem;
    uint32_t bad;
    struct json_paths *paths = json_paths_new(&text, 1, &problem, &bad);
    size_t len = 0;
    out[0] = '\0';
    if (!paths) {
        (void)snprintf(out, size, "%s", problem);
        return;
    }
    for (uint32_t i = 0; i < paths->paths[0].count; i++) {
        const struct json_segment *s = &paths->paths[0].segments[i];
        if (s->kind == JSON_SEGMENT_KEY)
            len += (size_t)snprintf(out + len, size - len, "<%.*s>", (int)s->key.len, s->key.ptr);
        else if (s->kind == JSON_SEGMENT_INDEX)
            len += (size_t)snprintf(out + len, size - len, "#%u", s->index);
        else
            len += (size_t)snprintf(out + len, size - len, "*");
    }
    json_paths_free(paths);
}

static void one_path(void **state) {
    static const struct {
        struct span text;
        const char *meaning;
    } rows[] = {
        {SPAN_INIT("model"), "<model>"},
        {SPAN_INIT("messages[0].role"), "<messages>#0<role>"},
        {SPAN_INIT("messages[*].role"), "<messages>*<role>"},
        {SPAN_INIT("[2][10]"), "#2#10"},
        {SPAN_INIT("[\"a.b\"].c[\"\"]"), "<a.b><c><>"},
        {SPAN_INIT("x[\"\\u00e9\\\"]\"][1]"), "<x><\xc3\xa9\"]>#1"},
        {SPAN_INIT("a b-c$d.0"), "<a b-c$d><0>"},
        {SPAN_INIT("a.b.c.d.e.f.g.h"), "<a><b><c><d><e><f><g><h>"},
        {SPAN_INIT("[1073741824]"), "#1073741824"},
        {SPAN_INIT("[1073741825]"), "an element's number is too large"},
        {SPAN_INIT("[99999999999999999999]"), "an element's number is too large"},
        {SPAN_INIT("a.b.c.d.e.f.g.h.i"), "a path has more than 8 parts"},
        {SPAN_INIT(""), "a path must not be empty"},
        {SPAN_INIT("a[1"), "a bracket is not closed"},
        {SPAN_INIT("a["), "in brackets there must be a number, * or a quoted key"},
        {SPAN_INIT("a[]"), "in brackets there must be a number, * or a quoted key"},
        {SPAN_INIT("a[-1]"), "in brackets there must be a number, * or a quoted key"},
        {SPAN_INIT("a[01]"), "in brackets there must be a number, * or a quoted key"},
        {SPAN_INIT("a[*"), "a bracket is not closed"},
        {SPAN_INIT("a[\"b]"), "a quoted key has no end"},
        {SPAN_INIT("a[\"b\\"), "a quoted key has no end"},
        {SPAN_INIT("a[\"b\\x\"]"), "a quoted key is no JSON string"},
        {SPAN_INIT("a[\"\\ud800\"]"), "a quoted key is no JSON string"},
        {SPAN_INIT("a[\"b\"x]"), "a bracket is not closed"},
        {SPAN_INIT("a[0]b"), "behind a bracket there must be a dot, another bracket or the end"},
    };
    char got[256];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        describe(rows[i].text, got, sizeof got);
        if (strcmp(got, rows[i].meaning) != 0)
            fail_msg("%s: expected %s, got %s", rows[i].text.ptr, rows[i].meaning, got);
    }
    static const char *no_key[] = {".a", "a.", "a..b", "*", "a.*", "a]", "\"a\""};
    for (size_t i = 0; i < sizeof no_key / sizeof *no_key; i++) {
        describe(span_of(no_key[i]), got, sizeof got);
        if (!strstr(got, "a key is missing") && !strstr(got, "behind a bracket"))
            fail_msg("%s: got %s", no_key[i], got);
    }
}

static void keys_have_a_limit(void **state) {
    char text[JSON_KEY_MAX + 8], got[256];
    memset(text, 'k', sizeof text);
    describe(span_make(text, JSON_KEY_MAX), got, sizeof got);
    assert_int_equal(strlen(got), JSON_KEY_MAX + 2);
    describe(span_make(text, JSON_KEY_MAX + 1), got, sizeof got);
    assert_string_equal(got, "a key is longer than 128 bytes");
    memcpy(text, "[\"", 2);
    memcpy(text + JSON_KEY_MAX + 3, "\"]", 2);
    describe(span_make(text, JSON_KEY_MAX + 5), got, sizeof got);
    assert_string_equal(got, "a key is longer than 128 bytes");
}

static void a_set_has_a_limit_too(void **state) {
    struct span texts[JSON_PATHS_MAX + 1];
    const char *problem;
    uint32_t bad;
    for (size_t i = 0; i < JSON_PATHS_MAX + 1; i++)
        texts[i] = SPAN_LIT("a");
    struct json_paths *paths = json_paths_new(texts, JSON_PATHS_MAX, &problem, &bad);
    assert_non_null(paths);
    assert_int_equal(paths->all, UINT32_MAX);
    json_paths_free(paths);
    assert_null(json_paths_new(texts, JSON_PATHS_MAX + 1, &problem, &bad));
    assert_string_equal(problem, "there are more than 32 paths");
    texts[3] = SPAN_LIT("a[");
    assert_null(json_paths_new(texts, 5, &problem, &bad));
    assert_int_equal(bad, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_path),
        cmocka_unit_test(keys_have_a_limit),
        cmocka_unit_test(a_set_has_a_limit_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
