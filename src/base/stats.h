/* stats: named counters, gauges and histograms, written without locks or shared cache lines.
 *
 * Each P writes its own shard with plain loads and stores; a reader sums the shards. Threads without
 * a P use the shard STATS_SHARD_FOREIGN, which is written with atomic adds.
 *
 *      name ─► struct statistic {kind, slot} ─┬► shard of P 0 [slot]
 *                                             ├► shard of P 1 [slot]
 *                                             └► foreign shard [slot]
 *
 * Names are Envoy's: "cluster.origin.upstream_rq_total". The tags say what Prometheus extracts:
 * metric "cluster.upstream_rq_total", tag envoy.cluster_name="origin".
 *
 * Ownership  stats_get returns a stat that lives as long as the process: the same name gives the
 *            same stat, so a config that is loaded again goes on counting where it was.
 * Threads    stats_get takes a lock: at configuration time. stat_* from any thread with its shard.
 * Errors     STATS_SLOTS_MAX exhausted: stats_get returns a stat that counts nowhere visible, and
 *            logs once. */
#pragma once
#include <stdatomic.h>
#include <stdint.h>

#include "base/check.h"
#include "base/span.h"

enum stat_kind { STAT_COUNTER, STAT_GAUGE, STAT_HISTOGRAM };
enum { STATS_SHARDS_MAX = 129, STATS_SHARD_FOREIGN = 128, STATS_SLOTS_MAX = 1 << 20 };
/* Histograms are log-linear: 8 steps in each power of two, of microseconds. Values above 2^38 us
 * (three days) count in the last step. There is no slot for the count: it is the sum of the steps,
 * so a reader's count and steps always agree. */
enum { STAT_STEPS = 8 * 36, STAT_HISTOGRAM_SLOTS = STAT_STEPS + 1 }; /* steps, then sum */

struct stat_tag {
    struct span name, value; /* "envoy.cluster_name", "origin" */
};
enum { STAT_TAGS_MAX = 4 }; /* more than Envoy extracts from any of its own names */

struct statistic { /* `struct stat` is taken by stat(2) */
    enum stat_kind kind;
    uint32_t slot;
    struct span name;   /* full */
    struct span metric; /* name without the tags' values */
    struct stat_tag tags[STAT_TAGS_MAX];
    uint32_t tag_count;
};

/* name, metric and the tags are copied. Never NULL. Kind and name together make the identity; the
 * metric and tags of the first call stay. */
struct statistic *stats_get(enum stat_kind kind, struct span name, struct span metric,
                            const struct stat_tag *tags, uint32_t tag_count);
/* One without tags: its name is its metric. */
struct statistic *stats_get_plain(enum stat_kind kind, const char *name);
/* Most stats are PREFIX.VALUE.SUFFIX with VALUE a tag: stats_get_tagged(STAT_COUNTER,
 * "cluster", "envoy.cluster_name", name, "upstream_rq_total"). Colons in the value become '_', as
 * in Envoy's names: "listener.0.0.0.0_80.downstream_cx_total". A response code or class at the end
 * becomes a second tag: "upstream_rq_503" is the metric "cluster.upstream_rq" with
 * envoy.response_code="503", "upstream_rq_5xx" is "cluster.upstream_rq_xx" with
 * envoy.response_code_class="5". */
struct statistic *stats_get_tagged(enum stat_kind kind, const char *prefix, const char *tag_name,
                                   struct span tag_value, const char *suffix);
/* Many at once, of one PREFIX.VALUE: new ones lie side by side in the table's order. */
struct stat_place {
    struct statistic **into;
    enum stat_kind kind;
    const char *suffix;
};
void stats_get_table(const struct stat_place *table, size_t count, const char *prefix,
                     const char *tag_name, struct span tag_value);

/* Base of each shard: zeroed address space, committed as slots are touched. */
extern uint64_t *stats_shards[STATS_SHARDS_MAX];
/* Reserves the shards 0..p_count-1 and the foreign one. 0 or -ENOMEM. Before anything else here.
 * May be called again: shards that are there stay, with what they counted. */
MUST_CHECK int stats_init(unsigned p_count);

