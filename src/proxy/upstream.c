/* upstream: opening connections, and the pool. Everything here runs on the pool's own P.
 *
 *   upstream_get ─ idle one? take the most recently used
 *                └ none: below max_connections, or none open on this P yet: connect
 *                        else wait in the cluster's queue for one that comes back
 *
 * The breaker's counts are shared by the Ps, the queue is not: a P whose exchanges wait while
 * another P holds all connections would wait for ever, so each P may always open one (as each
 * worker's pool may on Envoy). Not so upstream_open's, who do not wait: to them the limit is exact. */
#include "proxy/upstream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/descriptors.h"
#include "proxy/downstream.h"
#include "proxy/worker.h"

extern struct log_component log_upstream;

static struct host_counters *counters_of(struct upstream *u) {
    return &u->host->pools[u->p_index].counters;
}

static void bump(_Atomic uint64_t *counter, int64_t n) {
    /* One writer; readers are relaxed. */
    atomic_store_explicit(counter,
                          atomic_load_explicit(counter, memory_order_relaxed) + (uint64_t)n,
                          memory_order_relaxed);
}

void upstream_count_bytes(struct upstream *u) {
    const struct cluster_cells *cells = &u->cluster->cells;
    stats_cell_add_on_p(cells->cx_rx_bytes, u->p_index, u->socket.rx_bytes);
    stats_cell_add_on_p(cells->cx_tx_bytes, u->p_index, u->socket.tx_bytes);
    u->socket.rx_bytes = u->socket.tx_bytes = 0;
}

void upstream_unref(struct upstream *u) {
    if (--u->leases > 0)
        return;
    host_unref(u->host);
    if (u->server_name)
        free(u->server_name);
    pool_put(&worker_at(u->p_index)->upstream_pool, u);
}

/* A connection, open or in the making, of this pool is no more. Without any the timer has nothing left to
 * do, and the host, which is its owner, may end. */
static void leave_host(struct host_pool *pool) {
    if (--pool->open_count > 0 || !pool->idle_timed)
        return;
    timer_disarm(&pool->idle_timer);
    pool->idle_timed = false;
}

/* The connection itself; its place in the pool is the caller's matter. */
static void destroy(struct upstream *u, bool local) {
    const struct cluster_stats *s = &u->cluster->stats;
    struct cluster_local *cl = &u->cluster->local[u->p_index];
    upstream_count_bytes(u);
    stat_inc(s->cx_destroy, u->p_index);
    stat_inc(local ? s->cx_destroy_local : s->cx_destroy_remote, u->p_index);
    stat_dec(s->cx_active, u->p_index);
    stat_record_us(s->cx_length_ms, u->p_index, (uint64_t)(rt_now_ns() - u->opened_ns) / 1000);
    bump(&counters_of(u)->cx_active, -1);
    socket_close(&u->socket);
    descriptors_freed();
    inbuf_drop(&u->in);
    list_remove(&u->of_client);
    leave_host(&u->host->pools[u->p_index]);
    cl->open_count--;
    atomic_fetch_sub_explicit(&u->cluster->connections, 1, memory_order_relaxed);
    wait_queue_wake_one(&cl->pending); /* there may be room for a new one */
    cluster_unref(u->cluster);
    upstream_unref(u);
}

static void leave_pool(struct upstream *u) {
    list_remove(&u->node);
    u->host->pools[u->p_index].idle_count--;
}

/* An idle connection has nothing to say: bytes or a FIN on it, and it is done for. */
static void idle_event(struct socket *socket, unsigned events) {
    struct upstream *u = container_of(socket, struct upstream, socket);
    if (!list_is_linked(&u->node))
        return; /* in use: the exchange will see it */
    leave_pool(u);
    destroy(u, false);
}

/* ---- idle timeouts ----
 *
 * A pool has one timer for all that idle in it. They lie in the order in which they came, so the last is
 * the first to end, and the timer is armed once, for that one. It stays armed while connections go and
 * come back: a request only notes when its connection is to end, and the timer, which then comes too
 * early, looks there and sleeps on. */

