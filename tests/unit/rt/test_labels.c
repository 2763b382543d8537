/* labels.c: describers, which say what a coroutine does when somebody looks. What looks is a snapshot, a
 * dump, a profile; sets of labels are with test_local.c, as values of a coroutine. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "rt/chan.h"
#include "rt/dump.h"
#include "rt/foreign.h"
#include "rt/labels.h"
#include "rt/profile.h"
#include "rt/rt_internal.h"
#include "rt/waitgroup.h"
#include "rt_story.h"

/* What a proxy would have: two fields that its coroutine stores and others read. */
struct activity {
    struct labels_describer describer;
    _Atomic(const char *) route, filter;
    _Atomic unsigned asked;
};

static unsigned describe(const struct labels_describer *self, struct label *out, unsigned max) {
    struct activity *activity = container_of((void *)(uintptr_t)self, struct activity, describer);
    atomic_fetch_add_explicit(&activity->asked, 1, memory_order_relaxed);
    const char *route = atomic_load_explicit(&activity->route, memory_order_relaxed);
    const char *filter = atomic_load_explicit(&activity->filter, memory_order_relaxed);
    unsigned count = 0;
    CHECK(max >= 2);
    if (route)
        out[count++] = (struct label){"route", route};
    if (filter)
        out[count++] = (struct label){"filter", filter};
    return count;
}

static bool reads(const struct labels *labels, const char *expected) {
    char text[LABELS_TEXT_MAX];
    labels_text(labels, text, sizeof text);
    return strcmp(text, expected) == 0;
}

/* What the calling thread's snapshot says. */
static bool snapshot_reads(const char *expected) {
    struct labels *labels = labels_snapshot();
    bool is_so = reads(labels, expected);
    labels_unref(labels);
    return is_so;
}

/* ---- A snapshot ---- */

static void snapshot_story(void *arg) {
    struct activity one = {.describer.describe = describe, .route = "api"};
    struct activity other = {.describer.describe = describe, .route = "login", .filter = "lua"};
    CHECK(labels_snapshot() == NULL);
    CHECK(labels_add((struct label[]){{"listener", "edge"}, {"route", "by hand"}}, 2) == 0);
    CHECK(snapshot_reads("{\"listener\": \"edge\", \"route\": \"by hand\"}"));

    labels_describe_by(&one.describer);
    CHECK(atomic_load(&one.asked) == 0); /* nothing was made of it yet */
    CHECK(snapshot_reads("{\"listener\": \"edge\", \"route\": \"api\"}"));
    atomic_store(&one.filter, "router");
    CHECK(snapshot_reads("{\"listener\": \"edge\", \"route\": \"api\", \"filter\": \"router\"}"));
    CHECK(atomic_load(&one.asked) == 2);
    CHECK(reads(labels_current(), "{\"listener\": \"edge\", \"route\": \"by hand\"}"));
    labels_set(NULL);
    CHECK(snapshot_reads("{\"route\": \"api\", \"filter\": \"router\"}"));

    labels_describe_by(&other.describer);
    CHECK(snapshot_reads("{\"route\": \"login\", \"filter\": \"lua\"}"));
    CHECK(atomic_load(&one.asked) == 3);
    labels_describe_by(NULL);
    CHECK(labels_snapshot() == NULL);
    rt_stop(0);
}

static void a_snapshot_asks_the_describer(void **state) {
    story(1, snapshot_story);
    assert_null(labels_snapshot()); /* no coroutine, no runtime */
}

static void full_story(void *arg) {
    static const char *const keys[LABELS_MAX] = {"a", "b", "c", "d", "e", "f",
                                                 "g", "h", "i", "j", "k", "route"};
    struct activity activity = {
        .describer.describe = describe, .route = "api", .filter = "no room"};
    for (unsigned i = 0; i < LABELS_MAX; i++)
        CHECK(labels_add(&(struct label){keys[i], "?"}, 1) == 0);
    labels_describe_by(&activity.describer);
    struct labels *labels = labels_snapshot();
    CHECK(labels && labels->count == LABELS_MAX);
    CHECK(strcmp(labels->items[LABELS_MAX - 1].value, "api") == 0);
    labels_unref(labels);
    labels_describe_by(NULL);
    labels_set(NULL);
    rt_stop(0);
}

