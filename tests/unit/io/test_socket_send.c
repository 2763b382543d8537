/* socket.c: sending, of spans and of slices, to peers that take all of it, little at a time or nothing. */
#include "io_faults.h"

#include "near_story.h"

enum { MANY_BYTES = 3 << 20 };

static uint64_t read_sum, read_bytes;
static bool reader_ended;

static void adds_up(void *arg) {
    static struct socket peer;
    static struct inbuf from;
    CHECK(socket_open(&peer, far, NULL) == 0);
    inbuf_init(&from, rt_blocks());
    ssize_t n;
    while ((n = socket_receive(&peer, &from, "reads", RT_FOREVER)) > 0) {
        struct span bytes = inbuf_bytes(&from);
        for (size_t i = 0; i < bytes.len; i++)
            read_sum += (uint8_t)bytes.ptr[i] * (++read_bytes % 1021);
        inbuf_consume(&from, bytes.len);
        inbuf_idle(&from);
    }
    CHECK(n == 0);
    inbuf_drop(&from);
    socket_close(&peer);
    reader_ended = true;
}

/* Pieces of all sizes, some of them empty, which are far more than fits at once. */
static void pieces_story(void *arg) {
    open_near();
    read_sum = read_bytes = 0;
    reader_ended = false;
    CHECK(go_here("reads", adds_up, NULL) == 0);
    static char bytes[MANY_BYTES];
    uint64_t seed = 7, sum = 0, sent = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)next_random(&seed);
    while (sent < sizeof bytes) {
        struct iovec pieces[SOCKET_PIECES_MAX];
        int count = (int)(next_random(&seed) % SOCKET_PIECES_MAX);
        size_t mean = next_random(&seed) % 2 ? 4 : 4096;
        for (int i = 0; i < count; i++) {
            size_t size = next_random(&seed) % mean;
            if (size > sizeof bytes - sent)
                size = sizeof bytes - sent;
            pieces[i] = (struct iovec){bytes + sent, size};
            for (size_t j = 0; j < size; j++)
                sum += (uint8_t)bytes[sent + j] * ((sent + j + 1) % 1021);
            sent += size;
        }
        CHECK(socket_send(&near, pieces, count, "sends", 100 * NS_PER_S) == 0);
        CHECK(near.tx_bytes == sent);
    }
    CHECK(socket_shutdown(&near) == 0);
    STORY_AWAIT(reader_ended);
    CHECK(read_bytes == sent);
    CHECK(read_sum == sum);
    CHECK(counted(IO_SEND_BYTES) == sent);
    socket_close(&near);
    end();
}

static void whatever_the_pieces_all_bytes_arrive_in_order(void **state) {
    on_both(pieces_story);
}

/* The same with a kernel that takes a byte at a time. */
static void crumbs_story(void *arg) {
    fault.most = 1;
    open_near();
    read_sum = read_bytes = 0;
    reader_ended = false;
    CHECK(go_here("reads", adds_up, NULL) == 0);
    char bytes[3000];
    uint64_t seed = 9, sum = 0;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)next_random(&seed);
        sum += (uint8_t)bytes[i] * ((i + 1) % 1021);
    }
    struct iovec pieces[] = {{bytes, 0}, {bytes, 1500}, {bytes, 0}, {bytes + 1500, 1500}};
    CHECK(socket_send(&near, pieces, 4, "sends", RT_FOREVER) == 0);
    CHECK(counted(IO_SEND_PARTIAL) > 0);
    CHECK(socket_shutdown(&near) == 0);
    STORY_AWAIT(reader_ended);
    CHECK(read_bytes == sizeof bytes);
    CHECK(read_sum == sum);
    socket_close(&near);
    end();
}

/* And with a peer that sends one at a time. */
static size_t crumbs_read;

static void sends_crumbs(void *arg) {
    for (int i = 0; i < 3000; i++) {
        char byte = (char)i;
        peer_sends(far, &byte, 1);
        while (crumbs_read <= (size_t)i)
            rt_yield();
    }
    peer_ends(far);
}

