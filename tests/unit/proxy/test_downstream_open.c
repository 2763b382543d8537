/* downstream_pending.c, downstream_open.c: a connection from accept to its end below HTTP and in front of it, with
 * filters that note what they are asked. A whole listener, on one P, with a peer that the test plays. */
#include "../io/io_story.h"
#include "serving_story.h"

#include "config/network_config.h"
#include "proxy/downstream_internal.h"
#include "proxy/downstream_wait.h"

/* ---- what filters did ---- */

static char noted[4096];

static void note(const char *what) {
    CHECK(strlen(noted) + strlen(what) + 2 < sizeof noted);
    strcat(strcat(noted, what), " ");
}

/* Takes a line for itself: the server name. "!" refuses. */
static size_t line_max(const void *config) {
    return config ? *(const size_t *)config : 16;
}

static unsigned looks;

static enum listener_filter_verdict line_look(const void *config, struct downstream *d,
                                              struct connection_info *info, struct span bytes,
                                              bool ended, size_t *consume) {
    CHECK(!info->shared);
    CHECK(bytes.len <= line_max(config));
    looks++;
    ptrdiff_t end = span_find(bytes, '\n');
    if (end < 0)
        return LISTENER_FILTER_MORE;
    if (bytes.ptr[0] == '!')
        return LISTENER_FILTER_CLOSE;
    info->server_name = connection_info_keep(info, span_make(bytes.ptr, (size_t)end));
    *consume = (size_t)end + 1;
    return LISTENER_FILTER_DONE;
}
static const struct listener_filter_itab line_itab = {
    .name = "line", .max_bytes = line_max, .look = line_look};
static const struct listener_filter_kind line_kind = {.itab = &line_itab};

/* Is asked at once, before anything has come. */
static enum listener_filter_verdict early_look(const void *config, struct downstream *d,
                                               struct connection_info *info, struct span bytes,
                                               bool ended, size_t *consume) {
    note("early");
    info->is_tls = true;
    return LISTENER_FILTER_DONE;
}
static const struct listener_filter_itab early_itab = {.name = "early", .look = early_look};
static const struct listener_filter_kind early_kind = {.itab = &early_itab};

/* In front: notes that it came and went. With a limit of 0 tokens it refuses. */
static int before_build(const struct cfg_any *any, struct snapshot *snapshot,
                        struct cfg_problems *problems, void **config) {
    const struct cfg_network_connection_limit *limit = any->message;
    *config = (void *)(uintptr_t)limit->stat_prefix.ptr;
    return 0;
}

static int before_open(struct network_stream *n, const struct network_filter *filter, void **self) {
    char text[64];
    snprintf(text, sizeof text, "open:%s", (const char *)*self);
    note(text);
    return strcmp(*self, "refuses") == 0 ? -ECONNREFUSED : 0;
}

static void before_close(struct network_stream *n, void *self) {
    char text[64];
    snprintf(text, sizeof text, "close:%s", (const char *)self);
    note(text);
}
static const struct network_filter_itab before_itab = {
    .name = "before", .open = before_open, .close = before_close};
static const struct network_filter_kind before_kind = {
    .itab = &before_itab, .schema = &cfg_schema_network_connection_limit, .build = before_build};

/* At the end: gives everything back, to the end of it. */
static enum network_result echo_serve(struct network_stream *n, void *self) {
    struct span lent;
    ssize_t got;
    while ((got = reader_next(n->reader, SIZE_MAX, &lent)) > 0)
        if (writer_write_span(n->writer, lent) != 0)
            return NETWORK_DONE;
    note(got == 0 ? "ended" : "broken");
    return NETWORK_DONE;
}
static const struct network_filter_itab echo_itab = {.name = "echo", .serve = echo_serve};
static const struct network_filter_kind echo_kind = {.itab = &echo_itab,
                                                     .schema = &cfg_schema_echo};

