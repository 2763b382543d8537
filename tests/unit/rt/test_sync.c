/* sync.c: queues of waiters. */
#include <errno.h>
#include <string.h>

#include "rt_story.h"

static struct wait_queue queue;
static char woken_order[16];
static int timed_out, cancelled;
static struct g *to_cancel;

static void waits(void *arg) {
    CHECK(wait_queue_wait(&queue, "in test queue", story_soon()) == 0);
    woken_order[strlen(woken_order)] = *(const char *)arg;
}

static void waits_briefly(void *arg) {
    int err = wait_queue_wait(&queue, "briefly", clock_mono_ns() + NS_PER_MS);
    CHECK(err == -ETIMEDOUT);
    timed_out++;
}

static void waits_for_cancel(void *arg) {
    to_cancel = rt_self();
    CHECK(wait_queue_wait(&queue, "to be cancelled", RT_FOREVER) == -ECANCELED);
    cancelled++;
}

static void queue_story(void *arg) {
    wait_queue_init(&queue);
    CHECK(!wait_queue_wake_one(&queue));
    CHECK(go_here("brief", waits_briefly, NULL) == 0);
    CHECK(go_here("a", waits, (char[]){"a"}) == 0);
    CHECK(go_here("cancelled", waits_for_cancel, NULL) == 0);
    CHECK(go_here("b", waits, (char[]){"b"}) == 0);
    CHECK(go_here("c", waits, (char[]){"c"}) == 0);
    STORY_AWAIT(timed_out == 1 && to_cancel);
    rt_ready(to_cancel); /* a stray token wakes nobody for good */
    rt_yield();
    rt_cancel(to_cancel);
    STORY_AWAIT(cancelled == 1);
    CHECK(wait_queue_wake_one(&queue));
    STORY_AWAIT(strlen(woken_order) == 1);
    wait_queue_wake_all(&queue);
    STORY_AWAIT(strlen(woken_order) == 3);
    CHECK(woken_order[0] == 'a');
    CHECK(!wait_queue_wake_one(&queue));
    rt_stop(0);
}

static void waiters_are_woken_in_order_and_leave_no_trace(void **state) {
    story(1, queue_story);
}

static struct comutex mutex;
static int inside, passes;

static void passes_through(void *arg) {
    for (int i = 0; i < 100; i++) {
        CHECK(comutex_lock(&mutex, story_soon()) == 0);
        CHECK(inside++ == 0);
        rt_yield();
        CHECK(--inside == 0);
        comutex_unlock(&mutex);
        passes++;
    }
}

static void mutex_story(void *arg) {
    comutex_init(&mutex);
    CHECK(comutex_lock(&mutex, RT_FOREVER) == 0);
    CHECK(comutex_lock(&mutex, clock_mono_ns() + NS_PER_MS) == -ETIMEDOUT);
    comutex_unlock(&mutex);
    for (int i = 0; i < 10; i++)
        CHECK(go_here("passes", passes_through, NULL) == 0);
    STORY_AWAIT(passes == 1000);
    CHECK(!mutex.held);
    rt_stop(0);
}

static void one_at_a_time_holds_a_mutex(void **state) {
    story(1, mutex_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiters_are_woken_in_order_and_leave_no_trace),
        cmocka_unit_test(one_at_a_time_holds_a_mutex),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
