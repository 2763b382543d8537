/* TLS on both ends of a pair of sockets: what is said on one side is heard on the other, however it is cut into
 * pieces, and every kind of end is told from the others. */
#include "io_faults.h"

#include <openssl/ssl.h>

#include "io/splice.h"
#include "io/tls_internal.h"
#include "rt/io_counts.h"
#include "rt/poll_ring.h"
#include "rt/sync.h"
#include "tls_story.h"

/* ---- Speaking ---- */

static void speak_story(void *arg) {
    plain_contexts();
    shake_hands_well();
    speak_both_ways();
    CHECK(client.socket.tx_bytes == 8); /* inside, without the handshake */
    CHECK(client.socket.rx_bytes == 6);
    CHECK(server.socket.tx_bytes == 6);
    struct tls_facts facts = facts_of(&server);
    CHECK(is(facts.version, "TLSv1.3"));
    CHECK(is(facts.cipher, "TLS_AES_128_GCM_SHA256"));
    CHECK(facts.cipher_id == 0x1301);
    CHECK(is(facts.group, "X25519"));
    CHECK(is(facts.server_name, "server.test"));
    CHECK(!facts.resumed);
    CHECK(!facts.has_peer_certificate);
    facts = facts_of(&client);
    CHECK(facts.peer_verified);
    CHECK(is(facts.signature, "ecdsa_secp256r1_sha256"));
    const struct tls_identity *peer = tls_peer_identity(&client.socket);
    CHECK(peer);
    CHECK(is(peer->subject, "CN=server,O=Tests"));
    CHECK(is(peer->issuer, "CN=Authority,O=Tests"));
    CHECK(peer->san_count == 1);
    CHECK(peer->sans[0].type == TLS_SAN_DNS);
    CHECK(is(peer->sans[0].value, "server.test"));
    CHECK(peer->sha256.len == 64);
    CHECK(peer->sha1.len == 40);
    CHECK(peer->not_after_s - peer->not_before_s == 10800);
    CHECK(span_starts_with(peer->serial, SPAN_LIT("12")));
    const struct tls_identity *local = tls_local_identity(&server.socket);
    CHECK(local);
    CHECK(span_eq(local->sha256, peer->sha256));
    CHECK(span_starts_with(tls_peer_pem(&client.socket),
                           SPAN_LIT("-----BEGIN%20CERTIFICATE-----%0A")));
    CHECK(!tls_local_identity(&client.socket));
    CHECK(!tls_peer_identity(&server.socket));
    close_pair();
    end_story();
}

static void what_one_side_says_the_other_hears(void **state) {
    story(1, speak_story);
}

/* ---- Every size ---- */

static unsigned char sent_bytes[300 * 1024];

static void fill_bytes(void) {
    uint64_t seed = 42;
    for (size_t i = 0; i < sizeof sent_bytes; i++)
        sent_bytes[i] = (unsigned char)next_random(&seed);
}

struct wanted {
    struct side *side;
    size_t size;
    size_t at_once; /* bytes of the inbuf that are used at a time; 0: all */
    size_t bulk;    /* not 0: that much room for each receive, and no inbuf */
    bool done;
};

static struct splice_pool pool;

/* One receive, of what is `got` so far. */
static ssize_t receive_bulk(struct side *side, size_t room, size_t got) {
    struct splice splice = splice_begin(&pool);
    ssize_t n = splice_receive(&splice, &side->socket, room, "receives", story_soon());
    if (n > 0) {
        CHECK((size_t)n <= room && got + (size_t)n <= sizeof sent_bytes);
        CHECK(memcmp(splice_in_memory(&splice).ptr, sent_bytes + got, (size_t)n) == 0);
    }
    splice_end(&splice);
    return n;
}

static void receives_bulk(struct wanted *wanted) {
    size_t got = 0;
    while (got < wanted->size) {
        ssize_t n = receive_bulk(wanted->side, wanted->bulk, got);
        CHECK(n > 0);
        got += (size_t)n;
    }
    CHECK(got == wanted->size);
    wanted->done = true;
}

