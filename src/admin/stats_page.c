/* stats_page: /stats as text and as JSON.
 *
 * Both list counters and gauges by name, then histograms, as Envoy does. Envoy prints two numbers
 * for each quantile, of the last flush interval and of all time. Nothing is flushed here, so the
 * first is always "nan" (null in JSON): who wants an interval takes the difference of two readings
 * with histogram_buckets=detailed. */
#include <inttypes.h>
#include <math.h>

#include "admin/histogram_view.h"
#include "admin/json.h"
#include "admin/server_stats.h"
#include "admin/stat_selection.h"

enum bucket_mode { BUCKETS_NONE, BUCKETS_CUMULATIVE, BUCKETS_DISJOINT, BUCKETS_DETAILED };

static bool bucket_mode_parse(const struct query *query, enum bucket_mode *mode) {
    struct span word = query_find(query, "histogram_buckets");
    if (word.len == 0 || span_eq(word, SPAN_LIT("summary")))
        *mode = BUCKETS_NONE;
    else if (span_eq(word, SPAN_LIT("cumulative")))
        *mode = BUCKETS_CUMULATIVE;
    else if (span_eq(word, SPAN_LIT("disjoint")))
        *mode = BUCKETS_DISJOINT;
    else if (span_eq(word, SPAN_LIT("detailed")))
        *mode = BUCKETS_DETAILED;
    else
        return false;
    return true;
}

static void bucket_counts(const struct stat_summary *summary, enum bucket_mode mode,
                          uint64_t counts[HISTOGRAM_BOUNDS]) {
    histogram_cumulative(summary, counts);
    if (mode == BUCKETS_DISJOINT)
        for (unsigned i = HISTOGRAM_BOUNDS - 1; i > 0; i--)
            counts[i] -= counts[i - 1];
}

/* ---- text ---- */

static void put_quantiles(struct text *out, const struct stat_summary *summary) {
    for (unsigned i = 0; i < HISTOGRAM_QUANTILES; i++) {
        text_puts(out, i ? " P" : "P");
        text_put_double(out, histogram_quantiles[i]);
        text_puts(out, "(nan,");
        text_put_double(out, histogram_quantile_ms(summary, histogram_quantiles[i]));
        text_putc(out, ')');
    }
}

static void put_text_histogram(struct text *out, const struct statistic *stat,
                               enum bucket_mode mode) {
    struct stat_summary summary;
    stat_summary(stat, &summary);
    text_put(out, stat->name);
    if (summary.count == 0) {
        text_puts(out, ": No recorded values\n");
        return;
    }
    text_puts(out, mode == BUCKETS_DETAILED ? ":\n  totals=" : ": ");
    uint64_t counts[HISTOGRAM_BOUNDS];
    switch (mode) {
    case BUCKETS_NONE:
        put_quantiles(out, &summary);
        break;
    case BUCKETS_CUMULATIVE:
    case BUCKETS_DISJOINT:
        bucket_counts(&summary, mode, counts);
        for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
            text_puts(out, i ? " B" : "B");
            text_printf(out, "%g(0,%" PRIu64 ")", histogram_bounds_ms[i], counts[i]);
        }
        break;
    case BUCKETS_DETAILED:
        for (unsigned step = 0, shown = 0; step < STAT_STEPS; step++) {
            if (summary.buckets[step] == 0)
                continue;
            uint64_t lower = stat_step_lower_us(step);
            text_puts(out, shown++ ? ", " : "");
            text_put_double(out, (double)lower / 1000);
            text_putc(out, ',');
            text_put_double(out, (double)(stat_step_upper_us(step) + 1 - lower) / 1000);
            text_printf(out, ":%" PRIu64, summary.buckets[step]);
        }
        text_puts(out, "\n  intervals=\n  summary=");
        put_quantiles(out, &summary);
        break;
    }
    text_putc(out, '\n');
}

static void put_text(struct text *out, const struct selection *selection, enum bucket_mode mode) {
    for (size_t i = 0; i < selection->count; i++) {
        const struct statistic *stat = selection->items[i];
        if (stat->kind == STAT_HISTOGRAM)
            continue;
        text_put(out, stat->name);
        text_printf(out, ": %" PRIu64 "\n", stat_shown(stat));
    }
    for (size_t i = 0; i < selection->count; i++)
        if (selection->items[i]->kind == STAT_HISTOGRAM)
            put_text_histogram(out, selection->items[i], mode);
}

/* ---- JSON ---- */