static void idle_expired(struct timer *timer) {
    struct host_pool *pool = container_of(timer, struct host_pool, idle_timer);
    int64_t now_ns = rt_now_ns();
    pool->idle_timed = false;
    while (!list_is_empty(&pool->idle)) {
        struct upstream *u = container_of(pool->idle.prev, struct upstream, node);
        if (u->idle_until_ns > now_ns) {
            pool->idle_timed = true;
            timer_arm(timer, u->idle_until_ns);
            return;
        }
        bool is_last = pool->open_count == 1; /* then the pool may go with it */
        stat_inc(u->cluster->stats.cx_idle_timeout, u->p_index);
        leave_pool(u);
        destroy(u, true);
        if (is_last)
            return;
    }
}

static void start_idling(struct host_pool *pool, struct upstream *u, int64_t timeout_ns) {
    list_push_front(&pool->idle, &u->node);
    pool->idle_count++;
    if (timeout_ns == 0)
        return;
    u->idle_until_ns = rt_now_ns() + timeout_ns;
    if (pool->idle_timed)
        return;
    pool->idle_timed = true;
    timer_init(&pool->idle_timer, idle_expired);
    timer_arm(&pool->idle_timer, u->idle_until_ns);
}

static bool is_for(const struct upstream *u, const struct transport_wishes *wishes) {
    uint64_t client_id = wishes->downstream ? wishes->downstream->id : 0;
    return u->server_name && u->client_id == client_id &&
           span_eq(span_of(u->server_name), wishes->server_name);
}

static NOINLINE struct list *find_idle(struct list *head, const struct transport_wishes *wishes) {
    struct list *node = head->next;
    while (node != head && !is_for(container_of(node, struct upstream, node), wishes))
        node = node->next;
    return node;
}

/* wishes NULL: any will do, as all of a cluster were opened with the same. */
static inline struct upstream *take_idle(struct host *host, unsigned p_index,
                                         const struct transport_wishes *wishes) {
    struct list *head = &host->pools[p_index].idle;
    struct list *node =
        __builtin_expect(wishes != NULL, false) ? find_idle(head, wishes) : head->next;
    if (node == head)
        return NULL;
    struct upstream *u = container_of(node, struct upstream, node);
    leave_pool(u);
    return u;
}

/* With it comes its host, instead of one that was waited for. */
static struct upstream *hand_out(struct upstream *u, struct host **host_out) {
    host_unref(*host_out);
    *host_out = u->host;
    u->leases++;
    return u;
}

/* At the breaker's limit an idle connection to any healthy host beats waiting for the one in turn:
 * nothing else might ever wake the waiter. */
static struct upstream *take_any_idle(struct cluster *cluster, unsigned p_index,
                                      const struct transport_wishes *wishes,
                                      struct host **host_out) {
    struct host_set *set = cluster->local[p_index].hosts;
    for (uint32_t i = 0; i < set->count; i++) {
        struct upstream *u =
            set->hosts[i]->healthy ? take_idle(set->hosts[i], p_index, wishes) : NULL;
        if (u)
            return hand_out(u, host_out);
    }
    return NULL;
}

/* ---- opening ---- */

/* Without a descriptor for it something that idles gives way, here or to another upstream. */
static int connect_to(struct upstream *u, struct cluster *cluster, const struct host *host,
                      const struct upstream_wants *wants, int64_t deadline_ns) {
    int rc = socket_connect(&u->socket, &host->address, wants->on_event, deadline_ns);
    if (!descriptors_lack(rc))
        return rc;
    struct worker *worker = worker_here();
    if (descriptors_make_room(worker, DESCRIPTORS_FOR_UPSTREAM, rc) > 0)
        rc = socket_connect(&u->socket, &host->address, wants->on_event, deadline_ns);
    if (descriptors_lack(rc)) {
        stat_inc(cluster->stats.cx_no_descriptor, worker->index);
        descriptors_count_upstream();
    }
    return rc;
}

/* And what the transport says before anybody else. */
static int connect_transport(struct upstream *u, struct cluster *cluster, const struct host *host,
                             const struct upstream_wants *wants, int64_t deadline_ns,
                             char failure[256]) {
    const struct transport_socket *transport = &cluster->transport;
    int rc = connect_to(u, cluster, host, wants, deadline_ns);
    if (rc != 0 || !transport->kind)
        return rc;
    struct transport_wishes wishes = {.server_name = span_none()};
    if (wants->wishes)
        wishes = *wants->wishes;
    wishes.host_name = host->hostname;
    rc = transport->kind->itab->connect(transport->config, &u->socket, &wishes, deadline_ns,
                                        failure);
    if (rc != 0)
        socket_close(&u->socket);
    return rc;
}

