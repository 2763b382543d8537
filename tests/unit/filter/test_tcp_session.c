/* tcp_session.c: a whole TCP proxy on one P, between a client and an upstream that the test plays. What they do, how
 * and when they end, and that nothing is left. */
#include <signal.h>

#include "../io/io_story.h"

#include "config/network_config.h"
#include "filter/network_filters.h"
#include "filter/tcp_proxy.h"
#include "io/stream_count.h"
#include "mem/pool.h"
#include "proxy/downstream.h"
#include "../proxy/serving_story.h"

/* ---- a proxy ---- */

/* In front, if a story asks for it: readers and writers that are not the socket's own. */
struct wrapping {
    struct count_reader reader;
    struct count_writer writer;
};

static int wrapping_open(struct network_stream *n, const struct network_filter *filter,
                         void **self) {
    struct wrapping *wrapping = malloc(sizeof *wrapping);
    CHECK(wrapping);
    count_reader_init(&wrapping->reader, n->reader);
    count_writer_init(&wrapping->writer, n->writer);
    /* Another itab would do as well; what matters is that they are not the socket's. */
    n->reader = count_reader(&wrapping->reader);
    n->writer = count_writer(&wrapping->writer);
    *self = wrapping;
    return 0;
}

static void wrapping_close(struct network_stream *n, void *self) {
    free(self);
}

static int wrapping_build(const struct cfg_any *any, struct snapshot *snapshot,
                          struct cfg_problems *problems, void **config) {
    return 0;
}

static const struct network_filter_itab wrapping_itab = {
    .name = "wrapping", .open = wrapping_open, .close = wrapping_close};
static const struct network_filter_kind wrapping_kind = {.itab = &wrapping_itab,
                                                         .schema = &cfg_schema_sni_cluster,
                                                         .build = wrapping_build,
                                                         .wraps = true};

#define TYPE "\"@type\": type.googleapis.com/envoy.extensions.filters.network."
#define WRAPPING "{name: w, typed_config: {" TYPE "sni_cluster.v3.SniCluster}}, "

static struct snapshot *snapshot;
static const struct listener *listener;
static int origin;
static const struct cluster *cluster;
static unsigned coroutines; /* while nothing is served */

static unsigned alive(void) {
    struct rt_p_stats stats;
    rt_p_stats(0, &stats);
    return (unsigned)stats.coroutines;
}

/* more: of the tcp_proxy; before: filters in front of it. */
static void serve(const char *before, const char *more) {
    struct address at;
    struct config *config;
    struct cfg_problems problems = {0};
    char text[2048];
    int rc;
    origin = listening(&at, 16);
    CHECK(
        (size_t)snprintf(
            text, sizeof text,
            "static_resources:\n"
            "  clusters: [{name: c, load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: "
            "[{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %u}}}}]}]}}]\n"
            "  listeners:\n"
            "  - name: l\n"
            "    address: {socket_address: {address: 127.0.0.1, port_value: 0}}\n"
            "    filter_chains: [{filters: [%s{name: t, typed_config: {" TYPE
            "tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: c%s}}]}]\n",
            address_port(&at), before, more) < sizeof text);
    (void)signal(SIGPIPE, SIG_IGN); /* as the process has it: rt/signals.h */
    CHECK(stats_init(rt_p_count()) == 0);
    CHECK(workers_init() == 0);
    network_filter_register(&network_filter_kind_tcp_proxy);
    network_filter_register(&wrapping_kind);
    rc = config_load_text(SPAN_LIT("t.yaml"), span_of(text), span_none(), &config, &problems);
    if (rc == 0)
        snapshot = snapshot_build(resources_of_bootstrap(config, NULL, &problems), NULL, &problems);
    cfg_problems_print(&problems, stderr);
    CHECK(snapshot);
    cluster = snapshot->clusters[0];
    cluster_start(snapshot->clusters[0]);
    listener = serving_story_begin(snapshot);
    coroutines = alive();
}

struct pair {
    int client, upstream;
};

static NOINLINE int connected(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    CHECK(fd >= 0);
    CHECK(connect(fd, &listener->addresses[0].sa.any, listener->addresses[0].len) == 0 ||
          errno == EINPROGRESS);
    CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    return fd;
}

