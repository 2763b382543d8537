/* go_lent.c and the gates: what becomes of an address or a handle that Go should not have used, and of what
 * it gives back early, late or twice. */
#include <errno.h>

#include "ext/ext_handles.h"
#include "fake_exchange.h"
#include "fake_go.h"

static struct fake_exchange *fake;
static void *self;

static void begin_with(const char *const *pieces) {
    fake = fake_new(&fake_go.filter, pieces, false);
    self = fake->factory.itab->create(&fake->x, &fake->factory);
    CHECK(self);
}

static void run_request(void) {
    fake->factory.itab->request(&fake->x, self);
}

static void end_exchange(void) {
    fake->factory.itab->log(&fake->x, self, FILTER_LOG_END);
    fake->factory.itab->destroy(&fake->x, self);
    fake_free(fake);
}

static int clear_route(void *request) {
    return envoyGoFilterHttpClearRouteCache(request, false);
}

static int get(void *state, uint64_t *value, int *len) {
    return envoyGoFilterHttpGetHeader(state, (void *)(uintptr_t) "x-a", 3, value, len);
}

static int64_t stale(void) {
    return stat_value(go_stats.stale_handles);
}

static void all_calls_say_gone(void *state, void *request) {
    uint64_t value;
    int len;
    int64_t before = stale();
    CHECK(get(state, &value, &len) == GO_FILTER_IS_GONE);
    CHECK(envoyGoFilterHttpContinue(state, GO_CONTINUE) == GO_FILTER_IS_GONE);
    CHECK(envoyGoFilterHttpSendLocalReply(state, 200, NULL, 0, NULL, 0, 0, NULL, 0) ==
          GO_FILTER_IS_GONE);
    CHECK(envoyGoFilterHttpSendPanicReply(state, NULL, 0) == GO_FILTER_IS_GONE);
    CHECK(envoyGoFilterHttpGetBuffer(state, 1, NULL) == GO_FILTER_IS_GONE);
    CHECK(clear_route(request) == GO_FILTER_IS_GONE);
    CHECK(envoyGoFilterHttpGetStringValue(request, 1, &value, &len) == GO_FILTER_IS_GONE);
    CHECK(stale() == before + 7);
}

/* ---- addresses ---- */

static uint64_t uses_wrong_addresses(struct go_process_state *state, uint64_t end, uint64_t count,
                                     uint64_t bytes) {
    struct go_lent copy = *(struct go_lent *)state->req;
    struct go_lent *lent = (struct go_lent *)state->req;
    all_calls_say_gone(&copy.states[0], &copy.request);      /* looks right, is elsewhere */
    all_calls_say_gone(state->req, state);                   /* each in the other's place */
    all_calls_say_gone((char *)state + 8, (char *)lent + 1); /* inside */
    all_calls_say_gone(lent + 1, lent + 1);                  /* where the next one will be */
    all_calls_say_gone((void *)1, (void *)UINTPTR_MAX);
    all_calls_say_gone(go_lent_configs.memory, go_lent_configs.memory);
    int64_t before = stale();
    envoyGoFilterHttpFinalize(&copy, 0);
    envoyGoFilterHttpFinalize(state, 0);
    envoyGoFilterHttpFinalize(NULL, 0);
    envoyGoConfigHttpFinalize(state->req);
    CHECK(stale() == before + 4);
    CHECK(clear_route(state->req) == GO_OK); /* and the right one is as it was */
    return GO_CONTINUE;
}

static void addresses_story(void *arg) {
    fake_go_init();
    fake_go.header = uses_wrong_addresses;
    begin_with(NULL);
    run_request();
    CHECK(fake_go.headers == 1);
    end_exchange();
    CHECK(stat_value(go_stats.unfinalized) == 0);
    rt_stop(0);
}

static void addresses_that_go_was_not_lent_get_a_code(void **state) {
    story(1, addresses_story);
}

