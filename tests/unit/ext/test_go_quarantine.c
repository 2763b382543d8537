/* go_quarantine.c: a text is good for its call, and then for as many bytes of others as the quarantine takes. */
#include "ext/go/go_quarantine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BIG = 1 << 20 };

static struct span keep_big(struct go_quarantine_list *list, char *bytes, char fill) {
    memset(bytes, fill, BIG);
    struct span text = go_quarantine_keep(list, span_make(bytes, BIG));
    assert_false(span_is_none(text));
    return text;
}

static void a_call_has_each_text_once(void **state) {
    struct go_quarantine_list call = {0};
    struct span first = go_quarantine_keep(&call, SPAN_LIT("alpha"));
    struct span empty = go_quarantine_keep(&call, SPAN_LIT(""));
    assert_ptr_equal(go_quarantine_keep(&call, SPAN_LIT("alpha")).ptr, first.ptr);
    assert_ptr_not_equal(go_quarantine_keep(&call, SPAN_LIT("beta")).ptr, first.ptr);
    assert_true(!span_is_none(empty) && empty.len == 0);
    go_quarantine_put(&call);
    assert_null(call.first);
    go_quarantine_put(&call); /* of nothing */
}

/* Under ASan a text that went too early is a report. */
static void texts_outlive_their_call(void **state) {
    char *bytes = malloc(BIG);
    assert_non_null(bytes);
    struct go_quarantine_list call = {0}, slow = {0};
    struct span of_slow = keep_big(&slow, bytes, 's');
    struct span kept = keep_big(&call, bytes, 'k');
    go_quarantine_put(&call);
    size_t room = GO_QUARANTINE_BYTES / BIG - 2; /* with room for what each text costs besides */
    for (size_t i = 0; i < room; i++) {
        (void)keep_big(&call, bytes, (char)i);
        go_quarantine_put(&call);
    }
    assert_int_equal(kept.ptr[BIG - 1], 'k');
    for (size_t i = 0; i < 3 * room;
         i++) { /* they are as many as they were: LSan, and the heap's limit, look */
        (void)keep_big(&call, bytes, (char)i);
        go_quarantine_put(&call);
    }
    assert_int_equal(of_slow.ptr[0], 's'); /* its call goes on all the while */
    go_quarantine_put(&slow);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_has_each_text_once),
        cmocka_unit_test(texts_outlive_their_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
