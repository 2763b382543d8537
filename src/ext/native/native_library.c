/* native_library: looks into the file, loads it, asks it what it is.
 *
 * The loader knows a file by its inode, and one that was written over in place is the old one to it (and what runs of it
 * is lost: the text is mapped). So a library is told apart by its path and by what its file is now; who deploys a
 * new one renames it into place, and the next configuration has it.
 *
 * Before anything of it runs, but for constructors, the plug-in's words about itself are compared with ours. What counts
 * is the minor version that it needs. A descriptor that is shorter than ours is an older one's, and what it lacks reads as
 * NULL; one that is longer is a newer one's that needs no more than there is here, and what is behind our end is not
 * called. It asks before it calls what our table may lack (SLUICE_HAS).
 *
 * Threads  `lock` guards the list, and one load at a time. */
#include "ext/native/native_library.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "ext/library_path.h"
#include "ext/native/native_host.h"
#include "rt/foreign.h"
#include "rt/symbol.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct native_library *libraries;
static const struct sluice_host *host_table = &native_host;

static struct symbol_module copied; /* a process that serves has one library */

void native_library_name_copy(struct native_library *library, struct span file, const char *bytes) {
    struct link_map *map;
    char *path = strndup(file.ptr, file.len);
    if (path) {
        free(library->path);
        library->path = path;
    }
    if (dlinfo(library->handle, RTLD_DI_LINKMAP, &map) != 0)
        return; /* then its functions have no names */
    copied = (struct symbol_module){.base = map->l_addr, .file = library->path, .bytes = bytes};
    symbol_add_module(&copied);
}

void native_library_set_table(const struct sluice_host *other) {
    host_table = other;
}

#define SAY(...) ((void)snprintf(why, NATIVE_WHY_MAX, __VA_ARGS__))

/* ---- The file ---- */

#if defined(__x86_64__)
enum { MACHINE = EM_X86_64 };
#define MACHINE_NAME "x86-64"
#elif defined(__aarch64__)
enum { MACHINE = EM_AARCH64 };
#define MACHINE_NAME "aarch64"
#endif

/* The loader's own words for these would be "file too short" and "invalid ELF header". */
static bool is_right_kind(const Elf64_Ehdr *head, size_t size, const char *path,
                          char why[NATIVE_WHY_MAX]) {
    if (size < EI_NIDENT || memcmp(head->e_ident, ELFMAG, SELFMAG) != 0)
        SAY("cannot load %s: it is not an ELF file", path);
    else if (size < sizeof *head || head->e_ident[EI_CLASS] != ELFCLASS64 ||
             head->e_machine != MACHINE)
        SAY("cannot load %s: it is for another machine; this one is %s", path, MACHINE_NAME);
    else if (head->e_type != ET_DYN)
        SAY("cannot load %s: it is not a shared object; link it with -shared", path);
    else
        return true;
    return false;
}

/* NOINLINE: errno, and its caller may park. */
static NOINLINE bool inspect(const char *path, struct stat *out, char why[NATIVE_WHY_MAX]) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        SAY("cannot load %s: %s", path, strerror(errno));
        return false;
    }
    Elf64_Ehdr head;
    ssize_t size = fstat(fd, out) == 0 ? pread(fd, &head, sizeof head, 0) : -1;
    if (size < 0)
        SAY("cannot load %s: %s", path, strerror(errno));
    (void)close(fd);
    return size >= 0 && is_right_kind(&head, (size_t)size, path, why);
}

bool native_library_inspect(const char *path, char why[NATIVE_WHY_MAX]) {
    struct stat file;
    return inspect(path, &file, why);
}

static void note_file(struct native_library *library, const struct stat *file) {
    library->device = file->st_dev;
    library->inode = file->st_ino;
    library->size = (unsigned long long)file->st_size;
    library->changed_ns = file->st_mtim.tv_sec * NS_PER_S + file->st_mtim.tv_nsec;
}

static bool is_file(const struct native_library *library, const struct stat *file) {
    struct native_library other;
    note_file(&other, file);
    return library->device == other.device && library->inode == other.inode &&
           library->size == other.size && library->changed_ns == other.changed_ns;
}

/* ---- What it is ---- */

struct text_search {
    uintptr_t base;
    struct native_text *text;
};

static int find_text(struct dl_phdr_info *info, size_t size, void *arg) {
    const struct text_search *search = arg;
    if (info->dlpi_addr != search->base)
        return 0;
    struct native_text *text = search->text;
    for (unsigned i = 0; i < info->dlpi_phnum && text->count < NATIVE_TEXT_MAX; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
            continue;
        uintptr_t start = info->dlpi_addr + segment->p_vaddr;
        text->segments[text->count].start = start;
        text->segments[text->count++].end = start + segment->p_memsz;
    }
    return 1;
}

