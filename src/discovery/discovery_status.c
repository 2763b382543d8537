#include "discovery/discovery_status.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/xxhash.h"
#include "discovery/discovery_file.h"

LOG_COMPONENT(discovery, "discovery");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list, and of all texts in it */
static struct list statuses = {&statuses, &statuses};

int discovery_status_init(struct discovery_status *status, enum resource_type type,
                          struct span origin) {
    *status = (struct discovery_status){.type = type, .origin = strndup(origin.ptr, origin.len)};
    if (!status->origin)
        return -ENOMEM;
    pthread_mutex_lock(&lock);
    list_push_back(&statuses, &status->node);
    pthread_mutex_unlock(&lock);
    return 0;
}

static void free_refusals(struct discovery_refusal *refusals, size_t refusal_count) {
    for (size_t i = 0; i < refusal_count; i++) {
        free(refusals[i].name);
        free(refusals[i].details);
    }
    free(refusals);
}

void discovery_status_fini(struct discovery_status *status) {
    pthread_mutex_lock(&lock);
    list_remove(&status->node);
    pthread_mutex_unlock(&lock);
    free(status->origin);
    free(status->version);
    free(status->refused_version);
    free(status->details);
    free_refusals(status->refusals, status->refusal_count);
}

void discovery_each_status(void (*fn)(const struct discovery_status *status, void *arg),
                           void *arg) {
    pthread_mutex_lock(&lock);
    for (struct list *node = statuses.next; node != &statuses; node = node->next)
        fn(container_of(node, struct discovery_status, node), arg);
    pthread_mutex_unlock(&lock);
}

static void look_for_refusal(const struct discovery_status *status, void *arg) {
    *(bool *)arg |= status->details != NULL;
}

bool discovery_has_refused(void) {
    bool has = false;
    discovery_each_status(look_for_refusal, &has);
    return has;
}

/* ---- statistics ---- */

static struct statistic *stat_of(enum resource_type type, const struct discovery_audience *who,
                                 enum stat_kind kind, const char *suffix) {
    char name[1024], metric[128];
    if (type != RESOURCE_ROUTES) {
        snprintf(name, sizeof name, "%s.%s",
                 type == RESOURCE_LISTENER ? "listener_manager.lds" : "cluster_manager.cds",
                 suffix);
        return stats_get_plain(kind, name);
    }
    const struct stat_tag tags[] = {
        {SPAN_LIT("envoy.http_conn_manager_prefix"), who->stat_prefix},
        {SPAN_LIT("envoy.rds_route_config"), who->name},
    };
    snprintf(name, sizeof name, "http.%.*s.rds.%.*s.%s", (int)who->stat_prefix.len,
             who->stat_prefix.ptr, (int)who->name.len, who->name.ptr, suffix);
    snprintf(metric, sizeof metric, "http.rds.%s", suffix);
    return stats_get(kind, span_of(name), span_of(metric), tags, 2);
}

enum outcome { SUCCESS, REJECTED, FAILURE, OUTCOMES };

/* Whether the update changed one of the source, or of routes the one that is asked for. */
static bool has_changed(const struct discovery_status *status, const struct discovery_taken *taken,
                        const struct discovery_audience *who) {
    const struct resource_list *list = &taken->running->of[status->type];
    for (size_t i = 0; i < list->count; i++) {
        const struct resource *item = &list->items[i];
        if (item->since_wall_ns >= taken->offered_wall_ns &&
            span_eq(item->origin, span_of(status->origin)) &&
            (!who || span_eq(item->name, who->name)))
            return true;
    }
    return false;
}