static void receives_all(void *arg) {
    struct wanted *wanted = arg;
    struct side *side = wanted->side;
    size_t got = 0;
    if (wanted->bulk) {
        receives_bulk(wanted);
        return;
    }
    while (got < wanted->size) {
        if (inbuf_len(&side->in) == 0)
            CHECK(socket_receive(&side->socket, &side->in, "receives", story_soon()) > 0);
        size_t run = inbuf_len(&side->in);
        if (wanted->at_once && run > wanted->at_once)
            run = wanted->at_once;
        CHECK(memcmp(inbuf_bytes(&side->in).ptr, sent_bytes + got, run) == 0);
        inbuf_consume(&side->in, run);
        inbuf_idle(&side->in);
        got += run;
    }
    wanted->done = true;
}

/* In pieces of the given size, several to a call. */
static void send_in_pieces(struct side *side, size_t size, size_t piece_size, int per_call) {
    size_t sent = 0;
    while (sent < size) {
        struct iovec pieces[8];
        int count = 0;
        for (; count < per_call && sent < size; count++) {
            size_t run = size - sent < piece_size ? size - sent : piece_size;
            pieces[count] = (struct iovec){sent_bytes + sent, run};
            sent += run;
        }
        CHECK(socket_send(&side->socket, pieces, count, "sends", RT_FOREVER) == 0);
    }
}

static void sizes_story(void *arg) {
    static const struct {
        size_t size, piece;
        int per_call;
    } cases[] = {
        {1, 1, 1},         {100, 1, 1},
        {1000, 7, 3},      {16384, 16384, 1},
        {16385, 16385, 1}, {50000, 1000, 8},
        {65536, 65536, 1}, {65537, 65537, 1},
        {131072, 8192, 8}, {sizeof sent_bytes, sizeof sent_bytes, 1},
        {98304, 16383, 2}, {98304, 16385, 2},
    };
    static const size_t bulks[] = {0, SPLICE_MEMORY_SIZE, 70000, 65536, 20000};
    fill_bytes();
    plain_contexts();
    shake_hands_well();
    splice_pool_init(&pool);
    for (size_t way = 0; way < 2 * sizeof bulks / sizeof *bulks; way++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct wanted wanted = {
                .side = way % 2 ? &server : &client, .size = cases[i].size, .bulk = bulks[way / 2]};
            struct side *sender = way % 2 ? &client : &server;
            CHECK(go_here("receives", receives_all, &wanted) == 0);
            send_in_pieces(sender, cases[i].size, cases[i].piece, cases[i].per_call);
            STORY_AWAIT(wanted.done);
        }
    (void)splice_pool_shrink(&pool);
    close_pair();
    end_story();
}

static void bytes_of_any_size_arrive(void **state) {
    story(1, sizes_story);
}

/* The kernel takes little at a time, or nothing now and then, at every point of handshake and data. */
static void partial_story(void *arg) {
    static const size_t mosts[] = {1, 3, 17, 1000, 5000};
    fill_bytes();
    plain_contexts();
    splice_pool_init(&pool);
    for (size_t i = 0; i < sizeof mosts / sizeof *mosts; i++) {
        fault.most = mosts[i];
        shake_hands_well();
        struct wanted wanted = {.side = &client, .size = mosts[i] < 100 ? 2000 : 100000};
        CHECK(go_here("receives", receives_all, &wanted) == 0);
        send_in_pieces(&server, wanted.size, wanted.size, 1);
        STORY_AWAIT(wanted.done);
        wanted = (struct wanted){.side = &client, .size = wanted.size, .bulk = SPLICE_MEMORY_SIZE};
        CHECK(go_here("receives", receives_all, &wanted) == 0);
        send_in_pieces(&server, wanted.size, wanted.size, 1);
        STORY_AWAIT(wanted.done);
        speak_both_ways();
        fault.most = 0;
        close_pair();
    }
    (void)splice_pool_shrink(&pool);
    end_story();
}

static void a_kernel_that_takes_little_delays_and_loses_nothing(void **state) {
    story(1, partial_story);
}

/* A small buffer: what is encrypted and not yet taken waits, and is not encrypted twice. */
static void full_story(void *arg) {
    fill_bytes();
    plain_contexts();
    shake_hands_well();
    size_t sent = 0;
    for (;;) {
        struct iovec piece = {sent_bytes + sent, sizeof sent_bytes - sent};
        ssize_t n = socket_try_send(&server.socket, &piece, 1);
        if (n == -EAGAIN)
            break;
        CHECK(n > 0);
        sent += (size_t)n;
        if (sent == sizeof sent_bytes)
            break;
    }
    CHECK(sent < sizeof sent_bytes); /* a unix socket has some 200 KB of room */
    CHECK(server.socket.tx_bytes == sent);
    struct wanted wanted = {.side = &client, .size = sizeof sent_bytes};
    CHECK(go_here("receives", receives_all, &wanted) == 0);
    send_in_pieces(&server, 0, 1, 1);
    struct iovec rest = {sent_bytes + sent, sizeof sent_bytes - sent};
    CHECK(socket_send(&server.socket, &rest, 1, "sends", RT_FOREVER) == 0);
    STORY_AWAIT(wanted.done);
    CHECK(server.socket.tx_bytes == sizeof sent_bytes);
    speak_both_ways();
    close_pair();
    end_story();
}

