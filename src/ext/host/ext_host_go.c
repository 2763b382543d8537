/* ext_host_go: what a host process does with a Go library. The first request loads it; the others are what the
 * proxy would do with it, one by one, so that who asked knows which one the process did not outlive. */
#include <stdio.h>
#include <stdlib.h>

#include "base/intern.h"
#include "ext/host/ext_host.h"
#include "ext/go/go_block.h"
#include "ext/go/go_config.h"
#include "ext/go/go_log.h"
#include "ext/go/go_network.h"

static struct go_library *library;

static struct span or_none(struct span text) {
    return text.len ? text : span_none();
}

static void load(const struct ext_host_message *request, struct ext_host_message *answer,
                 char *why) {
    /* What it prints is shown if it does not come back: for that, what matters. */
    uint64_t level = request->numbers[1];
    log_set_level(level < LOG_WARN    ? LOG_WARN
                  : level > LOG_ERROR ? LOG_ERROR
                                      : (enum log_level)level);
    const struct go_library_wish wish = {or_none(request->texts[2]), or_none(request->texts[3])};
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

/* GET / of a host that does not exist. Header by header, as many as there is memory for. */
static int make_up(struct ext_edited *request) {
    static const struct {
        enum header_id id;
        struct span name, value;
    } fields[] = {
        {HDR_METHOD, SPAN_INIT(":method"), SPAN_INIT("GET")},
        {HDR_SCHEME, SPAN_INIT(":scheme"), SPAN_INIT("http")},
        {HDR_AUTHORITY, SPAN_INIT(":authority"), SPAN_INIT("probe.invalid")},
        {HDR_PATH, SPAN_INIT(":path"), SPAN_INIT("/")},
    };
    int err = ext_edited_init(request, NULL, EXT_REQUEST, NULL, 0);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]) && !err; i++)
        err = header_add(&request->map, fields[i].id, fields[i].name, fields[i].value);
    return err;
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
    if (make_up(&made_up) != 0)
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

/* The SDK logs an error that a parser returns. */
static uint64_t parse_cluster(struct span bytes, char *said) {
    if (!library->fn.cluster.new_plugin)
        return 0;
    go_log_capture_begin(said, GO_LIBRARY_WHY_MAX);
    uint64_t id =
        library->fn.cluster.new_plugin((uint64_t)(uintptr_t)bytes.ptr, (uint64_t)bytes.len);
    go_log_capture_end();
    return id;
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
        answer->numbers[0] =
            go_config_parse(library, name, request->texts[1], request->numbers[0] != 0, text);
        answer->texts[0] = span_of(text);
        break;
    case EXT_HOST_GO_MERGE:
        answer->numbers[0] =
            go_config_merge(library, name, request->numbers[0], request->numbers[1]);
        break;
    case EXT_HOST_GO_CREATE:
        create_filter(name, request->numbers[0], text);
        answer->numbers[0] = strstr(text, "not found, pass through by default") != NULL;
        break;
    case EXT_HOST_GO_NEW_CLUSTER:
        answer->numbers[0] = parse_cluster(request->texts[0], text);
        answer->texts[0] = span_of(text);
        break;
    case EXT_HOST_GO_NEW_NETWORK:
        answer->numbers[0] = go_network_try(library, name, request->texts[1]);
        break;
    default:
        break;
    }
}
