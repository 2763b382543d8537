/* golang_page: /golang: the Go libraries that are loaded, who may call them, and how their plugins do, as
 * text or as JSON. All of it is in the statistics as well, in more detail; here it stands side by side. */
#include <inttypes.h>
#include <stdlib.h>

#include "admin/json.h"
#include "admin/page.h"
#include "ext/go/go_origin.h"
#include "ext/go/go_plugin.h"
#include "ext/go/go_seats.h"

/* In the order in which they are shown. */
struct number {
    const char *name;
    uint64_t value;
};
struct numbers {
    size_t count;
    struct number list[24];
};

static void add(struct numbers *numbers, const char *name, int64_t value) {
    ASSERT(numbers->count < sizeof numbers->list / sizeof numbers->list[0]);
    /* a gauge may be less than it is for a moment */
    numbers->list[numbers->count++] = (struct number){name, value > 0 ? (uint64_t)value : 0};
}

static void add_seats(struct numbers *out, const struct seat_set *seats,
                      const char *const names[3]) {
    struct seat_counts counts = seat_set_count(seats, NULL);
    add(out, names[0], seat_set_size(seats));
    add(out, names[1], counts.busy);
    add(out, names[2], counts.blocked);
}

/* None before a configuration gave it seats. */
static void library_numbers(const struct go_library *library, struct numbers *out) {
    const struct go_library_stats *stats = &library->stats;
    const struct seat_set *seats = go_seats_of(library, GO_SEATS_OF_WORKERS),
                          *call_seats = go_seats_of(library, GO_SEATS_OF_CALLS);
    out->count = 0;
    if (seats)
        add_seats(out, seats, go_seat_stat_names[GO_SEATS_OF_WORKERS]);
    if (call_seats)
        add_seats(out, call_seats, go_seat_stat_names[GO_SEATS_OF_CALLS]);
    if (!out->count)
        return;
    add(out, "seat_waits", stat_value(stats->seat_waits));
    add(out, "seat_timeouts", stat_value(stats->seat_timeouts));
    if (!seats)
        return;
    add(out, "merges", stat_value(stats->merges));
    add(out, "ends_waiting", stat_value(stats->ends_waiting));
    add(out, "ends_untold", stat_value(stats->ends_untold));
}

/* Of the time of calls there are quantiles beside their number. */
static void plugin_numbers(const struct go_plugin *plugin, struct numbers *out) {
    const struct go_plugin_stats *stats = &plugin->stats;
    struct seat_counts calls = go_plugin_calls(plugin);
    struct stat_summary times;
    stat_summary(stats->read_call_time, &times);
    out->count = 0;
    for (unsigned i = 0; i < GO_PLUGIN_STATS; i++) {
        const char *name = go_plugin_stat_name(plugin->kind, (enum go_plugin_stat)i);
        if (!name)
            continue;
        add(out, name,
            i == GO_STAT_CALLS           ? (int64_t)times.count
            : i == GO_STAT_CALLS_BUSY    ? calls.busy
            : i == GO_STAT_CALLS_BLOCKED ? calls.blocked
                                         : stat_value(stats->read[i]));
        if (i != GO_STAT_CALLS)
            continue;
        add(out, "call_p50_us", (int64_t)stat_quantile_us(&times, 0.5));
        add(out, "call_p99_us", (int64_t)stat_quantile_us(&times, 0.99));
    }
}

static const char *sdk_of(const struct go_library *library) {
    return library->elf.sdk_version[0] ? library->elf.sdk_version : "unknown";
}

/* ---- what Go's collector is told, and what there is for it ---- */

/* Its own wish or the process's. */
static const char *setting(const char *own, const char *variable, const char *otherwise) {
    const char *of_process = getenv(variable);
    return own[0] ? own : of_process && of_process[0] ? of_process : otherwise;
}

static const char *gogc_of(const struct go_library *library) {
    return setting(library->gogc, "GOGC", "100");
}

