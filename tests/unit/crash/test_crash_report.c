/* crash_report.c: the first line names who it was, whatever stands between that and the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin/crash_dir.h"
#include "crash/crash_report.h"

/* ---- A process ---- */

static const struct place {
    uintptr_t from;
    struct symbol symbol;
    struct symbols_module module;
} places[] = {
    {0x1000, {"__pthread_kill", 0, "nptl/kill.c", 1}, {"/lib/libc.so.6", 0x1000, "aa"}},
    {0x2000, {"assert_failed", 0, "src/base/check.c", 7}, {"/opt/sluice", 0x2000, "bb"}},
    {0x2100, {"exchange_run", 0, "src/proxy/exchange.c", 42}, {"/opt/sluice", 0x2000, "bb"}},
    {0x3000, {"runtime.raise", 0, "runtime/sys.s", 3}, {"/opt/my filter.so", 0x3000, ""}},
    {0x3100, {"main.(*f).DecodeHeaders", 0, "f.go", 9}, {"/opt/my filter.so", 0x3000, ""}},
};
enum { PLACES = sizeof places / sizeof *places };

static const struct place *place_at(uintptr_t pc) {
    for (size_t i = PLACES; i-- > 0;)
        if (pc >= places[i].from && pc < places[i].from + 0x100)
            return &places[i];
    return NULL;
}

static unsigned find(uintptr_t pc, struct symbol *out, unsigned max) {
    const struct place *place = place_at(pc);
    if (place)
        *out = place->symbol;
    return place != NULL;
}

static bool module_of(uintptr_t pc, struct symbols_module *out) {
    const struct place *place = place_at(pc);
    if (place)
        *out = place->module;
    return place != NULL;
}

static void each_module(void (*fn)(const struct symbols_module *module, void *arg), void *arg) {
    fn(&places[0].module, arg);
    fn(&places[3].module, arg);
}

static const struct crash_names names = {find, module_of, each_module};

/* ---- Its report ---- */

static struct text report;

static int forget(void **state) {
    text_fini(&report);
    report = (struct text){0};
    return 0;
}

static void write_of(const char *text) {
    static struct crash_facts facts;
    assert_true(crash_facts_read(span_of(text), &facts));
    crash_report_write(&facts, &names, &report);
    assert_false(report.failed);
}

static void assert_begins(const char *line) {
    if (!span_starts_with(text_span(&report), span_of(line)))
        fail_msg("not '%s':\n%.*s", line, (int)report.len, report.data);
}

static void assert_has(const char *words) {
    if (!memmem(report.data, report.len, words, strlen(words)))
        fail_msg("'%s' is not in:\n%.*s", words, (int)report.len, report.data);
}

/* ---- Stories ---- */

static void test_an_assertion_is_where_it_stands(void **state) {
    write_of("sluice-crash 1\nsignal 6\ncode -6\nassertion exchange.c:42: assertion failed: x\n"
             "thread 1\nplace in coroutine\nframe 1010\nframe 2011\nframe 2111\nend \n");
    assert_begins("SIGABRT in exchange_run at src/proxy/exchange.c:42 (sluice)\n");
    assert_has("\nassertion      exchange.c:42: assertion failed: x\n");
    assert_has("  #0   0x000000001010 __pthread_kill at nptl/kill.c:1 (/lib/libc.so.6+0x10)\n");
}

static void test_gos_runtime_is_not_who_it_was(void **state) {
    write_of(
        "sluice-crash 1\nsignal 6\ncode -6\nthread 1\nplace in foreign code called by coroutine\n"
        "coroutine 7 downstream\nlabel listener edge\nlabel route api\nlabel filter golang\n"
        "frame 3001\nframe 3101\nend \n");
    assert_begins("SIGABRT in main.(*f).DecodeHeaders at f.go:9 (my filter.so), filter golang, "
                  "route api, listener edge\n");
    assert_has("\nthread 1, in foreign code called by coroutine downstream (number 7)\n");
}

static void test_nobody_knows_where(void **state) {
    write_of("sluice-crash 1\nsignal 11\ncode 128\naddress 0\nthread 1\nplace somewhere\nframe 0\n"
             "frame 99999\n");
    assert_begins("SIGSEGV\n");
    assert_has("no address, or an instruction that is not allowed\n");
    assert_has("(nothing known is there)\n");
    assert_has("the facts end here");
}

static void test_calls_of_other_threads(void **state) {
    write_of(
        "sluice-crash 1\nsignal 6\ncode -6\nthread 1\nplace on a thread outside the runtime\n"
        "frame 3001\nthread 2\nplace in foreign code called by coroutine\nwaits \n"
        "label filter golang\nframe 2111\nthread 3\nplace in the scheduler\nframe 1011\nend \n");
    assert_has("\ncalls of foreign code on other threads\n  thread 2, filter golang\n\n");
}

static void test_it_has_a_bound(void **state) {
    static char text[CRASH_FACTS_BYTES_MAX];
    FILE *out = fmemopen(text, sizeof text, "w");
    fputs("sluice-crash 1\nsignal 6\nthread 1\nplace here\nlabel filter ", out);
    for (unsigned i = 0; i < CRASH_REPORT_BYTES_MAX; i++)
        fputc('x', out);
    fputs("\nend \n", out);
    assert_int_equal(fclose(out), 0);
    write_of(text);
    assert_true(report.len <= CRASH_REPORT_BYTES_MAX);
    assert_has("\n... the rest is cut\n");
}

#define STORY(name) cmocka_unit_test_teardown(name, forget)

int main(void) {
    const struct CMUnitTest tests[] = {
        STORY(test_an_assertion_is_where_it_stands),
        STORY(test_gos_runtime_is_not_who_it_was),
        STORY(test_nobody_knows_where),
        STORY(test_calls_of_other_threads),
        STORY(test_it_has_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
