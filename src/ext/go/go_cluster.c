/* go_cluster: the buffer that Go writes the name into is of 256 bytes, as Envoy's; a longer name is asked for again
 * with as many as a name may have at all. Go answers anew then, and may answer differently: once is enough, and a
 * name that does not fit then either is none.
 *
 * A question has a seat for its own time (go_seats.h). Without one it has no answer, as when the plugin panics.
 *
 * The handle and what it stands for are made for each question: a malloc and a few dozen instructions, of the
 * microseconds that the way into Go and back takes.
 *
 * Rejected  foreign_call_quick: the plugin's code is not ours to promise for. 503 without a seat: the configuration names
 *           a cluster for requests of which the plugin says nothing. */
#include "ext/go/go_cluster.h"

#include <errno.h>
#include <stdlib.h>

#include "config/golang_config.h"
#include "ext/ext_handles.h"
#include "ext/go/go_any.h"
#include "ext/go/go_config.h"
#include "ext/go/go_lent.h"
#include "ext/go/go_library.h"
#include "ext/go/go_log.h"
#include "ext/go/go_plugin.h"
#include "ext/go/go_seats.h"

#define NAME "(cluster specifier)"
enum { FIRST_ROOM = 256, NAME_MAX = 8192 };

const char go_cluster_key[] = "cluster specifier";

struct go_cluster {
    struct go_library *library; /* NULL: built dry */
    struct go_plugin *plugin;
    struct span default_cluster; /* of the config */
    uint64_t id;
    int64_t seat_wait_ns;
    atomic_flag told; /* of a name that is too long */
};

/* ---- a question ---- */

static void finalize(void *object, const void *key) {
    struct go_cluster_question *question = object;
    (void)pthread_mutex_destroy(&question->lock); /* nobody has a lease any more */
    free(question);
}

static struct go_cluster_question *ask(const struct header_map *headers, unsigned shard,
                                       uint64_t *handle) {
    struct go_cluster_question *question = calloc(1, sizeof *question);
    if (!question)
        return NULL;
    (void)pthread_mutex_init(&question->lock, NULL); /* cannot fail with default attributes */
    question->headers = headers;
    *handle = handle_make(
        &ext_handles, shard,
        &(struct handle_object){
            .object = question, .key = go_cluster_key, .finalize = finalize, .leased = true});
    if (*handle)
        return question;
    finalize(question, NULL);
    return NULL;
}

/* What was counted of it: a goroutine that it left behind finds no headers, and counts no more. */
static struct go_counts answered(struct go_cluster_question *question, uint64_t handle) {
    pthread_mutex_lock(&question->lock);
    question->headers = NULL;
    go_quarantine_put(&question->texts);
    const struct go_counts counts = question->counts;
    pthread_mutex_unlock(&question->lock);
    (void)handle_destroy(&ext_handles, handle, go_cluster_key); /* only we do that */
    handle_release(&ext_handles, handle);
    return counts;
}

struct specify_call {
    const struct go_cluster *cluster;
    uint64_t handle;
    char *buffer;
    uint64_t room;
    int64_t len;
};

static void call_specify(void *arg) {
    struct specify_call *call = arg;
    const struct go_cluster *cluster = call->cluster;
    call->len = cluster->library->fn.cluster.specify((uint64_t)(uintptr_t)cluster, call->handle,
                                                     cluster->id, (uint64_t)(uintptr_t)call->buffer,
                                                     call->room);
}

static NOINLINE void tell_of_the_length(struct go_cluster *cluster, int64_t len) {
    if (!atomic_flag_test_and_set_explicit(&cluster->told, memory_order_relaxed))
        LOG(log_golang, LOG_ERROR,
            "the cluster specifier of %s gave a name of %lld bytes, but a name has %d at most: "
            "such requests go to default_cluster",
            cluster->library->path, (long long)len, (int)NAME_MAX);
}

/* False: memory is short. len 0 also when there was no seat. */
static bool specify(struct specify_call *call, struct arena *arena, size_t room, unsigned shard) {
    const struct go_cluster *cluster = call->cluster;
    call->len = 0;
    call->room = room;
    call->buffer = arena_alloc(arena, room);
    if (!call->buffer)
        return false;
    /* Cancelled, the exchange is over: whichever cluster it has then. */
    (void)!go_plugin_call(cluster->plugin, shard, cluster->seat_wait_ns, call_specify, call);
    return true;
}