static void what_does_not_go_now_goes_later_and_once(void **state) {
    story(1, full_story);
}

/* ---- Ends ---- */

static ssize_t receive_of(struct side *side) {
    return socket_receive(&side->socket, &side->in, "receives", story_soon());
}

/* What the user is told when the wire's end is, once more, an event. */
static NOINLINE bool breaks(struct side *side) {
    unsigned events = side->socket.transport->itab->event(&side->socket, SOCKET_INPUT);
    CHECK(events & POLL_EVENT_HUP);
    return events & SOCKET_BROKEN;
}

static void half_close_story(void *arg) {
    plain_contexts();
    shake_hands_well();
    says(&client, "all I have");
    CHECK(socket_shutdown(&client.socket) == 0);
    hears(&server, "all I have");
    CHECK(receive_of(&server) == 0);
    CHECK(receive_of(&server) == 0);
    CHECK(socket_hung_up(&server.socket));
    CHECK(!breaks(&server));
    says(&server, "an answer all the same");
    hears(&client, "an answer all the same");
    socket_close(&server.socket);
    CHECK(receive_of(&client) == 0); /* socket_close says it, too */
    inbuf_drop(&server.in);
    close_side(&client);
    end_story();
}

static void each_direction_ends_by_itself(void **state) {
    story(1, half_close_story);
}

static NOINLINE void shut_wire(struct side *side) {
    CHECK(poll_shutdown(&side->socket.pd) == 0);
}

static void truncation_story(void *arg) {
    plain_contexts();
    shake_hands_well();
    says(&client, "and so");
    shut_wire(&client);
    hears(&server, "and so");
    CHECK(receive_of(&server) == 0);
    CHECK(receive_of(&server) == 0);
    CHECK(server.socket.transport->truncated);
    CHECK(socket_hung_up(&server.socket));
    CHECK(!breaks(&server));
    says(&server, "an answer all the same");
    hears(&client, "an answer all the same");
    CHECK(socket_shutdown(&server.socket) == 0);
    CHECK(receive_of(&client) == 0);
    CHECK(!client.socket.transport->truncated);
    close_pair();
    end_story();
}

static void an_end_without_notice_is_an_end_that_can_be_told(void **state) {
    story(1, truncation_story);
}

static void garbage(struct side *from, const void *bytes, size_t size);

/* Of a record there are its header in part, its header, and some of what it says. */
static void cut_story(void *arg) {
    static const size_t sizes[] = {3, 5, 20};
    plain_contexts();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        shake_hands_well();
        says(&client, "and so");
        garbage(&client, "\x17\x03\x03\x00\x30 which will not come to an end", sizes[i]);
        shut_wire(&client);
        hears(&server, "and so");
        CHECK(receive_of(&server) == -ECONNRESET);
        CHECK(receive_of(&server) == -ECONNRESET);
        CHECK(breaks(&server));
        CHECK(strstr(tls_failure_text(&server.socket), "UNEXPECTED_EOF_WHILE_READING"));
        close_pair();
    }
    end_story();
}

static void an_end_inside_a_record_is_none(void **state) {
    story(1, cut_story);
}

/* Bytes on the client's wire that its TLS knows nothing of. */
static void garbage(struct side *from, const void *bytes, size_t size) {
    struct iovec piece = {(void *)(uintptr_t)bytes, size};
    CHECK(socket_raw_try_send(&from->socket, &piece, 1, size) == (ssize_t)size);
}

