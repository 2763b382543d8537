/* Dynamic metadata: what is set is found, as it was set, whatever becomes of what it was set from. */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "config/wire_write.h"
#include "proxy/metadata_wire.h"

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
    struct metadata *of[2];
};

static void begin(struct story *s) {
    for (int i = 0; i < 2; i++) {
        s->of[i] = metadata_new();
        assert_non_null(s->of[i]);
    }
}

static void end(struct story *s) {
    for (int i = 0; i < 2; i++)
        metadata_unref(s->of[i]);
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

/* A filter in a loop: what it replaces is given back, what it adds comes to an end. */
static void there_is_an_end_to_it(void **state) {
    struct story s;
    begin(&s);
    static char large[METADATA_BYTES_MAX / 4];
    memset(large, 'x', sizeof large);
    struct span text = span_make(large, sizeof large);
    for (int i = 0; i < 20; i++)
        assert_int_equal(metadata_set_text(s.of[0], FILTER, SPAN_LIT("same"), text), 0);
    assert_int_equal(metadata_set_text(s.of[0], FILTER, SPAN_LIT("b"), text), 0);
    assert_int_equal(metadata_set_text(s.of[0], FILTER, SPAN_LIT("c"), text), 0);
    assert_int_equal(metadata_set_text(s.of[0], FILTER, SPAN_LIT("d"), text), -E2BIG);
    assert_null(find(s.of[0], "d"));
    assert_int_equal(metadata_set_text(s.of[0], FILTER, SPAN_LIT("c"), SPAN_LIT("small")), 0);
    assert_int_equal(metadata_set_text(s.of[0], FILTER, SPAN_LIT("d"), text), 0);
    end(&s);
}

static void *set_many(void *arg) {
    for (int i = 0; i < 200; i++) {
        char key[16];
        size_t len = (size_t)snprintf(key, sizeof key, "k%d", i % 40);
        if (metadata_set_text(arg, FILTER, span_make(key, len), span_make(key, len)) != 0)
            abort();
    }
    return NULL;
}

static void several_threads_set_and_look(void **state) {
    struct story s;
    begin(&s);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, set_many, s.of[0]), 0);
    for (int i = 0; i < 200; i++) {
        metadata_lock(s.of[0]);
        const struct cfg_value *value = find(s.of[0], "k7");
        if (value)
            assert_text(value, "k7");
        metadata_unlock(s.of[0]);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(metadata_find(s.of[0], FILTER, NULL, 0)->fields_count, 40);
    end(&s);
}

/* ---- on the wire ---- */

static struct cfg_value read_back(struct span wire, void **block) {
    struct cfg_value value;
    assert_int_equal(value_wire_read(wire, 1 << 16, &value, block), 0);
    return value;
}

static void a_namespace_comes_with_what_its_connection_says(void **state) {
    struct story s;
    begin(&s);
    struct cfg_buf wire = {0};
    assert_false(metadata_wire_space(s.of[0], NULL, FILTER, &wire));
    assert_int_equal(metadata_set_text(s.of[0], FILTER, SPAN_LIT("a"), SPAN_LIT("own")), 0);
    assert_int_equal(metadata_set_text(s.of[1], FILTER, SPAN_LIT("a"), SPAN_LIT("hidden")), 0);
    assert_int_equal(metadata_set_text(s.of[1], FILTER, SPAN_LIT("b"), SPAN_LIT("inherited")), 0);
    assert_true(metadata_wire_space(s.of[0], s.of[1], FILTER, &wire));
    static const char expected[] = "\n\n\n\1a\22\5\32\3own"
                                   "\n\20\n\1b\22\13\32\tinherited";
    assert_int_equal(wire.len, sizeof expected - 1);
    assert_memory_equal(wire.ptr, expected, wire.len);
    cfg_buf_fini(&wire);
    wire = (struct cfg_buf){0};
    metadata_wire_all(NULL, s.of[0], &wire);
    static const char all[] = "\n\30\n\10a.filter\22\14\n\n\n\1a\22\5\32\3own";
    assert_int_equal(wire.len, sizeof all - 1);
    assert_memory_equal(wire.ptr, all, wire.len);
    cfg_buf_fini(&wire);
    end(&s);
}

