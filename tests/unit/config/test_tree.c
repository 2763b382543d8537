/* Text into trees: what YAML and JSON may hold, and the bounds that keep a small file small. */
#include "config_test.h"

#include "config/tree.h"

static void refused_text(const char *name, struct span text, const char *expected) {
    char *said;
    assert_null(load_named(name, text, span_none(), &said));
    assert_string_equal(said, expected);
    free(said);
}

/* ---- YAML ---- */

static void anchors_and_merge_keys_work(void **state) {
    struct config *config = load_ok("static_resources:\n"
                                    "  clusters:\n"
                                    "  - &a {name: one, connect_timeout: 1s, lb_policy: 0}\n"
                                    "  - {<<: *a, name: two}\n"
                                    "  - name: three\n"
                                    "    <<: [{connect_timeout: 3s}, *a]\n"
                                    "  - *a\n"
                                    "  - {<<: *a, <<: {alt_stat_name: merged}}\n");
    const struct cfg_static_resources *resources = config_bootstrap(config)->static_resources;
    assert_int_equal(resources->clusters_count, 5);
    assert_span(resources->clusters[1].name, "two");
    assert_int_equal(resources->clusters[1].connect_timeout.ns, 1000000000);
    assert_int_equal(resources->clusters[2].connect_timeout.ns, 3000000000);
    assert_span(resources->clusters[3].name, "one");
    assert_span(resources->clusters[4].alt_stat_name, "merged");
    config_unref(config);
    refused("node: {<<: 1}", "t.yaml:1: a merge key (<<) takes an object or a list of objects\n");
    refused("node: {<<: [1]}", "t.yaml:1: a merge key (<<) takes objects\n");
    refused("node: {<<: [[{}]]}", "t.yaml:1: a merge key (<<) takes objects\n");
    /* Quoted, it is a key like any other. */
    refused("node: {\"<<\": {}}",
            "t.yaml:1: node: unknown field \"<<\" in envoy.config.core.v3.Node\n");
}

static void aliases_need_a_finished_anchor(void **state) {
    refused("node: *x", "t.yaml:1: alias *x: no such anchor before it (or it is inside it)\n");
    refused("node: &x\n  metadata: *x\n",
            "t.yaml:2: alias *x: no such anchor before it (or it is inside it)\n");
}

/* Nine lines that would stand for a billion nodes. */
static void an_alias_bomb_is_refused(void **state) {
    refused("a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            "b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
            "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
            "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
            "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n"
            "f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
            "g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n"
            "h: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g,*g]\n"
            "node: {metadata: {x: *h}}\n",
            "t.yaml:6: aliases expand to more than 262144 nodes\n");
    /* The same by merge keys. */
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    fprintf(out, "a: &a {x: [");
    for (int i = 0; i < 1000; i++)
        fprintf(out, "1,");
    fprintf(out, "]}\nb: [");
    for (int i = 0; i < 300; i++)
        fprintf(out, "{<<: *a},\n");
    fprintf(out, "]\n");
    assert_int_equal(fclose(out), 0);
    char *said;
    assert_null(load_named("t.yaml", span_make(text, len), span_none(), &said));
    assert_non_null(strstr(said, "aliases expand to more than 262144 nodes"));
    free(said);
    free(text);
}

static struct span nested(const char *open, size_t depth, const char *middle, const char *close) {
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    for (size_t i = 0; i < depth; i++)
        fputs(open, out);
    fputs(middle, out);
    for (size_t i = 0; i < depth; i++)
        fputs(close, out);
    assert_int_equal(fclose(out), 0);
    return span_make(text, len);
}

static void depth_is_bounded(void **state) {
    struct span text = nested("[", 101, "", "]");
    refused_text("t.yaml", text, "t.yaml:1: nested deeper than 100 levels\n");
    refused_text("t.json", text, "t.json:1: nested deeper than 100 levels\n");
    free((char *)(uintptr_t)text.ptr);
    text = nested("{x: ", 100000, "1", "}");
    refused_text("t.yaml", text, "t.yaml:1: nested deeper than 100 levels\n");
    free((char *)(uintptr_t)text.ptr);

    struct span fits = nested("[", 97, "", "]");
    char *yaml;
    assert_true(asprintf(&yaml, "node: {metadata: {x: %.*s}}", (int)fits.len, fits.ptr) > 0);
    struct config *config = load_ok(yaml);
    config_unref(config);
    free(yaml);
    free((char *)(uintptr_t)fits.ptr);

    /* Depth by way of aliases: each line adds nine levels to what it refers to. */
    char *bomb;
    size_t len;
    FILE *out = open_memstream(&bomb, &len);
    fprintf(out, "a0: &a0 [[[[[[[[[1]]]]]]]]]\n");
    for (int i = 1; i < 20; i++)
        fprintf(out, "a%d: &a%d [[[[[[[[[*a%d]]]]]]]]]\n", i, i, i - 1);
    assert_int_equal(fclose(out), 0);
    refused_text("t.yaml", span_make(bomb, len), "t.yaml:12: nested deeper than 100 levels\n");
    free(bomb);
}