static void garbage_story(void *arg) {
    static const struct {
        const char *bytes;
        size_t size;
        const char *says;
    } cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", 18, "TLS_error:|"},
        {"\x17\x03\x03\x00\x20 this is not what was encrypted..", 37,
         "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"},
        {"\x17\x03\x03\x48\x00x", 6, "LENGTH"}, /* longer than a record may be */
        {"\x16\x03\x03\x00\x04\x00\x00\x00\x00", 9,
         "TLS_error:|"}, /* a HelloRequest in the clear */
    };
    plain_contexts();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        shake_hands_well();
        garbage(&client, cases[i].bytes, cases[i].size);
        CHECK(receive_of(&server) == -EPROTO);
        if (!strstr(tls_failure_text(&server.socket), cases[i].says))
            fprintf(stderr, "%zu: %s\n", i, tls_failure_text(&server.socket));
        CHECK(strstr(tls_failure_text(&server.socket), cases[i].says));
        struct iovec piece = piece_of("more");
        CHECK(socket_send(&server.socket, &piece, 1, "sends", RT_FOREVER) == -EPROTO);
        CHECK(socket_has_unread(&server.socket)); /* the error */
        CHECK(receive_of(&client) == -EPROTO);    /* it was told */
        CHECK(strstr(tls_failure_text(&client.socket), "ALERT"));
        close_pair();
    }
    end_story();
}

static void garbage_ends_a_connection_and_says_why(void **state) {
    story(1, garbage_story);
}

static uint64_t recv_calls(void) {
    uint64_t counts[IO_COUNTS];
    io_counts_read(0, counts);
    return counts[IO_RECV_CALLS];
}

/* All that can be decrypted is heard before an end or an error that came along with it, and what the end is followed
 * by is not. */
static void bulk_ends_story(void *arg) {
    enum { RECORD = 16384, RECORDS = 6, SENT = RECORDS * RECORD };
    fill_bytes();
    plain_contexts();
    splice_pool_init(&pool);
    for (int good = 0; good < 2; good++) {
        shake_hands_well();
        send_in_pieces(&client, SENT, SENT, 1);
        struct tls *tls = tls_of(&client.socket);
        tls->direct = true;
        if (good)
            CHECK(SSL_shutdown(tls->ssl) == 0);
        garbage(&client, "rubbish", 7);
        uint64_t calls = recv_calls();
        CHECK(receive_bulk(&server, SPLICE_MEMORY_SIZE, 0) == SENT);
        CHECK(recv_calls() == calls + 1); /* and not one for each record */
        for (int i = 0; i < 2; i++)
            CHECK(receive_bulk(&server, SPLICE_MEMORY_SIZE, SENT) == (good ? 0 : -EPROTO));
        close_pair();
    }
    CHECK(pool.memories_in_use == 0);
    (void)splice_pool_shrink(&pool);
    end_story();
}

static void what_comes_along_with_an_end_is_heard(void **state) {
    story(1, bulk_ends_story);
}

static void ignored_story(void *arg) {
    plain_contexts();
    shake_hands_well();
    struct tls *tls = tls_of(&client.socket);
    tls->direct = true;
    CHECK(SSL_shutdown(tls->ssl) == 0);
    garbage(&client, "rubbish", 7);
    CHECK(receive_of(&server) == 0);
    CHECK(receive_of(&server) == 0);
    CHECK(socket_discard(&server.socket, 100, "drops", story_soon()) == 0);
    says(&server, "still");
    hears(&client, "still");
    close_pair();
    end_story();
}

static void what_comes_behind_an_end_is_ignored(void **state) {
    story(1, ignored_story);
}

static void reset_story(void *arg) {
    plain_contexts();
    int fds[2];
    tcp_pair(fds);
    open_side(&server, fds[0], NULL);
    open_side(&client, fds[1], NULL);
    CHECK(go_here("server", accepts, &server) == 0);
    connects();
    STORY_AWAIT(server.done);
    CHECK(server.rc == 0 && client.rc == 0);
    says(&client, "never read");
    STORY_AWAIT(socket_has_input(&server.socket));
    CHECK(socket_has_unread(&server.socket));
    hears(&server, "never read");
    says(&client, "never read");
    fault_set(FAULT_RECV, ECONNRESET, 1);
    CHECK(receive_of(&server) == -ECONNRESET);
    CHECK(receive_of(&server) == -ECONNRESET);
    fault_set(FAULT_SEND, EPIPE, 1);
    struct iovec piece = {sent_bytes, 2000}; /* not put off to the end of the round */
    CHECK(socket_send(&client.socket, &piece, 1, "sends", RT_FOREVER) == -EPIPE);
    CHECK(socket_send(&client.socket, &piece, 1, "sends", RT_FOREVER) == -EPIPE);
    close_pair();
    end_story();
}

