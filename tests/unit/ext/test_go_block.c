/* go_block.c: the memory of a request's block, which is another request's afterwards, and is given back by the thread
 * that is last. malloc is counted (-Wl,--wrap=malloc). */
#include <stdatomic.h>
#include <stdlib.h>

#include "../rt/rt_story.h"
#include "fake_go.h"

#include "ext/ext_handles.h"
#include "ext/go/go_block.h"

static _Atomic unsigned allocations;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
    atomic_fetch_add(&allocations, 1);
    return __real_malloc(size);
}

static struct go_block *begin(void) {
    struct go_block *block = go_block_new(fake_go.config.plugin, rt_p_index());
    CHECK(block);
    return block;
}

static void end(struct go_block *block) {
    (void)ext_stream_end(&block->stream);
    go_block_end(block, rt_p_index());
}

enum { TOGETHER = 300, REQUESTS = 50 };

static void reuse_story(void *arg) {
    end(begin());
    unsigned before = allocations;
    for (int i = 0; i < REQUESTS; i++)
        end(begin());
    CHECK(allocations == before);

    /* A burst: what it needed beyond 256 goes back to malloc. */
    static struct go_block *burst[TOGETHER];
    for (int i = 0; i < TOGETHER; i++)
        burst[i] = begin();
    CHECK(allocations == before + TOGETHER - 1);
    for (int i = 0; i < TOGETHER; i++)
        end(burst[i]);
    before = allocations;
    for (int i = 0; i < TOGETHER; i++)
        burst[i] = begin();
    CHECK(allocations == before + TOGETHER - 256);
    for (int i = 0; i < TOGETHER; i++)
        end(burst[i]);
    go_blocks_drop(rt_p_index());
    rt_stop(0);
}

static void a_block_is_the_next_requests(void **state) {
    story(1, reuse_story);
}

/* ---- a thread of Go's is last ---- */

static uint64_t leased;
static _Atomic bool is_back;

static void *comes_to_its_end(void *arg) {
    handle_release(&ext_handles, leased);
    is_back = true;
    return NULL;
}

static void return_story(void *arg) {
    struct go_block *block = begin();
    leased = block->lent->block;
    CHECK(handle_lease(&ext_handles, leased, go_block_key) == block);
    end(block);
    struct go_block *other = begin(); /* it is in use, by that call */
    CHECK(other != block);
    fake_goroutine(comes_to_its_end, NULL);
    STORY_AWAIT(is_back);
    unsigned before = allocations;
    struct go_block *again = begin();
    CHECK(again == block && allocations == before);
    CHECK(again->lent->block != leased); /* what Go has of the first opens nothing */
    CHECK(!handle_lease(&ext_handles, leased, go_block_key));
    end(again);
    end(other);
    go_blocks_drop(rt_p_index());
    rt_stop(0);
}

static void a_block_comes_back_from_any_thread(void **state) {
    story(1, return_story);
}

static int init(void **state) {
    fake_go_init();
    CHECK(stats_init(FAKE_PS) == 0);
    return go_lent_init();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_is_the_next_requests),
        cmocka_unit_test(a_block_comes_back_from_any_thread),
    };
    return cmocka_run_group_tests(tests, init, NULL);
}
