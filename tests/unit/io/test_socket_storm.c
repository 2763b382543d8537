/* socket.c under load: pairs of sockets that echo, on all Ps, whose streams end in every way at any time; and
 * connections by the ten thousand that come, idle, speak and break off. Every byte that arrives is checked, and
 * at the end nothing is held: no descriptor, block, pooled object or coroutine. SLUICE_LONG=yes makes more of it. */
#include <sys/resource.h>

#include "io/socket.h"
#include "io_story.h"
#include "mem/pool.h"
#include "rt/ctx.h"

#if defined(RT_HAS_TSAN)
enum { PAIRS = 60, PAIR_BYTES = 100 * 1000, CONNECTIONS = 2000 };
#elif defined(RT_HAS_ASAN)
enum { PAIRS = 150, PAIR_BYTES = 200 * 1000, CONNECTIONS = 5 * 1000 };
#else
enum { PAIRS = 400, PAIR_BYTES = 400 * 1000, CONNECTIONS = 20 * 1000 };
#endif
enum { PS = 2, LONG_FACTOR = 5 };

static int how_many(int count) {
    const char *text = getenv("SLUICE_LONG");
    return text && strcmp(text, "yes") == 0 ? count * LONG_FACTOR : count;
}

/* What stands at one place of a stream. */
static char byte_at(uint64_t seed, uint64_t offset) {
    return (char)(seed + offset * 31 + (offset >> 8) * 17);
}

/* ---- Echoing pairs ---- */

enum ending {
    ENDS_WELL,     /* all is sent, then comes our FIN: all of it comes back, then the peer's */
    CLIENT_RESETS, /* after so many bytes */
    SERVER_RESETS,
    CLIENT_CLOSES,
    SERVER_CLOSES,
    IS_CANCELLED,
    ENDINGS,
};

struct pair {
    unsigned p_index;
    enum ending ending;
    bool by_slices, impatient;
    uint64_t seed, bytes, ends_after;
    struct socket client, server;
    struct inbuf client_in, server_in;
    struct g *writer, *reader, *echo;
    unsigned client_users;
    uint64_t written, came_back; /* whole, not only of one call */
    bool broken;
};

static _Atomic unsigned pairs_left;
static _Atomic uint64_t pairs_whole, deadlines_met;

