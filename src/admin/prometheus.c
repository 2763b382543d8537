#include "admin/prometheus.h"

#include <inttypes.h>
#include <stdlib.h>

#include "admin/histogram_view.h"
#include "base/utf8.h"

struct series {
    const struct statistic *stat;
    struct span metric; /* sanitised, in the names buffer */
};

static bool is_alpha_or_digit(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* [a-zA-Z_:][a-zA-Z0-9_:]*; the prefix takes care of the first byte. */
static void put_metric(struct text *out, struct span metric) {
    text_puts(out, "envoy_");
    for (size_t i = 0; i < metric.len; i++) {
        char c = metric.ptr[i];
        text_putc(out, is_alpha_or_digit(c) || c == ':' ? c : '_');
    }
}

static void put_label(struct text *out, struct span name, struct span value) {
    for (size_t i = 0; i < name.len; i++)
        text_putc(out, is_alpha_or_digit(name.ptr[i]) ? name.ptr[i] : '_');
    text_puts(out, "=\"");
    while (value.len > 0) {
        size_t sequence = utf8_sequence(value);
        if (value.ptr[0] == '\n')
            text_puts(out, "\\n");
        else if (value.ptr[0] == '"' || value.ptr[0] == '\\')
            text_printf(out, "\\%c", value.ptr[0]);
        else if (sequence > 0)
            text_put(out, span_make(value.ptr, sequence));
        else
            text_puts(out, "\xef\xbf\xbd"); /* U+FFFD: label values are UTF-8 */
        value = span_from(value, sequence ? sequence : 1);
    }
    text_putc(out, '"');
}

/* One "name{labels} " up to the value. `extra` is the label that a histogram's line has on top. */
static void put_series(struct text *out, const struct series *series, const char *suffix,
                       const char *extra_name, const char *extra_value) {
    const struct statistic *stat = series->stat;
    text_put(out, series->metric);
    text_puts(out, suffix);
    text_putc(out, '{');
    for (uint32_t i = 0; i < stat->tag_count; i++) {
        if (i > 0)
            text_putc(out, ',');
        put_label(out, stat->tags[i].name, stat->tags[i].value);
    }
    if (extra_name) {
        if (stat->tag_count > 0)
            text_putc(out, ',');
        put_label(out, span_of(extra_name), span_of(extra_value));
    }
    text_puts(out, "} ");
}

static void put_histogram(struct text *out, const struct series *series,
                          enum prometheus_histograms style) {
    struct stat_summary summary;
    stat_summary(series->stat, &summary);
    char label[DOUBLE_TEXT_MAX];
    if (style == PROMETHEUS_SUMMARY) {
        for (unsigned i = 0; i < HISTOGRAM_QUANTILES; i++) {
            double_format(histogram_quantiles[i] / 100, label);
            put_series(out, series, "", "quantile", label);
            text_put_double(out, histogram_quantile_ms(&summary, histogram_quantiles[i]));
            text_putc(out, '\n');
        }
    } else {
        uint64_t cumulative[HISTOGRAM_BOUNDS];
        histogram_cumulative(&summary, cumulative);
        for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
            double_format(histogram_bounds_ms[i], label);
            put_series(out, series, "_bucket", "le", label);
            text_printf(out, "%" PRIu64 "\n", cumulative[i]);
        }
        put_series(out, series, "_bucket", "le", "+Inf");
        text_printf(out, "%" PRIu64 "\n", summary.count);
    }
    put_series(out, series, "_sum", NULL, NULL);
    text_put_double(out, (double)summary.sum_us / 1000);
    text_putc(out, '\n');
    put_series(out, series, "_count", NULL, NULL);
    text_printf(out, "%" PRIu64 "\n", summary.count);
}

static int compare_spans(struct span a, struct span b) {
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = memcmp(a.ptr, b.ptr, shorter);
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* By kind, as Envoy lists them, then by what Prometheus calls the metric, then by name. */
static int compare_series(const void *a, const void *b) {
    const struct series *x = a, *y = b;
    if (x->stat->kind != y->stat->kind)
        return (int)x->stat->kind - (int)y->stat->kind;
    int order = compare_spans(x->metric, y->metric);
    return order ? order : compare_spans(x->stat->name, y->stat->name);
}

static const char *type_name(enum stat_kind kind, enum prometheus_histograms histograms) {
    if (kind == STAT_COUNTER)
        return "counter";
    if (kind == STAT_GAUGE)
        return "gauge";
    return histograms == PROMETHEUS_SUMMARY ? "summary" : "histogram";
}

/* A sanitised name is as long as "envoy_" and the metric. So all are written one behind the other
 * first, and cut up when the buffer no longer moves. */
static struct series *series_make(const struct statistic *const *stats, size_t count,
                                  struct text *names) {
    struct series *series = malloc(count * sizeof *series);
    if (!series)
        return NULL;
    for (size_t i = 0; i < count; i++)
        put_metric(names, stats[i]->metric);
    if (names->failed) {
        free(series);
        return NULL;
    }
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen("envoy_") + stats[i]->metric.len;
        series[i] = (struct series){stats[i], span_make(names->data + at, len)};
        at += len;
    }
    qsort(series, count, sizeof *series, compare_series);
    return series;
}

void prometheus_render(const struct statistic *const *stats, size_t count,
                       enum prometheus_histograms histograms, struct text *out) {
    if (count == 0)
        return;
    struct text names = {0};
    struct series *series = series_make(stats, count, &names);
    out->failed |= series == NULL;
    for (size_t i = 0; series && i < count; i++) {
        const struct statistic *stat = series[i].stat;
        bool is_first = i == 0 || series[i - 1].stat->kind != stat->kind ||
                        !span_eq(series[i - 1].metric, series[i].metric);
        if (is_first) {
            text_puts(out, "# TYPE ");
            text_put(out, series[i].metric);
            text_printf(out, " %s\n", type_name(stat->kind, histograms));
        }
        if (stat->kind == STAT_HISTOGRAM) {
            put_histogram(out, &series[i], histograms);
        } else {
            put_series(out, &series[i], "", NULL, NULL);
            text_printf(out, "%" PRIu64 "\n", stat_shown(stat));
        }
    }
    free(series);
    text_fini(&names);
}
