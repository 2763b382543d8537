/* ext_host_native: what a host process does with a library of filters in C: as the proxy would, request by request, so that
 * who asked knows which one the process did not outlive. Faults that end a call alone do so here, too, and are told as
 * in the proxy. What was made has the number of its place in a list, from 1. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "config/cfg_buf.h"
#include "config/native_config.h"
#include "config/value_json.h"
#include "ext/host/ext_host.h"
#include "ext/native/native_filter.h"
#include "ext/native/native_host.h"
#include "ext/go/go_file.h"
#include "ext/remote/host_config.h"
#include "ext/remote/host_native.h"
#include "ext/remote/host_send.h"
#include "proxy/filter_state.h"
#include "proxy/hcm.h"
#include "proxy/metadata.h"
#include "rt/signals.h"

/* One of these. */
struct made {
    struct native_config *config;
    struct native_route_config *place;
    void *merged; /* the place's that merged it */
};

static struct native_library *library;
static struct {
    struct made *items;
    size_t count, room;
} all;

/* Its number; 0: memory is short. */
static uint64_t add(struct made made) {
    if (all.count == all.room) {
        size_t room = 2 * all.room + 16;
        struct made *larger = realloc(all.items, room * sizeof *larger);
        if (!larger)
            return 0;
        all.items = larger;
        all.room = room;
    }
    all.items[all.count++] = made;
    return all.count;
}

static const struct made *at(uint64_t number) {
    static const struct made none;
    return number > 0 && number <= all.count ? &all.items[number - 1] : &none;
}

/* What of the problems matters to the one who asked, in the answer. */
static void tell(const struct cfg_problems *problems, struct ext_host_message *answer,
                 char **memory) {
    struct cfg_buf text = {0};
    for (size_t i = 0; i < problems->count; i++)
        cfg_buf_printf(&text, "%s%s", i ? "; " : "", problems->items[i].text);
    size_t len = text.len;
    *memory = cfg_buf_take(&text);
    answer->texts[0] = *memory ? span_make(*memory, len) : SPAN_LIT("out of memory");
}

static enum log_level level_of(uint64_t number) {
    return number < LOG_OFF ? (enum log_level)number : LOG_OFF;
}

static uint64_t abilities(void) {
    const struct sluice_plugin *plugin = &library->plugin;
    return (uint64_t)(plugin->create != NULL) << REMOTE_CREATE |
           (uint64_t)(plugin->log_start != NULL) << REMOTE_START |
           (uint64_t)(plugin->request != NULL) << REMOTE_REQUEST |
           (uint64_t)(plugin->response != NULL) << REMOTE_RESPONSE |
           (uint64_t)(plugin->log != NULL) << REMOTE_LOG_END |
           (uint64_t)(plugin->log_periodic != NULL) << REMOTE_PERIODIC |
           (uint64_t)(plugin->destroy != NULL) << REMOTE_DESTROY;
}

static void load(const struct ext_host_message *request, struct ext_host_message *answer,
                 char **memory) {
    ext_host_set_log_level(request->numbers[1]);
    native_workers_announce((unsigned)request->numbers[0]);
    char *why = *memory = calloc(1, NATIVE_WHY_MAX);
    if (!why || signals_init() != 0) { /* faults are told with their frames */
        answer->texts[0] = SPAN_LIT("out of memory");
        return;
    }
    static struct go_file copy;
    struct span path = request->texts[0];
    if (request->numbers[2]) {
        native_library_set_table(host_native_table());
        (void)log_set_component_level(SPAN_LIT("native"), level_of(request->numbers[1]));
    }
    if (request->fd_count == 1 && go_file_of_copy(request->fds[0], &copy) == 0) {
        request->fds[0] = -1;
        path = span_of(copy.name);
    }
    library = native_library_get(path, why);
    if (library && path.ptr == copy.name)
        native_library_name_copy(library, request->texts[0], copy.name);
    answer->numbers[0] = library != NULL;
    answer->numbers[1] = library ? abilities() : 0;
    answer->texts[0] = span_of(library ? library->name : why);
}

/* ---- of a process that serves: by the proxy's ids ---- */

static const struct host_native_config *kept(uint64_t far_id) {
    static const struct host_native_config none;
    struct host_config found;
    return host_config_find(far_id, &found) ? (const void *)(uintptr_t)found.go_id : &none;
}

