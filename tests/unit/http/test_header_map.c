#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "http/header_id.h"

struct fixture {
    struct block_cache cache;
    struct arena arena;
    struct header_map map;
};

static void setup(struct fixture *f) {
    block_cache_init(&f->cache);
    arena_init(&f->arena, &f->cache, 1 << 20);
    header_map_init(&f->map, &f->arena);
}

static void teardown(struct fixture *f) {
    arena_fini(&f->arena);
    block_cache_fini(&f->cache);
}

/* "name=value;..." after checking what the map says of itself. */
static void assert_map(const struct header_map *map, const char *expected) {
    char text[8192] = "", *at = text;
    uint64_t known = 0;
    size_t bytes = 0;
    for (uint32_t i = 0; i < map->count; i++) {
        const struct header *entry = &map->entries[i];
        at += sprintf(at, "%.*s=%.*s;", (int)entry->name_len, entry->name_ptr,
                      (int)entry->value_len, entry->value_ptr);
        assert_int_equal(entry->id, header_id_of(header_name(entry)));
        uint64_t bit = entry->id ? UINT64_C(1) << entry->id : 0;
        if (bit && !(known & bit)) { /* the first one is found at once */
            assert_int_equal(header_find(map, (enum header_id)entry->id, span_none(), 0), i);
            assert_ptr_equal(header_get(map, (enum header_id)entry->id).ptr, entry->value_ptr);
        }
        if (known & bit) { /* a second one, from anywhere behind the first */
            assert_true((map->repeated & bit) != 0);
            assert_int_equal(header_find(map, (enum header_id)entry->id, span_none(), i), i);
        }
        known |= bit;
        bytes += entry->name_len + entry->value_len;
    }
    assert_string_equal(text, expected);
    assert_int_equal(known, map->known);
    assert_int_equal(bytes, map->bytes);
}

#define NAME(text) HDR_OTHER, SPAN_LIT(text)

static void every_known_name_has_its_id(void **state) {
    for (unsigned id = 1; id < HDR_COUNT; id++) {
        struct span name = header_name_of((enum header_id)id);
        assert_int_equal(header_id_of(name), id);
        char copy[HEADER_NAME_BYTES + 1];
        memcpy(copy, name.ptr, name.len);
        copy[name.len] = 'x';
        assert_int_equal(header_id_of(span_make(copy, name.len + 1)), HDR_OTHER);
        assert_true(header_id_of(span_make(copy, name.len - 1)) != id);
        for (size_t i = 0; i < name.len; i++) {
            char was = copy[i];
            copy[i] = '_';
            assert_int_equal(header_id_of(span_make(copy, name.len)), HDR_OTHER);
            copy[i] = was;
        }
    }
    assert_int_equal(header_id_of(SPAN_LIT("")), HDR_OTHER);
    assert_int_equal(header_id_of(SPAN_LIT("Host")), HDR_OTHER);
    assert_int_equal(header_id_of(SPAN_LIT("a-name-that-is-longer-than-all-of-those-known")),
                     HDR_OTHER);
}

/* A collision costs every lookup of two names a second comparison: search for another multiplier. */
static void the_hash_is_perfect(void **state) {
    for (unsigned id = 1; id < HDR_COUNT; id++) {
        struct span name = header_name_of((enum header_id)id);
        unsigned slot = header_hash(name.ptr, name.len);
        if (header_slots[slot] != id)
            fail_msg("%.*s shares a slot with %s", (int)name.len, name.ptr,
                     header_names[header_slots[slot]].text);
    }
}