static void what_finds_no_room_is_left_out(void **state) {
    story(1, full_story);
}

static struct waitgroup group;

static void ends_described(void *arg) {
    labels_describe_by(arg);
    waitgroup_done(&group);
}

static void is_described_from_the_start(void *arg) {
    CHECK(snapshot_reads("{\"route\": \"api\"}"));
    labels_describe_by(NULL);
    CHECK(labels_snapshot() == NULL);
    waitgroup_done(&group);
}

static void start_story(void *arg) {
    static struct activity activity = {.describer.describe = describe, .route = "api"};
    const struct go_options options = {.name = "started", .describer = &activity.describer};
    waitgroup_add(&group, 1);
    CHECK(go_with(&options, is_described_from_the_start, NULL) == 0);
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    rt_stop(0);
}

static void who_starts_a_coroutine_may_name_its_describer(void **state) {
    story(1, start_story);
}

static void is_not_described(void *arg) {
    CHECK(labels_snapshot() == NULL);
    waitgroup_done(&group);
}

static void end_story(void *arg) {
    static struct activity activity = {.describer.describe = describe, .route = "api"};
    for (int i = 0; i < 3; i++) {
        waitgroup_add(&group, 2);
        CHECK(go_here("first", ends_described, &activity.describer) == 0);
        rt_yield();
        CHECK(go_here("second", is_not_described, NULL) == 0); /* on the stack of the first */
        CHECK(waitgroup_wait(&group, story_soon()) == 0);
    }
    rt_stop(0);
}

static void who_gets_the_stack_does_not_get_the_describer(void **state) {
    story(1, end_story);
}

/* ---- Wherever it works ---- */

static _Atomic bool released;

static void in_foreign_code(void *arg) {
    CHECK(snapshot_reads("{\"route\": \"api\"}"));
    int64_t until_ns = story_soon();
    while (!atomic_load(&released)) /* longer than a tick of sysmon, so the P is taken */
        CHECK(clock_mono_ns() < until_ns);
    CHECK(p_self() == NULL);
    CHECK(snapshot_reads("{\"route\": \"api\"}"));
}

static void on_blocking_thread(void *arg) {
    CHECK(!m_self());
    CHECK(snapshot_reads("{\"route\": \"api\"}"));
}

static void releases(void *arg) {
    CHECK(labels_snapshot() == NULL); /* not inherited */
    atomic_store(&released, true);
    waitgroup_done(&group);
}

static bool callback_ran;

static void callback(struct rt_post *post) {
    CHECK(labels_snapshot() == NULL);
    callback_ran = true;
}

static void *knows_nothing(void *arg) {
    CHECK(labels_snapshot() == NULL);
    return NULL;
}

static void everywhere_story(void *arg) {
    struct activity activity = {.describer.describe = describe, .route = "api"};
    labels_describe_by(&activity.describer);
    waitgroup_add(&group, 1);
    CHECK(go_here("releases", releases, NULL) == 0); /* runs once the P is with another M */
    foreign_call(in_foreign_code, NULL);
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    CHECK(snapshot_reads("{\"route\": \"api\"}"));
    CHECK(blocking_call(on_blocking_thread, NULL) == 0);
    static struct rt_post post = {.fn = callback};
    rt_post(0, &post);
    STORY_AWAIT(callback_ran);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, knows_nothing, NULL) == 0);
    pthread_join(thread, NULL);
    labels_describe_by(NULL);
    rt_stop(0);
}

static void foreign_code_works_for_the_coroutine_that_called_it(void **state) {
    story(1, everywhere_story);
}

/* ---- Dumps ---- */

