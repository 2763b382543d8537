/* file_tree: a folder of files that a test writes, in the place of one of the kernel's. make_root and
 * remove_root are for cmocka's groups. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char root[] = "/tmp/sluice-tree-XXXXXX";

/* path begins with a slash; its folders are made. */
static inline void write_file(const char *path, const char *text) {
    char full[512];
    int n = snprintf(full, sizeof full, "%s%s", root, path);
    assert_true(n > 0 && n < (int)sizeof full);
    for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')); at++) {
        *at = '\0';
        (void)mkdir(full, 0755); /* may be there */
        *at = '/';
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static int make_root(void **state) {
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}
