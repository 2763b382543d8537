/* go_cluster: the buffer that Go writes the name into is of 256 bytes, as Envoy's; a longer name is asked for again
 * with as many as a name may have at all. Go answers anew then, and may answer differently: once is enough, and a
 * name that does not fit then either is none.
 *
 * A question has a seat for its own time (go_seats.h). Without one it has no answer, as when the plugin panics.
 *
 * Of a library that is isolated (go_remote_cluster.h) the process has the room for a long name, and is asked once. That it
 * is lost is no answer either, unless on_failure says that then there is to be no cluster.
 *
 * Rejected  foreign_call_quick: the plugin's code is not ours to promise for. 503 without a seat: the configuration names
 *           a cluster for requests of which the plugin says nothing. */
#include "ext/go/go_cluster.h"

#include <errno.h>
#include <stdlib.h>

#include "config/golang_config.h"
#include "ext/go/go_any.h"
#include "ext/go/go_config.h"
#include "ext/go/go_isolate.h"
#include "ext/go/go_lent.h"
#include "ext/go/go_library.h"
#include "ext/go/go_log.h"
#include "ext/go/go_origin.h"
#include "ext/go/go_plugin.h"
#include "ext/go/go_question.h"
#include "ext/go/go_remote_cluster.h"
#include "ext/go/go_seats.h"
#include "ext/remote/remote_library.h"
#include "ext/remote/remote_message.h"
#include "http/header_map.h"

#define NAME "(cluster specifier)"
enum { FIRST_ROOM = 256, NAME_MAX = REMOTE_NAME_MAX };

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
    bool is_open;     /* on_failure, of an isolated library */
    atomic_flag told; /* of a name that is too long */
};

/* ---- a question to a library of this process ---- */

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

