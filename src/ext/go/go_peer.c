/* go_peer: the queue between Go's threads and a connection's P, and the end of both.
 *
 * A command is queued under the peer's lock, which is never held over a park or a call out. The first one of a batch
 * posts a message to the P, with a lease on the peer, so that it finds one; the message wakes the peer's coroutine,
 * which does the commands one by one and parks when there is none. What Go does in one thread is therefore
 * done in that order, and a write that waits for room holds up what comes behind it and nobody else.
 *
 * End  Under the lock `closed` is set before the handle is destroyed and before anything that a command needs goes: a
 *      call that comes later finds no peer, or a closed one. The coroutine outlives its owner, since it
 *      has to tell Go of the end, and Go may take its time: a plugin's lock, a channel that nobody reads. After that
 *      call it touches Go no more, and gives the handle and the lease on the loan back.
 *
 * Two in Go  Calls for one peer are serialised by `calls`, as the SDK's users expect of Envoy's one thread. Calls for
 *      different peers are not, a client's and its upstream's included: neither are they on Envoy, where an
 *      upstream's thread is chosen in turn.
 *
 * Seats  A call takes one when it has `calls`, for its own time (go_plugin_call), so a connection waits with one call at
 *      most. What cannot be refused without a hole in the stream (what Go wrote, what an upstream sent) waits
 *      as long as the connection does; the first and the last word of a connection for as long as it takes.
 *
 * Room  Write has no result, and must not wait: in a callback it would wait for itself. So too much is noted where the
 *      callback's coroutine finds it, on the thread's own variable, and that coroutine waits before it reads on.
 *
 * Rejected  A coroutine for each batch of commands: one that cannot be started leaves bytes in the queue for ever. */
#include "ext/go/go_peer.h"

#include <errno.h>
#include <stdlib.h>

#include "ext/ext_handles.h"
#include "ext/go/go_log.h"
#include "ext/go/go_owned.h"
#include "ext/go/go_peer_queue.h"
#include "ext/go/go_stats.h"
#include "ext/remote/remote_peer.h"
#include "rt/foreign.h"

const char go_peer_key[] = "connection";

struct loan_pool go_lent_peers;
struct go_peer_stats go_peer_stats;

/* A coroutine that waits for room, on its own stack; under the peer's lock. */
struct go_waiter {
    struct go_waiter *next;
    struct g *g; /* NULL: it was woken */
};

/* ---- life ---- */

static void end_loan(void *memory) {
    const struct go_lent_peer *lent = memory;
    stat_dec(go_peer_stats.unfinalized, STATS_SHARD_FOREIGN);
    stats_cell_add(lent->unfinalized, STATS_SHARD_FOREIGN, (uint64_t)-1);
}

static int init_error;