static void note_taken(const struct discovery_status *status, const struct discovery_taken *taken,
                       const struct discovery_audience *who) {
    const enum resource_type type = status->type;
    int64_t now_ms = clock_wall_ns() / NS_PER_MS;
    stat_set(stat_of(type, who, STAT_GAUGE, "update_time"), now_ms);
    stat_set(stat_of(type, who, STAT_GAUGE, "version"), (int64_t)xxhash64(taken->version));
    if (type == RESOURCE_LISTENER || !has_changed(status, taken, who))
        return; /* of listeners Envoy has none */
    stat_inc(stat_of(type, who, STAT_COUNTER, "config_reload"), STATS_SHARD_FOREIGN);
    stat_set(stat_of(type, who, STAT_GAUGE, "config_reload_time_ms"), now_ms);
}

/* taken: when it was. */
static void count(const struct discovery_status *status, enum outcome outcome,
                  const struct discovery_taken *taken, const struct discovery_audience *audience,
                  size_t audience_count) {
    static const char *const names[] = {"update_success", "update_rejected", "update_failure"};
    bool is_routes = status->type == RESOURCE_ROUTES;
    for (size_t i = 0; i < (is_routes ? audience_count : 1); i++) {
        const struct discovery_audience *who = is_routes ? &audience[i] : NULL;
        stat_inc(stat_of(status->type, who, STAT_COUNTER, "update_attempt"), STATS_SHARD_FOREIGN);
        for (int of = 0; of < OUTCOMES; of++)
            stat_add(stat_of(status->type, who, STAT_COUNTER, names[of]), STATS_SHARD_FOREIGN,
                     of == (int)outcome);
        if (taken)
            note_taken(status, taken, who);
    }
}

/* ---- what became of it ---- */

static const char *plural(enum resource_type type) {
    static const char *const names[] = {"listeners", "clusters", "route configurations"};
    return names[type];
}

static void put(char **into, char *text) {
    free(*into);
    *into = text;
}

/* Takes over refusals. */
static void put_refusals(struct discovery_status *status, struct discovery_refusal *refusals,
                         size_t refusal_count) {
    free_refusals(status->refusals, status->refusal_count);
    status->refusals = refusals;
    status->refusal_count = refusal_count;
}

void discovery_accepted(struct discovery_status *status, const struct discovery_taken *taken,
                        const struct discovery_audience *audience, size_t audience_count) {
    char *copy = strndup(taken->version.ptr, taken->version.len);
    pthread_mutex_lock(&lock);
    put(&status->version, copy); /* without memory for it none is shown */
    put(&status->refused_version, NULL);
    put(&status->details, NULL);
    put_refusals(status, NULL, 0);
    pthread_mutex_unlock(&lock);
    count(status, SUCCESS, taken, audience, audience_count);
    LOG(log_discovery, LOG_INFO, "%s of %s: version '%.*s' is taken: %zu", plural(status->type),
        status->origin, (int)taken->version.len, taken->version.ptr, taken->count);
}

/* On one line. NULL: memory is short. */
static char *text_of(const struct cfg_problems *problems) {
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return NULL;
    cfg_problems_print(problems, out);
    if (fclose(out) != 0 || !text) {
        free(text);
        return NULL;
    }
    while (len > 0 && text[len - 1] == '\n')
        text[--len] = '\0';
    for (char *at = text; (at = strchr(at, '\n'));)
        *at = ';';
    return text;
}

/* The resource that a problem is about; empty: none of this file, or it has no name. */
static struct span name_of(const struct cfg_problem *problem, const char *origin,
                           const struct discovery_file *file) {
    static const struct span list = SPAN_INIT("resources[");
    struct span path = problem->mark.path;
    if (!file || !span_eq(problem->mark.file, span_of(origin)) || !span_starts_with(path, list))
        return span_none();
    size_t index = strtoul(path.ptr + list.len, NULL, 10); /* paths of problems end in NUL */
    return index < file->name_count ? file->names[index] : span_none();
}

