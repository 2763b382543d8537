/* go_environ.c on a block like the kernel's: what a Go runtime that starts now would read. */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "ext/go/go_environ.h"

enum { WORDS = 64 };

/* argv "sluice", the environment, the vector: as a kernel lays them out. */
static struct block {
    uintptr_t words[WORDS];
    size_t count;
} block, before;

static void put(uintptr_t word) {
    assert_true(block.count < WORDS);
    block.words[block.count++] = word;
}

static void put_text(const char *text) {
    put((uintptr_t)text);
}

static const uintptr_t usual[] = {AT_SYSINFO_EHDR, 0x7000, AT_MINSIGSTKSZ, 1776,   AT_HWCAP, 0xbfff,
                                  AT_PAGESZ,       4096,   AT_CLKTCK,      100,    AT_FLAGS, 0,
                                  AT_ENTRY,        0x5000, AT_RANDOM,      0x6000, AT_NULL,  0};

static void make(const char *const *environment, const uintptr_t *vector) {
    memset(&block, 0, sizeof(block));
    put_text("sluice");
    put(0);
    for (; *environment; environment++)
        put_text(*environment);
    put(0);
    for (;; vector += 2) {
        put(vector[0]);
        put(vector[1]);
        if (vector[0] == AT_NULL)
            break;
    }
    before = block;
    go_environ_init(1, (char **)(void *)block.words);
}

/* As runtime.gogetenv does: the first of that name. */
static const char *seen(const char *name) {
    for (const uintptr_t *at = block.words + 2; *at; at++) {
        const char *entry = (const char *)*at;
        size_t len = strlen(name);
        if (strncmp(entry, name, len) == 0 && entry[len] == '=')
            return entry + len + 1;
    }
    return NULL;
}

/* As runtime.sysargs does: the vector starts behind the environment's end. */
static uintptr_t vector_value(const uintptr_t *at, uintptr_t type) {
    for (; at[0] != AT_NULL; at += 2)
        if (at[0] == type)
            return at[1];
    return UINTPTR_MAX;
}

static const uintptr_t *go_vector(void) {
    const uintptr_t *at = block.words + 2;
    while (*at)
        at++;
    return at + 1;
}

/* Where the C library keeps looking. */
static const uintptr_t *old_vector(void) {
    const uintptr_t *at = before.words + 2;
    while (*at)
        at++;
    return block.words + (at + 1 - before.words);
}

static void the_vector_is_whole(const uintptr_t *vector) {
    for (size_t i = 0; usual[i] != AT_NULL; i += 2)
        if (usual[i] != AT_CLKTCK && usual[i] != AT_FLAGS && usual[i] != AT_ENTRY)
            assert_int_equal(vector_value(vector, usual[i]), usual[i + 1]);
}

static void begin(struct go_environ wish) {
    assert_int_equal(go_environ_begin(&wish), 0);
}

static void end(void) {
    go_environ_end();
    assert_memory_equal(&block, &before, sizeof(block));
}

static void new_names_appear_and_the_rest_stays(void **state) {
    const char *const environment[] = {"PATH=/bin", "GOGCX=1", NULL};
    make(environment, usual);
    begin((struct go_environ){.no_cgocheck = true});
    assert_string_equal(seen("GODEBUG"), "cgocheck=0");
    assert_string_equal(seen("PATH"), "/bin");
    assert_null(seen("GOGC"));
    the_vector_is_whole(go_vector());
    the_vector_is_whole(old_vector());
    end();
    begin((struct go_environ){true, SPAN_LIT("50"), SPAN_LIT("64MiB"), 0});
    assert_string_equal(seen("GODEBUG"), "cgocheck=0");
    assert_string_equal(seen("GOGC"), "50");
    assert_string_equal(seen("GOMEMLIMIT"), "64MiB");
    the_vector_is_whole(go_vector());
    the_vector_is_whole(old_vector());
    end();
}

static void an_empty_environment_gets_them_too(void **state) {
    const char *const environment[] = {NULL};
    make(environment, usual);
    begin((struct go_environ){.gogc = SPAN_LIT("off"), .memory_limit = SPAN_LIT("1GiB")});
    assert_string_equal(seen("GOGC"), "off");
    assert_string_equal(seen("GOMEMLIMIT"), "1GiB");
    the_vector_is_whole(go_vector());
    end();
}

static void what_the_user_set_in_godebug_stays_before_ours(void **state) {
    const char *const environment[] = {"GODEBUG=gctrace=1,madvdontneed=1", "GOGC=100", "GOGC=7",
                                       NULL};
    make(environment, usual);
    begin((struct go_environ){true, SPAN_LIT("20"), span_none(), 0});
    assert_string_equal(seen("GODEBUG"), "gctrace=1,madvdontneed=1,cgocheck=0");
    assert_string_equal(seen("GOGC"), "20");
    end();
    const char *const empty[] = {"GODEBUG=", NULL};
    make(empty, usual);
    begin((struct go_environ){.no_cgocheck = true});
    assert_string_equal(seen("GODEBUG"), "cgocheck=0");
    end();
}

