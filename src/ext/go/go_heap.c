/* go_heap: finds the arenas of each Go runtime among the mappings of the process.
 *
 * Problem   An arena is anonymous memory: nothing says whose it is. Go's fixed addresses (0xc000000000)
 *           are those of the first runtime only, and from Go 1.26 on of none; names of mappings are an
 *           option of the kernel and the same for all runtimes; symbols may be stripped.
 *
 * Arenas    Go reserves its heap in arenas of 64 MiB, aligned, each behind the one before, far away from
 *           where the kernel puts mappings. What it has not touched is PROT_NONE:
 *
 *               37724c000000 ---p | 37724fc00000 rw-p | 377250400000 ---p | 377254000000
 *               ^ aligned                                                   ^ aligned, nothing beside it
 *
 *           So a heap is a run of mappings without a gap, all anonymous and private, of which both ends
 *           are aligned. Malloc's may look the same.
 * Owner     Globals of a runtime point into its own heap by the hundred, and those of no other runtime do:
 *           each word of a library's writable segments that is an address in a run is a vote.
 *
 * The words are read while Go writes them: a vote more or less. /proc/self/smaps is read line by line,
 * and what is mapped meanwhile may be missed until the next time.
 *
 * Rejected  Mappings that appeared during dlopen: other threads map, too, and the heap grows later. The
 *           library's symbols (runtime.mheap_): stripped libraries have none, and the layout changes. */
#include "ext/go/go_heap.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ext/go/go_origin.h"

enum { RUNS_MAX = 256, VOTES_MIN = 16 };
static const uintptr_t arena_size = 64 << 20;

struct run {
    uintptr_t start, end;
    uint64_t resident;
    struct go_library *owner;
    size_t votes; /* of the owner */
};
struct runs {
    struct run list[RUNS_MAX];
    unsigned count;
};

/* Where a library lies, from its file to the end of its zeros. */
struct image {
    const struct go_library *library;
    uintptr_t start, end;
    uint64_t written; /* bytes of pages that are its own */
};
struct images {
    struct image *list;
    size_t count;
};

/* ---- Runs of mappings ---- */

struct mapping {
    uintptr_t start, end;
    bool is_anonymous;
};

/* "37724c000000-37724fc00000 ---p 00000000 00:00 0   [anon: Go: heap]" */
static bool parse_mapping(const char *line, struct mapping *out) {
    char flags[5] = "";
    unsigned long inode;
    int end = 0;
    if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*x %*x:%*x %lu %n", &out->start, &out->end,
               flags, &inode, &end) < 4)
        return false;
    const char *name = line + end;
    bool is_named = end > 0 && *name && *name != '\n' && strncmp(name, "[anon", 5) != 0;
    out->is_anonymous = inode == 0 && flags[3] == 'p' && !is_named;
    return true;
}

/* The run ends before next; kept if it can be a heap. */
static void end_run(struct runs *runs, struct run *run, bool is_pure) {
    bool is_heap = is_pure && run->end > run->start && run->start % arena_size == 0 &&
                   run->end % arena_size == 0;
    if (is_heap && runs->count < RUNS_MAX)
        runs->list[runs->count++] = *run;
}

static void note_written(const struct images *images, const struct mapping *mapping,
                         uint64_t bytes) {
    for (size_t i = 0; images && i < images->count; i++)
        if (mapping->start >= images->list[i].start && mapping->start < images->list[i].end)
            images->list[i].written += bytes;
}

/* images may be NULL. */
static int find_runs(struct runs *runs, const struct images *images) {
    FILE *file = fopen("/proc/self/smaps", "re");
    if (!file)
        return -errno;
    struct run run = {0};
    struct mapping mapping = {0};
    bool is_pure = false;
    char line[512]; /* longer ones are file names, whose rest is no mapping's beginning */
    while (fgets(line, sizeof line, file)) {
        uint64_t kilobytes;
        if (sscanf(line, "Rss: %" SCNu64 " kB", &kilobytes) == 1) {
            run.resident += kilobytes << 10;
        } else if (sscanf(line, "Anonymous: %" SCNu64 " kB", &kilobytes) == 1) {
            note_written(images, &mapping, kilobytes << 10);
        } else if (parse_mapping(line, &mapping)) {
            if (mapping.start != run.end) {
                end_run(runs, &run, is_pure);
                run = (struct run){.start = mapping.start};
                is_pure = true;
            }
            run.end = mapping.end;
            is_pure &= mapping.is_anonymous;
        }
    }
    end_run(runs, &run, is_pure);
    fclose(file);
    return 0;
}

/* ---- Whose they are ---- */

struct voting {
    struct runs *runs;
    struct go_library *library;
    uintptr_t base;
    size_t votes[RUNS_MAX];
};

static void vote(struct voting *voting, uintptr_t word) {
    for (unsigned i = 0; i < voting->runs->count; i++)
        if (word >= voting->runs->list[i].start && word < voting->runs->list[i].end)
            voting->votes[i]++;
}