static void init_once(void) {
    static const struct loan_kind kind = {
        .size = sizeof(struct go_lent_peer), .max = GO_PEERS_MAX, .finalize = end_loan};
    const struct {
        struct statistic **into;
        enum stat_kind kind;
        const char *name;
    } table[] = {
        {&go_peer_stats.unfinalized, STAT_GAUGE, "golang.unfinalized_connections"},
        {&go_peer_stats.overflows, STAT_COUNTER, "golang.network.write_overflow"},
        {&go_peer_stats.upstream_total, STAT_COUNTER, "golang.network.upstream_cx_total"},
        {&go_peer_stats.upstream_active, STAT_GAUGE, "golang.network.upstream_cx_active"},
        {&go_peer_stats.upstream_failed, STAT_COUNTER, "golang.network.upstream_cx_connect_fail"},
        {&go_peer_stats.lost_closed, STAT_COUNTER, "golang.network.host_lost_closed"},
        {&go_peer_stats.lost_open, STAT_COUNTER, "golang.network.host_lost_open"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        *table[i].into =
            stats_get(table[i].kind, span_of(table[i].name), span_of(table[i].name), NULL, 0);
    init_error = loan_pool_init(&go_lent_peers, &kind);
}

int go_peers_init(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
    return init_error;
}

/* By whoever gives the last lease back. */
static void finalize(void *object, const void *key) {
    struct go_peer *peer = object;
    (void)pthread_mutex_destroy(&peer->lock); /* nobody has a lease any more */
    free(peer);
}

static void tell_of_the_limit(void) {
    static atomic_flag told = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set_explicit(&told, memory_order_relaxed))
        LOG(log_golang, LOG_ERROR,
            "Go has not given back %d connections, and gets no more: a plugin keeps its filters. "
            "Restart this process to serve on",
            (int)GO_PEERS_MAX);
}

static void message(struct rt_post *post);
static void hard_message(struct rt_post *post);
static void let_go(struct go_peer *peer);

struct go_peer *go_peer_new(struct go_plugin *plugin, bool is_upstream, unsigned p_index,
                            unsigned shard) {
    struct go_peer *peer = calloc(1, sizeof *peer);
    if (!peer)
        return NULL;
    (void)pthread_mutex_init(&peer->lock, NULL); /* cannot fail with default attributes */
    peer->plugin = plugin;
    peer->seat_wait_ns = RT_FOREVER;
    peer->p_index = p_index;
    peer->post.fn = message;
    peer->hard_post.fn = hard_message;
    comutex_init(&peer->calls);
    doing_init(&peer->doing, NULL);
    doing_filter(&peer->doing, &plugin->labels);
    wait_queue_init(&peer->write_ends);
    peer->handle =
        handle_make(&ext_handles, shard,
                    &(struct handle_object){
                        .object = peer, .key = go_peer_key, .finalize = finalize, .leased = true});
    if (!peer->handle) {
        finalize(peer, NULL);
        return NULL;
    }
    go_owned(peer);
    if (plugin->library->isolated && !(peer->remote = remote_peer_new(peer))) {
        let_go(peer);
        return NULL;
    }
    peer->loan = loan_new(&go_lent_peers, shard);
    peer->lent = peer->loan.memory;
    if (!peer->lent) {
        tell_of_the_limit();
        return peer;
    }
    peer->lent->handle = peer->handle;
    peer->lent->is_upstream = is_upstream;
    peer->lent->unfinalized = plugin->stats.slots[GO_STAT_UNFINALIZED];
    loan_lend(&go_lent_peers, peer->loan); /* nobody is told the address before it is filled in */
    stat_inc(go_peer_stats.unfinalized, shard);
    stat_inc(plugin->stats.read[GO_STAT_UNFINALIZED], shard);
    return peer;
}

static void free_commands(struct go_command *command) {
    while (command) {
        struct go_command *next = command->next;
        free(command);
        command = next;
    }
}

static void wake_waiters_locked(struct go_peer *peer) {
    for (struct go_waiter *waiter = peer->waiters; waiter;) {
        struct go_waiter *next = waiter->next;
        struct g *g = waiter->g;
        waiter->g = NULL; /* its memory may go once the lock is given up */
        rt_ready(g);
        waiter = next;
    }
    peer->waiters = NULL;
}

static void refuse_commands(struct go_peer *peer) {
    pthread_mutex_lock(&peer->lock);
    struct go_command *commands = peer->first;
    peer->closed = true;
    peer->state = NULL;
    peer->first = peer->last = NULL;
    peer->queued = 0;
    wake_waiters_locked(peer);
    pthread_mutex_unlock(&peer->lock);
    free_commands(commands);
}

/* On its P; what Go's threads counted goes to the P's shard. */
static void take_counts(struct go_peer *peer) {
    pthread_mutex_lock(&peer->lock);
    const struct go_counts counts = peer->counts;
    peer->counts = (struct go_counts){0};
    pthread_mutex_unlock(&peer->lock);
    go_plugin_stats_add(&peer->plugin->stats, peer->p_index, &counts);
}

/* Our lease on it is the last thing to go. */
static void let_go(struct go_peer *peer) {
    uint64_t handle = peer->handle;
    remote_peer_free(peer->remote);
    if (peer->lent && !peer->known)
        (void)loan_release(&go_lent_peers, peer->lent); /* nobody else has the address */
    if (peer->lent)
        loan_let_go(&go_lent_peers, peer->loan);
    (void)handle_destroy(&ext_handles, handle, go_peer_key); /* only we do that */
    handle_release(&ext_handles, handle);
}

void go_peer_drop(struct go_peer *peer) {
    ASSERT(!peer->g);
    refuse_commands(peer);
    let_go(peer);
}

/* ---- commands ---- */

enum urgency { NO_HURRY, HURRY, BROKEN };

/* NULL: there is none. */
static struct go_command *take(struct go_peer *peer, enum urgency *urgency) {
    pthread_mutex_lock(&peer->lock);
    struct go_command *command = peer->first;
    if (command) {
        peer->first = command->next;
        if (!peer->first)
            peer->last = NULL;
    }
    *urgency = peer->broken ? BROKEN : peer->hard ? HURRY : NO_HURRY;
    pthread_mutex_unlock(&peer->lock);
    return command;
}

static void done(struct go_peer *peer, struct go_command *command) {
    pthread_mutex_lock(&peer->lock);
    if (!peer->closed)
        peer->queued -= go_command_size(command);
    if (peer->queued <= GO_PEER_QUEUE_LOW)
        wake_waiters_locked(peer);
    pthread_mutex_unlock(&peer->lock);
    free(command);
}

static void do_write(struct go_peer *peer, const struct go_command *command) {
    if (peer->write_failed)
        return;
    peer->is_writing = true;
    if (peer->itab->write(peer->owner, span_make(command->bytes, command->len), command->end) != 0)
        peer->write_failed = true;
    peer->is_writing = false;
    rt_cancel_clear(); /* of go_peer_cut_writing: nobody else cancels this coroutine */
}

static void do_close(struct go_peer *peer, enum go_close_type type) {
    peer->write_failed = true; /* nothing is written behind it */
    peer->is_writing = true;
    peer->itab->close(peer->owner, type);
    peer->is_writing = false;
    rt_cancel_clear();
}

static void do_command(struct go_peer *peer, struct go_command *command, enum urgency urgency) {
    if (urgency == BROKEN && !peer->reset) {
        peer->reset = true;
        do_close(peer, GO_CLOSE_RESET);
    } else if (urgency == BROKEN || !command) {
        return;
    } else if (command->is_close) {
        do_close(peer, command->close_type);
    } else {
        if (urgency == HURRY)
            peer->itab->hurry(peer->owner);
        do_write(peer, command);
    }
}

/* Of Go, which has it in its map until then. */
static void tell_the_end(struct go_peer *peer) {
    struct go_peer_call call = {.kind = peer->lent->is_upstream ? GO_CALL_UPSTREAM_EVENT
                                                                : GO_CALL_EVENT,
                                .patience = GO_PEER_SURELY,
                                .number = peer->end_event};
    if (!peer->announced)
        return;
    peer->announced = false;
    (void)!go_peer_call(peer, &call); /* a host process that is gone needs not be told */
}

static void settle(struct go_peer *peer) {
    if (!peer->lost || peer->settled || peer->ended)
        return;
    peer->settled = true;
    if (peer->itab->settle)
        peer->itab->settle(peer->owner);
}

void go_peer_lose(struct go_peer *peer) {
    if (peer->lost || peer->ended || !peer->owner)
        return;
    peer->lost = true;
    peer->itab->lost(peer->owner);
    if (peer->g)
        rt_ready(peer->g);
}

static void run(void *arg) {
    struct go_peer *peer = arg;
    peer->g = rt_self();
    while (!peer->ended) {
        enum urgency urgency;
        struct go_command *command = take(peer, &urgency);
        do_command(peer, command, urgency);
        if (command)
            done(peer, command);
        settle(peer);
        wait_queue_wake_all(&peer->write_ends);
        take_counts(peer);
        if (!command && !peer->ended && peer->lost == peer->settled)
            (void)rt_park("commands of Go", RT_FOREVER); /* whatever wakes it, it looks again */
    }
    tell_the_end(peer);
    take_counts(peer);
    peer->g = NULL;
    labels_describe_by(NULL); /* that is the peer's */
    let_go(peer);
}

int go_peer_start(struct go_peer *peer, const struct go_peer_itab *itab, void *owner) {
    peer->itab = itab;
    peer->owner = owner;
    const struct go_options options = {
        .name = "go peer", .place = RT_HERE, .describer = &peer->doing.describer};
    return go_with(&options, run, peer);
}

void go_peer_end(struct go_peer *peer, int64_t event) {
    refuse_commands(peer);
    peer->owner = NULL;
    peer->end_event = event;
    peer->ended = true;
    if (peer->g)
        rt_ready(peer->g);
}

void go_peer_cut_writing(struct go_peer *peer) {
    if (peer->is_writing && peer->g != rt_self())
        rt_cancel(peer->g);
}

/* Whoever cancels the caller: it waits on, and is cancelled again afterwards. */
static void wait_until_written(struct go_peer *peer) {
    bool cancelled = false;
    while (peer->is_writing) {
        if (wait_queue_wait(&peer->write_ends, "end of Go's write", RT_FOREVER) == -ECANCELED) {
            rt_cancel_clear();
            cancelled = true;
        }
    }
    if (cancelled)
        rt_cancel(rt_self());
}

void go_peer_stop_writing(struct go_peer *peer) {
    peer->write_failed = true; /* no other begins */
    go_peer_cut_writing(peer);
    wait_until_written(peer);
}

static bool has_commands(struct go_peer *peer) {
    pthread_mutex_lock(&peer->lock);
    bool has = peer->first != NULL;
    pthread_mutex_unlock(&peer->lock);
    return has || peer->is_writing;
}

void go_peer_flush(struct go_peer *peer, int64_t deadline_ns) {
    while (has_commands(peer) && !peer->write_failed)
        if (wait_queue_wait(&peer->write_ends, "flush of what Go wrote", deadline_ns) != 0)
            return;
}

/* ---- messages from other threads ---- */

static void message(struct rt_post *post) {
    struct go_peer *peer = container_of(post, struct go_peer, post);
    uint64_t handle = peer->handle;
    pthread_mutex_lock(&peer->lock);
    peer->posted = false;
    pthread_mutex_unlock(&peer->lock);
    if (peer->g)
        rt_ready(peer->g);
    handle_release(&ext_handles, handle);
}

static void hard_message(struct rt_post *post) {
    struct go_peer *peer = container_of(post, struct go_peer, hard_post);
    uint64_t handle = peer->handle;
    if (peer->owner && peer->is_writing)
        go_peer_cut_writing(peer);
    if (peer->g)
        rt_ready(peer->g);
    handle_release(&ext_handles, handle);
}

/* ---- calls into Go ---- */

static void make(void *call) {
    go_peer_call_make(call);
}

static int call_seated(struct go_peer *peer, struct go_peer_call *call) {
    bool waits = call->patience != GO_PEER_AS_CONFIGURED;
    int64_t patience_ns = waits ? RT_FOREVER : peer->seat_wait_ns;
    if (peer->remote)
        return remote_peer_call(peer->remote, call, patience_ns);
    if (call->patience != GO_PEER_SURELY)
        return go_plugin_call(peer->plugin, peer->p_index, patience_ns, make, call);
    go_plugin_call_surely(peer->plugin, peer->p_index, make, call);
    return 0;
}

/* However often it is cancelled: that is for afterwards. */
static bool lock_calls(struct go_peer *peer, bool surely, int *rc) {
    bool cancelled = false;
    while ((*rc = comutex_lock(&peer->calls, RT_FOREVER)) != 0 && surely) {
        rt_cancel_clear();
        cancelled = true;
    }
    return cancelled;
}

int go_peer_call(struct go_peer *peer, struct go_peer_call *call) {
    int rc;
    const bool surely = call->patience == GO_PEER_SURELY;
    const bool cancelled = lock_calls(peer, surely, &rc);
    if (rc != 0)
        return rc;
    call->peer = peer;
    call->full = 0;
    rc = peer->announced || surely ? call_seated(peer, call) : -ECANCELED;
    if (rc == 0) {
        uint64_t *cells = stats_cells(peer->p_index);
        stats_bump(cells, peer->plugin->stats.slots[GO_STAT_BODY_BYTES_TO_GO], call->size);
        take_counts(peer);
    }
    comutex_unlock(&peer->calls);
    if (cancelled)
        rt_cancel(rt_self());
    return rc;
}

static void take_waiter_locked(struct go_peer *peer, const struct go_waiter *waiter) {
    struct go_waiter **at = &peer->waiters;
    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
}

int go_peer_wait_for_room(const struct go_peer_call *call) {
    struct go_peer *peer = call->full ? handle_lease(&ext_handles, call->full, go_peer_key) : NULL;
    struct go_waiter waiter = {0};
    int rc = 0;
    if (!peer)
        return 0;
    pthread_mutex_lock(&peer->lock);
    while (rc != -ECANCELED && !peer->closed && peer->queued > GO_PEER_QUEUE_LOW) {
        if (!waiter.g) {
            waiter = (struct go_waiter){.next = peer->waiters, .g = rt_self()};
            peer->waiters = &waiter;
        }
        pthread_mutex_unlock(&peer->lock);
        rc = rt_park("room for what Go wrote", RT_FOREVER); /* a wake-up in between is remembered */
        pthread_mutex_lock(&peer->lock);
    }
    if (waiter.g)
        take_waiter_locked(peer, &waiter);
    pthread_mutex_unlock(&peer->lock);
    handle_release(&ext_handles, call->full);
    return rc;
}

/* ---- for the exports ---- */

int go_peer_find(const void *address, bool is_upstream, struct go_peer_visit *visit) {
    *visit = (struct go_peer_visit){.loan = loan_keep(&go_lent_peers, address)};
    visit->lent = visit->loan.memory;
    if (visit->lent && visit->lent->is_upstream != is_upstream) {
        loan_let_go(&go_lent_peers, visit->loan);
        visit->lent = NULL;
    }
    if (!visit->lent) {
        go_stats_count(GO_STALE_HANDLES, 1);
        return GO_FILTER_IS_GONE;
    }
    visit->peer = handle_lease(&ext_handles, visit->lent->handle, go_peer_key);
    if (visit->peer) {
        pthread_mutex_lock(&visit->peer->lock);
        visit->peer->counts.crossings++;
    }
    return GO_OK;
}

int go_peer_leave(struct go_peer_visit *visit, int code) {
    if (visit->peer) {
        pthread_mutex_unlock(&visit->peer->lock);
        handle_release(&ext_handles, visit->lent->handle);
    }
    loan_let_go(&go_lent_peers, visit->loan);
    if (code == GO_FILTER_IS_DESTROYED)
        go_stats_count(GO_STALE_CALLS, 1);
    return code;
}
