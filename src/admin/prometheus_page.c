#include "admin/prometheus.h"
#include "admin/server_stats.h"
#include "admin/stat_selection.h"

/* The content type stays Envoy's plain text: scrapers take version 0.0.4 from it. */
void page_prometheus(const struct query *query, struct page *page) {
    enum prometheus_histograms histograms = PROMETHEUS_BUCKETS;
    struct span word = query_find(query, "histogram_buckets");
    if (span_eq(word, SPAN_LIT("summary"))) {
        histograms = PROMETHEUS_SUMMARY;
    } else if (word.len > 0 && !span_eq(word, SPAN_LIT("cumulative"))) {
        page_fail(page, 400, "usage: /stats/prometheus?histogram_buckets=(cumulative|summary)\n");
        return;
    }
    struct selection selection;
    server_stats_refresh();
    if (!selection_make(&selection, query, page))
        return;
    prometheus_render(selection.items, selection.count, histograms, &page->body);
    selection_fini(&selection);
}
