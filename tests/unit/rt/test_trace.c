/* trace.c: what it records, and that nobody has to stand still for it. The file as viewers read it is
 * tested through the admin endpoint, in tests/e2e/test_trace.py. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

#include "rt/foreign.h"
#include "rt/trace.h"
#include "rt_story.h"

/* ---- The file in memory ---- */

static char *file;
static size_t file_len, file_size;

static int to_file(void *arg, const char *text, size_t len) {
    while (file_size - file_len <= len) {
        file_size = file_size ? 2 * file_size : 1 << 16;
        file = realloc(file, file_size);
        CHECK(file);
    }
    memcpy(file + file_len, text, len);
    file_len += len;
    file[file_len] = '\0';
    return 0;
}

static void write_in_thread(void *arg) {
    CHECK(trace_write(to_file, NULL) == 0);
}

static void stop_and_write(void) {
    CHECK(trace_stop() == 0);
    file_len = 0;
    CHECK(blocking_call(write_in_thread, NULL) == 0);
}

static unsigned count_of(const char *words) {
    unsigned count = 0;
    for (const char *at = file; (at = strstr(at, words)); at++)
        count++;
    return count;
}

/* ---- What is recorded ---- */

static struct g *waiter;
static _Atomic unsigned ended;
static sem_t gate;

static void waits(void *arg) {
    waiter = rt_self();
    CHECK(rt_park("until the test says so", RT_FOREVER) == 0);
    atomic_fetch_add(&ended, 1);
}

static void nothing(void *arg) {}

static void *readies_from_outside(void *arg) {
    rt_ready(waiter);
    return NULL;
}

static void waits_at_gate(void *arg) {
    while (sem_wait(&gate) < 0) {
    }
}

/* Opens the gate once the P was taken from under the call. */
static void *opens_gate(void *arg) {
    struct rt_p_stats stats;
    for (int64_t until = story_soon();;) {
        rt_p_stats(0, &stats);
        if (stats.retakes > 0)
            break;
        CHECK(clock_mono_ns() < until);
        sched_yield();
    }
    sem_post(&gate);
    return NULL;
}

static void run_thread(void *(*fn)(void *)) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fn, NULL) == 0);
    pthread_join(thread, NULL);
}

static void recording_story(void *arg) {
    CHECK(trace_start(0) == 0);
    CHECK(trace_start(0) == -EBUSY);
    CHECK(go_here("waits", waits, NULL) == 0);
    rt_yield();
    rt_ready(waiter);
    STORY_AWAIT(atomic_load(&ended) == 1);
    CHECK(go_here("waits again", waits, NULL) == 0);
    rt_yield();
    run_thread(readies_from_outside);
    STORY_AWAIT(atomic_load(&ended) == 2);
    foreign_call(nothing, NULL);
    foreign_call_quick("the quick site", nothing, NULL);
    sem_init(&gate, 0, 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, opens_gate, NULL) == 0);
    foreign_call(waits_at_gate, NULL);
    pthread_join(thread, NULL);
    stop_and_write();

    CHECK(count_of("\"name\":\"waits\"") >= 2);
    CHECK(count_of("\"name\":\"waits again\"") >= 2);
    CHECK(count_of("\"ended by\":\"until the test says so\"") == 2);
    CHECK(count_of("\"ended by\":\"end\"") >= 2);
    CHECK(count_of("\"ended by\":\"yield\"") >= 1);
    CHECK(count_of("\"ended by\":\"retaken in a foreign call\"") == 1);
    CHECK(count_of("\"ph\":\"B\"") == 2);
    CHECK(count_of("\"ph\":\"E\"") == 2);
    CHECK(count_of("\"name\":\"the quick site\"") == 1);
    CHECK(count_of("\"name\":\"retake\"") == 1);
    CHECK(count_of("\"name\":\"hand-over\"") == 1);
    CHECK(count_of("\"name\":\"asleep\"") >= 1);
    CHECK(count_of("\"name\":\"timers\"") >= 1);
    CHECK(count_of("\"pid\":3,\"tid\":0") > 1); /* the thread that woke the second one */
    CHECK(count_of("\"ph\":\"s\"") >= 4);
    CHECK(count_of("\"ph\":\"f\"") >= 4);
    CHECK(count_of("\"events missed\":0}") == 1);
    rt_stop(0);
}

