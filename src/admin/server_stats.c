#include "admin/server_stats.h"

#include <stdio.h>

#include "admin/crash_dir.h"
#include "admin/page.h"
#include "base/clock.h"
#include "base/stats.h"
#include "ext/go/go_stats.h"
#include "filter/transport_tls.h"
#include "rt/foreign.h"
#include "rt/io_counts.h"
#include "rt/rt.h"

static void set(enum stat_kind kind, const char *name, uint64_t value) {
    stat_set(stats_get_plain(kind, name), (int64_t)value);
}

static void set_of_p(enum stat_kind kind, unsigned p_index, const char *suffix, uint64_t value) {
    char name[64], metric[64], index[16];
    snprintf(name, sizeof name, "rt.p%u.%s", p_index, suffix);
    snprintf(metric, sizeof metric, "rt.%s", suffix);
    snprintf(index, sizeof index, "%u", p_index);
    struct stat_tag tag = {SPAN_LIT("sluice.p"), span_of(index)};
    stat_set(stats_get(kind, span_of(name), span_of(metric), &tag, 1), (int64_t)value);
}

static void add_listener_connections(const struct statistic *stat, void *arg) {
    int64_t *sum = arg;
    if (stat->kind == STAT_GAUGE &&
        span_eq(stat->metric, SPAN_LIT("listener.downstream_cx_active")) &&
        !span_starts_with(stat->name, SPAN_LIT("listener.admin."))) /* as Envoy counts */
        *sum += stat_value(stat);
}

static void set_io(void) {
    static const char *const names[IO_COUNTS] = {
        [IO_RECV_CALLS] = "server.io.recv_calls",
        [IO_RECV_BYTES] = "server.io.recv_bytes",
        [IO_SEND_CALLS] = "server.io.send_calls",
        [IO_SEND_BYTES] = "server.io.send_bytes",
        [IO_WAIT_CALLS] = "server.io.wait_calls",
        [IO_COPIED_BYTES] = "server.io.copied_bytes",
        [IO_HEAD_COPIED_BYTES] = "server.io.head_copied_bytes",
        [IO_RING_CALLS] = "server.io.ring_calls",
        [IO_SPLICE_CALLS] = "server.io.splice_calls",
        [IO_SPLICE_BYTES] = "server.io.splice_bytes",
        [IO_RECV_AGAIN] = "server.io.recv_again",
        [IO_SEND_AGAIN] = "server.io.send_again",
        [IO_SEND_PARTIAL] = "server.io.send_partial",
        [IO_SPLICE_AGAIN] = "server.io.splice_again",
        [IO_SPLICE_NO_PIPE] = "server.io.splice_no_pipe",
        [IO_PIPE_CALLS] = "server.io.pipe_calls",
        [IO_ACCEPT_CALLS] = "server.io.accept_calls",
        [IO_ACCEPT_AGAIN] = "server.io.accept_again",
        [IO_CONNECT_CALLS] = "server.io.connect_calls",
        [IO_WATCH_CALLS] = "server.io.watch_calls",
        [IO_CLOSE_CALLS] = "server.io.close_calls",
        [IO_SHUTDOWN_CALLS] = "server.io.shutdown_calls",
        [IO_ERRORS] = "server.io.errors",
        [IO_SOFT_ERRORS] = "server.io.soft_errors",
        [IO_STREAM_SPLICES] = "server.io.stream_splices",
        [IO_STREAM_SPLICE_BYTES] = "server.io.stream_splice_bytes",
        [IO_STREAM_LENDS] = "server.io.stream_lends",
        [IO_STREAM_LEND_BYTES] = "server.io.stream_lend_bytes",
        [IO_STREAM_COPIES] = "server.io.stream_copies",
        [IO_STREAM_COPY_BYTES] = "server.io.stream_copy_bytes",
    };
    uint64_t sums[IO_COUNTS] = {0};
    for (unsigned p = 0; p < rt_p_count(); p++) {
        uint64_t of_p[IO_COUNTS];
        io_counts_read(p, of_p);
        for (unsigned i = 0; i < IO_COUNTS; i++)
            sums[i] += of_p[i];
    }
    for (unsigned i = 0; i < IO_COUNTS; i++)
        set(STAT_COUNTER, names[i], sums[i]);
}

/* "1.2.3" as one number that grows with the version. */
static uint64_t version_number(void) {
    unsigned major = 0, minor = 0, patch = 0;
    (void)sscanf(SLUICE_VERSION, "%u.%u.%u", &major, &minor, &patch);
    return (uint64_t)major << 16 | minor << 8 | patch;
}