static NOINLINE int try_accepted(void) {
    int fd = accept4(origin, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK(fd >= 0 || errno == EAGAIN);
    return fd;
}

static int64_t active(void) {
    return stat_value(cluster->stats.rq_active);
}

static struct pair through(void) {
    int64_t before = active();
    struct pair pair = {connected(), -1};
    STORY_AWAIT((pair.upstream = try_accepted()) >= 0);
    STORY_AWAIT(active() == before + 1);
    return pair;
}

/* Waits for just that. */
static void hear(int fd, const char *bytes, size_t size) {
    char got[1024];
    size_t len = 0;
    CHECK(size <= sizeof got);
    while (len < size) {
        ssize_t n;
        STORY_AWAIT((n = peer_receives(fd, got + len, size - len)) != -EAGAIN);
        CHECK(n > 0);
        len += (size_t)n;
    }
    CHECK(memcmp(got, bytes, size) == 0);
}

/* Reads on to how it ends: 0 or -errno. */
static int hear_end(int fd) {
    static char room[1 << 16];
    ssize_t n;
    do
        STORY_AWAIT((n = peer_receives(fd, room, sizeof room)) != -EAGAIN);
    while (n > 0);
    CHECK(close(fd) == 0);
    return (int)n;
}

static NOINLINE ssize_t try_say(int fd, const char *bytes, size_t size) {
    ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);
    return n < 0 ? -errno : n;
}

/* Sends until nothing more goes for a while, as the other end does not read. */
static size_t say_till_it_blocks(int fd) {
    static char bytes[1 << 16];
    size_t total = 0;
    for (int waits = 0; waits < 4;) {
        ssize_t n = try_say(fd, bytes, sizeof bytes);
        if (n == -EPIPE || n == -ECONNRESET)
            break; /* idle for too long, on a machine that is busy for longer */
        CHECK(n > 0 || n == -EAGAIN);
        total += n > 0 ? (size_t)n : 0;
        waits = n > 0 ? 0 : waits + 1;
        if (n < 0)
            CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
        rt_yield_to_events();
    }
    return total;
}

static uint64_t in_use(const char *name) {
    struct pool_stats stats;
    for (unsigned i = 0; pool_stats(i, &stats); i++)
        if (strcmp(stats.name, name) == 0)
            return stats.in_use;
    return 0;
}

/* Between two events. */
static void nothing_but_the_session(void) {
    STORY_AWAIT(alive() == coroutines);
    CHECK(in_use("tcp work") == 0);
    CHECK(blocks_in_use() == 0);
    CHECK(worker_here()->pipes.in_use == 0);
}

static void nothing_is_left(void) {
    STORY_AWAIT(worker_here()->client_count == 0);
    nothing_but_the_session();
    CHECK(in_use("tcp session") == 0);
    CHECK(in_use("upstream") == 0);
    CHECK(active() == 0);
    CHECK(stat_value(cluster->stats.cx_active) == 0);
    CHECK(stat_value(listener->stats.cx_total) == stat_value(listener->stats.cx_destroy));
    rt_stop(0);
}

/* ---- what is said ---- */

static const char text[] = "In the beginning there was a byte, and another one behind it.";

/* Cut in two everywhere, and byte by byte; each part is there before the next is sent. */
static void say_in_parts(int from, int to) {
    for (size_t cut = 1; cut < sizeof text; cut += 9) {
        peer_sends(from, text, cut);
        hear(to, text, cut);
        peer_sends(from, text + cut, sizeof text - cut);
        hear(to, text + cut, sizeof text - cut);
    }
    for (size_t i = 0; i < sizeof text; i++)
        peer_sends(from, text + i, 1);
    hear(to, text, sizeof text);
}

static void end_in_order(struct pair pair, bool client_first) {
    int first = client_first ? pair.client : pair.upstream;
    int last = client_first ? pair.upstream : pair.client;
    char byte;
    ssize_t n;
    peer_sends(first, text, sizeof text);
    peer_ends(first);
    hear(last, text, sizeof text);
    STORY_AWAIT((n = peer_receives(last, &byte, 1)) != -EAGAIN);
    CHECK(n == 0);
    say_in_parts(last, first); /* the other way it goes on */
    peer_ends(last);
    CHECK(hear_end(first) == 0);
    CHECK(hear_end(last) == 0);
}

static void plain_story(void *arg) {
    serve("", "");
    struct pair pair = through();
    say_in_parts(pair.client, pair.upstream);
    say_in_parts(pair.upstream, pair.client);
    nothing_but_the_session();
    end_in_order(pair, true);
    end_in_order(through(), false);
    nothing_is_left();
}

static void wrapped_story(void *arg) {
    serve(WRAPPING, "");
    struct pair pair = through();
    STORY_AWAIT(alive() == coroutines + 2); /* who wraps may park: one for each way */
    say_in_parts(pair.client, pair.upstream);
    say_in_parts(pair.upstream, pair.client);
    end_in_order(pair, true);
    end_in_order(through(), false);
    nothing_is_left();
}

static void bytes_pass_and_so_do_ends(void **state) {
    story(1, plain_story);
    story(1, wrapped_story);
}

/* ---- resets ---- */