/* Counted before the connect parks, so that the limits hold meanwhile. */
static void count_opening(struct cluster *cluster, struct host_pool *pool, unsigned p_index) {
    const struct cluster_stats *s = &cluster->stats;
    pool->open_count++;
    cluster->local[p_index].open_count++;
    stat_inc(s->cx_total, p_index);
    stat_inc(s->cx_active, p_index);
    bump(&pool->counters.cx_total, 1);
    bump(&pool->counters.cx_active, 1);
}

static enum upstream_failure count_failed(struct cluster *cluster, struct host_pool *pool,
                                          unsigned p_index, int rc, bool own_deadline) {
    const struct cluster_stats *s = &cluster->stats;
    if (!descriptors_lack(rc))
        descriptors_freed();
    atomic_fetch_sub_explicit(&cluster->connections, 1, memory_order_relaxed);
    leave_host(pool);
    cluster->local[p_index].open_count--;
    stat_dec(s->cx_active, p_index);
    stat_inc(s->cx_destroy, p_index);
    stat_inc(rc == -ECANCELED || rc == -ETIMEDOUT ? s->cx_destroy_local : s->cx_destroy_remote,
             p_index);
    bump(&pool->counters.cx_active, -1);
    wait_queue_wake_one(&cluster->local[p_index].pending);
    if (rc == -ECANCELED)
        return UPSTREAM_CANCELLED;
    if (rc == -ETIMEDOUT && !own_deadline)
        return UPSTREAM_DEADLINE;
    stat_inc(s->cx_connect_fail, p_index);
    bump(&pool->counters.cx_connect_fail, 1);
    if (rc != -ETIMEDOUT)
        return UPSTREAM_CONNECT_FAILED;
    stat_inc(s->cx_connect_timeout, p_index);
    return UPSTREAM_CONNECT_TIMEOUT;
}

/* The caller has counted it in cluster->connections, and leases the host, which becomes the connection's
 * with UPSTREAM_OK. */
static enum upstream_failure open_connection(struct cluster *cluster, struct host *host,
                                             unsigned p_index, const struct upstream_wants *wants,
                                             struct upstream **out, int *rc, char failure[256]) {
    struct host_pool *pool = &host->pools[p_index];
    struct pool_cache *memory = &worker_here()->upstream_pool;
    struct upstream *u = pool_get(memory);
    if (!u) {
        atomic_fetch_sub_explicit(&cluster->connections, 1, memory_order_relaxed);
        *rc = -ENOMEM;
        return UPSTREAM_CONNECT_FAILED;
    }
    memset(u, 0, sizeof *u);
    count_opening(cluster, pool, p_index);
    int64_t start_ns = rt_now_ns();
    int64_t connect_deadline_ns = start_ns + cluster->connect_timeout_ns;
    bool own_deadline = connect_deadline_ns <= wants->deadline_ns;
    list_init(&u->node); /* not linked: to idle_event in use */
    list_init(&u->of_client);
    *rc = connect_transport(u, cluster, host, wants,
                            own_deadline ? connect_deadline_ns : wants->deadline_ns, failure);
    if (*rc != 0) {
        pool_put(memory, u);
        return count_failed(cluster, pool, p_index, *rc, own_deadline);
    }
    u->host = host;
    u->leases = 2;
    u->cluster = cluster_ref(cluster);
    u->p_index = (uint16_t)p_index;
    u->opened_ns = start_ns;
    inbuf_init(&u->in, rt_blocks());
    if (!wants->without_local) {
        struct address local;
        socket_local_address(&u->socket, &local);
        u->local_len = (uint16_t)address_text(&local, u->local_text);
    }
    stat_record_us(cluster->stats.cx_connect_ms, p_index,
                   (uint64_t)(rt_now_ns() - start_ns) / 1000);
    *out = u;
    return UPSTREAM_OK;
}

