/* datagram.c: messages with addresses, whole or cut short, and what becomes of those that nobody takes. */
#include "io_faults.h"

#include "io/datagram.h"
#include "io_story.h"

static struct datagram ours, theirs;
static struct address our_address, their_address;

static void open_one(struct datagram *datagram, struct address *at) {
    struct address any;
    CHECK(address_parse(SPAN_LIT("127.0.0.1"), 0, &any));
    CHECK(datagram_open(datagram, &any) == 0);
    datagram_local_address(datagram, at);
    CHECK(address_port(at) != 0);
}

static void open_both(void) {
    open_one(&ours, &our_address);
    open_one(&theirs, &their_address);
}

static int send_text(struct datagram *from, const char *text, const struct address *to) {
    struct iovec piece = piece_of(text);
    return datagram_send(from, &piece, 1, to, "test sends", story_soon());
}

static ssize_t receive(struct datagram *datagram, void *into, size_t size, struct address *from) {
    return datagram_receive(datagram, into, size, from, "test receives", story_soon());
}

static void messages_story(void *arg) {
    open_both();
    char text[16];
    struct address from;
    CHECK(datagram_try_receive(&theirs, text, sizeof text, &from) == -EAGAIN);
    CHECK(send_text(&ours, "one", &their_address) == 0);
    CHECK(send_text(&ours, "", &their_address) == 0);
    struct iovec pieces[] = {piece_of("th"), {NULL, 0}, piece_of("ree")};
    CHECK(datagram_send(&ours, pieces, 3, &their_address, "test sends", story_soon()) == 0);
    CHECK(receive(&theirs, text, sizeof text, &from) == 3);
    CHECK(memcmp(text, "one", 3) == 0);
    CHECK(address_eq(&from, &our_address));
    CHECK(receive(&theirs, text, sizeof text, NULL) == 0); /* a message too */
    CHECK(receive(&theirs, text, sizeof text, &from) == 5);
    CHECK(memcmp(text, "three", 5) == 0);
    CHECK(counted(IO_RECV_BYTES) == 8);
    CHECK(counted(IO_SEND_BYTES) == 8);

    CHECK(send_text(&ours, "too long by far", &their_address) == 0);
    memset(text, '#', sizeof text);
    CHECK(receive(&theirs, text, 8, &from) == 15);
    CHECK(memcmp(text, "too long########", 16) == 0);
    CHECK(send_text(&theirs, "answer", &from) == 0);
    CHECK(receive(&ours, text, sizeof text, NULL) == 6);
    datagram_close(&ours);
    datagram_close(&theirs);
    rt_stop(0);
}

static void messages_come_whole_or_say_what_is_lost(void **state) {
    story(1, messages_story);
}

static struct g *waiter;
static ssize_t waiter_got;

static void waits(void *arg) {
    char byte;
    waiter = rt_self();
    waiter_got = datagram_receive(&ours, &byte, 1, NULL, "waits", RT_FOREVER);
    waiter = NULL;
}

static void waits_story(void *arg) {
    open_both();
    char byte;
    CHECK(datagram_receive(&ours, &byte, 1, NULL, "nothing", clock_mono_ns() + NS_PER_MS) ==
          -ETIMEDOUT);
    CHECK(go_here("waits", waits, NULL) == 0);
    STORY_AWAIT(waiter);
    rt_yield();
    rt_cancel(waiter);
    STORY_AWAIT(!waiter);
    CHECK(waiter_got == -ECANCELED);
    CHECK(go_here("waits", waits, NULL) == 0);
    STORY_AWAIT(waiter);
    rt_yield();
    CHECK(send_text(&theirs, "x", &our_address) == 0);
    STORY_AWAIT(!waiter);
    CHECK(waiter_got == 1);

    fault_set(FAULT_SEND, EAGAIN, 1); /* no room; and no edge will say that there is */
    struct iovec piece = piece_of("x");
    CHECK(datagram_send(&ours, &piece, 1, &their_address, "full", clock_mono_ns() + NS_PER_MS) ==
          -ETIMEDOUT);
    CHECK(counted(IO_SEND_AGAIN) == 1);
    rt_stop(0);
}

static void waits_end_by_deadline_cancellation_and_message(void **state) {
    story(1, waits_story);
}

