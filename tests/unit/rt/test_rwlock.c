/* rwlock.c: who shares, who waits, and that neither side waits for ever. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "rt/rwlock.h"
#include "order_story.h"

static struct rwlock rw;
static void reads(void *arg) {
    CHECK(rwlock_read_lock(&rw, story_soon()) == 0);
    note(arg);
    rt_yield(); /* the other readers come in */
    rwlock_read_unlock(&rw);
}

static void writes(void *arg) {
    CHECK(rwlock_write_lock(&rw, story_soon()) == 0);
    note(arg);
    rt_yield();
    rwlock_write_unlock(&rw);
}

static bool is_unused(void) {
    return atomic_load(&rw.state) == 0 && waiters_is_empty(&rw.readers) &&
           waiters_is_empty(&rw.writers);
}

/* ---- Turns ---- */

static void turns_story(void *arg) {
    CHECK(rwlock_read_lock(&rw, RT_FOREVER) == 0);
    CHECK(go_here("reader", reads, (char[]){"1"}) == 0);
    rt_yield();
    CHECK(strcmp(order, "1") == 0); /* readers share */
    CHECK(go_here("writer", writes, (char[]){"W"}) == 0);
    rt_yield();
    CHECK(go_here("late reader", reads, (char[]){"2"}) == 0);
    CHECK(go_here("writer", writes, (char[]){"X"}) == 0);
    CHECK(go_here("late reader", reads, (char[]){"3"}) == 0);
    rt_yield();
    CHECK(strcmp(order, "1") == 0); /* a writer waits: it is its turn after those who read now */
    rwlock_read_unlock(&rw);
    STORY_AWAIT(strlen(order) == 5);
    /* The readers came while W waited and wrote: they go before the next writer. */
    CHECK(strcmp(order, "1W23X") == 0 || strcmp(order, "1W32X") == 0);
    STORY_AWAIT(is_unused());
    rt_stop(0);
}

static void readers_and_writers_take_turns(void **state) {
    story(1, turns_story);
}

/* ---- Giving up ---- */

static void wants_to_write(void *arg) {
    CHECK(rwlock_write_lock(&rw, clock_mono_ns() + NS_PER_MS) == -ETIMEDOUT);
    note("t");
}

static struct g *victim;

static void is_cancelled(void *arg) {
    victim = rt_self();
    CHECK(rwlock_write_lock(&rw, RT_FOREVER) == -ECANCELED);
    note("c");
}

static void giving_up_story(void *arg) {
    CHECK(rwlock_write_lock(&rw, RT_FOREVER) == 0);
    CHECK(rwlock_read_lock(&rw, clock_mono_ns() + NS_PER_MS) == -ETIMEDOUT);
    CHECK(rwlock_write_lock(&rw, clock_mono_ns() + NS_PER_MS) == -ETIMEDOUT);
    rwlock_write_unlock(&rw);
    CHECK(is_unused());

    /* Two writers hold a reader back. When the last of them has lost patience the reader goes, although
     * nobody has unlocked anything. */
    CHECK(rwlock_read_lock(&rw, RT_FOREVER) == 0);
    CHECK(go_here("writer", is_cancelled, NULL) == 0);
    CHECK(go_here("writer", wants_to_write, NULL) == 0);
    CHECK(go_here("reader", reads, (char[]){"r"}) == 0);
    rt_yield();
    CHECK(order[0] == '\0');
    STORY_AWAIT(strcmp(order, "t") == 0);
    for (int i = 0; i < 10; i++)
        rt_yield();
    CHECK(strcmp(order, "t") == 0);
    rt_cancel(victim);
    STORY_AWAIT(strcmp(order, "tcr") == 0);
    rwlock_read_unlock(&rw);
    STORY_AWAIT(is_unused());
    rt_stop(0);
}

static void a_writer_that_gives_up_lets_readers_in(void **state) {
    story(1, giving_up_story);
}

/* ---- All at once ---- */

enum { PEOPLE = 12, TURNS = 300 };
static _Atomic int reading, writing;
static _Atomic long reads_done, writes_done, given_up;
static long guarded[2]; /* plain: TSan watches it too */

