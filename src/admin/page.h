/* page: one answer of the admin in the making, and the functions that make them.
 *
 * Every page is a function of the request's query and the process; none knows of HTTP or exchanges.
 * admin_dispatch picks it by path, refuses wrong methods and paths, and is what tests call.
 *
 * Ownership  The caller owns the page: page_fini. The query is borrowed.
 * Parks      Those pages that say so; the others show one state of the process. */
#pragma once
#include "admin/admin.h"
#include "admin/query.h"
#include "admin/text.h"

struct page {
    unsigned status;
    const char *content_type;
    struct text body;
};
void page_fini(struct page *page);

/* Discards what was written and answers with this text instead. */
void page_fail(struct page *page, unsigned status, const char *format, ...) PRINTF_LIKE(3, 4);

extern const char content_type_text[], content_type_json[], content_type_html[],
    content_type_bytes[];

/* Parks until end_ns, which other wake-ups do not hasten. 0, or -ECANCELED: nobody would read the page. */
MUST_CHECK int page_wait(const char *reason, int64_t end_ns);

/* target is ":path", query included. Fills a zeroed page whatever comes; a page whose memory ran
 * short has body.failed set. */
void admin_dispatch(struct span method, struct span target, struct page *page);

/* The hooks of the process. */
const struct admin_hooks *admin_hooks(void);

/* ---- the pages ---- */
void page_home(const struct query *query, struct page *page);
void page_help(const struct query *query, struct page *page);
void page_ready(const struct query *query, struct page *page);
void page_stats(const struct query *query, struct page *page);
void page_prometheus(const struct query *query, struct page *page);
void page_config_dump(const struct query *query, struct page *page);
void page_config_reload(const struct query *query, struct page *page);
/* Route configurations that go out by degrees; an end to such a rollout. The latter parks. */
void page_config_rollouts(const struct query *query, struct page *page);
void page_config_rollout(const struct query *query, struct page *page);
void page_clusters(const struct query *query, struct page *page);
void page_listeners(const struct query *query, struct page *page);
void page_server_info(const struct query *query, struct page *page);
/* What the scheduler did, for Chrome's trace viewer. Parks; the page is a file of many megabytes. */
void page_trace(const struct query *query, struct page *page);
/* Coroutines, where Go programs list their goroutines, in the formats that Go's tools read. It parks. */
void page_goroutine(const struct query *query, struct page *page);
/* Where the runtime's threads spend processor time, for go tool pprof. It parks. */
void page_profile(const struct query *query, struct page *page);
/* Who holds memory, and who allocated it; of the first two both park. */
void page_heap(const struct query *query, struct page *page);
void page_allocs(const struct query *query, struct page *page);
void page_heap_rate(const struct query *query, struct page *page);
/* A flame graph in the browser, and what it asks for: each profile as JSON, flame.h. This one parks. */
void page_flame(const struct query *query, struct page *page);
void page_flame_data(const struct query *query, struct page *page);
/* Profiles of spikes, or one file of them. It parks. */
void page_heap_spikes(const struct query *query, struct page *page);
/* Reports of processes that died, or one of them. It parks. */
void page_crashes(const struct query *query, struct page *page);
void page_memory(const struct query *query, struct page *page);
/* Libraries of Go filters: their copies and processes; one from its file again; an end to its rollout. All three park. */
void page_extensions(const struct query *query, struct page *page);
void page_extensions_reload(const struct query *query, struct page *page);
void page_extensions_rollout(const struct query *query, struct page *page);
void page_golang(const struct query *query, struct page *page);
void page_certs(const struct query *query, struct page *page);
void page_hot_restart_version(const struct query *query, struct page *page);
void page_logging(const struct query *query, struct page *page);
void page_quit(const struct query *query, struct page *page);
void page_drain_listeners(const struct query *query, struct page *page);
void page_healthcheck_fail(const struct query *query, struct page *page);
void page_healthcheck_ok(const struct query *query, struct page *page);
void page_reset_counters(const struct query *query, struct page *page);
void page_reopen_logs(const struct query *query, struct page *page);
