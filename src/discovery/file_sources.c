/* file_sources: a list of files, and one coroutine that looks at those that changed.
 *
 *    file_watch ──changed──► [source] [source] ... ──SETTLE_MS──► a round:
 *
 *      read what changed ─► which routes do listeners ask for now? read those, too ─► offer all of it at once
 *                                                                                      │ refused, and more than one
 *                                    clusters, then listeners, then routes, each alone ◄┘
 *
 * Files that belong together change together: a route to a cluster that comes with it, a cluster that goes with its
 * last route. So all is offered at once, and only when that is refused each for itself, to find whose fault it is; who
 * is refused is held, and offered again with the next change, since what it lacked may come with that.
 *
 * Sources belong to the coroutine: to that of file_sources_start before there is one of their own, follow(). */
#include "discovery/file_sources.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/discovery_config.h"
#include "discovery/discovery.h"
#include "discovery/file_source.h"
#include "discovery/route_asks.h"
#include "io/file_watch.h"
#include "rt/foreign.h"
#include "rt/sync.h"

LOG_COMPONENT(file_sources, "discovery_files");

/* Watches of files that changed together are told of one after the other. */
enum { SETTLE_MS = 20 };

static struct list sources = {&sources, &sources};
static struct file_source_how how_to_read;
static struct g *_Atomic follower; /* the coroutine, which does not end; NULL: there is none yet */
static _Atomic bool look_again;    /* what runs was changed by somebody else */

static struct file_source *source_at(struct list *node) {
    return container_of(node, struct file_source, node);
}

static void wake(void) {
    struct g *g = follower;
    if (g)
        rt_ready(g);
}

/* The one that is there, or a new one. NULL: memory is short. */
static struct file_source *source_of(enum resource_type type,
                                     const struct cfg_config_source *from) {
    for (struct list *node = sources.next; node != &sources; node = node->next) {
        struct file_source *source = source_at(node);
        if (source->status.type == type &&
            span_eq(span_of(source->status.origin), cfg_source_path(from)))
            return source;
    }
    struct file_source *source = file_source_new(type, from, wake);
    if (source)
        list_push_back(&sources, &source->node);
    return source;
}

/* ---- what has to be there ---- */

void file_sources_require(const struct resources *set, struct cfg_problems *problems) {
    const struct cfg_dynamic_resources *named = config_bootstrap(set->bootstrap)->dynamic_resources;
    if (named && named->lds_config)
        file_source_require(named->lds_config, problems);
    if (named && named->cds_config)
        file_source_require(named->cds_config, problems);
    struct route_asks asks = {0};
    if (route_asks_of(set, &asks) != 0)
        problems->lost = true;
    file_source_require_asked(&asks, problems);
    route_asks_fini(&asks);
}

/* ---- rounds ---- */

struct reading {
    struct file_source *source;
    struct discovery_file *file; /* NULL: problems say why */
    struct cfg_problems problems;
};

static void read_source(void *arg) {
    struct reading *reading = arg;
    reading->file = file_source_read(reading->source, &how_to_read, &reading->problems);
}

struct entry {
    struct file_source *source;
    struct discovery_file *file; /* owned */
    struct resource_update update;
    struct resource_item *asked; /* of routes: what is asked for; owned */
    bool is_new;                 /* else it was held */
    bool chosen, taken;
};

struct round {
    struct resources *running; /* when it began */
    struct resources *view;    /* the same with the listeners that are new, whoever takes them */
    struct route_asks asks;    /* of the view's listeners */
    struct entry *entries;     /* clusters, listeners, routes */
    size_t count, capacity;
    bool tries_again; /* what is held, though nothing is new */
};

static void round_fini(struct round *round) {
    for (size_t i = 0; i < round->count; i++) {
        discovery_file_free(round->entries[i].file);
        free(round->entries[i].asked);
    }
    free(round->entries);
    route_asks_fini(&round->asks);
    resources_unref(round->view);
    resources_unref(round->running);
}

/* Takes over file. */
static void add_entry(struct round *round, struct file_source *source, struct discovery_file *file,
                      bool is_new) {
    if (round->count == round->capacity) {
        size_t capacity = round->capacity ? 2 * round->capacity : 8;
        struct entry *grown = realloc(round->entries, capacity * sizeof *grown);
        if (!grown) {
            source->changed = true; /* the next round has another try */
            discovery_file_free(file);
            return;
        }
        round->entries = grown;
        round->capacity = capacity;
    }
    round->entries[round->count++] = (struct entry){
        .source = source,
        .file = file,
        .is_new = is_new,
        .update = {.type = source->status.type,
                   .origin = span_of(source->status.origin),
                   .version = file->version,
                   .config = file->config,
                   .items = file->items,
                   .count = file->count},
    };
}

