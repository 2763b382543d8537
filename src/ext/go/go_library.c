/* go_library: loads in this order. (1) Copy the file (go_file.h) and look into the copy: no code of the library has run, so a
 * refusal costs nothing. (2) dlopen, RTLD_NOW so that a missing symbol is an error here and not a
 * death later, RTLD_LOCAL because all Go libraries export the same names; with the environment that is
 * for this library (go_environ.h). (3) Wait until its Go runtime has started, which it does on a thread of its
 * own, behind dlopen's return. (4) Find the functions.
 *
 * SIGURG   The new runtime takes the signal for itself at some moment of its start, and from then on swallows
 *          what the other runtimes preempt their threads with. Init functions may take seconds, and a
 *          collection in another library would stand still for as long; so while we wait the signal
 *          is taken back every few milliseconds.
 *
 * Two library_ids may name one file, which then is one Go runtime with one set of seats, as it is where the dynamic loader
 * knows a file by its inode.
 *
 * Retiring  A lease is taken where the current copy was looked up, without a park in between. So once each P has handled
 *           a message that was sent after another copy became current, no P takes a new one, and who gives back its last
 *           one is done. The last P that is done starts what gives the configurations back. */
#include "ext/go/go_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "ext/go/go_environ.h"
#include "ext/go/go_lent.h"
#include "ext/go/go_log.h"
#include "ext/go/go_monitor.h"
#include "ext/go/go_origin.h"
#include "ext/go/go_swap.h"
#include "ext/library_path.h"
#include "rt/foreign.h"
#include "rt/signals.h"

