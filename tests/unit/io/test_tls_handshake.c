/* Handshakes that do not go as they should: bytes one at a time, peers that stop, speak something else or lie, deadlines
 * and cancellation at every point. Whatever happens, the socket can be closed and nothing is left. */
#include <openssl/ssl.h>
#include <sched.h>
#include <stdatomic.h>

#include "io/tls_internal.h"
#include "rt/sync.h"
#include "tls_story.h"

/* ---- Byte by byte ---- */

/* What two sides say passes through here, `at_once` bytes at a time; each step lets both look. */
struct relay {
    int fds[2]; /* to the client, to the server */
    size_t at_once;
    size_t limit[2]; /* then it stops passing that way on */
    size_t passed[2];
    bool stop, done;
};

static NOINLINE bool pass(struct relay *relay, int from) {
    char bytes[4096];
    size_t left = relay->limit[from] - relay->passed[from];
    size_t size = relay->at_once < left ? relay->at_once : left;
    if (size > sizeof bytes)
        size = sizeof bytes;
    ssize_t n = size ? recv(relay->fds[from], bytes, size, MSG_PEEK) : -1;
    if (n == 0)
        (void)shutdown(relay->fds[!from], SHUT_WR); /* again and again does no harm */
    if (n <= 0)
        return false;
    n = send(relay->fds[!from], bytes, (size_t)n, MSG_NOSIGNAL); /* maybe there is no room now */
    if (n <= 0)
        return false;
    CHECK(peer_receives(relay->fds[from], bytes, (size_t)n) == n);
    relay->passed[from] += (size_t)n;
    return true;
}

static void relays(void *arg) {
    struct relay *relay = arg;
    while (!relay->stop) {
        bool any = pass(relay, 0);
        any = pass(relay, 1) || any;
        if (any)
            rt_yield_to_events();
        else
            CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS / 10) == 0);
    }
    relay->done = true;
}

static struct relay relay;

static void open_relayed(size_t at_once, size_t from_client, size_t from_server) {
    int of_client[2], of_server[2];
    unix_pair(of_client);
    unix_pair(of_server);
    open_side(&client, of_client[0], NULL);
    open_side(&server, of_server[0], NULL);
    relay = (struct relay){.fds = {of_client[1], of_server[1]},
                           .at_once = at_once,
                           .limit = {from_client, from_server}};
    CHECK(go_here("relay", relays, &relay) == 0);
}

static void end_relay(void) {
    relay.stop = true;
    STORY_AWAIT(relay.done);
    peer_closes(relay.fds[0]);
    peer_closes(relay.fds[1]);
}

static void bytes_story(void *arg) {
    plain_contexts();
    open_relayed(1, SIZE_MAX, SIZE_MAX);
    CHECK(go_here("server", accepts, &server) == 0);
    connects();
    STORY_AWAIT(server.done);
    CHECK(server.rc == 0);
    CHECK(client.rc == 0);
    speak_both_ways();
    close_pair();
    end_relay();
    end_story();
}

static void a_handshake_may_come_byte_by_byte(void **state) {
    story(1, bytes_story);
}

/* ---- Peers that stop ---- */

/* How much each side says in a whole handshake. */
static void measure(size_t *from_client, size_t *from_server) {
    open_relayed(SIZE_MAX, SIZE_MAX, SIZE_MAX);
    CHECK(go_here("server", accepts, &server) == 0);
    connects();
    STORY_AWAIT(server.done);
    CHECK(server.rc == 0 && client.rc == 0);
    STORY_AWAIT(relay.passed[0] > 0 && relay.passed[1] > 0);
    *from_client = relay.passed[0];
    *from_server = relay.passed[1];
    close_pair();
    end_relay();
}

/* A client that waits for as long as it is not told to give up; it may be done, if only its last words were lost. */
static struct g *client_coroutine;

static void connects_without_end(void *arg) {
    client_coroutine = rt_self();
    client.deadline_ns = RT_FOREVER;
    connects();
    client.deadline_ns = 0;
    client_coroutine = NULL;
}

