/* docs/config.md is what cfg_print_docs prints. `test_docs --write FILE` makes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "config/config.h"

static const char *docs_path;

static void committed_docs_are_up_to_date(void **state) {
    char *printed = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&printed, &len);
    assert_non_null(out);
    cfg_print_docs(out);
    assert_int_equal(fclose(out), 0);

    FILE *file = fopen(docs_path, "re");
    assert_non_null(file);
    char *committed = calloc(1, len + 2);
    assert_non_null(committed);
    size_t read = fread(committed, 1, len + 1, file);
    assert_int_equal(fclose(file), 0);
    if (read != len || memcmp(printed, committed, len) != 0)
        fail_msg("%s differs from the tables: run `sluice --print-config-docs >%s`", docs_path,
                 docs_path);
    free(committed);
    free(printed);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        FILE *file = fopen(argv[2], "we");
        if (!file)
            return 1;
        cfg_print_docs(file);
        return fclose(file) != 0;
    }
    if (argc != 2)
        return 2;
    docs_path = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(committed_docs_are_up_to_date)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