static void a_value_survives_the_wire(void **state) {
    struct cfg_value items[] = {{.kind = CFG_VALUE_NULL},
                                {.kind = CFG_VALUE_NUMBER, .number = -0.5},
                                {.kind = CFG_VALUE_BOOL, .boolean = true},
                                {.kind = CFG_VALUE_STRING, .string = SPAN_LIT("text")}};
    struct cfg_value_field fields[] = {
        {SPAN_LIT("list"), {.kind = CFG_VALUE_LIST, .items = items, .items_count = 4}},
        {SPAN_LIT("empty"), {.kind = CFG_VALUE_STRUCT}}};
    struct cfg_value value = {.kind = CFG_VALUE_STRUCT, .fields = fields, .fields_count = 2};
    struct cfg_buf wire = {0};
    void *block;
    value_wire_put(&wire, &value);
    struct cfg_value back = read_back(cfg_buf_view(&wire), &block);
    const struct cfg_value *list = metadata_field(&back, SPAN_LIT("list"));
    assert_non_null(list);
    assert_int_equal(list->items_count, 4);
    assert_int_equal(list->items[0].kind, CFG_VALUE_NULL);
    assert_true(list->items[1].number == -0.5);
    assert_true(list->items[2].boolean);
    assert_text(&list->items[3], "text");
    assert_int_equal(metadata_field(&back, SPAN_LIT("empty"))->fields_count, 0);
    free(block);
    /* Cut short anywhere it is read as less, or not at all; never beyond its end (which ASan sees). */
    for (size_t len = 0; len < wire.len; len++) {
        char *cut = malloc(len ? len : 1);
        assert_non_null(cut);
        memcpy(cut, wire.ptr, len);
        if (value_wire_read(span_make(cut, len), 1 << 16, &back, &block) == 0)
            free(block);
        free(cut);
    }
    assert_int_equal(value_wire_read(cfg_buf_view(&wire), 64, &back, &block), -E2BIG);
    cfg_buf_fini(&wire);
}

static void odd_wires(void **state) {
    struct cfg_value value;
    void *block;
    /* Nothing at all is null; the last of a oneof counts; so does the last of a key. */
    value = read_back(SPAN_LIT(""), &block);
    assert_int_equal(value.kind, CFG_VALUE_NULL);
    free(block);
    value = read_back(SPAN_LIT("\32\1a\40\1"), &block);
    assert_int_equal(value.kind, CFG_VALUE_BOOL);
    free(block);
    value = read_back(SPAN_LIT("\52\24\n\10\n\1k\22\3\32\1a\n\10\n\1k\22\3\32\1b"), &block);
    assert_int_equal(value.fields_count, 1);
    assert_text(&value.fields[0].value, "b");
    free(block);
    assert_int_equal(value_wire_read(SPAN_LIT("\32\1\377"), 99, &value, &block), -EINVAL);
    assert_int_equal(value_wire_read(SPAN_LIT("\32\5a"), 99, &value, &block), -EINVAL);
    assert_int_equal(value_wire_read(SPAN_LIT("\63\64"), 99, &value, &block), -EINVAL);
    /* Lists in lists, without end. */
    struct cfg_buf wire = {0}, outer;
    for (unsigned i = 0; i < VALUE_DEPTH_MAX + 1; i++) {
        outer = (struct cfg_buf){0};
        wire_put_tag(&outer, 6, WIRE_BYTES);
        size_t start = outer.len;
        wire_put_string(&outer, 1, cfg_buf_view(&wire));
        wire_put_length_before(&outer, start);
        cfg_buf_fini(&wire);
        wire = outer;
    }
    assert_int_equal(value_wire_read(cfg_buf_view(&wire), 1 << 20, &value, &block), -EINVAL);
    cfg_buf_fini(&wire);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_is_an_end_to_it),
        cmocka_unit_test(several_threads_set_and_look),
        cmocka_unit_test(a_namespace_comes_with_what_its_connection_says),
        cmocka_unit_test(a_value_survives_the_wire),
        cmocka_unit_test(odd_wires),
        cmocka_unit_test(what_is_set_is_found),
        cmocka_unit_test(there_may_be_many_keys),
        cmocka_unit_test(values_may_be_nested_but_not_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
