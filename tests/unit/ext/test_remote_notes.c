/* remote_notes.c: what each new process of a library is told, while configurations come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "ext/remote/remote_notes.h"

/* Made, told to who is up, and accepted. */
static uint64_t noted(struct remote_notes *notes, struct span bytes) {
    struct remote_note *note = remote_note_new(notes, SPAN_LIT("plugin"), bytes);
    assert_non_null(note);
    remote_notes_add(notes, note);
    uint64_t id = note->id;
    remote_notes_release(notes, note);
    return id;
}

static void is_told(const struct remote_note *note, const char *bytes) {
    assert_non_null(note);
    assert_true(span_eq(span_make(note->bytes, note->len), span_make(bytes, strlen(bytes))));
    assert_true(span_eq(note->name, SPAN_LIT("plugin")));
}

static void a_process_is_told_everything_in_order(void **state) {
    struct remote_notes notes;
    remote_notes_init(&notes);
    assert_null(remote_notes_read(&notes, NULL));
    uint64_t one = noted(&notes, SPAN_LIT("one")), two = noted(&notes, SPAN_LIT(""));
    assert_true(one != 0 && two != 0 && one != two);

    struct remote_note *note = remote_notes_read(&notes, NULL);
    is_told(note, "one");
    note = remote_notes_read(&notes, note);
    is_told(note, "");
    uint64_t three = noted(&notes, SPAN_LIT("three")); /* while it is told */
    note = remote_notes_read(&notes, note);
    is_told(note, "three");
    assert_null(remote_notes_read(&notes, note));

    assert_true(remote_notes_drop(&notes, two) && remote_notes_drop(&notes, three) &&
                remote_notes_drop(&notes, one));
    assert_null(notes.first);
    assert_null(notes.last);
    assert_true(noted(&notes, SPAN_LIT("one")) > three); /* no id is used again */
    assert_true(remote_notes_drop(&notes, notes.last_id));
}

static void one_that_is_dropped_while_it_is_read_stays_for_its_reader(void **state) {
    struct remote_notes notes;
    remote_notes_init(&notes);
    uint64_t one = noted(&notes, SPAN_LIT("one")), two = noted(&notes, SPAN_LIT("two"));
    uint64_t three = noted(&notes, SPAN_LIT("three"));

    struct remote_note *first = remote_notes_read(&notes, NULL);
    struct remote_note *slow = remote_notes_read(&notes, NULL);
    slow = remote_notes_read(&notes, slow);
    is_told(slow, "two");
    assert_true(remote_notes_drop(&notes, two));
    assert_false(remote_notes_drop(&notes, two)); /* once */
    assert_false(remote_notes_drop(&notes, 99));
    is_told(slow, "two");
    first = remote_notes_read(&notes, first);
    is_told(first, "three"); /* nobody new is told of it */
    slow = remote_notes_read(&notes, slow);
    is_told(slow, "three"); /* from one that ends with this step */
    assert_ptr_equal(notes.first->next, slow);

    assert_true(remote_notes_drop(&notes, three)); /* with two readers */
    assert_null(remote_notes_read(&notes, first));
    is_told(slow, "three");
    assert_null(remote_notes_read(&notes, slow));
    assert_ptr_equal(notes.first, notes.last);
    assert_true(remote_notes_drop(&notes, one));
    assert_null(notes.first);
}

static void what_a_plugin_refuses_is_forgotten(void **state) {
    struct remote_notes notes;
    remote_notes_init(&notes);
    uint64_t one = noted(&notes, SPAN_LIT("one"));
    struct remote_note *bad = remote_note_new(&notes, SPAN_LIT("plugin"), SPAN_LIT("bad"));
    assert_non_null(bad);
    remote_notes_add(&notes, bad);
    uint64_t two = noted(&notes, SPAN_LIT("two"));

    struct remote_note *told = remote_notes_read(&notes, NULL);
    told = remote_notes_read(&notes, told); /* another process comes just then */
    is_told(told, "bad");
    remote_notes_forget(bad);
    remote_notes_release(&notes, bad); /* by its maker */
    assert_false(remote_notes_drop(&notes, bad->id));
    is_told(told, "bad");
    told = remote_notes_read(&notes, told);
    is_told(told, "two");
    remote_notes_release(&notes, told); /* that process ends in between */
    assert_ptr_equal(notes.first->next, notes.last);

    assert_true(remote_notes_drop(&notes, two)); /* the last, so the first is */
    assert_ptr_equal(notes.first, notes.last);
    assert_true(noted(&notes, SPAN_LIT("three")) == notes.last->id);
    assert_true(remote_notes_drop(&notes, one) && remote_notes_drop(&notes, notes.last_id));
    assert_null(notes.first);
}

static void what_was_dropped_is_known_no_more(void **state) {
    struct remote_notes notes;
    remote_notes_init(&notes);
    assert_false(remote_notes_has(&notes, 1));
    uint64_t one = noted(&notes, SPAN_LIT("one"));
    assert_true(remote_notes_has(&notes, one));
    struct remote_note *reading = remote_notes_read(&notes, NULL);
    assert_true(remote_notes_drop(&notes, one));
    assert_false(remote_notes_has(&notes, one)); /* though somebody still tells it */
    assert_null(remote_notes_read(&notes, reading));
}

/* As an update of the configuration, again and again. */
static void rounds_of_making_and_dropping_leave_nothing(void **state) {
    struct remote_notes notes;
    remote_notes_init(&notes);
    uint64_t stays = noted(&notes, SPAN_LIT("stays"));
    for (int i = 0; i < 1000; i++)
        assert_true(remote_notes_drop(&notes, noted(&notes, SPAN_LIT("passes"))));
    assert_int_equal(notes.first->id, stays);
    assert_ptr_equal(notes.first, notes.last);
    assert_true(remote_notes_drop(&notes, stays));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_is_told_everything_in_order),
        cmocka_unit_test(one_that_is_dropped_while_it_is_read_stays_for_its_reader),
        cmocka_unit_test(what_a_plugin_refuses_is_forgotten),
        cmocka_unit_test(what_was_dropped_is_known_no_more),
        cmocka_unit_test(rounds_of_making_and_dropping_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