static void entries_keep_their_order(void **state) {
    struct fixture f;
    setup(&f);
    assert_int_equal(header_add(&f.map, NAME("b"), SPAN_LIT("1")), 0);
    assert_int_equal(header_add_id(&f.map, HDR_METHOD, SPAN_LIT("GET")), 0);
    assert_int_equal(header_add(&f.map, NAME("a"), SPAN_LIT("2")), 0);
    assert_int_equal(header_add(&f.map, NAME(":path"), SPAN_LIT("/")), 0);
    assert_int_equal(header_add(&f.map, NAME("b"), SPAN_LIT("3")), 0);
    assert_map(&f.map, ":method=GET;:path=/;b=1;a=2;b=3;");
    assert_int_equal(header_find(&f.map, NAME("b"), 0), 2);
    assert_int_equal(header_find(&f.map, NAME("b"), 3), 4);
    assert_int_equal(header_find(&f.map, NAME("b"), 5), -1);
    assert_true(span_eq(header_get(&f.map, HDR_PATH), SPAN_LIT("/")));
    assert_true(span_eq(header_get_name(&f.map, SPAN_LIT("a")), SPAN_LIT("2")));
    assert_true(span_is_none(header_get_name(&f.map, SPAN_LIT("c"))));
    assert_true(span_is_none(header_get(&f.map, HDR_DATE)));
    teardown(&f);
}

static void set_replaces_all_in_the_place_of_the_first(void **state) {
    struct fixture f;
    setup(&f);
    for (const char *c = "abcb"; *c; c++)
        assert_int_equal(header_add(&f.map, HDR_OTHER, span_make(c, 1), SPAN_LIT("1")), 0);
    assert_int_equal(header_set(&f.map, NAME("b"), SPAN_LIT("new")), 0);
    assert_map(&f.map, "a=1;b=new;c=1;");
    assert_int_equal(header_set_id(&f.map, HDR_DATE, SPAN_LIT("now")), 0);
    assert_int_equal(header_set(&f.map, NAME("date"), SPAN_LIT("then")), 0);
    assert_map(&f.map, "a=1;b=new;c=1;date=then;");
    teardown(&f);
}

static void append_joins(void **state) {
    struct fixture f;
    setup(&f);
    assert_int_equal(header_append(&f.map, NAME("via"), SPAN_LIT("a")), 0);
    assert_int_equal(header_append(&f.map, NAME("via"), SPAN_LIT("b")), 0);
    assert_int_equal(header_append(&f.map, NAME("cookie"), SPAN_LIT("c")), 0);
    assert_int_equal(header_append(&f.map, NAME("cookie"), SPAN_LIT("d")), 0);
    assert_map(&f.map, "via=a,b;cookie=c; d;");
    teardown(&f);
}

static void remove_takes_all_of_a_name(void **state) {
    struct fixture f;
    setup(&f);
    for (const char *c = "abcba"; *c; c++)
        assert_int_equal(header_add(&f.map, HDR_OTHER, span_make(c, 1), SPAN_LIT("1")), 0);
    assert_int_equal(header_add_id(&f.map, HDR_TE, SPAN_LIT("x")), 0);
    assert_int_equal(header_remove(&f.map, NAME("b")), 2);
    assert_int_equal(header_remove(&f.map, NAME("b")), 0);
    assert_map(&f.map, "a=1;c=1;a=1;te=x;");
    assert_int_equal(header_remove_id(&f.map, HDR_TE), 1);
    assert_false(header_has(&f.map, HDR_TE));
    assert_int_equal(header_remove_id(&f.map, HDR_TE), 0);
    assert_map(&f.map, "a=1;c=1;a=1;");
    teardown(&f);
}

static void host_of_a_request_is_its_authority(void **state) {
    struct fixture f;
    setup(&f);
    assert_int_equal(header_add(&f.map, NAME("host"), SPAN_LIT("a")), 0);
    assert_map(&f.map, "host=a;"); /* a response may have one */
    header_remove(&f.map, NAME("host"));
    assert_int_equal(header_add_id(&f.map, HDR_METHOD, SPAN_LIT("GET")), 0);
    assert_int_equal(header_set(&f.map, NAME("host"), SPAN_LIT("b")), 0);
    assert_true(span_eq(header_get(&f.map, HDR_HOST), SPAN_LIT("b")));
    assert_map(&f.map, ":method=GET;:authority=b;");
    assert_int_equal(header_remove(&f.map, NAME("host")), 1);
    assert_map(&f.map, ":method=GET;");
    teardown(&f);
}