static void errors_of_the_wire_are_the_users(void **state) {
    story(1, reset_story);
}

/* ---- While nobody waits ---- */

static unsigned told;

static void on_event(struct socket *socket, unsigned events) {
    told |= events;
}

static NOINLINE void update_keys(struct side *side) {
    struct tls *tls = tls_of(&side->socket);
    CHECK(SSL_key_update(tls->ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
    tls->direct = true;
    CHECK(SSL_do_handshake(tls->ssl) == 1);
}

static void idle_story(void *arg) {
    plain_contexts();
    int fds[2];
    unix_pair(fds);
    open_side(&server, fds[0], on_event);
    open_side(&client, fds[1], NULL);
    CHECK(go_here("server", accepts, &server) == 0);
    connects();
    STORY_AWAIT(server.done);
    told = 0;

    uint64_t before = counted(IO_RECV_CALLS);
    update_keys(&client);
    STORY_AWAIT(counted(IO_RECV_CALLS) > before); /* by the event */
    CHECK(told == 0);                             /* which is nothing to the user */
    CHECK(!socket_has_unread(&server.socket));

    /* Half a record, then the other half. */
    fill_bytes();
    struct iovec piece = {sent_bytes, 2000}; /* not put off to the end of the round */
    fault.most = 20;
    before = counted(IO_RECV_CALLS);
    CHECK(socket_try_send(&client.socket, &piece, 1) == -EAGAIN);
    STORY_AWAIT(counted(IO_RECV_CALLS) > before);
    CHECK(told == 0);
    fault.most = 0;
    client.socket.pd.ready |= POLL_EVENT_OUT;
    CHECK(socket_send(&client.socket, &piece, 1, "sends", RT_FOREVER) == 0);
    STORY_AWAIT(told);
    CHECK(told == SOCKET_INPUT);
    CHECK(socket_has_input(&server.socket));
    struct wanted wanted = {.side = &server, .size = 2000};
    receives_all(&wanted);
    CHECK(socket_try_receive(&server.socket, &server.in) == -EAGAIN);
    inbuf_idle(&server.in);
    CHECK(!socket_has_input(&server.socket));

    told = 0;
    close_side(&client);
    STORY_AWAIT(told & SOCKET_HUNG_UP);
    CHECK(receive_of(&server) == 0);
    close_side(&server);
    end_story();
}

static void an_idle_user_hears_of_bytes_and_ends_alone(void **state) {
    story(1, idle_story);
}

static void key_update_story(void *arg) {
    plain_contexts();
    shake_hands_well();
    for (int i = 0; i < 40; i++) {
        update_keys(i % 2 ? &client : &server);
        speak_both_ways();
    }
    close_pair();
    end_story();
}

static void keys_change_under_way(void **state) {
    story(1, key_update_story);
}

static void memory_story(void *arg) {
    plain_contexts();
    shake_hands_well();
    speak_both_ways();
    CHECK(!tls_of(&server.socket)->unsent);
    CHECK(!tls_of(&server.socket)->early);
    CHECK(!SSL_has_pending(tls_of(&server.socket)->ssl));
    CHECK(blocks_in_use() == 0);
    close_pair();
    end_story();
}

static void an_idle_connection_holds_no_buffers(void **state) {
    story(1, memory_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_side_says_the_other_hears),
        cmocka_unit_test(bytes_of_any_size_arrive),
        cmocka_unit_test(a_kernel_that_takes_little_delays_and_loses_nothing),
        cmocka_unit_test(what_does_not_go_now_goes_later_and_once),
        cmocka_unit_test(each_direction_ends_by_itself),
        cmocka_unit_test(an_end_without_notice_is_an_end_that_can_be_told),
        cmocka_unit_test(an_end_inside_a_record_is_none),
        cmocka_unit_test(garbage_ends_a_connection_and_says_why),
        cmocka_unit_test(what_comes_along_with_an_end_is_heard),
        cmocka_unit_test(what_comes_behind_an_end_is_ignored),
        cmocka_unit_test(errors_of_the_wire_are_the_users),
        cmocka_unit_test(an_idle_user_hears_of_bytes_and_ends_alone),
        cmocka_unit_test(keys_change_under_way),
        cmocka_unit_test(an_idle_connection_holds_no_buffers),
    };
    return cmocka_run_group_tests(tests, tls_story_setup, tls_story_teardown);
}
