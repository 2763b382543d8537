/* resources: sets are made anew, each whole, and share nothing but the configs that their messages lie in.
 *
 *    base ----> draft, a list for each type: what stays, then what is new ----> seal: one block with all of it
 *
 * R1  A set is one allocation: the struct, its items, their index and the texts. So it is built or it is not.
 * R2  Items stand in the order in which they came. Of two with the same name the later one has the problem, so an
 *     update is told what is wrong with it, and not another source what was right with it until now.
 * R3  What a resource says is compared once, when it comes, with what the set before said. Everybody afterwards compares
 *     editions. */
#include "config/resources.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "config/discovery_config.h"
#include "config/schema_tables.h"

static const struct {
    const struct cfg_schema *schema;
    const char *name;
} types[RESOURCE_TYPES] = {
    [RESOURCE_LISTENER] = {&cfg_schema_listener, "listener"},
    [RESOURCE_CLUSTER] = {&cfg_schema_cluster, "cluster"},
    [RESOURCE_ROUTES] = {&cfg_schema_route_configuration, "route configuration"},
};

const struct cfg_schema *resource_schema(enum resource_type type) {
    return types[type].schema;
}

const char *resource_type_name(enum resource_type type) {
    return types[type].name;
}

const struct cfg_mark *resource_mark(enum resource_type type, const void *message) {
    return (const void *)((const char *)message + types[type].schema->mark_at - 1);
}

struct sealed {
    _Atomic uint32_t refs;
    struct resources set;
    struct resource items[]; /* of all types; behind them the index and the texts */
};

static struct sealed *sealed_of(struct resources *resources) {
    return container_of(resources, struct sealed, set);
}

struct resources *resources_ref(struct resources *resources) {
    uint32_t before =
        atomic_fetch_add_explicit(&sealed_of(resources)->refs, 1, memory_order_relaxed);
    ASSERT(before > 0);
    return resources;
}

void resources_unref(struct resources *resources) {
    if (!resources)
        return;
    struct sealed *sealed = sealed_of(resources);
    /* acq_rel: what other holders read of the set happens before it is freed here. */
    uint32_t before = atomic_fetch_sub_explicit(&sealed->refs, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before > 1)
        return;
    for (int type = 0; type < RESOURCE_TYPES; type++)
        for (size_t i = 0; i < resources->of[type].count; i++)
            config_unref(resources->of[type].items[i].config);
    config_unref(resources->bootstrap);
    free(sealed);
}

/* ---- names ---- */

/* By name; of the same name, the one that came first. */
static int compare(const void *a, const void *b) {
    const struct resource *left = *(const struct resource *const *)a;
    const struct resource *right = *(const struct resource *const *)b;
    int order = span_compare(left->name, right->name);
    if (order != 0)
        return order;
    return left < right ? -1 : left > right;
}

