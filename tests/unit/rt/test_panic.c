/* panic.c: Go's defer, panic, recover and Goexit, sentence by sentence. */
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "rt/foreign.h"
#include "rt/panic.h"
#include "rt/waitgroup.h"
#include "rt_story.h"

/* Literals are const, the argument of an rt_fn is not. */
static void *as_arg(const char *literal) {
    return (void *)(uintptr_t)literal;
}

static char order[64];

static void note(void *what) {
    strcat(order, what);
}

static bool order_is(const char *expected) {
    if (strcmp(order, expected) != 0)
        fprintf(stderr, "order is %s\n", order);
    bool is = strcmp(order, expected) == 0;
    order[0] = '\0';
    return is;
}

static void recovers(void *expected) {
    struct panic_value value;
    CHECK(panic_recover(&value));
    CHECK(strcmp(value.message, expected) == 0);
}

static void recovers_nothing(void *unused) {
    struct panic_value value = {.message = "untouched"};
    CHECK(!panic_recover(&value));
    CHECK(strcmp(value.message, "untouched") == 0);
}

/* ---- "Deferred functions are executed in last in first out order" ---- */

static void returns_early(void *arg) {
    DEFER(first, note, as_arg("1"));
    for (int i = 0; i < 2; i++) {
        DEFER(turn, note, as_arg("t")); /* a block's, so in each turn */
        note(as_arg("-"));
    }
    DEFER(second, note, as_arg("2"));
    if (arg)
        return;
    DEFER(third, note, as_arg("3"));
    note(as_arg("."));
}

static void panics_deep(void *arg) {
    DEFER(third, note, as_arg("3"));
    panic("deep", NULL);
}

static void defers_and_panics(void *arg) {
    DEFER(recovering, recovers, as_arg("deep"));
    DEFER(first, note, as_arg("1"));
    DEFER(second, note, as_arg("2"));
    panics_deep(NULL);
    note(as_arg("not reached"));
}

static void lifo_story(void *arg) {
    returns_early(NULL);
    CHECK(order_is("-t-t.321"));
    returns_early(as_arg("early"));
    CHECK(order_is("-t-t21"));
    CHECK(panic_scope(returns_early, NULL));
    CHECK(order_is("-t-t.321"));
    CHECK(!panic_scope(defers_and_panics, NULL));
    CHECK(order_is("321"));

    struct deferred by_hand, inner;
    defer_begin(&by_hand, note, as_arg("a"));
    defer_begin(&inner, note, as_arg("b"));
    defer_end(&inner);
    CHECK(order_is("b"));
    defer_end(&by_hand);
    CHECK(order_is("a"));
    rt_stop(0);
}

static void deferred_calls_run_last_in_first_out(void **state) {
    story(1, lifo_story);
}

/* ---- "Arguments are evaluated when the defer statement is evaluated" ---- */

static void argument_story(void *arg) {
    const char *what = "before";
    char *pointed_to = strdup("x");
    {
        DEFER(late, note, pointed_to);
        DEFER(early, note, as_arg(what));
        what = "after";
        pointed_to[0] = 'y';
    }
    CHECK(strcmp(what, "after") == 0);
    CHECK(order_is("beforey")); /* the pointer of then, with what it points to now */
    free(pointed_to);
    rt_stop(0);
}

static void arguments_are_those_of_when_it_was_deferred(void **state) {
    story(1, argument_story);
}

/* ---- recover ---- */

static void panics(void *message) {
    panic(message, NULL);
}

static void tries_in_a_scope(void *arg) {
    CHECK(panic_scope(recovers_nothing, NULL));
    DEFER(nested, recovers_nothing, NULL); /* not run by the panic, but by this return */
}

static void outer_only(void *arg) {
    DEFER(third, recovers_nothing, NULL); /* it is over by then */
    DEFER(second, recovers, as_arg("once"));
    DEFER(first, tries_in_a_scope, NULL);
    panic("once", NULL);
}

