/* file_source: see the header. A source is freed by the release of its watch, when no call of note_change can come any
 * more. */
#include "discovery/file_source.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "config/bootstrap.h"
#include "config/discovery_config.h"
#include "discovery/route_asks.h"
#include "io/file_watch.h"

LOG_COMPONENT(discovery_file, "discovery_file");

static void free_source(void *arg) {
    struct file_source *source = arg;
    discovery_file_free(source->held);
    discovery_status_fini(&source->status);
    free(source->directory);
    free(source);
}

static void note_change(void *arg) {
    struct file_source *source = arg;
    source->changed = true;
    source->wake();
}

static void watch(struct file_source *source) {
    struct span file = span_of(source->status.origin), directory = span_of(source->directory);
    const struct file_watch_options how = {.files = &file,
                                           .file_count = source->directory ? 0 : 1,
                                           .directories = &directory,
                                           .directory_count = source->directory ? 1 : 0,
                                           .events = source->directory ? FILE_WATCH_MOVED
                                                                       : FILE_WATCH_WHOLE,
                                           .changed = note_change,
                                           .release = free_source,
                                           .arg = source};
    int rc;
    source->watch = file_watch_add(&how, &rc);
    if (!source->watch)
        LOG(log_discovery_file, LOG_ERROR, "changes of %s will not be noticed: %s",
            source->status.origin, strerror(-rc));
}

void file_source_free(struct file_source *source) {
    if (source->watch)
        file_watch_remove(source->watch);
    else
        free_source(source);
}

struct file_source *file_source_new(enum resource_type type, const struct cfg_config_source *from,
                                    void (*wake)(void)) {
    struct span directory = cfg_source_directory(from);
    struct file_source *source = calloc(1, sizeof *source);
    if (!source)
        return NULL;
    if (directory.len)
        source->directory = strndup(directory.ptr, directory.len);
    if ((directory.len && !source->directory) ||
        discovery_status_init(&source->status, type, cfg_source_path(from)) != 0) {
        free(source->directory);
        free(source);
        return NULL;
    }
    source->changed = true;
    source->wake = wake;
    return source;
}

bool file_source_require(const struct cfg_config_source *from, struct cfg_problems *problems) {
    struct span path = cfg_source_path(from), directory = cfg_source_directory(from);
    /* Texts of a config end in NUL. */
    bool has_file = access(path.ptr, F_OK) == 0;
    bool has_directory = directory.len == 0 || access(directory.ptr, F_OK) == 0;
    if (!has_file)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &from->mark,
                        "there is no file '%.*s'; it has to be there before it is named",
                        (int)path.len, path.ptr);
    if (!has_directory)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &from->mark,
                        "there is no watched_directory '%.*s'", (int)directory.len, directory.ptr);
    return has_file && has_directory;
}

void file_source_require_asked(const struct route_asks *asks, struct cfg_problems *problems) {
    for (size_t i = 0; i < asks->count; i++)
        file_source_require(asks->items[i].source, problems);
}

struct discovery_file *file_source_load(enum resource_type type, const char *path,
                                        const struct file_source_how *how,
                                        struct cfg_problems *problems) {
    const struct config_source from = {
        .path = path, .descriptor_set = how->descriptor_set, .allow_unknown = !how->reject_unknown};
    struct discovery_file *file = discovery_file_load(type, &from, problems);
    if (!file || type != RESOURCE_LISTENER)
        return file;
    struct route_asks asks = {0};
    for (size_t i = 0; i < file->count; i++)
        if (route_asks_add(&asks, file->items[i].message) != 0)
            problems->lost = true;
    file_source_require_asked(&asks, problems);
    route_asks_fini(&asks);
    return file;
}

struct discovery_file *file_source_read(struct file_source *source,
                                        const struct file_source_how *how,
                                        struct cfg_problems *problems) {
    if (!source->watch)
        watch(source); /* before it is read, so that no change is missed */
    return file_source_load(source->status.type, source->status.origin, how, problems);
}
