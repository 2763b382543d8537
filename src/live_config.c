/* live_config: see the header.
 *
 * Loading, building and telling what changed run in blocking_call: files are read, processes wait for probes, extensions
 * run. While it is built no library is swapped (go_swap_pause), as both would ask the same probe and change the same lists.
 *
 * What was built and is not to be served is thrown away off the Ps, too. */
#include "live_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/stats.h"
#include "config/config_diff.h"
#include "config/runtime_layers.h"
#include "config/schema.h"
#include "crash/crash_catch.h"
#include "discovery/file_preview.h"
#include "discovery/file_sources.h"
#include "ext/go/go_filter.h"
#include "ext/go/go_isolate.h"
#include "ext/go/go_swap.h"
#include "ext/host/probe.h"
#include "ext/native/native_filter.h"
#include "io/file_watch.h"
#include "options.h"
#include "proxy/aside.h"
#include "proxy/listener_manager.h"
#include "proxy/overload.h"
#include "proxy/route_rollout.h"
#include "rt/foreign.h"
#include "rt/sync.h"

extern struct log_component log_main;

enum { CHECK_MS = 10, WARM_TIMEOUT_S = 15, ATTEMPTS_KEPT = 16 };

static const char origin_start[] = "start", origin_discovery[] = "discovery";

struct attempt {
    struct live_config_attempt shown;
    char *said; /* owned */
};

/* A change that somebody waits for. */
struct job {
    struct wait_queue waiters;
    unsigned refs; /* of those that wait */
    bool done, ok;
    char *said;
};

static struct live_config {
    const struct options *options;
    struct snapshot *snapshot;
    struct attempt
        attempts[ATTEMPTS_KEPT]; /* the latest is at (attempt_count - 1) % ATTEMPTS_KEPT */
    unsigned attempt_count;
    bool serves;             /* else its snapshot is what will, once files of discovery were read */
    struct comutex changing; /* from the beginning until it serves, and over each change */
    struct job *next;        /* waits for its turn; NULL: nobody does */
    struct {
        struct statistic *attempts, *successes, *rejects, *version, *at_ms;
        struct statistic *clusters_added, *clusters_modified, *clusters_removed, *clusters;
    } stats;
} live;

struct snapshot *live_config_snapshot(void) {
    return live.snapshot;
}

struct file_source_how live_config_files(const struct options *options) {
    return (struct file_source_how){.descriptor_set = options->descriptor_set,
                                    .reject_unknown = options->reject_unknown_dynamic_fields};
}

static void begin_change(void) {
    while (comutex_lock(&live.changing, RT_FOREVER) != 0)
        rt_cancel_clear();
}

/* ---- loading ---- */

struct loading {
    struct snapshot *previous;   /* NULL: at the start */
    struct resources *resources; /* leased; NULL: the file is to be read */
    struct snapshot *snapshot;
    struct overload_manager *overload;
    struct config_diff diff;
    struct cfg_problems problems;
};

static void set_dry(bool is_dry) {
    go_config_set_dry(is_dry);
    native_config_set_dry(is_dry);
}

/* Of the bootstrap's fields, those that live as long as the process. */
static bool is_for_good(const struct cfg_field *field) {
    return field->type == CFG_MESSAGE && field->shape == CFG_SINGULAR &&
           strcmp(field->name, "static_resources") != 0 &&
           strcmp(field->name, "dynamic_resources") != 0 &&
           strcmp(field->name, "layered_runtime") != 0;
}

static void refuse(struct cfg_problems *problems, const char *what) {
    const char *path = live.options->config_path;
    const struct cfg_mark mark = {.file = path ? span_of(path) : SPAN_LIT("(inline)"),
                                  .path = span_of(what)};
    cfg_problem_add(
        problems, CFG_PROBLEM_INVALID, &mark,
        "cannot change while the process runs: put it back, or restart; with --supervise "
        "SIGUSR2 replaces the process without a lost request");
}

