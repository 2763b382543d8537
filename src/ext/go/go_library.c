/* go_library: loads in this order. (1) Look into the file: no code of the library has run, so a
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
 * The dynamic loader knows a file by inode, so two library_ids can be one Go runtime with one set of
 * maps. It must then also be one set of seats: libraries are told apart by their handle. */
#include "ext/go/go_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "ext/go/go_environ.h"
#include "ext/go/go_lent.h"
#include "ext/go/go_log.h"
#include "ext/library_path.h"
#include "rt/foreign.h"
#include "rt/signals.h"

struct library_id {
    struct library_id *next;
    char *id, *path;
    struct go_library *library;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the two lists */
static struct library_id *ids;
static struct go_library *libraries;

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
static void say_why_not(const char *path, const char *because, char why[GO_LIBRARY_WHY_MAX]) {
    bool no_tls = strstr(because, "static TLS block") != NULL;
    (void)snprintf(
        why, GO_LIBRARY_WHY_MAX, "cannot load %s: %s%s", path, because,
        no_tls
            ? ": start the proxy with GLIBC_TUNABLES=glibc.rtld.optional_static_tls=65536, or more"
            : "");
}

/* The handle, or NULL and the reason in why. */
static void *open_library(const char *path, struct go_elf *elf, const struct go_library_wish *wish,
                          char why[GO_LIBRARY_WHY_MAX]) {
    if (elf->missing_count && define_missing(elf, path, why) != 0)
        return NULL;
    struct go_environ environ = {.no_cgocheck = elf->has_network || elf->has_cluster_specifier,
                                 .gogc = wish->gogc,
                                 .memory_limit = wish->memory_limit,
                                 .max_procs = max_procs()};
    int err = go_environ_begin(&environ);
    if (err) {
        (void)snprintf(why, GO_LIBRARY_WHY_MAX,
                       "cannot load %s: there is no room for its environment (%s): start the proxy "
                       "with GODEBUG=cgocheck=0, and with GOGC= and GOMEMLIMIT= if they are set "
                       "for it",
                       path, strerror(-err));
        return NULL;
    }
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle)
        await_start(handle, path);
    else
        say_why_not(path, dlerror(), why);
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
    free(library->gogc);
    free(library->memory_limit);
    free(library);
}

static struct go_library *library_new(void *handle, const struct go_elf *elf, struct span id,
                                      const char *path, const struct go_library_wish *wish) {
    struct go_library *library = calloc(1, sizeof(*library));
    if (!library)
        return NULL;
    library->handle = handle;
    library->elf = *elf;
    library->path = strdup(path);
    library->id = text_of(id);
    library->gogc = text_or_empty(wish->gogc);
    library->memory_limit = text_or_empty(wish->memory_limit);
    if (!library->path || !library->id || !library->gogc || !library->memory_limit) {
        library_free(library);
        return NULL;
    }
    find_functions(library);
    return library;
}

static struct go_library *library_load(struct span id, const char *path,
                                       const struct go_library_wish *wish,
                                       char why[GO_LIBRARY_WHY_MAX]) {
    struct go_elf elf;
    char elf_why[GO_ELF_WHY_MAX];
    if (go_elf_inspect_file(path, go_export_is_known, &elf, elf_why) != 0) {
        (void)snprintf(why, GO_LIBRARY_WHY_MAX, "cannot load %s: %s", path, elf_why);
        return NULL;
    }
    void *handle = open_library(path, &elf, wish, why);
    if (!handle)
        return NULL;
    for (struct go_library *library = libraries; library; library = library->next)
        if (library->handle == handle)
            return library;
    struct go_library *library = library_new(handle, &elf, id, path, wish);
    if (!library) {
        (void)snprintf(why, GO_LIBRARY_WHY_MAX, "cannot load %s: out of memory", path);
        return NULL;
    }
    library->next = libraries;
    libraries = library;
    LOG(log_golang, LOG_INFO, "loaded %s: SDK %s, %s", path,
        elf.sdk_version[0] ? elf.sdk_version : "unknown", elf.go_version);
    return library;
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

struct go_library *go_library_get(struct span library_id, struct span path_span,
                                  const struct go_library_wish *wish,
                                  char why[GO_LIBRARY_WHY_MAX]) {
    static const struct go_library_wish none;
    struct go_library *library = NULL;
    wish = wish ? wish : &none;
    why[0] = 0;
    char *path = library_path(path_span);
    pthread_mutex_lock(&lock);
    struct library_id *entry = ids;
    while (entry && !span_eq(span_of(entry->id), library_id))
        entry = entry->next;
    if (entry) {
        library = entry->library;
        compare_wish(library, wish, why);
        if (path && strcmp(entry->path, path) != 0)
            (void)snprintf(why, GO_LIBRARY_WHY_MAX,
                           "library_id %s is loaded from %s already; %s is not loaded", entry->id,
                           entry->path, path);
    } else if (path && (library = library_load(library_id, path, wish, why))) {
        entry = calloc(1, sizeof(*entry));
        if (entry && (entry->id = text_of(library_id))) {
            entry->path = path;
            path = NULL;
            entry->library = library;
            entry->next = ids;
            ids = entry;
        } else {
            free(entry);
        }
    }
    pthread_mutex_unlock(&lock);
    if (!library && !why[0])
        (void)snprintf(why, GO_LIBRARY_WHY_MAX, "out of memory");
    free(path);
    return library;
}

struct go_library *go_library_named(struct span library_id, struct span path,
                                    const struct go_library_wish *wish, const struct cfg_mark *mark,
                                    struct cfg_problems *problems) {
    char why[GO_LIBRARY_WHY_MAX];
    if (go_lent_init() != 0) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "out of memory");
        return NULL;
    }
    struct go_library *library = go_library_get(library_id, path, wish, why);
    if (why[0])
        cfg_problem_add(problems, library ? CFG_PROBLEM_WARNING : CFG_PROBLEM_INVALID, mark, "%s",
                        why);
    return library;
}

struct go_library *go_library_first(void) {
    pthread_mutex_lock(&lock);
    struct go_library *first = libraries;
    pthread_mutex_unlock(&lock);
    return first;
}

void go_on_thread_stack(void (*fn)(void *arg), void *arg) {
    if (rt_self())
        foreign_call(fn, arg);
    else
        fn(arg);
}