/* Of the first one that is not in front of name. */
static size_t place_of(const struct resource_list *list, struct span name) {
    size_t low = 0, high = list->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (span_compare(list->by_name[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct resource *resources_find(const struct resources *resources, enum resource_type type,
                                      struct span name) {
    const struct resource_list *list = &resources->of[type];
    size_t at = place_of(list, name);
    return at < list->count && span_eq(list->by_name[at]->name, name) ? list->by_name[at] : NULL;
}

const struct cfg_route_configuration *resources_routes(const struct resources *resources,
                                                       const struct cfg_hcm *hcm) {
    const struct resource *found =
        hcm->rds ? resources_find(resources, RESOURCE_ROUTES, hcm->rds->route_config_name) : NULL;
    return found ? found->message : hcm->route_config;
}

static void report_taken_names(const struct resources *set, struct cfg_problems *problems) {
    for (int type = 0; type < RESOURCE_TYPES; type++)
        for (size_t i = 0; i < set->of[type].count; i++) {
            const struct resource *item = &set->of[type].items[i];
            const struct resource *first = resources_find(set, type, item->name);
            if (first == item || item->name.len == 0)
                continue;
            const struct cfg_mark *mark = resource_mark(type, item->message);
            const struct cfg_mark *taken = resource_mark(type, first->message);
            if (span_eq(item->origin, first->origin))
                cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark,
                                "the name '%.*s' is taken by the %s of line %" PRIu32,
                                (int)item->name.len, item->name.ptr, types[type].name, taken->line);
            else
                cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark,
                                "the name '%.*s' is taken by the %s of %.*s:%" PRIu32,
                                (int)item->name.len, item->name.ptr, types[type].name,
                                (int)taken->file.len, taken->file.ptr, taken->line);
        }
}

/* ---- drafts ---- */

struct draft {
    struct resource *items[RESOURCE_TYPES];
    size_t count[RESOURCE_TYPES];
};

static void draft_fini(struct draft *draft) {
    for (int type = 0; type < RESOURCE_TYPES; type++)
        free(draft->items[type]);
}

/* Room for so many of each type. False: memory is short. */
static bool draft_init(struct draft *draft, const size_t room[RESOURCE_TYPES]) {
    *draft = (struct draft){0};
    for (int type = 0; type < RESOURCE_TYPES; type++) {
        draft->items[type] = calloc(room[type] + 1, sizeof(struct resource));
        if (!draft->items[type]) {
            draft_fini(draft);
            return false;
        }
    }
    return true;
}

static void draft_add(struct draft *draft, enum resource_type type, const struct resource *item) {
    draft->items[type][draft->count[type]++] = *item;
}

/* The one in previous (or NULL) that says the same; NULL: there is none. Of those without a name any may be it. */
static const struct resource *find_same(const struct resources *previous, enum resource_type type,
                                        const struct resource *item) {
    const struct resource_list *list = previous ? &previous->of[type] : &(struct resource_list){0};
    for (size_t i = place_of(list, item->name); i < list->count; i++) {
        const struct resource *before = list->by_name[i];
        if (!span_eq(before->name, item->name))
            return NULL;
        if (cfg_is_same(types[type].schema, before->message, item->message))
            return before;
    }
    return NULL;
}

/* R3. An item as the source says it, with version and time of the one in previous (or NULL) when it says the same. */
static void draft_add_new(struct draft *draft, enum resource_type type, struct resource item,
                          const struct resources *previous) {
    static _Atomic uint64_t editions;
    const struct resource *before = find_same(previous, type, &item);
    item.edition = before ? before->edition : ++editions;
    if (before && span_eq(before->origin, item.origin)) {
        item.version = before->version;
        item.since_wall_ns = before->since_wall_ns;
    }
    draft_add(draft, type, &item);
}

static struct span copy_text(char **room, struct span text) {
    char *copy = *room;
    if (text.len)
        memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    *room += text.len + 1;
    return span_make(copy, text.len);
}

/* R1. NULL: memory is short. */
static struct resources *seal(struct config *bootstrap, const struct draft *draft) {
    size_t count = 0, text_bytes = 0;
    for (int type = 0; type < RESOURCE_TYPES; type++)
        for (size_t i = 0; i < draft->count[type]; i++) {
            const struct resource *item = &draft->items[type][i];
            count++;
            text_bytes += item->version.len + item->origin.len + 2;
        }
    struct sealed *sealed =
        malloc(sizeof *sealed + count * (sizeof(struct resource) + sizeof(void *)) + text_bytes);
    if (!sealed)
        return NULL;
    atomic_init(&sealed->refs, 1);
    sealed->set = (struct resources){.bootstrap = config_ref(bootstrap)};
    struct resource *items = sealed->items;
    const struct resource **index = (const struct resource **)(items + count);
    char *text = (char *)(index + count);
    for (int type = 0; type < RESOURCE_TYPES; type++) {
        size_t here = draft->count[type];
        for (size_t i = 0; i < here; i++) {
            items[i] = draft->items[type][i];
            config_ref(items[i].config);
            items[i].version = copy_text(&text, items[i].version);
            items[i].origin = copy_text(&text, items[i].origin);
            index[i] = &items[i];
        }
        qsort(index, here, sizeof *index, compare);
        sealed->set.of[type] =
            (struct resource_list){.items = items, .count = here, .by_name = index};
        items += here;
        index += here;
    }
    return &sealed->set;
}

/* ---- the ways to a set ---- */

static void add_static(struct draft *draft, struct config *bootstrap,
                       const struct cfg_static_resources *from, const struct resources *previous) {
    struct resource item = {
        .config = bootstrap, .origin = RESOURCE_STATIC, .since_wall_ns = clock_wall_ns()};
    for (size_t i = 0; i < from->listeners_count; i++) {
        item.name = from->listeners[i].name;
        item.message = &from->listeners[i];
        draft_add_new(draft, RESOURCE_LISTENER, item, previous);
    }
    for (size_t i = 0; i < from->clusters_count; i++) {
        item.name = from->clusters[i].name;
        item.message = &from->clusters[i];
        draft_add_new(draft, RESOURCE_CLUSTER, item, previous);
    }
}

/* set, whose mistakes are told; NULL: there was no memory. */
static struct resources *reported(struct resources *set, struct cfg_problems *problems) {
    if (set)
        report_taken_names(set, problems);
    else
        problems->lost = true;
    return set;
}

struct resources *resources_of_bootstrap(struct config *bootstrap, const struct resources *previous,
                                         struct cfg_problems *problems) {
    static const struct cfg_static_resources nothing;
    const struct cfg_static_resources *from = config_bootstrap(bootstrap)->static_resources;
    if (!from)
        from = &nothing;
    size_t room[RESOURCE_TYPES] = {
        [RESOURCE_LISTENER] = from->listeners_count, [RESOURCE_CLUSTER] = from->clusters_count};
    for (int type = 0; previous && type < RESOURCE_TYPES; type++)
        room[type] += previous->of[type].count;
    struct draft draft;
    struct resources *set = NULL;
    if (draft_init(&draft, room)) {
        add_static(&draft, bootstrap, from, previous);
        for (int type = 0; previous && type < RESOURCE_TYPES; type++)
            for (size_t i = 0; i < previous->of[type].count; i++)
                if (!span_eq(previous->of[type].items[i].origin, RESOURCE_STATIC))
                    draft_add(&draft, type, &previous->of[type].items[i]);
        set = seal(bootstrap, &draft);
        draft_fini(&draft);
    }
    return reported(set, problems);
}

struct updates {
    const struct resource_update *items;
    size_t count;
};

static bool is_named(const struct resource_update *update, struct span name) {
    for (size_t i = 0; i < update->count; i++)
        if (span_eq(update->items[i].name, name))
            return true;
    return false;
}

static bool stays(enum resource_type type, const struct resource *item, void *arg) {
    const struct updates *updates = arg;
    for (size_t i = 0; i < updates->count; i++) {
        const struct resource_update *update = &updates->items[i];
        if (type == update->type && span_eq(item->origin, update->origin) &&
            (type != RESOURCE_ROUTES || is_named(update, item->name)))
            return false;
    }
    return true;
}

typedef bool (*keep_fn)(enum resource_type type, const struct resource *item, void *arg);

/* What stays of base, with room for what the updates bring. False: memory is short. */
static bool draft_where(struct draft *draft, const struct resources *base, keep_fn keep, void *arg,
                        const struct updates *updates) {
    size_t room[RESOURCE_TYPES];
    for (int type = 0; type < RESOURCE_TYPES; type++)
        room[type] = base->of[type].count;
    for (size_t i = 0; i < updates->count; i++)
        room[updates->items[i].type] += updates->items[i].count;
    if (!draft_init(draft, room))
        return false;
    for (int type = 0; type < RESOURCE_TYPES; type++)
        for (size_t i = 0; i < base->of[type].count; i++)
            if (keep(type, &base->of[type].items[i], arg))
                draft_add(draft, type, &base->of[type].items[i]);
    return true;
}

struct resources *resources_where(const struct resources *base, keep_fn keep, void *arg) {
    struct draft draft;
    if (!draft_where(&draft, base, keep, arg, &(struct updates){0}))
        return NULL;
    struct resources *set = seal(base->bootstrap, &draft);
    draft_fini(&draft);
    return set;
}

static void draft_add_update(struct draft *draft, const struct resource_update *update,
                             const struct resources *base) {
    ASSERT(!span_eq(update->origin, RESOURCE_STATIC));
    for (size_t i = 0; i < update->count; i++) {
        struct resource item = {.name = update->items[i].name,
                                .message = update->items[i].message,
                                .config = update->config,
                                .version = update->version,
                                .origin = update->origin,
                                .since_wall_ns = clock_wall_ns()};
        draft_add_new(draft, update->type, item, base);
    }
}

struct resources *resources_with(const struct resources *base, const struct resource_update *items,
                                 size_t count, struct cfg_problems *problems) {
    struct updates updates = {items, count};
    struct draft draft;
    struct resources *set = NULL;
    if (draft_where(&draft, base, stays, &updates, &updates)) {
        for (size_t i = 0; i < count; i++)
            draft_add_update(&draft, &items[i], base);
        set = seal(base->bootstrap, &draft);
        draft_fini(&draft);
    }
    return reported(set, problems);
}

/* ---- its hash ---- */

static uint64_t add_u64(uint64_t hash, uint64_t value) {
    return span_hash(hash, span_make((const char *)&value, sizeof value));
}

/* Static ones are in the bootstrap. The others by name: which file was read first makes no difference. Texts were hashed when
 * they were read; to write all of it out again would be a large part of a reload. */
uint64_t resources_hash(const struct resources *resources) {
    uint64_t hash = add_u64(SPAN_HASH, config_text_hash(resources->bootstrap));
    for (uint64_t type = 0; type < RESOURCE_TYPES; type++)
        for (size_t i = 0; i < resources->of[type].count; i++) {
            const struct resource *item = resources->of[type].by_name[i];
            if (span_eq(item->origin, RESOURCE_STATIC))
                continue;
            hash = add_u64(add_u64(hash, type), item->name.len);
            hash = add_u64(span_hash(hash, item->name), config_text_hash(item->config));
        }
    return hash;
}
