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

static void test_which_request_it_was(void **state) {
    write_of("sluice-crash 1\ntime_ns 1763831235500000000\nsignal 11\nthread 1\n"
             "place in coroutine\ntold connection 17\ntold request GET /a\n"
             "told request_id id-1\ntold began_ns 1763831235000000000\nframe 2111\n"
             "thread 2\nplace in foreign code called by coroutine\nwaits \n"
             "coroutine 7 downstream\nlabel route api\n"
             "told request PUT /b\ntold request_id id-2\nframe 2111\nend \n");
    assert_has("\nrequest        GET /a\n  id           id-1\n"
               "  began        2025-11-22T17:07:15.000Z, 0.500 s before\nconnection     17\n");
    assert_has("\n  thread 2, in foreign code called by coroutine downstream, route api, request "
               "id-2\n");
    assert_has("\n  route: api\n  request: PUT /b\n  request_id: id-2\n");
}

static void test_which_configuration_it_had(void **state) {
    write_of("sluice-crash 1\npid 9\ntime_ns 1763831235500000000\ngeneration 2\nstate serving\n"
             "config 1f 3 1763831235000000000 discovery\n"
             "building 0 4 1763831235250000000 SIGHUP\nsignal 11\nthread 1\nplace here\n"
             "frame 2111\nend \n");
    assert_begins("SIGSEGV in exchange_run at src/proxy/exchange.c:42 (sluice), while "
                  "configuration version 4 was being built\n");
    assert_has("\nprocess        9, serving, number 2 of its supervisor\n");
    assert_has("\nconfiguration  version 3, hash 000000000000001f, by discovery\n"
               "  since        2025-11-22T17:07:15.000Z, 0.500 s before\n"
               "  being built  version 4, by SIGHUP, since 2025-11-22T17:07:15.250Z, 0.250 s "
               "before\n");
}

static void test_it_had_not_served_yet(void **state) {
    write_of("sluice-crash 1\npid 9\ntime_ns 6\nstate starting\nbuilding 0 1 5 start\nsignal 6\n"
             "thread 1\nplace here\nframe 2111\nend \n");
    assert_begins("SIGABRT in exchange_run at src/proxy/exchange.c:42 (sluice), while starting\n");
    assert_has("\nprocess        9, starting\n");
    assert_has("\nconfiguration  none yet\n  being built  version 1, by start, since ");
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
    write_of("sluice-crash 1\nsignal 6\ncode -6\nthread 1\nplace on a thread outside the runtime\n"
             "frame 3001\nthread 2\nplace in foreign code called by coroutine\nwaits \n"
             "coroutine 7 downstream\nlabel filter golang\nframe 2111\n"
             "thread 3\nplace in the scheduler\nframe 1011\n"
             "thread 4\nplace in coroutine\ncoroutine 8 dns\nframe 2111\nend \n");
    assert_has("\nwhat other threads worked on\n"
               "  thread 2, in foreign code called by coroutine downstream, filter golang\n"
               "  thread 4, in coroutine dns\n\n");
}

static void test_where_a_signal_came_upon_it_is_not_who_it_was(void **state) {
    write_of("sluice-crash 1\npid 9\nsignal 6\ncode 0\nsender 5 1000\nthread 1\nplace here\n"
             "frame 2111\nend \n");
    assert_begins("SIGABRT, sent by process 5 of user 1000\n");
    assert_has("\nsignal         SIGABRT, code 0, sent by process 5 of user 1000\n");
}

static void test_its_supervisor_sent_it(void **state) {
    write_of("sluice-crash 1\npid 9\ngeneration 1\nsupervisor 5\nstate serving\nsignal 6\ncode 0\n"
             "sender 5 1000\nthread 1\nplace here\nframe 2111\nend \n");
    assert_begins("SIGABRT, sent by its supervisor, process 5, as it hung\n");
}

static void test_threads_that_idle_alike_are_told_once(void **state) {
    write_of("sluice-crash 1\nsignal 11\nthread 1\nplace here\nframe 2111\n"
             "thread 2\nplace in the scheduler\nframe 1011\nframe 2111\n"
             "thread 3\nplace in the scheduler\nframe 1011\nframe 2111\n"
             "thread 4\nplace in the scheduler\nframe 1011\nframe 2112\nend \n");
    assert_has("\nthread 3, in the scheduler\n  as thread 2\n\nthread 4, in the scheduler\n  #0 ");
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
        STORY(test_which_request_it_was),
        STORY(test_which_configuration_it_had),
        STORY(test_it_had_not_served_yet),
        STORY(test_nobody_knows_where),
        STORY(test_calls_of_other_threads),
        STORY(test_where_a_signal_came_upon_it_is_not_who_it_was),
        STORY(test_its_supervisor_sent_it),
        STORY(test_threads_that_idle_alike_are_told_once),
        STORY(test_it_has_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
