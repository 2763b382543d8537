/* go_elf.c: which library is it, and files that are none. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "elf_image.h"
#include "ext/go/go_elf.h"
#include "ext/go/go_library.h"

static struct elf_image image;
static struct go_elf elf;
static char why[GO_ELF_WHY_MAX];

static int inspect(void) {
    /* On the heap and exactly as long as the file, so that a step beyond is caught. */
    char *copy = malloc(image.size ? image.size : 1);
    memcpy(copy, image.bytes, image.size);
    why[0] = 0;
    int err = go_elf_inspect(span_make(copy, image.size), go_export_is_known, &elf, why);
    free(copy);
    return err;
}

static void refused(const char *because) {
    assert_int_equal(inspect(), -EINVAL);
    if (!strstr(why, because))
        fail_msg("'%s' does not say '%s'", why, because);
}

static void make(const char *const *names, const char *modules) {
    elf_make(&image, names, modules);
}

static const char *const names_31[] = {ELF_IMAGE_31, NULL};
static const char *const names_32[] = {ELF_IMAGE_31, "envoyGoFilterOnHttpStreamComplete", NULL};
static const char *const names_33[] = {ELF_IMAGE_31, "envoyGoFilterOnHttpStreamComplete",
                                       "-envoyGoFilterHttpAddData", NULL};

static void the_three_sdks_are_told_apart(void **state) {
    make(names_31, ELF_IMAGE_MODULES("v1.31.0"));
    assert_int_equal(inspect(), 0);
    assert_int_equal(elf.level, GO_LEVEL_31);
    assert_string_equal(elf.sdk_version, "v1.31.0");
    assert_string_equal(elf.go_version, "go1.99");
    assert_true(elf.has_http);
    make(names_32, ELF_IMAGE_MODULES("v1.32.4"));
    assert_int_equal(inspect(), 0);
    assert_int_equal(elf.level, GO_LEVEL_32);
    make(names_33, NULL); /* no modules: the symbols say enough */
    assert_int_equal(inspect(), 0);
    assert_int_equal(elf.level, GO_LEVEL_33);
    assert_string_equal(elf.sdk_version, "");
}

static void functions_of_a_newer_sdk_are_listed(void **state) {
    static const char *const newer[] = {ELF_IMAGE_31,
                                        "envoyGoFilterOnHttpStreamComplete",
                                        "-envoyGoFilterHttpAddData",
                                        "-envoyGoFilterHttpInjectData",
                                        "-envoyGoFilterHttpSetWings",
                                        NULL};
    make(newer, ELF_IMAGE_MODULES("v1.34.0"));
    assert_int_equal(inspect(), 0);
    assert_int_equal(elf.level, GO_LEVEL_33);
    assert_int_equal(elf.missing_count, 2);
    assert_string_equal(elf.missing[0], "envoyGoFilterHttpInjectData");
    assert_string_equal(elf.missing[1], "envoyGoFilterHttpSetWings");
    /* The rest is not what it was. */
    make(newer, ELF_IMAGE_MODULES("v2.0.0"));
    refused("it calls envoyGoFilterHttpInjectData, which Sluice does not have: built with Envoy's "
            "Go SDK v2.0.0");
    static const char *const half[] = {ELF_IMAGE_31, "-envoyGoFilterHttpInjectData", NULL};
    make(half, ELF_IMAGE_MODULES("v1.34.0"));
    refused("lacks envoyGoFilterOnHttpStreamComplete");
    static const char *const odd[] = {ELF_IMAGE_31, "-envoyGo bad name", NULL};
    make(odd, ELF_IMAGE_MODULES("v1.31.0"));
    refused("it calls envoyGo bad name, which Sluice does not have");
}

static void a_replaced_sdk_counts_by_its_replacement(void **state) {
    make(names_33, "dep\tgithub.com/envoyproxy/envoy\tv1.20.0\n=>\texample/fork\tv1.33.7\th1:x\n");
    assert_int_equal(inspect(), 0);
    assert_string_equal(elf.sdk_version, "v1.33.7");
}