static bool take_descriptor(struct native_library *library, const struct sluice_plugin *theirs,
                            char why[NATIVE_WHY_MAX]) {
    const char *path = library->path;
    enum { LEAST = offsetof(struct sluice_plugin, destroy) + sizeof(theirs->destroy) };
    if (theirs->major != SLUICE_ABI_MAJOR) {
        SAY("cannot load %s: it was built for version %u of sluice/filter.h, this is version %d; "
            "build it with this one's header",
            path, theirs->major, SLUICE_ABI_MAJOR);
        return false;
    }
    if (theirs->minor > SLUICE_ABI_MINOR) {
        SAY("cannot load %s: it needs version %u.%u of sluice/filter.h, this is %d.%d; build it "
            "with this one's header, or, if it can do without what is newer, with "
            "SLUICE_NEEDS_MINOR %d",
            path, theirs->major, theirs->minor, SLUICE_ABI_MAJOR, SLUICE_ABI_MINOR,
            SLUICE_ABI_MINOR);
        return false;
    }
    if (theirs->size < LEAST || !theirs->host || !theirs->name || !theirs->name[0]) {
        SAY("cannot load %s: its sluice_plugin was not made with SLUICE_PLUGIN(.name = ...)", path);
        return false;
    }
    memcpy(&library->plugin, theirs,
           theirs->size < sizeof library->plugin ? theirs->size : sizeof library->plugin);
    library->name = strdup(theirs->name);
    if (!library->name) {
        SAY("cannot load %s: out of memory", path);
        return false;
    }
    return true;
}

static void find_stats(struct native_library *library) {
    const struct stat_place table[] = {
        {&library->stats.faults, STAT_COUNTER, "faults"},
        {&library->stats.bypassed, STAT_COUNTER, "bypassed"},
        {&library->stats.closed, STAT_COUNTER, "closed"},
        {&library->stats.merges, STAT_COUNTER, "merges"},
    };
    stats_get_table(table, sizeof table / sizeof *table, "native", "sluice.native_filter",
                    span_of(library->name));
}

static bool find_out(struct native_library *library, void *handle, char why[NATIVE_WHY_MAX]) {
    const struct sluice_plugin *theirs = dlsym(handle, "sluice_plugin");
    struct link_map *map;
    if (!theirs) {
        SAY("cannot load %s: it has no symbol sluice_plugin; a filter has one SLUICE_PLUGIN(...)",
            library->path);
        return false;
    }
    if (!take_descriptor(library, theirs, why))
        return false;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0) {
        SAY("cannot load %s: %s", library->path, dlerror());
        return false;
    }
    struct text_search search = {map->l_addr, &library->text};
    (void)dl_iterate_phdr(find_text, &search); /* what it found is in text */
    find_stats(library);
    *theirs->host = host_table;
    return true;
}

static void library_free(struct native_library *library) {
    if (!library)
        return;
    free(library->path);
    free(library->name);
    free(library->id);
    free(library);
}

static struct native_library *load_locked(const char *path, const struct stat *file,
                                          char why[NATIVE_WHY_MAX]) {
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        SAY("cannot load %s: %s", path, dlerror());
        return NULL;
    }
    struct native_library *library = libraries;
    while (library && library->handle != handle)
        library = library->next;
    if (library) { /* another path, or a file that was written over */
        note_file(library, file);
        return library;
    }
    library = calloc(1, sizeof *library);
    if (!library || !(library->path = strdup(path))) {
        SAY("cannot load %s: out of memory", path);
        goto fail;
    }
    if (!find_out(library, handle, why))
        goto fail;
    note_file(library, file);
    library->handle = handle;
    library->next = libraries;
    libraries = library;
    LOG(log_native, LOG_INFO, "loaded %s: %s, version %u.%u", path, library->name,
        library->plugin.major, library->plugin.minor);
    return library;
fail:
    library_free(library);
    (void)dlclose(handle); /* nothing of it was called */
    return NULL;
}

struct native_library *native_library_get(struct span path_span, char why[NATIVE_WHY_MAX]) {
    char *path = library_path(path_span);
    struct native_library *library = NULL;
    struct stat file;
    why[0] = 0;
    if (!path) {
        SAY("out of memory");
        return NULL;
    }
    native_fault_init();
    if (inspect(path, &file, why)) {
        pthread_mutex_lock(&lock);
        library = libraries;
        while (library && !(is_file(library, &file) && strcmp(library->path, path) == 0))
            library = library->next;
        if (!library)
            library = load_locked(path, &file, why);
        pthread_mutex_unlock(&lock);
    }
    free(path);
    return library;
}

/* ---- Elsewhere ---- */

static struct native_library *elsewhere; /* by the lock */

/* The file's name without what is behind its dot; all of the path when another library has that. */
static char *id_of_locked(const char *path) {
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    size_t len = strcspn(name, ".");
    char *id = strndup(name, len ? len : strlen(name));
    for (const struct native_library *other = elsewhere; id && other; other = other->next)
        if (strcmp(other->id, id) == 0) {
            free(id);
            return strdup(path);
        }
    return id;
}

