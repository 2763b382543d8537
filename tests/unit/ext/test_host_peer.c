/* The host process's side of connections, as it is, in one process with a Go library made of C functions and a proxy played
 * by the test (fake_proxy.h): through real rings, real seats' threads, and calls of any thread. */
#include <errno.h>

#include "ext/remote/host_peer.h"
#include "fake_proxy.h"

enum { NETWORK_CONFIG = 71 };
static const uint64_t CLIENT = 5, HANDLE = 99;

/* ---- what Go does with it ---- */

static void *_Atomic client; /* the address that Go has */
static char saw[256];
static uint64_t (*on_data)(void *w, struct span bytes, bool end);

static uint64_t fake_on_connection(void *w, uint64_t name, uint64_t len, uint64_t config_id) {
    struct go_string local = {0};
    client = w;
    CHECK(envoyGoFilterDownstreamInfo(w, GO_PEER_LOCAL, &local) == GO_OK);
    (void)snprintf(saw, sizeof saw, "%.*s config %u at %.*s", (int)len,
                   (const char *)(uintptr_t)name, (unsigned)config_id, (int)local.len, local.ptr);
    return GO_NETWORK_STOP;
}

static uint64_t fake_on_peer_data(void *w, uint64_t size, uint64_t slices, int64_t count,
                                  int64_t end) {
    const uint64_t *slice = (const uint64_t *)(uintptr_t)slices;
    CHECK(w == client && count == (size ? 1 : 0) && (!count || slice[1] == size));
    struct span bytes =
        count ? span_make((const char *)(uintptr_t)slice[0], slice[1]) : span_make("", 0);
    fake_turn++;
    return on_data(w, bytes, end);
}

static int64_t last_event;
static void fake_on_event(void *w, int64_t event) {
    last_event = event;
    fake_turn++;
}

static uint64_t ready_id;
static void *ready_w;
static void fake_on_ready(void *w, uint64_t conn_id) {
    ready_w = w;
    ready_id = conn_id;
    fake_turn++;
}

static void nothing_failure(void *w, int64_t reason, uint64_t conn_id) {}
static void nothing_data(void *w, uint64_t size, uint64_t slices, int64_t count, int64_t end) {}
static uint64_t nothing_config(uint64_t id, uint64_t id_len, uint64_t config, uint64_t len) {
    return 1;
}

/* ---- the proxy ---- */

static uint64_t last_call;

static struct remote_peer_call call_of(uint64_t number, enum go_peer_call_kind kind) {
    return (struct remote_peer_call){.number = number,
                                     .call = ++last_call,
                                     .kind = (uint8_t)kind,
                                     .info = {SPAN_LIT("here"), SPAN_LIT("there")},
                                     .handle = HANDLE,
                                     .config_id = NETWORK_CONFIG,
                                     .bytes = SPAN_LIT("")};
}

/* Each call has another one. What one seat has written another one reads, as the rings order it: they are here twice, at two
 * addresses, in which ThreadSanitizer does not see one order. */
static uint32_t seat(void) {
#ifdef __SANITIZE_THREAD__
    return 0;
#else
    return (uint32_t)(last_call % FAKE_SEATS_SERVED);
#endif
}

static void call(const struct remote_peer_call *call) {
    remote_put_peer_call(&fake_proxy.out, call);
    fake_send(seat(), REMOTE_PEER_CALL);
}

static struct remote_peer_returned hear_returned(void) {
    struct remote_peer_returned returned;
    fake_next_record();
    CHECK(fake_proxy.record.kind == REMOTE_PEER_RETURNED);
    CHECK(remote_read_peer_returned(fake_proxy.record.payload, &returned) == 0);
    CHECK(returned.call == last_call);
    return returned;
}

static struct remote_peer_write hear_write(void) {
    struct remote_peer_write write;
    fake_next_record();
    CHECK(fake_proxy.record.kind == REMOTE_PEER_WRITE);
    CHECK(remote_read_peer_write(fake_proxy.record.payload, &write) == 0);
    return write;
}

static void connect_client(void) {
    struct remote_peer_call connects = call_of(CLIENT, GO_CALL_CONNECTION);
    call(&connects);
    CHECK(hear_returned().status == GO_NETWORK_STOP);
}

static void end_client(void) {
    struct remote_peer_call ends = call_of(CLIENT, GO_CALL_EVENT);
    ends.what = GO_PEER_LOCAL_CLOSE;
    ends.last = true;
    call(&ends);
    (void)hear_returned();
    CHECK(last_event == GO_PEER_LOCAL_CLOSE);
}

/* ---- stories ---- */

static uint64_t writes_and_closes(void *w, struct span bytes, bool end) {
    (void)snprintf(saw, sizeof saw, "%zu bytes, the last %c", bytes.len, bytes.ptr[bytes.len - 1]);
    CHECK(envoyGoFilterDownstreamWrite(w, (void *)(uintptr_t) "answer", 6, 1) == GO_OK);
    CHECK(envoyGoFilterDownstreamClose(w, GO_CLOSE_FLUSH) == GO_OK);
    return GO_NETWORK_CONTINUE;
}

