/* host_serve: see the header. What a seat's thread does has no deadline and no error: a record that makes no sense is a bug of
 * ours at the other end, or memory that somebody wrote over, and ends the process with a line that says so.
 *
 * The rounds: records are worked off as long as there are any; results of a round are told with one wake for each P (host_send.h);
 * then the thread sleeps on its ring. */
#include "ext/remote/host_serve.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "ext/remote/host_cluster.h"
#include "ext/remote/host_metric.h"
#include "ext/remote/host_peer.h"
#include "ext/remote/host_seat.h"
#include "ext/remote/host_text.h"

enum { STACK_SIZE = 512 * 1024 };

static void bad_record(void) {
    host_die("a message of the proxy is not one");
}

static void serve_lend(struct host_seat *seat, struct span record) {
    struct remote_lend lend;
    if (remote_read_lend(record, seat->entries, HOST_ENTRIES, &lend) != 0)
        bad_record();
    host_stream_lend(seat, &lend);
}

static void serve_body(struct host_seat *seat, struct span record) {
    struct remote_body body;
    if (remote_read_body(record, &body) != 0)
        bad_record();
    host_stream_body(seat, &body);
}

static void serve_log(struct host_seat *seat, struct span record) {
    struct remote_log log;
    if (remote_read_log(record, seat->entries, HOST_ENTRIES, &log) != 0)
        bad_record();
    host_stream_log(seat, &log);
}

static void serve_end(struct host_seat *seat, struct span record) {
    struct remote_end end;
    if (remote_read_end(record, &end) != 0)
        bad_record();
    host_stream_end(seat, &end);
}

static void serve_specify(struct host_seat *seat, struct span record) {
    struct remote_specify specify;
    if (remote_read_specify(record, seat->entries, HOST_ENTRIES, &specify) != 0)
        bad_record();
    host_cluster_specify(seat, &specify);
}

static void serve_peer_bytes(struct span record) {
    struct remote_peer_bytes bytes;
    if (remote_read_peer_bytes(record, &bytes) != 0)
        bad_record();
    host_peer_bytes(&bytes);
}

static void serve_peer_call(struct host_seat *seat, struct span record) {
    struct remote_peer_call call;
    if (remote_read_peer_call(record, &call) != 0)
        bad_record();
    host_peer_call(seat, &call);
}

static void serve(struct host_seat *seat, const struct remote_record *record) {
    switch (record->kind) {
    case REMOTE_LEND:
        serve_lend(seat, record->payload);
        break;
    case REMOTE_BODY:
        serve_body(seat, record->payload);
        break;
    case REMOTE_LOG:
        serve_log(seat, record->payload);
        break;
    case REMOTE_END:
        serve_end(seat, record->payload);
        break;
    case REMOTE_SPECIFY:
        serve_specify(seat, record->payload);
        break;
    case REMOTE_PEER_BYTES:
        serve_peer_bytes(record->payload);
        break;
    case REMOTE_PEER_CALL:
        serve_peer_call(seat, record->payload);
        break;
    default:
        bad_record();
    }
}

/* Until the process ends. What it would do, needs what is being destroyed. */
static _Noreturn void rest(struct host *host) {
    host_wake(host);
    for (;;)
        (void)pause();
}

/* Metrics that configurations defined before there was somebody to tell: by one of the threads. */
static void *seat_main(void *arg) {
    struct host_seat *seat = arg;
    struct host *host = seat->host;
    struct remote_record record;
    const struct sched_param no_priority = {0};
    (void)sched_setscheduler(0, SCHED_BATCH, &no_priority); /* without it batches are smaller */
    host_send_in_batches(&seat->batch);
    if (seat->number == 0)
        host_metrics_tell(host);
    for (;;) {
        int err = remote_ring_in_next(seat->in, &record);
        if (atomic_load_explicit(&host->stops, memory_order_acquire)) /* host_serve_stop */
            rest(host);
        if (err == 0) {
            serve(seat, &record);
            remote_ring_in_done(seat->in);
        } else if (err == -EAGAIN) {
            host_wake(host);
            err = remote_ring_in_wait(seat->in, INT64_MAX);
        }
        if (err != 0)
            host_die("a ring from the proxy is broken");
    }
    return NULL;
}