static void without_room_nothing_changes(void **state) {
    static const uintptr_t bare[] = {AT_PAGESZ, 4096, AT_RANDOM, 0x6000, AT_NULL, 0};
    const char *const environment[] = {"GOGC=100", NULL};
    make(environment, bare);
    struct go_environ wish = {true, SPAN_LIT("50"), span_none(), 0};
    assert_int_equal(go_environ_begin(&wish), -ENOSPC);
    assert_memory_equal(&block, &before, sizeof(block));
    begin((struct go_environ){.gogc = SPAN_LIT("50")}); /* which has a place */
    assert_string_equal(seen("GOGC"), "50");
    end();
    begin((struct go_environ){0}); /* nothing asked for */
    end();
}

static void processors_are_a_wish_and_the_users_word_counts(void **state) {
    make((const char *const[]){"HOME=/", NULL}, usual);
    begin((struct go_environ){true, SPAN_LIT("50"), SPAN_LIT("64MiB"), 3}); /* two pairs of names */
    assert_string_equal(seen("GOMAXPROCS"), "3");
    assert_string_equal(seen("GODEBUG"), "cgocheck=0");
    assert_string_equal(seen("GOMEMLIMIT"), "64MiB");
    the_vector_is_whole(go_vector());
    the_vector_is_whole(old_vector());
    end();

    make((const char *const[]){"GOMAXPROCS=1", NULL}, usual);
    begin((struct go_environ){.max_procs = 3});
    assert_string_equal(seen("GOMAXPROCS"), "1");
    end();

    static const uintptr_t bare[] = {AT_PAGESZ, 4096, AT_RANDOM, 0x6000, AT_NULL, 0};
    make((const char *const[]){"GOGC=100", NULL}, bare);
    begin((struct go_environ){.gogc = SPAN_LIT("50"), .max_procs = 3}); /* no room for a name */
    assert_string_equal(seen("GOGC"), "50");
    assert_null(seen("GOMAXPROCS"));
    end();
}

/* As unsetenv does it. */
static void take_out(size_t index) {
    uintptr_t *at = block.words + 2 + index;
    do
        at[0] = at[1];
    while (*at++);
    before = block;
}

/* A supervisor's variable, and systemd's, are taken out at the start: what is started in turn is not to have them. */
static void places_that_unsetenv_left_are_no_end(void **state) {
    const struct go_environ wishes[] = {
        {.no_cgocheck = true},
        {true, SPAN_LIT("50"), SPAN_LIT("64MiB"), 0},
        {true, SPAN_LIT("50"), SPAN_LIT("64MiB"), 3},
    };
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++)
        for (unsigned left = 1; left <= 6; left++) {
            make((const char *const[]){"HOME=/", "A=1", "B=1", "C=1", "D=1", "E=1", "F=1", NULL},
                 usual);
            for (unsigned k = 0; k < left; k++)
                take_out(1);
            begin(wishes[i]);
            assert_string_equal(seen("HOME"), "/");
            assert_string_equal(seen("GODEBUG"), "cgocheck=0");
            if (i > 0)
                assert_string_equal(seen("GOMEMLIMIT"), "64MiB");
            if (i > 1)
                assert_string_equal(seen("GOMAXPROCS"), "3");
            assert_null(seen("A"));
            the_vector_is_whole(go_vector());
            end();
        }
}

static void nobody_is_left_in_the_environment(void **state) {
    make((const char *const[]){"A=1", NULL}, usual);
    take_out(0);
    begin((struct go_environ){.gogc = SPAN_LIT("50")});
    assert_string_equal(seen("GOGC"), "50");
    the_vector_is_whole(go_vector());
    end();
}

/* Last: it points the module at this process's own block. */
static void the_process_itself_sees_it_for_that_while(void **state) {
    extern char **environ;
    char **at = environ;
    go_environ_init(-1, at); /* argc + 1 words behind argv */
    assert_null(getenv("GOMEMLIMIT"));
    begin((struct go_environ){.memory_limit = SPAN_LIT("3GiB")});
    assert_string_equal(getenv("GOMEMLIMIT"), "3GiB");
    go_environ_end();
    assert_null(getenv("GOMEMLIMIT"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_names_appear_and_the_rest_stays),
        cmocka_unit_test(an_empty_environment_gets_them_too),
        cmocka_unit_test(what_the_user_set_in_godebug_stays_before_ours),
        cmocka_unit_test(without_room_nothing_changes),
        cmocka_unit_test(processors_are_a_wish_and_the_users_word_counts),
        cmocka_unit_test(places_that_unsetenv_left_are_no_end),
        cmocka_unit_test(nobody_is_left_in_the_environment),
        cmocka_unit_test(the_process_itself_sees_it_for_that_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