/* At the end, without a coroutine: answers whatever comes with "#", and ends on ".". */
static void taking_look(struct network_stream *n) {
    static char mark[] = "#";
    struct iovec piece = {mark, 1};
    ssize_t got = socket_try_receive(&n->connection->socket, &n->in);
    if (got == -EAGAIN)
        return;
    if (got <= 0 || n->in.data[n->in.end - 1] == '.') {
        note(got > 0 ? "dot" : "gone");
        network_stream_end(n);
        return;
    }
    CHECK(socket_try_send(&n->connection->socket, &piece, 1) == 1);
}

static enum network_result taking_serve(struct network_stream *n, void *self) {
    note("taken");
    taking_look(n); /* what came before is not told again */
    return NETWORK_TAKEN;
}

static void taking_event(struct network_stream *n, void *self, unsigned events) {
    CHECK(!rt_self());
    CHECK(events & SOCKET_INPUT);
    taking_look(n);
}

static void taking_close(struct network_stream *n, void *self) {
    note("let-go");
}
static const struct network_filter_itab taking_itab = {
    .name = "taking", .serve = taking_serve, .event = taking_event, .close = taking_close};
static const struct network_filter_kind taking_kind = {
    .itab = &taking_itab, .schema = &cfg_schema_network_direct_response};

/* Between: the first line is a handshake, of which the rest of the connection knows nothing. */
static int hello_accept(const void *config, struct downstream *d, struct inbuf *in,
                        int64_t deadline_ns) {
    ssize_t got = 1;
    while (got > 0 && span_find(inbuf_bytes(in), '\n') < 0)
        got = socket_receive(&d->socket, in, "hello", deadline_ns);
    note(got > 0 ? "hello" : got == -ETIMEDOUT ? "late" : "no-hello");
    return got > 0 ? 0 : got == 0 ? -ECONNRESET : (int)got;
}
static const struct transport_socket_itab hello_itab = {.name = "hello", .accept = hello_accept};
static const struct transport_socket_kind hello_kind = {.itab = &hello_itab};

/* ---- a listener ---- */

#define TYPE "\"@type\": type.googleapis.com/envoy.extensions.filters.network."
#define ECHO "{name: e, typed_config: {" TYPE "echo.v3.Echo}}"
#define TAKING                                                                                     \
    "{name: t, typed_config: {" TYPE "direct_response.v3.Config, response: {inline_string: x}}}"
#define BEFORE(which)                                                                              \
    "{name: b, typed_config: {" TYPE "connection_limit.v3.ConnectionLimit, stat_prefix: " which    \
    ", max_connections: 1}}"
#define CHAIN(name, rest, filters) "    - {name: " name ", " rest "filters: [" filters "]}\n"

static struct snapshot *snapshot;
static const struct listener *listener;
static struct listener_filter filters[2];

static void configure(const char *more, const char *chains) {
    char text[4096];
    struct config *config;
    struct cfg_problems problems = {0};
    CHECK((size_t)snprintf(text, sizeof text,
                           "static_resources:\n"
                           "  listeners:\n"
                           "  - name: l\n"
                           "    address: {socket_address: {address: 127.0.0.1, port_value: 0}}\n"
                           "%s    filter_chains:\n%s",
                           more, chains) < sizeof text);
    CHECK(stats_init(rt_p_count()) == 0);
    CHECK(workers_init() == 0);
    network_filter_register(&before_kind);
    network_filter_register(&echo_kind);
    network_filter_register(&taking_kind);
    int rc = config_load_text(SPAN_LIT("t.yaml"), span_of(text), span_none(), &config, &problems);
    if (rc == 0)
        snapshot = snapshot_build(resources_of_bootstrap(config, NULL, &problems), NULL, &problems);
    if (!snapshot)
        cfg_problems_print(&problems, stderr);
    cfg_problems_fini(&problems);
    CHECK(snapshot);
}

static void look_with(const struct listener_filter_kind *first,
                      const struct listener_filter_kind *second) {
    struct listener_config *config = snapshot->listeners[0];
    filters[0].kind = first;
    filters[1].kind = second;
    free(config->filters);
    config->filters = filters;
    config->filter_count = second ? 2 : 1;
}

static void serve(void) {
    listener = serving_story_begin(snapshot);
}