static struct span choose(void *config, const struct header_map *headers, struct arena *arena,
                          unsigned shard) {
    struct go_cluster *cluster = config;
    const struct go_plugin_stats *stats = &cluster->plugin->stats;
    struct specify_call call = {.cluster = cluster};
    struct go_cluster_question *question = ask(headers, shard, &call.handle);
    if (!question)
        return span_none();
    bool has_room = specify(&call, arena, FIRST_ROOM, shard);
    if (has_room && call.len > FIRST_ROOM && call.len <= NAME_MAX)
        has_room = specify(&call, arena, NAME_MAX, shard);
    struct go_counts counts = answered(question, call.handle);
    counts.panics = call.len < 0;
    go_plugin_stats_add(stats, shard, &counts);
    stats_bump(stats_cells(shard), stats->slots[GO_STAT_REQUESTS], 1);
    if (!has_room)
        return span_none();
    if (call.len > (int64_t)call.room)
        tell_of_the_length(cluster, call.len);
    else if (call.len > 0)
        return span_make(call.buffer, (size_t)call.len);
    if (call.len >= 0)
        stats_bump(stats_cells(shard), stats->slots[GO_STAT_DEFAULTS], 1);
    return cluster->default_cluster;
}

/* ---- configuration ---- */

struct plugin_call {
    const struct go_library *library;
    const char *bytes;
    size_t len;
    uint64_t id;
};

static void call_new(void *arg) {
    struct plugin_call *call = arg;
    call->id = call->library->fn.cluster.new_plugin((uint64_t)(uintptr_t)call->bytes, call->len);
}

static void call_destroy(void *arg) {
    const struct plugin_call *call = arg;
    call->library->fn.cluster.destroy_plugin(call->id);
}

static struct go_library *library_of(const struct cfg_golang_cluster_specifier *cfg,
                                     struct cfg_problems *problems) {
    const struct go_library_wish wish = {cfg->gogc, cfg->go_memory_limit};
    struct go_library *library =
        go_library_named(cfg->library_id, cfg->library_path, &wish, &cfg->mark, problems);
    if (library && !(library->fn.cluster.new_plugin && library->fn.cluster.specify)) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "%s has no cluster specifier",
                        library->path);
        return NULL;
    }
    return library;
}

static void free_config(void *config) {
    struct go_cluster *cluster = config;
    if (cluster->id && cluster->library->fn.cluster.destroy_plugin)
        go_on_thread_stack(call_destroy,
                           &(struct plugin_call){.library = cluster->library, .id = cluster->id});
    free(cluster);
}

/* 0 or -ENOMEM. */
static int seat(struct go_cluster *cluster, const struct cfg_golang_cluster_specifier *cfg,
                struct cfg_problems *problems) {
    if (!cluster->library)
        return 0;
    cluster->plugin = go_plugin_get(cluster->library, GO_PLUGIN_CLUSTER, SPAN_LIT(NAME));
    bool has_seats = go_seats_settled(cluster->library, GO_SEATS_OF_CALLS, &cfg->go_seats,
                                      &cfg->mark, problems) != NULL;
    return cluster->plugin && has_seats ? 0 : -ENOMEM;
}

static int build(const struct cfg_any *typed_config, struct cfg_problems *problems, void **out) {
    const struct cfg_golang_cluster_specifier *cfg = typed_config->message;
    struct go_library *library = go_config_is_dry() ? NULL : library_of(cfg, problems);
    if (!library && !go_config_is_dry())
        return -EINVAL;
    struct plugin_call call = {.library = library};
    struct go_cluster *cluster = calloc(1, sizeof *cluster);
    char *bytes = go_any_bytes(cfg->has_config ? &cfg->config : NULL, &call.len);
    if (cluster)
        *cluster = (struct go_cluster){.library = library,
                                       .default_cluster = cfg->default_cluster,
                                       .seat_wait_ns = go_seat_wait_ns(&cfg->seat_wait_timeout)};
    if (!cluster || !bytes || seat(cluster, cfg, problems) != 0) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
        free(cluster);
        free(bytes);
        return -EINVAL;
    }
    call.bytes = bytes;
    if (library)
        go_on_thread_stack(call_new, &call);
    free(bytes);
    if (library && call.id == 0) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                        "the cluster specifier of %s refused its config", library->path);
        free(cluster);
        return -EINVAL;
    }
    cluster->id = call.id;
    *out = cluster;
    return 0;
}

static void label(const void *config, struct doing_labels *labels) {
    const struct go_cluster *cluster = config;
    if (cluster->plugin)
        *labels = cluster->plugin->labels;
}

const struct cluster_specifier_kind cluster_specifier_kind_golang = {
    .schema = &cfg_schema_golang_cluster_specifier,
    .build = build,
    .free_config = free_config,
    .label = label,
    .choose = choose,
};