/* Which ways are blocked, as bits, when one of them breaks off. */
enum { UP = 1, DOWN = 2 };

static void reset_with(unsigned blocked, bool by_client) {
    struct pair pair = through();
    if (blocked & UP)
        CHECK(say_till_it_blocks(pair.client) > 0);
    if (blocked & DOWN)
        CHECK(say_till_it_blocks(pair.upstream) > 0);
    peer_resets(by_client ? pair.client : pair.upstream);
    CHECK(hear_end(by_client ? pair.upstream : pair.client) == -ECONNRESET);
}

static const char *wraps;

static void resets_story(void *arg) {
    serve(wraps, "");
    for (unsigned blocked = 0; blocked <= (UP | DOWN); blocked++)
        for (int by_client = 0; by_client <= 1; by_client++)
            reset_with(blocked, by_client);
    nothing_is_left();
}

static void a_reset_passes_whatever_is_on_the_way(void **state) {
    wraps = "";
    story(1, resets_story);
    wraps = WRAPPING;
    story(1, resets_story);
}

/* The client is gone before, or just when, there is an upstream. */
static void early_story(void *arg) {
    serve("", "");
    for (int round = 0; round < 8; round++) {
        int fd = connected();
        for (int i = 0; i < round; i++)
            rt_yield();
        peer_resets(fd);
        STORY_AWAIT(worker_here()->client_count == 0);
        int upstream = try_accepted();
        if (upstream >= 0)
            (void)hear_end(upstream); /* an end or a reset, as it was there or not */
    }
    nothing_is_left();
}

static void a_client_may_break_off_at_any_time(void **state) {
    story(1, early_story);
}

/* Who refuses a request does not read it to its end, and closes: what he had said arrives. */
static void refusal_story(void *arg) {
    serve("", "");
    for (int round = 0; round < 4; round++) {
        struct pair pair = through();
        CHECK(say_till_it_blocks(pair.client) > 0);
        peer_sends(pair.upstream, text, sizeof text);
        if (round % 2)
            hear(pair.client, text, sizeof text); /* before the reset is known */
        peer_closes(pair.upstream);               /* a reset, as there is more to be read */
        if (round % 2 == 0)
            hear(pair.client, text, sizeof text);
        CHECK(hear_end(pair.client) == -ECONNRESET);
    }
    nothing_is_left();
}

static void what_was_said_before_a_reset_is_heard(void **state) {
    story(1, refusal_story);
}

/* ---- time ---- */

static unsigned blocked_ways;

static void idle_story(void *arg) {
    serve(wraps, ", idle_timeout: 0.25s");
    struct pair pair = through();
    if (blocked_ways & UP)
        CHECK(say_till_it_blocks(pair.client) > 0);
    if (blocked_ways & DOWN)
        CHECK(say_till_it_blocks(pair.upstream) > 0);
    STORY_AWAIT(worker_here()->client_count == 0);
    (void)hear_end(pair.client); /* what was not read may make it a reset */
    (void)hear_end(pair.upstream);
    nothing_is_left();
}

static void a_connection_that_idles_ends_whoever_waits(void **state) {
    for (blocked_ways = 0; blocked_ways <= (UP | DOWN); blocked_ways++) {
        wraps = "";
        story(1, idle_story);
    }
    wraps = WRAPPING;
    story(1, idle_story);
}

/* What moves puts the end off. On a machine that was too busy to move it in time, once more. */
static void busy_story(void *arg) {
    const int64_t idle_ns = 150 * NS_PER_MS;
    char byte = 0;
    ssize_t n = 0;
    serve("", ", idle_timeout: 0.15s");
    while (n != 1) {
        struct pair pair = through();
        CHECK(rt_sleep_until(clock_mono_ns() + idle_ns / 3) == 0);
        int64_t moved_ns = clock_mono_ns();
        if (try_say(pair.client, "x", 1) == 1)
            STORY_AWAIT((n = peer_receives(pair.upstream, &byte, 1)) != -EAGAIN);
        (void)hear_end(pair.client);
        CHECK(n != 1 || clock_mono_ns() - moved_ns >= idle_ns);
        peer_closes(pair.upstream);
    }
    nothing_is_left();
}

static void a_connection_that_is_used_does_not_idle(void **state) {
    story(1, busy_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_pass_and_so_do_ends),
        cmocka_unit_test(a_reset_passes_whatever_is_on_the_way),
        cmocka_unit_test(a_client_may_break_off_at_any_time),
        cmocka_unit_test(what_was_said_before_a_reset_is_heard),
        cmocka_unit_test(a_connection_that_idles_ends_whoever_waits),
        cmocka_unit_test(a_connection_that_is_used_does_not_idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