/* ---- giving back ---- */

static struct go_lent *kept;
static uint64_t kept_value;
static int kept_len;

static uint64_t keeps_a_value(struct go_process_state *state, uint64_t end, uint64_t count,
                              uint64_t bytes) {
    kept = (struct go_lent *)state->req;
    CHECK(get(state, &kept_value, &kept_len) == GO_OK);
    return GO_CONTINUE;
}

static void stays_with_go(struct go_request *request, uint64_t reason) {}

/* The exchange died first: what Go has is good until it gives it back, which counts once. */
static void late_story(void *arg) {
    fake_go_init();
    fake_go.header = keeps_a_value;
    fake_go.destroy = stays_with_go;
    begin_with(NULL);
    run_request();
    end_exchange();
    CHECK(stat_value(go_stats.unfinalized) == 1);
    CHECK(handle_count(&ext_handles) == 0); /* the stream itself is gone */
    CHECK(kept_len == 3 && memcmp((void *)(uintptr_t)kept_value, "one", 3) == 0);
    CHECK(clear_route(&kept->request) == GO_NOT_IN_GO);
    CHECK(stale() == 0); /* late, but it has what it uses */

    envoyGoFilterHttpFinalize(kept, 0);
    CHECK(stat_value(go_stats.unfinalized) == 0);
    CHECK(stale() == 0);
    envoyGoFilterHttpFinalize(kept, 0);
    envoyGoFilterHttpFinalize(kept, 0);
    CHECK(stale() == 2);
    CHECK(stat_value(go_stats.unfinalized) == 0);
    all_calls_say_gone(&kept->states[0], &kept->request);

    /* The address is not given to the next request, nor to many after it. */
    for (int i = 0; i < 60; i++) {
        struct go_lent *before = kept;
        begin_with(NULL);
        run_request();
        CHECK(kept != before);
        end_exchange();
        envoyGoFilterHttpFinalize(kept, 0);
    }
    CHECK(stat_value(go_stats.unfinalized) == 0);
    rt_stop(0);
}

static void what_go_gives_back_late_ends_once(void **state) {
    story(1, late_story);
}

static uint64_t replies(struct go_process_state *state, uint64_t end, uint64_t count,
                        uint64_t bytes) {
    kept = (struct go_lent *)state->req;
    CHECK(envoyGoFilterHttpSendLocalReply(state, 403, NULL, 0, NULL, 0, 0, NULL, 0) == GO_OK);
    return GO_LOCAL_REPLY;
}

/* A plugin cannot know how far its reply is, so what it decides after it is void and no error, also when
 * there is nothing left to decide about. */
static void replied_story(void *arg) {
    fake_go_init();
    fake_go.header = replies;
    fake_go.destroy = stays_with_go;
    begin_with(NULL);
    run_request();
    CHECK(fake->reply_status == 403);
    end_exchange();
    void *request_side = &kept->states[0], *response_side = &kept->states[1];
    CHECK(envoyGoFilterHttpContinue(request_side, GO_CONTINUE) == GO_OK);
    CHECK(envoyGoFilterHttpSendLocalReply(request_side, 404, NULL, 0, NULL, 0, 0, NULL, 0) ==
          GO_OK);
    CHECK(envoyGoFilterHttpSendPanicReply(request_side, NULL, 0) == GO_OK);
    CHECK(envoyGoFilterHttpContinue(response_side, GO_CONTINUE) == GO_NOT_IN_GO);
    CHECK(get(request_side, &kept_value, &kept_len) == GO_NOT_IN_GO);
    envoyGoFilterHttpFinalize(kept, 0);
    CHECK(stat_value(go_stats.unfinalized) == 0);
    rt_stop(0);
}

static void a_reply_is_remembered_after_the_exchange(void **state) {
    story(1, replied_story);
}

