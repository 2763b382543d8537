/* remote_peer.c: what a host process says of connections, and what becomes of it; what a call waits for, and what its loss
 * leaves. */
#include <errno.h>

#include "../rt/rt_story.h"
#include "ext/remote/remote_connect.h"
#include "fake_peer.h"

static struct fake_remote_host host;
static struct fake_peer one, two;

static void begin(void) {
    fake_go_init();
    fake_peers_init();
    fake_remote_host_open(&host);
    fake_peer_new(&one, &host);
    fake_peer_new(&two, &host);
}

static void end(void) {
    if (host.lane)
        fake_remote_host_close(&host);
    rt_yield();
    fake_peer_free(&one);
    fake_peer_free(&two);
    rt_stop(0);
}

static int writes(uint64_t number, uint64_t left, bool ends, const char *bytes) {
    struct remote_out out = {0};
    remote_put_peer_write(&out,
                          &(struct remote_peer_write){.number = number, .left = left, .end = ends});
    remote_out_put(&out, span_of(bytes));
    return fake_remote_hear(&host, REMOTE_PEER_WRITE, &out);
}

static int closes(uint64_t number, enum go_close_type type) {
    struct remote_out out = {0};
    remote_put_peer_close(&out, &(struct remote_peer_close){number, (uint8_t)type});
    return fake_remote_hear(&host, REMOTE_PEER_CLOSE, &out);
}

/* The next numbers that a lane gives are those of calls: entries of one use each. */
static uint64_t call_number(uint32_t index, uint32_t uses) {
    return remote_number(0, index, uses);
}

static int returns(uint64_t call, uint64_t status, uint64_t wrote_to) {
    struct remote_out out = {0};
    remote_put_peer_returned(
        &out, &(struct remote_peer_returned){
                  .call = call, .status = status, .crossings = 3, .wrote_to = wrote_to});
    int err = fake_remote_hear(&host, REMOTE_PEER_RETURNED, &out);
    rt_yield();
    return err;
}

/* ---- writes ---- */

static void writes_story(void *arg) {
    begin();
    CHECK(writes(one.number, 0, false, "whole") == 0);
    STORY_AWAIT(one.writes == 1);
    CHECK(strcmp(one.last, "whole") == 0);
    CHECK(writes(one.number, 6, true, "in ") == 0);
    CHECK(writes(two.number, 0, false, "another's") == 0);
    CHECK(writes(one.number, 2, true, "part") == 0);
    STORY_AWAIT(two.writes == 1);
    CHECK(one.writes == 1);
    CHECK(writes(one.number, 0, true, "s.") == 0);
    STORY_AWAIT(one.writes == 2);
    CHECK(one.ends == 1 && strcmp(one.last, "in parts.") == 0);
    CHECK(closes(one.number, GO_CLOSE_NO_FLUSH) == 0);
    STORY_AWAIT(one.closes == 1);
    CHECK(one.close_type == GO_CLOSE_NO_FLUSH && two.closes == 0);
    end();
}

static void what_is_written_in_parts_is_one_write(void **state) {
    story(1, writes_story);
}

static void limit_story(void *arg) {
    begin();
    CHECK(writes(one.number, GO_PEER_QUEUE_MAX, false, "too much") == 0);
    STORY_AWAIT(one.closes == 1);
    CHECK(one.close_type == GO_CLOSE_RESET && one.writes == 0);
    /* Its other parts go nowhere, and nobody else's queue is touched. */
    CHECK(writes(one.number, GO_PEER_QUEUE_MAX - 4, false, "more") == 0);
    CHECK(writes(two.number, 0, false, "on") == 0);
    STORY_AWAIT(two.writes == 1);
    CHECK(one.writes == 0);
    end();
}

static void more_than_a_queue_takes_breaks_the_connection_off(void **state) {
    story(1, limit_story);
}

static void nonsense_story(void *arg) {
    begin();
    CHECK(writes(two.number ^ 1ULL << 32, 0, false, "of another use") == 0); /* it is over */
    CHECK(writes(one.number, 10, false, "a part") == 0);
    CHECK(writes(one.number, 10, false, "that does not fit") == -EPROTO);
    CHECK(writes(two.number, UINT64_MAX - 1, false, "x") == -EPROTO);
    CHECK(returns(one.number, 0, 0) == -EPROTO);  /* that is no call */
    CHECK(returns(call_number(2, 1), 0, 0) == 0); /* nor is there one any more */
    CHECK(fake_remote_hear(&host, REMOTE_PEER_CALL, &(struct remote_out){0}) == -EPROTO);
    CHECK(one.writes == 0 && two.writes == 0);
    end();
}

