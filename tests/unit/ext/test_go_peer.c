/* go_peer.c and go_upstream.c, as a library's threads see them: what is done in which order, what waits, and what a
 * stale or strange address gets. */
#include <errno.h>
#include <semaphore.h>

#include "../rt/rt_story.h"
#include "fake_go.h"

#include "ext/go/go_peer.h"
#include "ext/go/go_stats.h"
#include "ext/go/go_upstream.h"

/* ---- a connection that notes what is done with it ---- */

static struct connection {
    struct go_peer *peer;
    char said[256];
    unsigned closes, hurries;
    enum go_close_type close_type;
    _Atomic unsigned events;
    bool blocks; /* a write waits until it is cancelled, or that is taken back */
    struct g *writer;
    size_t bytes;
} connection;

static int on_write(void *owner, struct span bytes, bool end) {
    struct connection *c = owner;
    size_t len = strlen(c->said);
    c->writer = rt_self();
    while (c->blocks)
        if (rt_park("a slow client", RT_FOREVER) == -ECANCELED)
            return -ECANCELED;
    c->writer = NULL;
    c->bytes += bytes.len;
    if (bytes.len < 20)
        (void)snprintf(c->said + len, sizeof c->said - len, "%.*s%s,", (int)bytes.len, bytes.ptr,
                       end ? "." : "");
    return 0;
}

static void on_close(void *owner, enum go_close_type type) {
    struct connection *c = owner;
    c->closes++;
    c->close_type = type;
}

static void on_hurry(void *owner) {
    struct connection *c = owner;
    c->hurries++;
}

static void on_event(void *w, int64_t event) {
    CHECK(event == GO_PEER_REMOTE_CLOSE);
    connection.events++;
}

static const struct go_peer_itab itab = {.write = on_write, .close = on_close, .hurry = on_hurry};

static struct go_plugin *plugin;

/* As a filter makes it; the address that Go has. */
static void *begin(void) {
    memset(&connection, 0, sizeof connection);
    struct go_peer *peer = connection.peer = go_peer_new(plugin, false, 0, 0);
    CHECK(peer && peer->lent);
    memcpy(peer->lent->info[GO_PEER_LOCAL].text, "here", peer->lent->info[GO_PEER_LOCAL].len = 4);
    CHECK(go_peer_start(peer, &itab, &connection) == 0);
    peer->known = peer->announced = true;
    return peer->lent;
}

static void end(void) {
    go_peer_stop_writing(connection.peer);
    go_peer_end(connection.peer, GO_PEER_REMOTE_CLOSE);
    while (connection.events == 0)
        rt_yield_to_events();
}

static int say(void *w, const char *text, int ends) {
    return envoyGoFilterDownstreamWrite(w, (void *)(uintptr_t)text, (int)strlen(text), ends);
}

static void until_idle(void) {
    go_peer_flush(connection.peer, RT_FOREVER);
}

static int info(void *w, struct go_string *out) {
    *out = (struct go_string){0};
    return envoyGoFilterDownstreamInfo(w, GO_PEER_LOCAL, out);
}

/* ---- stories ---- */

static void order_story(void *arg) {
    void *w = begin();
    CHECK(say(w, "one", 0) == GO_OK && say(w, "two", 0) == GO_OK);
    CHECK(envoyGoFilterDownstreamWrite(w, NULL, 0, 1) == GO_OK);
    CHECK(envoyGoFilterDownstreamClose(w, GO_CLOSE_FLUSH) == GO_OK);
    CHECK(say(w, "three", 0) == GO_OK); /* behind the close: dropped */
    until_idle();
    while (!connection.closes)
        rt_yield_to_events();
    CHECK(strcmp(connection.said, "one,two,.,") == 0);
    CHECK(connection.close_type == GO_CLOSE_FLUSH && connection.hurries == 0);
    end();
    CHECK(envoyGoFilterDownstreamWrite(w, NULL, 0, 1) == GO_FILTER_IS_DESTROYED);
    envoyGoFilterDownstreamFinalize(w, 0);
    rt_stop(0);
}

