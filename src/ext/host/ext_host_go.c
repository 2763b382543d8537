/* ext_host_go: what a host process does with a Go library. The first request loads it; the others are what the
 * proxy would do with it, one by one, so that who asked knows which one the process did not outlive. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/intern.h"
#include "ext/host/ext_host.h"
#include "ext/go/go_block.h"
#include "ext/go/go_config.h"
#include "ext/go/go_log.h"
#include "ext/go/go_network.h"
#include "ext/remote/host_config.h"
#include "ext/remote/host_serve.h"

static struct go_library *library;

static struct span or_none(struct span text) {
    return text.len ? text : span_none();
}

static enum log_level level_of(uint64_t number) {
    return number < LOG_OFF ? (enum log_level)number : LOG_OFF;
}

static void load(const struct ext_host_message *request, struct ext_host_message *answer,
                 char *why) {
    ext_host_set_log_level(request->numbers[1]);
    if (request->numbers[2]) /* the SDK asks for it as it starts, and then each second */
        (void)log_set_component_level(SPAN_LIT("golang"), level_of(request->numbers[2] - 1));
    struct go_file copy;
    struct go_library_wish wish = {.gogc = or_none(request->texts[2]),
                                   .memory_limit = or_none(request->texts[3])};
    if (request->fd_count == 1 && go_file_of_copy(request->fds[0], &copy) == 0) {
        request->fds[0] = -1;
        wish.copy = &copy;
    }
    library = go_library_get(request->texts[1], request->texts[0], &wish, why);
    if (library) {
        library->concurrency = (uint32_t)request->numbers[0];
        go_library_stats_init(&library->stats, span_of(library->id));
    }
    answer->numbers[0] = library != NULL;
    answer->texts[0] = span_of(why);
}

/* Go reads names at any time. */
static struct span kept(struct span name) {
    return span_make(intern(name, SIZE_MAX), name.len);
}

/* A stream at the moment when Go hears of it first: what a factory asks about it is answered. The type of log
 * is one that the SDK knows not: it makes the filter, and calls nothing of it. */
static void create_filter(struct span name, uint64_t config_id, char *said) {
    struct go_plugin *plugin = go_plugin_get(library, GO_PLUGIN_HTTP, name);
    struct go_block *block = plugin ? go_block_new(plugin, STATS_SHARD_FOREIGN) : NULL;
    if (!block)
        return;
    enum { NO_SUCH_LOG = 0 };
    const struct go_functions *fn = &library->fn;
    struct go_lent *lent = block->lent;
    struct ext_edited made_up;
    if (ext_edited_init(&made_up, NULL, EXT_REQUEST, NULL, 0) != 0 ||
        ext_host_make_up(&made_up.map) != 0)
        LOG(log_golang, LOG_WARN, "no memory for a request that a factory could ask about");
    ext_lock(&block->stream);
    block->stream.logging = true;
    block->stream.facts = (struct ext_facts){0};
    block->stream.sides[EXT_REQUEST].sight.request = &made_up.map;
    ext_unlock(&block->stream);
    atomic_store(&lent->states[0].state, GO_PROCESSING_HEADER);
    go_block_enter(block, config_id, 0);
    go_log_capture_begin(said, GO_LIBRARY_WHY_MAX);
    if (fn->on_log_31)
        fn->on_log_31(&lent->request, NO_SUCH_LOG);
    else
        fn->on_log_32(&lent->request, NO_SUCH_LOG, &lent->states[0], &lent->states[1], 0, 0, 0, 0,
                      0, 0, 0, 0);
    go_log_capture_end();
    (void)ext_stream_end(&block->stream);
    fn->on_destroy(&lent->request, GO_DESTROY_NORMAL);
    go_block_end(block, STATS_SHARD_FOREIGN);
    ext_edited_fini(&made_up);
}

/* ---- of a process that serves ---- */

static void keep(uint64_t id, uint64_t go_id, enum go_plugin_kind kind, struct span name) {
    struct go_plugin *plugin = go_plugin_get(library, kind, name);
    const struct host_config config = {.id = id, .go_id = go_id, .plugin = plugin};
    if (!plugin || host_config_keep(&config) != 0)
        host_die("out of memory");
    if (kind == GO_PLUGIN_HTTP)
        host_serve_plugin(plugin);
}

static uint64_t new_config(struct span name, const struct ext_host_message *request, char *said) {
    const uint64_t far_id = request->numbers[1];
    struct host_config told;
    if (far_id && host_config_find(far_id, &told))
        return told.go_id;
    const struct go_config_source source = {name, request->texts[1], request->numbers[0] != 0,
                                            far_id};
    uint64_t go_id = go_config_parse(library, &source, said);
    if (go_id && far_id)
        keep(far_id, go_id, GO_PLUGIN_HTTP, name);
    return go_id;
}

