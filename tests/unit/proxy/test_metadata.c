/* Dynamic metadata: what is set is found, as it was set, whatever becomes of what it was set from. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "mem/arena.h"
#include "proxy/connection_info.h"
#include "proxy/metadata.h"

#define FILTER SPAN_LIT("a.filter")

static const struct cfg_value *find(const struct metadata *metadata, const char *key) {
    struct span keys[] = {span_of(key)};
    return metadata_find(metadata, FILTER, keys, 1);
}

static void assert_text(const struct cfg_value *value, const char *text) {
    assert_non_null(value);
    assert_int_equal(value->kind, CFG_VALUE_STRING);
    assert_true(span_eq(value->string, span_of(text)));
}

struct story {
    struct block_cache blocks;
    struct arena arena;
    struct connection_info *info;
    struct metadata *of[2]; /* an exchange's and a connection's */
};

static void begin(struct story *s) {
    block_cache_init(&s->blocks);
    arena_init(&s->arena, &s->blocks, 1 << 20);
    s->info = calloc(1, sizeof *s->info);
    assert_non_null(s->info);
    s->of[0] = metadata_in_arena(&s->arena);
    s->of[1] = metadata_of_connection(s->info);
}

static void end(struct story *s) {
    connection_info_free(s->info);
    arena_fini(&s->arena);
    block_cache_fini(&s->blocks);
}

static void what_is_set_is_found(void **state) {
    struct story s;
    begin(&s);
    for (int i = 0; i < 2; i++) {
        struct metadata *m = s.of[i];
        char text[] = "one";
        assert_null(find(NULL, "a"));
        assert_null(find(m, "a"));
        assert_int_equal(metadata_set_text(m, FILTER, SPAN_LIT("a"), span_of(text)), 0);
        assert_int_equal(metadata_set_text(m, FILTER, SPAN_LIT("b"), SPAN_LIT("")), 0);
        assert_int_equal(metadata_set_text(m, SPAN_LIT("another"), SPAN_LIT("a"), SPAN_LIT("x")),
                         0);
        memset(text, '!', sizeof text - 1);
        assert_text(find(m, "a"), "one");
        assert_text(find(m, "b"), "");
        assert_null(find(m, "c"));
        assert_int_equal(metadata_set_text(m, FILTER, SPAN_LIT("a"), SPAN_LIT("two")), 0);
        assert_text(find(m, "a"), "two");
        const struct cfg_value *all = metadata_find(m, FILTER, NULL, 0);
        assert_int_equal(all->kind, CFG_VALUE_STRUCT);
        assert_int_equal(all->fields_count, 2);
    }
    end(&s);
}

static void there_may_be_many_keys(void **state) {
    struct story s;
    begin(&s);
    for (unsigned n = 0; n < 100; n++) {
        char key[16];
        for (int i = 0; i < 2; i++) {
            size_t len = (size_t)snprintf(key, sizeof key, "k%u", n);
            struct span name = span_make(key, len);
            assert_int_equal(metadata_set_text(s.of[i], FILTER, name, name), 0);
        }
    }
    assert_text(find(s.of[0], "k0"), "k0");
    assert_text(find(s.of[1], "k99"), "k99");
    end(&s);
}

static void values_may_be_nested_but_not_without_end(void **state) {
    struct story s;
    begin(&s);
    struct cfg_value leaf = {.kind = CFG_VALUE_NUMBER, .number = 7};
    struct cfg_value levels[METADATA_DEPTH_MAX + 2];
    struct cfg_value_field fields[METADATA_DEPTH_MAX + 2];
    struct cfg_value *inner = &leaf;
    for (unsigned n = 0; n < METADATA_DEPTH_MAX + 1; n++) {
        fields[n] = (struct cfg_value_field){.key = SPAN_LIT("in"), .value = *inner};
        levels[n] =
            (struct cfg_value){.kind = CFG_VALUE_STRUCT, .fields = &fields[n], .fields_count = 1};
        inner = &levels[n];
    }
    assert_int_equal(metadata_set(s.of[0], FILTER, SPAN_LIT("deep"), inner), -EINVAL);
    assert_null(find(s.of[0], "deep"));
    struct cfg_value list = {.kind = CFG_VALUE_LIST, .items = &levels[1], .items_count = 1};
    assert_int_equal(metadata_set(s.of[0], FILTER, SPAN_LIT("list"), &list), 0);
    const struct cfg_value *found = find(s.of[0], "list");
    assert_int_equal(found->kind, CFG_VALUE_LIST);
    assert_int_equal(metadata_set(s.of[1], FILTER, SPAN_LIT("two"), &levels[1]), 0);
    struct span path[] = {SPAN_LIT("two"), SPAN_LIT("in"), SPAN_LIT("in")};
    found = metadata_find(s.of[1], FILTER, path, 3);
    assert_non_null(found);
    assert_true(found->number == 7);
    end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_set_is_found),
        cmocka_unit_test(there_may_be_many_keys),
        cmocka_unit_test(values_may_be_nested_but_not_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