struct native_library *native_library_elsewhere(struct span path_span) {
    char *path = library_path(path_span);
    if (!path)
        return NULL;
    pthread_mutex_lock(&lock);
    struct native_library *library = elsewhere;
    while (library && strcmp(library->path, path) != 0)
        library = library->next;
    if (library) {
        free(path);
    } else if ((library = calloc(1, sizeof *library)) != NULL) {
        library->path = path;
        library->id = id_of_locked(path);
        library->next = elsewhere;
        if (library->id)
            elsewhere = library;
    } else {
        free(path);
    }
    if (library && !library->id) {
        library_free(library);
        library = NULL;
    }
    pthread_mutex_unlock(&lock);
    return library;
}

int native_library_is_called(struct native_library *library, struct span name) {
    enum { NAME_MAX_LEN = 128 };
    if (name.len == 0 || name.len > NAME_MAX_LEN || memchr(name.ptr, 0, name.len))
        return -EINVAL;
    if (library->name)
        return span_eq(span_of(library->name), name) ? 0 : -EINVAL;
    library->name = strndup(name.ptr, name.len);
    if (!library->name)
        return -ENOMEM;
    find_stats(library);
    return 0;
}

struct native_stat {
    struct native_stat *next;
    struct statistic *stat;
};

/* By the lock. */
static const struct statistic *find_stat(const struct native_library *library, enum stat_kind kind,
                                         struct span name, unsigned *count) {
    const struct native_stat *at = library->counted;
    for (*count = 0; at && !(at->stat->kind == kind && span_eq(at->stat->name, name));
         at = at->next)
        ++*count;
    return at ? at->stat : NULL;
}

static const struct statistic *add_stat(struct native_library *library, enum stat_kind kind,
                                        struct span suffix) {
    char name[128];
    struct native_stat *more = suffix.len < sizeof name ? malloc(sizeof *more) : NULL;
    if (!more)
        return NULL;
    memcpy(name, suffix.ptr, suffix.len);
    name[suffix.len] = 0;
    *more = (struct native_stat){
        library->counted,
        stats_get_tagged(kind, "native", "sluice.native_filter", span_of(library->name), name)};
    library->counted = more;
    return more->stat;
}

const struct statistic *native_library_stat(struct native_library *library, enum stat_kind kind,
                                            struct span name) {
    size_t prefix = strlen("native.") + strlen(library->name) + 1;
    unsigned count;
    if (name.len <= prefix || memchr(name.ptr, 0, name.len))
        return NULL;
    pthread_mutex_lock(&lock);
    const struct statistic *stat = find_stat(library, kind, name, &count);
    if (!stat && count < NATIVE_STATS_MAX)
        stat = add_stat(library, kind, span_from(name, prefix));
    pthread_mutex_unlock(&lock);
    return stat;
}

/* ---- Faults ---- */

struct report {
    const struct native_library *library;
    const char *what;
    uint32_t number;
    struct native_fault fault;
};

static void put_frame(unsigned number, const struct symbol *symbol) {
    if (symbol->file)
        LOG(log_native, LOG_ERROR, "  #%u %s+%#llx (%s:%u)", number, symbol->function,
            (unsigned long long)symbol->offset, symbol->file, symbol->line);
    else
        LOG(log_native, LOG_ERROR, "  #%u %s+%#llx", number, symbol->function,
            (unsigned long long)symbol->offset);
}

static void tell(void *arg) {
    const struct report *report = arg;
    const struct native_fault *fault = &report->fault;
    LOG(log_native, LOG_ERROR,
        "plug-in %s (%s): %s at address %#llx in its function %s; the call was ended (fault %u)",
        report->library->name, report->library->path, native_fault_name(fault),
        (unsigned long long)fault->address, report->what, report->number);
    for (unsigned i = 0; i < fault->count; i++) {
        struct symbol symbols[SYMBOL_INLINED_MAX];
        unsigned count = symbol_of(fault->pcs[i] - (i > 0), symbols, SYMBOL_INLINED_MAX);
        for (unsigned k = 0; k < count; k++)
            put_frame(i, &symbols[k]);
    }
}

/* Names are in files: not on a P. */
static void tell_elsewhere(void *arg) {
    if (blocking_call(tell, arg) != 0)
        LOG(log_native, LOG_ERROR, "a plug-in faulted, and no thread is left to say where");
    free(arg);
}

void native_library_faulted(struct native_library *library, const struct native_fault *fault,
                            const char *what, unsigned shard) {
    uint32_t number = atomic_fetch_add_explicit(&library->faults, 1, memory_order_relaxed) + 1;
    stat_inc(library->stats.faults, shard);
    struct report *report = malloc(sizeof *report);
    if (!report) {
        LOG(log_native, LOG_ERROR, "plug-in %s: %s", library->name, native_fault_name(fault));
        return;
    }
    *report = (struct report){library, what, number, *fault};
    if (rt_self() && !foreign_is_active()) {
        if (go("native fault", tell_elsewhere, report) == 0)
            return;
        LOG(log_native, LOG_ERROR, "plug-in %s: %s", library->name, native_fault_name(fault));
    } else {
        tell(report);
    }
    free(report);
}
