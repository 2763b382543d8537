/* XXH64: of lengths that take each of its parts, as the reference and Envoy have them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/xxhash.h"

static void test_values_are_those_of_others(void **state) {
    static const struct {
        const char *text;
        uint64_t hash;
    } known[] = {
        {"", 0xef46db3751d8e999},
        {"c1", 814672407442807801},
        {"c2", 17012810558893514520u},
        {"abc", 0x44bc2cf5ad770999},
        {"xxhash", 0x32dd38952c4bc720},
        {"Nobody inspects the spammish repetition", 0xfbcea83c8a378bf1},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        assert_true(xxhash64(span_of(known[i].text)) == known[i].hash);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values_are_those_of_others)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