static NOINLINE void tell_of_the_length(struct go_cluster *cluster, uint64_t len) {
    if (!atomic_flag_test_and_set_explicit(&cluster->told, memory_order_relaxed))
        LOG(log_golang, LOG_ERROR,
            "the cluster specifier of %s gave a name of %llu bytes, but a name has %d at most: "
            "such requests go to default_cluster",
            cluster->edition.library->path, (unsigned long long)len, (int)NAME_MAX);
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

/* What comes of a question that was answered, or not at all: then len is 0, and name empty. */
static struct span judge(struct go_cluster *cluster, bool panicked, uint64_t len, struct span name,
                         unsigned shard) {
    const struct go_plugin_stats *stats = &cluster->plugin->stats;
    if (len > NAME_MAX)
        tell_of_the_length(cluster, len);
    else if (len)
        return name;
    stats_bump(stats_cells(shard), stats->slots[panicked ? GO_STAT_PANICS : GO_STAT_DEFAULTS], 1);
    return cluster->default_cluster;
}

static struct span choose_here(struct go_cluster *cluster, const struct header_map *headers,
                               struct arena *arena, unsigned shard) {
    struct specify_call call = {.cluster = cluster};
    struct go_question *question = go_question_open(headers, shard, &call.handle);
    if (!question)
        return span_none();
    bool has_room = specify(&call, arena, FIRST_ROOM, shard);
    if (has_room && call.len > FIRST_ROOM && call.len <= NAME_MAX)
        has_room = specify(&call, arena, NAME_MAX, shard);
    const struct go_counts counts = go_question_close(question, call.handle);
    go_plugin_stats_add(&cluster->plugin->stats, shard, &counts);
    if (!has_room)
        return span_none();
    uint64_t len =
        call.len > 0 ? (uint64_t)call.len : 0; /* more than there is room: NAME_MAX, too */
    return judge(cluster, call.len < 0, len, span_make(call.buffer, len <= call.room ? len : 0),
                 shard);
}

/* ---- a question to one in a host process ---- */

static struct cluster_choice choose_there(struct go_cluster *cluster,
                                          const struct header_map *headers, struct arena *arena,
                                          unsigned shard) {
    const struct go_remote_question question = {
        .plugin = cluster->plugin,
        .config_id = cluster->id,
        .headers = {headers->entries, headers->count, headers->bytes},
        .seat_wait_ns = cluster->seat_wait_ns,
    };
    struct go_remote_answer answer;
    int err = go_remote_specify(&question, arena, &answer);
    if (err && err != -ETIMEDOUT && err != -ECANCELED) {
        LOG(log_golang, LOG_DEBUG, "the cluster specifier of %s cannot be asked: %s",
            cluster->edition.library->path, strerror(-err));
        if (!cluster->is_open)
            return (struct cluster_choice){.failure = SPAN_LIT("golang_host_lost")};
    }
    if (err)
        answer = (struct go_remote_answer){.name = span_make("", 0)};
    return (struct cluster_choice){
        .name = judge(cluster, answer.panicked, answer.len, answer.name, shard)};
}

static struct cluster_choice choose(void *arg, const struct header_map *headers,
                                    struct arena *arena, unsigned shard) {
    const struct go_cluster_config *config = arg;
    struct go_edition *edition = go_user_current(&config->user);
    struct go_cluster *cluster = container_of(edition, struct go_cluster, edition);
    go_library_lease(edition->library, shard);
    stats_bump(stats_cells(shard), cluster->plugin->stats.slots[GO_STAT_REQUESTS], 1);
    const struct cluster_choice choice =
        edition->library->isolated
            ? choose_there(cluster, headers, arena, shard)
            : (struct cluster_choice){.name = choose_here(cluster, headers, arena, shard)};
    go_library_release(edition->library, shard);
    return choice;
}

/* ---- configuration ---- */

static struct go_library *library_of(const struct cfg_golang_cluster_specifier *cfg,
                                     struct cfg_problems *problems) {
    return go_library_named(&cfg->library, go_is_isolated(&cfg->library), &cfg->mark, problems);
}

/* False when memory is short. */
static bool seat(struct go_cluster *cluster, struct go_library *library,
                 const struct cfg_golang_cluster_specifier *cfg, struct cfg_problems *problems) {
    cluster->edition.library = library;
    cluster->default_cluster = cfg->default_cluster;
    cluster->seat_wait_ns = go_seat_wait_ns(&cfg->library);
    cluster->plugin = go_plugin_get(library, GO_PLUGIN_CLUSTER, SPAN_LIT(NAME));
    cluster->is_open = cfg->on_failure == CFG_NO_ANSWER_OPEN;
    enum go_seats_kind kind = library->isolated ? GO_SEATS_OF_WORKERS : GO_SEATS_OF_CALLS;
    bool has_seats = go_seats_settled(library, kind, &cfg->library, &cfg->mark, problems) != NULL;
    return cluster->plugin && has_seats;
}

static bool can_specify(const struct go_library *library) {
    return library->isolated ? library->elf.has_cluster_specifier
                             : library->fn.cluster.new_plugin && library->fn.cluster.specify;
}

/* 0 and the problem reported when it was refused. */
static uint64_t parse(struct go_library *library, const struct cfg_golang_cluster_specifier *cfg,
                      struct span bytes, struct cfg_problems *problems) {
    char said[GO_LIBRARY_WHY_MAX] = "";
    uint64_t id = 0;
    if (!library->isolated)
        id = library->fn.cluster.new_plugin((uint64_t)(uintptr_t)bytes.ptr, bytes.len);
    else if (go_isolate(library, &cfg->library, &cfg->mark, problems) != 0)
        return 0;
    else
        id = remote_library_configure(library->remote,
                                      &(struct remote_config){.name = SPAN_LIT(NAME),
                                                              .bytes = bytes,
                                                              .kind = REMOTE_NOTE_CLUSTER},
                                      said);
    if (id == 0)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                        "the cluster specifier of %s refused its config%s%s", library->path,
                        said[0] ? ": " : "", said);
    return id;
}

static struct go_edition *make(struct go_user *user, struct go_library *library,
                               struct cfg_problems *problems) {
    const struct cfg_golang_cluster_specifier *cfg =
        container_of(user, struct go_cluster_config, user)->cfg;
    if (!can_specify(library)) {
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
    cluster->id = parse(library, cfg, span_make(bytes, len), problems);
    free(bytes);
    if (cluster->id == 0) {
        free(cluster);
        return NULL;
    }
    return &cluster->edition;
}

static void drop(struct go_edition *edition) {
    const struct go_library *library = edition->library;
    uint64_t id = container_of(edition, struct go_cluster, edition)->id;
    if (library->isolated)
        remote_library_drop(library->remote, id);
    else if (library->fn.cluster.destroy_plugin)
        library->fn.cluster.destroy_plugin(id);
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