static void comes_and_goes(void *arg) {
    unsigned seed = (unsigned)(uintptr_t)arg;
    for (int i = 0; i < TURNS; i++) {
        seed = seed * 1664525U + 1013904223U;
        bool write = (seed >> 16) % 4 == 0;
        int64_t deadline_ns =
            (seed >> 20) % 2 ? story_soon() : clock_mono_ns() + (seed >> 24) % 50 * NS_PER_US;
        int err = write ? rwlock_write_lock(&rw, deadline_ns) : rwlock_read_lock(&rw, deadline_ns);
        if (err < 0) {
            CHECK(err == -ETIMEDOUT);
            atomic_fetch_add(&given_up, 1);
            continue;
        }
        if (write) {
            CHECK(atomic_fetch_add(&writing, 1) == 0);
            CHECK(atomic_load(&reading) == 0);
            guarded[0]++;
            if (seed >> 31)
                rt_yield();
            guarded[1]++;
            atomic_fetch_sub(&writing, 1);
            atomic_fetch_add(&writes_done, 1);
            rwlock_write_unlock(&rw);
        } else {
            atomic_fetch_add(&reading, 1);
            CHECK(atomic_load(&writing) == 0);
            CHECK(guarded[0] == guarded[1]);
            if (seed >> 31)
                rt_yield();
            atomic_fetch_sub(&reading, 1);
            atomic_fetch_add(&reads_done, 1);
            rwlock_read_unlock(&rw);
        }
    }
    waitgroup_done(&group);
}

static void crowd_story(void *arg) {
    waitgroup_add(&group, PEOPLE);
    for (unsigned i = 0; i < PEOPLE; i++) {
        void *seed = (void *)(uintptr_t)(i + 1);
        CHECK((i % 2 ? go("person", comes_and_goes, seed)
                     : go_on(i / 2 % 2, "person", comes_and_goes, seed)) == 0);
    }
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    CHECK(is_unused());
    CHECK(guarded[0] == atomic_load(&writes_done));
    CHECK(atomic_load(&reads_done) + atomic_load(&writes_done) + atomic_load(&given_up) ==
          PEOPLE * TURNS);
    rt_stop(0);
}

static void a_crowd_never_sees_half_a_write(void **state) {
    story(2, crowd_story);
}

/* Readers that overlap without end on both Ps: there is always one inside when the next comes. */
static _Atomic bool written;
static _Atomic int overlapping;

static void keeps_reading(void *arg) {
    while (!atomic_load(&written)) {
        CHECK(rwlock_read_lock(&rw, story_soon()) == 0);
        atomic_fetch_add(&overlapping, 1);
        for (int i = 0; i < 3; i++)
            rt_yield();
        rwlock_read_unlock(&rw);
    }
    waitgroup_done(&group);
}

static void *unlocks_from_a_thread(void *arg) {
    rwlock_write_unlock(&rw);
    return NULL;
}

static void writer_gets_in_story(void *arg) {
    waitgroup_add(&group, PEOPLE);
    for (unsigned i = 0; i < PEOPLE; i++)
        CHECK(go_on(i % 2, "reader", keeps_reading, NULL) == 0);
    STORY_AWAIT(atomic_load(&overlapping) > PEOPLE);
    CHECK(rwlock_write_lock(&rw, story_soon()) == 0);
    atomic_store(&written, true);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, unlocks_from_a_thread, NULL) == 0);
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    pthread_join(thread, NULL);
    CHECK(is_unused());
    rt_stop(0);
}

static void readers_without_end_let_a_writer_in(void **state) {
    story(2, writer_gets_in_story);
}

/* ---- The object may go ---- */

struct object {
    struct rwlock rw;
    _Atomic int users;
};

static void uses(void *arg) {
    struct object *object = arg;
    CHECK(rwlock_read_lock(&object->rw, story_soon()) == 0);
    bool is_last = atomic_fetch_sub(&object->users, 1) == 1;
    rwlock_read_unlock(&object->rw);
    if (is_last) { /* of the readers; the others may still be about to leave */
        CHECK(rwlock_write_lock(&object->rw, story_soon()) == 0);
        rwlock_write_unlock(&object->rw);
        free(object);
    }
    waitgroup_done(&group);
}

static void freed_story(void *arg) {
    for (int i = 0; i < 300; i++) {
        struct object *object = calloc(1, sizeof *object);
        CHECK(object);
        atomic_store(&object->users, 4);
        waitgroup_add(&group, 4);
        CHECK(rwlock_write_lock(&object->rw, RT_FOREVER) == 0);
        for (unsigned j = 0; j < 4; j++)
            CHECK(go_on(j % 2, "user", uses, object) == 0);
        rt_yield();
        rwlock_write_unlock(&object->rw);
        CHECK(waitgroup_wait(&group, story_soon()) == 0);
    }
    rt_stop(0);
}

static void the_last_to_unlock_may_free(void **state) {
    story(2, freed_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_and_writers_take_turns),
        cmocka_unit_test(a_writer_that_gives_up_lets_readers_in),
        cmocka_unit_test(a_crowd_never_sees_half_a_write),
        cmocka_unit_test(readers_without_end_let_a_writer_in),
        cmocka_unit_test(the_last_to_unlock_may_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