static void refuse_what_stays(const struct cfg_bootstrap *before, const struct cfg_bootstrap *after,
                              struct cfg_problems *problems) {
    for (size_t i = 0; i < cfg_schema_bootstrap.fields_count; i++) {
        const struct cfg_field *field = &cfg_schema_bootstrap.fields[i];
        if (!is_for_good(field))
            continue;
        const void *old, *new;
        memcpy(&old, (const char *)before + field->offset, sizeof old);
        memcpy(&new, (const char *)after + field->offset, sizeof new);
        if (!cfg_is_same(field->schema, old, new))
            refuse(problems, field->name);
    }
    uint64_t old_max = 0, new_max = 0;
    bool had =
        cfg_runtime_u64(before->layered_runtime, SPAN_LIT(RUNTIME_GLOBAL_CONNECTIONS), &old_max);
    bool has =
        cfg_runtime_u64(after->layered_runtime, SPAN_LIT(RUNTIME_GLOBAL_CONNECTIONS), &new_max);
    if (had != has || old_max != new_max)
        refuse(problems, "layered_runtime: " RUNTIME_GLOBAL_CONNECTIONS);
}

static void throw_away(void *arg) {
    struct loading *loading = arg;
    if (loading->snapshot)
        snapshot_drop(loading->snapshot);
    loading->snapshot = NULL;
}

static void build(struct loading *loading) {
    const struct options *o = live.options;
    const bool is_validating = o->mode == MODE_VALIDATE;
    const struct probe_options probe = {
        .disabled = o->no_probe, .always = is_validating, .isolated = o->isolate_extensions};
    const struct cfg_bootstrap *bootstrap = config_bootstrap(loading->resources->bootstrap);
    if (loading->previous)
        refuse_what_stays(config_bootstrap(loading->previous->config), bootstrap,
                          &loading->problems);
    probe_config(loading->resources, &probe, &loading->problems);
    /* The other mistakes are found all the same, in what is thrown away. */
    set_dry(is_validating || cfg_problems_refuse(&loading->problems));
    loading->snapshot = snapshot_build(loading->resources, loading->previous, &loading->problems);
    if (!loading->previous)
        loading->overload = overload_build(bootstrap, o->memory_limit_bytes, &loading->problems);
    if (cfg_problems_refuse(&loading->problems))
        throw_away(loading);
}

static void read_file(struct loading *loading) {
    const struct options *o = live.options;
    struct config_source source = {.path = o->config_path,
                                   .yaml = o->config_yaml,
                                   .descriptor_set = o->descriptor_set,
                                   .allow_unknown = o->allow_unknown_static_fields};
    struct config *config;
    if (config_load(&source, &config, &loading->problems) != 0)
        return;
    const struct file_source_how how = live_config_files(o);
    if (o->mode == MODE_VALIDATE)
        loading->resources = file_preview_read(config, &how, &loading->problems);
    else
        loading->resources = resources_of_bootstrap(
            config, loading->previous ? loading->previous->resources : NULL, &loading->problems);
    config_unref(config);
    if (loading->resources && o->mode == MODE_SERVE)
        file_sources_require(loading->resources, &loading->problems);
}

static void load(void *arg) {
    struct loading *loading = arg;
    if (!loading->resources)
        read_file(loading);
    if (!loading->resources)
        return;
    go_swap_pause();
    build(loading);
    go_swap_resume();
}

/* ---- what reports of crashes say ---- */

/* From here on whatever dies may have died of a new configuration. */
static void note_building(const char *origin BORROWED_BY(program)) {
    crash_catch_building(&(struct crash_config){
        .version = snapshot_next_version(), .since_wall_ns = clock_wall_ns(), .origin = origin});
}

static void note_built(const struct snapshot *snapshot, const char *origin BORROWED_BY(program)) {
    crash_catch_config(&(struct crash_config){.version = snapshot->version,
                                              .hash = snapshot->hash,
                                              .since_wall_ns = clock_wall_ns(),
                                              .origin = origin});
}

/* ---- the first one ---- */

static void init_stats(void) {
    live.stats.attempts = stats_get_plain(STAT_COUNTER, "config.reload_attempt");
    live.stats.successes = stats_get_plain(STAT_COUNTER, "config.reload_success");
    live.stats.rejects = stats_get_plain(STAT_COUNTER, "config.reload_rejected");
    live.stats.version = stats_get_plain(STAT_GAUGE, "config.version");
    live.stats.at_ms = stats_get_plain(STAT_GAUGE, "config.update_time");
    live.stats.clusters_added = stats_get_plain(STAT_COUNTER, "cluster_manager.cluster_added");
    live.stats.clusters_modified =
        stats_get_plain(STAT_COUNTER, "cluster_manager.cluster_modified");
    live.stats.clusters_removed = stats_get_plain(STAT_COUNTER, "cluster_manager.cluster_removed");
    live.stats.clusters = stats_get_plain(STAT_GAUGE, "cluster_manager.active_clusters");
}