static void client_gives_up(void) {
    STORY_AWAIT(client.done || client_coroutine);
    if (!client.done)
        rt_cancel(client_coroutine);
    STORY_AWAIT(client.done);
}

/* Bytes stop after `limit` of the client's: the server waits until it is told not to. */
static void stop_at(size_t limit, bool cancel) {
    open_relayed(SIZE_MAX, limit, SIZE_MAX);
    server.deadline_ns = cancel ? RT_FOREVER : rt_now_ns() + NS_PER_MS;
    CHECK(go_here("server", accepts, &server) == 0);
    CHECK(go_here("client", connects_without_end, NULL) == 0);
    if (cancel) {
        STORY_AWAIT(relay.passed[0] == limit && server_coroutine);
        rt_cancel(server_coroutine);
    }
    STORY_AWAIT(server.done);
    CHECK(server.rc == (cancel ? -ECANCELED : -ETIMEDOUT));
    CHECK(server.fault.kind == TLS_FAULT_SOCKET);
    CHECK(!server.socket.transport);
    CHECK(server.socket.rx_bytes == 0);
    client_gives_up();
    close_pair();
    end_relay();
    server.deadline_ns = 0;
}

static void stops_story(void *arg) {
    size_t from_client, from_server;
    plain_contexts();
    measure(&from_client, &from_server);
    for (size_t limit = 0; limit < from_client; limit += limit < 8 ? 4 : from_client / 6) {
        stop_at(limit, false);
        stop_at(limit, true);
    }
    end_story();
}

static void a_peer_that_stops_anywhere_is_waited_for_until_the_deadline(void **state) {
    story(1, stops_story);
}

static void cut_story(void *arg) {
    static const size_t cuts[] = {0, 1, 5, 6, 100, 200};
    plain_contexts();
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        open_relayed(SIZE_MAX, cuts[i], SIZE_MAX);
        CHECK(go_here("server", accepts, &server) == 0);
        CHECK(go_here("client", connects_without_end, NULL) == 0);
        STORY_AWAIT(relay.passed[0] == cuts[i]);
        peer_ends(relay.fds[1]);
        STORY_AWAIT(server.done);
        CHECK(server.rc == -ECONNRESET);
        CHECK(server.fault.kind == TLS_FAULT_SOCKET);
        client_gives_up();
        close_pair();
        end_relay();
    }
    end_story();
}

static void a_peer_that_goes_is_told_from_one_that_is_late(void **state) {
    story(1, cut_story);
}

/* ---- Peers that speak something else ---- */