struct library_id {
    struct library_id *next;
    char *id, *path;
    struct go_origin *origin;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of loading, and of the ids */
static struct library_id *ids;
static _Atomic(struct go_library *) libraries; /* stored under the lock */

const char *const go_library_state_names[] = {"LOADED",  "CURRENT",  "CANDIDATE",
                                              "REFUSED", "DRAINING", "DRAINED"};

static char *text_of(struct span s) {
    return strndup(s.ptr ? s.ptr : "", s.len);
}

/* POSIX guarantees that the object pointer of dlsym may be read as a function pointer. */
static void function(void *handle, const char *name, void *out) {
    void *symbol = dlsym(handle, name);
    memcpy(out, &symbol, sizeof(symbol));
}

static void find_functions(struct go_library *library) {
    struct go_functions *fn = &library->fn;
    void *handle = library->handle;
    function(handle, "envoyGoFilterNewHttpPluginConfig", &fn->new_config);
    function(handle, "envoyGoFilterDestroyHttpPluginConfig", &fn->destroy_config);
    function(handle, "envoyGoFilterMergeHttpPluginConfig", &fn->merge_config);
    function(handle, "envoyGoFilterOnHttpHeader", &fn->on_header);
    function(handle, "envoyGoFilterOnHttpData", &fn->on_data);
    function(handle, "envoyGoFilterOnHttpDestroy", &fn->on_destroy);
    function(handle, "SluiceHeapProfile", &fn->heap_profile);
    if (library->elf.has_network) {
        function(handle, "envoyGoFilterOnNetworkFilterConfig", &fn->network.on_config);
        function(handle, "envoyGoFilterOnDownstreamConnection", &fn->network.on_connection);
        function(handle, "envoyGoFilterOnDownstreamData", &fn->network.on_data);
        function(handle, "envoyGoFilterOnDownstreamWrite", &fn->network.on_write);
        function(handle, "envoyGoFilterOnDownstreamEvent", &fn->network.on_event);
        function(handle, "envoyGoFilterOnUpstreamConnectionReady", &fn->network.on_upstream_ready);
        function(handle, "envoyGoFilterOnUpstreamConnectionFailure",
                 &fn->network.on_upstream_failure);
        function(handle, "envoyGoFilterOnUpstreamData", &fn->network.on_upstream_data);
        function(handle, "envoyGoFilterOnUpstreamEvent", &fn->network.on_upstream_event);
    }
    if (library->elf.has_cluster_specifier) {
        function(handle, "envoyGoClusterSpecifierNewPlugin", &fn->cluster.new_plugin);
        function(handle, "envoyGoClusterSpecifierDestroyPlugin", &fn->cluster.destroy_plugin);
        function(handle, "envoyGoOnClusterSpecify", &fn->cluster.specify);
    }
    if (library->elf.level == GO_LEVEL_31) {
        function(handle, "envoyGoFilterOnHttpLog", &fn->on_log_31);
    } else {
        function(handle, "envoyGoFilterOnHttpLog", &fn->on_log_32);
        function(handle, "envoyGoFilterOnHttpStreamComplete", &fn->on_stream_complete);
    }
}

/* ---- its start ---- */

enum { TAKE_SIGNALS_MS = 2 };

struct start {
    uintptr_t (*wait)(void); /* of Go's C part: returns when the runtime is there */
    void (*destroy_config)(uint64_t id, int64_t need_delay);
    void (*destroy_cluster)(uint64_t id);
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
};

/* The first call into Go waits for its init functions. These two take ids that stand for nothing. A library with network
 * filters alone has no such call: there the runtime is waited for, which has read its environment by then. */
static void *wait_for_start(void *arg) {
    struct start *start = arg;
    if (start->wait)
        (void)start->wait(); /* a context for tracebacks, which nobody sets */
    if (start->destroy_config)
        start->destroy_config(0, 0);
    else if (start->destroy_cluster)
        start->destroy_cluster(0);
    pthread_mutex_lock(&start->lock);
    start->done = true;
    pthread_cond_signal(&start->changed);
    pthread_mutex_unlock(&start->lock);
    return NULL;
}

static void take_signals(const char *path) {
    int err = signals_after_dlopen();
    if (err)
        LOG(log_golang, LOG_WARN, "signals after loading %s: %s", path, strerror(-err));
}

static void take_signals_until_done(struct start *start, const char *path) {
    pthread_mutex_lock(&start->lock);
    while (!start->done) {
        int64_t until_ns = clock_mono_ns() + TAKE_SIGNALS_MS * NS_PER_MS;
        struct timespec until = {until_ns / NS_PER_S, until_ns % NS_PER_S};
        (void)pthread_cond_clockwait(&start->changed, &start->lock, CLOCK_MONOTONIC, &until);
        take_signals(path);
    }
    pthread_mutex_unlock(&start->lock);
}

static void await_start(void *handle, const char *path) {
    struct start start = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    function(handle, "_cgo_wait_runtime_init_done", &start.wait);
    function(handle, "envoyGoFilterDestroyHttpPluginConfig", &start.destroy_config);
    function(handle, "envoyGoClusterSpecifierDestroyPlugin", &start.destroy_cluster);
    pthread_t thread;
    if (pthread_create(&thread, NULL, wait_for_start, &start) == 0) {
        take_signals_until_done(&start, path);
        (void)pthread_join(thread, NULL); /* it has nothing left to do */
    } else {
        (void)wait_for_start(&start);
    }
    take_signals(path);
}

static int define_missing(struct go_elf *elf, const char *path, char why[GO_LIBRARY_WHY_MAX]) {
    int err = go_stubs_define(elf->missing, elf->missing_count);
    if (err)
        (void)snprintf(
            why, GO_LIBRARY_WHY_MAX,
            "cannot load %s: it calls %s, which Sluice does not have, and nothing can be "
            "put in its place: %s",
            path, elf->missing[0], strerror(-err));
    return err;
}

/* How many Ps its runtime has, unless the user says it. After a callback the thread that made it keeps Go's P. Go's
 * monitor leaves it there while another one is idle; with none it takes it back after 20 us, which costs two
 * context switches and the next callback more. So there is one more than threads of ours that call. 0: as many
 * as Go likes, which is more. */
static unsigned max_procs(void) {
    cpu_set_t cores;
    unsigned callers = rt_p_count();
    bool is_enough =
        sched_getaffinity(0, sizeof cores, &cores) == 0 && (unsigned)CPU_COUNT(&cores) > callers;
    return callers && !is_enough ? callers + 1 : 0;
}

/* A Go library has its thread-local variables in the static block, as the flag STATIC_TLS in its file says: 8 bytes by
 * itself, more with what C code it contains declares so. What the dynamic loader keeps for libraries that come later
 * is some hundred bytes. */
static void say_why_not(const char *path, const struct go_file *file, const char *because,
                        char why[GO_LIBRARY_WHY_MAX]) {
    size_t name_len = strlen(file->name); /* nobody knows the copy's */
    if (strncmp(because, file->name, name_len) == 0 && because[name_len] == ':')
        because += name_len + 2;
    bool no_tls = strstr(because, "static TLS block") != NULL;
    (void)snprintf(
        why, GO_LIBRARY_WHY_MAX, "cannot load %s: %s%s", path, because,
        no_tls
            ? ": start the proxy with GLIBC_TUNABLES=glibc.rtld.optional_static_tls=65536, or more"
            : "");
}

/* The handle, or NULL and the reason in why. */
static void *open_library(const char *path, const struct go_file *file, struct go_elf *elf,
                          const struct go_library_wish *wish, char why[GO_LIBRARY_WHY_MAX]) {
    if (elf->missing_count && define_missing(elf, path, why) != 0)
        return NULL;
    struct go_environ wanted = {.no_cgocheck = elf->has_network || elf->has_cluster_specifier,
                                .gogc = wish->gogc,
                                .memory_limit = wish->memory_limit,
                                .max_procs = max_procs()};
    int err = go_environ_begin(&wanted);
    if (err) {
        (void)snprintf(why, GO_LIBRARY_WHY_MAX,
                       "cannot load %s: there is no room for its environment (%s): start the proxy "
                       "with GODEBUG=cgocheck=0, and with GOGC= and GOMEMLIMIT= if they are set "
                       "for it",
                       path, strerror(-err));
        return NULL;
    }
    struct go_monitor monitor;
    go_monitor_begin(&monitor);
    void *handle = dlopen(file->name, RTLD_NOW | RTLD_LOCAL);
    go_monitor_end(&monitor);
    if (handle) {
        await_start(handle, path);
        go_monitor_slow(&monitor);
    } else {
        say_why_not(path, file, dlerror(), why);
    }
    go_environ_end();
    return handle;
}

static char *text_or_empty(struct span s) {
    return text_of(span_is_none(s) ? SPAN_LIT("") : s);
}

static void library_free(struct go_library *library) {
    if (!library)
        return;
    free(library->path);
    free(library->id);
    free(library->told_id);
    free(library->gogc);
    free(library->memory_limit);
    p_leases_fini(&library->leases);
    free(library);
}

static char *told_id(const struct go_origin *origin, unsigned version) {
    char *told = NULL;
    if (version == 1)
        return strdup(origin->id);
    return asprintf(&told, "%s#%u", origin->id, version) < 0 ? NULL : told;
}

/* Without its code yet. */
static struct go_library *library_new(struct go_origin *origin,
                                      const struct go_library_wish *wish) {
    unsigned version = atomic_load_explicit(&origin->copies, memory_order_relaxed) + 1;
    struct go_library *library = calloc(1, sizeof(*library));
    if (!library)
        return NULL;
    library->origin = origin;
    library->version = version;
    library->path = strdup(origin->path);
    library->id = strdup(origin->id);
    library->told_id = told_id(origin, version);
    library->gogc = text_or_empty(wish->gogc);
    library->memory_limit = text_or_empty(wish->memory_limit);
    if (!library->path || !library->id || !library->told_id || !library->gogc ||
        !library->memory_limit || p_leases_init(&library->leases) != 0) {
        library_free(library);
        return NULL;
    }
    return library;
}

static void name_module(struct go_library *library) {
    struct link_map *map;
    if (dlinfo(library->handle, RTLD_DI_LINKMAP, &map) != 0)
        return; /* then its functions have no names */
    library->module = (struct symbol_module){
        .base = map->l_addr, .file = library->path, .bytes = library->file.name};
    symbol_add_module(&library->module);
}

/* The file is transferred. Under the lock. */
static struct go_library *load_locked(struct go_origin *origin, const struct go_file *file,
                                      const struct go_library_wish *wish,
                                      char why[GO_LIBRARY_WHY_MAX]) {
    char elf_why[GO_ELF_WHY_MAX];
    struct go_file unused = *file;
    struct go_library *library = library_new(origin, wish);
    if (!library) {
        (void)snprintf(why, GO_LIBRARY_WHY_MAX, "cannot load %s: out of memory", origin->path);
        goto no_library;
    }
    library->file = *file;
    library->isolated = wish->isolated;
    if (go_elf_inspect_file(file->name, go_export_is_known, &library->elf, elf_why) != 0) {
        (void)snprintf(why, GO_LIBRARY_WHY_MAX, "cannot load %s: %s", origin->path, elf_why);
        goto not_loaded;
    }
    if (!wish->isolated) {
        library->handle = open_library(origin->path, file, &library->elf, wish, why);
        if (!library->handle)
            goto not_loaded;
        find_functions(library);
        name_module(library);
    } else {
        go_file_close(&library->file); /* its process makes one */
    }
    atomic_fetch_add_explicit(&origin->copies, 1, memory_order_relaxed);
    library->next = atomic_load_explicit(&libraries, memory_order_relaxed);
    atomic_store_explicit(&libraries, library, memory_order_release); /* go_library_first */
    LOG(log_golang, LOG_INFO, "%s %s: SDK %s, %s",
        wish->isolated ? "a process of its own is for" : "loaded", origin->path,
        library->elf.sdk_version[0] ? library->elf.sdk_version : "unknown",
        library->elf.go_version);
    return library;
not_loaded:
    library_free(library);
no_library:
    go_file_close(&unused);
    return NULL;
}

struct go_library *go_library_load_again(struct go_origin *origin, const struct go_file *file,
                                         char why[GO_LIBRARY_WHY_MAX]) {
    const struct go_library *before = go_origin_current(origin);
    const struct go_library_wish wish = {
        .gogc = before->gogc[0] ? span_of(before->gogc) : span_none(),
        .memory_limit = before->memory_limit[0] ? span_of(before->memory_limit) : span_none()};
    why[0] = 0;
    pthread_mutex_lock(&lock);
    struct go_library *library = load_locked(origin, file, &wish, why);
    pthread_mutex_unlock(&lock);
    return library;
}

/* Neither would do as well: who wants a library out of this process has a reason, and what it keeps in globals is one. */
static bool is_elsewhere(const struct go_library *library, const struct go_library_wish *wish,
                         char why[GO_LIBRARY_WHY_MAX]) {
    if (library->isolated == wish->isolated)
        return false;
    (void)snprintf(
        why, GO_LIBRARY_WHY_MAX,
        library->isolated
            ? "library_id %s runs in a host process (isolation: PROCESS), so not in this "
              "one too: give this one another library_id"
            : "library_id %s runs in this process already, so not in a host process: give "
              "this one another library_id, or start the proxy again",
        library->id);
    return true;
}

/* What a library that is loaded was asked to be, and is not. */
static void compare_wish(const struct go_library *library, const struct go_library_wish *wish,
                         char why[GO_LIBRARY_WHY_MAX]) {
    bool same = (span_is_none(wish->gogc) || span_eq(wish->gogc, span_of(library->gogc))) &&
                (span_is_none(wish->memory_limit) ||
                 span_eq(wish->memory_limit, span_of(library->memory_limit)));
    if (!same)
        (void)snprintf(why, GO_LIBRARY_WHY_MAX,
                       "%s is loaded with gogc '%s' and go_memory_limit '%s' already, which count "
                       "until the proxy is started again",
                       library->path, library->gogc, library->memory_limit);
}

/* The one that is loaded from this very file; of isolated ones each has a process. */
static struct go_origin *origin_of_file(const struct go_stamp *stamp) {
    struct go_origin *origin = go_origin_first();
    while (origin && (go_origin_current(origin)->isolated ||
                      !go_stamp_eq(&go_origin_current(origin)->file.stamp, stamp)))
        origin = origin->next;
    return origin;
}

static void free_origin(struct go_origin *origin) {
    free(origin->id);
    free(origin->path);
    free(origin);
}

/* 0 with a copy, or with an origin that has one; -errno. */
static int find_file(const char *path, const struct go_library_wish *wish, struct go_file *file,
                     struct go_origin **origin) {
    struct go_stamp stamp;
    *origin = NULL;
    if (wish->copy) {
        *file = *wish->copy;
        return 0;
    }
    int err = go_stamp_of(path, &stamp);
    if (!err && !wish->isolated)
        *origin = origin_of_file(&stamp);
    return err || *origin ? err : go_file_copy(path, file);
}

static struct go_origin *begin_locked(struct span id, const char *path,
                                      const struct go_library_wish *wish,
                                      char why[GO_LIBRARY_WHY_MAX]) {
    struct go_file file;
    struct go_origin *origin;
    int err = find_file(path, wish, &file, &origin);
    if (err)
        (void)snprintf(why, GO_LIBRARY_WHY_MAX, "cannot load %s: %s", path, strerror(-err));
    if (err || origin)
        return origin;
    origin = go_origin_new(id, path);
    if (!origin) {
        go_file_close(&file);
        return NULL;
    }
    struct go_library *library = load_locked(origin, &file, wish, why);
    if (!library) {
        free_origin(origin);
        return NULL;
    }
    if (wish->hot_swap) {
        if (wish->hot_swap->rollout && !wish->isolated &&
            !(origin->rollout = go_swap_rollout(origin, wish->hot_swap->rollout)))
            (void)snprintf(why, GO_LIBRARY_WHY_MAX, "no memory for rollouts of %s", path);
        origin->swaps = !wish->hot_swap->disabled && !wish->isolated;
        if (wish->hot_swap->kept_copies.set)
            origin->kept_max = wish->hot_swap->kept_copies.value;
    }
    atomic_store_explicit(&library->state, GO_LIBRARY_CURRENT, memory_order_relaxed);
    go_origin_begin(origin, library);
    return origin;
}

static struct library_id *find_id_locked(struct span id) {
    struct library_id *entry = ids;
    while (entry && !span_eq(span_of(entry->id), id))
        entry = entry->next;
    return entry;
}

/* The path is transferred when the id is new. Without memory for it the library is looked for anew next time. */
static void add_id_locked(struct span id, char **path, struct go_origin *origin) {
    struct library_id *entry = calloc(1, sizeof(*entry));
    if (!entry || !(entry->id = text_of(id))) {
        free(entry);
        return;
    }
    entry->path = *path;
    *path = NULL;
    entry->origin = origin;
    entry->next = ids;
    ids = entry;
}

struct go_library *go_library_get(struct span library_id, struct span path_span,
                                  const struct go_library_wish *wish,
                                  char why[GO_LIBRARY_WHY_MAX]) {
    static const struct go_library_wish none;
    struct go_origin *origin = NULL;
    wish = wish ? wish : &none;
    why[0] = 0;
    char *path = library_path(path_span);
    pthread_mutex_lock(&lock);
    struct library_id *entry = find_id_locked(library_id);
    if (entry) {
        origin = entry->origin;
        if (is_elsewhere(go_origin_current(origin), wish, why))
            origin = NULL;
        else
            compare_wish(go_origin_current(origin), wish, why);
        if (origin && path && strcmp(entry->path, path) != 0)
            (void)snprintf(why, GO_LIBRARY_WHY_MAX,
                           "library_id %s is loaded from %s already; %s is not loaded", entry->id,
                           entry->path, path);
    } else if (path && (origin = begin_locked(library_id, path, wish, why))) {
        add_id_locked(library_id, &path, origin);
    }
    pthread_mutex_unlock(&lock);
    if (!origin && !why[0])
        (void)snprintf(why, GO_LIBRARY_WHY_MAX, "out of memory");
    free(path);
    return origin ? go_origin_current(origin) : NULL;
}

struct go_origin *go_library_origin(struct span library_id) {
    pthread_mutex_lock(&lock);
    const struct library_id *entry = find_id_locked(library_id);
    struct go_origin *origin = entry ? entry->origin : NULL;
    pthread_mutex_unlock(&lock);
    return origin;
}

struct go_library *go_library_named(const struct cfg_go_library *cfg, bool isolated,
                                    const struct cfg_mark *mark, struct cfg_problems *problems) {
    const struct go_library_wish wish = {.gogc = cfg->gogc,
                                         .memory_limit = cfg->go_memory_limit,
                                         .hot_swap = &cfg->hot_swap,
                                         .isolated = isolated};
    char why[GO_LIBRARY_WHY_MAX];
    if (go_lent_init() != 0) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "out of memory");
        return NULL;
    }
    struct go_library *library = go_library_get(cfg->id, cfg->path, &wish, why);
    if (why[0])
        cfg_problem_add(problems, library ? CFG_PROBLEM_WARNING : CFG_PROBLEM_INVALID, mark, "%s",
                        why);
    return library;
}

