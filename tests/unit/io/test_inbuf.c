/* inbuf.c: where bytes lie as they come, are used and outgrow their memory. */
#include "io/inbuf.h"
#include "io_story.h"

enum { ARENA_LIMIT = 1 << 20, HEAD_LIMIT = 60000 };

static struct inbuf in;
static struct arena arena;

static void begin(void) {
    inbuf_init(&in, rt_blocks());
    arena_init(&arena, rt_blocks(), ARENA_LIMIT);
}

static void end(void) {
    inbuf_drop(&in);
    arena_fini(&arena);
    CHECK(blocks_in_use() == 0);
    CHECK(inbuf_pinned(&in) == 0);
    rt_stop(0);
}

static uint32_t put, used; /* bytes of a sequence that repeats every 251 */

/* As a receive does it: n bytes, or what there is room for. */
static size_t add(size_t n) {
    int room = inbuf_room(&in);
    CHECK(room > 0);
    if (n > (size_t)room)
        n = (size_t)room;
    for (size_t i = 0; i < n; i++)
        in.data[in.end++] = (char)(put++ % 251);
    return n;
}

static void use(size_t n) {
    struct span bytes = inbuf_bytes(&in);
    CHECK(n <= bytes.len);
    for (size_t i = 0; i < n; i++)
        CHECK(bytes.ptr[i] == (char)(used++ % 251));
    inbuf_consume(&in, n);
}

static void any_order_story(void *arg) {
    begin();
    uint64_t seed = 3;
    for (int i = 0; i < 20000; i++) {
        size_t n = next_random(&seed) % (next_random(&seed) % 2 ? 100 : 9000);
        if (inbuf_len(&in) < BLOCK_DATA_SIZE && next_random(&seed) % 2)
            add(n);
        else
            use(n < inbuf_len(&in) ? n : inbuf_len(&in));
        CHECK(inbuf_pinned(&in) == (in.data ? BLOCK_SIZE : 0));
        CHECK(blocks_in_use() == (in.data != NULL));
        if (next_random(&seed) % 8 == 0)
            inbuf_idle(&in);
    }
    end();
}

static void bytes_come_out_as_they_went_in(void **state) {
    story(1, any_order_story);
}

/* There is room for a whole block of unused bytes, wherever in it the first one lay. */
static void whole_block_story(void *arg) {
    begin();
    while (inbuf_len(&in) < BLOCK_DATA_SIZE)
        add(777);
    CHECK(inbuf_room(&in) == -EMSGSIZE);
    use(1);
    CHECK(inbuf_room(&in) == 1);
    use(BLOCK_DATA_SIZE - 1);
    CHECK(inbuf_room(&in) == BLOCK_DATA_SIZE);
    end();
}

static void a_block_can_be_filled_to_the_last_byte(void **state) {
    story(1, whole_block_story);
}

/* Who took a lease still sees the bytes, whatever comes behind them. */
static void hold_story(void *arg) {
    begin();
    add(5000);
    struct span head = span_make(inbuf_bytes(&in).ptr, 3000);
    CHECK(inbuf_hold(&in, &arena) == 0);
    use(3000);
    for (int i = 0; i < 30; i++) {
        add(9000);
        use(inbuf_len(&in));
    }
    for (size_t i = 0; i < head.len; i++)
        CHECK(head.ptr[i] == (char)(i % 251));
    CHECK(blocks_in_use() == 2);
    end();
}

static void leased_bytes_stay(void **state) {
    story(1, hold_story);
}

/* A head above a block goes on in the arena, in steps; what is behind it goes back to a block. */
static void large_head_story(void *arg) {
    begin();
    size_t head = 0;
    while (head < HEAD_LIMIT) {
        CHECK(inbuf_head_room(&in, &arena, HEAD_LIMIT));
        head += add(SIZE_MAX);
        CHECK(head <= BLOCK_DATA_SIZE || !in.block);
    }
    CHECK(inbuf_pinned(&in) >= HEAD_LIMIT);
    CHECK(head < HEAD_LIMIT + 8 * 1024 + 1);
    CHECK(inbuf_hold(&in, &arena) == 0); /* it is the arena's anyway */
    use(HEAD_LIMIT);
    CHECK(inbuf_leave_arena(&in) == 0);
    CHECK(!in.data || in.block);
    use(inbuf_len(&in));
    add(100);
    use(100);
    end();
}

static void a_large_head_moves_to_the_arena_and_back(void **state) {
    story(1, large_head_story);
}

/* Bytes that somebody kept are lent to a buffer; what comes when they are used up goes into a block. */
static void lent_story(void *arg) {
    static char lent[] = "kept";
    begin();
    in.data = lent;
    in.end = in.cap = 4;
    CHECK(inbuf_room(&in) == -EMSGSIZE);
    inbuf_consume(&in, 4);
    CHECK(inbuf_room(&in) > BLOCK_DATA_SIZE / 2);
    CHECK(in.block);
    end();
}

static void lent_memory_is_left_when_it_is_used_up(void **state) {
    story(1, lent_story);
}

static void too_large_story(void *arg) {
    begin();
    while (inbuf_head_room(&in, &arena, HEAD_LIMIT))
        add(SIZE_MAX);
    CHECK(inbuf_len(&in) == HEAD_LIMIT + 8 * 1024);
    CHECK(inbuf_leave_arena(&in) == -EMSGSIZE); /* more than a block: dropped */
    CHECK(inbuf_pinned(&in) == 0);

    put = used = 0;
    while (inbuf_head_room(&in, &arena, HEAD_LIMIT))
        add(SIZE_MAX);
    use(inbuf_len(&in));
    CHECK(inbuf_leave_arena(&in) == 0);
    CHECK(inbuf_pinned(&in) == 0);
    end();
}

static void a_head_has_a_limit(void **state) {
    story(1, too_large_story);
}

static bool no_blocks;
struct block *__real_block_get(struct block_cache *cache);
struct block *__wrap_block_get(struct block_cache *cache);
struct block *__wrap_block_get(struct block_cache *cache) {
    return no_blocks ? NULL : __real_block_get(cache);
}

static void shortage_story(void *arg) {
    begin();
    no_blocks = true;
    CHECK(inbuf_room(&in) == -ENOMEM);
    CHECK(inbuf_pinned(&in) == 0);
    no_blocks = false;
    add(SIZE_MAX);
    use(15000 - 4096);
    no_blocks = true; /* a small tail, and no fresh block for what is unused: nothing is lost */
    int room = inbuf_room(&in);
    CHECK(room == -ENOMEM || room > 0);
    CHECK(inbuf_hold(&in, &arena) == 0); /* the first two leases need no memory */
    no_blocks = false;
    use(inbuf_len(&in));
    end();
}

static void without_a_block_nothing_is_lost(void **state) {
    story(1, shortage_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_out_as_they_went_in),
        cmocka_unit_test(a_block_can_be_filled_to_the_last_byte),
        cmocka_unit_test(leased_bytes_stay),
        cmocka_unit_test(lent_memory_is_left_when_it_is_used_up),
        cmocka_unit_test(a_large_head_moves_to_the_arena_and_back),
        cmocka_unit_test(a_head_has_a_limit),
        cmocka_unit_test(without_a_block_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
