/* Files that are cut, damaged or too much for memory: an error, never a crash and never a leak
 * (this runs under ASan in ./dev test). */
#include "config_test.h"

#include <errno.h>

#include "config/load.h"

static struct span read_file(const char *path) {
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    char *bytes = calloc(1, 65536);
    assert_non_null(bytes);
    size_t len = fread(bytes, 1, 65535, file);
    assert_int_equal(fclose(file), 0);
    return span_make(bytes, len);
}

static void load_and_drop(const char *name, struct span text) {
    char *said;
    config_unref(load_named(name, text, span_none(), &said));
    free(said);
}

/* Copies of the exact size, so that ASan sees a read past the end. */
static void load_copy(const char *name, const char *bytes, size_t len) {
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    load_and_drop(name, span_make(copy, len));
    free(copy);
}

static void a_file_cut_anywhere_is_survived(void **state) {
    struct span yaml = read_file(TEST_DATA "/everything.yaml");
    for (size_t len = 0; len <= yaml.len; len++)
        load_copy("t.yaml", yaml.ptr, len);

    char *said;
    struct config *config = load_named("t.yaml", yaml, span_none(), &said);
    assert_string_equal(said, "");
    assert_non_null(config);
    free(said);
    char *json = cfg_to_json(&cfg_schema_bootstrap, config_bootstrap(config), 1);
    config_unref(config);
    size_t json_len = strlen(json);
    for (size_t len = 0; len <= json_len; len++)
        load_copy("t.json", json, len);
    free(json);
    free((char *)(uintptr_t)yaml.ptr);
}

static void a_file_with_any_byte_changed_is_survived(void **state) {
    struct span yaml = read_file(TEST_DATA "/everything.yaml");
    static const char replacements[] = {'\0', '\n', '\t', ' ', '{', ']', ':',
                                        '"',  '&',  '*',  '-', '~', '0', (char)0xFF};
    char *copy = malloc(yaml.len);
    assert_non_null(copy);
    for (size_t i = 0; i < yaml.len; i++) {
        memcpy(copy, yaml.ptr, yaml.len);
        copy[i] = replacements[i % sizeof(replacements)];
        load_and_drop("t.yaml", span_make(copy, yaml.len));
    }
    free(copy);
    free((char *)(uintptr_t)yaml.ptr);
}

/* The arenas refuse their first allocation, then their second, and so on until all are granted. */
static void short_memory_fails_the_load_and_leaks_nothing(void **state) {
    struct span yaml = read_file(TEST_DATA "/everything.yaml");
    struct span descriptors = read_file(TEST_DATA "/plugin.pb");
    long granted = 0;
    for (;; granted++) {
        struct cfg_problems problems = {0};
        struct config *config = NULL;
        cfg_fail_after_for_tests = granted;
        int result = config_load_text(SPAN_LIT("t.yaml"), yaml, descriptors, &config, &problems);
        cfg_fail_after_for_tests = -1;
        if (result == 0) {
            cfg_problems_fini(&problems);
            config_unref(config);
            break;
        }
        assert_int_equal(result, -ENOMEM);
        assert_true(problems.lost);
        assert_true(cfg_problems_refuse(&problems));
        assert_null(config);
        cfg_problems_fini(&problems);
    }
    assert_true(granted > 100);
    free((char *)(uintptr_t)yaml.ptr);
    free((char *)(uintptr_t)descriptors.ptr);
}

static void lost_problems_are_said(void **state) {
    struct cfg_problems problems = {.lost = true};
    assert_true(cfg_problems_refuse(&problems));
    char *said;
    size_t len;
    FILE *out = open_memstream(&said, &len);
    cfg_problems_print(&problems, out);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(said, "out of memory: further problems are not listed\n");
    free(said);
}

/* A file of a thousand clusters is an ordinary one. */
static void a_large_file_loads(void **state) {
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    fprintf(out, "static_resources:\n  clusters:\n");
    for (int i = 0; i < 2000; i++) {
        fprintf(out,
                "  - name: cluster_%d\n    connect_timeout: 1s\n    load_assignment:\n"
                "      cluster_name: c\n      endpoints:\n      - lb_endpoints:\n"
                "        - endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: "
                "%d}}}\n",
                i, i);
    }
    assert_int_equal(fclose(out), 0);
    char *said;
    struct config *config = load_named("t.yaml", span_make(text, len), span_none(), &said);
    assert_string_equal(said, "");
    assert_int_equal(config_bootstrap(config)->static_resources->clusters_count, 2000);
    config_unref(config);
    free(said);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_cut_anywhere_is_survived),
        cmocka_unit_test(a_file_with_any_byte_changed_is_survived),
        cmocka_unit_test(short_memory_fails_the_load_and_leaks_nothing),
        cmocka_unit_test(lost_problems_are_said),
        cmocka_unit_test(a_large_file_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