static void put_json_quantiles(struct json *json, const struct stat_summary *summary) {
    json_open(json, '[');
    for (unsigned i = 0; i < HISTOGRAM_QUANTILES; i++) {
        json_open(json, '{');
        json_key(json, "cumulative");
        json_double(json, histogram_quantile_ms(summary, histogram_quantiles[i]));
        json_key(json, "interval");
        json_double(json, NAN);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void put_json_steps(struct json *json, const struct stat_summary *summary) {
    json_key(json, "totals");
    json_open(json, '[');
    for (unsigned step = 0; step < STAT_STEPS; step++) {
        if (summary->buckets[step] == 0)
            continue;
        uint64_t lower = stat_step_lower_us(step);
        json_open(json, '{');
        json_key(json, "lower_bound");
        json_double(json, (double)lower / 1000);
        json_key(json, "width");
        json_double(json, (double)(stat_step_upper_us(step) + 1 - lower) / 1000);
        json_key(json, "count");
        json_u64(json, summary->buckets[step]);
        json_close(json, '}');
    }
    json_close(json, ']');
    json_key(json, "intervals");
    json_open(json, '[');
    json_close(json, ']');
    json_key(json, "percentiles");
    put_json_quantiles(json, summary);
}

static void put_json_buckets(struct json *json, const struct stat_summary *summary,
                             enum bucket_mode mode) {
    uint64_t counts[HISTOGRAM_BOUNDS];
    bucket_counts(summary, mode, counts);
    json_key(json, "buckets");
    json_open(json, '[');
    for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
        json_open(json, '{');
        json_key(json, "upper_bound");
        json_double(json, histogram_bounds_ms[i]);
        json_key(json, "interval");
        json_u64(json, 0);
        json_key(json, "cumulative");
        json_u64(json, counts[i]);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void put_json_histogram(struct json *json, const struct statistic *stat,
                               enum bucket_mode mode) {
    struct stat_summary summary;
    stat_summary(stat, &summary);
    json_open(json, '{');
    json_field(json, "name", stat->name);
    if (mode == BUCKETS_NONE) {
        json_key(json, "values");
        put_json_quantiles(json, &summary);
    } else if (mode == BUCKETS_DETAILED) {
        put_json_steps(json, &summary);
    } else {
        put_json_buckets(json, &summary, mode);
    }
    json_close(json, '}');
}

/* The shape around the histograms differs with the mode, on Envoy too. */
static void put_json_histograms(struct json *json, const struct selection *selection,
                                enum bucket_mode mode) {
    bool with_quantiles = mode == BUCKETS_NONE || mode == BUCKETS_DETAILED;
    json_open(json, '{');
    json_key(json, "histograms");
    if (with_quantiles) {
        json_open(json, '{');
        json_key(json, mode == BUCKETS_NONE ? "supported_quantiles" : "supported_percentiles");
        json_open(json, '[');
        for (unsigned i = 0; i < HISTOGRAM_QUANTILES; i++)
            json_double(json, histogram_quantiles[i]);
        json_close(json, ']');
        json_key(json, mode == BUCKETS_NONE ? "computed_quantiles" : "details");
    }
    json_open(json, '[');
    for (size_t i = 0; i < selection->count; i++)
        if (selection->items[i]->kind == STAT_HISTOGRAM)
            put_json_histogram(json, selection->items[i], mode);
    json_close(json, ']');
    if (with_quantiles)
        json_close(json, '}');
    json_close(json, '}');
}

static void put_json(struct text *out, const struct selection *selection, enum bucket_mode mode) {
    struct json json = {.out = out, .style = JSON_COMPACT};
    bool any_histogram = false;
    json_open(&json, '{');
    json_key(&json, "stats");
    json_open(&json, '[');
    for (size_t i = 0; i < selection->count; i++) {
        const struct statistic *stat = selection->items[i];
        if (stat->kind == STAT_HISTOGRAM) {
            any_histogram = true;
            continue;
        }
        json_open(&json, '{');
        json_field(&json, "name", stat->name);
        json_key(&json, "value");
        json_u64(&json, stat_shown(stat));
        json_close(&json, '}');
    }
    if (any_histogram)
        put_json_histograms(&json, selection, mode);
    json_close(&json, ']');
    json_close(&json, '}');
}

void page_stats(const struct query *query, struct page *page) {
    struct span format = query_find(query, "format");
    if (span_eq(format, SPAN_LIT("prometheus"))) {
        page_prometheus(query, page);
        return;
    }
    bool as_json = span_eq(format, SPAN_LIT("json"));
    if (format.len > 0 && !as_json && !span_eq(format, SPAN_LIT("text"))) {
        page_fail(page, 400, "usage: /stats?format=(json|prometheus|text)\n\n");
        return;
    }
    enum bucket_mode mode;
    if (!bucket_mode_parse(query, &mode)) {
        page_fail(page, 400,
                  "usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary)\n");
        return;
    }
    struct selection selection;
    server_stats_refresh();
    if (!selection_make(&selection, query, page))
        return;
    if (as_json) {
        page->content_type = content_type_json;
        put_json(&page->body, &selection, mode);
    } else {
        put_text(&page->body, &selection, mode);
    }
    selection_fini(&selection);
}