/* A library that is wrong about its own references, in the middle of a request. */
static uint64_t gives_back_early(struct go_process_state *state, uint64_t end, uint64_t count,
                                 uint64_t bytes) {
    CHECK(clear_route(state->req) == GO_OK);
    envoyGoFilterHttpFinalize(state->req, 0);
    all_calls_say_gone(state, state->req); /* the exchange has it still, so we may look */
    CHECK(stat_value(go_stats.unfinalized) == 1);
    return GO_CONTINUE;
}

static void early_story(void *arg) {
    fake_go_init();
    fake_go.header = gives_back_early;
    fake_go.destroy = stays_with_go;
    begin_with((const char *const[]){"ab", NULL});
    run_request();
    struct span chunk;
    CHECK(reader_next(fake->x.request.body, 10, &chunk) == 2);
    end_exchange();
    CHECK(fake_go.destroys == 1);
    CHECK(stat_value(go_stats.unfinalized) == 0);
    rt_stop(0);
}

static void what_go_gives_back_early_stays_for_the_exchange(void **state) {
    story(1, early_story);
}

/* The SDK's finalizers run one after the other on one goroutine, and envoyGoFilterCleanUp waits for them. So Finalize must
 * not wait for who is at work on the stream. Here that is its own thread, so to wait would be for ever. */
static uint64_t gives_back_under_the_lock(struct go_process_state *state, uint64_t end,
                                          uint64_t count, uint64_t bytes) {
    struct ext_stream *stream = &((struct go_filter *)self)->block->stream;
    ext_lock(stream);
    envoyGoFilterHttpFinalize(state->req, 0);
    ext_unlock(stream);
    return GO_CONTINUE;
}

static void collected_at_work_story(void *arg) {
    fake_go_init();
    fake_go.header = gives_back_under_the_lock;
    fake_go.destroy = stays_with_go;
    begin_with(NULL);
    run_request();
    end_exchange();
    CHECK(stat_value(go_stats.unfinalized) == 0);
    rt_stop(0);
}

static void what_go_gives_back_waits_for_nobody(void **state) {
    story(1, collected_at_work_story);
}

/* ---- a collector that comes while a last call is at work ---- */

enum { ROUNDS = 300 };
static pthread_barrier_t gate;
static _Atomic bool done;
static _Atomic unsigned answered, gone;

static void *calls_last(void *arg) {
    for (;;) {
        (void)pthread_barrier_wait(&gate);
        if (done)
            return NULL;
        int code = clear_route(&kept->request);
        CHECK(code == GO_NOT_IN_GO || code == GO_FILTER_IS_GONE);
        atomic_fetch_add(code == GO_FILTER_IS_GONE ? &gone : &answered, 1);
        (void)pthread_barrier_wait(&gate);
    }
}

static void *collects(void *arg) {
    for (;;) {
        (void)pthread_barrier_wait(&gate);
        if (done)
            return NULL;
        envoyGoFilterHttpFinalize(kept, 0);
        (void)pthread_barrier_wait(&gate);
    }
}

static void meet(void *arg) {
    (void)pthread_barrier_wait(&gate);
}

static void collector_story(void *arg) {
    fake_go_init();
    fake_go.header = keeps_a_value;
    fake_go.destroy = stays_with_go;
    CHECK(pthread_barrier_init(&gate, NULL, 3) == 0);
    fake_goroutine(calls_last, NULL);
    fake_goroutine(collects, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        begin_with(NULL);
        run_request();
        end_exchange();
        meet(NULL);
        meet(NULL);
        CHECK(stat_value(go_stats.unfinalized) == 0);
    }
    CHECK(answered + gone == ROUNDS);
    done = true;
    meet(NULL);
    rt_stop(0);
}

static void a_request_is_collected_during_its_last_call(void **state) {
    story(1, collector_story);
}

/* ---- handles of bodies ---- */

static uint64_t others_handle;
static struct go_process_state *others_state;

