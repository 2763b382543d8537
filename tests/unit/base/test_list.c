/* list.h: the intrusive ring. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/list.h"

static void nodes_come_out_in_order(void **state) {
    struct list head, a = {0}, b = {0}, c = {0};
    list_init(&head);
    assert_true(list_is_empty(&head));
    assert_null(list_pop_front(&head));
    assert_false(list_is_linked(&a)); /* all zero is not linked */
    list_push_back(&head, &b);
    list_push_back(&head, &c);
    list_push_front(&head, &a);
    assert_true(list_is_linked(&b));
    assert_ptr_equal(list_pop_front(&head), &a);
    assert_false(list_is_linked(&a));
    list_remove(&c);
    list_remove(&c); /* harmless */
    assert_ptr_equal(list_pop_front(&head), &b);
    assert_true(list_is_empty(&head));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nodes_come_out_in_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