static void reads_crumbs_story(void *arg) {
    open_near();
    CHECK(go_here("sends crumbs", sends_crumbs, NULL) == 0);
    for (ssize_t n; (n = receive()) > 0; crumbs_read++) {
        CHECK(n == 1);
        CHECK(*inbuf_bytes(&in).ptr == (char)crumbs_read);
        inbuf_consume(&in, 1);
    }
    CHECK(crumbs_read == 3000);
    CHECK(counted(IO_RECV_AGAIN) <= 1);
    end();
}

static void crumbs_of_any_size_arrive(void **state) {
    on_both(crumbs_story);
    on_both(reads_crumbs_story);
}

static void nothing_to_send_story(void *arg) {
    open_near();
    struct iovec none[3] = {{0}};
    CHECK(socket_send(&near, none, 0, "nothing", RT_FOREVER) == 0);
    CHECK(socket_send(&near, none, 3, "nothing", RT_FOREVER) == 0);
    CHECK(counted(IO_SEND_CALLS) == 0);
    end();
}

static void nothing_to_send_is_no_call(void **state) {
    on_both(nothing_to_send_story);
}

static void stall_story(void *arg) {
    open_near();
    fill_up(&near);
    uint64_t calls = counted(IO_SEND_CALLS);
    char byte = 0;
    struct iovec piece = {&byte, 1};
    CHECK(socket_send(&near, &piece, 1, "full", NS_PER_MS) == -ETIMEDOUT);
    CHECK(counted(IO_SEND_CALLS) == calls); /* it is known to be full */
    start_waiter(waits_for_room);
    CHECK(!waiter_ended);
    rt_cancel(waiter);
    STORY_AWAIT(waiter_ended);
    CHECK(sender_rc == -ECANCELED);
    static char bytes[1 << 20];
    for (ssize_t n; (n = peer_receives(far, bytes, sizeof bytes)) > 0;)
        rt_yield();
    piece = (struct iovec){&byte, 1};
    CHECK(socket_send(&near, &piece, 1, "room again", 100 * NS_PER_S) == 0);
    end();
}

static void a_peer_that_takes_nothing_stalls_a_send(void **state) {
    on_both(stall_story);
}

/* Takes some whenever half of the time that a send may stall has passed. */
static void takes_slowly(void *arg) {
    static char bytes[1 << 18];
    while (!waiter_ended) {
        (void)peer_receives(far, bytes, sizeof bytes);
        CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
    }
}

static void progress_story(void *arg) {
    open_near();
    waiter_ended = false;
    CHECK(go_here("takes slowly", takes_slowly, NULL) == 0);
    static char bytes[16 << 20];
    struct iovec piece = {bytes, sizeof bytes};
    int64_t started_ns = clock_mono_ns();
    CHECK(socket_send(&near, &piece, 1, "slow", 60 * NS_PER_S) == 0);
    CHECK(clock_mono_ns() > started_ns);
    waiter_ended = true;
    rt_yield();
    end();
}

static void progress_keeps_a_send_alive(void **state) {
    on_both(progress_story);
}

static void try_story(void *arg) {
    open_near();
    struct iovec pieces[] = {piece_of("ab"), {NULL, 0}, piece_of("cd")};
    CHECK(socket_try_send(&near, pieces, 0) == 0);
    CHECK(counted(IO_SEND_CALLS) == 0);
    CHECK(socket_try_send(&near, pieces, 3) == 4);
    CHECK(pieces[0].iov_len == 2); /* left alone */
    fault.most = 3;
    CHECK(socket_try_send(&near, pieces, 3) == 3);
    fault.most = 0;
    char got[8];
    for (size_t n = 0; n < 7; rt_yield()) {
        ssize_t more = peer_receives(far, got + n, sizeof got - n);
        CHECK(more > 0 || more == -EAGAIN);
        n += more > 0 ? (size_t)more : 0;
    }
    CHECK(memcmp(got, "abcdabc", 7) == 0);
    fill_up(&near);
    uint64_t calls = counted(IO_SEND_CALLS);
    CHECK(socket_try_send(&near, pieces, 3) == -EAGAIN);
    CHECK(counted(IO_SEND_CALLS) == calls);
    CHECK(near.tx_bytes == counted(IO_SEND_BYTES));
    end();
}