static uint64_t keeps_its_chunk(struct go_process_state *state, uint64_t end, uint64_t handle,
                                uint64_t len) {
    char room[16];
    CHECK(envoyGoFilterHttpGetBuffer(state, handle, room) == GO_OK);
    others_handle = handle;
    others_state = state;
    return GO_STOP_AND_BUFFER_WATERMARK;
}

static uint64_t keeps_headers(struct go_process_state *state, uint64_t end, uint64_t count,
                              uint64_t bytes) {
    return GO_CONTINUE;
}

static uint64_t uses_wrong_handles(struct go_process_state *state, uint64_t end, uint64_t handle,
                                   uint64_t len) {
    static uint64_t first;
    char room[16];
    if (len == 0)
        return GO_CONTINUE;
    CHECK(handle != 0 && handle != others_handle);
    CHECK(envoyGoFilterHttpGetBuffer(state, handle, room) == GO_OK);
    CHECK(memcmp(room, first ? "second" : "first", len) == 0);
    int64_t before = stale();
    unsigned wrong = 0;
    for (uint64_t guess = 0; guess < 20; guess++, wrong++)
        CHECK(envoyGoFilterHttpDrainBuffer(state, guess, 1) == GO_INVALID_PHASE);
    /* Alive, and another request's. */
    CHECK(envoyGoFilterHttpDrainBuffer(state, others_handle, 1) == GO_INVALID_PHASE);
    CHECK(envoyGoFilterHttpGetBuffer(state, others_handle, room) == GO_INVALID_PHASE);
    /* The stream's own handle, which is no buffer's. */
    CHECK(envoyGoFilterHttpGetBuffer(state, ((struct go_lent *)state->req)->block, room) ==
          GO_INVALID_PHASE);
    wrong += 3;
    if (first) {
        CHECK(envoyGoFilterHttpSetBufferHelper(state, first, room, 1, GO_BUFFER_APPEND) ==
              GO_INVALID_PHASE);
        wrong++;
    }
    CHECK(stale() == before + wrong);
    first = handle;
    return GO_CONTINUE;
}

static void handles_story(void *arg) {
    fake_go_init();
    fake_go.data = keeps_its_chunk;
    fake_go.header = keeps_headers;
    begin_with((const char *const[]){"other", NULL});
    run_request();
    struct span chunk;
    struct fake_exchange *other = fake;
    void *other_self = self;
    CHECK(reader_next(fake->x.request.body, 10, &chunk) < 0); /* its end was kept too: 500 */
    CHECK(fake->reply_status == 500);
    CHECK(envoyGoFilterHttpGetBuffer(others_state, others_handle, NULL) == GO_NOT_IN_GO);

    fake_go.data = uses_wrong_handles;
    begin_with((const char *const[]){"first", "second", NULL});
    run_request();
    CHECK(reader_next(fake->x.request.body, 10, &chunk) == 5);
    CHECK(reader_next(fake->x.request.body, 10, &chunk) == 6);
    CHECK(reader_next(fake->x.request.body, 10, &chunk) == 0);
    end_exchange();
    fake = other;
    self = other_self;
    end_exchange();
    CHECK(handle_count(&ext_handles) == 0);
    rt_stop(0);
}

static void a_chunk_is_opened_by_its_own_handle_while_it_is_shown(void **state) {
    story(1, handles_story);
}

/* ---- configurations ---- */

