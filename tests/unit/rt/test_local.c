/* local.c, labels.c: values of a coroutine, what becomes of them, and who else may look. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "rt/labels.h"
#include "rt/local.h"
#include "rt/panic.h"
#include "rt/waitgroup.h"
#include "rt_story.h"

static struct waitgroup group;

/* ---- Keys ---- */

static char order[16];

static void note(void *what) {
    strcat(order, what);
}

static _Atomic int alive; /* values with an owner */

static void *make(int number) {
    int *value = malloc(sizeof *value);
    CHECK(value);
    *value = number;
    atomic_fetch_add(&alive, 1);
    return value;
}

static void destroy(void *value) {
    atomic_fetch_sub(&alive, 1);
    free(value);
}

static void *next_generation(void *value) {
    int number = *(int *)value + 1;
    return number < 3 ? make(number) : NULL;
}

static struct local_key plain = {.name = "plain"};
static struct local_key owned = {.name = "owned", .destroy = destroy};
static struct local_key handed_on = {
    .name = "handed on", .destroy = destroy, .inherit = next_generation};

static void has_its_own(void *arg) {
    CHECK(local_get(&plain) == NULL);
    CHECK(local_get(&owned) == NULL);
    local_set(&plain, arg);
    local_set(&owned, make(1));
    for (int i = 0; i < 20; i++) {
        rt_yield();
        CHECK(local_get(&plain) == arg);
    }
    waitgroup_done(&group);
}

static void keys_story(void *arg) {
    CHECK(local_get(&plain) == NULL);
    local_set(&plain, (char[]){"main's"});
    local_set(&owned, make(1));
    waitgroup_add(&group, 20);
    for (unsigned i = 0; i < 20; i++) {
        void *value = (void *)(uintptr_t)(i + 1);
        CHECK((i % 2 ? go("own", has_its_own, value)
                     : go_on(i / 2 % 2, "own", has_its_own, value)) == 0);
    }
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    STORY_AWAIT(atomic_load(&alive) == 1);
    CHECK(strcmp(local_get(&plain), "main's") == 0);

    local_set(&owned, make(2)); /* the former one is destroyed */
    CHECK(atomic_load(&alive) == 1);
    int *former = local_swap(&owned, NULL); /* not this one: it is ours now */
    CHECK(*former == 2 && atomic_load(&alive) == 1);
    destroy(former);
    CHECK(local_get(&owned) == NULL);
    rt_stop(0);
}

static void each_coroutine_has_its_own_values(void **state) {
    story(2, keys_story);
}

static int generation[4];

static void child(void *arg) {
    int depth = (int)(intptr_t)arg;
    int *value = local_get(&handed_on);
    generation[depth] = value ? *value : -1;
    if (depth < 3) {
        CHECK((depth == 1 ? go : go_here)("child", child, (void *)(intptr_t)(depth + 1)) == 0);
        return;
    }
    waitgroup_done(&group);
}

static bool callback_seen;

static void started_by_a_callback(void *arg) {
    CHECK(local_get(&handed_on) == NULL);
    callback_seen = true;
}

static void callback(struct rt_post *post) {
    CHECK(go_here("child", started_by_a_callback, NULL) == 0);
}

static void *starts_from_a_thread(void *arg) {
    CHECK(go_on(0, "child", started_by_a_callback, NULL) == 0);
    return NULL;
}

static void inherit_story(void *arg) {
    local_set(&handed_on, make(0));
    local_set(&owned, make(7)); /* has no inherit */
    waitgroup_add(&group, 1);
    CHECK(go_on(1, "child", child, (void *)(intptr_t)0) == 0);
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    CHECK(generation[0] == 1 && generation[1] == 2 && generation[2] == -1 && generation[3] == -1);
    STORY_AWAIT(atomic_load(&alive) == 2);

    static struct rt_post post = {.fn = callback};
    rt_post(0, &post);
    STORY_AWAIT(callback_seen);
    callback_seen = false;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, starts_from_a_thread, NULL) == 0);
    STORY_AWAIT(callback_seen);
    pthread_join(thread, NULL);
    destroy(local_swap(&handed_on, NULL));
    destroy(local_swap(&owned, NULL));
    rt_stop(0);
}

static void a_child_gets_what_inherit_makes_of_it(void **state) {
    story(2, inherit_story);
}

static void destroy_last(void *value) {
    note(value);
    rt_yield(); /* it is on the coroutine still */
    waitgroup_done(&group);
}

static struct local_key last = {.name = "last", .destroy = destroy_last};

static void exits_with_values(void *arg) {
    static char value[] = "v", deferred[] = "d";
    local_set(&last, value);
    DEFER(noting, note, deferred);
    rt_exit();
}

static void end_story(void *arg) {
    waitgroup_add(&group, 1);
    CHECK(go_here("exits", exits_with_values, NULL) == 0);
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    CHECK(strcmp(order, "dv") == 0);
    rt_stop(0);
}

static void values_go_after_the_deferred_calls(void **state) {
    story(1, end_story);
}

static int key_count;