static void commands_are_done_in_their_order(void **state) {
    story(1, order_story);
}

static void stale_story(void *arg) {
    struct go_string text;
    char strange[64];
    void *w = begin();
    CHECK(info(w, &text) == GO_OK && text.len == 4 && memcmp(text.ptr, "here", 4) == 0);
    CHECK(envoyGoFilterDownstreamInfo(w, 7, &text) == GO_VALUE_NOT_FOUND);
    /* what is none of theirs */
    CHECK(say(strange, "x", 0) == GO_FILTER_IS_GONE && say(NULL, "x", 0) == GO_FILTER_IS_GONE);
    CHECK(envoyGoFilterUpstreamWrite(w, strange, 1, 0) == GO_FILTER_IS_GONE);
    CHECK(envoyGoFilterUpstreamConnEnableHalfClose(w, 1) == GO_FILTER_IS_GONE);
    CHECK(envoyGoFilterUpstreamInfo(w, 0, &text) == GO_FILTER_IS_GONE);
    envoyGoFilterUpstreamFinalize(strange, 0);
    end();
    /* the connection has ended, Go has its address still */
    CHECK(info(w, &text) == GO_OK && text.len == 4);
    CHECK(say(w, "x", 0) == GO_FILTER_IS_DESTROYED);
    CHECK(envoyGoFilterDownstreamClose(w, 0) == GO_FILTER_IS_DESTROYED);
    envoyGoFilterDownstreamFinalize(w, 0);
    /* and then not */
    CHECK(info(w, &text) == GO_FILTER_IS_GONE && say(w, "x", 0) == GO_FILTER_IS_GONE);
    envoyGoFilterDownstreamFinalize(w, 0);
    rt_stop(0);
}

static void stale_and_strange_addresses_get_codes(void **state) {
    story(1, stale_story);
}

static void hard_story(void *arg) {
    void *w = begin();
    connection.blocks = true;
    CHECK(say(w, "slow", 0) == GO_OK && say(w, "next", 0) == GO_OK);
    while (!connection.writer)
        rt_yield_to_events();
    CHECK(envoyGoFilterDownstreamClose(w, GO_CLOSE_FLUSH_AND_DELAY) == GO_OK); /* waits for room */
    rt_yield_to_events();
    CHECK(connection.closes == 0);
    CHECK(envoyGoFilterDownstreamClose(w, GO_CLOSE_NO_FLUSH) == GO_OK);
    while (connection.closes < 2)
        rt_yield_to_events();
    CHECK(strcmp(connection.said, "") == 0);
    end();
    envoyGoFilterDownstreamFinalize(w, 0);
    rt_stop(0);
}

static void a_close_without_flush_does_not_wait_for_room(void **state) {
    story(1, hard_story);
}

/* A callback that writes more than the other side takes at a time. */
static void *to_fill;
static uint64_t writes_much(void *w, uint64_t size, uint64_t slices, int64_t count, int64_t end) {
    static char bytes[GO_PEER_QUEUE_HIGH];
    for (int i = 0; i < 2; i++)
        CHECK(envoyGoFilterDownstreamWrite(to_fill, bytes, sizeof bytes, 0) == GO_OK);
    CHECK(go_peer_here()->p_index == 0);
    return GO_NETWORK_CONTINUE;
}

static bool has_waited;
static void reads_on(void *arg) {
    CHECK(go_peer_wait_for_room(arg) == 0);
    has_waited = true;
}