static uint64_t keep(uint64_t far_id, const struct made *made) {
    struct host_native_config *config = malloc(sizeof *config);
    if (!config)
        host_die("out of memory");
    *config = (struct host_native_config){made->config, made->place};
    const struct host_config known = {.id = far_id, .go_id = (uint64_t)(uintptr_t)config};
    if (host_config_keep(&known) != 0)
        host_die("out of memory");
    return far_id;
}

static void give_back_one(const struct host_config *known) {
    struct host_native_config *config = (void *)(uintptr_t)known->go_id;
    native_route_config_free(config->place);
    native_config_free(config->config);
    free(config);
}

static void drop_kept(uint64_t far_id) {
    struct host_config known;
    if (host_config_take(far_id, &known))
        give_back_one(&known);
}

/* What a call that has not returned uses goes with the process. */
static void stop_serving(uint64_t patience_ms) {
    if (host_native_stop(clock_mono_ns() + (int64_t)patience_ms * NS_PER_MS))
        host_config_take_all(give_back_one);
    else
        LOG(log_native, LOG_WARN,
            "a function of the plug-in still runs at its process's end: configurations are not "
            "given back");
}

static void start_serving(const struct ext_host_message *request, struct ext_host_message *answer) {
    struct remote_shm *shm;
    int err = remote_shm_open(request->fds, request->fd_count, &shm);
    if (!err) {
        (void)log_set_component_level(SPAN_LIT("native"), level_of(request->numbers[0]));
        err = host_native_start(library, shm);
    }
    answer->numbers[0] = !err;
    answer->texts[0] = err ? span_of(strerror(-err)) : SPAN_LIT("");
}

/* ---- */

static int make(const struct ext_host_message *request, const struct cfg_value *value,
                struct cfg_problems *problems, struct made *out) {
    struct cfg_value config = *value;
    void *made = NULL;
    if (request->numbers[0] == 0) {
        struct cfg_native cfg = {.library_path = span_of(library->path), .config = &config};
        cfg.stack_bytes = (struct cfg_u32){.set = request->numbers[3] != 0,
                                           .value = (uint32_t)request->numbers[3]};
        const struct cfg_any any = {.message = &cfg};
        int err = native_config_new(&any, problems, &made);
        out->config = made;
        return err;
    }
    struct native_config *filter =
        request->numbers[2] ? kept(request->numbers[1])->config : at(request->numbers[1])->config;
    const struct cfg_native_per_route cfg = {.config = &config};
    const struct cfg_any any = {.message = &cfg};
    int err = filter ? native_route_config_new(&any, filter, problems, &made) : -EINVAL;
    out->place = made;
    return err;
}

static void read_config(const struct ext_host_message *request, struct ext_host_message *answer,
                        char **memory) {
    struct cfg_problems problems = {0};
    struct cfg_arena arena;
    struct cfg_value value;
    struct made made = {0};
    if (request->numbers[2] && kept(request->numbers[2])->config) { /* told twice */
        answer->numbers[0] = request->numbers[2];
        return;
    }
    if (value_json_read(&arena, request->texts[0], &value) == 0 &&
        make(request, &value, &problems, &made) == 0)
        answer->numbers[0] = request->numbers[2] ? keep(request->numbers[2], &made) : add(made);
    if (answer->numbers[0] == 0)
        tell(&problems, answer, memory);
    cfg_problems_fini(&problems);
    cfg_arena_fini(&arena);
}

static void merge(const struct ext_host_message *request, struct ext_host_message *answer,
                  char **memory) {
    struct cfg_problems problems = {0};
    const struct made *above = at(request->numbers[0]);
    struct made made = {.merged = NULL};
    if (!library->plugin.merge_config) {
        answer->numbers[0] = request->numbers[0];
        return;
    }
    struct native_fault fault;
    bool faulted;
    made.merged =
        native_merge(at(request->numbers[1])->place,
                     above->config ? above->config->made : above->merged, &fault, &faulted);
    if (faulted)
        native_config_fault(library, &fault, "merge_config", NULL, &problems);
    else if (!made.merged)
        cfg_problem_add(&problems, CFG_PROBLEM_INVALID, NULL,
                        "the plug-in %s has no memory to merge it", library->name);
    answer->numbers[0] = made.merged ? add(made) : 0;
    if (answer->numbers[0] == 0)
        tell(&problems, answer, memory);
    cfg_problems_fini(&problems);
}

