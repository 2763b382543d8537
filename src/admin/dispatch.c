/* dispatch: from method and path to a page. One table says what there is; /help and the answer to
 * an unknown path are printed from it, so they cannot be out of date. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "admin/page.h"
#include "http/path.h"
#include "rt/rt.h"

const char content_type_json[] = "application/json";
const char content_type_text[] = "text/plain; charset=UTF-8";
const char content_type_html[] = "text/html; charset=UTF-8";
const char content_type_bytes[] = "application/octet-stream";

/* What needs POST. */
enum mutation { READS, CHANGES, CHANGES_BY_PARAMETERS };

struct route {
    const char *path;
    void (*make)(const struct query *query, struct page *page);
    enum mutation mutation;
    const char *help;
    const char *params; /* further lines of the help, each ending in a newline, or NULL */
};

static const struct route routes[] = {
    {"/", page_home, READS, "Admin home page", NULL},
    {"/certs", page_certs, READS, "print certs on machine", NULL},
    {"/clusters", page_clusters, READS, "upstream cluster status",
     "filter: Regular expression (RE2 syntax) for filtering clusters by name\n"
     "format: File format to use; One of (text, json)\n"},
    {"/config_dump", page_config_dump, READS, "dump current configs", NULL},
    {"/config/reload", page_config_reload, CHANGES,
     "read the configuration's file again; the answer says what changed, or why it was refused",
     NULL},
    {"/config/rollout", page_config_rollout, CHANGES, "end the rollout of a route_config",
     "route_config: which, as /config/rollouts has it\n"
     "action: One of (promote, withdraw): it serves all, or none\n"},
    {"/config/rollouts", page_config_rollouts, READS,
     "print rollouts of route_configs: state, share, what was seen of both, as JSON", NULL},
    {"/crashes", page_crashes, READS, "reports of processes that died",
     "format: One of (html, json); html when absent\n"
     "file: the report of that name\n"},
    {"/debug/flame", page_flame_data, READS, "stacks for the flame graph, as JSON",
     "profile: One of (cpu, goroutine, heap: in use, allocs: since the start, cycle: allocated in "
     "the last cycle)\n"
     "seconds: how long, for cpu; at most 120, 30 when absent\n"
     "min_age, gc: for heap, as of /debug/pprof/heap\n"},
    {"/debug/heap/spikes", page_heap_spikes, READS,
     "profiles of before and after the memory in use rose suddenly",
     "format: One of (html, json); html when absent\n"
     "file: one of the files that are listed, for go tool pprof\n"},
    {"/debug/pprof/allocs", page_allocs, READS, "who allocated memory, for go tool pprof",
     "cycles: 1: what the last closed cycle allocated, freed or not; since the start when absent\n"
     "debug, gc, seconds: as of /debug/pprof/heap\n"},
    {"/debug/pprof/goroutine", page_goroutine, READS, "print all coroutines with their stacks",
     "debug: One of (0: for go tool pprof, 1: equal stacks together, 2: each coroutine); 0 when "
     "absent\n"},
    {"/debug/pprof/heap", page_heap, READS, "who holds memory, for go tool pprof",
     "debug: One of (0: for go tool pprof, 1: text); 0 when absent\n"
     "gc: 1: closes a cycle before, so that it is of now\n"
     "min_age: only what has lived so long, as 10m or 1h30m\n"
     "seconds: what changes in so many; at most 120\n"},
    {"/debug/pprof/profile", page_profile, READS, "take a CPU profile, for go tool pprof",
     "seconds: how long; at most 120, 30 when absent\n"},
    {"/debug/pprof/rate", page_heap_rate, CHANGES_BY_PARAMETERS,
     "print or change how much of the heap is sampled",
     "bytes: one byte in so many on average; 524288 is usual, 1: every allocation, 0: none\n"},
    {"/debug/pprof/trace", page_trace, READS, "record the scheduler, for chrome://tracing",
     "seconds: how long; at most 60, 1 when absent\n"},
    {"/drain_listeners", page_drain_listeners, CHANGES, "drain listeners",
     "graceful: enter a graceful drain period prior to closing listeners\n"
     "skip_exit: drain the connections but never stop the listeners\n"
     "inboundonly: Drains all inbound listeners\n"},
    {"/extensions", page_extensions, READS,
     "print Go libraries and their copies: versions, what is in flight, memory, as JSON", NULL},
    {"/extensions/reload", page_extensions_reload, CHANGES,
     "load a library from its file again; the answer says why if it is not taken",
     "library_id: which\n"},
    {"/extensions/rollout", page_extensions_rollout, CHANGES,
     "end the rollout of a library's new version",
     "library_id: which\naction: One of (promote, withdraw): it serves all, or none\n"},
    {"/flame", page_flame, READS, "flame graph of processor time, memory or coroutines", NULL},
    {"/golang", page_golang, READS, "print Go libraries, their seats and plugins",
     "format: File format to use; One of (text, json)\n"},
    {"/healthcheck/fail", page_healthcheck_fail, CHANGES, "cause the server to fail health checks",
     NULL},
    {"/healthcheck/ok", page_healthcheck_ok, CHANGES, "cause the server to pass health checks",
     NULL},
    {"/help", page_help, READS, "print out list of admin commands", NULL},
    {"/hot_restart_version", page_hot_restart_version, READS,
     "print the hot restart compatibility version", NULL},
    {"/listeners", page_listeners, READS, "print listener info",
     "format: File format to use; One of (text, json)\n"},
    {"/logging", page_logging, CHANGES, "query/change logging levels",
     "paths: Change multiple logging levels by setting to "
     "<logger_name1>:<desired_level1>,<logger_name2>:<desired_level2>\n"
     "level: desired logging level, this will change all loggers's level; One of (trace, "
     "debug, "
     "info, warning, error, critical, off)\n"},
    {"/memory", page_memory, READS, "print current allocation/heap usage", NULL},
    {"/quitquitquit", page_quit, CHANGES, "exit the server", NULL},
    {"/ready", page_ready, READS, "print server state, return 200 if LIVE, otherwise return 503",
     NULL},
    {"/reopen_logs", page_reopen_logs, CHANGES, "reopen access logs", NULL},
    {"/reset_counters", page_reset_counters, CHANGES, "reset all counters to zero", NULL},
    {"/server_info", page_server_info, READS, "print server version/status information", NULL},
    {"/stats", page_stats, READS, "print server stats",
     "usedonly: Only include stats that have been written by system since restart\n"
     "filter: Regular expression (RE2 syntax) for filtering stats\n"
     "format: Format to use; One of (text, json, prometheus)\n"
     "type: Stat types to include; One of (All, Counters, Gauges, Histograms)\n"
     "histogram_buckets: Histogram bucket display mode; One of (cumulative, disjoint, "
     "detailed, "
     "summary)\n"},
    {"/stats/prometheus", page_prometheus, READS, "print server stats in prometheus format",
     "usedonly: Only include stats that have been written by system since restart\n"
     "filter: Regular expression (RE2 syntax) for filtering stats\n"
     "histogram_buckets: Histogram bucket display mode; One of (cumulative, summary)\n"},
};

