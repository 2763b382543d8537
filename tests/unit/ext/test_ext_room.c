/* ext_room.h: maps that foreign code was shown and did not look at yet, and a copy that fits into all of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ext/ext_room.h"

enum { MANY = 40 };

/* Entries of ten bytes, name and value. */
static struct header entries[MANY];

static struct ext_view of(uint32_t count) {
    for (uint32_t i = 0; i < MANY; i++) {
        entries[i].name_ptr = "name-";
        entries[i].name_len = 5;
        entries[i].value_ptr = "value";
        entries[i].value_len = 5;
    }
    return (struct ext_view){entries, count, (size_t)10 * count};
}

static void told(struct ext_room *room, uint32_t count, uint32_t expected, size_t bytes) {
    struct ext_view view = of(count);
    ext_room_tell(room, &view);
    assert_int_equal(room->count, expected);
    assert_int_equal(room->bytes, bytes);
    assert_in_range(room->count * 10, 0, room->bytes);
}

static void a_map_is_told_as_it_is(void **state) {
    struct ext_room room = {0};
    told(&room, 5, 5, 50 + EXT_ROOM_SPARE);
    ext_room_filled(&room);
    told(&room, 40, 40, 400 + EXT_ROOM_SPARE); /* what was asked for is no concern any more */
}

static void one_that_was_not_asked_for_may_be_meant(void **state) {
    struct ext_room room = {0};
    told(&room, 5, 5, 50 + EXT_ROOM_SPARE);
    told(&room, 12, 12, 50 + EXT_ROOM_SPARE); /* finds room in what is spare */
    told(&room, 40, 16,
         50 + EXT_ROOM_SPARE); /* and this no more: as many entries as everybody has */
    ext_room_filled(&room);
    ext_room_filled(&room);
    told(&room, 40, 16, 50 + EXT_ROOM_SPARE); /* one of the three is still to be asked for */
    ext_room_filled(&room);
    ext_room_filled(&room);
    told(&room, 40, 40, 400 + EXT_ROOM_SPARE);
}

static void bytes_bound_it_too(void **state) {
    struct ext_room room = {0};
    told(&room, 1, 1, 10 + EXT_ROOM_SPARE);
    struct ext_view view = of(3);
    entries[1].value_len = 300; /* does not fit; what is behind it neither, for the order's sake */
    view.bytes += 295;
    ext_room_tell(&room, &view);
    assert_int_equal(room.count, 1);
}

static void a_map_that_shrank_is_told_smaller(void **state) {
    struct ext_room room = {0};
    told(&room, 40, 40, 400 + EXT_ROOM_SPARE);
    told(&room, 2, 2, 20 + EXT_ROOM_SPARE);
    struct ext_view view = of(40);
    assert_int_equal(ext_room_fit(&room, &view), EXT_ROOM_ENTRIES);
}

static void one_that_is_not_there_is_nobodys(void **state) {
    struct ext_room room = {0};
    struct ext_view none = {0};
    ext_room_tell(&room, &none);
    assert_int_equal(room.count, 0);
    ext_room_filled(&room); /* asked for all the same */
    told(&room, 40, 40, 400 + EXT_ROOM_SPARE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_is_told_as_it_is),
        cmocka_unit_test(one_that_was_not_asked_for_may_be_meant),
        cmocka_unit_test(bytes_bound_it_too),
        cmocka_unit_test(a_map_that_shrank_is_told_smaller),
        cmocka_unit_test(one_that_is_not_there_is_nobodys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