static void a_trace_has_what_happened(void **state) {
    story(1, recording_story);
}

/* ---- States ---- */

static int refuses(void *arg, const char *text, size_t len) {
    return -EPIPE;
}

static void states_story(void *arg) {
    CHECK(trace_stop() == -EINVAL);
    CHECK(trace_write(to_file, NULL) == -EINVAL);
    CHECK(trace_start(TRACE_EVENTS_MAX + 1) == -EINVAL);
    CHECK(trace_start(10) == 0);
    CHECK(trace_write(to_file, NULL) == -EINVAL);
    for (int i = 0; i < 100; i++)
        rt_yield();
    stop_and_write();
    CHECK(count_of("\"ended by\":\"yield\"") == 4); /* 10 events: the rest is only counted */
    CHECK(count_of("\"events missed\":0}") == 0);
    CHECK(trace_write(to_file, NULL) == -EINVAL); /* once */

    CHECK(trace_start(0) == 0);
    rt_yield();
    CHECK(trace_stop() == 0);
    CHECK(trace_start(0) == 0); /* drops the one before */
    stop_and_write();
    CHECK(count_of("\"ended by\":\"yield\"") == 0);

    CHECK(trace_start(0) == 0);
    CHECK(trace_stop() == 0);
    CHECK(trace_write(refuses, NULL) == -EPIPE);
    CHECK(trace_start(0) == 0);
    rt_stop(0);
}

static void a_trace_is_started_stopped_and_written(void **state) {
    story(1, states_story);
}

/* ---- While everything runs ---- */

enum { BUSY = 8 };
static _Atomic bool busy_stop;
static _Atomic unsigned busy_left;

static void is_busy(void *arg) {
    for (unsigned i = 0; !atomic_load(&busy_stop); i++) {
        if (i % 4 == 0)
            foreign_call(nothing, NULL);
        if (i % 5 == 0)
            CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
        if (i % 7 == 0)
            CHECK(go("short", nothing, NULL) == 0);
        rt_yield();
    }
    atomic_fetch_add(&busy_left, 1);
}

/* From a thread outside, as often as it can. */
static void *traces_often(void *arg) {
    for (int i = 0; i < 20; i++) {
        CHECK(trace_start(1000) == 0);
        uint64_t before;
        struct rt_p_stats stats;
        rt_p_stats(0, &stats);
        before = stats.switches;
        for (int64_t until = story_soon(); stats.switches < before + 100;) {
            CHECK(clock_mono_ns() < until);
            sched_yield();
            rt_p_stats(0, &stats);
        }
        CHECK(trace_stop() == 0);
        file_len = 0;
        CHECK(trace_write(to_file, NULL) == 0);
        CHECK(count_of("\"cat\":\"run\"") > 0);
        CHECK(file[file_len - 2] == '}');
    }
    atomic_store(&busy_stop, true);
    return NULL;
}

static void busy_story(void *arg) {
    for (unsigned i = 0; i < BUSY; i++) {
        CHECK(go("busy", is_busy, NULL) == 0);
        CHECK(go_on(i % 2, "busy", is_busy, NULL) == 0);
    }
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, traces_often, NULL) == 0);
    STORY_AWAIT(atomic_load(&busy_left) == 2 * BUSY);
    pthread_join(thread, NULL);
    rt_stop(0);
}

static void tracing_disturbs_nobody(void **state) {
    story(2, busy_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trace_has_what_happened),
        cmocka_unit_test(a_trace_is_started_stopped_and_written),
        cmocka_unit_test(tracing_disturbs_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
