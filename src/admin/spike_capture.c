/* spike_capture: from a closed cycle to two files.
 *
 * Why two readings are there  Go's profile does not contain a spike yet when the collection that notices it
 *     ends; so holmes writes one profile then and one a collection later. Ours does contain it: the
 *     reading that is needed besides is that of the cycle before, which the heap profile keeps.
 * Garbage  The same two files: what is allocated is in both, since the process started, and the
 *     difference is what the cycle allocated, freed or not.
 * Itself   The profiles are written before the next cycle can close, so what that takes is in that one,
 *     which spike_judge leaves out. */
#include "admin/spike_capture.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "admin/heap_view.h"
#include "admin/symbols.h"
#include "base/log.h"

LOG_COMPONENT(heap, "heap");

/* ---- For people ---- */

enum { SIZE_TEXT_MAX = 32 };
static const char *size_text(int64_t bytes, char out[SIZE_TEXT_MAX]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    unsigned unit = 0;
    for (; value >= 1024 && unit < 4; unit++)
        value /= 1024;
    snprintf(out, SIZE_TEXT_MAX, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

/* With a NUL: "live memory rose from 10.0 MiB to 20.1 MiB in cycle 17, 1.8 times the average of 11.0 MiB" */
static void put_story(struct text *out, const struct spike *spike, uint64_t cycle) {
    char before[SIZE_TEXT_MAX], now[SIZE_TEXT_MAX], average[SIZE_TEXT_MAX];
    text_printf(out, "%s rose from %s to %s in cycle %llu, %.1f times the average of %s",
                spike->measure == SPIKE_LIVE ? "live memory" : "what a cycle allocates",
                size_text(spike->before_bytes, before), size_text(spike->bytes, now),
                (unsigned long long)cycle,
                (double)spike->bytes /
                    (double)(spike->average_bytes > 0 ? spike->average_bytes : 1),
                size_text(spike->average_bytes, average));
    text_putc(out, '\0');
}

/* In single quotes when a shell would see more than a word in it. */
static void put_path(struct text *out, const char *folder, const char *name) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/._-+:@%,=";
    bool is_plain = folder[strspn(folder, plain)] == '\0';
    if (!is_plain)
        text_putc(out, '\'');
    for (const char *at = folder; *at; at++) {
        if (*at == '\'')
            text_puts(out, "'\\'");
        text_putc(out, *at);
    }
    text_printf(out, "/%s%s", name, is_plain ? "" : "'");
}

void spike_put_command(struct text *out, const struct stamped_dir *dir,
                       const struct stamped_set *pair) {
    text_puts(out, "go tool pprof -base ");
    put_path(out, dir->path, pair->names[SPIKE_BEFORE]);
    text_putc(out, ' ');
    put_path(out, dir->path, pair->names[SPIKE_AFTER]);
}

static const char *remedy(int err) {
    switch (err) {
    case -ENOSPC:
    case -EDQUOT:
        return "make room on that disk, or name another folder";
    case -EFBIG:
        return "raise the limit for the size of files (ulimit -f)";
    case -EACCES:
    case -EPERM:
    case -EROFS:
        return "let this user write there, or name another folder";
    case -EBUSY:
        return "another process was writing there: give each a folder of its own";
    case -ENOMEM:
        return "memory is short";
    case -ESTALE:
        return "too many cycles were closed at once";
    default:
        return "name another folder";
    }
}

/* ---- The work ---- */

static const struct heap_wanted everything;

static void add_entry(void *arg, const struct heap_entry *entry) {
    heap_pprof_add(arg, &everything, entry, 1);
}
static void add_site(void *arg, const struct heap_site *site) {
    heap_view_site(&everything, site, add_entry, arg);
}

/* What is shown first is that which rose. */
static int encode(const struct spike_capture *capture, uint64_t cycle, const struct spike *spike,
                  const struct text *story, struct text *out) {
    struct pprof *pprof =
        heap_pprof_new(&everything, heap_profile_rate(),
                       spike->measure == SPIKE_LIVE ? "inuse_space" : "alloc_space");
    if (!pprof)
        return -ENOMEM;
    struct heap_reading reading;
    int err = capture->read(cycle, add_site, pprof, &reading);
    if (err == 0) {
        pprof_when(pprof, reading.closed_ns, 0);
        pprof_comment(pprof, story->data);
        pprof_write(pprof, out);
        err = out->failed ? -ENOMEM : 0;
    }
    pprof_free(pprof);
    return err;
}

static int write_pair(const struct spike_capture *capture, uint64_t cycle,
                      const struct spike *spike, const struct text *story,
                      struct stamped_set *pair) {
    if (story->failed)
        return -ENOMEM;
    struct text before = {0}, after = {0};
    int err = encode(capture, cycle - 1, spike, story, &before);
    if (err == 0)
        err = encode(capture, cycle, spike, story, &after);
    if (err == 0)
        err = stamped_dir_add(&capture->dir, clock_wall_ns(),
                              (struct span[]){text_span(&before), text_span(&after)}, pair);
    text_fini(&before);
    text_fini(&after);
    return err;
}

/* story ends in NUL. */
static void tell(const struct spike_capture *capture, int err, const char *story,
                 const struct stamped_set *pair) {
    if (err < 0) {
        LOG(log_heap, LOG_ERROR,
            "heap spike: %s; no profiles of it in %s: %s: %s (--heap-spike-dir)", story,
            capture->dir.path, strerror(-err), remedy(err));
        return;
    }
    struct text command = {0};
    spike_put_command(&command, &capture->dir, pair);
    text_putc(&command, '\0');
    LOG(log_heap, LOG_WARN,
        "heap spike: %s; profiles of before and after it: %s %s; who it was is shown by: %s", story,
        pair->names[SPIKE_BEFORE], pair->names[SPIKE_AFTER],
        command.failed ? "go tool pprof -base" : command.data);
    text_fini(&command);
}

void spike_capture_cycle(struct spike_capture *capture, const struct heap_totals *totals,
                         int64_t now_ns) {
    struct spike spike = spike_judge(&capture->watch, totals, now_ns);
    LOG(log_heap, LOG_DEBUG, "heap cycle %llu: %lld bytes, average %lld: %s",
        (unsigned long long)totals->cycle, (long long)spike.bytes, (long long)spike.average_bytes,
        spike_verdict_text(spike.verdict));
    if (!spike_is_one(&spike))
        return;
    stat_inc(capture->spikes, STATS_SHARD_FOREIGN);
    struct text story = {0};
    put_story(&story, &spike, totals->cycle);
    struct stamped_set pair;
    int err = write_pair(capture, totals->cycle, &spike, &story, &pair);
    symbols_rest();
    if (err < 0)
        stat_inc(capture->write_errors, STATS_SHARD_FOREIGN);
    else
        stat_add(capture->profiles_written, STATS_SHARD_FOREIGN, 2);
    tell(capture, err, story.failed ? "memory rose" : story.data, &pair);
    text_fini(&story);
}

/* ---- Of the process ---- */

static const struct stamped_form spike_form = {"heap", 2, {"-before.pb.gz", "-after.pb.gz"}};

static struct spike_capture of_process;
static _Atomic bool is_started;

static void on_cycle(void *arg, const struct heap_totals *totals) {
    spike_capture_cycle(arg, totals, clock_mono_ns());
}

int spike_capture_init(struct spike_capture *capture, const struct spike_rule *rule,
                       const char *dir_path, spike_read_fn read) {
    spike_watch_init(&capture->watch, rule);
    capture->read = read;
    capture->spikes = stats_get_plain(STAT_COUNTER, "heap.spikes");
    capture->profiles_written = stats_get_plain(STAT_COUNTER, "heap.spike_profiles_written");
    capture->write_errors = stats_get_plain(STAT_COUNTER, "heap.spike_write_errors");
    return stamped_dir_init(&capture->dir, &spike_form, dir_path, rule->pairs_max,
                            rule->disk_bytes_max);
}

int spike_capture_start(const struct spike_rule *rule, const char *dir_path) {
    int err = spike_capture_init(&of_process, rule, dir_path, heap_profile_read_cycle);
    if (err < 0)
        return err;
    heap_profile_on_cycle(on_cycle, &of_process);
    atomic_store_explicit(&is_started, true, memory_order_release);
    return 0;
}

const struct spike_capture *spike_capture_of_process(void) {
    return atomic_load_explicit(&is_started, memory_order_acquire) ? &of_process : NULL;
}