/* Who asks for routes of the source. malloc'ed; *count is 0 without memory. */
static struct discovery_audience *audience_of(const struct round *round,
                                              const struct file_source *source, size_t *count) {
    struct discovery_audience *audience = calloc(round->asks.count + 1, sizeof *audience);
    *count = 0;
    for (size_t i = 0; audience && i < round->asks.count; i++) {
        const struct route_ask *ask = &round->asks.items[i];
        if (source->status.type == RESOURCE_ROUTES &&
            span_eq(cfg_source_path(ask->source), span_of(source->status.origin)))
            audience[(*count)++] = (struct discovery_audience){ask->stat_prefix, ask->name};
    }
    return audience;
}

static void say_refused(const struct round *round, struct file_source *source,
                        const struct discovery_file *file, const struct cfg_problems *problems) {
    size_t count;
    struct discovery_audience *audience = audience_of(round, source, &count);
    discovery_refused(&source->status, file, problems, audience, count);
    free(audience);
}

/* The chosen ones, which were offered then. */
static void say_taken(struct round *round, int64_t offered_wall_ns) {
    struct resources *running = discovery_running();
    for (size_t i = 0; i < round->count; i++) {
        struct entry *entry = &round->entries[i];
        if (!entry->chosen)
            continue;
        const struct discovery_taken taken = {.version = entry->update.version,
                                              .count = entry->update.count,
                                              .offered_wall_ns = offered_wall_ns,
                                              .running = running};
        size_t count;
        struct discovery_audience *audience = audience_of(round, entry->source, &count);
        discovery_accepted(&entry->source->status, &taken, audience, count);
        free(audience);
        entry->taken = true;
    }
    resources_unref(running);
}

static void say_warnings(const struct cfg_problems *problems) {
    for (size_t i = 0; i < problems->count; i++) {
        const struct cfg_problem *problem = &problems->items[i];
        if (problem->kind == CFG_PROBLEM_WARNING)
            LOG(log_file_sources, LOG_WARN, "%.*s:%u: %.*s: %s", (int)problem->mark.file.len,
                problem->mark.file.ptr, problem->mark.line, (int)problem->mark.path.len,
                problem->mark.path.ptr, problem->text);
    }
}

/* What changed among the sources that have routes, or those that have not. */
static void read_changed(struct round *round, bool has_routes) {
    for (struct list *node = sources.next; node != &sources; node = node->next) {
        struct file_source *source = source_at(node);
        if ((source->status.type == RESOURCE_ROUTES) != has_routes ||
            !atomic_exchange(&source->changed, false))
            continue;
        struct reading reading = {.source = source};
        if (blocking_call(read_source, &reading) != 0)
            reading.problems.lost = true;
        bool is_refused = cfg_problems_refuse(&reading.problems);
        uint64_t hash = reading.file ? config_text_hash(reading.file->config) : 0;
        bool is_same = reading.file && source->was_read && source->text_hash == hash;
        source->was_read = !is_refused;
        source->text_hash = hash;
        if (is_refused) {
            discovery_file_free(source->held);
            source->held = NULL;
            say_refused(round, source, reading.file, &reading.problems);
            discovery_file_free(reading.file);
        } else if (is_same) {
            round->tries_again |= source->held != NULL;
            discovery_file_free(reading.file);
        } else {
            say_warnings(&reading.problems);
            discovery_file_free(source->held);
            source->held = NULL;
            add_entry(round, source, reading.file, true);
        }
        cfg_problems_fini(&reading.problems);
    }
}

static void add_held(struct round *round, bool has_routes) {
    for (struct list *node = sources.next; node != &sources; node = node->next) {
        struct file_source *source = source_at(node);
        if (source->held && (source->status.type == RESOURCE_ROUTES) == has_routes) {
            add_entry(round, source, source->held, false);
            source->held = NULL;
        }
    }
}

/* The files of the bootstrap that runs. */
static void name_files(const struct round *round) {
    const struct cfg_dynamic_resources *named =
        config_bootstrap(round->running->bootstrap)->dynamic_resources;
    const struct cfg_config_source *of[RESOURCE_TYPES] = {NULL};
    if (named) {
        of[RESOURCE_LISTENER] = named->lds_config;
        of[RESOURCE_CLUSTER] = named->cds_config;
    }
    for (struct list *node = sources.next; node != &sources; node = node->next)
        source_at(node)->named = false;
    for (int type = 0; type < RESOURCE_TYPES; type++) {
        struct file_source *source = of[type] ? source_of(type, of[type]) : NULL;
        if (source)
            source->named = true;
    }
}