static NOINLINE void set_resets(struct socket *socket) {
    struct linger linger = {.l_onoff = 1};
    CHECK(setsockopt(socket->pd.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
}

static bool is_a_peers_doing(ssize_t error) {
    return error == -ECONNRESET || error == -EPIPE || error == -ECANCELED;
}

static int64_t patience(struct pair *pair) {
    return pair->impatient ? (int64_t)(next_random(&pair->seed) % (200 * 1000)) : RT_FOREVER;
}

/* A copy in a leased block, or in several pieces of memory of our own. */
static int send_part(struct pair *pair, struct socket *socket, const char *bytes, size_t size) {
    if (!pair->by_slices) {
        size_t third = size / 3;
        struct iovec pieces[] = {{(void *)(uintptr_t)bytes, third},
                                 {(void *)(uintptr_t)(bytes + third), third},
                                 {(void *)(uintptr_t)(bytes + 2 * third), size - 2 * third}};
        return socket_send(socket, pieces, 3, "storm sends", patience(pair));
    }
    struct slice slices[3];
    int count = 0;
    for (size_t at = 0; at < size; count++) {
        size_t part = size - at < BLOCK_DATA_SIZE ? size - at : BLOCK_DATA_SIZE;
        struct block *block = block_get(rt_blocks());
        CHECK(block);
        memcpy(block->data, bytes + at, part);
        slices[count] = (struct slice){span_make(block->data, part), block};
        at += part;
    }
    return socket_send_slices(socket, slices, count, "storm sends", patience(pair));
}

/* Whoever used the client last closes it. */
static void leave_client(struct pair *pair) {
    if (--pair->client_users > 0) {
        struct g *other = pair->writer ? pair->writer : pair->reader;
        if (pair->broken && other)
            rt_cancel(other);
        return;
    }
    if (pair->ending == CLIENT_RESETS)
        set_resets(&pair->client);
    socket_close(&pair->client);
    inbuf_drop(&pair->client_in);
    if (pair->ending == ENDS_WELL) {
        CHECK(pair->came_back == pair->bytes);
        atomic_fetch_add(&pairs_whole, 1);
    }
    atomic_fetch_sub(&pairs_left, 1);
}

static void pair_writes(void *arg) {
    struct pair *pair = arg;
    enum { MOST = 40 * 1000 };
    pair->writer = rt_self();
    char *bytes = malloc(MOST);
    CHECK(bytes);
    uint64_t stream_seed = pair->bytes; /* known to the reader, too */
    int rc = 0;
    while (pair->written < pair->bytes && rc == 0 && !pair->broken) {
        if ((pair->ending == CLIENT_RESETS || pair->ending == CLIENT_CLOSES) &&
            pair->written >= pair->ends_after)
            break;
        size_t size = 1 + next_random(&pair->seed) % (next_random(&pair->seed) % 4 ? 300 : MOST);
        if (size > pair->bytes - pair->written)
            size = pair->bytes - pair->written;
        for (size_t i = 0; i < size; i++)
            bytes[i] = byte_at(stream_seed, pair->written + i);
        uint64_t before = pair->client.tx_bytes;
        rc = send_part(pair, &pair->client, bytes, size);
        pair->written += pair->client.tx_bytes - before;
        if (rc == -ETIMEDOUT && pair->impatient) {
            atomic_fetch_add(&deadlines_met, 1);
            rc = 0; /* and goes on behind what was sent of it */
        }
    }
    free(bytes);
    CHECK(rc == 0 || (pair->ending != ENDS_WELL && is_a_peers_doing(rc)));
    if (rc == 0 && pair->written == pair->bytes)
        (void)!socket_shutdown(&pair->client); /* fails when the peer has reset it */
    else
        pair->broken = true;
    pair->writer = NULL;
    leave_client(pair);
}

static void pair_reads(void *arg) {
    struct pair *pair = arg;
    pair->reader = rt_self();
    uint64_t stream_seed = pair->bytes;
    ssize_t n;
    for (n = 0; !pair->broken;) {
        int64_t wait_ns = patience(pair);
        n = socket_receive(&pair->client, &pair->client_in, "storm reads",
                           wait_ns == RT_FOREVER ? RT_FOREVER : rt_now_ns() + wait_ns);
        if (n == -ETIMEDOUT && pair->impatient) {
            atomic_fetch_add(&deadlines_met, 1);
            continue;
        }
        if (n <= 0)
            break;
        struct span bytes = inbuf_bytes(&pair->client_in);
        size_t use = bytes.len; /* some may stay for the next time */
        if (use < BLOCK_DATA_SIZE / 2)
            use = 1 + next_random(&pair->seed) % use;
        for (size_t i = 0; i < use; i++)
            CHECK(bytes.ptr[i] == byte_at(stream_seed, pair->came_back + i));
        pair->came_back += use;
        inbuf_consume(&pair->client_in, use);
    }
    struct span rest = inbuf_bytes(&pair->client_in);
    for (size_t i = 0; i < rest.len; i++)
        CHECK(rest.ptr[i] == byte_at(stream_seed, pair->came_back + i));
    pair->came_back += rest.len;
    CHECK(n == 0 || pair->ending != ENDS_WELL);
    CHECK(n >= 0 || is_a_peers_doing(n));
    CHECK(pair->came_back <= pair->bytes);
    if (n < 0)
        pair->broken = true;
    pair->reader = NULL;
    leave_client(pair);
}

static void pair_echoes(void *arg) {
    struct pair *pair = arg;
    pair->echo = rt_self();
    uint64_t echoed = 0;
    int rc = 0;
    ssize_t n;
    while ((n = socket_receive(&pair->server, &pair->server_in, "storm echoes", RT_FOREVER)) > 0) {
        struct span bytes = inbuf_bytes(&pair->server_in);
        struct iovec piece = {(void *)(uintptr_t)bytes.ptr, bytes.len};
        struct slice slice = slice_lease(bytes, pair->server_in.block);
        inbuf_consume(&pair->server_in, bytes.len);
        if (pair->by_slices) {
            rc = socket_send_slices(&pair->server, &slice, 1, "storm echoes", RT_FOREVER);
        } else {
            rc = socket_send(&pair->server, &piece, 1, "storm echoes", RT_FOREVER);
            block_put(rt_blocks(), slice.block);
        }
        echoed += bytes.len;
        if (rc != 0 || ((pair->ending == SERVER_RESETS || pair->ending == SERVER_CLOSES) &&
                        echoed >= pair->ends_after))
            break;
    }
    CHECK(n >= 0 || is_a_peers_doing(n));
    CHECK(rc == 0 || is_a_peers_doing(rc));
    CHECK(pair->ending != ENDS_WELL || (n == 0 && rc == 0));
    if (pair->ending == SERVER_RESETS)
        set_resets(&pair->server);
    inbuf_drop(&pair->server_in);
    socket_close(&pair->server);
    pair->echo = NULL;
    atomic_fetch_sub(&pairs_left, 1);
}

static void pair_starts(void *arg) {
    struct pair *pair = arg;
    int fds[2];
    if (pair->seed % 3)
        tcp_pair(fds);
    else
        unix_pair(fds);
    CHECK(socket_open(&pair->client, fds[0], NULL) == 0);
    CHECK(socket_open(&pair->server, fds[1], NULL) == 0);
    inbuf_init(&pair->client_in, rt_blocks());
    inbuf_init(&pair->server_in, rt_blocks());
    pair->client_users = 2;
    CHECK(go_here("echoes", pair_echoes, pair) == 0);
    CHECK(go_here("writes", pair_writes, pair) == 0);
    CHECK(go_here("reads", pair_reads, pair) == 0);
    if (pair->ending != IS_CANCELLED)
        return;
    while (pair->written < pair->ends_after && !pair->broken)
        rt_yield();
    if (pair->writer && pair->seed % 2)
        rt_cancel(pair->writer);
    else if (pair->reader)
        rt_cancel(pair->reader);
}

static void pairs_story(void *arg) {
    int count = how_many(PAIRS);
    unsigned descriptors = open_descriptors();
    uint64_t seed = 20260101;
    struct pair *pairs = calloc((size_t)count, sizeof *pairs);
    CHECK(pairs);
    for (int done = 0; done < count;) {
        enum { AT_ONCE = 50 };
        int from = done;
        for (; done < count && done < from + AT_ONCE; done++) {
            struct pair *pair = &pairs[done];
            pair->p_index = (unsigned)done % PS;
            pair->ending = (enum ending)(next_random(&seed) % (ENDINGS + 2));
            if (pair->ending >= ENDINGS)
                pair->ending = ENDS_WELL;
            pair->by_slices = next_random(&seed) % 2;
            pair->impatient = next_random(&seed) % 3 == 0;
            pair->bytes = 1 + next_random(&seed) % PAIR_BYTES;
            pair->ends_after = next_random(&seed) % pair->bytes;
            pair->seed = next_random(&seed);
            atomic_fetch_add(&pairs_left, 2);
            CHECK(go_on(pair->p_index, "pair", pair_starts, pair) == 0);
        }
        STORY_AWAIT(atomic_load(&pairs_left) == 0);
    }
    CHECK(atomic_load(&pairs_whole) >= (unsigned)count / 10);
    CHECK(atomic_load(&deadlines_met) > 0);
    free(pairs);
    STORY_AWAIT(blocks_in_use() == 0);
    CHECK(open_descriptors() == descriptors);
    struct rt_stats stats;
    STORY_AWAIT((rt_stats(&stats), stats.coroutines == 1));
    rt_stop(0);
}

static void streams_that_end_in_every_way_lose_nothing_before(void **state) {
    story(PS, pairs_story);
}

/* ---- Very many connections ---- */

struct conn { /* the accepting side */
    struct socket socket;
    struct inbuf in;
    bool serving;
};
static struct pool conn_pool = {.name = "conn", .object_size = sizeof(struct conn)};
static struct pool_cache conns;
static struct recycler_cache *recycler;
static uint64_t conns_accepted, conns_echoed;

static uint64_t conns_open(void) {
    return conns.gets - conns.puts;
}

static void conn_ends(struct conn *conn) {
    inbuf_drop(&conn->in);
    socket_close(&conn->socket);
    pool_put(&conns, conn);
}

/* Serves as the proxy does: while there is something, then without a coroutine. */
static void conn_serves(void *arg) {
    struct conn *conn = arg;
    ssize_t n;
    while ((n = socket_try_receive(&conn->socket, &conn->in)) > 0) {
        struct iovec piece = {(void *)(uintptr_t)inbuf_bytes(&conn->in).ptr, (size_t)n};
        if (socket_send(&conn->socket, &piece, 1, "echo", story_soon()) != 0)
            break;
        inbuf_consume(&conn->in, (size_t)n);
        conns_echoed++;
    }
    if (n != -EAGAIN) {
        conn_ends(conn);
        return;
    }
    inbuf_idle(&conn->in);
    conn->serving = false;
}

static void conn_event(struct socket *socket, unsigned events) {
    struct conn *conn = container_of(socket, struct conn, socket);
    if (conn->serving)
        return;
    if (!(events & SOCKET_INPUT)) {
        conn_ends(conn);
        return;
    }
    conn->serving = true;
    CHECK(go_here("serves", conn_serves, conn) == 0);
}

static void server_event(struct socket *server, unsigned events) {
    struct address peer;
    int fd;
    while ((fd = socket_try_accept(server, &peer)) >= 0) {
        struct conn *conn = pool_get(&conns);
        CHECK(conn);
        conn->serving = false;
        CHECK(socket_open(&conn->socket, fd, conn_event) == 0);
        inbuf_init(&conn->in, rt_blocks());
        conns_accepted++;
    }
    CHECK(fd == -EAGAIN || fd == -ECONNABORTED);
}

static void client_speaks(struct socket *socket, struct inbuf *in) {
    struct iovec piece = piece_of("hello");
    CHECK(socket_send(socket, &piece, 1, "hello", story_soon()) == 0);
    while (inbuf_len(in) < 5)
        CHECK(socket_receive(socket, in, "hello", story_soon()) > 0);
    CHECK(holds(in, "hello"));
    inbuf_drop(in);
}

static void connections_story(void *arg) {
    int total = how_many(CONNECTIONS);
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    int wave = (int)(limit.rlim_cur > 8200 ? 4000 : (limit.rlim_cur - 200) / 2);
    CHECK(wave > 50);
    struct address at;
    struct socket server;
    struct socket *clients = calloc((size_t)wave, sizeof *clients);
    struct socket **order = calloc((size_t)wave, sizeof *order);
    CHECK(clients && order);
    recycler = &rt_blocks()->recycler;
    pool_cache_init(&conns, &conn_pool, recycler);
    unsigned descriptors = open_descriptors();
    CHECK(socket_listen(&server, listening(&at, 4096), server_event) == 0);
    uint64_t seed = 4711, spoken = 0;
    for (int done = 0; done < total;) {
        int count = total - done < wave ? total - done : wave;
        for (int i = 0; i < count; i++) {
            struct address to = at; /* of 64 hosts: each has ports of its own */
            to.sa.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(i % 64));
            CHECK(socket_connect(&clients[i], &to, NULL, story_soon()) == 0);
            order[i] = &clients[i];
            if (i % 32 == 31)
                rt_yield();
        }
        done += count;
        STORY_AWAIT(conns_open() == (uint64_t)count);
        CHECK(blocks_in_use() == 0); /* they idle */
        /* Some speak; then they end in any order, half of them by a reset. */
        for (int left = count; left > 0; left--) {
            int chosen = (int)(next_random(&seed) % (unsigned)left);
            struct socket *client = order[chosen];
            order[chosen] = order[left - 1];
            struct inbuf in;
            inbuf_init(&in, rt_blocks());
            if (next_random(&seed) % 8 == 0) {
                client_speaks(client, &in);
                spoken++;
            }
            struct iovec piece = piece_of("never mind");
            uint64_t how = next_random(&seed) % 8;
            if (how == 0)
                CHECK(socket_send(client, &piece, 1, "last words", story_soon()) == 0);
            if (how == 1)
                CHECK(socket_shutdown(client) == 0);
            if (how >= 4)
                set_resets(client);
            socket_close(client);
        }
        STORY_AWAIT(conns_open() == 0);
    }
    CHECK(conns_accepted == (uint64_t)total);
    CHECK(conns_echoed >= spoken);
    socket_close(&server);
    free(clients);
    free(order);
    CHECK(open_descriptors() == descriptors);
    CHECK(blocks_in_use() == 0);
    struct rt_stats stats;
    STORY_AWAIT((rt_stats(&stats), stats.coroutines == 1));
    pool_cache_fini(&conns); /* asserts that all are back */
    rt_stop(0);
}

static void connections_come_idle_and_break_off_without_a_trace(void **state) {
    story(1, connections_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_that_end_in_every_way_lose_nothing_before),
        cmocka_unit_test(connections_come_idle_and_break_off_without_a_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