static int connected(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    CHECK(fd >= 0);
    CHECK(connect(fd, &listener->addresses[0].sa.any, listener->addresses[0].len) == 0 ||
          errno == EINPROGRESS);
    CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    return fd;
}

static NOINLINE void say(int fd, const char *text) {
    peer_sends(fd, text, strlen(text));
}

static NOINLINE ssize_t try_hear(int fd, char *out, size_t size) {
    ssize_t n = recv(fd, out, size, MSG_DONTWAIT);
    return n < 0 ? -errno : n;
}

/* Waits for just that. */
static void hear(int fd, const char *expected) {
    char got[256] = {0};
    size_t len = 0;
    while (len < strlen(expected)) {
        ssize_t n;
        STORY_AWAIT((n = try_hear(fd, got + len, strlen(expected) - len)) != -EAGAIN);
        CHECK(n > 0);
        len += (size_t)n;
    }
    CHECK(strcmp(got, expected) == 0);
}

static void hear_end(int fd) {
    char byte;
    ssize_t n;
    STORY_AWAIT((n = try_hear(fd, &byte, 1)) != -EAGAIN);
    CHECK(n == 0 || n == -ECONNRESET);
    CHECK(close(fd) == 0);
}

static struct downstream *the_one(void) {
    struct worker *worker = worker_here();
    CHECK(worker->client_count == 1);
    return container_of(worker->downstreams.next, struct downstream, node);
}

static int64_t value(const struct statistic *stat) {
    return stat_value(stat);
}

/* Everything that was held is given back. */
static void over(void) {
    struct worker *worker = worker_here();
    STORY_AWAIT(worker->client_count == 0);
    CHECK(value(listener->stats.cx_active) == 0);
    CHECK(value(listener->stats.pre_cx_active) == 0);
    CHECK(value(listener->stats.cx_total) == value(listener->stats.cx_destroy));
    CHECK(worker->head_count == 0);
    CHECK(worker->head_bytes == 0);
    rt_stop(0);
}

/* ---- stories ---- */

/* Byte by byte, in a connection that has no coroutine; then a chain is chosen by what was found, and what was not
 * consumed is the stream's. */
static void looked_at_story(void *arg) {
    configure("", CHAIN("a", "filter_chain_match: {server_names: [a.com]}, ", ECHO)
                      CHAIN("b", "filter_chain_match: {server_names: [b.com]}, ", TAKING));
    look_with(&early_kind, &line_kind);
    serve();
    int fd = connected();
    STORY_AWAIT(worker_here()->client_count == 1);
    struct downstream *d = the_one();
    CHECK(d->state == DOWNSTREAM_PENDING);
    CHECK(strcmp(noted, "early ") == 0);
    CHECK(looks == 0); /* nobody is asked about nothing */
    CHECK(value(listener->stats.pre_cx_active) == 1);
    CHECK(value(listener->stats.cx_active) == 0);
    for (const char *c = "a.co"; *c; c++) {
        size_t before = d->head ? d->head->len : 0;
        peer_sends(fd, c, 1);
        STORY_AWAIT(d->head && d->head->len == before + 1);
    }
    CHECK(looks == 4);
    CHECK(d->info->is_tls);
    CHECK(!d->info->chain);
    say(fd, "m\nfirst");
    hear(fd, "first");
    CHECK(the_one() == d);
    CHECK(d->state == DOWNSTREAM_STREAM);
    CHECK(span_eq(d->info->chain->name, SPAN_LIT("a")));
    CHECK(value(listener->stats.pre_cx_active) == 0);
    CHECK(value(listener->stats.cx_active) == 1);
    say(fd, ", second");
    hear(fd, ", second");
    CHECK(shutdown(fd, SHUT_WR) == 0);
    hear_end(fd);
    CHECK(strcmp(noted, "early ended ") == 0);
    over();
}

static void listener_filters_wait_without_a_coroutine(void **state) {
    story(1, looked_at_story);
}

