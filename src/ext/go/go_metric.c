/* go_metric: see the header.
 *
 * Counting takes no lock: an id is an index into pages that only grow.
 *
 *     pages[kind][n / 256] ─► stats[n % 256] ─► struct statistic
 *
 * I1  A slot is written once, before its id is known to anybody. The id may reach another thread by any
 *     way the plugin likes, so slot and page are stored with release and loaded with acquire.
 * I2  `lock` guards the counts, the making of pages, and the list of names.
 * I3  Everything is counted in the shard of threads without a P, by atomic operations. A gauge is set by
 *     storing that shard's cell, which is the whole value as long as no P counts in it. */
#include "ext/go/go_metric.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "ext/go/go_owned.h"

static_assert(STAT_COUNTER == 0 && STAT_GAUGE == 1 && STAT_HISTOGRAM == 2,
              "the SDK's metric types, and the low bits of its ids");

enum { NAME_SLOTS = 2 * GO_METRIC_NAMES_MAX };

static struct {
    pthread_mutex_t lock;
    struct statistic *table[NAME_SLOTS]; /* by name and kind: open addressing, half full at most */
    uint32_t names, cells;
} known = {.lock = PTHREAD_MUTEX_INITIALIZER};

void go_metrics_fini(struct go_metrics *metrics) {
    for (unsigned kind = 0; kind < GO_METRIC_KINDS; kind++)
        for (unsigned i = 0; i < GO_METRIC_PAGES; i++)
            free(atomic_load_explicit(&metrics->pages[kind][i], memory_order_relaxed));
}

/* ---- definition ---- */

/* NULL when a limit is reached. */
static struct statistic *get_locked(enum stat_kind kind, struct span name) {
    uint64_t hash = span_hash(SPAN_HASH ^ (uint64_t)kind, name);
    struct statistic **place;
    for (size_t i = hash;; i++) {
        place = &known.table[i & (NAME_SLOTS - 1)];
        if (!*place)
            break;
        if ((*place)->kind == kind && span_eq((*place)->name, name))
            return *place;
    }
    uint32_t cells = kind == STAT_HISTOGRAM ? STAT_HISTOGRAM_SLOTS : 1;
    if (known.names == GO_METRIC_NAMES_MAX || cells > GO_METRIC_CELLS_MAX - known.cells)
        return NULL;
    struct statistic *stat = stats_get(kind, name, name, NULL, 0);
    if (!span_eq(stat->name, name))
        return NULL; /* the process has no room for more statistics at all */
    known.names++;
    known.cells += cells;
    return *place = stat;
}

/* Where the next id of this kind goes. */
static int make_slot_locked(struct go_metrics *metrics, enum stat_kind kind,
                            _Atomic(struct statistic *) **slot) {
    uint32_t index = metrics->count[kind];
    if (index == GO_METRICS_PER_KIND)
        return -E2BIG;
    _Atomic(struct go_metric_page *) *at = &metrics->pages[kind][index / GO_METRIC_PAGE];
    struct go_metric_page *page = atomic_load_explicit(at, memory_order_relaxed);
    if (!page) {
        page = calloc(1, sizeof(*page));
        if (!page)
            return -ENOMEM;
        go_owned(page); /* metrics are part of what Go was lent with the configuration */
        atomic_store_explicit(at, page, memory_order_release); /* for go_metrics_find */
    }
    *slot = &page->stats[index % GO_METRIC_PAGE];
    return 0;
}

int go_metrics_define(struct go_metrics *metrics, enum stat_kind kind, struct span name,
                      uint32_t *id) {
    char plain[GO_METRIC_NAME_MAX];
    if (name.len == 0)
        return -EINVAL;
    if (name.len > sizeof plain)
        return -E2BIG;
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];
        plain[i] = (char)(c < 0x20 || c == 0x7f ? '_' : c);
    }
    pthread_mutex_lock(&known.lock);
    _Atomic(struct statistic *) *slot = NULL;
    int err = make_slot_locked(metrics, kind, &slot);
    struct statistic *stat = err ? NULL : get_locked(kind, span_make(plain, name.len));
    if (stat) {
        atomic_store_explicit(slot, stat, memory_order_release); /* for go_metrics_find */
        *id = ++metrics->count[kind] << 2 | (uint32_t)kind;
    } else if (!err) {
        err = -E2BIG;
    }
    pthread_mutex_unlock(&known.lock);
    return err;
}

/* ---- counting ---- */

static struct go_metric_page *page_of(const struct go_metrics *metrics, uint32_t id,
                                      uint32_t *index) {
    uint32_t kind = id & 3, number = (id >> 2) - 1; /* 0 wraps, and is too large */
    if (kind >= GO_METRIC_KINDS || number >= GO_METRICS_PER_KIND)
        return NULL;
    *index = number % GO_METRIC_PAGE;
    return atomic_load_explicit(&metrics->pages[kind][number / GO_METRIC_PAGE],
                                memory_order_acquire);
}

struct statistic *go_metrics_find(const struct go_metrics *metrics, uint32_t id) {
    uint32_t index;
    struct go_metric_page *page = page_of(metrics, id, &index);
    return page ? atomic_load_explicit(&page->stats[index], memory_order_acquire) : NULL;
}

_Atomic uint32_t *go_metrics_far(const struct go_metrics *metrics, uint32_t id) {
    uint32_t index;
    struct go_metric_page *page = page_of(metrics, id, &index);
    bool is_known = page && atomic_load_explicit(&page->stats[index], memory_order_relaxed);
    return is_known ? &page->far[index] : NULL;
}

void go_metric_add(const struct statistic *stat, int64_t n) {
    if (stat->kind == STAT_GAUGE || (stat->kind == STAT_COUNTER && n > 0))
        stat_add(stat, STATS_SHARD_FOREIGN, n);
}

void go_metric_record(const struct statistic *stat, uint64_t value) {
    if (stat->kind == STAT_COUNTER)
        stat_add(stat, STATS_SHARD_FOREIGN, (int64_t)value);
    else if (stat->kind == STAT_GAUGE)
        stat_set(stat, (int64_t)value);
    else /* histograms are of microseconds and shown as milliseconds, numbers without a unit as they are */
        stat_record_us(stat, STATS_SHARD_FOREIGN,
                       value < UINT64_MAX / 1000 ? value * 1000 : UINT64_MAX);
}