static void keys_are_unique_strings(void **state) {
    refused("node:\n  id: a\n  cluster: b\n  id: c\n",
            "t.yaml:4: the key \"id\" is there twice, first on line 2\n");
    refused("{[a]: b}", "t.yaml:1: a key must be a string, not a list or an object\n");
    refused("{{a: 1}: b}", "t.yaml:1: a key must be a string, not a list or an object\n");
}

static void a_config_is_one_document(void **state) {
    refused("node: {id: a}\n---\nnode: {id: b}\n",
            "t.yaml:2: a second document: a config is one document\n");
    struct config *config = load_ok("%YAML 1.1\n---\nnode: {id: a}\n...\n");
    config_unref(config);
}

static void broken_yaml_is_told_with_its_line(void **state) {
    refused("node:\n  id: \"a\n", "t.yaml:3: not valid YAML: found unexpected end of stream\n");
    refused("node: {id: a\n", "t.yaml:2: not valid YAML: did not find expected ',' or '}'\n");
    refused("node:\n\tid: a\n",
            "t.yaml:2: not valid YAML: found character that cannot start any token\n");
    refused("a: b: c\n", "t.yaml:1: not valid YAML: mapping values are not allowed in this "
                         "context\n");
    refused("node: !custom {}", "t.yaml:1: the YAML tag !custom is not supported\n");
    refused("node: {id: !!str 5}", "t.yaml:1: the YAML tag !!str has no effect on Envoy: put the "
                                   "value in quotes\n");
    refused("node: {id: !!binary aGk=}",
            "t.yaml:1: the YAML tag tag:yaml.org,2002:binary is not supported\n");
    refused_text("t.yaml", SPAN_LIT("node: {id: \"\xFF\"}"),
                 "t.yaml:1: not valid YAML: invalid leading UTF-8 octet\n");
}

static void a_byte_order_mark_is_ignored(void **state) {
    struct config *config = load_ok("\xEF\xBB\xBFnode: {id: a}");
    config_unref(config);
    config = load_saying("t.json", "\xEF\xBB\xBF{\"node\": {\"id\": \"a\"}}", "");
    assert_non_null(config);
    config_unref(config);
}

/* ---- JSON ---- */

static void json_escapes_all_work(void **state) {
    const char *json = "{\t\"node\" :\t{ \"id\" : \"\\uD83D\\uDE00 \\/ \\b\\f\\n\\r\\t \\\\ \\\" "
                       "\\u00e9\\u20AC\" }\r\n}";
    const char *id = "\xF0\x9F\x98\x80 / \b\f\n\r\t \\ \" \xC3\xA9\xE2\x82\xAC";
    struct config *config = load_saying("t.json", json, "");
    assert_span(config_bootstrap(config)->node->id, id);
    config_unref(config);
    /* The same under another name: --config-yaml may hold JSON. */
    config = load_ok(json);
    assert_span(config_bootstrap(config)->node->id, id);
    config_unref(config);
    /* What only looks like JSON is YAML's flow style. */
    config = load_ok("{node: {id: a}} # comment");
    config_unref(config);
}