static void a_try_takes_what_there_is_room_for(void **state) {
    on_both(try_story);
}

/* ---- Slices ---- */

enum { SLICES = 100 };

static struct block *lettered_block(char letter, size_t size) {
    struct block *block = block_get(rt_blocks());
    CHECK(block);
    memset(block->data, letter, size);
    return block;
}

static void slices_story(void *arg) {
    open_near();
    read_sum = read_bytes = 0;
    reader_ended = false;
    struct slice slices[SLICES];
    uint64_t sum = 0, sent = 0;
    for (int i = 0; i < SLICES; i++) {
        size_t size = i % 3 ? 16000 : 0;
        struct block *block = lettered_block((char)i, 16000);
        slices[i] = (struct slice){span_make(block->data, size), block};
    }
    slices[7].bytes = SPAN_LIT("borrowed"); /* among leases */
    block_put(rt_blocks(), slices[7].block);
    slices[7].block = NULL;
    for (int i = 0; i < SLICES; i++)
        for (size_t j = 0; j < slices[i].bytes.len; j++)
            sum += (uint8_t)slices[i].bytes.ptr[j] * (++sent % 1021);
    CHECK(blocks_in_use() == SLICES - 1);
    CHECK(go_here("reads", adds_up, NULL) == 0);
    CHECK(socket_send_slices(&near, slices, SLICES, "slices", 100 * NS_PER_S) == 0);
    CHECK(near.tx_bytes == sent);
    CHECK(blocks_in_use() <= 1); /* the reader's */
    CHECK(socket_shutdown(&near) == 0);
    STORY_AWAIT(reader_ended);
    CHECK(read_bytes == sent);
    CHECK(read_sum == sum);
    CHECK(blocks_in_use() == 0);
    socket_close(&near);
    end();
}

static int slices_rc;

static void sends_slices(void *arg) {
    struct slice *slices = arg;
    waiter = rt_self();
    slices_rc = socket_send_slices(&near, slices, SLICES, "slices", RT_FOREVER);
    waiter_ended = true;
}

/* Blocks come back while the rest still waits; and all of them when that is over, whoever else leases them. */
static void slices_back_story(void *arg) {
    open_near();
    static struct slice slices[SLICES];
    struct block *kept = NULL;
    for (int i = 0; i < SLICES; i++) {
        kept = lettered_block('x', BLOCK_DATA_SIZE);
        slices[i] = (struct slice){span_make(kept->data, BLOCK_DATA_SIZE), kept};
    }
    slices[SLICES - 1] = slice_lease(slices[SLICES - 1].bytes, kept);
    waiter_ended = false;
    waiter = NULL;
    int size = 64 * 1024;
    CHECK(setsockopt(near.pd.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    CHECK(go_here("sends", sends_slices, slices) == 0);
    STORY_AWAIT(waiter && (blocks_in_use() < SLICES || waiter_ended));
    CHECK(!waiter_ended);
    rt_cancel(waiter);
    STORY_AWAIT(waiter_ended);
    CHECK(slices_rc == -ECANCELED);
    CHECK(blocks_in_use() == 1);
    CHECK(kept->leases == 1);
    block_put(rt_blocks(), kept);
    end();
}

static void slices_give_their_blocks_back(void **state) {
    on_both(slices_story);
    on_both(slices_back_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_the_pieces_all_bytes_arrive_in_order),
        cmocka_unit_test(crumbs_of_any_size_arrive),
        cmocka_unit_test(nothing_to_send_is_no_call),
        cmocka_unit_test(a_peer_that_takes_nothing_stalls_a_send),
        cmocka_unit_test(progress_keeps_a_send_alive),
        cmocka_unit_test(a_try_takes_what_there_is_room_for),
        cmocka_unit_test(slices_give_their_blocks_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