static void what_may_not_go_on_the_wire_does_not_enter(void **state) {
    static const struct {
        struct span name, value;
    } rows[] = {
        {SPAN_INIT("a"), SPAN_INIT("b\r\nc: d")},  {SPAN_INIT("a"), SPAN_INIT("b\nc")},
        {SPAN_INIT("a"), SPAN_INIT("b\0c")},       {SPAN_INIT("a"), SPAN_INIT("\x7f")},
        {SPAN_INIT(""), SPAN_INIT("b")},           {SPAN_INIT("a b"), SPAN_INIT("c")},
        {SPAN_INIT("a:"), SPAN_INIT("c")},         {SPAN_INIT("A"), SPAN_INIT("c")},
        {SPAN_INIT(":other"), SPAN_INIT("c")},     {SPAN_INIT("a\r\nb"), SPAN_INIT("c")},
        {SPAN_INIT(":path"), SPAN_INIT("/a b")},   {SPAN_INIT(":path"), SPAN_INIT("")},
        {SPAN_INIT(":path"), SPAN_INIT("/\tb")},   {SPAN_INIT(":method"), SPAN_INIT("G T")},
        {SPAN_INIT(":method"), SPAN_INIT("")},     {SPAN_INIT(":authority"), SPAN_INIT("a b")},
        {SPAN_INIT(":status"), SPAN_INIT("2000")}, {SPAN_INIT(":status"), SPAN_INIT("2x0")},
        {SPAN_INIT(":status"), SPAN_INIT("099")},
    };
    struct fixture f;
    setup(&f);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(header_add(&f.map, HDR_OTHER, rows[i].name, rows[i].value), -EINVAL);
        assert_int_equal(header_set(&f.map, HDR_OTHER, rows[i].name, rows[i].value), -EINVAL);
        assert_int_equal(header_append(&f.map, HDR_OTHER, rows[i].name, rows[i].value), -EINVAL);
    }
    assert_map(&f.map, "");
    assert_int_equal(header_add(&f.map, NAME("!#$%&'*+-.^_`|~09az"), SPAN_LIT("\t\xff~ ")), 0);
    assert_int_equal(header_add(&f.map, NAME("empty"), span_none()), 0);
    assert_int_equal(f.map.count, 2);
    teardown(&f);
}

static void growth_and_its_limits(void **state) {
    struct fixture f;
    setup(&f);
    for (int i = 0; i < HEADER_COUNT_MAX; i++)
        assert_int_equal(header_add(&f.map, NAME("a"), SPAN_LIT("b")), 0);
    assert_int_equal(header_add(&f.map, NAME("a"), SPAN_LIT("b")), -E2BIG);
    assert_int_equal(f.map.count, HEADER_COUNT_MAX);
    assert_int_equal(header_remove(&f.map, NAME("a")), HEADER_COUNT_MAX);
    teardown(&f);

    setup(&f);
    f.arena.limit_bytes = 2000;
    int rc = 0, count = 0;
    while ((rc = header_add(&f.map, NAME("a"), SPAN_LIT("b"))) == 0)
        count++;
    assert_int_equal(rc, -ENOMEM);
    assert_int_equal(f.map.count, count);
    assert_int_equal(header_append(&f.map, NAME("a"), SPAN_LIT("c")), 0);
    teardown(&f);
}