/* The SDK logs an error that a parser returns. */
static uint64_t new_cluster(struct span name, const struct ext_host_message *request, char *said) {
    const uint64_t far_id = request->numbers[1];
    const struct span bytes = request->texts[1];
    struct host_config told;
    if (far_id && host_config_find(far_id, &told))
        return told.go_id;
    if (!library->fn.cluster.new_plugin)
        return 0;
    go_log_capture_begin(said, GO_LIBRARY_WHY_MAX);
    uint64_t go_id =
        library->fn.cluster.new_plugin((uint64_t)(uintptr_t)bytes.ptr, (uint64_t)bytes.len);
    go_log_capture_end();
    if (go_id && far_id)
        keep(far_id, go_id, GO_PLUGIN_CLUSTER, name);
    return go_id;
}

static uint64_t new_network(struct span name, const struct ext_host_message *request) {
    const uint64_t far_id = request->numbers[1];
    struct host_config told;
    if (!far_id)
        return go_network_try(library, name, request->texts[1]);
    if (host_config_find(far_id, &told))
        return told.go_id;
    uint64_t go_id = go_network_parse(library, request->texts[1]);
    if (go_id)
        keep(far_id, go_id, GO_PLUGIN_NETWORK, name);
    return go_id;
}

/* 0: it speaks of what the process was not told of. */
static uint64_t merge(struct span name, const struct ext_host_message *request) {
    struct host_config parent = {.go_id = request->numbers[0]},
                       child = {.go_id = request->numbers[1]};
    const uint64_t far_id = request->numbers[2];
    struct host_config told;
    if (far_id && host_config_find(far_id, &told))
        return told.go_id;
    if (far_id && !(host_config_find(request->numbers[0], &parent) &&
                    host_config_find(request->numbers[1], &child)))
        return 0;
    uint64_t go_id = go_config_merge(library, name, parent.go_id, child.go_id);
    if (go_id && far_id)
        keep(far_id, go_id, GO_PLUGIN_HTTP, name);
    return go_id;
}

/* A network filter's stays: the SDK has no function that takes it back. */
static void destroy(const struct host_config *config) {
    if (config->plugin->kind == GO_PLUGIN_HTTP)
        library->fn.destroy_config(config->go_id, 0);
    else if (config->plugin->kind == GO_PLUGIN_CLUSTER && library->fn.cluster.destroy_plugin)
        library->fn.cluster.destroy_plugin(config->go_id);
}

static void drop(uint64_t far_id) {
    struct host_config config;
    if (host_config_take(far_id, &config))
        destroy(&config);
}

static void stop(uint64_t patience_ms) {
    host_serve_stop(clock_mono_ns() + (int64_t)patience_ms * NS_PER_MS);
    host_config_take_all(destroy);
}

static uint64_t start_serving(const struct ext_host_message *request, char *why) {
    struct remote_shm *shm;
    int err = remote_shm_open(request->fds, request->fd_count, &shm);
    if (!err) {
        (void)log_set_component_level(SPAN_LIT("golang"), level_of(request->numbers[0]));
        err = host_serve_start(library, shm);
        if (err)
            remote_shm_free(shm);
    }
    if (err)
        (void)snprintf(why, GO_LIBRARY_WHY_MAX, "%s", strerror(-err));
    return !err;
}

void ext_host_serve_go(const struct ext_host_message *request, struct ext_host_message *answer,
                       char **memory) {
    char *text = *memory = calloc(1, GO_LIBRARY_WHY_MAX);
    if (!text)
        return; /* zeros: nothing was done */
    if (request->kind == EXT_HOST_GO_LOAD) {
        load(request, answer, text);
        return;
    }
    if (!library)
        return;
    struct span name = kept(request->texts[0]);
    switch (request->kind) {
    case EXT_HOST_GO_NEW:
        answer->numbers[0] = new_config(name, request, text);
        answer->texts[0] = span_of(text);
        break;
    case EXT_HOST_GO_MERGE:
        answer->numbers[0] = merge(name, request);
        break;
    case EXT_HOST_GO_DROP:
        drop(request->numbers[0]);
        break;
    case EXT_HOST_GO_SERVE:
        answer->numbers[0] = start_serving(request, text);
        answer->texts[0] = span_of(text);
        break;
    case EXT_HOST_GO_STOP:
        stop(request->numbers[0]);
        break;
    case EXT_HOST_GO_CREATE:
        create_filter(name, request->numbers[0], text);
        answer->numbers[0] = strstr(text, "not found, pass through by default") != NULL;
        break;
    case EXT_HOST_GO_NEW_CLUSTER:
        answer->numbers[0] = new_cluster(name, request, text);
        answer->texts[0] = span_of(text);
        break;
    case EXT_HOST_GO_NEW_NETWORK:
        answer->numbers[0] = new_network(name, request);
        break;
    default:
        break;
    }
}
