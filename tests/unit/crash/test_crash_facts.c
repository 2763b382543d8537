/* crash_facts.c: what a dying process says is taken as far as it goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crash/crash_facts.h"

static struct crash_facts facts;

static bool reads(const char *text) {
    return crash_facts_read(span_of(text), &facts);
}

static void assert_span(struct span s, const char *text) {
    if (!span_eq(s, span_of(text)))
        fail_msg("'%.*s' is not '%s'", (int)s.len, s.ptr, text);
}

static void test_all_that_can_be_said(void **state) {
    assert_true(
        reads("sluice-crash 1\npid 17\ntime_ns 5\nuptime_ns 6\ngeneration 2\nstate draining\n"
              "config ff01 3 4 POST /config/reload\nbuilding 0 4 5 SIGHUP\n"
              "module 7f00 /proc/17/fd/9 /opt/a b.so\nsignal 11\ncode 1\naddress 8\n"
              "assertion x.c:1: assertion failed: a == b\nregister rip 10\n"
              "thread 18\nname sluice:m\nplace in coroutine\ncoroutine 42 downstream\n"
              "label route a route\ntold request GET /a\nframe 10\nframe 20\n"
              "thread 19\nplace in foreign code called by coroutine\nwaits \nframe 30\n"
              "end \n"));
    assert_int_equal(facts.pid, 17);
    assert_int_equal(facts.time_ns, 5);
    assert_int_equal(facts.uptime_ns, 6);
    assert_int_equal(facts.generation, 2);
    assert_span(facts.state, "draining");
    assert_true(facts.config.hash == 0xff01 && facts.config.version == 3 &&
                facts.config.since_ns == 4);
    assert_span(facts.config.origin, "POST /config/reload");
    assert_true(facts.building.hash == 0 && facts.building.version == 4 &&
                facts.building.since_ns == 5);
    assert_int_equal(facts.module_count, 1);
    assert_span(facts.modules[0].bytes, "/proc/17/fd/9");
    assert_span(facts.modules[0].file, "/opt/a b.so");
    assert_true(facts.has_address && facts.address == 8 && !facts.has_sender);
    assert_span(facts.assertion, "x.c:1: assertion failed: a == b");
    assert_int_equal(facts.register_count, 1);
    assert_int_equal(facts.thread_count, 2);
    const struct crash_thread *died = &facts.threads[0], *other = &facts.threads[1];
    assert_int_equal(died->tid, 18);
    assert_span(died->name, "sluice:m");
    assert_span(died->coroutine, "downstream");
    assert_int_equal(died->coroutine_id, 42);
    assert_int_equal(died->label_count, 1);
    assert_span(died->labels[0].key, "route");
    assert_span(died->labels[0].value, "a route");
    assert_int_equal(died->told_count, 1);
    assert_span(died->told[0].key, "request");
    assert_span(died->told[0].value, "GET /a");
    assert_int_equal(died->frame_count, 2);
    assert_int_equal(died->frames[1], 0x20);
    assert_false(died->waits);
    assert_true(other->waits && other->frames[0] == 0x30 && span_is_none(other->coroutine));
    assert_true(facts.is_whole);
}

static void test_who_sent_it(void **state) {
    assert_true(reads("sluice-crash 1\nsignal 6\ncode -6\nsender 5 1000\nthread 1\nend \n"));
    assert_int_equal(facts.code, -6);
    assert_true(facts.has_sender && facts.sender_pid == 5 && facts.sender_uid == 1000);
}

static void test_it_died_of_telling(void **state) {
    assert_true(reads("sluice-crash 1\nsignal 11\nthread 1\nframe 10\nfra"));
    assert_false(facts.is_whole);
    assert_int_equal(facts.threads[0].frame_count, 1);
}

static void test_what_is_no_fact_is_left_out(void **state) {
    assert_true(reads("sluice-crash 1\npid x\nsignal 99999999999999999999\ncode --1\naddress zz\n"
                      "register\nregister rip 12345678901234567\nmodule\nmodule q a b\nnonsense\n"
                      "\nconfig 1\nthread 1\nframe -1\nframe \nlabel\ncoroutine x y\nend \n"));
    assert_int_equal(facts.pid, 0);
    assert_int_equal(facts.signal, 0);
    assert_int_equal(facts.code, 0);
    assert_false(facts.has_address);
    assert_int_equal(facts.config.version, 0);
    assert_int_equal(facts.register_count, 0);
    assert_int_equal(facts.module_count, 0);
    assert_int_equal(facts.threads[0].frame_count, 0);
    assert_true(span_is_none(facts.threads[0].coroutine));
}

static void test_these_are_no_facts(void **state) {
    assert_false(reads(""));
    assert_false(reads("sluice-crash 2\nthread 1\nend \n"));
    assert_false(reads("sluice-crash 1\nsignal 11\nend \n")); /* nobody died */
}

static void test_there_is_a_bound_to_everything(void **state) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    fputs("sluice-crash 1\n", out);
    for (unsigned i = 0; i < 1000; i++)
        fprintf(out, "module %x a b\nregister r%u %x\n", i, i, i);
    for (unsigned thread = 0; thread < 100; thread++) {
        fprintf(out, "thread %u\n", thread);
        for (unsigned i = 0; i < 300; i++)
            fprintf(out, "frame %x\nlabel a b\ntold c d\n", i);
    }
    fputs("end \n", out);
    assert_int_equal(fclose(out), 0);
    assert_true(reads(text));
    assert_int_equal(facts.module_count, CRASH_MODULES_MAX);
    assert_int_equal(facts.register_count, CRASH_REGISTERS_MAX);
    assert_int_equal(facts.thread_count, CRASH_THREADS_MAX);
    assert_int_equal(facts.threads[3].frame_count, CRASH_FRAMES_MAX);
    assert_int_equal(facts.threads[3].label_count, CRASH_THREAD_LABELS_MAX);
    assert_int_equal(facts.threads[3].told_count, CRASH_THREAD_TOLD_MAX);
    assert_false(facts.is_whole);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_that_can_be_said),
        cmocka_unit_test(test_who_sent_it),
        cmocka_unit_test(test_it_died_of_telling),
        cmocka_unit_test(test_what_is_no_fact_is_left_out),
        cmocka_unit_test(test_these_are_no_facts),
        cmocka_unit_test(test_there_is_a_bound_to_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