static char text[64 * 1024];
static size_t text_len;

static void put(void *arg, const char *part, size_t len) {
    CHECK(text_len + len < sizeof text);
    memcpy(text + text_len, part, len);
    text_len += len;
    text[text_len] = '\0';
}

static const char *take_dump(enum rt_dump_format format) {
    text_len = 0;
    text[0] = '\0';
    CHECK(rt_dump(format, put, NULL) == 0);
    return text;
}

static struct waitgroup waiting;

static void waits(void *arg) {
    struct activity activity = {.describer.describe = describe, .route = arg};
    labels_describe_by(&activity.describer);
    CHECK(labels_add(&(struct label){"listener", "edge"}, 1) == 0);
    waitgroup_done(&waiting);
    for (;;)
        CHECK(rt_park("a story", RT_FOREVER) == 0);
}

/* Those that any P may run and those of a P that is not the asker's. */
static void dump_story(void *arg) {
    enum { EACH = 3 };
    static char api[] = "api", login[] = "login";
    waitgroup_add(&waiting, 4 * EACH);
    for (unsigned i = 0; i < EACH; i++) {
        CHECK(go("anywhere", waits, api) == 0);
        CHECK(go("anywhere", waits, login) == 0);
        CHECK(go_on(1, "pinned", waits, api) == 0);
        CHECK(go_on(1, "pinned", waits, login) == 0);
    }
    CHECK(waitgroup_wait(&waiting, story_soon()) == 0);
    static const char *const groups[] = {
        "\n# labels: {\"listener\": \"edge\", \"route\": \"api\"}\n# [a story, \"anywhere\"]\n",
        "\n# labels: {\"listener\": \"edge\", \"route\": \"login\"}\n# [a story, \"anywhere\"]\n",
        "\n# labels: {\"listener\": \"edge\", \"route\": \"api\"}\n# [a story, \"pinned\"]\n",
        "\n# labels: {\"listener\": \"edge\", \"route\": \"login\"}\n# [a story, \"pinned\"]\n",
    };
    for (unsigned i = 0; i < 4; i++) {
        const char *group_labels;
        STORY_AWAIT((group_labels = strstr(take_dump(RT_DUMP_GROUPED), groups[i])));
        while (group_labels > text && group_labels[-1] != '\n')
            group_labels--;
        CHECK(strncmp(group_labels, "3 @", 3) == 0); /* all that say so are one group */
    }
    static const char entry[] =
        ", \"pinned\", P 1 labels:{\"listener\": \"edge\", \"route\": \"login\"}]";
    CHECK(strstr(take_dump(RT_DUMP_EACH), entry));
    rt_stop(0);
}

static void a_dump_asks_for_those_that_wait(void **state) {
    story(2, dump_story);
}

/* ThreadSanitizer holds back a signal until the thread makes a call that it knows. */
static void skip_if_signals_wait(void) {
#ifdef RT_HAS_TSAN
    skip();
#endif
}

static _Atomic bool spinning;

static void spins(void *arg) {
    struct activity activity = {.describer.describe = describe, .route = arg, .filter = "lua"};
    labels_describe_by(&activity.describer);
    atomic_store(&spinning, true);
    while (!atomic_load_explicit(&released, memory_order_relaxed)) {
    }
    labels_describe_by(NULL);
}

/* Its P does not answer; its thread says what it does, to a dump and to the monitor's log. */
static void stuck_story(void *arg) {
    FILE *log = tmpfile();
    CHECK(log && dup2(fileno(log), STDERR_FILENO) == STDERR_FILENO);
    static char api[] = "api";
    CHECK(go_on(1, "stuck", spins, api) == 0);
    STORY_AWAIT(atomic_load(&spinning));
    static const char entry[] =
        " [running, \"stuck\", P 1 labels:{\"route\": \"api\", \"filter\": \"lua\"}]:\n";
    STORY_AWAIT(strstr(take_dump(RT_DUMP_EACH), entry));
    static const char line[] =
        "coroutine stuck {\"route\": \"api\", \"filter\": \"lua\"} ran for more than ";
    static char lines[64 * 1024];
    STORY_AWAIT((pread(fileno(log), lines, sizeof lines - 1, 0) > 0 && strstr(lines, line)));
    atomic_store(&released, true);
    rt_stop(0);
}