void live_config_init(const struct options *options) {
    live.options = options;
    comutex_init(&live.changing);
    begin_change(); /* who asks for a change before we serve waits for that */
    note_building(origin_start);
    init_stats();
}

bool live_config_load(struct overload_manager **overload) {
    const struct options *options = live.options;
    struct loading loading = {0};
    go_isolate_all(options->isolate_extensions);
    native_isolate_all(options->isolate_extensions);
    if (blocking_call(load, &loading) != 0) {
        fputs("sluice: cannot start a thread to load the config\n", stderr);
        return false;
    }
    if (options->mode == MODE_VALIDATE)
        cfg_problems_print_sorted(&loading.problems, stderr);
    else
        cfg_problems_print(&loading.problems, stderr);
    if (!loading.snapshot && loading.problems.count == 0)
        fputs("sluice: the config cannot be used: out of memory\n", stderr);
    cfg_problems_fini(&loading.problems);
    resources_unref(loading.resources);
    live.snapshot = loading.snapshot;
    *overload = loading.overload;
    return live.snapshot != NULL;
}

/* ---- serving ---- */

/* Those that are not of `before`. As on Envoy, what needs them waits until each has had its first answer, or given up. */
static void warm_clusters(const struct snapshot *snapshot, const struct snapshot *before) {
    int64_t deadline_ns = clock_mono_ns() + WARM_TIMEOUT_S * NS_PER_S;
    for (uint32_t i = 0; i < snapshot->cluster_count; i++)
        if (!before ||
            snapshot_cluster(before, snapshot->clusters[i]->name) != snapshot->clusters[i])
            cluster_start(snapshot->clusters[i]);
    for (uint32_t i = 0; i < snapshot->cluster_count; i++)
        while (!snapshot->clusters[i]->warm && clock_mono_ns() < deadline_ns)
            (void)rt_sleep_until(clock_mono_ns() + CHECK_MS * NS_PER_MS); /* nobody cancels it */
}

/* Of those that serve no more, or never did, what is not among the others' as well. */
static void retire_clusters(const struct snapshot *gone, const struct snapshot *stays) {
    for (uint32_t i = 0; i < gone->cluster_count; i++) {
        struct cluster *stay = snapshot_cluster(stays, gone->clusters[i]->name);
        if (stay == gone->clusters[i])
            continue;
        cluster_retire(gone->clusters[i]);
        if (stay)
            cluster_show_members(stay);
    }
}

static void count_clusters(const struct snapshot *before, const struct snapshot *now) {
    for (uint32_t i = 0; before && i < before->cluster_count; i++) {
        const struct cluster *new = snapshot_cluster(now, before->clusters[i]->name);
        if (new != before->clusters[i])
            stat_inc(new ? live.stats.clusters_modified : live.stats.clusters_removed,
                     STATS_SHARD_FOREIGN);
    }
    for (uint32_t i = 0; i < now->cluster_count; i++)
        if (!before || !snapshot_cluster(before, now->clusters[i]->name))
            stat_inc(live.stats.clusters_added, STATS_SHARD_FOREIGN);
    stat_set(live.stats.clusters, now->cluster_count);
}

/* snapshot: NULL: it was refused. */
static void note_attempt(const char *origin, const struct snapshot *snapshot, const char *said) {
    struct attempt *attempt = &live.attempts[live.attempt_count++ % ATTEMPTS_KEPT];
    free(attempt->said);
    attempt->said = said ? strdup(said) : NULL;
    attempt->shown = (struct live_config_attempt){
        .version = snapshot ? snapshot->version : 0,
        .hash = snapshot ? snapshot->hash : 0,
        .at_wall_ns = clock_wall_ns(),
        .origin = origin,
        .said = attempt->said ? attempt->said : "out of memory",
    };
}

static void note_version(const struct snapshot *snapshot) {
    stat_set(live.stats.version, (int64_t)snapshot->version);
    stat_set(live.stats.at_ms, snapshot->built_wall_ns / NS_PER_MS);
}

