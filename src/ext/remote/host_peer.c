/* host_peer: see the header.
 *
 * Who may touch what: the table's lock guards the table. A mirror is found there by the seat's thread that has its call, and
 * no other has one then; threads of Go's reach it by its go_peer, under that one's lock, and only before it is closed.
 * So who has closed it frees it.
 *
 * I1  A message is written to its ring with the go_peer's lock held: those of a connection are in the order of what Go did,
 *     and parts of one write stay together. Who waits for room there waits for a P, which waits for nobody of us.
 * I2  An upstream is asked for and put into the table by one thread, and the proxy may be faster with its first call: who
 *     has that waits. Between the answer and the table the thread that asked waits for nothing. */
#include "ext/remote/host_peer.h"

#include <pthread.h>
#include <stdlib.h>

#include "ext/go/go_far_peer.h"
#include "ext/go/go_upstream.h"
#include "ext/remote/host_seat.h"
#include "rt/rt.h"

enum { BUCKETS = 1 << 12, HEAD_MAX = 64 };

struct host_peer {
    struct go_far_peer far;
    struct host_peer *next; /* in the table */
    struct host *host;
    uint64_t number;
    uint32_t p; /* whose ring gets what is said of it */
    struct go_peer *peer;
    uint64_t config_id;       /* of a client's, Go's */
    struct remote_out coming; /* bytes of the call to come */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t added = PTHREAD_COND_INITIALIZER;
static struct host_peer *table[BUCKETS];

static void *or_die(void *memory) {
    if (!memory)
        host_die("out of memory");
    return memory;
}

/* ---- the table ---- */

static struct host_peer **place_locked(uint64_t number) {
    struct host_peer **place = &table[(number ^ number >> 24) % BUCKETS];
    while (*place && (*place)->number != number)
        place = &(*place)->next;
    return place;
}

static void add(struct host_peer *mirror) {
    pthread_mutex_lock(&lock);
    *place_locked(mirror->number) = mirror;
    pthread_cond_broadcast(&added);
    pthread_mutex_unlock(&lock);
}

static void take_away(const struct host_peer *mirror) {
    pthread_mutex_lock(&lock);
    *place_locked(mirror->number) = mirror->next;
    pthread_mutex_unlock(&lock);
}

/* One that was told of, or is about to be added (I2). */
static struct host_peer *find(uint64_t number) {
    pthread_mutex_lock(&lock);
    struct host_peer **place;
    while (!*(place = place_locked(number)))
        (void)pthread_cond_wait(&added, &lock);
    struct host_peer *mirror = *place;
    pthread_mutex_unlock(&lock);
    return mirror;
}

/* ---- what Go does: with the peer's lock ---- */

static struct host_peer *mirror_of(struct go_far_peer *far) {
    return container_of(far, struct host_peer, far);
}

static void say(const struct host_peer *mirror, enum remote_kind kind, struct remote_out *head,
                struct span bytes) {
    if (head->failed)
        host_die("out of memory");
    host_send(mirror->host, mirror->p, kind, span_make(head->data, head->len), bytes, HOST_BATCHED);
    remote_out_fini(head);
}

static void write_far(struct go_far_peer *far, struct span bytes, bool end) {
    const struct host_peer *mirror = mirror_of(far);
    const size_t max = mirror->host->record_max - HEAD_MAX;
    do {
        struct remote_out head = {0};
        const size_t size = bytes.len < max ? bytes.len : max;
        remote_put_peer_write(&head, &(struct remote_peer_write){.number = mirror->number,
                                                                 .left = bytes.len - size,
                                                                 .end = end});
        ASSERT(head.failed || head.len <= HEAD_MAX);
        say(mirror, REMOTE_PEER_WRITE, &head, span_make(bytes.ptr, size));
        bytes = span_from(bytes, size);
    } while (bytes.len);
}

static void close_far(struct go_far_peer *far, enum go_close_type type) {
    const struct host_peer *mirror = mirror_of(far);
    struct remote_out out = {0};
    remote_put_peer_close(&out, &(struct remote_peer_close){mirror->number, (uint8_t)type});
    say(mirror, REMOTE_PEER_CLOSE, &out, span_make("", 0));
}

static void half_close_far(struct go_far_peer *far, bool enable) {
    const struct host_peer *mirror = mirror_of(far);
    struct remote_out out = {0};
    remote_put_peer_half_close(&out, &(struct remote_peer_half_close){mirror->number, enable});
    say(mirror, REMOTE_PEER_HALF_CLOSE, &out, span_make("", 0));
}

static int ask(struct go_far_peer *far, struct remote_ask *ask, struct remote_answer *answer) {
    const struct host_peer *mirror = mirror_of(far);
    ask->subject = mirror->number;
    return host_ask(mirror->host, mirror->p, ask, answer);
}

static void asked(struct go_far_peer *far, const struct remote_ask *ask) {
    host_asked(mirror_of(far)->host, ask);
}

static const struct go_far_peer_itab far_itab = {.write = write_far,
                                                 .close = close_far,
                                                 .half_close = half_close_far,
                                                 .ask = ask,
                                                 .asked = asked};

/* ---- life ---- */

/* Not in the table yet. */
static struct host_peer *make(struct host *host, const struct go_plugin *plugin, bool is_upstream,
                              unsigned shard) {
    struct host_peer *mirror = or_die(calloc(1, sizeof *mirror));
    mirror->far.itab = &far_itab;
    mirror->host = host;
    /* What is constant of a plugin is all that is looked at, but for its counters. */
    mirror->peer =
        or_die(go_peer_new((struct go_plugin *)(uintptr_t)plugin, is_upstream, 0, shard));
    if (!mirror->peer->lent)
        host_die("Go has not given back as many connections as there can be");
    mirror->peer->far = &mirror->far;
    return mirror;
}

static void known(struct host_peer *mirror, uint64_t number, uint64_t handle) {
    mirror->number = number;
    mirror->p = remote_number_p(number);
    if (mirror->p >= mirror->host->p_count)
        host_die("the proxy speaks of a P that it has not told of");
    mirror->far.handle = handle;
    mirror->peer->known = true;
    add(mirror);
}

static struct host_peer *make_client(struct host_seat *seat, const struct remote_peer_call *call) {
    struct host_config config;
    if (!host_config_find(call->config_id, &config))
        host_die("the proxy speaks of a configuration that it has not told of");
    struct host_peer *mirror = make(seat->host, config.plugin, false, seat->shard);
    mirror->config_id = config.go_id;
    for (int i = 0; i < 2; i++) {
        struct go_peer_info *info = &mirror->peer->lent->info[i];
        info->len = call->info[i].len;
        if (info->len)
            memcpy(info->text, call->info[i].ptr, info->len);
    }
    known(mirror, call->number, call->handle);
    return mirror;
}

/* What Go asks for from here on finds it closed. */
static void end(struct host_peer *mirror) {
    take_away(mirror);
    go_peer_drop(mirror->peer);
    remote_out_fini(&mirror->coming);
    free(mirror);
}

/* ---- messages ---- */

void host_peer_bytes(const struct remote_peer_bytes *bytes) {
    struct host_peer *mirror = find(bytes->number);
    remote_out_put(&mirror->coming, bytes->bytes);
    if (mirror->coming.failed)
        host_die("out of memory");
}

/* All that it shows, in one piece. */
static struct span gather(struct host_peer *mirror, struct span last) {
    if (!mirror->coming.len)
        return last;
    remote_out_put(&mirror->coming, last);
    if (mirror->coming.failed)
        host_die("out of memory");
    return span_make(mirror->coming.data, mirror->coming.len);
}

static uint32_t take_crossings(struct go_peer *peer) {
    pthread_mutex_lock(&peer->lock);
    const uint32_t crossings = peer->counts.crossings;
    peer->counts.crossings = 0;
    pthread_mutex_unlock(&peer->lock);
    return crossings;
}

static void tell(struct host_seat *seat, uint32_t p, const struct remote_peer_returned *returned) {
    struct remote_out out = {0};
    remote_put_peer_returned(&out, returned);
    if (out.failed)
        host_die("out of memory");
    host_send(seat->host, p, REMOTE_PEER_RETURNED, span_make(out.data, out.len), span_make("", 0),
              HOST_BATCHED);
    remote_out_fini(&out);
}

void host_peer_call(struct host_seat *seat, const struct remote_peer_call *call) {
    struct host_peer *mirror =
        call->kind == GO_CALL_CONNECTION ? make_client(seat, call) : find(call->number);
    const uint32_t p = mirror->p;
    const struct span bytes = gather(mirror, call->bytes);
    const uint64_t slice[2] = {(uint64_t)(uintptr_t)bytes.ptr, bytes.len};
    struct go_peer_call here = {
        .kind = (enum go_peer_call_kind)call->kind,
        .peer = mirror->peer,
        .slices = slice,
        .slice_count = bytes.len ? 1 : 0,
        .size = bytes.len,
        .end = call->end,
        .number = call->what,
        .conn_id = call->conn_id,
        .config_id = mirror->config_id,
    };
    const int64_t began_ns = host_seat_begin_call(seat);
    go_peer_call_make(&here);
    const int64_t took_ns = host_seat_end_call(seat, began_ns);
    const struct remote_peer_returned returned = {.call = call->call,
                                                  .status = here.status,
                                                  .took_ns = (uint64_t)took_ns,
                                                  .crossings = take_crossings(mirror->peer),
                                                  .wrote_to = here.full};
    remote_out_fini(&mirror->coming);
    if (call->last)
        end(mirror);
    tell(seat, p, &returned);
}

/* ---- upstreams ---- */

static bool ask_for(struct host_peer *mirror, const struct go_peer *here, struct span address,
                    uint64_t conn_id, uint64_t *number, uint64_t *handle) {
    static _Atomic unsigned turn; /* a number that guards nothing, so relaxed */
    struct host *host = mirror->host;
    const struct host_peer *asks = here ? mirror_of(here->far) : NULL;
    struct remote_ask ask = {.question = REMOTE_CONNECT,
                             .subject = asks ? asks->number : 0,
                             .n = conn_id,
                             .a = address,
                             .b = span_make("", 0),
                             .c = span_make("", 0)};
    const uint32_t p =
        asks ? asks->p : atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed) % host->p_count;
    struct remote_answer answer;
    bool done = host_ask(host, p, &ask, &answer) == GO_OK && answer.text.len == sizeof *handle;
    if (done) {
        memcpy(handle, answer.text.ptr, sizeof *handle);
        *number = answer.number;
    }
    host_asked(host, &ask);
    return done;
}

void *host_peer_connect(struct go_library *library, struct span address, uint64_t conn_id) {
    const struct go_peer *here = go_peer_here();
    const struct go_plugin *plugin =
        here ? here->plugin
             : or_die(go_plugin_get(library, GO_PLUGIN_NETWORK, go_upstream_nobodys));
    struct host_peer *mirror = make(host_get(), plugin, true, STATS_SHARD_FOREIGN);
    go_upstream_fill_info(mirror->peer->lent, address);
    void *known_by = mirror->peer->lent;
    uint64_t number, handle;
    if (ask_for(mirror, here, address, conn_id, &number, &handle)) {
        known(mirror, number, handle);
        return known_by;
    }
    go_peer_drop(mirror->peer);
    free(mirror);
    return NULL;
}