static void one_that_holds_up_its_p_is_named(void **state) {
    skip_if_signals_wait();
    story(2, stuck_story);
}

/* ---- The CPU profile ---- */

static _Atomic unsigned sink;

static void compute_until(const char *route, struct activity *activity, unsigned turns) {
    atomic_store_explicit(&activity->route, route, memory_order_relaxed);
    for (unsigned i = 0; i < turns; i++)
        atomic_store_explicit(&sink, i, memory_order_relaxed);
}

struct share {
    uint64_t api, login, other;
};

static void add_share(void *arg, const struct stack_count *stack) {
    struct share *share = arg;
    if (!stack->name || strcmp(stack->name, "main") != 0)
        return;
    if (reads(stack->labels, "{\"listener\": \"edge\", \"route\": \"api\"}"))
        share->api += stack->count;
    else if (reads(stack->labels, "{\"listener\": \"edge\", \"route\": \"login\"}"))
        share->login += stack->count;
    else
        share->other += stack->count;
}

static struct profile_info info;

static void read_profile(void *share) {
    CHECK(profile_read(add_share, share, &info) == 0);
}

/* Three quarters of the work are for one route; they take turns of some 100 us. */
static void profile_story(void *arg) {
    struct activity activity = {.describer.describe = describe, .route = "api"};
    CHECK(labels_add(&(struct label){"listener", "edge"}, 1) == 0);
    labels_describe_by(&activity.describer);
    CHECK(profile_start(1000, 0) == 0);
    int64_t until_ns = story_soon();
    while (atomic_load(&activity.asked) < 200) {
        compute_until("api", &activity, 150000);
        compute_until("login", &activity, 50000);
        CHECK(clock_mono_ns() < until_ns);
    }
    CHECK(profile_stop() == 0);
    struct share share = {0};
    CHECK(blocking_call(read_profile, &share) == 0);
    labels_describe_by(NULL);
    uint64_t both = share.api + share.login;
    CHECK(both >= 190);
    CHECK(share.other <= 10); /* about to stop */
    CHECK(share.api * 100 >= both * 60);
    CHECK(share.api * 100 <= both * 90);
    rt_stop(0);
}

static void the_profile_asks_at_each_sample(void **state) {
    skip_if_signals_wait();
    story_skip_if_emulated("timers of a thread's processor time");
    story(1, profile_story);
}

/* ---- A storm ---- */

/* Coroutines come and go, on other Ps, in foreign and in blocking calls. Each has its describer on its
 * own stack, which is another one's a moment later, or none. Signals ask all threads all the time. What a
 * describer finds is its own, alive and whole. */

enum { STORM_COROUTINES = 8, STORM_LIVES = 250, ALIVE = 0x600d600d, ENDED = 0xdeaddead };

struct storm_activity {
    struct labels_describer describer;
    _Atomic unsigned state;
    _Atomic(const char *) route;
};

static _Atomic unsigned long storm_asked, storm_lives;
static _Atomic bool storm_over;

static unsigned storm_describe(const struct labels_describer *self, struct label *out,
                               unsigned max) {
    struct storm_activity *activity =
        container_of((void *)(uintptr_t)self, struct storm_activity, describer);
    CHECK(atomic_load_explicit(&activity->state, memory_order_relaxed) == ALIVE);
    const char *route = atomic_load_explicit(&activity->route, memory_order_relaxed);
    CHECK(strncmp(route, "route ", 6) == 0);
    atomic_fetch_add_explicit(&storm_asked, 1, memory_order_relaxed);
    out[0] = (struct label){"route", route};
    return 1;
}