static void keys_count_story(void *arg) {
    static struct local_key many[LOCAL_MAX + 1];
    for (int i = 0; i < key_count; i++) {
        many[i].name = "one of many";
        local_set(&many[i], &many[i]);
        CHECK(local_get(&many[i]) == &many[i]);
    }
    rt_stop(0);
}

static void one_key_too_many_asserts(void **state) {
    key_count = LOCAL_MAX;
    story(1, keys_count_story);
    key_count = LOCAL_MAX + 1;
    story_asserts(keys_count_story);
}

/* ---- Labels ---- */

static bool reads(const struct labels *labels, const char *expected) {
    char text[128];
    CHECK(labels_text(labels, text, sizeof text) == strlen(text));
    return strcmp(text, expected) == 0;
}

static void sees_route(void *arg) {
    CHECK(reads(labels_current(), "{\"listener\": \"edge\", \"route\": \"api\"}"));
}

static void fails_in_route(void *arg) {
    sees_route(arg);
    panic("in the route", NULL);
}

static void recovers(void *arg) {
    struct panic_value value;
    CHECK(panic_recover(&value));
}

static void does_and_fails(void *arg) {
    DEFER(recovering, recovers, NULL);
    labels_do(&(struct label){"route", "api"}, 1, fails_in_route, NULL);
}

static void has_inherited(void *arg) {
    sees_route(arg);
    CHECK(labels_add((struct label[]){{"route", "login"}, {"filter", "lua"}}, 2) == 0);
    CHECK(reads(labels_current(),
                "{\"listener\": \"edge\", \"route\": \"login\", \"filter\": \"lua\"}"));
    waitgroup_done(&group);
}

static void starts_a_child(void *arg) {
    waitgroup_add(&group, 2);
    CHECK(go_on(1, "child", has_inherited, NULL) == 0);
    CHECK(go("child", has_inherited, NULL) == 0);
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    sees_route(arg);
}

static void labels_story(void *arg) {
    CHECK(labels_current() == NULL);
    CHECK(reads(NULL, ""));
    char listener[] = "edge";
    CHECK(labels_add(&(struct label){"listener", listener}, 1) == 0);
    listener[0] = '!'; /* the set has its own copy */
    labels_do(&(struct label){"route", "api"}, 1, sees_route, NULL);
    CHECK(reads(labels_current(), "{\"listener\": \"edge\"}"));
    CHECK(!panic_scope(does_and_fails, NULL));
    CHECK(reads(labels_current(), "{\"listener\": \"edge\"}"));
    labels_do(&(struct label){"route", "api"}, 1, starts_a_child, NULL);
    CHECK(labels_of(rt_self()) == labels_current());

    char small[8];
    CHECK(labels_text(labels_current(), small, sizeof small) == 7);
    CHECK(strcmp(small, "{\"liste") == 0);
    labels_set(NULL);
    CHECK(labels_current() == NULL);
    rt_stop(0);
}

static void labels_are_added_put_back_and_inherited(void **state) {
    story(2, labels_story);
}

/* A dump on another thread looks while the coroutine changes its labels, and while it ends and its
 * struct g becomes that of another. */
enum { CHANGES = 300 };
static _Atomic(struct g *) looked_at;
static _Atomic bool looking_is_over;
static _Atomic long seen;

static void *looks(void *arg) {
    while (!atomic_load(&looking_is_over)) {
        struct labels *labels = labels_lease(atomic_load(&looked_at));
        if (!labels)
            continue;
        CHECK(labels->count == 1);
        CHECK(strcmp(labels->items[0].key, "turn") == 0);
        CHECK(atoi(labels->items[0].value) < CHANGES);
        atomic_fetch_add(&seen, 1);
        labels_unref(labels);
    }
    return NULL;
}

static void changes(void *arg) {
    atomic_store(&looked_at, rt_self());
    for (int i = 0; i < 10; i++) {
        char turn[16];
        snprintf(turn, sizeof turn, "%d", (int)(intptr_t)arg);
        CHECK(labels_add(&(struct label){"turn", turn}, 1) == 0);
        rt_yield();
    }
    waitgroup_done(&group);
}

static void looking_story(void *arg) {
    atomic_store(&looked_at, rt_self());
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, looks, NULL) == 0);
    CHECK(labels_add(&(struct label){"turn", "0"}, 1) == 0);
    STORY_AWAIT(atomic_load(&seen) > 0);
    for (int i = 0; i < CHANGES; i++) {
        waitgroup_add(&group, 1);
        CHECK((i % 2 ? go : go_here)("changes", changes, (void *)(intptr_t)i) == 0);
        CHECK(waitgroup_wait(&group, story_soon()) == 0);
    }
    atomic_store(&looking_is_over, true);
    pthread_join(thread, NULL);
    labels_set(NULL);
    rt_stop(0);
}

static void any_thread_may_lease_labels(void **state) {
    story(2, looking_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_coroutine_has_its_own_values),
        cmocka_unit_test(a_child_gets_what_inherit_makes_of_it),
        cmocka_unit_test(values_go_after_the_deferred_calls),
        cmocka_unit_test(one_key_too_many_asserts),
        cmocka_unit_test(labels_are_added_put_back_and_inherited),
        cmocka_unit_test(any_thread_may_lease_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
