/* file_preview: see the header. Routes are read last, as it takes the listeners to know which are asked for. A proxy that
 * starts offers its files one by one when all at once are refused; what all of them say together is the same set in the
 * end, so what is wrong with it is what one of them is refused for. */
#include "discovery/file_preview.h"

#include <stdlib.h>

#include "config/bootstrap.h"
#include "config/discovery_config.h"
#include "discovery/route_asks.h"

struct seen {
    struct discovery_file *file;
    struct resource_item *asked; /* of routes; else NULL */
};

struct preview {
    struct resources *own; /* the bootstrap's */
    const struct file_source_how *how;
    struct cfg_problems *problems;
    struct route_asks asks;
    struct seen *seen;
    struct resource_update *updates; /* one for each that was seen */
    size_t count;
};

static void preview_fini(struct preview *preview) {
    for (size_t i = 0; i < preview->count; i++) {
        discovery_file_free(preview->seen[i].file);
        free(preview->seen[i].asked);
    }
    free(preview->seen);
    free(preview->updates);
    route_asks_fini(&preview->asks);
    resources_unref(preview->own);
}

/* For so many more. False: memory is short. */
static bool make_room(struct preview *preview, size_t more) {
    size_t room = preview->count + more + 1;
    struct seen *seen = realloc(preview->seen, room * sizeof *seen);
    if (seen)
        preview->seen = seen;
    struct resource_update *updates = realloc(preview->updates, room * sizeof *updates);
    if (updates)
        preview->updates = updates;
    return seen && updates;
}

/* A file that is there. */
static void read_file(struct preview *preview, enum resource_type type,
                      const struct cfg_config_source *from) {
    struct span path = cfg_source_path(from);
    struct cfg_problems its_own = {0}; /* a problem of another file refuses none of it */
    struct discovery_file *file = file_source_load(type, path.ptr, preview->how, &its_own);
    bool says_nothing = !file || (cfg_problems_refuse(&its_own) && file->count == 0);
    cfg_problems_move(preview->problems, &its_own);
    if (says_nothing) {
        discovery_file_free(file);
        return;
    }
    struct resource_update *update = &preview->updates[preview->count];
    struct seen *seen = &preview->seen[preview->count++];
    *seen = (struct seen){.file = file};
    *update = (struct resource_update){.type = type,
                                       .origin = path,
                                       .version = file->version,
                                       .config = file->config,
                                       .items = file->items,
                                       .count = file->count};
    if (type == RESOURCE_ROUTES)
        update->items = seen->asked =
            route_asks_select(&preview->asks, path, file, &update->count, preview->problems);
}

static void read_named(struct preview *preview, enum resource_type type,
                       const struct cfg_config_source *from) {
    if (from && file_source_require(from, preview->problems))
        read_file(preview, type, from);
}

static bool is_first_of_its_path(const struct route_asks *asks, size_t index) {
    struct span path = cfg_source_path(asks->items[index].source);
    for (size_t i = 0; i < index; i++)
        if (span_eq(cfg_source_path(asks->items[i].source), path))
            return false;
    return true;
}

/* What listeners of a file name was looked for when that was read. */
static void require_static(const struct preview *preview) {
    struct route_asks asks = {0};
    if (route_asks_of(preview->own, &asks) != 0)
        preview->problems->lost = true;
    file_source_require_asked(&asks, preview->problems);
    route_asks_fini(&asks);
}

static void read_routes(struct preview *preview) {
    struct cfg_problems told = {
        0}; /* of the set when it is whole, of files when listeners were read */
    struct resources *view = resources_with(preview->own, preview->updates, preview->count, &told);
    if (!view || route_asks_of(view, &preview->asks) != 0 ||
        !make_room(preview, preview->asks.count))
        preview->problems->lost = true;
    else
        for (size_t i = 0; i < preview->asks.count; i++)
            if (is_first_of_its_path(&preview->asks, i) &&
                file_source_require(preview->asks.items[i].source, &told))
                read_file(preview, RESOURCE_ROUTES, preview->asks.items[i].source);
    resources_unref(view);
    cfg_problems_fini(&told);
}

struct resources *file_preview_read(struct config *bootstrap, const struct file_source_how *how,
                                    struct cfg_problems *problems) {
    const struct cfg_dynamic_resources *named = config_bootstrap(bootstrap)->dynamic_resources;
    struct cfg_problems told = {0}; /* of the set when it is whole */
    struct preview preview = {
        .own = resources_of_bootstrap(bootstrap, NULL, &told), .how = how, .problems = problems};
    struct resources *set = NULL;
    if (preview.own && make_room(&preview, RESOURCE_TYPES)) {
        require_static(&preview);
        if (named) {
            read_named(&preview, RESOURCE_CLUSTER, named->cds_config);
            read_named(&preview, RESOURCE_LISTENER, named->lds_config);
        }
        read_routes(&preview);
        set = resources_with(preview.own, preview.updates, preview.count, problems);
    }
    if (!set)
        problems->lost = true;
    preview_fini(&preview);
    cfg_problems_fini(&told);
    return set;
}