static NOINLINE void scribble(void) {
    char stack[4096]; /* where an activity was */
    memset(stack, 0x5a, sizeof stack);
    __asm__ volatile("" ::"r"(stack) : "memory");
}

static void looks_around(void *arg) {
    for (unsigned i = 0; i < 20; i++)
        labels_unref(labels_snapshot());
}

static NOINLINE void one_piece_of_work(uint64_t *seed) {
    static const char *const routes[] = {"route 1", "route 2", "route 3"};
    struct storm_activity activity = {
        .describer.describe = storm_describe, .state = ALIVE, .route = routes[0]};
    labels_describe_by(&activity.describer);
    for (unsigned i = 0; i < 5; i++) {
        atomic_store_explicit(&activity.route, routes[i % 3], memory_order_relaxed);
        switch (next_random(seed) % 5) {
        case 0:
            rt_yield();
            break;
        case 1:
            foreign_call(looks_around, NULL);
            break;
        case 2:
            CHECK(blocking_call(looks_around, NULL) == 0);
            break;
        case 3:
            CHECK(rt_sleep_until(rt_now_ns() + 1) == 0);
            break;
        default:
            looks_around(NULL);
            break;
        }
    }
    labels_describe_by(NULL);
    atomic_store_explicit(&activity.state, ENDED, memory_order_relaxed);
}

static void lives(void *arg) {
    uint64_t seed = (uintptr_t)arg;
    if (next_random(&seed) % 3 > 0)
        one_piece_of_work(&seed);
    scribble();
    rt_yield();
    uint64_t next = next_random(&seed) | 1;
    if (atomic_fetch_add(&storm_lives, 1) + STORM_COROUTINES >=
        (unsigned long)STORM_COROUTINES * STORM_LIVES) {
        waitgroup_done(&group);
        return;
    }
    CHECK((next & 2 ? go : go_here)("lives", lives, (void *)(uintptr_t)next) == 0);
}

static void ask_thread(struct m *m, void *arg) {
    struct backtrace sample;
    (void)!backtrace_running(m, &sample, NS_PER_MS);
}

static void *asks(void *arg) {
    while (!atomic_load(&storm_over)) {
        m_each(ask_thread, NULL);
        text_len = 0;
        CHECK(rt_dump(RT_DUMP_GROUPED, put, NULL) == 0);
    }
    return NULL;
}

static void ignore(void *arg, const struct stack_count *stack) {}

static void ignore_profile(void *arg) {
    CHECK(profile_read(ignore, NULL, &info) == 0);
}

static void storm_story(void *arg) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, asks, NULL) == 0);
    CHECK(profile_start(PROFILE_HZ_MAX, 0) == 0);
    waitgroup_add(&group, STORM_COROUTINES);
    for (uintptr_t i = 0; i < STORM_COROUTINES; i++)
        CHECK((i % 2 ? go : go_here)("lives", lives, (void *)(2 * i + 1)) == 0);
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    atomic_store(&storm_over, true);
    CHECK(profile_stop() == 0);
    CHECK(blocking_call(ignore_profile, NULL) == 0);
    pthread_join(thread, NULL);
    CHECK(atomic_load(&storm_asked) > STORM_LIVES);
    rt_stop(0);
}

static void nobody_asks_a_describer_that_is_gone(void **state) {
    story(3, storm_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_asks_the_describer),
        cmocka_unit_test(what_finds_no_room_is_left_out),
        cmocka_unit_test(who_starts_a_coroutine_may_name_its_describer),
        cmocka_unit_test(who_gets_the_stack_does_not_get_the_describer),
        cmocka_unit_test(foreign_code_works_for_the_coroutine_that_called_it),
        cmocka_unit_test(a_dump_asks_for_those_that_wait),
        cmocka_unit_test(one_that_holds_up_its_p_is_named),
        cmocka_unit_test(the_profile_asks_at_each_sample),
        cmocka_unit_test(nobody_asks_a_describer_that_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