static void refused_story(void *arg) {
    configure("", CHAIN("a", "filter_chain_match: {server_names: [a.com]}, ", ECHO));
    look_with(&line_kind, NULL);
    serve();
    int fd = connected();
    say(fd, "!\n");
    hear_end(fd);
    CHECK(value(listener->stats.no_filter_chain_match) == 0);
    fd = connected();
    say(fd, "c.com\n");
    hear_end(fd);
    CHECK(value(listener->stats.no_filter_chain_match) == 1);
    fd = connected(); /* a filter that has seen all it may ask for is done, whatever it says */
    say(fd, "0123456789abcdef\n");
    hear_end(fd);
    CHECK(value(listener->stats.no_filter_chain_match) == 2);
    fd = connected(); /* gone without a word */
    STORY_AWAIT(worker_here()->client_count == 1);
    CHECK(shutdown(fd, SHUT_WR) == 0);
    hear_end(fd);
    CHECK(value(listener->stats.no_filter_chain_match) == 2);
    fd = connected(); /* half a line and an end: what is known is what counts */
    say(fd, "a.com");
    CHECK(shutdown(fd, SHUT_WR) == 0);
    hear_end(fd);
    CHECK(value(listener->stats.no_filter_chain_match) == 3);
    CHECK(value(listener->stats.cx_total) == 0);
    over();
}

static void whom_no_chain_matches_is_closed(void **state) {
    story(1, refused_story);
}

static void late_story(void *arg) {
    configure("    listener_filters_timeout: 0.02s\n", CHAIN("a", "", ECHO));
    look_with(&line_kind, NULL);
    serve();
    int silent = connected();
    hear_end(silent);
    int slow = connected();
    say(slow, "a.c");
    hear_end(slow);
    CHECK(value(listener->stats.pre_cx_timeout) == 2);
    over();
}

static void late_and_welcome_story(void *arg) {
    configure("    listener_filters_timeout: 0.02s\n"
              "    continue_on_listener_filters_timeout: true\n",
              CHAIN("a", "", ECHO));
    look_with(&line_kind, NULL);
    serve();
    int fd = connected();
    say(fd, "a.c");
    hear(fd, "a.c");
    CHECK(value(listener->stats.pre_cx_timeout) == 1);
    CHECK(close(fd) == 0);
    over();
}

static void who_is_slow_is_closed_or_goes_on(void **state) {
    story(1, late_story);
    story(1, late_and_welcome_story);
}

/* More than a block was looked at, and the stream has all of it. */
static void large_story(void *arg) {
    enum { SIZE = 3 * BLOCK_SIZE };
    static const size_t max = SIZE;
    static char sent[SIZE + 100], got[SIZE + 100];
    configure("", CHAIN("a", "", BEFORE("one") ", " ECHO));
    filters[0].config = (void *)(uintptr_t)&max;
    look_with(&line_kind, NULL);
    serve();
    int fd = connected();
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (char)('a' + i % 25);
    size_t put = 0, len = 0;
    while (len < sizeof got) {
        ssize_t n = put < sizeof sent ? send(fd, sent + put, sizeof sent - put, MSG_NOSIGNAL) : 0;
        put += n > 0 ? (size_t)n : 0;
        n = try_hear(fd, got + len, sizeof got - len);
        len += n > 0 ? (size_t)n : 0;
        CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
    }
    CHECK(memcmp(sent, got, sizeof sent) == 0);
    CHECK(close(fd) == 0);
    over();
}

static void what_was_looked_at_is_the_streams(void **state) {
    story(1, large_story);
}

static void order_story(void *arg) {
    configure("", CHAIN("a", "", BEFORE("one") ", " BEFORE("two") ", " ECHO));
    serve();
    int fd = connected();
    say(fd, "x");
    hear(fd, "x");
    CHECK(strcmp(noted, "open:one open:two ") == 0);
    CHECK(close(fd) == 0);
    STORY_AWAIT(worker_here()->client_count == 0);
    CHECK(strcmp(noted, "open:one open:two ended close:two close:one ") == 0);
    over();
}