static void what_cannot_work_is_refused_with_the_reason(void **state) {
    make(names_31, ELF_IMAGE_MODULES("v1.30.2"));
    refused("1.31 is the oldest");
    make(names_31, NULL);
    refused("cannot be told");
    static const char *const other[] = {"main", NULL};
    make(other, ELF_IMAGE_MODULES("v1.33.0"));
    refused("none that uses Envoy's Go SDK");
    static const char *const half[] = {"envoyGoFilterOnHttpHeader", NULL};
    make(half, ELF_IMAGE_MODULES("v1.33.0"));
    refused("lacks envoyGoFilterNewHttpPluginConfig");

    make(names_33, NULL);
    image.bytes[18] = EM_S390;
    refused("another machine");
    make(names_33, NULL);
    image.bytes[16] = ET_EXEC;
    refused("not a shared library");
    make(names_33, NULL);
    memset(image.bytes + offsetof(Elf64_Ehdr, e_shoff), 0, 8);
    refused("no section headers");
    image.size = 3;
    refused("not an ELF file");
    image.size = 20;
    refused("cut off");
    image.size = 0;
    refused("not an ELF file");
}

static void a_library_for_another_libc_is_refused(void **state) {
    static const char *const its[] = {"libc.so", "libc.musl-x86_64.so.1", "ld-musl-aarch64.so.1"};
    for (size_t i = 0; i < sizeof(its) / sizeof(its[0]); i++) {
        elf_make_needing(&image, names_33, ELF_IMAGE_MODULES("v1.33.0"), its[i]);
        refused(its[i]);
        assert_non_null(strstr(why, "built with musl"));
    }
    elf_make_needing(&image, names_33, NULL, "libc.so.60");
    assert_int_equal(inspect(), 0);
}

static void files_that_are_no_libraries(void **state) {
    static const struct {
        const char *path, *because;
    } files[] = {
        {"/no/such/file", "No such file"},
        {"/", "not a regular file"},
        {"/dev/null", "not a regular file"},
        {"/proc/self/exe", "not a Go library"},
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        assert_int_equal(go_elf_inspect_file(files[i].path, go_export_is_known, &elf, why),
                         -EINVAL);
        if (!strstr(why, files[i].because) && !strstr(why, "not a shared library"))
            fail_msg("%s: '%s' does not say '%s'", files[i].path, why, files[i].because);
    }
}

static void any_cut_and_any_damage_is_only_a_verdict(void **state) {
    make(names_33, ELF_IMAGE_MODULES("v1.33.0"));
    struct elf_image whole = image;
    for (image.size = 0; image.size < whole.size; image.size++)
        (void)inspect(); /* whatever it says; sanitizers watch */
    unsigned seed = 7;
    for (int i = 0; i < 20000; i++) {
        image = whole;
        for (int k = 0; k < 1 + i % 4; k++) {
            /* Mostly where offsets and sizes are. */
            size_t at = i % 2 ? (size_t)rand_r(&seed) % image.size
                              : image.size - (size_t)rand_r(&seed) % (5 * sizeof(Elf64_Shdr)) - 1;
            image.bytes[at] = (char)(rand_r(&seed) % 4 ? rand_r(&seed) : 0xff);
        }
        (void)inspect();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_three_sdks_are_told_apart),
        cmocka_unit_test(functions_of_a_newer_sdk_are_listed),
        cmocka_unit_test(a_replaced_sdk_counts_by_its_replacement),
        cmocka_unit_test(what_cannot_work_is_refused_with_the_reason),
        cmocka_unit_test(a_library_for_another_libc_is_refused),
        cmocka_unit_test(files_that_are_no_libraries),
        cmocka_unit_test(any_cut_and_any_damage_is_only_a_verdict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