static void helps(void) {
    recovers(as_arg("helped"));
}

static void is_helped(void *arg) {
    helps();
}

static void with_helper(void *arg) {
    DEFER(helped, is_helped, NULL);
    panics(as_arg("helped"));
}

static void carries_value(void *out) {
    struct panic_value value;
    CHECK(panic_recover(&value));
    *(int *)out = *(int *)value.value;
}

static void panics_with_value(void *out) {
    DEFER(recovering, carries_value, out);
    int on_this_frame = 42;
    panic("value", &on_this_frame);
}

static void recover_story(void *arg) {
    recovers_nothing(NULL);
    { DEFER(no_panic, recovers_nothing, NULL); }
    CHECK(!panic_scope(outer_only, NULL));
    CHECK(!panic_scope(with_helper, NULL));
    int value = 0;
    CHECK(!panic_scope(panics_with_value, &value));
    CHECK(value == 42);
    for (int i = 0; i < 10000; i++) /* nothing is left behind, in a sanitizer's books neither */
        CHECK(!panic_scope(panics_with_value, &value));
    recovers_nothing(NULL);
    rt_stop(0);
}

static void recover_works_in_the_deferred_call_only(void **state) {
    story(1, recover_story);
}

/* ---- Nested scopes ---- */

static void inner_scope(void *arg) {
    DEFER(noting, note, as_arg("i"));
    panics(arg);
}

static void outer_scope(void *arg) {
    DEFER(recovering, recovers, as_arg("through"));
    DEFER(noting, note, as_arg("o"));
    CHECK(panic_scope(inner_scope, arg)); /* it neither returns nor recovers */
    note(as_arg("not reached"));
}

static void middle_recovers(void *arg) {
    DEFER(recovering, recovers, arg);
    inner_scope(arg);
}

static void goes_on_after(void *arg) {
    DEFER(noting, note, as_arg("o"));
    CHECK(!panic_scope(middle_recovers, as_arg("stopped")));
    note(as_arg("+"));
}

static void nesting_story(void *arg) {
    CHECK(!panic_scope(outer_scope, as_arg("through")));
    CHECK(order_is("io"));
    CHECK(panic_scope(goes_on_after, NULL));
    CHECK(order_is("i+o"));
    rt_stop(0);
}

static void a_panic_passes_scopes_until_it_is_recovered(void **state) {
    story(1, nesting_story);
}

/* ---- Panics in deferred calls ---- */

static void second_panic(void *arg) {
    DEFER(last, note, as_arg("l"));
    DEFER(recovering, recovers, as_arg("second"));
    DEFER(noting, note, as_arg("n"));
    DEFER(failing, panics, as_arg("second"));
    panic("first", NULL);
}

static void panics_and_recovers_itself(void *arg) {
    note(as_arg("<"));
    DEFER(recovering, recovers, as_arg("inner"));
    panic("inner", NULL);
}

static void own_affair(void *arg) {
    DEFER(recovering, recovers,
          as_arg("first")); /* still the first: the inner one was over in there */
    DEFER(noting, note, as_arg("n"));
    DEFER(busy, panics_and_recovers_itself, NULL);
    panic("first", NULL);
}

static void recovers_and_panics_again(void *arg) {
    recovers(as_arg("first"));
    panic("again", NULL);
}

static void again(void *arg) {
    DEFER(recovering, recovers, as_arg("again"));
    DEFER(noting, note, as_arg("n"));
    DEFER(repeating, recovers_and_panics_again, NULL);
    panic("first", NULL);
}

static void fails_after_recovery(void *arg) {
    DEFER(recovering, recovers, as_arg("late"));
    DEFER(failing, panics, as_arg("late"));
    DEFER(recovering_first, recovers, as_arg("first"));
    panic("first", NULL);
}

static void at_a_normal_end(void *arg) {
    DEFER(recovering, recovers, as_arg("at the end"));
    DEFER(failing, panics, as_arg("at the end"));
}