static int start_thread(struct host_seat *seat) {
    pthread_attr_t attributes;
    pthread_t thread;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, STACK_SIZE);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int err = pthread_create(&thread, &attributes, seat_main, seat);
    (void)pthread_attr_destroy(&attributes);
    return -err;
}

static int init_seat(struct host *host, uint32_t number) {
    struct host_seat *seat = &host->seats[number];
    *seat = (struct host_seat){
        .host = host,
        .number = number,
        /* Those that have none of their own take locks (mem/handle.h). */
        .shard = number < STATS_SHARD_FOREIGN ? number : STATS_SHARD_FOREIGN,
        .in = remote_shm_seat_in(host->shm, number),
        .entries = malloc(HOST_ENTRIES * sizeof(struct header)),
    };
    return seat->entries ? 0 : -ENOMEM;
}

static void drop(struct host *host) {
    for (uint32_t i = 0; host->seats && i < host->seat_count; i++)
        free(host->seats[i].entries);
    free(host->seats);
    free(host);
}

void host_serve_plugin(struct go_plugin *plugin) {
    const struct host *host = host_get();
    if (host)
        atomic_store_explicit(&plugin->unfinalized_far, remote_shm_gauge(host->shm, plugin->name),
                              memory_order_relaxed);
}

int host_serve_start(const struct go_library *library, struct remote_shm *shm) {
    const struct remote_shm_layout *layout = remote_shm_layout(shm);
    if (host_get() || layout->seat_count != library->concurrency)
        return -EINVAL;
    struct host *host = calloc(1, sizeof(*host));
    if (!host)
        return -ENOMEM;
    *host = (struct host){.library = library,
                          .shm = shm,
                          .p_count = layout->p_count,
                          .seat_count = layout->seat_count,
                          .record_max = remote_record_max(layout->p_ring_size),
                          .seats = calloc(layout->seat_count, sizeof(struct host_seat))};
    unsigned shards =
        layout->seat_count < STATS_SHARD_FOREIGN ? layout->seat_count : STATS_SHARD_FOREIGN;
    int err = host->seats ? stats_init(shards) : -ENOMEM;
    for (uint32_t i = 0; i < layout->seat_count && !err; i++)
        err = init_seat(host, i);
    if (err) {
        drop(host);
        return err;
    }
    atomic_store_explicit(&host_serving, host, memory_order_release); /* for host_get */
    host_text_begin();
    for (struct go_plugin *plugin = go_plugin_first(library); plugin; plugin = plugin->next)
        if (plugin->kind == GO_PLUGIN_HTTP)
            host_serve_plugin(plugin);
    for (uint32_t i = 0; i < layout->seat_count; i++)
        if (start_thread(&host->seats[i]) != 0)
            host_die("there is no thread to be had for a seat");
    return 0;
}

static bool is_quiet(const struct host *host) {
    for (uint32_t i = 0; i < host->seat_count; i++)
        if (!remote_ring_in_is_quiet(host->seats[i].in))
            return false;
    return true;
}

/* Seats do not tell when they fall asleep: it costs each of them nothing, and us a look each millisecond, once. */
void host_serve_stop(int64_t deadline_ns) {
    static const struct timespec a_millisecond = {.tv_nsec = NS_PER_MS};
    struct host *host = host_get();
    if (!host)
        return;
    while (!is_quiet(host) && clock_mono_ns() < deadline_ns)
        (void)nanosleep(&a_millisecond, NULL); /* a signal only makes it look earlier */
    atomic_store_explicit(&host->stops, true, memory_order_release);
}