struct go_library *go_library_first(void) {
    return atomic_load_explicit(&libraries, memory_order_acquire); /* load_locked */
}

/* ---- its end, as far as it has one ---- */

static void drop_configs(void *arg) {
    const struct go_library *library = arg;
    go_origin_drop(library->origin, library);
}

static void end(void *arg) {
    struct go_library *library = arg;
    go_on_thread_stack(drop_configs, library);
    atomic_store_explicit(&library->state, GO_LIBRARY_DRAINED, memory_order_relaxed);
    LOG(log_golang, LOG_INFO, "%s: the last exchange of version %u has ended", library->id,
        library->version);
}

static void last_lease_ended(struct p_leases *leases) {
    struct go_library *library = container_of(leases, struct go_library, leases);
    const struct go_options options = {.name = "end of a library", .place = RT_ON_P};
    if (go_with(&options, end, library) != 0)
        LOG(log_golang, LOG_ERROR, "%s: no memory to give back the configurations of version %u",
            library->id, library->version);
}

void go_library_retire(struct go_library *library) {
    atomic_store_explicit(&library->state, GO_LIBRARY_DRAINING, memory_order_relaxed);
    p_leases_retire(&library->leases, last_lease_ended);
}

void go_on_thread_stack(void (*fn)(void *arg), void *arg) {
    if (rt_self())
        foreign_call(fn, arg);
    else
        fn(arg);
}