static const struct admin_hooks *hooks;

void admin_set_hooks(const struct admin_hooks *of_process) {
    hooks = of_process;
}

const struct admin_hooks *admin_hooks(void) {
    ASSERT(hooks);
    return hooks;
}

void page_fini(struct page *page) {
    text_fini(&page->body);
}

void page_fail(struct page *page, unsigned status, const char *format, ...) {
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    page->status = status;
    page->content_type = content_type_text;
    page->body.len = 0;
    text_puts(&page->body, message);
}

int page_wait(const char *reason, int64_t end_ns) {
    int woken = 0;
    while (woken == 0)
        woken = rt_park(reason, end_ns);
    return woken == -ETIMEDOUT ? 0 : woken;
}

static void put_commands(struct text *out) {
    text_puts(out, "admin commands are:\n");
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const struct route *route = &routes[i];
        static const char *const methods[] = {
            [READS] = "", [CHANGES] = " (POST)", [CHANGES_BY_PARAMETERS] = " (POST to change)"};
        text_printf(out, "  %s%s: %s\n", route->path, methods[route->mutation], route->help);
        struct span rest = span_of(route->params);
        while (rest.len > 0) {
            size_t len = (size_t)span_find(rest, '\n') + 1;
            text_puts(out, "      ");
            text_put(out, span_make(rest.ptr, len));
            rest = span_from(rest, len);
        }
    }
}

void page_help(const struct query *query, struct page *page) {
    put_commands(&page->body);
}

/* page.html, as the build embeds it. */
extern const char admin_page_html[];
extern const unsigned long admin_page_html_len;

void page_home(const struct query *query, struct page *page) {
    page->content_type = content_type_html;
    text_put(&page->body, span_make(admin_page_html, admin_page_html_len));
}

void admin_dispatch(struct span method, struct span target, struct page *page) {
    *page = (struct page){.status = 200, .content_type = content_type_text};
    struct span path = path_only(target);
    const struct route *route = NULL;
    for (size_t i = 0; i < sizeof routes / sizeof *routes && !route; i++)
        if (span_eq(path, span_of(routes[i].path)))
            route = &routes[i];
    if (!route) {
        page->status = 404;
        text_puts(&page->body, "invalid path. ");
        put_commands(&page->body);
        return;
    }
    bool is_mutation = route->mutation == CHANGES ||
                       (route->mutation == CHANGES_BY_PARAMETERS && path_query(target).len > 0);
    if (is_mutation && !span_eq(method, SPAN_LIT("POST"))) {
        page_fail(page, 405, "Method %.*s not allowed, POST required.",
                  (int)(method.len < 64 ? method.len : 64), method.ptr);
        return;
    }
    struct query query;
    if (!query_parse(&query, path_query(target))) {
        page->body.failed = true;
        return;
    }
    route->make(&query, page);
    query_fini(&query);
}