static void test_a_connection_from_its_beginning_to_its_end(void **state) {
    connect_client();
    assert_string_equal(saw, "connections config 9 at here");
    on_data = writes_and_closes;
    /* In parts, on whichever seat the call has. */
    struct remote_peer_call data = call_of(CLIENT, GO_CALL_DATA);
    data.bytes = SPAN_LIT("z");
    remote_put_peer_bytes(&fake_proxy.out, &(struct remote_peer_bytes){CLIENT, SPAN_LIT("xy")});
    fake_send(seat(), REMOTE_PEER_BYTES);
    call(&data);
    struct remote_peer_write write = hear_write();
    assert_int_equal(write.number, CLIENT);
    assert_true(write.end && write.left == 0);
    assert_true(span_eq(write.bytes, SPAN_LIT("answer")));
    fake_next_record();
    assert_int_equal(fake_proxy.record.kind, REMOTE_PEER_CLOSE);
    struct remote_peer_returned returned = hear_returned();
    assert_int_equal(returned.crossings, 2);
    assert_int_equal(returned.wrote_to, HANDLE);
    assert_string_equal(saw, "3 bytes, the last z");
    end_client();
    assert_int_equal(envoyGoFilterDownstreamWrite(client, (void *)(uintptr_t) "x", 1, 0),
                     GO_FILTER_IS_DESTROYED);
    envoyGoFilterDownstreamFinalize(client, 0);
    assert_int_equal(envoyGoFilterDownstreamClose(client, 0), GO_FILTER_IS_GONE);
}

static void *writes_much(void *arg) {
    static char much[3 * FAKE_RING_SIZE];
    CHECK(envoyGoFilterDownstreamWrite(client, much, sizeof much, 0) == GO_OK);
    return NULL;
}

/* It has more than the ring takes: the thread that writes waits, and nothing comes in between. */
static void test_much_is_written_in_parts_that_say_what_is_left(void **state) {
    pthread_t thread;
    connect_client();
    assert_int_equal(pthread_create(&thread, NULL, writes_much, NULL), 0);
    uint64_t left = 3 * FAKE_RING_SIZE;
    while (left) {
        struct remote_peer_write write = hear_write();
        assert_true(write.bytes.len > 0);
        left -= write.bytes.len;
        assert_int_equal(write.left, left);
    }
    pthread_join(thread, NULL);
    end_client();
    envoyGoFilterDownstreamFinalize(client, 0);
}

static void *_Atomic upstream;
static uint64_t asks_for_an_upstream(void *w, struct span bytes, bool end) {
    upstream = host_peer_connect(&fake_go.library, SPAN_LIT("10.0.0.1:80"), 8);
    return GO_NETWORK_CONTINUE;
}

/* The proxy is faster with its first call than the thread that asked. */
static void test_an_upstream_has_one_name_in_the_answer_and_in_its_calls(void **state) {
    const uint64_t number = 6;
    uint64_t handle = 77;
    struct remote_ask ask;
    connect_client();
    on_data = asks_for_an_upstream;
    struct remote_peer_call data = call_of(CLIENT, GO_CALL_DATA);
    call(&data);
    fake_next_record();
    assert_int_equal(fake_proxy.record.kind, REMOTE_ASK);
    assert_int_equal(remote_read_ask(fake_proxy.record.payload, &ask), 0);
    assert_int_equal(ask.question, REMOTE_CONNECT);
    assert_int_equal(ask.subject, CLIENT);
    assert_int_equal(ask.n, 8);
    assert_true(span_eq(ask.a, SPAN_LIT("10.0.0.1:80")));
    struct remote_peer_call ready = call_of(number, GO_CALL_READY);
    ready.conn_id = 8;
    call(&ready);
    fake_answer(&ask, &(struct remote_answer){.number = number,
                                              .text = span_make((char *)&handle, sizeof handle)});
    for (int i = 0; i < 2; i++) { /* of either, in whatever order */
        fake_next_record();
        assert_int_equal(fake_proxy.record.kind, REMOTE_PEER_RETURNED);
    }
    assert_ptr_equal(ready_w, upstream);
    assert_int_equal(ready_id, 8);
    assert_int_equal(envoyGoFilterUpstreamConnEnableHalfClose(upstream, 1), GO_OK);
    fake_next_record();
    assert_int_equal(fake_proxy.record.kind, REMOTE_PEER_HALF_CLOSE);
    struct remote_peer_call ends = call_of(number, GO_CALL_UPSTREAM_EVENT);
    ends.last = true;
    call(&ends);
    (void)hear_returned();
    envoyGoFilterUpstreamFinalize(upstream, 0);
    end_client();
    envoyGoFilterDownstreamFinalize(client, 0);
}

static int init(void **state) {
    fake_go_init();
    CHECK(stats_init(4) == 0 && go_lent_init() == 0);
    CHECK(go_peers_init() == 0);
    fake_proxy_init();
    fake_go.library.fn.network = (struct go_network_functions){
        .on_config = nothing_config,
        .on_connection = fake_on_connection,
        .on_data = fake_on_peer_data,
        .on_write = fake_on_peer_data,
        .on_event = fake_on_event,
        .on_upstream_ready = fake_on_ready,
        .on_upstream_failure = nothing_failure,
        .on_upstream_data = nothing_data,
        .on_upstream_event = fake_on_event,
    };
    const struct go_plugin *plugin =
        go_plugin_get(&fake_go.library, GO_PLUGIN_NETWORK, SPAN_LIT("connections"));
    return host_config_keep(
        &(struct host_config){.id = NETWORK_CONFIG, .go_id = 9, .plugin = plugin});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_connection_from_its_beginning_to_its_end),
        cmocka_unit_test(test_much_is_written_in_parts_that_say_what_is_left),
        cmocka_unit_test(test_an_upstream_has_one_name_in_the_answer_and_in_its_calls),
    };
    return cmocka_run_group_tests(tests, init, NULL);
}
