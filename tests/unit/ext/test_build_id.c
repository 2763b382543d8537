/* build_id.c: which build a file is; whatever is in a file, reading it ends in an id or in none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "elf_image.h"
#include "ext/host/build_id.h"

enum { GNU_BUILD_ID = 3, GO_BUILD_ID = 4, GNU_PROPERTY = 5 };

static struct elf_image image;
static struct build_id id;

static size_t read_id(void) {
    int fd = memfd_create("image", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, image.bytes, image.size), image.size);
    build_id_read(fd, &id);
    close(fd);
    return id.len;
}

static struct elf_note gnu(const char *content) {
    return (struct elf_note){"GNU", GNU_BUILD_ID, content, strlen(content)};
}

static struct elf_note go(const char *content) {
    return (struct elf_note){"Go", GO_BUILD_ID, content, strlen(content)};
}

/* A file with these two; an absent one has no name. */
static size_t id_of(struct elf_note one, struct elf_note two) {
    static const char *const names[] = {ELF_IMAGE_31, NULL};
    elf_make(&image, names, NULL);
    const struct elf_note notes[] = {one, two, {0}};
    elf_add_notes(&image, one.name ? notes : notes + 1, 4);
    return read_id();
}

static const struct elf_note absent;
#define GENUINE "act-ion_/main/mainc/content"

static void each_of_the_two_ids_tells_builds_apart(void **state) {
    assert_true(id_of(gnu("0123"), go(GENUINE)) > 0);
    struct build_id first = id;
    assert_true(id_of(gnu("0123"), go(GENUINE)) > 0);
    assert_int_equal(id.len, first.len);
    assert_true(build_id_eq(&id, &first));
    assert_int_equal(id_of(gnu("0124"), go(GENUINE)), first.len);
    assert_false(build_id_eq(&id, &first));
    assert_int_equal(id_of(gnu("0123"), go("act-ion_/main/mainc/kontent")), first.len);
    assert_false(build_id_eq(&id, &first));
    (void)id_of(gnu("0123"), absent);
    assert_false(build_id_eq(&id, &first));
}

static void files_without_ids_are_nobodys_build(void **state) {
    (void)id_of(absent, absent);
    const struct build_id first = id;
    (void)id_of(absent, absent);
    assert_false(build_id_eq(&id, &first));
}

static void the_linkers_id_is_shown_as_tools_do(void **state) {
    char text[BUILD_ID_TEXT_MAX], longest[BUILD_ID_MAX];
    (void)id_of(gnu("\x01\xab\x7f"), go(GENUINE));
    build_id_text(&id, text);
    assert_string_equal(text, "01ab7f");
    (void)id_of(absent, go(GENUINE));
    build_id_text(&id, text);
    assert_string_equal(text, "");
    memset(longest, 0xff, sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    assert_int_equal(id_of(gnu(longest), absent), BUILD_ID_MAX);
    build_id_text(&id, text);
    assert_int_equal(strlen(text), 2 * (BUILD_ID_MAX - 1));
}

static void one_is_enough(void **state) {
    assert_true(id_of(gnu("0123"), absent) > 0);
    assert_true(id_of(absent, go(GENUINE)) > 0);
    assert_int_equal(id_of(absent, absent), 0);
}

/* -ldflags=-buildid=release: and Go's linker makes the other one from it. */
static void an_id_that_was_chosen_tells_nothing(void **state) {
    assert_int_equal(id_of(gnu("0123"), go("release")), 0);
    assert_int_equal(id_of(gnu("0123"), go("")), 0);
    assert_int_equal(id_of(gnu("0123"), go("a//b/c")), 0);
    assert_int_equal(id_of(gnu("0123"), go("/a/b/c")), 0);
    assert_int_equal(id_of(gnu("0123"), go("a/b/c/")), 0);
    assert_int_equal(id_of(gnu("0123"), go("a/b/c/d/e")), 0);
}

static void other_notes_and_other_segments_are_passed_over(void **state) {
    size_t len = id_of(gnu("0123"), go(GENUINE));
    struct build_id plain = id;
    static const char *const names[] = {ELF_IMAGE_31, NULL};
    elf_make(&image, names, NULL);
    const struct elf_note others[] = {
        {"GNU", GNU_PROPERTY, "abcdefghi", 9}, {"Linux", GNU_BUILD_ID, "x", 1}, gnu("0123"), {0}};
    elf_add_notes(&image, others, 8);
    const struct elf_note rest[] = {go(GENUINE), {0}};
    elf_add_notes(&image, rest, 4);
    assert_int_equal(read_id(), len);
    assert_memory_equal(id.bytes, plain.bytes, len);
}

static void an_id_that_is_too_long_is_none(void **state) {
    char content[BUILD_ID_MAX + 1];
    memset(content, 'a', sizeof(content) - 1);
    content[sizeof(content) - 1] = 0;
    assert_int_equal(id_of(gnu(content), absent), 0);
    content[BUILD_ID_MAX - 1] = 0;
    assert_int_equal(id_of(gnu(content), absent), BUILD_ID_MAX);
    assert_int_equal(id_of(gnu(content), go(GENUINE)), 0);
}

/* Cut off anywhere, and with any byte of the headers or notes changed to anything: the sanitizers judge. */
static void damaged_files_do_no_harm(void **state) {
    assert_true(id_of(gnu("0123"), go(GENUINE)) > 0);
    const struct elf_image whole = image;
    Elf64_Ehdr file;
    memcpy(&file, whole.bytes, sizeof(file));
    Elf64_Phdr segment;
    memcpy(&segment, whole.bytes + file.e_phoff, sizeof(segment));
    assert_int_equal(segment.p_type, PT_NOTE);
    for (image.size = 0; image.size < whole.size; image.size += 7)
        assert_int_equal(read_id(), 0); /* the segments are told last */
    const struct {
        size_t at, len;
    } parts[] = {
        {0, sizeof(file)}, {file.e_phoff, sizeof(segment)}, {segment.p_offset, segment.p_filesz}};
    static const char values[] = {0, 1, 3, 0x7f, (char)0x80, (char)0xff};
    for (size_t p = 0; p < sizeof(parts) / sizeof(parts[0]); p++)
        for (size_t i = 0; i < parts[p].len; i++)
            for (size_t v = 0; v < sizeof(values); v++) {
                image = whole;
                image.bytes[parts[p].at + i] = values[v];
                assert_true(read_id() <= BUILD_ID_MAX);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_of_the_two_ids_tells_builds_apart),
        cmocka_unit_test(files_without_ids_are_nobodys_build),
        cmocka_unit_test(the_linkers_id_is_shown_as_tools_do),
        cmocka_unit_test(one_is_enough),
        cmocka_unit_test(an_id_that_was_chosen_tells_nothing),
        cmocka_unit_test(other_notes_and_other_segments_are_passed_over),
        cmocka_unit_test(an_id_that_is_too_long_is_none),
        cmocka_unit_test(damaged_files_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