/* Files of its extensions are watched, and what was read from files. */
static void watch_files(const struct snapshot *snapshot) {
    go_swap_watch(snapshot->resources, &(struct probe_options){.disabled = live.options->no_probe});
    if (file_watch_run() != 0)
        LOG(log_main, LOG_ERROR, "out of memory: changes of files are not seen");
}

/* Off the Ps: a rollout that ends waits for one that is ending. */
static void begin_rollouts(void *arg) {
    route_rollouts_follow(arg);
}

bool live_config_serve(void) {
    struct cfg_problems problems = {0};
    warm_clusters(live.snapshot, NULL);
    watch_files(live.snapshot);
    struct listener_change *change = listener_change_prepare(live.snapshot, &problems);
    live.serves = change != NULL;
    if (change) {
        listener_change_publish(change);
        aside(begin_rollouts, live.snapshot);
        count_clusters(NULL, live.snapshot);
        note_version(live.snapshot);
        note_attempt(origin_start, live.snapshot, "serves since the start");
        note_built(live.snapshot, origin_start);
        crash_catch_building(NULL);
        comutex_unlock(&live.changing);
    } else {
        cfg_problems_print(&problems, stderr);
    }
    cfg_problems_fini(&problems);
    return change != NULL;
}

/* ---- again ---- */

