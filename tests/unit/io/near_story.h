/* near_story: a story about one socket, `near`, whose other end, `far`, is a mere descriptor; and a coroutine that
 * waits on it. On one P. */
#pragma once
#include "io/socket.h"
#include "io_story.h"

typedef void (*pair_fn)(int fds[2]);
static pair_fn make_pair; /* of the story that runs */

static UNUSED void on_both(rt_fn body) {
    make_pair = unix_pair;
    story(1, body);
    make_pair = tcp_pair;
    story(1, body);
}

static struct socket near;
static struct inbuf in;
static int far;

/* `near` is ours, `far` the other end. */
static UNUSED void open_near(void) {
    int fds[2];
    make_pair(fds);
    CHECK(socket_open(&near, fds[0], NULL) == 0);
    far = fds[1];
    inbuf_init(&in, rt_blocks());
}

static UNUSED ssize_t receive(void) {
    return socket_receive(&near, &in, "test receives", story_soon());
}

static UNUSED void end(void) {
    inbuf_drop(&in);
    CHECK(blocks_in_use() == 0);
    rt_stop(0);
}

static struct g *waiter; /* the coroutine that start_waiter started */
static UNUSED ssize_t waiter_got;
static bool waiter_ended;

static UNUSED void start_waiter(rt_fn body) {
    waiter_ended = false;
    waiter = NULL;
    CHECK(go_here("waiter", body, NULL) == 0);
    STORY_AWAIT(waiter);
    rt_yield();
}

static UNUSED int sender_rc;

static UNUSED void waits_for_room(void *arg) {
    waiter = rt_self();
    static char bytes[1 << 16];
    do {
        struct iovec piece = {bytes, sizeof bytes};
        sender_rc = socket_send(&near, &piece, 1, "waits for room", RT_FOREVER);
    } while (sender_rc == 0);
    waiter_ended = true;
}