struct files { /* what is read of files, which block */
    struct memory_use memory;
    unsigned crash_reports;
};

static void read_files(void *arg) {
    struct files *files = arg;
    files->memory = memory_use_now();
    files->crash_reports = crash_dir_count();
}

static struct files files_now(void) {
    struct files files;
    if (!rt_self() || blocking_call(read_files, &files) < 0)
        read_files(&files); /* no thread could be had: it is only slow */
    return files;
}

struct memory_use server_memory(void) {
    return files_now().memory;
}

void server_stats_refresh(void) {
    const struct admin_hooks *hooks = admin_hooks();
    enum admin_state state = hooks->state();
    const struct files files = files_now();
    const struct memory_use memory = files.memory;
    int64_t connections = 0;
    stats_each(add_listener_connections, &connections);

    set(STAT_GAUGE, "server.concurrency", rt_p_count());
    set(STAT_GAUGE, "server.crash_reports", files.crash_reports);
    set(STAT_GAUGE, "server.live", state == ADMIN_LIVE);
    set(STAT_GAUGE, "server.hot_restart_epoch", hooks->command_line->restart_epoch);
    set(STAT_GAUGE, "server.state", state);
    set(STAT_GAUGE, "server.uptime", (uint64_t)((clock_mono_ns() - hooks->started_ns) / NS_PER_S));
    set(STAT_GAUGE, "server.version", version_number());
    set(STAT_GAUGE, "server.memory_allocated", memory.allocated);
    set(STAT_GAUGE, "server.memory_heap_size", memory.heap_size);
    set(STAT_GAUGE, "server.memory_physical_size", memory.physical);
    set(STAT_GAUGE, "server.total_connections", connections > 0 ? (uint64_t)connections : 0);

    int64_t days = transport_tls_days_left();
    if (days == INT64_MAX) /* as Envoy, without any certificate */
        days = UINT32_MAX;
    set(STAT_GAUGE, "server.days_until_first_cert_expiring", days > 0 ? (uint64_t)days : 0);
    set_io();
    go_stats_refresh();

    struct rt_stats rt;
    rt_stats(&rt);
    set(STAT_GAUGE, "rt.coroutines_alive", rt.coroutines);
    set(STAT_GAUGE, "rt.coroutines_parked", rt.parked);
    set(STAT_GAUGE, "rt.global_queue_depth", rt.global_queue_depth);
    set(STAT_GAUGE, "rt.ps_spinning", rt.spinning);
    set(STAT_GAUGE, "rt.ms", rt.ms);
    set(STAT_GAUGE, "rt.ms_spare", rt.spare_ms);
    set(STAT_GAUGE, "rt.ms_foreign", rt.foreign_ms);
    set(STAT_COUNTER, "rt.ms_refused", rt.m_refused);
    set(STAT_GAUGE, "rt.blocking_threads", rt.blocking_threads);
    set(STAT_GAUGE, "rt.blocking_busy", rt.blocking_busy);
    set(STAT_GAUGE, "rt.stacks", rt.stacks);
    set(STAT_GAUGE, "rt.stacks_free", rt.stacks_free);

    for (unsigned p = 0; p < rt_p_count(); p++) {
        struct rt_p_stats of_p;
        rt_p_stats(p, &of_p);
        set_of_p(STAT_COUNTER, p, "switches", of_p.switches);
        set_of_p(STAT_COUNTER, p, "steals", of_p.steals);
        set_of_p(STAT_COUNTER, p, "polls", of_p.polls);
        set_of_p(STAT_COUNTER, p, "foreign_calls", of_p.foreign_calls);
        set_of_p(STAT_COUNTER, p, "quick_calls", of_p.quick_calls);
        set_of_p(STAT_COUNTER, p, "retakes", of_p.retakes);
        set_of_p(STAT_COUNTER, p, "handoffs", of_p.handoffs);
        set_of_p(STAT_COUNTER, p, "long_runs", of_p.long_runs);
        set_of_p(STAT_COUNTER, p, "slow_quicks", of_p.slow_quicks);
        set_of_p(STAT_GAUGE, p, "coroutines", of_p.coroutines);
        set_of_p(STAT_GAUGE, p, "queue_depth", of_p.queue_depth);
        set_of_p(STAT_GAUGE, p, "spinning", of_p.spinning);
        set_of_p(STAT_GAUGE, p, "sleeping", of_p.sleeping);
        set_of_p(STAT_GAUGE, p, "blocks_in_use", of_p.blocks_in_use);
    }
}