/* On the P whose shard it is: the only writer. Readers may see either value. */
static inline void stats_cell_add_on_p(uint32_t slot, unsigned shard, uint64_t n) {
    uint64_t *cell = stats_shards[shard] + slot;
    __atomic_store_n(cell, __atomic_load_n(cell, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}
static inline void stats_cell_add(uint32_t slot, unsigned shard, uint64_t n) {
    if (shard == STATS_SHARD_FOREIGN)
        __atomic_fetch_add(stats_shards[shard] + slot, n, __ATOMIC_RELAXED);
    else
        stats_cell_add_on_p(slot, shard, n);
}
/* For several that one request bumps, on its P: of a statistic only the slot is looked at, so that they may be
 * kept beside each other, where the statistics themselves are a cache line each. */
static inline uint64_t *stats_cells(unsigned shard) {
    return stats_shards[shard];
}
static inline void stats_bump(uint64_t *cells, uint32_t slot, uint64_t n) {
    __atomic_store_n(cells + slot, __atomic_load_n(cells + slot, __ATOMIC_RELAXED) + n,
                     __ATOMIC_RELAXED);
}
static inline void stat_add(const struct statistic *stat, unsigned shard, int64_t n) {
    stats_cell_add(stat->slot, shard, (uint64_t)n);
}
static inline void stat_inc(const struct statistic *stat, unsigned shard) {
    stat_add(stat, shard, 1);
}
static inline void stat_dec(const struct statistic *stat, unsigned shard) {
    stat_add(stat, shard, -1);
}
/* A gauge or counter that is set as a whole, because it is counted elsewhere (uptime, server state,
 * scheduler); nobody may add to it. */
void stat_set(const struct statistic *stat, int64_t value);

/* 0..15 have a step each; above, 2^e .. 2^(e+1) is cut in eight:
 *
 *      value  1 b b b x x x x x      e = position of the leading 1
 *               └─┬─┘                step = 8 * (e - 2) + bbb                                  */
static inline unsigned stat_step_of(uint64_t us) {
    if (us < 8)
        return (unsigned)us;
    unsigned e = 63 - (unsigned)__builtin_clzll(us);
    unsigned step = 8 * (e - 2) + (unsigned)(us >> (e - 3) & 7);
    return step < STAT_STEPS ? step : STAT_STEPS - 1;
}
/* In the histogram whose cells begin at slot, on the P whose shard it is. */
static inline void stats_cell_record_us_on_p(uint32_t slot, unsigned shard, uint64_t us) {
    stats_cell_add_on_p(slot + stat_step_of(us), shard, 1);
    stats_cell_add_on_p(slot + STAT_STEPS, shard, us);
}
/* Histogram of durations. */
static inline void stat_record_us(const struct statistic *stat, unsigned shard, uint64_t us) {
    stats_cell_add(stat->slot + stat_step_of(us), shard, 1);
    stats_cell_add(stat->slot + STAT_STEPS, shard, us);
}

/* Sum over the shards. Gauges may be negative for a moment. */
int64_t stat_value(const struct statistic *stat);
/* As it is shown: a gauge that is negative for a moment, as one P has counted down and another not yet up, is 0. Far below
 * that no counting comes: then it is a number of 64 bits that somebody set, such as a hash. */
uint64_t stat_shown(const struct statistic *stat);
struct stat_summary {
    uint64_t count, sum_us;
    uint64_t buckets[STAT_STEPS]; /* per step, not cumulative */
};
void stat_summary(const struct statistic *stat, struct stat_summary *out);
/* True once anything was counted; a gauge that came back to 0 looks as if it never had been. */
bool stat_used(const struct statistic *stat);
uint64_t stat_step_lower_us(unsigned step); /* inclusive bounds of a step */
uint64_t stat_step_upper_us(unsigned step);
/* Quantile in microseconds, q in [0, 1]; 0 for no samples. Interpolated within its step, so at most
 * one eighth off. */
uint64_t stat_quantile_us(const struct stat_summary *summary, double q);

/* Calls fn for each stat, sorted by name, without a lock held: fn may park and call stats_get. */
void stats_each(void (*fn)(const struct statistic *stat, void *arg), void *arg);
/* Counters back to 0, as POST /reset_counters; nothing that is counted meanwhile is lost. */
void stats_reset_counters(void);