/* `first` is a byte: what stands behind its reach is found all the same. */
static void known_names_are_found_however_far_behind(void **state) {
    struct fixture f;
    setup(&f);
    for (int i = 0; i < 300; i++) {
        if (i == 254)
            assert_int_equal(header_add_id(&f.map, HDR_ETAG, SPAN_LIT("254")), 0);
        if (i == 280)
            assert_int_equal(header_add_id(&f.map, HDR_DATE, SPAN_LIT("281")), 0);
        assert_int_equal(header_add(&f.map, NAME("a"), SPAN_LIT("b")), 0);
    }
    assert_int_equal(header_add_id(&f.map, HDR_DATE, SPAN_LIT("302")), 0);
    assert_int_equal(header_find(&f.map, HDR_ETAG, span_none(), 0), 254);
    assert_int_equal(header_find(&f.map, HDR_DATE, span_none(), 0), 281);
    assert_int_equal(header_find(&f.map, HDR_DATE, span_none(), 282), 302);
    assert_true(span_eq(header_get(&f.map, HDR_DATE), SPAN_LIT("281")));
    assert_int_equal(header_remove_id(&f.map, HDR_ETAG), 1);
    assert_int_equal(header_find(&f.map, HDR_DATE, span_none(), 0), 280);
    assert_int_equal(header_set_id(&f.map, HDR_DATE, SPAN_LIT("new")), 0);
    assert_true(span_eq(header_get(&f.map, HDR_DATE), SPAN_LIT("new")));
    assert_int_equal(header_find(&f.map, HDR_DATE, span_none(), 281), -1);
    assert_int_equal(header_remove(&f.map, NAME("a")), 300);
    assert_map(&f.map, "date=new;");
    teardown(&f);
}

/* A long random life against the simplest model there is: what assert_map finds by walking. */
static void the_index_follows_every_change(void **state) {
    static const enum header_id ids[] = {HDR_METHOD, HDR_PATH, HDR_AUTHORITY, HDR_COOKIE,
                                         HDR_DATE,   HDR_VIA,  HDR_ETAG,      HDR_TE};
    struct fixture f;
    uint32_t seed = 1;
    for (int life = 0; life < 50; life++) {
        setup(&f);
        for (int step = 0; step < 60; step++) {
            seed = seed * 1664525 + 1013904223;
            enum header_id id = ids[(seed >> 8) % (sizeof ids / sizeof *ids)];
            struct span value = SPAN_LIT("GET");
            switch (seed >> 24 & 7) {
            case 0:
                (void)header_remove_id(&f.map, id);
                assert_true(span_is_none(header_get(&f.map, id)));
                break;
            case 1:
                assert_int_equal(header_set_id(&f.map, id, value), 0);
                assert_true(span_eq(header_get(&f.map, id), value));
                break;
            case 2:
                assert_int_equal(header_append(&f.map, id, span_none(), value), 0);
                break;
            case 3:
                assert_int_equal(header_add(&f.map, NAME("x-other"), value), 0);
                break;
            case 4:
                (void)header_remove(&f.map, NAME("x-other"));
                break;
            default:
                assert_int_equal(header_add_id(&f.map, id, value), 0);
            }
            char text[8192] = "", *at = text;
            bool fields = false;
            for (uint32_t i = 0; i < f.map.count; i++) {
                struct span name = header_name(&f.map.entries[i]);
                assert_true(name.ptr[0] != ':' || !fields); /* I1 */
                fields |= name.ptr[0] != ':';
                at += sprintf(at, "%.*s=%.*s;", (int)name.len, name.ptr,
                              (int)f.map.entries[i].value_len, f.map.entries[i].value_ptr);
            }
            assert_map(&f.map, text);
        }
        teardown(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_known_name_has_its_id),
        cmocka_unit_test(the_hash_is_perfect),
        cmocka_unit_test(entries_keep_their_order),
        cmocka_unit_test(set_replaces_all_in_the_place_of_the_first),
        cmocka_unit_test(append_joins),
        cmocka_unit_test(remove_takes_all_of_a_name),
        cmocka_unit_test(host_of_a_request_is_its_authority),
        cmocka_unit_test(what_may_not_go_on_the_wire_does_not_enter),
        cmocka_unit_test(growth_and_its_limits),
        cmocka_unit_test(known_names_are_found_however_far_behind),
        cmocka_unit_test(the_index_follows_every_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