static void rubbish_story(void *arg) {
    static const struct {
        const char *bytes;
        size_t size;
        const char *says;
    } cases[] = {
        {"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 27, "HTTP_REQUEST"},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24, "TLS_error:|"},
        {"\x16\x03\x01\xff\xff rest", 10, "TLS_error:|"},      /* a record too long */
        {"\x16\x03\x01\x00\x04\x01\x00\x00\x00", 9, "LENGTH"}, /* an empty ClientHello */
        {"\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9, "EXCESSIVE_MESSAGE_SIZE"}, /* one of 16 MB */
        {"\x15\x03\x01\x00\x02\x02\x28", 7, "TLS_error:|"},                    /* a fatal alert */
        {"\x17\x03\x03\x00\x01x", 6, "TLS_error:|"},                           /* data before all */
        {"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, "TLS_error:|"},
    };
    plain_contexts();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fds[2];
        unix_pair(fds);
        open_side(&server, fds[0], NULL);
        peer_sends(fds[1], cases[i].bytes, cases[i].size);
        accepts(&server);
        if (!strstr(server.fault.text, cases[i].says))
            fprintf(stderr, "%zu: %d %s\n", i, server.rc, server.fault.text);
        CHECK(server.rc == -EPROTO);
        CHECK(server.fault.kind == TLS_FAULT_PROTOCOL);
        CHECK(strstr(server.fault.text, cases[i].says));
        close_side(&server);
        peer_closes(fds[1]);

        unix_pair(fds); /* as a server's answer */
        open_side(&client, fds[0], NULL);
        peer_sends(fds[1], cases[i].bytes, cases[i].size);
        connects();
        CHECK(client.rc == -EPROTO);
        CHECK(strstr(client.fault.text, "TLS_error:|"));
        close_side(&client);
        peer_closes(fds[1]);
    }
    end_story();
}

static void whoever_speaks_something_else_is_refused_with_a_reason(void **state) {
    story(1, rubbish_story);
}

/* ---- What a sniffer has read, and what comes behind the handshake ---- */

static void connects_and_asks(void *arg) {
    connects();
    CHECK(client.rc == 0);
    says(&client, "asked at once");
    client.done = true;
}

static void sniffed_story(void *arg) {
    plain_contexts();
    for (size_t sniffed = 0; sniffed < 200; sniffed += 57) {
        open_pair();
        CHECK(go_here("client", connects_and_asks, NULL) == 0);
        while (inbuf_len(&server.in) < sniffed) /* as much as it asked for, or more */
            CHECK(socket_receive(&server.socket, &server.in, "sniffs", story_soon()) > 0);
        accepts(&server);
        CHECK(server.rc == 0);
        CHECK(inbuf_len(&server.in) == 0);
        CHECK(blocks_in_use() == 0);
        hears(&server, "asked at once");
        STORY_AWAIT(client.done);
        speak_both_ways();
        close_pair();
        if (sniffed == 0)
            continue;
        /* What the client says with its last message is there before any edge. */
        open_relayed(SIZE_MAX, SIZE_MAX, SIZE_MAX);
        relay.limit[0] = sniffed; /* then all the rest at once */
        CHECK(go_here("client", connects_and_asks, NULL) == 0);
        CHECK(go_here("server", accepts, &server) == 0);
        STORY_AWAIT(relay.passed[0] == sniffed || client.done);
        relay.limit[0] = SIZE_MAX;
        STORY_AWAIT(server.done && client.done);
        CHECK(server.rc == 0);
        hears(&server, "asked at once");
        close_pair();
        end_relay();
    }
    end_story();
}

static void bytes_read_before_and_behind_the_handshake_are_not_lost(void **state) {
    story(1, sniffed_story);
}

/* ---- Private keys elsewhere ---- */

static void blocking_story(void *arg) {
    struct tls_options of_server = server_options(), of_client = client_options();
    of_server.blocking_keys = true;
    contexts(&of_server, &of_client);
    for (int i = 0; i < 3; i++) {
        shake_hands_well();
        speak_both_ways();
        close_pair();
    }
    end_story();
}

static void handshakes_may_run_on_threads_that_block(void **state) {
    story(1, blocking_story);
}

static _Atomic bool is_looking, may_go_on;

/* As long as a key of any size may take to sign: runs where signing does. */
static bool looks_for_long(void *arg, const struct tls_san *sans, size_t count) {
    is_looking = true;
    while (!may_go_on)
        sched_yield();
    return true;
}

static void slow_step_story(void *arg) {
    struct tls_options of_server = server_options(), of_client = client_options();
    struct tls_validation of_clients = validation;
    of_clients.match = looks_for_long;
    of_server.validation = &of_clients;
    of_server.require_peer_certificate = of_server.blocking_keys = true;
    of_client.certificates = certificates;
    of_client.certificate_count = 1;
    contexts(&of_server, &of_client);
    open_pair();
    CHECK(go_here("server", accepts, &server) == 0);
    connects(); /* of 1.3, so the client is done before the server has looked */
    CHECK(client.rc == 0);
    STORY_AWAIT(is_looking); /* this is the same P, and goes on */
    struct rt_stats stats;
    rt_stats(&stats);
    CHECK(stats.blocking_busy == 1); /* and the step never had it */
    CHECK(!server.done);
    may_go_on = true;
    STORY_AWAIT(server.done);
    CHECK(server.rc == 0);
    speak_both_ways();
    close_pair();
    end_story();
}

static void a_slow_step_holds_up_nobody_of_its_p(void **state) {
    story(1, slow_step_story);
}

/* ---- Many at once, on several Ps ---- */

enum { PAIRS = 16 };
static struct many { struct side server, client; } many[PAIRS];
static _Atomic unsigned well;

static void one_accepts(void *arg) {
    struct many *one = arg;
    struct side *side = &one->server;
    side->rc = tls_accept(&side->socket, side->context, &side->in, story_soon(), &side->fault);
    CHECK(side->rc == 0);
    hears(side, "question");
    says(side, "answer");
    side->done = true;
}

static void one_connects(void *arg) {
    struct many *one = arg;
    int fds[2];
    unix_pair(fds);
    open_side(&one->server, fds[0], NULL);
    open_side(&one->client, fds[1], NULL);
    one->server.context = server.context;
    CHECK(go_here("server", one_accepts, one) == 0);
    struct side *side = &one->client;
    side->rc = tls_connect(&side->socket, client.context, &to_server, &side->in, story_soon(),
                           &side->fault);
    CHECK(side->rc == 0);
    says(side, "question");
    hears(side, "answer");
    STORY_AWAIT(one->server.done);
    CHECK(tls_peer_identity(&side->socket));
    close_side(&one->client);
    close_side(&one->server);
    atomic_fetch_add(&well, 1);
}

/* Each P resumes what others have kept, and makes room for its own. */
static void many_by_id_story(void *arg) {
    struct tls_session_cache *cache = tls_session_cache_new(2000);
    struct tls_options of_server = server_options(), of_client = client_options();
    of_server.session_cache = cache;
    of_server.max_version = TLS_1_2;
    of_client.max_sessions = 4;
    contexts(&of_server, &of_client);
    for (unsigned round = 1; round <= 3; round++) {
        for (unsigned i = 0; i < PAIRS; i++)
            CHECK(go_on(i % rt_p_count(), "pair", one_connects, &many[i]) == 0);
        STORY_AWAIT(atomic_load(&well) == round * PAIRS);
    }
    tls_session_cache_unref(cache);
    end_story();
}

static void sessions_by_id_are_of_all_ps(void **state) {
    story(3, many_by_id_story);
}

static void many_story(void *arg) {
    struct tls_tickets *tickets = tls_tickets_new(NULL, 0);
    struct tls_options of_server = server_options(), of_client = client_options();
    of_server.tickets = tickets;
    of_client.max_sessions = 4;
    contexts(&of_server, &of_client);
    for (unsigned round = 1; round <= 3; round++) {
        for (unsigned i = 0; i < PAIRS; i++)
            CHECK(go_on(i % rt_p_count(), "pair", one_connects, &many[i]) == 0);
        STORY_AWAIT(atomic_load(&well) == round * PAIRS);
        tls_tickets_rotate(tickets);
    }
    tls_tickets_unref(tickets);
    end_story();
}

static void contexts_serve_all_ps(void **state) {
    story(3, many_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_handshake_may_come_byte_by_byte),
        cmocka_unit_test(a_peer_that_stops_anywhere_is_waited_for_until_the_deadline),
        cmocka_unit_test(a_peer_that_goes_is_told_from_one_that_is_late),
        cmocka_unit_test(whoever_speaks_something_else_is_refused_with_a_reason),
        cmocka_unit_test(bytes_read_before_and_behind_the_handshake_are_not_lost),
        cmocka_unit_test(handshakes_may_run_on_threads_that_block),
        cmocka_unit_test(a_slow_step_holds_up_nobody_of_its_p),
        cmocka_unit_test(contexts_serve_all_ps),
        cmocka_unit_test(sessions_by_id_are_of_all_ps),
    };
    return cmocka_run_group_tests(tests, tls_story_setup, tls_story_teardown);
}