static void chain_story(void *arg) {
    CHECK(!panic_scope(second_panic, NULL));
    CHECK(order_is("nl"));
    CHECK(!panic_scope(own_affair, NULL));
    CHECK(order_is("<n"));
    CHECK(!panic_scope(again, NULL));
    CHECK(order_is("n"));
    CHECK(!panic_scope(fails_after_recovery, NULL));
    CHECK(!panic_scope(at_a_normal_end, NULL));
    recovers_nothing(NULL);
    rt_stop(0);
}

static void a_panic_in_a_deferred_call_replaces_the_first(void **state) {
    story(1, chain_story);
}

/* ---- Exits ---- */

static struct waitgroup group;

static void ended(void *arg) {
    note(as_arg("e"));
    waitgroup_done(&group);
}

static void exits_in_scope(void *arg) {
    DEFER(noting, note, as_arg("s"));
    rt_exit();
}

static void exits_from_depth(void *arg) {
    DEFER(ending, ended, NULL);
    DEFER(hopeful, recovers_nothing, NULL); /* cannot be recovered */
    CHECK(panic_scope(exits_in_scope, NULL));
    note(as_arg("not reached"));
}

static void panics_on_the_way(void *arg) {
    DEFER(recovering, recovers, as_arg("on the way"));
    DEFER(failing, panics, as_arg("on the way"));
    rt_exit();
}

static void exits_all_the_same(void *arg) {
    DEFER(ending, ended, NULL);
    CHECK(panic_scope(panics_on_the_way, NULL)); /* recovered, but it was leaving anyway */
    note(as_arg("not reached"));
}

static void exits(void *arg) {
    rt_exit();
}

static void exit_beats_panic(void *arg) {
    DEFER(ending, ended, NULL);
    DEFER(leaving, exits, NULL);
    panic("nobody will hear of it", NULL);
}

static void recovers_at_the_top(void *arg) {
    DEFER(ending, ended, NULL);
    DEFER(recovering, recovers, as_arg("top"));
    panic("top", NULL);
}

static void exit_story(void *arg) {
    static const struct {
        rt_fn fn;
        const char *order;
    } endings[] = {{exits_from_depth, "se"},
                   {exits_all_the_same, "e"},
                   {exit_beats_panic, "e"},
                   {recovers_at_the_top, "e"}};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        waitgroup_add(&group, 1);
        CHECK(go_here("ends", endings[i].fn, NULL) == 0);
        CHECK(waitgroup_wait(&group, story_soon()) == 0);
        CHECK(order_is(endings[i].order));
    }
    struct rt_p_stats stats;
    rt_yield();
    rt_p_stats(0, &stats);
    CHECK(stats.coroutines == 1); /* main: the others ended as all do */
    rt_stop(0);
}

static void an_exit_runs_deferred_calls_and_nothing_stops_it(void **state) {
    story(1, exit_story);
}

/* ---- Parks, and many at once ---- */

static void parks(void *arg) {
    CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
    rt_yield();
}

static void panics_at_last(const char *message) {
    DEFER(parking, parks, NULL);
    panic(message, NULL);
}

static void panics_two_deep(const char *message) {
    DEFER(parking, parks, NULL);
    panics_at_last(message);
}

struct traveller {
    char message[16];
    int recovered;
};

static void recovers_own(void *arg) {
    struct traveller *self = arg;
    struct panic_value value;
    CHECK(panic_recover(&value));
    CHECK(value.message == self->message);
    self->recovered++;
}

static void travels(void *arg) {
    struct traveller *self = arg;
    DEFER(recovering, recovers_own, self);
    panics_two_deep(self->message);
}

enum { TRAVELLERS = 1000, TRIPS = 3 };

