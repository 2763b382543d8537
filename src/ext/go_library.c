/* go_library: loads in this order. (1) Look into the file: no code of the library has run, so a
 * refusal costs nothing. (2) dlopen, RTLD_NOW so that a missing symbol is an error here and not a
 * death later, RTLD_LOCAL because all Go libraries export the same names. (3) Re-take SIGURG, which
 * the runtime that has just started took for itself. (4) Find the functions.
 *
 * The dynamic loader knows a file by inode, so two library_ids can be one Go runtime with one set of
 * maps. It must then also be one set of seats: libraries are told apart by their handle. */
#include "ext/go_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "ext/go_log.h"
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
    if (library->elf.level == GO_LEVEL_31) {
        function(handle, "envoyGoFilterOnHttpLog", &fn->on_log_31);
    } else {
        function(handle, "envoyGoFilterOnHttpLog", &fn->on_log_32);
        function(handle, "envoyGoFilterOnHttpStreamComplete", &fn->on_stream_complete);
    }
}

/* Worker ids are P * SEATS_PER_P + seat. Before the runtime runs the number of Ps is not settled, and
 * the first announcement counts for the library's life. */
static uint32_t seat_count(void) {
    unsigned p_count = rt_p_count();
    return (p_count ? p_count : RT_P_MAX) * SEATS_PER_P;
}

static struct go_library *library_load(struct span id, const char *path,
                                       char why[GO_LIBRARY_WHY_MAX]) {
    struct go_elf elf;
    char elf_why[GO_ELF_WHY_MAX];
    if (go_elf_inspect_file(path, go_export_is_known, &elf, elf_why) != 0) {
        (void)snprintf(why, GO_LIBRARY_WHY_MAX, "cannot load %s: %s", path, elf_why);
        return NULL;
    }
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        (void)snprintf(why, GO_LIBRARY_WHY_MAX, "cannot load %s: %s", path, dlerror());
        return NULL;
    }
    int err = signals_after_dlopen();
    if (err)
        LOG(log_golang, LOG_WARN, "signals after loading %s: %s", path, strerror(-err));
    for (struct go_library *library = libraries; library; library = library->next)
        if (library->handle == handle)
            return library;
    struct go_library *library = calloc(1, sizeof(*library));
    if (!library || !(library->path = strdup(path)) || !(library->id = text_of(id))) {
        if (library)
            free(library->path);
        free(library);
        (void)snprintf(why, GO_LIBRARY_WHY_MAX, "cannot load %s: out of memory", path);
        return NULL;
    }
    library->handle = handle;
    library->elf = elf;
    library->concurrency = seat_count();
    find_functions(library);
    library->next = libraries;
    libraries = library;
    LOG(log_golang, LOG_INFO, "loaded %s: SDK %s, %s, %u seats", path,
        elf.sdk_version[0] ? elf.sdk_version : "unknown", elf.go_version, library->concurrency);
    return library;
}

/* A name without a slash is a file in the working directory, never one of the loader's path. */
static char *path_of(struct span path) {
    char *out = NULL;
    const char *prefix = path.len && memchr(path.ptr, '/', path.len) ? "" : "./";
    if (asprintf(&out, "%s%.*s", prefix, (int)path.len, path.ptr) < 0)
        return NULL;
    return out;
}

struct go_library *go_library_get(struct span library_id, struct span path_span,
                                  char why[GO_LIBRARY_WHY_MAX]) {
    struct go_library *library = NULL;
    why[0] = 0;
    char *path = path_of(path_span);
    pthread_mutex_lock(&lock);
    struct library_id *entry = ids;
    while (entry && !span_eq(span_of(entry->id), library_id))
        entry = entry->next;
    if (entry) {
        library = entry->library;
        if (path && strcmp(entry->path, path) != 0)
            (void)snprintf(why, GO_LIBRARY_WHY_MAX,
                           "library_id %s is loaded from %s already; %s is not loaded", entry->id,
                           entry->path, path);
    } else if (path && (library = library_load(library_id, path, why))) {
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

struct go_library *go_library_first(void) {
    pthread_mutex_lock(&lock);
    struct go_library *first = libraries;
    pthread_mutex_unlock(&lock);
    return first;
}

struct seat_table *go_library_seats(struct go_library *library) {
    struct seat_table **slot = &library->seats[rt_p_index()];
    if (!*slot && (*slot = malloc(sizeof(**slot))))
        seat_table_init(*slot);
    return *slot;
}

void go_on_thread_stack(void (*fn)(void *arg), void *arg) {
    if (rt_self())
        foreign_call(fn, arg);
    else
        fn(arg);
}