static void what_no_host_of_ours_says_ends_it(void **state) {
    story(1, nonsense_story);
}

/* ---- calls ---- */

static void call_story(void *arg) {
    begin();
    fake_peer_call(&one, GO_CALL_DATA);
    CHECK(one.in_call);
    CHECK(writes(call_number(2, 1), 0, false, "to a call") == -EPROTO);
    rt_yield();
    CHECK(returns(call_number(2, 1), GO_NETWORK_STOP, 0) == 0);
    STORY_AWAIT(one.called == 0);
    CHECK(one.call.status == GO_NETWORK_STOP && one.call.full == 0);
    CHECK(returns(call_number(2, 1), 0, 0) == 0); /* it is over */
    end();
}

static void a_call_is_over_when_the_host_says_so(void **state) {
    story(1, call_story);
}

/* Whoever wrote too much is told of it, but not by handles of others. */
static void full_story(void *arg) {
    begin();
    two.peer->queued = GO_PEER_QUEUE_HIGH + 1; /* as if it had been written */
    fake_peer_call(&one, GO_CALL_DATA);
    CHECK(returns(call_number(2, 1), 0, two.peer->handle) == 0);
    STORY_AWAIT(one.called == 0);
    CHECK(one.call.full == two.peer->handle);
    fake_peer_call(&one, GO_CALL_DATA);
    CHECK(returns(call_number(2, 2), 0, two.peer->handle + 1) == 0);
    STORY_AWAIT(one.called == 0);
    CHECK(one.call.full == 0);
    two.peer->queued = 0;
    end();
}

static void who_filled_a_queue_hears_of_it(void **state) {
    story(1, full_story);
}

static void loss_story(void *arg) {
    begin();
    fake_peer_call(&one, GO_CALL_DATA);
    CHECK(writes(two.number, 7, false, "a part") == 0);
    fake_remote_host_close(&host);
    STORY_AWAIT(one.called == -EPIPE);
    CHECK(one.losses == 1 && two.losses == 1);
    CHECK(two.writes == 0); /* what was not whole is void */
    fake_peer_call(&two, GO_CALL_DATA);
    STORY_AWAIT(two.called == -EPIPE);
    end();
}

static void a_lost_host_ends_calls_and_tells_all_connections(void **state) {
    story(1, loss_story);
}

/* ---- upstreams ---- */

/* Of an address that is none: nothing connects, but it has a number, and its failure is told. */
static void connect_story(void *arg) {
    begin();
    struct remote_ask ask = {.question = REMOTE_CONNECT,
                             .subject = one.number,
                             .n = 5,
                             .a = SPAN_LIT("nowhere"),
                             .b = SPAN_LIT(""),
                             .c = SPAN_LIT("")};
    struct remote_answer answer = {.code = GO_INTERNAL_FAILURE, .text = SPAN_LIT("")};
    void *memory;
    remote_connect(&fake_go.library, host.lane, &ask, &answer, &memory);
    CHECK(answer.code == GO_OK && answer.text.len == sizeof(uint64_t));
    CHECK(remote_number_index(answer.number) == 2);
    free(memory);
    const int64_t failed = stat_value(go_peer_stats.upstream_failed);
    STORY_AWAIT(stat_value(go_peer_stats.upstream_failed) == failed + 1);
    rt_yield();
    CHECK(returns(call_number(3, 1), 0, 0) == 0); /* of that call */
    ask.subject = 12345;
    answer.code = GO_INTERNAL_FAILURE;
    remote_connect(&fake_go.library, host.lane, &ask, &answer, &memory);
    CHECK(answer.code != GO_OK);
    free(memory);
    end();
}

static void an_upstream_is_asked_for(void **state) {
    story(1, connect_story);
}

static int init(void **state) {
    CHECK(stats_init(4) == 0 && go_lent_init() == 0);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_in_parts_is_one_write),
        cmocka_unit_test(more_than_a_queue_takes_breaks_the_connection_off),
        cmocka_unit_test(what_no_host_of_ours_says_ends_it),
        cmocka_unit_test(a_call_is_over_when_the_host_says_so),
        cmocka_unit_test(who_filled_a_queue_hears_of_it),
        cmocka_unit_test(a_lost_host_ends_calls_and_tells_all_connections),
        cmocka_unit_test(an_upstream_is_asked_for),
    };
    return cmocka_run_group_tests(tests, init, NULL);
}