static void find_view(void *arg) {
    struct round *round = arg;
    struct cfg_problems problems = {0}; /* they are told when it is offered */
    struct resource_update updates[2];  /* one source of listeners, and what was held of it */
    size_t count = 0;
    for (size_t i = 0; i < round->count && count < 2; i++)
        if (round->entries[i].update.type == RESOURCE_LISTENER)
            updates[count++] = round->entries[i].update;
    round->view = count ? resources_with(round->running, updates, count, &problems)
                        : resources_ref(round->running);
    cfg_problems_fini(&problems);
    if (round->view && route_asks_of(round->view, &round->asks) != 0)
        round->asks = (struct route_asks){0};
}

/* A file of routes is read, again if need be, when it is asked for one that does not run. */
static void name_asked(const struct round *round) {
    for (size_t i = 0; i < round->asks.count; i++) {
        const struct route_ask *ask = &round->asks.items[i];
        struct file_source *source = source_of(RESOURCE_ROUTES, ask->source);
        if (!source)
            continue;
        const struct resource *there = resources_find(round->running, RESOURCE_ROUTES, ask->name);
        if (!there || !span_eq(there->origin, span_of(source->status.origin))) {
            source->changed = true;
            source->was_read = false;
        }
        source->named = true;
    }
}

/* False: it is refused, or nobody asks for any of it. */
static bool select_asked(const struct round *round, struct entry *entry) {
    struct cfg_problems problems = {0};
    entry->asked = route_asks_select(&round->asks, entry->update.origin, entry->file,
                                     &entry->update.count, &problems);
    entry->update.items = entry->asked;
    bool ok = !cfg_problems_refuse(&problems);
    if (!ok)
        say_refused(round, entry->source, entry->file, &problems);
    cfg_problems_fini(&problems);
    return ok && entry->update.count > 0;
}

static void select_routes(struct round *round) {
    size_t kept = 0;
    for (size_t i = 0; i < round->count; i++) {
        struct entry *entry = &round->entries[i];
        if (entry->update.type == RESOURCE_ROUTES && !select_asked(round, entry)) {
            discovery_file_free(entry->file);
            free(entry->asked);
        } else {
            round->entries[kept++] = *entry;
        }
    }
    round->count = kept;
}

static int rank(enum resource_type type) {
    return type == RESOURCE_CLUSTER ? 0 : type == RESOURCE_LISTENER ? 1 : 2;
}

static int compare_entries(const void *a, const void *b) {
    const struct entry *left = a, *right = b;
    return rank(left->update.type) - rank(right->update.type);
}

/* ---- offering ---- */

/* The chosen ones, all or none. */
static int offer_chosen(struct round *round, struct cfg_problems *problems) {
    struct resource_update *updates = calloc(round->count + 1, sizeof *updates);
    if (!updates) {
        problems->lost = true;
        return -ENOMEM;
    }
    size_t count = 0;
    for (size_t i = 0; i < round->count; i++)
        if (round->entries[i].chosen)
            updates[count++] = round->entries[i].update;
    int64_t offered_wall_ns = clock_wall_ns();
    int rc = discovery_offer(updates, count, problems);
    free(updates);
    if (rc == 0) {
        say_taken(round, offered_wall_ns);
        say_warnings(problems);
    }
    return rc;
}

/* One, and with listeners also the routes that were not taken yet. */
static size_t choose(struct round *round, const struct entry *one, bool with_routes) {
    size_t count = 0;
    for (size_t i = 0; i < round->count; i++) {
        struct entry *entry = &round->entries[i];
        entry->chosen =
            entry == one || (with_routes && entry->update.type == RESOURCE_ROUTES && !entry->taken);
        count += entry->chosen;
    }
    return count;
}

struct question {
    const struct resource_update *update;
    struct resources *running;
    bool answer;
};

static void find_asked(void *arg) {
    struct question *question = arg;
    struct route_asks asks = {0};
    if (route_asks_of(question->running, &asks) != 0)
        return;
    for (size_t i = 0; i < question->update->count; i++)
        question->answer |= route_asks_find(&asks, question->update->items[i].name,
                                            question->update->origin) != NULL;
    route_asks_fini(&asks);
}

/* Routes of listeners that were refused are nobody's. */
static bool is_asked_now(const struct entry *entry) {
    struct question question = {.update = &entry->update, .running = discovery_running()};
    bool was_asked = blocking_call(find_asked, &question) == 0 && question.answer;
    resources_unref(question.running);
    return was_asked;
}

static void offer_alone(struct round *round, struct entry *entry) {
    if (entry->update.type == RESOURCE_ROUTES && !is_asked_now(entry))
        return;
    struct cfg_problems problems = {0};
    bool is_listeners = entry->update.type == RESOURCE_LISTENER;
    int rc = -EINVAL;
    if (is_listeners && choose(round, entry, true) > 1)
        rc = offer_chosen(round, &problems);
    if (rc != 0) {
        cfg_problems_fini(&problems);
        choose(round, entry, false);
        rc = offer_chosen(round, &problems);
    }
    if (rc == -EINVAL || rc == -ENOMEM) {
        say_refused(round, entry->source, entry->file, &problems);
        entry->source->held = entry->file;
        entry->file = NULL;
    }
    cfg_problems_fini(&problems);
}

