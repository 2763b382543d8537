/* The sandbox of a host process, as users write it. */
#include "config_test.h"

#include "config/load.h"
#include "config/sandbox_config.h"

static struct cfg_arena arena;

/* What it says, and what is said about it. The text is freed with the arena. */
static const struct cfg_sandbox *read_sandbox(const char *yaml, char **said) {
    struct cfg_problems problems = {0};
    struct cfg_loader loader = {.arena = &arena, .scratch = &arena, .problems = &problems};
    struct cfg_parse_error error;
    cfg_arena_init(&arena, NULL);
    struct cfg_sandbox *sandbox = cfg_alloc(&arena, sizeof(*sandbox));
    struct cfg_tree *tree = cfg_yaml_parse(&arena, SPAN_LIT("t.yaml"), span_of(yaml), &error);
    assert_non_null(tree);
    cfg_decode_message(&loader, &cfg_schema_sandbox, tree, NULL, false, sandbox);
    size_t len;
    FILE *out = open_memstream(said, &len);
    cfg_problems_print(&problems, out);
    assert_int_equal(fclose(out), 0);
    cfg_problems_fini(&problems);
    return sandbox;
}

static void nothing_said_is_the_strict_profile(void **state) {
    char *said;
    const struct cfg_sandbox *sandbox = read_sandbox("{}", &said);
    assert_string_equal(said, "");
    assert_int_equal(sandbox->seccomp, CFG_SECCOMP_DENY);
    assert_int_equal(sandbox->landlock, CFG_LANDLOCK_WHERE_NEEDED);
    assert_false(sandbox->allow_exec);
    assert_false(sandbox->restrict_files);
    assert_false(sandbox->uid.set);
    free(said);
    cfg_arena_fini(&arena);
}

static void all_of_it_is_read(void **state) {
    char *said;
    const struct cfg_sandbox *sandbox = read_sandbox(
        "{seccomp: AUDIT, allow_syscalls: [keyctl, kcmp], allow_exec: true, memory_limit_bytes: "
        "\"8589934592\", max_open_files: 1000, max_threads: 200, uid: 4000, gid: 4001, landlock: "
        "IF_AVAILABLE, restrict_files: true, read_paths: [/etc/a], write_paths: [/var/a, /b]}",
        &said);
    assert_string_equal(said, "");
    assert_int_equal(sandbox->seccomp, CFG_SECCOMP_AUDIT);
    assert_int_equal(sandbox->allow_syscalls_count, 2);
    assert_true(span_eq(sandbox->allow_syscalls[1], SPAN_LIT("kcmp")));
    assert_true(sandbox->allow_exec);
    assert_int_equal(sandbox->memory_limit_bytes.value, 8ull << 30);
    assert_int_equal(sandbox->max_open_files.value, 1000);
    assert_int_equal(sandbox->max_threads.value, 200);
    assert_int_equal(sandbox->uid.value, 4000);
    assert_int_equal(sandbox->gid.value, 4001);
    assert_int_equal(sandbox->landlock, CFG_LANDLOCK_IF_AVAILABLE);
    assert_true(sandbox->restrict_files);
    assert_int_equal(sandbox->read_paths_count, 1);
    assert_int_equal(sandbox->write_paths_count, 2);
    assert_true(span_eq(sandbox->write_paths[1], SPAN_LIT("/b")));
    free(said);
    cfg_arena_fini(&arena);
}

static void what_makes_no_sense_is_refused(void **state) {
    static const struct {
        const char *yaml, *because;
    } cases[] = {
        {"{read_paths: [/a]}", "read_paths and write_paths need restrict_files: true"},
        {"{write_paths: [/a]}", "read_paths and write_paths need restrict_files: true"},
        {"{restrict_files: true, read_paths: [a/b]}", "read_paths 'a/b': must begin with /"},
        {"{restrict_files: true, write_paths: [\"\"]}", "write_paths '': must begin with /"},
        {"{restrict_files: true, landlock: NONE}", "landlock must not be NONE"},
        {"{uid: 4000}", "uid and gid must be set together"},
        {"{gid: 4000}", "uid and gid must be set together"},
        {"{uid: 0, gid: 4000}", "uid: "},
        {"{max_threads: 100}", "max_threads needs a uid"},
        {"{memory_limit_bytes: 1024}", "memory_limit_bytes: "},
        {"{seccomp: ALLOW}", "seccomp: "},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *said;
        (void)read_sandbox(cases[i].yaml, &said);
        if (!strstr(said, cases[i].because))
            fail_msg("%s: '%s'", cases[i].yaml, said);
        free(said);
        cfg_arena_fini(&arena);
    }
}

static void a_list_ends_somewhere(void **state) {
    char *text, *said;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    fputs("{allow_syscalls: [", out);
    for (int i = 0; i < 257; i++)
        fprintf(out, "%sx", i ? ", " : "");
    fputs("]}", out);
    assert_int_equal(fclose(out), 0);
    (void)read_sandbox(text, &said);
    assert_non_null(strstr(said, "allow_syscalls: must be 256 at most"));
    free(said);
    free(text);
    cfg_arena_fini(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_said_is_the_strict_profile),
        cmocka_unit_test(all_of_it_is_read),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(a_list_ends_somewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