static void broken_json_is_told_with_its_line(void **state) {
    static const char *const cases[][2] = {
        {"", "1: not valid JSON: expected a value, found the end"},
        {"{\n\"node\": {}\n", "3: not valid JSON: expected ',' or '}', found the end"},
        {"{\"a\": [1,]}", "1: not valid JSON: expected a value, found ']'"},
        {"{\"a\": 1,}", "1: not valid JSON: expected a key in double quotes, found '}'"},
        {"{a: 1}", "1: not valid JSON: expected a key in double quotes, found 'a'"},
        {"{\"a\" 1}", "1: not valid JSON: expected ':' after a key, found '1'"},
        {"{\"a\": 01}", "1: not valid JSON: a number does not begin with 0"},
        {"{\"a\": -}", "1: not valid JSON: expected a digit, found '}'"},
        {"{\"a\": 1.}", "1: not valid JSON: expected a digit after the point, found '}'"},
        {"{\"a\": 1e}", "1: not valid JSON: expected a digit in the exponent, found '}'"},
        {"{\"a\": yes}", "1: not valid JSON: expected a value, found 'y'"},
        {"{\"a\": 'b'}", "1: not valid JSON: expected a value, found '''"},
        {"{} x", "1: not valid JSON: expected the end of the document, found 'x'"},
        {"{\"a\": \"\\x\"}",
         "1: not valid JSON: expected an escape (one of \" \\ / b f n r t u), found 'x'"},
        {"{\"a\": \"\\u12g4\"}",
         "1: not valid JSON: expected four hexadecimal digits after \\u, found 'g'"},
        {"{\"a\": \"\\uD83D\"}", "1: not valid JSON: half of a surrogate pair"},
        {"{\"a\": \"\\uDE00\"}", "1: not valid JSON: half of a surrogate pair"},
        {"{\"a\": \"\\uD83D\\u0041\"}", "1: not valid JSON: half of a surrogate pair"},
        {"{\"a\": \"x", "1: not valid JSON: expected the closing quote of a string, found the end"},
        {"{\"a\": \"\xC0\x80\"}", "1: not valid JSON: a string that is not UTF-8"},
        {"{\"a\": \"\xED\xA0\x80\"}", "1: not valid JSON: a string that is not UTF-8"},
        {"{\"a\":\n1,\n\"a\": 2}", "3: the key \"a\" is there twice, first on line 1"},
        {"\x01", "1: not valid JSON: expected a value, found byte 0x01"},
        {"{\"a\": \"x\ny\"}", "1: not valid JSON: control byte 0x0A in a string, or its closing "
                              "quote is missing"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char expected[256];
        snprintf(expected, sizeof(expected), "t.json:%s\n", cases[i][1]);
        refused_json(cases[i][0], expected);
    }
}

/* JSON numbers are numbers, unlike YAML's inside a Struct. */
static void json_numbers_stay_numbers(void **state) {
    struct config *config = load_saying(
        "t.json", "{\"node\": {\"metadata\": {\"a\": 0.5, \"b\": 3000000000, \"c\": -1e2}}}", "");
    const struct cfg_value *metadata = config_bootstrap(config)->node->metadata;
    assert_true(metadata->fields[0].value.number == 0.5);
    assert_true(metadata->fields[1].value.number == 3e9);
    assert_true(metadata->fields[2].value.number == -100);
    config_unref(config);

    config = load_ok("node: {metadata: {a: 0.5, b: 3000000000, c: -100, d: yes, e: ~, f: \"1\"}}");
    metadata = config_bootstrap(config)->node->metadata;
    assert_span(metadata->fields[0].value.string, "0.5");
    assert_span(metadata->fields[1].value.string, "3000000000");
    assert_true(metadata->fields[2].value.number == -100);
    assert_true(metadata->fields[3].value.boolean);
    assert_int_equal(metadata->fields[4].value.kind, CFG_VALUE_NULL);
    assert_span(metadata->fields[5].value.string, "1");
    config_unref(config);

    /* In a YAML file the same text has YAML's scalars: the name decides, as on Envoy. */
    config = load_ok("{\"node\": {\"metadata\": {\"a\": 0.5, \"b\": \"\\uD83D\\uDE00\"}}}");
    metadata = config_bootstrap(config)->node->metadata;
    assert_span(metadata->fields[0].value.string, "0.5");
    assert_span(metadata->fields[1].value.string, "\xF0\x9F\x98\x80");
    config_unref(config);

    refused_json("{\"node\": {\"metadata\": {\"a\": 1e999}}}",
                 "t.json:1: node.metadata[\"a\"]: the number 1e999 is out of range\n");
    refused_json("{\"node\": {\"id\": 1}}",
                 "t.json:1: node.id: expected a string (put it in quotes), found the number 1\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anchors_and_merge_keys_work),
        cmocka_unit_test(aliases_need_a_finished_anchor),
        cmocka_unit_test(an_alias_bomb_is_refused),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(keys_are_unique_strings),
        cmocka_unit_test(a_config_is_one_document),
        cmocka_unit_test(broken_yaml_is_told_with_its_line),
        cmocka_unit_test(a_byte_order_mark_is_ignored),
        cmocka_unit_test(json_escapes_all_work),
        cmocka_unit_test(broken_json_is_told_with_its_line),
        cmocka_unit_test(json_numbers_stay_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