/* All words of the library's data, which Go's threads write meanwhile. */
static int vote_by_globals(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)size;
    struct voting *voting = arg;
    if (info->dlpi_addr != voting->base)
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_W))
            continue;
        uintptr_t at = info->dlpi_addr + part->p_vaddr, end = at + part->p_memsz;
        at = (at + sizeof(uintptr_t) - 1) & ~(sizeof(uintptr_t) - 1);
        for (; at + sizeof(uintptr_t) <= end; at += sizeof(uintptr_t))
            vote(voting, __atomic_load_n((const uintptr_t *)at, __ATOMIC_RELAXED));
    }
    return 1;
}

static void find_owners(struct runs *runs) {
    for (struct go_library *library = go_library_first(); library; library = library->next) {
        struct link_map *map;
        if (!library->handle || dlinfo(library->handle, RTLD_DI_LINKMAP, &map) != 0)
            continue;
        struct voting voting = {.runs = runs, .library = library, .base = map->l_addr};
        (void)dl_iterate_phdr(vote_by_globals, &voting);
        for (unsigned i = 0; i < runs->count; i++) {
            struct run *run = &runs->list[i];
            if (voting.votes[i] < VOTES_MIN || voting.votes[i] <= run->votes)
                continue;
            run->owner = library;
            run->votes = voting.votes[i];
        }
    }
}

/* ---- Its own profile ---- */

static char *read_file(int fd, size_t *len) {
    off_t size = lseek(fd, 0, SEEK_END);
    if (size <= 0 || size > GO_HEAP_PROFILE_MAX)
        return NULL;
    char *data = malloc((size_t)size);
    size_t read = 0;
    while (data && read < (size_t)size) {
        ssize_t n = pread(fd, data + read, (size_t)size - read, (off_t)read);
        if (n <= 0)
            break;
        read += (size_t)n;
    }
    if (data && read == (size_t)size) {
        *len = read;
        return data;
    }
    free(data);
    return NULL;
}

/* Owned; NULL when the library has none to tell. */
static char *ask_library(const struct go_library *library, bool collect, size_t *len) {
    static pthread_mutex_t one_call = PTHREAD_MUTEX_INITIALIZER;
    if (!library->fn.heap_profile)
        return NULL;
    char *profile = NULL;
    int fd = memfd_create("heap profile", MFD_CLOEXEC);
    int of_go = fd < 0 ? -1 : dup(fd);
    if (of_go >= 0) {
        pthread_mutex_lock(&one_call);
        int32_t failed = library->fn.heap_profile(of_go, collect);
        pthread_mutex_unlock(&one_call);
        if (failed == 0)
            profile = read_file(fd, len);
    }
    if (fd >= 0)
        close(fd);
    return profile;
}

static int find_image(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)size;
    struct image *image = arg;
    if (info->dlpi_addr != image->start)
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t end = info->dlpi_addr + part->p_vaddr + part->p_memsz;
        if (part->p_type == PT_LOAD && end > image->end)
            image->end = end;
    }
    return 1;
}

static int find_images(struct images *images) {
    size_t room = 0;
    struct go_library *first = go_library_first();
    for (const struct go_library *library = first; library; library = library->next)
        room++;
    images->list = calloc(room + 1, sizeof images->list[0]);
    if (!images->list)
        return -ENOMEM;
    for (const struct go_library *library = first; library; library = library->next) {
        struct image *image = &images->list[images->count++];
        *image = (struct image){.library = library, .start = library->module.base};
        (void)dl_iterate_phdr(find_image, image); /* without an end nothing is in it */
    }
    return 0;
}

static uint64_t resident_of(const struct runs *runs, const struct go_library *library) {
    uint64_t resident = 0;
    for (unsigned i = 0; i < runs->count; i++)
        if (runs->list[i].owner == library)
            resident += runs->list[i].resident;
    return resident;
}

int go_heaps_measure(go_heap_size_fn fn, void *arg) {
    struct images images = {0};
    struct runs *runs = calloc(1, sizeof *runs);
    int err = runs ? find_images(&images) : -ENOMEM;
    if (err == 0)
        err = find_runs(runs, &images);
    if (err == 0)
        find_owners(runs);
    for (size_t i = 0; err == 0 && i < images.count; i++) {
        const struct image *image = &images.list[i];
        fn(arg, image->library,
           go_file_memory_bytes(&image->library->file) + image->written +
               resident_of(runs, image->library));
    }
    free(images.list);
    free(runs);
    return err;
}

int go_heaps_read(bool collect, go_heap_fn fn, void *arg) {
    if (!go_library_first())
        return 0;
    struct runs *runs = calloc(1, sizeof *runs);
    int err = runs ? find_runs(runs, NULL) : -ENOMEM;
    if (err == 0)
        find_owners(runs);
    for (struct go_library *library = err ? NULL : go_library_first(); library;
         library = library->next) {
        char name[128];
        bool is_old = library != go_origin_current(library->origin);
        (void)snprintf(name, sizeof name, "%s#%u", library->id, library->version);
        struct go_heap heap = {.library = is_old ? name : library->id,
                               .resident = resident_of(runs, library)};
        char *profile = ask_library(library, collect, &heap.profile_len);
        heap.profile = profile;
        fn(arg, &heap);
        free(profile);
    }
    free(runs);
    return err;
}