/* ---- an instance ---- */

/* An exchange that does not exist, without a connection or a route: what is asked about it is answered. It only looks on. */
struct made_up {
    struct exchange x;
    struct block_cache blocks;
    struct sluice_exchange e;
};

static void make_up(struct made_up *made, const struct native_config *config) {
    static const struct hcm nobodys;
    struct exchange *x = &made->x;
    x->hcm = &nobodys;
    x->route_chosen = true;
    x->info.protocol = 1;
    block_cache_init(&made->blocks);
    arena_init(&x->arena, &made->blocks, 16 << 20);
    message_init(&x->request, &x->arena);
    message_init(&x->response, &x->arena);
    if (ext_host_make_up(&x->request.headers) != 0)
        LOG(log_native, LOG_WARN, "no memory for a request that a plug-in could ask about");
    made->e = (struct sluice_exchange){.x = x, .config = config, .looks_on = true};
}

static void drop(struct made_up *made) {
    metadata_unref(exchange_metadata_if(&made->x));
    filter_state_unref(exchange_filter_state_if(&made->x));
    arena_fini(&made->x.arena);
    block_cache_fini(&made->blocks);
    free(made);
}

static NATIVE_ENTER void enter_create(void *arg) {
    struct sluice_exchange *e = arg;
    e->self = library->plugin.create(e, e->config->made);
    NATIVE_ENTERED();
}

static NATIVE_ENTER void enter_destroy(void *arg) {
    struct sluice_exchange *e = arg;
    library->plugin.destroy(e, e->self);
    NATIVE_ENTERED();
}

/* That there is none is an answer: another request may have one. */
static void create(const struct ext_host_message *request, struct ext_host_message *answer,
                   char **memory) {
    const struct native_config *config = at(request->numbers[0])->config;
    struct made_up *made =
        config && library->plugin.create ? calloc(1, sizeof(struct made_up)) : NULL;
    answer->numbers[0] = 1;
    if (!made)
        return;
    make_up(made, config);
    struct cfg_problems problems = {0};
    struct native_fault fault;
    const char *what = "create";
    bool returned = native_call(&library->text, enter_create, &made->e, &fault);
    if (returned && made->e.self && library->plugin.destroy) {
        what = "destroy";
        returned = native_call(&library->text, enter_destroy, &made->e, &fault);
    }
    if (!returned) {
        answer->numbers[0] = 0;
        native_config_fault(library, &fault, what, NULL, &problems);
        tell(&problems, answer, memory);
    }
    cfg_problems_fini(&problems);
    drop(made);
}

/* ---- */

/* As the proxy does it: what belongs to the routes, then the filters' own. */
static void give_back(struct ext_host_message *answer) {
    for (size_t i = 0; i < all.count; i++)
        native_route_config_free(all.items[i].place);
    for (size_t i = 0; i < all.count; i++)
        native_config_free(all.items[i].config);
    all.count = 0;
    bool faulted = atomic_load_explicit(&library->faults, memory_order_relaxed) > 0;
    answer->numbers[0] = !faulted;
    if (faulted)
        answer->texts[0] = SPAN_LIT("the plug-in faulted in free_config or free_route_config");
}

void ext_host_serve_native(const struct ext_host_message *request, struct ext_host_message *answer,
                           char **memory) {
    if (request->kind == EXT_HOST_NATIVE_LOAD)
        load(request, answer, memory);
    else if (!library)
        return;
    else if (request->kind == EXT_HOST_NATIVE_NEW)
        read_config(request, answer, memory);
    else if (request->kind == EXT_HOST_NATIVE_MERGE)
        merge(request, answer, memory);
    else if (request->kind == EXT_HOST_NATIVE_CREATE)
        create(request, answer, memory);
    else if (request->kind == EXT_HOST_NATIVE_SERVE)
        start_serving(request, answer);
    else if (request->kind == EXT_HOST_NATIVE_DROP)
        drop_kept(request->numbers[0]);
    else if (request->kind == EXT_HOST_NATIVE_STOP)
        stop_serving(request->numbers[0]);
    else
        give_back(answer);
}
