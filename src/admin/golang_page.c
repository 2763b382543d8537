/* golang_page: /golang: the Go libraries that are loaded, who may call them, and how their plugins do, as
 * text or as JSON. All of it is in the statistics as well, in more detail; here it stands side by side. */
#include <inttypes.h>

#include "admin/json.h"
#include "admin/page.h"
#include "ext/go/go_library.h"
#include "ext/go/go_plugin.h"

/* In the order in which they are shown. */
struct number {
    const char *name;
    int64_t value;
};
enum { LIBRARY_NUMBERS = 7, PLUGIN_NUMBERS = 7 };

static int64_t value_of(const struct statistic *stat) {
    int64_t value = stat_value(stat);
    return value > 0 ? value : 0; /* a gauge may be less for a moment */
}

static void library_numbers(const struct go_library *library, const struct seat_set *seats,
                            struct number out[LIBRARY_NUMBERS]) {
    const struct go_library_stats *stats = &library->stats;
    struct seat_counts counts = seat_set_count(seats);
    const struct number numbers[LIBRARY_NUMBERS] = {
        {"seats", seat_set_size(seats)},
        {"seats_busy", counts.busy},
        {"seats_blocked", counts.blocked},
        {"seat_waits", value_of(stats->seat_waits)},
        {"seat_timeouts", value_of(stats->seat_timeouts)},
        {"ends_waiting", value_of(stats->ends_waiting)},
        {"ends_untold", value_of(stats->ends_untold)},
    };
    memcpy(out, numbers, sizeof numbers);
}

static void plugin_numbers(const struct go_plugin *plugin, struct number out[PLUGIN_NUMBERS]) {
    const struct go_plugin_stats *stats = &plugin->stats;
    struct stat_summary times;
    stat_summary(stats->read.call_times, &times);
    const struct number numbers[PLUGIN_NUMBERS] = {
        {"requests", value_of(stats->read.requests)},
        {"calls", (int64_t)times.count},
        {"call_p50_us", (int64_t)stat_quantile_us(&times, 0.5)},
        {"call_p99_us", (int64_t)stat_quantile_us(&times, 0.99)},
        {"panics", value_of(stats->read.panics)},
        {"local_replies", value_of(stats->read.local_replies)},
        {"unfinalized_requests", value_of(stats->read.unfinalized)},
    };
    memcpy(out, numbers, sizeof numbers);
}

/* NULL before an HTTP filter of it was configured: then it has no seats, and no plugins. */
static const struct seat_set *seats_of(const struct go_library *library) {
    return atomic_load_explicit(&library->seats, memory_order_acquire); /* go_seats_settle */
}

static const char *sdk_of(const struct go_library *library) {
    return library->elf.sdk_version[0] ? library->elf.sdk_version : "unknown";
}

/* ---- text: library::name::value and library::plugin::name::value, as /clusters has it ---- */

static void put_plugin(struct text *out, const struct go_plugin *plugin) {
    struct number numbers[PLUGIN_NUMBERS];
    plugin_numbers(plugin, numbers);
    for (size_t i = 0; i < PLUGIN_NUMBERS; i++)
        text_printf(out, "%s::%.*s::%s::%" PRId64 "\n", plugin->library->id, (int)plugin->name.len,
                    plugin->name.ptr, numbers[i].name, numbers[i].value);
}

static void put_library(struct text *out, const struct go_library *library) {
    text_printf(out, "%s::path::%s\n%s::sdk::%s\n%s::go::%s\n", library->id, library->path,
                library->id, sdk_of(library), library->id, library->elf.go_version);
    const struct seat_set *seats = seats_of(library);
    if (!seats)
        return;
    struct number numbers[LIBRARY_NUMBERS];
    library_numbers(library, seats, numbers);
    for (size_t i = 0; i < LIBRARY_NUMBERS; i++)
        text_printf(out, "%s::%s::%" PRId64 "\n", library->id, numbers[i].name, numbers[i].value);
    for (const struct go_plugin *plugin = go_plugin_first(library); plugin; plugin = plugin->next)
        put_plugin(out, plugin);
}

/* ---- JSON ---- */

static void json_numbers(struct json *json, const struct number *numbers, size_t count) {
    for (size_t i = 0; i < count; i++) {
        json_key(json, numbers[i].name);
        json_u64(json, (uint64_t)numbers[i].value);
    }
}

static void json_plugin(struct json *json, const struct go_plugin *plugin) {
    struct number numbers[PLUGIN_NUMBERS];
    plugin_numbers(plugin, numbers);
    json_open(json, '{');
    json_field(json, "name", plugin->name);
    json_numbers(json, numbers, PLUGIN_NUMBERS);
    json_close(json, '}');
}

static void json_library(struct json *json, const struct go_library *library) {
    json_open(json, '{');
    json_field(json, "name", span_of(library->id));
    json_field(json, "path", span_of(library->path));
    json_field(json, "sdk", span_of(sdk_of(library)));
    json_field(json, "go", span_of(library->elf.go_version));
    const struct seat_set *seats = seats_of(library);
    if (seats) {
        struct number numbers[LIBRARY_NUMBERS];
        library_numbers(library, seats, numbers);
        json_numbers(json, numbers, LIBRARY_NUMBERS);
    }
    json_key(json, "plugins");
    json_open(json, '[');
    for (const struct go_plugin *plugin = go_plugin_first(library); plugin; plugin = plugin->next)
        json_plugin(json, plugin);
    json_close(json, ']');
    json_close(json, '}');
}

void page_golang(const struct query *query, struct page *page) {
    const struct go_library *library = go_library_first();
    if (!span_eq(query_find(query, "format"), SPAN_LIT("json"))) {
        for (; library; library = library->next)
            put_library(&page->body, library);
        return;
    }
    page->content_type = content_type_json;
    struct json json = {.out = &page->body, .style = JSON_PRETTY};
    json_open(&json, '{');
    json_key(&json, "libraries");
    json_open(&json, '[');
    for (; library; library = library->next)
        json_library(&json, library);
    json_close(&json, ']');
    json_close(&json, '}');
}
