/* What pages are written with: text, JSON, query parameters, and input that wants to break out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "admin/json.h"
#include "admin/query.h"
#include "admin/text.h"

static void assert_text(struct text *text, const char *want) {
    assert_false(text->failed);
    text_putc(text, '\0');
    assert_string_equal(text->data, want);
    text_fini(text);
}

static void assert_span(struct span got, const char *want) {
    assert_false(span_is_none(got));
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.ptr, want, got.len);
}

static void text_grows_as_it_is_written(void **state) {
    struct text text = {0};
    for (int i = 0; i < 10000; i++)
        text_printf(&text, "%d,", i % 10);
    assert_int_equal(text.len, 20000);
    for (int i = 0; i < 10000; i++) {
        assert_int_equal(text.data[2 * i], '0' + i % 10);
        assert_int_equal(text.data[2 * i + 1], ',');
    }
    text_fini(&text);
}

static void a_failed_text_takes_nothing_more(void **state) {
    struct text text = {0};
    text_puts(&text, "a");
    text.failed = true;
    text_puts(&text, "b");
    text_printf(&text, "%d", 1);
    assert_int_equal(text.len, 1);
    text_fini(&text);
}

static void doubles_are_as_short_as_they_can_be(void **state) {
    static const struct {
        double value;
        const char *want;
    } cases[] = {{0, "0"},
                 {0.5, "0.5"},
                 {1.05, "1.05"},
                 {99.9, "99.9"},
                 {3600000, "3600000"},
                 {1e300, "1e+300"},
                 {0.001, "0.001"},
                 {274877906.943, "274877906.943"},
                 {2.0833333333333335, "2.0833333333333335"},
                 {NAN, "nan"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text text = {0};
        text_put_double(&text, cases[i].value);
        assert_text(&text, cases[i].want);
    }
}

static void json_is_laid_out_as_protobuf_does(void **state) {
    struct text out = {0};
    struct json json = {.out = &out, .style = JSON_PRETTY};
    json_open(&json, '{');
    json_field(&json, "name", SPAN_LIT("a"));
    json_key(&json, "list");
    json_open(&json, '[');
    json_u64(&json, 1);
    json_bool(&json, true);
    json_raw(&json, SPAN_LIT("{\n \"x\": 1\n}\n"));
    json_close(&json, ']');
    json_key(&json, "none");
    json_open(&json, '[');
    json_close(&json, ']');
    json_key(&json, "empty");
    json_open(&json, '{');
    json_close(&json, '}');
    json_field_u64_string(&json, "big", UINT64_MAX);
    json_field_time(&json, "at", 1767268800123456789);
    json_close(&json, '}');
    assert_text(&out, "{\n"
                      " \"name\": \"a\",\n"
                      " \"list\": [\n"
                      "  1,\n"
                      "  true,\n"
                      "  {\n"
                      "   \"x\": 1\n"
                      "  }\n"
                      " ],\n"
                      " \"none\": [],\n"
                      " \"empty\": {},\n"
                      " \"big\": \"18446744073709551615\",\n"
                      " \"at\": \"2026-01-01T12:00:00.123Z\"\n"
                      "}\n");
}

static void json_in_one_line_has_no_blanks(void **state) {
    struct text out = {0};
    struct json json = {.out = &out, .style = JSON_COMPACT};
    json_open(&json, '{');
    json_key(&json, "a");
    json_open(&json, '[');
    json_double(&json, 0.5);
    json_double(&json, NAN);
    json_i64(&json, -3);
    json_open(&json, '{');
    json_close(&json, '}');
    json_close(&json, ']');
    json_key(&json, "b");
    json_bool(&json, false);
    json_close(&json, '}');
    assert_text(&out, "{\"a\":[0.5,null,-3,{}],\"b\":false}");
}

static void no_string_breaks_out_of_json(void **state) {
    struct text out = {0};
    struct json json = {.out = &out, .style = JSON_COMPACT};
    static const char bytes[] = "\"\\\n\t\x01\x7f\0\xff\xc3\xa4</script>";
    json_string(&json, span_make(bytes, sizeof bytes - 1));
    assert_text(&out, "\"\\\"\\\\\\n\\u0009\\u0001\\u007f\\u0000\\ufffd\xc3\xa4</script>\"");
}

static void a_query_is_cut_up_and_decoded(void **state) {
    struct query query;
    assert_true(
        query_parse(&query, SPAN_LIT("usedonly&filter=a%2Eb%26c&&filter=2&x=1=2&%66=+%zz%4")));
    assert_int_equal(query.count, 5);
    assert_true(query_has(&query, "usedonly"));
    assert_span(query_find(&query, "usedonly"), "");
    assert_span(query_find(&query, "filter"), "a.b&c"); /* the first one */
    assert_span(query_find(&query, "x"), "1=2");
    assert_span(query_find(&query, "f"), "+%zz%4"); /* no escapes: as they stand */
    assert_false(query_has(&query, "nothing"));
    query_fini(&query);

    assert_true(query_parse(&query, span_none()));
    assert_int_equal(query.count, 0);
    query_fini(&query);
}

static void a_query_of_many_parameters_is_bounded(void **state) {
    struct query query;
    char raw[4 * QUERY_PARAMS_MAX + 1] = "";
    for (int i = 0; i < QUERY_PARAMS_MAX + 4 && strlen(raw) + 3 < sizeof raw; i++)
        strcat(raw, "a&&");
    assert_true(query_parse(&query, span_of(raw)));
    assert_true(query.count <= QUERY_PARAMS_MAX);
    query_fini(&query);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_grows_as_it_is_written),
        cmocka_unit_test(a_failed_text_takes_nothing_more),
        cmocka_unit_test(doubles_are_as_short_as_they_can_be),
        cmocka_unit_test(json_is_laid_out_as_protobuf_does),
        cmocka_unit_test(json_in_one_line_has_no_blanks),
        cmocka_unit_test(no_string_breaks_out_of_json),
        cmocka_unit_test(a_query_is_cut_up_and_decoded),
        cmocka_unit_test(a_query_of_many_parameters_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