static char *text_of(const struct cfg_problems *problems) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    cfg_problems_print(problems, out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static void log_lines(enum log_level level, const char *what, const char *text) {
    while (*text) {
        int len = (int)strcspn(text, "\n");
        LOG(log_main, level, "%s: %.*s", what, len, text);
        text += len + (text[len] == '\n');
    }
}

/* NULL when memory is short. */
static char *refused(struct loading *loading, const char *origin) {
    char *said = text_of(&loading->problems);
    if (loading->snapshot)
        aside(throw_away, loading);
    LOG(log_main, LOG_ERROR, "configuration refused (%s), version %llu serves on", origin,
        (unsigned long long)live.snapshot->version);
    log_lines(LOG_ERROR, "configuration refused", said ? said : "out of memory");
    note_attempt(origin, NULL, said);
    return said;
}

/* What differs from the one before, for people, who can wait until the requests have it. */
static void tell_differences(void *arg) {
    struct loading *loading = arg;
    if (config_diff_make(loading->previous->resources, loading->resources, &loading->diff) != 0)
        LOG(log_main, LOG_ERROR, "out of memory: what changed cannot be told");
}

static char *taken(struct loading *loading, const char *origin) {
    char *said = NULL;
    struct snapshot *before = live.snapshot, *now = loading->snapshot;
    count_clusters(before, now);
    retire_clusters(before, now);
    live.snapshot = now;
    note_version(now);
    aside(tell_differences, loading);
    const char *summary = loading->diff.summary ? loading->diff.summary : "out of memory";
    if (asprintf(&said, "version %llu serves: %s\n", (unsigned long long)now->version, summary) < 0)
        said = NULL;
    LOG(log_main, LOG_INFO, "configuration version %llu serves (%s): %s",
        (unsigned long long)now->version, origin, summary);
    if (loading->diff.text)
        log_lines(LOG_INFO, "configuration", loading->diff.text);
    note_attempt(origin, now, said);
    snapshot_unref(before);
    return said;
}

/* NULL: its problems say why. */
static struct listener_change *prepare(struct loading *loading,
                                       const char *origin BORROWED_BY(program)) {
    note_building(origin);
    if (blocking_call(load, loading) != 0)
        loading->problems.lost = true;
    if (!loading->snapshot || loading->problems.lost)
        return NULL;
    warm_clusters(loading->snapshot, live.snapshot);
    return listener_change_prepare(loading->snapshot, &loading->problems);
}

/* Its resources stay: it may be built again. */
static void take_apart(struct loading *loading, struct listener_change *change) {
    listener_change_cancel(change);
    retire_clusters(loading->snapshot, live.snapshot);
    aside(throw_away, loading);
}

/* One at a time. Then loading's snapshot serves, or nothing has changed and its problems say why. */
static bool put_in_place(struct loading *loading, const char *origin BORROWED_BY(program)) {
    struct listener_change *change;
    while ((change = prepare(loading, origin)) && !route_rollouts_settle_on(loading->snapshot)) {
        LOG(log_main, LOG_INFO,
            "configuration: a rollout of routes is done by now: it is built anew, beside those");
        take_apart(loading, change);
    }
    if (change) {
        listener_change_publish(change);
        note_built(loading->snapshot, origin);
        watch_files(loading->snapshot);
        aside(begin_rollouts, loading->snapshot);
    } else if (loading->snapshot) {
        retire_clusters(loading->snapshot, live.snapshot);
    }
    return change != NULL;
}

/* As the file says. */
static bool change(const char *origin, char **said) {
    struct loading loading = {.previous = live.snapshot};
    stat_inc(live.stats.attempts, STATS_SHARD_FOREIGN);
    bool ok = put_in_place(&loading, origin);
    stat_inc(ok ? live.stats.successes : live.stats.rejects, STATS_SHARD_FOREIGN);
    *said = ok ? taken(&loading, origin) : refused(&loading, origin);
    crash_catch_building(NULL);
    cfg_problems_fini(&loading.problems);
    config_diff_fini(&loading.diff);
    resources_unref(loading.resources);
    if (ok)
        file_sources_look();
    return ok;
}

static struct job *join_job(void) {
    if (!live.next) {
        live.next = calloc(1, sizeof *live.next);
        if (!live.next)
            return NULL;
        wait_queue_init(&live.next->waiters);
    }
    live.next->refs++;
    return live.next;
}

/* The result of a job that is done. */
static bool leave_job(struct job *job, char **said) {
    bool ok = job->ok;
    *said = job->said ? strdup(job->said) : NULL;
    if (--job->refs == 0) {
        free(job->said);
        free(job);
    }
    return ok;
}

/* By the first of those that wait for it, on a coroutine that nobody cancels. */
static void do_job(void *arg) {
    const char *origin = arg;
    begin_change();
    struct job *job = live.next;
    live.next = NULL; /* who comes now may have changed the file again */
    job->ok = change(origin, &job->said);
    job->done = true;
    wait_queue_wake_all(&job->waiters);
    comutex_unlock(&live.changing);
}

bool live_config_reload(const char *origin, char **said) {
    *said = NULL;
    bool is_first = !live.next;
    struct job *job = join_job();
    if (!job)
        return false;
    const struct go_options options = {.name = "reload", .place = RT_ON_P};
    if (is_first && go_with(&options, do_job, (void *)(uintptr_t)origin) != 0) {
        live.next = NULL;
        free(job);
        return false;
    }
    while (!job->done)
        if (wait_queue_wait(&job->waiters, "reload", RT_FOREVER) != 0)
            rt_cancel_clear(); /* the change goes on, and the job with it */
    return leave_job(job, said);
}

/* ---- discovery ---- */

struct resources *live_config_resources(void) {
    return resources_ref(live.snapshot->resources);
}

/* Before anything serves, by whoever starts, who holds the lock. */
static bool put_in_front(struct loading *loading) {
    note_building(origin_start);
    if (blocking_call(load, loading) != 0)
        loading->problems.lost = true;
    if (!loading->snapshot || loading->problems.lost)
        return false;
    snapshot_unref(live.snapshot);
    live.snapshot = loading->snapshot;
    return true;
}

int live_config_apply(struct resources *candidate, struct cfg_problems *problems) {
    const bool serves = live.serves;
    if (serves)
        begin_change();
    if (candidate->bootstrap != live.snapshot->config) {
        ASSERT(serves);
        comutex_unlock(&live.changing);
        return -EAGAIN;
    }
    struct loading loading = {
        .previous = live.snapshot, .resources = candidate, .problems = *problems};
    bool ok = serves ? put_in_place(&loading, origin_discovery) : put_in_front(&loading);
    if (ok && serves) {
        free(taken(&loading, origin_discovery));
    } else if (!ok && loading.snapshot) {
        aside(throw_away, &loading);
    }
    if (serves) {
        crash_catch_building(NULL);
        comutex_unlock(&live.changing);
    }
    config_diff_fini(&loading.diff);
    *problems = loading.problems;
    return ok ? 0 : problems->lost ? -ENOMEM : -EINVAL;
}

void live_config_each_attempt(void (*fn)(const struct live_config_attempt *attempt, void *arg),
                              void *arg) {
    unsigned count = live.attempt_count < ATTEMPTS_KEPT ? live.attempt_count : ATTEMPTS_KEPT;
    for (unsigned i = 1; i <= count; i++)
        fn(&live.attempts[(live.attempt_count - i) % ATTEMPTS_KEPT].shown, arg);
}