static void offer_all(struct round *round) {
    struct cfg_problems problems = {0};
    for (size_t i = 0; i < round->count; i++)
        round->entries[i].chosen = true;
    int rc = round->count > 1 ? offer_chosen(round, &problems) : -EINVAL;
    cfg_problems_fini(&problems);
    for (size_t i = 0; i < round->count && rc != 0; i++)
        if (!round->entries[i].taken)
            offer_alone(round, &round->entries[i]);
}

/* ---- a round ---- */

static void forget(struct file_source *source) {
    list_remove(&source->node);
    LOG(log_file_sources, LOG_INFO, "%s is not followed any more", source->status.origin);
    file_source_free(source);
}

/* What it said goes with it. */
static void drop(const struct round *round, struct file_source *source) {
    struct cfg_problems problems = {0};
    const struct resource_update nothing = {.type = source->status.type,
                                            .origin = span_of(source->status.origin)};
    /* Routes went with the last listener that asked for them. */
    bool is_gone = source->status.type == RESOURCE_ROUTES;
    if (is_gone || discovery_offer(&nothing, 1, &problems) == 0)
        forget(source);
    else
        say_refused(round, source, NULL, &problems);
    cfg_problems_fini(&problems);
}

/* Sources that what runs now does not name. */
static void drop_unnamed(void) {
    struct round after = {.running = discovery_running()};
    name_files(&after);
    if (blocking_call(find_view, &after) == 0 && after.view) {
        for (size_t i = 0; i < after.asks.count; i++) {
            struct file_source *source = source_of(RESOURCE_ROUTES, after.asks.items[i].source);
            if (source)
                source->named = true;
        }
        for (struct list *node = sources.next, *next; node != &sources; node = next) {
            next = node->next;
            if (!source_at(node)->named)
                drop(&after, source_at(node));
        }
    }
    round_fini(&after);
}

static void run_round(void) {
    struct round round = {.running = discovery_running(),
                          .tries_again = atomic_exchange(&look_again, false)};
    name_files(&round);
    read_changed(&round, false);
    add_held(&round, false);
    if (blocking_call(find_view, &round) == 0 && round.view) {
        name_asked(&round);
        read_changed(&round, true);
        add_held(&round, true);
        select_routes(&round);
        if (round.count)
            qsort(round.entries, round.count, sizeof *round.entries, compare_entries);
        for (size_t i = 0; i < round.count; i++)
            round.tries_again |= round.entries[i].is_new;
        if (round.tries_again)
            offer_all(&round);
    }
    for (size_t i = 0; i < round.count; i++) { /* what was held, and not tried: as before */
        struct entry *entry = &round.entries[i];
        if (!entry->taken && !entry->is_new && entry->file && !entry->source->held) {
            entry->source->held = entry->file;
            entry->file = NULL;
        }
    }
    round_fini(&round);
    drop_unnamed();
}

static bool has_changed(void) {
    bool changed = look_again;
    for (struct list *node = sources.next; node != &sources; node = node->next)
        changed = changed || source_at(node)->changed;
    return changed;
}

static void follow(void *arg) {
    (void)arg;
    follower = rt_self();
    int rc = 0;
    while (rc == 0) {
        if (file_watch_run() != 0)
            LOG(log_file_sources, LOG_ERROR, "out of memory: changed files are not noticed");
        while (rc == 0 && !has_changed())
            rc = rt_park("files of discovery", RT_FOREVER);
        if (rc == 0)
            rc = rt_sleep_until(clock_mono_ns() + SETTLE_MS * NS_PER_MS);
        if (rc == 0)
            run_round();
    }
    LOG(log_file_sources, LOG_ERROR, "files of discovery are not followed: %s", strerror(-rc));
}

/* There is one as soon as there is something to follow. */
static int start_following(void) {
    static _Atomic bool started;
    if (atomic_exchange(&started, true))
        return 0;
    const struct go_options options = {.name = "discovery of files", .place = RT_ON_P};
    int rc = go_with(&options, follow, NULL);
    if (rc != 0)
        started = false;
    return rc;
}

int file_sources_start(const struct file_source_how *how) {
    how_to_read = *how;
    run_round();
    return sources.next == &sources ? 0 : start_following();
}

void file_sources_look(void) {
    look_again = true;
    if (follower)
        wake();
    else if (start_following() != 0)
        LOG(log_file_sources, LOG_ERROR, "out of memory: files of discovery are not followed");
}