/* Nobody listens at the peer's port: the network says so, and the socket lives on. */
static void soft_story(void *arg) {
    open_both();
    CHECK(datagram_connect(&ours, &their_address) == 0);
    datagram_close(&theirs);
    char text[16];
    CHECK(send_text(&ours, "anybody?", NULL) == 0);
    ssize_t n = receive(&ours, text, sizeof text, NULL);
    CHECK(n == -ECONNREFUSED);
    CHECK(datagram_is_soft(n));
    CHECK(counted(IO_SOFT_ERRORS) == 1);
    CHECK(counted(IO_ERRORS) == 0);
    CHECK(datagram_receive(&ours, text, sizeof text, NULL, "once only",
                           clock_mono_ns() + NS_PER_MS) == -ETIMEDOUT);

    /* An answer to the one before is no reason not to send the next one. */
    CHECK(send_text(&ours, "anybody?", NULL) == 0);
    CHECK(poll_wait_readable(&ours.pd, "the answer", story_soon()) == 0);
    CHECK(datagram_open(&theirs, &their_address) == 0);
    CHECK(send_text(&ours, "now", NULL) == 0);
    CHECK(counted(IO_SOFT_ERRORS) == 2);
    CHECK(receive(&theirs, text, sizeof text, NULL) == 3);
    CHECK(send_text(&theirs, "here", &our_address) == 0);
    CHECK(receive(&ours, text, sizeof text, NULL) == 4);
    rt_stop(0);
}

static void what_the_network_says_of_a_message_ends_nothing(void **state) {
    story(1, soft_story);
}

static void refused_story(void *arg) {
    unsigned descriptors = open_descriptors();
    struct address any;
    CHECK(address_parse(SPAN_LIT("127.0.0.1"), 0, &any));
    static const int opens[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
    for (size_t i = 0; i < sizeof opens / sizeof *opens; i++) {
        fault_set(FAULT_SOCKET, opens[i], 1);
        CHECK(datagram_open(&ours, &any) == -opens[i]);
    }
    fault_set(FAULT_BIND, EADDRINUSE, 1);
    CHECK(datagram_open(&ours, &any) == -EADDRINUSE);
    fault_set(FAULT_WATCH, ENOSPC, 1);
    CHECK(datagram_open(&ours, &any) == -ENOSPC);
    CHECK(open_descriptors() == descriptors);

    open_both();
    uint64_t errors = counted(IO_ERRORS);
    fault_set(FAULT_CONNECT, ENETUNREACH, 1);
    CHECK(datagram_connect(&ours, &their_address) == -ENETUNREACH);
    CHECK(counted(IO_ERRORS) == errors + 1);
    CHECK(send_text(&ours, "to whom", NULL) == -EDESTADDRREQ);
    static char huge[70000];
    struct iovec piece = {huge, sizeof huge};
    CHECK(datagram_send(&ours, &piece, 1, &their_address, "huge", RT_FOREVER) == -EMSGSIZE);
    static const int sends[] = {ENOBUFS, ENOMEM, EPERM, ENETDOWN, EADDRNOTAVAIL};
    for (size_t i = 0; i < sizeof sends / sizeof *sends; i++) {
        fault_set(FAULT_SEND, sends[i], 1);
        CHECK(send_text(&ours, "x", &their_address) == -sends[i]);
    }
    fault_set(FAULT_SEND, ENETUNREACH, 100); /* it is about this one, however often it is tried */
    CHECK(send_text(&ours, "x", &their_address) == -ENETUNREACH);
    CHECK(fault.met <= 3);
    fault_set(FAULT_SEND, EINTR, 3);
    CHECK(send_text(&ours, "x", &their_address) == 0);
    char byte = '#';
    static const int receives[] = {ENOMEM, ENOBUFS, ENETDOWN};
    for (size_t i = 0; i < sizeof receives / sizeof *receives; i++) {
        fault_set(FAULT_RECV, receives[i], 1);
        CHECK(receive(&theirs, &byte, 1, NULL) == -receives[i]);
        CHECK(byte == '#');
    }
    fault_set(FAULT_RECV, EINTR, 3);
    CHECK(receive(&theirs, &byte, 1, NULL) == 1);
    datagram_close(&ours);
    datagram_close(&theirs);
    CHECK(open_descriptors() == descriptors);
    rt_stop(0);
}

static void what_is_refused_leaves_nothing(void **state) {
    story(1, refused_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_whole_or_say_what_is_lost),
        cmocka_unit_test(waits_end_by_deadline_cancellation_and_message),
        cmocka_unit_test(what_the_network_says_of_a_message_ends_nothing),
        cmocka_unit_test(what_is_refused_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