/* What was opened is closed, and nothing else. */
static void failing_story(void *arg) {
    configure("", CHAIN("a", "", BEFORE("one") ", " BEFORE("refuses") ", " ECHO));
    serve();
    hear_end(connected());
    CHECK(strcmp(noted, "open:one open:refuses close:one ") == 0);
    over();
}

static void filters_close_in_reverse(void **state) {
    story(1, order_story);
    story(1, failing_story);
}

/* It goes on by events alone. */
static void taken_story(void *arg) {
    configure("", CHAIN("a", "", TAKING));
    serve();
    int one = connected(), two;
    STORY_AWAIT(strcmp(noted, "taken ") == 0);
    say(one, "a");
    hear(one, "#");
    two = connected();
    STORY_AWAIT(strcmp(noted, "taken taken ") == 0);
    say(one, "b");
    hear(one, "#");
    say(one, ".");
    hear_end(one);
    CHECK(close(two) == 0);
    STORY_AWAIT(worker_here()->client_count == 0);
    CHECK(strcmp(noted, "taken taken dot let-go gone let-go ") == 0);
    over();
}

static void a_filter_may_take_a_connection(void **state) {
    story(1, taken_story);
}

static void transport_story(void *arg) {
    configure("    listener_filters_timeout: 0s\n",
              CHAIN("a", "transport_socket_connect_timeout: 0.02s, ", BEFORE("one") ", " ECHO));
    snapshot->listeners[0]->chains->chains[0].transport.kind = &hello_kind;
    filters[0].config = (void *)(uintptr_t) & (const size_t){3};
    look_with(&line_kind, NULL);
    serve();
    int fd = connected();
    say(fd, "abc"); /* what the filter saw is a part of the handshake */
    STORY_AWAIT(worker_here()->client_count == 0 || the_one()->state == DOWNSTREAM_OPENING);
    say(fd, "def\n");
    STORY_AWAIT(noted[0]);
    if (strcmp(noted, "late ") != 0) { /* on a machine that has better to do */
        STORY_AWAIT(strcmp(noted, "hello open:one ") == 0);
        say(fd, "x");
        hear(fd, "x");
        CHECK(close(fd) == 0);
        STORY_AWAIT(worker_here()->client_count == 0);
        CHECK(value(listener->stats.cx_transport_connect_timeout) == 0);
    }
    noted[0] = '\0';
    fd = connected();
    say(fd, "abc");
    hear_end(fd);
    CHECK(strcmp(noted, "late ") == 0); /* no filter was opened */
    CHECK(value(listener->stats.cx_transport_connect_timeout) > 0);
    over();
}

/* Its client speaks first; while it does not, there is no coroutine. */
static void quiet_story(void *arg) {
    configure("", CHAIN("a", "transport_socket_connect_timeout: 3600s, ", ECHO));
    snapshot->listeners[0]->chains->chains[0].transport.kind = &hello_kind;
    serve();
    int fd = connected(), gone = connected(), drained = connected();
    struct worker *worker = worker_here();
    STORY_AWAIT(value(listener->stats.cx_active) == 3);
    for (struct list *at = worker->downstreams.next; at != &worker->downstreams; at = at->next)
        CHECK(container_of(at, struct downstream, node)->state == DOWNSTREAM_PENDING);
    CHECK(value(listener->stats.pre_cx_active) == 0);
    CHECK(close(gone) == 0);
    STORY_AWAIT(value(listener->stats.cx_active) == 2);
    say(fd, "h\n");
    STORY_AWAIT(strcmp(noted, "hello ") == 0);
    say(fd, "x");
    hear(fd, "x");
    downstream_drain_all(worker);
    hear_end(drained);
    say(fd, "y");
    hear(fd, "y");
    CHECK(close(fd) == 0);
    STORY_AWAIT(worker->client_count == 0);
    CHECK(value(listener->stats.cx_transport_connect_timeout) == 0);
    over();
}