/* The one for the name, or one more, for which there is room. NULL: memory is short. */
static struct discovery_refusal *refusal_for(struct discovery_refusal *refusals, size_t *count,
                                             struct span name) {
    for (size_t i = 0; i < *count; i++)
        if (name.len == 0 ? !refusals[i].name
                          : refusals[i].name && span_eq(span_of(refusals[i].name), name))
            return &refusals[i];
    struct discovery_refusal *added = &refusals[*count];
    if (name.len) {
        added->name = strndup(name.ptr, name.len);
        if (!added->name)
            return NULL;
    }
    ++*count;
    return added;
}

static bool append(struct discovery_refusal *refusal, const struct cfg_problem *problem) {
    const struct cfg_problems one = {.items = (struct cfg_problem *)(uintptr_t)problem, .count = 1};
    char *said = text_of(&one), *joined = NULL;
    if (said && !refusal->details) {
        refusal->details = said;
        return true;
    }
    if (said && asprintf(&joined, "%s;%s", refusal->details, said) < 0)
        joined = NULL;
    free(said);
    if (!joined)
        return false;
    put(&refusal->details, joined);
    return true;
}

/* Problems by the resources that they are about. False: memory is short. */
static bool sort_problems(const struct cfg_problems *problems, const char *origin,
                          const struct discovery_file *file, struct discovery_refusal **out,
                          size_t *out_count) {
    struct discovery_refusal *refusals = calloc(problems->count + 1, sizeof *refusals);
    size_t refusal_count = 0;
    bool ok = refusals;
    for (size_t i = 0; ok && i < problems->count; i++) {
        const struct cfg_problem *problem = &problems->items[i];
        if (problem->kind == CFG_PROBLEM_WARNING)
            continue;
        struct discovery_refusal *refusal =
            refusal_for(refusals, &refusal_count, name_of(problem, origin, file));
        ok = refusal && append(refusal, problem);
    }
    if (ok && refusal_count == 0) { /* memory was short for the problems */
        refusals[0].details = text_of(problems);
        ok = refusals[refusal_count++].details;
    }
    if (ok) {
        *out = refusals;
        *out_count = refusal_count;
    } else if (refusals) {
        free_refusals(refusals, refusal_count);
    }
    return ok;
}

/* As Envoy counts: what could not be parsed is a failure, what was read and is wrong is rejected. All that is said of a
 * text that is no YAML is said of the whole file. */
static enum outcome outcome_of(const struct discovery_file *file,
                               const struct cfg_problems *problems) {
    bool is_read = file;
    for (size_t i = 0; i < problems->count; i++)
        is_read = is_read || problems->items[i].mark.path.len > 0;
    return is_read ? REJECTED : FAILURE;
}

void discovery_refused(struct discovery_status *status, const struct discovery_file *file,
                       const struct cfg_problems *problems,
                       const struct discovery_audience *audience, size_t audience_count) {
    struct discovery_refusal *refusals = NULL;
    size_t refusal_count = 0;
    char *details = text_of(problems);
    char *copy = file ? strndup(file->version.ptr, file->version.len) : strdup("");
    if (!details || !copy ||
        !sort_problems(problems, status->origin, file, &refusals, &refusal_count)) {
        free(details);
        free(copy);
        LOG(log_discovery, LOG_ERROR, "%s of %s are refused, and memory is short",
            plural(status->type), status->origin);
        return;
    }
    bool was_told = status->details && strcmp(status->details, details) == 0 &&
                    strcmp(status->refused_version, copy) == 0;
    pthread_mutex_lock(&lock);
    put(&status->refused_version, copy);
    put(&status->details, details);
    put_refusals(status, refusals, refusal_count);
    if (!was_told)
        status->refused_wall_ns = clock_wall_ns();
    pthread_mutex_unlock(&lock);
    if (was_told)
        return;
    count(status, outcome_of(file, problems), NULL, audience, audience_count);
    LOG(log_discovery, LOG_WARN, "%s of %s: %s%s%s refused%s: %s", plural(status->type),
        status->origin, copy[0] ? "version '" : "", copy[0] ? copy : "what is there",
        copy[0] ? "' is" : " is", status->version ? ", what was there before goes on" : "",
        details);
}
