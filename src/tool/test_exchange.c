/* test_exchange: one thread and one poll for both ends and for what the proxy prints, so that nothing that one
 * of them waits for is left lying.
 *
 *     sender ──► client socket ──► proxy ──► origin socket ──► receiver
 *     receiver ◄─               ◄─       ◄─                ◄── sender, once the request is whole
 *
 * A message goes out in pieces, each behind a pause if there is one. When the client has its answer, or has
 * left, the request is not over yet: the filter still hears of its end. So the proxy is asked until it has
 * none left, and the origin is heard meanwhile.
 *
 * The origin has one connection at a time. One that ends before it said a thing belonged to a request that
 * was called off, and is passed over. */
#include "tool/test_exchange.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

enum { LOOK_MS = 2 }; /* between two questions whether it is over */

struct sender {
    struct span *pieces;
    size_t count, at, offset; /* offset: sent of pieces[at] */
    int64_t delay_ns, next_ns;
    bool leaves; /* once all are sent */
};

struct end {
    int fd; /* -1: none */
    struct sender sender;
    struct receiver receiver;
};

struct run {
    struct test_proxy *proxy;
    struct cfg_arena *arena;
    const struct test_plan *plan;
    struct end client, origin;
    bool client_over, client_left;
    uint16_t client_port;
};

/* ---- what is sent ---- */

static void add_piece(struct sender *s, struct span bytes) {
    s->pieces[s->count++] = bytes;
}

/* The next piece of the body as it goes on the wire. */
static struct span wire_piece(struct cfg_arena *arena, const struct message *message,
                              struct span bytes) {
    struct cfg_buf buf = {.arena = arena};
    if (!message->chunked)
        return bytes;
    if (bytes.len) {
        cfg_buf_printf(&buf, "%zx\r\n", bytes.len);
        cfg_buf_span(&buf, bytes);
        cfg_buf_text(&buf, "\r\n");
    }
    return cfg_buf_view(&buf);
}

static struct span join(struct cfg_arena *arena, struct span a, struct span b) {
    struct cfg_buf buf = {.arena = arena};
    cfg_buf_span(&buf, a);
    cfg_buf_span(&buf, b);
    return cfg_buf_view(&buf);
}

struct pieces {
    const uint32_t *sizes;
    size_t count;
    struct cfg_duration delay;
    struct cfg_u32 stop; /* set: the sender leaves after so many bytes of the body */
};

static size_t piece_size(const struct pieces *pieces, size_t i, size_t left) {
    if (pieces->count == 0)
        return left;
    size_t size = pieces->sizes[i < pieces->count ? i : pieces->count - 1];
    return size < left ? size : left;
}

static void sender_init(struct sender *s, struct cfg_arena *arena, const struct message *message,
                        const struct pieces *pieces) {
    struct span body = message->body;
    bool cut = pieces->stop.set && pieces->stop.value < body.len;
    if (cut)
        body.len = pieces->stop.value;
    size_t count = 0;
    for (size_t at = 0; at < body.len; count++)
        at += piece_size(pieces, count, body.len - at);
    *s = (struct sender){.pieces = cfg_alloc_array(arena, count + 2, sizeof(struct span)),
                         .delay_ns = pieces->delay.set ? pieces->delay.ns : 0,
                         .leaves = pieces->stop.set};
    add_piece(s, message_head(arena, message));
    for (size_t i = 0, at = 0; i < count; i++) {
        size_t size = piece_size(pieces, i, body.len - at);
        add_piece(s, wire_piece(arena, message, span_make(body.ptr + at, size)));
        at += size;
    }
    struct span *last = &s->pieces[s->count - 1];
    if (message->chunked && !pieces->stop.set)
        *last = join(arena, *last, message_chunked_end(arena, message));
    if (s->count == 2 && s->delay_ns == 0) { /* as a program would that has it all at hand */
        s->pieces[0] = join(arena, s->pieces[0], s->pieces[1]);
        s->count = 1;
    }
}

static bool has_sent(const struct sender *s) {
    return s->at == s->count;
}

