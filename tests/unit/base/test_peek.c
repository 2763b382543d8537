/* peek.c: what is there is read, what is not costs no fault. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/peek.h"

/* An emulator of another machine may know nothing of it. */
static void need_the_call(void) {
    char letter, text[] = "a";
    struct iovec here = {&letter, 1}, there = {text, 1};
    if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) < 0 && errno == ENOSYS)
        skip();
}

static void test_what_is_there_is_read(void **state) {
    char out[6];
    need_the_call();
    assert_true(peek(out, "there", sizeof out));
    assert_string_equal(out, "there");
}

static void test_what_is_not_there_costs_no_fault(void **state) {
    char out[8];
    assert_false(peek(out, NULL, sizeof out));
    assert_false(peek(out, (const void *)~(uintptr_t)0xff, sizeof out)); /* no address at all */
}

/* The last bytes before a page that nobody may read. */
static void test_all_of_it_must_be_there(void **state) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    need_the_call();
    char out[8],
        *two = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(two, MAP_FAILED);
    assert_int_equal(mprotect(two + page, page, PROT_NONE), 0);
    assert_true(peek(out, two + page - sizeof out, sizeof out));
    assert_false(peek(out, two + page - 4, sizeof out));
    assert_int_equal(munmap(two, 2 * page), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_there_is_read),
        cmocka_unit_test(test_what_is_not_there_costs_no_fault),
        cmocka_unit_test(test_all_of_it_must_be_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