static const char *limit_of(const struct go_library *library) {
    return setting(library->memory_limit, "GOMEMLIMIT", "off");
}

/* ---- text: library::name::value and library::plugin::name::value, as /clusters has it ---- */

static void put_plugin(struct text *out, const struct go_plugin *plugin) {
    struct numbers numbers;
    struct span id = span_of(plugin->library->id);
    plugin_numbers(plugin, &numbers);
    text_printf(out, "%s::%.*s::kind::%s\n", id.ptr, (int)plugin->name.len, plugin->name.ptr,
                go_plugin_kind_names[plugin->kind]);
    for (size_t i = 0; i < numbers.count; i++)
        text_printf(out, "%s::%.*s::%s::%" PRIu64 "\n", id.ptr, (int)plugin->name.len,
                    plugin->name.ptr, numbers.list[i].name, numbers.list[i].value);
}

static void put_library(struct text *out, const struct go_library *library) {
    const struct {
        const char *name, *value;
    } facts[] = {
        {"path", library->path},
        {"sdk", sdk_of(library)},
        {"go", library->elf.go_version},
        {"gogc", gogc_of(library)},
        {"go_memory_limit", limit_of(library)},
    };
    struct numbers numbers;
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++)
        text_printf(out, "%s::%s::%s\n", library->id, facts[i].name, facts[i].value);
    library_numbers(library, &numbers);
    for (size_t i = 0; i < numbers.count; i++)
        text_printf(out, "%s::%s::%" PRIu64 "\n", library->id, numbers.list[i].name,
                    numbers.list[i].value);
    for (const struct go_plugin *plugin = go_plugin_first(library); plugin; plugin = plugin->next)
        put_plugin(out, plugin);
}

/* ---- JSON ---- */

static void json_numbers(struct json *json, const struct numbers *numbers) {
    for (size_t i = 0; i < numbers->count; i++) {
        json_key(json, numbers->list[i].name);
        json_u64(json, numbers->list[i].value);
    }
}

static void json_plugin(struct json *json, const struct go_plugin *plugin) {
    struct numbers numbers;
    plugin_numbers(plugin, &numbers);
    json_open(json, '{');
    json_field(json, "name", plugin->name);
    json_field(json, "kind", span_of(go_plugin_kind_names[plugin->kind]));
    json_numbers(json, &numbers);
    json_close(json, '}');
}

static void json_library(struct json *json, const struct go_library *library) {
    struct numbers numbers;
    json_open(json, '{');
    json_field(json, "name", span_of(library->id));
    json_field(json, "path", span_of(library->path));
    json_field(json, "sdk", span_of(sdk_of(library)));
    json_field(json, "go", span_of(library->elf.go_version));
    json_field(json, "gogc", span_of(gogc_of(library)));
    json_field(json, "go_memory_limit", span_of(limit_of(library)));
    library_numbers(library, &numbers);
    json_numbers(json, &numbers);
    json_key(json, "plugins");
    json_open(json, '[');
    for (const struct go_plugin *plugin = go_plugin_first(library); plugin; plugin = plugin->next)
        json_plugin(json, plugin);
    json_close(json, ']');
    json_close(json, '}');
}

void page_golang(const struct query *query, struct page *page) {
    const struct go_origin *origin = go_origin_first(); /* of each the copy that serves */
    if (!span_eq(query_find(query, "format"), SPAN_LIT("json"))) {
        for (; origin; origin = origin->next)
            put_library(&page->body, go_origin_current(origin));
        return;
    }
    page->content_type = content_type_json;
    struct json json = {.out = &page->body, .style = JSON_PRETTY};
    json_open(&json, '{');
    json_key(&json, "libraries");
    json_open(&json, '[');
    for (; origin; origin = origin->next)
        json_library(&json, go_origin_current(origin));
    json_close(&json, ']');
    json_close(&json, '}');
}