static void quiet_for_too_long_story(void *arg) {
    configure("", CHAIN("a", "transport_socket_connect_timeout: 0.01s, ", ECHO));
    snapshot->listeners[0]->chains->chains[0].transport.kind = &hello_kind;
    serve();
    hear_end(connected());
    CHECK(value(listener->stats.cx_transport_connect_timeout) == 1);
    CHECK(noted[0] == '\0');
    over();
}

static void a_transport_waits_for_its_first_byte_without_a_coroutine(void **state) {
    story(1, quiet_story);
    story(1, quiet_for_too_long_story);
}

static void a_transport_comes_before_filters(void **state) {
    story(1, transport_story);
}

/* Those who have said nothing yet are closed; all others may go on. */
static void drain_story(void *arg) {
    configure("", CHAIN("a", "", ECHO));
    look_with(&line_kind, NULL);
    serve();
    int silent = connected(), half = connected(), whole = connected();
    say(half, "a.c");
    say(whole, "a.com\nx");
    hear(whole, "x");
    struct worker *worker = worker_here();
    STORY_AWAIT(worker->client_count == 3 && worker->head_count == 1);
    downstream_drain_all(worker);
    hear_end(silent);
    CHECK(worker->client_count == 2);
    say(half, "om\ny");
    hear(half, "y");
    say(whole, "z");
    hear(whole, "z");
    CHECK(close(half) == 0);
    CHECK(close(whole) == 0);
    over();
}

static void draining_ends_those_who_said_nothing(void **state) {
    story(1, drain_story);
}

/* Descriptors are short: only who has said nothing gives way. */
static void short_story(void *arg) {
    configure("", CHAIN("a", "", TAKING));
    look_with(&line_kind, NULL);
    serve();
    int silent = connected(), half = connected(), whole = connected();
    say(half, "a.c");
    say(whole, "a.com\n");
    struct worker *worker = worker_here();
    STORY_AWAIT(strcmp(noted, "taken ") == 0 && worker->client_count == 3 &&
                worker->head_count == 1);
    CHECK(downstream_close_idle(worker, 3, rt_now_ns()) == 1);
    hear_end(silent);
    say(whole, "x");
    hear(whole, "#");
    CHECK(close(half) == 0);
    CHECK(close(whole) == 0);
    over();
}

static void only_silence_gives_way(void **state) {
    story(1, short_story);
}

static void quota_story(void *arg) {
    enum { LIMIT = 1 << 20, ROOM = LIMIT / DOWNSTREAM_STREAM_CHARGE };
    configure("    metadata: {filter_metadata: {sluice.memory: {limit_bytes: 1048576}}}\n",
              CHAIN("a", "", ECHO));
    serve();
    int fds[ROOM];
    for (int i = 0; i < ROOM; i++) {
        fds[i] = connected();
        say(fds[i], "x");
        hear(fds[i], "x");
    }
    hear_end(connected());
    CHECK(value(listener->stats.cx_memory_limit) == 1);
    CHECK(value(listener->stats.memory_bytes) == LIMIT);
    CHECK(close(fds[0]) == 0);
    STORY_AWAIT(worker_here()->client_count == ROOM - 1);
    fds[0] = connected();
    say(fds[0], "y");
    hear(fds[0], "y");
    for (int i = 0; i < ROOM; i++)
        CHECK(close(fds[i]) == 0);
    STORY_AWAIT(value(listener->stats.memory_bytes) == 0);
    over();
}

static void streams_are_charged(void **state) {
    story(1, quota_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(listener_filters_wait_without_a_coroutine),
        cmocka_unit_test(whom_no_chain_matches_is_closed),
        cmocka_unit_test(who_is_slow_is_closed_or_goes_on),
        cmocka_unit_test(what_was_looked_at_is_the_streams),
        cmocka_unit_test(filters_close_in_reverse),
        cmocka_unit_test(a_filter_may_take_a_connection),
        cmocka_unit_test(a_transport_comes_before_filters),
        cmocka_unit_test(a_transport_waits_for_its_first_byte_without_a_coroutine),
        cmocka_unit_test(draining_ends_those_who_said_nothing),
        cmocka_unit_test(only_silence_gives_way),
        cmocka_unit_test(streams_are_charged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