static void traveller_main(void *arg) {
    struct traveller self = {0};
    snprintf(self.message, sizeof self.message, "%u", (unsigned)(uintptr_t)arg);
    for (int i = 0; i < TRIPS; i++)
        CHECK(!panic_scope(travels, &self));
    CHECK(self.recovered == TRIPS);
    waitgroup_done(&group);
}

static void crowd_story(void *arg) {
    waitgroup_add(&group, TRAVELLERS);
    for (unsigned i = 0; i < TRAVELLERS; i++) {
        void *number = (void *)(uintptr_t)i;
        CHECK((i % 2 ? go("traveller", traveller_main, number)
                     : go_on(i / 2 % 2, "traveller", traveller_main, number)) == 0);
    }
    CHECK(waitgroup_wait(&group, story_soon()) == 0);
    rt_stop(0);
}

static void a_thousand_panic_at_once_and_move_between_threads(void **state) {
    story(2, crowd_story);
}

/* ---- The end of the process ---- */

/* What a story printed, and that it died of SIGABRT. */
static char *last_words(rt_fn body) {
    FILE *words = tmpfile();
    assert_non_null(words);
    fflush(NULL);
    int err = dup(STDERR_FILENO);
    assert_true(err >= 0);
    assert_true(dup2(fileno(words), STDERR_FILENO) >= 0);
    int status = story_status(1, body);
    assert_true(dup2(err, STDERR_FILENO) >= 0);
    close(err);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    static char text[65536];
    rewind(words);
    text[fread(text, 1, sizeof text - 1, words)] = '\0';
    fclose(words);
    return text;
}

static void dies_of_a_chain(void *arg) {
    DEFER(third, panics, as_arg("third"));
    DEFER(second, recovers_and_panics_again, NULL);
    panic("first", NULL);
}

static void chain_death_story(void *arg) {
    CHECK(go_here("doomed", dies_of_a_chain, NULL) == 0);
    CHECK(rt_park("until the end", RT_FOREVER) == 0);
}

static void a_panic_that_nobody_recovers_ends_the_process(void **state) {
    const char *words = last_words(chain_death_story);
    assert_non_null(
        strstr(words, "panic: first [recovered]\n\tpanic: again\n\tpanic: third\n\ncoroutine "));
    assert_non_null(strstr(words, "doomed [running]:\n"));
}

static void panics_in_foreign_code(void *arg) {
    foreign_call(panics, as_arg("in foreign code"));
}

static void post_panics(struct rt_post *post) {
    panic("in a callback", NULL);
}

static void panics_in_a_callback(void *arg) {
    static struct rt_post post = {.fn = post_panics};
    rt_post(0, &post);
    CHECK(rt_park("until the end", RT_FOREVER) == 0);
}

static void forgets_the_end(void *arg) {
    struct deferred *node = arg;
    defer_begin(node, note, as_arg("?"));
}

static void forgets_in_scope(void *arg) {
    struct deferred node;
    (void)panic_scope(forgets_the_end, &node);
}

static void what_cannot_be_caught_asserts(void **state) {
    assert_non_null(strstr(last_words(panics_in_foreign_code), "assertion failed"));
    assert_non_null(strstr(last_words(panics_in_a_callback), "assertion failed"));
    assert_non_null(strstr(last_words(forgets_in_scope), "assertion failed"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deferred_calls_run_last_in_first_out),
        cmocka_unit_test(arguments_are_those_of_when_it_was_deferred),
        cmocka_unit_test(recover_works_in_the_deferred_call_only),
        cmocka_unit_test(a_panic_passes_scopes_until_it_is_recovered),
        cmocka_unit_test(a_panic_in_a_deferred_call_replaces_the_first),
        cmocka_unit_test(an_exit_runs_deferred_calls_and_nothing_stops_it),
        cmocka_unit_test(a_thousand_panic_at_once_and_move_between_threads),
        cmocka_unit_test(a_panic_that_nobody_recovers_ends_the_process),
        cmocka_unit_test(what_cannot_be_caught_asserts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