static void room_story(void *arg) {
    struct go_peer_call call = {.kind = GO_CALL_DATA};
    to_fill = begin();
    connection.blocks = true;
    fake_go.library.fn.network.on_data = writes_much;
    CHECK(go_peer_call(connection.peer, &call) == 0);
    CHECK(!go_peer_here());
    CHECK(call.full == connection.peer->handle);
    CHECK(go_here("reader", reads_on, &call) == 0);
    while (!connection.writer)
        rt_yield_to_events();
    rt_yield_to_events();
    CHECK(!has_waited);
    connection.blocks = false;
    rt_ready(connection.writer);
    while (!has_waited)
        rt_yield_to_events();
    CHECK(connection.bytes == 2 * GO_PEER_QUEUE_HIGH);
    end();
    CHECK(go_peer_wait_for_room(&call) == 0); /* there is nothing to wait for */
    envoyGoFilterDownstreamFinalize(to_fill, 0);
    rt_stop(0);
}

static void who_filled_a_queue_waits_for_room(void **state) {
    story(1, room_story);
}

static void overflow_story(void *arg) {
    void *w = begin();
    struct go_peer *peer = connection.peer;
    connection.blocks = true;
    CHECK(say(w, "slow", 0) == GO_OK);
    pthread_mutex_lock(&peer->lock);
    peer->queued += GO_PEER_QUEUE_MAX - 100; /* as if it had been written */
    pthread_mutex_unlock(&peer->lock);
    CHECK(say(w,
              "these are a hundred bytes, less what is there already, and then some more than that",
              0) == GO_INTERNAL_FAILURE);
    CHECK(say(w, "x", 0) == GO_INTERNAL_FAILURE);
    while (!connection.closes)
        rt_yield_to_events();
    CHECK(connection.close_type == GO_CLOSE_RESET && connection.closes == 1);
    end();
    envoyGoFilterDownstreamFinalize(w, 0);
    rt_stop(0);
}

static void too_much_is_broken_off_once(void **state) {
    story(1, overflow_story);
}

/* ---- seats ---- */

static sem_t callback_returns;

static uint64_t callback_that_blocks(void *w, uint64_t size, uint64_t slices, int64_t count,
                                     int64_t end) {
    CHECK(go_peer_here()->lent == w);
    CHECK(say(w, "written", 0) == GO_OK);
    while (sem_wait(&callback_returns) != 0) {
    }
    return GO_NETWORK_CONTINUE;
}

static _Atomic bool first_is_over;

static void calls_on_the_first(void *arg) {
    struct go_peer_call call = {.kind = GO_CALL_DATA, .size = 11};
    CHECK(go_peer_call(arg, &call) == 0);
    first_is_over = true;
}

static uint64_t counted(enum go_plugin_stat stat) {
    return (uint64_t)stat_value(plugin->stats.read[stat]);
}

/* A second connection finds the only seat of its processor taken: its call gives up, or is cancelled; the word of its
 * end is one that comes in any case. */
static void seat_story(void *arg) {
    const uint64_t crossings = counted(GO_STAT_CROSSINGS);
    CHECK(sem_init(&callback_returns, 0, 0) == 0);
    fake_go.library.fn.network.on_data = callback_that_blocks;
    void *of_first = begin();
    struct go_peer *first = connection.peer;
    CHECK(go_here("call", calls_on_the_first, first) == 0);
    STORY_AWAIT(go_plugin_calls(plugin).blocked == 1);
    struct go_peer *second = go_peer_new(plugin, false, 0, 0);
    CHECK(second && second->lent && go_peer_start(second, &itab, &connection) == 0);
    second->known = second->announced = true;
    second->seat_wait_ns = NS_PER_MS;
    struct go_peer_call call = {.kind = GO_CALL_DATA, .size = 5};
    CHECK(go_peer_call(second, &call) == -ETIMEDOUT);
    CHECK(stat_value(fake_go.library.stats.seat_timeouts) == 1);
    call.patience = GO_PEER_UNTIL_CANCELLED;
    rt_cancel(rt_self());
    CHECK(go_peer_call(second, &call) == -ECANCELED);
    rt_cancel_clear();

    void *of_second = second->lent;
    go_peer_end(second, GO_PEER_REMOTE_CLOSE);
    rt_yield();
    rt_cancel(second->g);
    rt_yield();
    CHECK(connection.events == 0 && second->g);
    CHECK(sem_post(&callback_returns) == 0);
    STORY_AWAIT(connection.events == 1 && first_is_over);

    until_idle();
    CHECK(go_plugin_calls(plugin).busy == 0);
    CHECK(counted(GO_STAT_CROSSINGS) == crossings + 1);
    CHECK(counted(GO_STAT_BODY_BYTES_TO_GO) == 11 && counted(GO_STAT_BODY_BYTES_FROM_GO) == 7);
    connection.events = 0;
    end();
    envoyGoFilterDownstreamFinalize(of_first, 0);
    envoyGoFilterDownstreamFinalize(of_second, 0);
    CHECK(counted(GO_STAT_UNFINALIZED) == 0);
    rt_stop(0);
}

