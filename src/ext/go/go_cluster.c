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
#include "ext/go/go_origin.h"
#include "ext/go/go_plugin.h"
#include "ext/go/go_seats.h"

#define NAME "(cluster specifier)"
enum { FIRST_ROOM = 256, NAME_MAX = 8192 };

const char go_cluster_key[] = "cluster specifier";

struct go_cluster_config {
    struct go_user user;                            /* of struct go_cluster */
    const struct cfg_golang_cluster_specifier *cfg; /* of the snapshot */
};

/* In one copy of the library. */
struct go_cluster {
    struct go_edition edition;
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
    call->len = cluster->edition.library->fn.cluster.specify(
        (uint64_t)(uintptr_t)cluster, call->handle, cluster->id, (uint64_t)(uintptr_t)call->buffer,
        call->room);
}

static NOINLINE void tell_of_the_length(struct go_cluster *cluster, int64_t len) {
    if (!atomic_flag_test_and_set_explicit(&cluster->told, memory_order_relaxed))
        LOG(log_golang, LOG_ERROR,
            "the cluster specifier of %s gave a name of %lld bytes, but a name has %d at most: "
            "such requests go to default_cluster",
            cluster->edition.library->path, (long long)len, (int)NAME_MAX);
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

static struct span choose_in(struct go_cluster *cluster, const struct header_map *headers,
                             struct arena *arena, unsigned shard) {
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

static struct span choose(void *arg, const struct header_map *headers, struct arena *arena,
                          unsigned shard) {
    const struct go_cluster_config *config = arg;
    struct go_edition *edition = go_user_current(&config->user);
    go_library_lease(edition->library, shard);
    struct span name =
        choose_in(container_of(edition, struct go_cluster, edition), headers, arena, shard);
    go_library_release(edition->library, shard);
    return name;
}

/* ---- configuration ---- */

static struct go_library *library_of(const struct cfg_golang_cluster_specifier *cfg,
                                     struct cfg_problems *problems) {
    return go_library_named(&cfg->library, false, &cfg->mark, problems);
}

/* False when memory is short. */
static bool seat(struct go_cluster *cluster, struct go_library *library,
                 const struct cfg_golang_cluster_specifier *cfg, struct cfg_problems *problems) {
    cluster->edition.library = library;
    cluster->default_cluster = cfg->default_cluster;
    cluster->seat_wait_ns = go_seat_wait_ns(&cfg->library);
    cluster->plugin = go_plugin_get(library, GO_PLUGIN_CLUSTER, SPAN_LIT(NAME));
    bool has_seats =
        go_seats_settled(library, GO_SEATS_OF_CALLS, &cfg->library, &cfg->mark, problems) != NULL;
    return cluster->plugin && has_seats;
}

static struct go_edition *make(struct go_user *user, struct go_library *library,
                               struct cfg_problems *problems) {
    const struct cfg_golang_cluster_specifier *cfg =
        container_of(user, struct go_cluster_config, user)->cfg;
    if (!(library->fn.cluster.new_plugin && library->fn.cluster.specify)) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "%s has no cluster specifier",
                        library->path);
        return NULL;
    }
    size_t len;
    struct go_cluster *cluster = calloc(1, sizeof *cluster);
    char *bytes = go_any_bytes(cfg->has_config ? &cfg->config : NULL, &len);
    if (!cluster || !bytes || !seat(cluster, library, cfg, problems)) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
        free(cluster);
        free(bytes);
        return NULL;
    }
    cluster->id = library->fn.cluster.new_plugin((uint64_t)(uintptr_t)bytes, len);
    free(bytes);
    if (cluster->id == 0) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                        "the cluster specifier of %s refused its config", library->path);
        free(cluster);
        return NULL;
    }
    return &cluster->edition;
}

static void drop(struct go_edition *edition) {
    const struct go_library *library = edition->library;
    if (library->fn.cluster.destroy_plugin)
        library->fn.cluster.destroy_plugin(container_of(edition, struct go_cluster, edition)->id);
}

static void free_edition(struct go_edition *edition) {
    free(container_of(edition, struct go_cluster, edition));
}

static const struct go_user_itab user_itab = {.make = make, .drop = drop, .free = free_edition};

static void free_config(void *arg) {
    struct go_cluster_config *config = arg;
    if (!config)
        return;
    go_user_remove(&config->user);
    free(config);
}

static int build(const struct cfg_any *typed_config, struct cfg_problems *problems, void **out) {
    const struct cfg_golang_cluster_specifier *cfg = typed_config->message;
    struct go_library *library = go_config_is_dry() ? NULL : library_of(cfg, problems);
    if (!library && !go_config_is_dry())
        return -EINVAL;
    struct go_cluster_config *config = calloc(1, sizeof *config);
    if (!config) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
        return -EINVAL;
    }
    config->cfg = cfg;
    if (library && go_user_add(&config->user, library->origin, &user_itab, problems) != 0) {
        free(config);
        return -EINVAL;
    }
    *out = config;
    return 0;
}

static void label(const void *arg, struct doing_labels *labels) {
    const struct go_cluster_config *config = arg;
    struct go_edition *edition = go_user_current(&config->user);
    if (edition)
        *labels = container_of(edition, struct go_cluster, edition)->plugin->labels;
}

const struct cluster_specifier_kind cluster_specifier_kind_golang = {
    .schema = &cfg_schema_golang_cluster_specifier,
    .build = build,
    .free_config = free_config,
    .label = label,
    .choose = choose,
};