enum upstream_failure upstream_open(struct cluster *cluster, unsigned p_index,
                                    const struct upstream_wants *wants,
                                    struct upstream_opened *out) {
    *out = (struct upstream_opened){.failure = ""};
    uint32_t open = atomic_fetch_add_explicit(&cluster->connections, 1, memory_order_relaxed);
    if (open >= cluster->max_connections) {
        atomic_fetch_sub_explicit(&cluster->connections, 1, memory_order_relaxed);
        stat_inc(cluster->stats.cx_overflow, p_index);
        return UPSTREAM_OVERFLOW;
    }
    struct host *host = cluster_choose(cluster, p_index);
    if (!host) {
        atomic_fetch_sub_explicit(&cluster->connections, 1, memory_order_relaxed);
        stat_inc(cluster->stats.cx_none_healthy, p_index);
        return UPSTREAM_NO_HOST;
    }
    out->host = host_ref(host);
    return open_connection(cluster, host, p_index, wants, &out->upstream, &out->rc, out->failure);
}

/* ---- the pool ---- */

static void keep_for(struct upstream *u, struct downstream *d) {
    struct connection_info *info = connection_info_own(d);
    u->client_id = d->id;
    if (info)
        list_push_back(&info->upstreams, &u->of_client); /* else it is for one request */
}

void upstream_client_gone(struct list *upstreams) {
    while (!list_is_empty(upstreams)) {
        struct upstream *u = container_of(upstreams->next, struct upstream, of_client);
        list_remove(&u->of_client);
        if (!list_is_linked(&u->node))
            continue; /* still in use: upstream_put sees it */
        leave_pool(u);
        destroy(u, true);
    }
}

static enum upstream_failure open_pooled(struct cluster *cluster, struct host *host,
                                         unsigned p_index, const struct upstream_wants *wants,
                                         struct upstream **out, struct upstream_trouble *trouble) {
    const struct upstream_wants pooled = {
        .on_event = idle_event, .wishes = wants->wishes, .deadline_ns = wants->deadline_ns};
    stat_inc(cluster->stats.rq_pending_total, p_index);
    stat_inc(cluster->stats.cx_http1_total, p_index);
    atomic_fetch_add_explicit(&cluster->connections, 1, memory_order_relaxed);
    enum upstream_failure failed =
        open_connection(cluster, host, p_index, &pooled, out, &trouble->rc, trouble->failure);
    if (failed == UPSTREAM_OK && wants->wishes) {
        struct span name = wants->wishes->server_name;
        (*out)->server_name = strndup(name.ptr, name.len); /* without, it is nobody else's */
        if (wants->wishes->downstream)
            keep_for(*out, wants->wishes->downstream);
    }
    return failed;
}

static enum upstream_failure wait_for_room(struct cluster *cluster, unsigned p_index,
                                           int64_t deadline_ns) {
    const struct cluster_stats *s = &cluster->stats;
    struct cluster_local *local = &cluster->local[p_index];
    stat_inc(s->cx_overflow, p_index);
    if (local->pending_count >= cluster->max_pending) {
        stat_inc(s->rq_pending_overflow, p_index);
        return UPSTREAM_OVERFLOW;
    }
    local->pending_count++;
    stat_inc(s->rq_pending_total, p_index);
    stat_inc(s->rq_pending_active, p_index);
    int rc = wait_queue_wait(&local->pending, "upstream connection", deadline_ns);
    stat_dec(s->rq_pending_active, p_index);
    local->pending_count--;
    if (rc == -ECANCELED) {
        wait_queue_wake_one(&local->pending); /* a wake-up meant for us goes on */
        return UPSTREAM_CANCELLED;
    }
    return rc == 0 ? UPSTREAM_OK : UPSTREAM_DEADLINE;
}

/* There is no idle connection to the host in turn: one is opened, or waited for. A host is leased while the
 * coroutine may park. */
static NOINLINE enum upstream_failure get_slowly(struct cluster *cluster, struct host *host,
                                                 unsigned p_index,
                                                 const struct upstream_wants *wants,
                                                 struct host **host_out, struct upstream **out,
                                                 struct upstream_trouble *trouble) {
    for (;;) {
        host_ref(host);
        host_unref(*host_out); /* of an earlier round */
        *host_out = host;
        uint32_t open = atomic_load_explicit(&cluster->connections, memory_order_relaxed);
        if (open < cluster->max_connections || cluster->local[p_index].open_count == 0)
            return open_pooled(cluster, host, p_index, wants, out, trouble);
        *out = take_any_idle(cluster, p_index, wants->wishes, host_out);
        if (*out)
            return UPSTREAM_OK;
        /* Those that idle for another name give way: nobody might ever take them. */
        if (wants->wishes && upstream_close_idle(cluster, p_index, 0, 1, INT64_MAX) > 0)
            continue;
        enum upstream_failure failure = wait_for_room(cluster, p_index, wants->deadline_ns);
        if (failure != UPSTREAM_OK)
            return failure;
        host = cluster_choose(cluster, p_index);
        if (!host) {
            stat_inc(cluster->stats.cx_none_healthy, p_index);
            return UPSTREAM_NO_HOST;
        }
        struct upstream *u = take_idle(host, p_index, wants->wishes);
        if (u) {
            *out = hand_out(u, host_out);
            return UPSTREAM_OK;
        }
    }
}