static void a_call_waits_for_a_seat_and_the_end_is_told_in_any_case(void **state) {
    story(1, seat_story);
}

/* ---- upstreams ---- */

static _Atomic int64_t failure;
static _Atomic uint64_t failed_id;
static void *_Atomic failed_w;

static void on_failure(void *w, int64_t reason, uint64_t conn_id) {
    failure = reason;
    failed_w = w;
    failed_id = conn_id;
}

static void ready(void *w, uint64_t conn_id) {
    CHECK(!"an upstream at no address");
}

/* The address that Go gives to its finalizer is one of ours, whatever the other one was. */
static void malformed_story(void *arg) {
    static const char *const addresses[] = {"", ":", ":80", "1.2.3.4", "[::1]80", "::1:80", "x:1"};
    struct go_string out = {0};
    for (uint64_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        void *w = go_upstream_connect(&fake_go.library, span_of(addresses[i]), i + 1);
        CHECK(w);
        CHECK(envoyGoFilterUpstreamWrite(w, &out, 1, 0) == GO_OK); /* before it is ready */
        while (failed_id != i + 1)
            rt_yield_to_events();
        CHECK(failure == 1 && failed_w == w);
        CHECK(envoyGoFilterUpstreamInfo(w, GO_PEER_LOCAL, &out) == GO_OK);
        CHECK((size_t)out.len == strlen(addresses[i]));
        envoyGoFilterUpstreamFinalize(w, 0);
        CHECK(envoyGoFilterUpstreamClose(w, 0) == GO_FILTER_IS_GONE);
    }
    rt_stop(0);
}

static void trap_a_malformed_address_has_a_name_and_fails(void **state) {
    story(1, malformed_story);
}

static int init(void **state) {
    fake_go_init();
    fake_go.library.fn.network = (struct go_network_functions){
        .on_upstream_failure = on_failure, .on_upstream_ready = ready, .on_event = on_event};
    CHECK(stats_init(4) == 0);
    CHECK(go_lent_init() == 0);
    static struct seat_set *seats;
    seats = seat_set_new(FAKE_PS, FAKE_PS); /* one each */
    CHECK(seats);
    atomic_store(&fake_go.library.call_seats, seats);
    plugin = go_plugin_get(&fake_go.library, GO_PLUGIN_NETWORK, SPAN_LIT("fake"));
    CHECK(plugin);
    return go_peers_init();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_done_in_their_order),
        cmocka_unit_test(stale_and_strange_addresses_get_codes),
        cmocka_unit_test(a_close_without_flush_does_not_wait_for_room),
        cmocka_unit_test(who_filled_a_queue_waits_for_room),
        cmocka_unit_test(too_much_is_broken_off_once),
        cmocka_unit_test(a_call_waits_for_a_seat_and_the_end_is_told_in_any_case),
        cmocka_unit_test(trap_a_malformed_address_has_a_name_and_fails),
    };
    return cmocka_run_group_tests(tests, init, NULL);
}