static void config_story(void *arg) {
    struct loan loan = loan_new(&go_lent_configs, STATS_SHARD_FOREIGN);
    loan_lend(&go_lent_configs, loan);
    void *config = loan.memory;
    uint32_t id;
    CHECK(envoyGoFilterHttpDefineMetric(config, 0, NULL, 0, &id) == GO_INTERNAL_FAILURE);
    envoyGoConfigHttpFinalize(config); /* before New returned, as Go does */
    CHECK(stale() == 0);
    CHECK(loan_count(&go_lent_configs) == 1);
    loan_let_go(&go_lent_configs, loan);
    CHECK(loan_count(&go_lent_configs) == 0);
    uint64_t value;
    CHECK(envoyGoFilterHttpDefineMetric(config, 0, NULL, 0, &id) == GO_FILTER_IS_GONE);
    CHECK(envoyGoFilterHttpIncrementMetric(config, 1, 1) == GO_FILTER_IS_GONE);
    CHECK(envoyGoFilterHttpGetMetric(NULL, 1, &value) == GO_FILTER_IS_GONE);
    CHECK(envoyGoFilterHttpRecordMetric(&id, 1, 1) == GO_FILTER_IS_GONE);
    CHECK(stale() == 4);
    envoyGoConfigHttpFinalize(config);
    CHECK(stale() == 5);
    rt_stop(0);
}

static void a_configuration_is_given_back_once(void **state) {
    story(1, config_story);
}

/* ---- what belongs to a P ---- */

struct lent_block {
    struct rt_post post;
    unsigned home;
    struct block *block;
};
static struct loan_pool blocks;
static _Atomic unsigned blocks_home;

static void comes_home(struct rt_post *post) {
    struct lent_block *lent = container_of(post, struct lent_block, post);
    CHECK(rt_p_index() == lent->home);
    block_put(rt_blocks(), lent->block);
    free(lent);
    atomic_fetch_add(&blocks_home, 1);
}

/* On the callee's thread: the lease's count is the P's, so it goes there. */
static void goes_home(void *memory) {
    struct lent_block *lent = *(struct lent_block **)memory;
    rt_post(lent->home, &lent->post);
}

static void *releases_late(void *arg) {
    struct lent_block *lent = *(struct lent_block **)arg;
    CHECK(memcmp(lent->block->data, "lent", 4) == 0);
    CHECK(loan_release(&blocks, arg) == 0);
    CHECK(loan_release(&blocks, arg) == -ESTALE);
    return NULL;
}

static void home_story(void *arg) {
    static const struct loan_kind kind = {
        .size = sizeof(struct lent_block *), .max = 8, .finalize = goes_home};
    CHECK(loan_pool_init(&blocks, &kind) == 0);
    uint64_t in_use = rt_blocks()->in_use;
    struct lent_block *lent = calloc(1, sizeof(*lent));
    struct block *block = block_get(rt_blocks());
    CHECK(lent && block);
    memcpy(block->data, "lent", 4);
    *lent = (struct lent_block){{.fn = comes_home}, rt_p_index(), block_lease(block)};
    struct loan loan = loan_new(&blocks, rt_p_index());
    *(struct lent_block **)loan.memory = lent;
    loan_lend(&blocks, loan);
    fake_goroutine(releases_late, loan.memory);
    block_put(rt_blocks(), block); /* the exchange dies first */
    loan_let_go(&blocks, loan);
    STORY_AWAIT(blocks_home == 1);
    CHECK(rt_blocks()->in_use == in_use);
    CHECK(loan_count(&blocks) == 0);
    rt_stop(0);
}

static void a_lease_that_was_lent_comes_home_to_its_p(void **state) {
    story(2, home_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_that_go_was_not_lent_get_a_code),
        cmocka_unit_test(what_go_gives_back_late_ends_once),
        cmocka_unit_test(a_reply_is_remembered_after_the_exchange),
        cmocka_unit_test(what_go_gives_back_early_stays_for_the_exchange),
        cmocka_unit_test(what_go_gives_back_waits_for_nobody),
        cmocka_unit_test(a_request_is_collected_during_its_last_call),
        cmocka_unit_test(a_chunk_is_opened_by_its_own_handle_while_it_is_shown),
        cmocka_unit_test(a_configuration_is_given_back_once),
        cmocka_unit_test(a_lease_that_was_lent_comes_home_to_its_p),
    };
    return cmocka_run_group_tests(tests, fake_stats_init, NULL);
}