enum upstream_failure upstream_get(struct cluster *cluster, unsigned p_index,
                                   const struct upstream_wants *wants, struct host **host_out,
                                   struct upstream **out, struct upstream_trouble *trouble) {
    struct host *host = cluster_choose(cluster, p_index);
    if (!host) {
        stat_inc(cluster->stats.cx_none_healthy, p_index);
        return UPSTREAM_NO_HOST;
    }
    struct upstream *u = take_idle(host, p_index, wants->wishes);
    if (!u)
        return get_slowly(cluster, host, p_index, wants, host_out, out, trouble);
    *out = u;
    *host_out = host;
    u->leases++;
    return UPSTREAM_OK;
}

/* Bytes behind the response are a protocol violation, and would be the response to whoever comes
 * next. They may also be in the kernel yet: a read that filled its buffer to the last byte leaves the
 * socket marked readable, as does an edge that came meanwhile, and no further edge will tell. */
static bool has_unread_bytes(struct upstream *u) {
    return inbuf_len(&u->in) != 0 || socket_has_unread(&u->socket);
}

void upstream_put(struct upstream *u) {
    const struct cluster *cluster = u->cluster;
    bool worn =
        cluster->max_requests_per_connection && u->requests >= cluster->max_requests_per_connection;
    bool old = cluster->max_connection_duration_ns &&
               rt_now_ns() - u->opened_ns >= cluster->max_connection_duration_ns;
    if (worn)
        stat_inc(cluster->stats.cx_max_requests, u->p_index);
    struct host_pool *pool = &u->host->pools[u->p_index];
    bool orphaned = u->client_id && !list_is_linked(&u->of_client);
    if (worn || old || orphaned || pool->retired || cluster->stopping ||
        socket_hung_up(&u->socket) || has_unread_bytes(u)) {
        destroy(u, true);
        return;
    }
    upstream_count_bytes(u);
    inbuf_idle(&u->in);
    start_idling(pool, u, cluster->idle_timeout_ns);
    wait_queue_wake_one(&u->cluster->local[u->p_index].pending);
}

void upstream_close(struct upstream *u, bool local) {
    stat_inc(u->cluster->stats.cx_destroy_with_active_rq, u->p_index);
    destroy(u, local);
}

void upstream_retire_pool(struct host *host, unsigned p_index) {
    struct upstream *u;
    host->pools[p_index].retired = true;
    while ((u = take_idle(host, p_index, NULL)))
        destroy(u, true);
}

/* It went back to the pool then, or, without an idle timeout that would tell, was opened. */
static int64_t idle_since(const struct upstream *u) {
    int64_t timeout_ns = u->cluster->idle_timeout_ns;
    return timeout_ns ? u->idle_until_ns - timeout_ns : u->opened_ns;
}

/* From the end of the list, where those are that have not been used for longest. */
static uint32_t close_idle(struct host_pool *pool, uint32_t keep, uint32_t max,
                           int64_t idle_since_ns) {
    uint32_t closed = 0;
    while (pool->idle_count > keep && closed < max) {
        struct upstream *u = container_of(pool->idle.prev, struct upstream, node);
        if (idle_since(u) > idle_since_ns)
            break;
        leave_pool(u);
        destroy(u, true);
        closed++;
    }
    return closed;
}

uint32_t upstream_close_idle(struct cluster *cluster, unsigned p_index, uint32_t keep, uint32_t max,
                             int64_t idle_since_ns) {
    struct host_set *set = cluster->local[p_index].hosts;
    uint32_t closed = 0;
    for (uint32_t i = 0; set && i < set->count && closed < max; i++)
        closed += close_idle(&set->hosts[i]->pools[p_index], keep, max - closed, idle_since_ns);
    return closed;
}