static void set_nonblocking(int fd) {
    int on = 1;
    (void)fcntl(fd, F_SETFL, O_NONBLOCK); /* a socket takes it */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* What can go out now. Where the other side has closed, the rest is not sent: what it said is still read. */
static NOINLINE void send_some(struct end *end) {
    struct sender *s = &end->sender;
    while (!has_sent(s) && clock_mono_ns() >= s->next_ns) {
        struct span rest = span_from(s->pieces[s->at], s->offset);
        ssize_t n = send(end->fd, rest.ptr, rest.len, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            s->at = s->count;
            return;
        }
        s->offset += (size_t)n;
        if (s->offset < s->pieces[s->at].len)
            return;
        s->at++;
        s->offset = 0;
        s->next_ns = clock_mono_ns() + s->delay_ns;
    }
}

/* ---- both ends ---- */

static void close_end(struct end *end) {
    if (end->fd >= 0)
        (void)close(end->fd); /* TCP keeps nothing back that could be told here */
    end->fd = -1;
}

/* False at the end of the connection, however it came. */
static NOINLINE bool receive_some(struct end *end) {
    char bytes[64 * 1024];
    for (;;) {
        ssize_t n = recv(end->fd, bytes, sizeof(bytes), 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return true;
        if (n <= 0) {
            receiver_end(&end->receiver);
            return false;
        }
        receiver_take(&end->receiver, span_make(bytes, (size_t)n));
    }
}

static void serve_client(struct run *run) {
    const struct test_abort *abort = run->plan->plainly ? NULL : run->plan->test->abort;
    struct end *client = &run->client;
    send_some(client);
    bool more = receive_some(client);
    struct receiver *r = &client->receiver;
    if (r->is_done || r->bad || !more)
        run->client_over = true;
    else if (client->sender.leaves && has_sent(&client->sender))
        run->client_over = run->client_left = true;
    if (abort && abort->after_response_bytes.set && r->has_head &&
        receiver_body_bytes(r) >= abort->after_response_bytes.value && !r->bad)
        run->client_over = run->client_left = true;
    if (run->client_over) {
        if (!r->is_done)
            receiver_end(r);
        close_end(client);
    }
}

static void origin_init(struct run *run) {
    receiver_init(&run->origin.receiver, run->arena, MESSAGE_REQUEST, span_none());
}

static NOINLINE void accept_origin(struct run *run) {
    run->origin.fd = accept4(run->plan->origin, NULL, NULL, SOCK_CLOEXEC);
    if (run->origin.fd >= 0)
        set_nonblocking(run->origin.fd);
}

static void begin_answer(struct run *run) {
    const struct test_case *test = run->plan->test;
    struct pieces pieces = {0};
    if (!run->plan->plainly)
        pieces = (struct pieces){
            test->response_chunks, test->response_chunks_count, test->response_delay, {0}};
    if (!run->plan->plainly && test->abort)
        pieces.stop = test->abort->origin_after_bytes;
    struct message response = run->plan->messages->response;
    if (span_eq(run->origin.receiver.message.method, SPAN_LIT("HEAD")))
        response.body = span_none(), response.chunked = false;
    sender_init(&run->origin.sender, run->arena, &response, &pieces);
}

static void serve_origin(struct run *run) {
    struct end *origin = &run->origin;
    bool more = receive_some(origin);
    if (origin->receiver.is_done && !origin->sender.pieces)
        begin_answer(run);
    if (origin->sender.pieces)
        send_some(origin);
    if (!more || (origin->sender.leaves && has_sent(&origin->sender)))
        close_end(origin);
    if (origin->fd < 0 && !origin->receiver.has_head) { /* of a request that was called off */
        receiver_fini(&origin->receiver);
        origin_init(run);
    }
}

static void watch(const struct end *end, struct pollfd *out, int64_t *until_ns) {
    const struct sender *s = &end->sender;
    *out = (struct pollfd){.fd = end->fd, .events = POLLIN};
    if (end->fd < 0 || !s->pieces || has_sent(s))
        return;
    if (clock_mono_ns() >= s->next_ns)
        out->events |= POLLOUT;
    else if (s->next_ns < *until_ns)
        *until_ns = s->next_ns;
}

/* One look at both. 0 or as test_proxy_poll. */
static int step(struct run *run, int64_t until_ns) {
    struct pollfd fds[2];
    bool listens = run->origin.fd < 0 && !run->origin.receiver.has_head;
    watch(&run->client, &fds[0], &until_ns);
    watch(&run->origin, &fds[1], &until_ns);
    if (listens)
        fds[1] = (struct pollfd){.fd = run->plan->origin, .events = POLLIN};
    int ready = test_proxy_poll(run->proxy, fds, 2, until_ns);
    if (run->origin.fd < 0 && listens && ready > 0 && fds[1].revents)
        accept_origin(run);
    if (run->origin.fd >= 0)
        serve_origin(run);
    if (run->client.fd >= 0)
        serve_client(run);
    return ready < 0 ? ready : 0;
}

static NOINLINE int connect_client(struct run *run) {
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(test_proxy_port(run->proxy, run->plan->listener)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    run->client.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in own;
    socklen_t len = sizeof(own);
    if (run->client.fd < 0 || connect(run->client.fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
        getsockname(run->client.fd, (struct sockaddr *)&own, &len) < 0)
        return -EPIPE;
    run->client_port = ntohs(own.sin_port);
    set_nonblocking(run->client.fd);
    return 0;
}

/* Until the filter has heard of the request's end. */
static int settle(struct run *run, int64_t deadline_ns, struct test_proxy_state *state) {
    for (;;) {
        int err = test_proxy_look(run->proxy, deadline_ns, state);
        if (err || state->active == 0)
            return err;
        if (clock_mono_ns() >= deadline_ns)
            return -ETIMEDOUT;
        err = step(run, clock_mono_ns() + LOOK_MS * NS_PER_MS);
        if (err)
            return err;
    }
}

static enum test_verdict play(struct run *run, struct test_proxy_state *state) {
    const struct test_case *test = run->plan->test;
    int64_t deadline_ns = clock_mono_ns() + run->plan->timeout_ns;
    struct pieces pieces = {0};
    if (!run->plan->plainly)
        pieces = (struct pieces){
            test->request_chunks, test->request_chunks_count, test->request_delay, {0}};
    if (!run->plan->plainly && test->abort)
        pieces.stop = test->abort->after_request_bytes;
    sender_init(&run->client.sender, run->arena, &run->plan->messages->request, &pieces);
    int err = connect_client(run);
    while (!err && !run->client_over && clock_mono_ns() < deadline_ns)
        err = step(run, deadline_ns);
    if (err)
        return EXCHANGE_LOST;
    if (!run->client_over)
        return EXCHANGE_STUCK;
    err = settle(run, deadline_ns, state);
    if (!err)
        err = step(run, clock_mono_ns()); /* what the origin was sent last */
    return err == 0 ? EXCHANGE_OVER : err == -ETIMEDOUT ? EXCHANGE_HELD : EXCHANGE_LOST;
}

enum test_verdict test_exchange_run(struct test_proxy *proxy, struct cfg_arena *arena,
                                    const struct test_plan *plan, struct test_result *out) {
    struct run run = {
        .proxy = proxy, .arena = arena, .plan = plan, .client.fd = -1, .origin.fd = -1};
    struct test_proxy_state state = {0};
    receiver_init(&run.client.receiver, arena, MESSAGE_RESPONSE, plan->messages->request.method);
    origin_init(&run);
    enum test_verdict verdict = play(&run, &state);
    close_end(&run.client);
    close_end(&run.origin);
    receiver_end(&run.client.receiver);
    receiver_end(&run.origin.receiver);
    *out = (struct test_result){
        .request = run.origin.receiver.message,
        .response = run.client.receiver.message,
        .request_came = run.origin.receiver.has_head,
        .request_complete = run.origin.receiver.is_done,
        .response_came = run.client.receiver.has_head,
        .response_complete = run.client.receiver.is_done,
        .client_left = run.client_left,
        .bad = run.client.receiver.bad,
        .panics = state.panics,
        .faults = state.faults,
        .client_port = run.client_port,
    };
    receiver_fini(&run.client.receiver);
    receiver_fini(&run.origin.receiver);
    return verdict;
}
