#include "admin/stat_selection.h"

#include <stdlib.h>

enum { KIND_ALL = 1 << STAT_COUNTER | 1 << STAT_GAUGE | 1 << STAT_HISTOGRAM };

struct collector {
    struct selection *selection;
    size_t capacity;
    unsigned kinds; /* bit of each enum stat_kind that is wanted */
    bool used_only;
    const struct regex *filter; /* NULL: all names */
    int64_t deadline_ns;
    bool too_slow, out_of_memory;
};

static bool type_parse(struct span type, unsigned *kinds) {
    static const struct {
        const char *name;
        unsigned kinds;
    } types[] = {{"All", KIND_ALL},
                 {"Counters", 1 << STAT_COUNTER},
                 {"Gauges", 1 << STAT_GAUGE},
                 {"Histograms", 1 << STAT_HISTOGRAM},
                 {"TextReadouts", 0}}; /* Envoy has them, we have none */
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (span_eq(type, span_of(types[i].name))) {
            *kinds = types[i].kinds;
            return true;
        }
    }
    return false;
}

struct regex *filter_compile(struct span pattern, struct page *page) {
    unsigned depth = 0, deepest = 0;
    for (size_t i = 0; i < pattern.len; i++) {
        if (pattern.ptr[i] == '(' && ++depth > deepest)
            deepest = depth;
        else if (pattern.ptr[i] == ')' && depth > 0)
            depth--;
    }
    if (pattern.len > FILTER_LEN_MAX || deepest > FILTER_NESTING_MAX) {
        page_fail(page, 400, "Invalid regex: longer than %d bytes or more than %d groups deep\n",
                  FILTER_LEN_MAX, FILTER_NESTING_MAX);
        return NULL;
    }
    char error[REGEX_ERROR_MAX];
    struct regex *regex = regex_compile(pattern, REGEX_SEARCH, error);
    if (!regex)
        page_fail(page, 400, "Invalid regex: %s\n", error);
    return regex;
}

static void collect(const struct statistic *stat, void *arg) {
    struct collector *collector = arg;
    struct selection *selection = collector->selection;
    if (collector->too_slow || collector->out_of_memory)
        return;
    if (!(collector->kinds >> stat->kind & 1) || (collector->used_only && !stat_used(stat)))
        return;
    if (collector->filter) {
        bool matches = regex_matches(collector->filter, stat->name);
        collector->too_slow = clock_mono_ns() > collector->deadline_ns;
        if (!matches)
            return;
    }
    if (selection->count == collector->capacity) {
        size_t capacity = collector->capacity ? collector->capacity * 2 : 256;
        const struct statistic **bigger = realloc(selection->items, capacity * sizeof *bigger);
        if (!bigger) {
            collector->out_of_memory = true;
            return;
        }
        selection->items = bigger;
        collector->capacity = capacity;
    }
    selection->items[selection->count++] = stat;
}

bool selection_make(struct selection *selection, const struct query *query, struct page *page) {
    *selection = (struct selection){0};
    struct collector collector = {
        .selection = selection,
        .kinds = KIND_ALL,
        .used_only = query_has(query, "usedonly"),
        .deadline_ns = clock_mono_ns() + FILTER_TIME_NS,
    };
    struct span type = query_find(query, "type");
    if (type.len > 0 && !type_parse(type, &collector.kinds)) {
        page_fail(page, 400, "invalid &type= param");
        return false;
    }
    struct regex *filter = NULL;
    struct span pattern = query_find(query, "filter");
    if (pattern.len > 0) {
        filter = filter_compile(pattern, page);
        if (!filter)
            return false;
        collector.filter = filter;
    }
    stats_each(collect, &collector);
    regex_free(filter);
    if (collector.too_slow)
        page_fail(page, 400, "Invalid regex: matching takes too long\n");
    page->body.failed |= collector.out_of_memory;
    if (collector.too_slow || collector.out_of_memory) {
        selection_fini(selection);
        return false;
    }
    return true;
}

void selection_fini(struct selection *selection) {
    free(selection->items);
    *selection = (struct selection){0};
}
