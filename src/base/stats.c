/* stats: a registry that grows under a lock, and cells that are written without one.
 *
 *   table[hash(kind, name)] ─► struct entry {stat, reset_base}        entries never move or die
 *   shard of a P: one mapping of STATS_SLOTS_MAX cells; pages come when touched
 *
 *      [0 .. STAT_HISTOGRAM_SLOTS)  the sink: where a stat counts that found no free slot
 *      [.. next_slot)               given out; a counter or gauge takes 1 cell, a histogram
 *                                   STAT_HISTOGRAM_SLOTS of them in a row: its steps, then its sum
 *
 * I1  A cell of a P's shard is written by the M that holds that P only: plain load and store.
 * I2  Nobody but its writer writes a cell, not even a reset: zeroing it from outside would race with
 *     the writer's load and store. reset_base remembers instead what to subtract.
 * Order  Relaxed all over: cells are independent numbers, and a reader that is one behind is right. */
#include "base/stats.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/log.h"

LOG_COMPONENT(stats, "stats");

struct entry {
    struct statistic stat;
    _Atomic uint64_t reset_base; /* counters only */
    uint64_t hash;
};

uint64_t *stats_shards[STATS_SHARDS_MAX];

static struct {
    pthread_mutex_t lock;
    struct entry **table; /* open addressing, capacity a power of two, at most half full */
    size_t capacity, count;
    const struct statistic *
        *sorted; /* count_sorted of them; rebuilt by the next reader after a change */
    size_t count_sorted;
    uint32_t next_slot;
    bool exhausted;
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER, .next_slot = STAT_HISTOGRAM_SLOTS};

static struct entry sinks[] = {
    [STAT_COUNTER] = {.stat = {.kind = STAT_COUNTER}},
    [STAT_GAUGE] = {.stat = {.kind = STAT_GAUGE}},
    [STAT_HISTOGRAM] = {.stat = {.kind = STAT_HISTOGRAM}},
};

/* ---- cells ---- */

int stats_init(unsigned p_count) {
    ASSERT(p_count >= 1);
    ASSERT(p_count <= STATS_SHARD_FOREIGN);
    for (unsigned i = 0; i <= p_count; i++) {
        unsigned shard = i == p_count ? STATS_SHARD_FOREIGN : i;
        if (stats_shards[shard])
            continue;
        void *cells = mmap(NULL, STATS_SLOTS_MAX * sizeof(uint64_t), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (cells == MAP_FAILED)
            return -ENOMEM;
        stats_shards[shard] = cells;
    }
    return 0;
}

static uint64_t sum_of_slot(uint32_t slot) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < STATS_SHARDS_MAX; i++)
        if (stats_shards[i])
            sum += __atomic_load_n(&stats_shards[i][slot], __ATOMIC_RELAXED);
    return sum;
}

void stat_set(const struct statistic *stat, int64_t value) {
    ASSERT(stat->kind != STAT_HISTOGRAM);
    __atomic_store_n(&stats_shards[STATS_SHARD_FOREIGN][stat->slot], (uint64_t)value,
                     __ATOMIC_RELAXED);
}

int64_t stat_value(const struct statistic *stat) {
    const struct entry *entry =
        (const struct entry *)((const char *)stat - offsetof(struct entry, stat));
    return (int64_t)(sum_of_slot(stat->slot) - atomic_load(&entry->reset_base));
}

uint64_t stat_shown(const struct statistic *stat) {
    static const int64_t counted_down = 1LL << 40;
    int64_t value = stat_value(stat);
    return value < 0 && value > -counted_down ? 0 : (uint64_t)value;
}

bool stat_used(const struct statistic *stat) {
    uint32_t cells = stat->kind == STAT_HISTOGRAM ? STAT_STEPS : 1;
    for (unsigned i = 0; i < STATS_SHARDS_MAX; i++)
        for (uint32_t c = 0; stats_shards[i] && c < cells; c++)
            if (__atomic_load_n(&stats_shards[i][stat->slot + c], __ATOMIC_RELAXED) != 0)
                return true;
    return false;
}

/* ---- histograms ---- */

uint64_t stat_step_lower_us(unsigned step) {
    if (step < 8)
        return step;
    unsigned e = step / 8 + 2;
    return (UINT64_C(8) + step % 8) << (e - 3);
}

uint64_t stat_step_upper_us(unsigned step) {
    return stat_step_lower_us(step + 1) - 1;
}

void stat_summary(const struct statistic *stat, struct stat_summary *out) {
    ASSERT(stat->kind == STAT_HISTOGRAM);
    *out = (struct stat_summary){.sum_us = sum_of_slot(stat->slot + STAT_STEPS)};
    for (unsigned i = 0; i < STAT_STEPS; i++) {
        out->buckets[i] = sum_of_slot(stat->slot + i);
        out->count += out->buckets[i];
    }
}

uint64_t stat_quantile_us(const struct stat_summary *summary, double q) {
    if (summary->count == 0)
        return 0;
    double rank = q * (double)summary->count; /* how many samples lie at or below the answer */
    uint64_t below = 0;
    unsigned last = 0;
    for (unsigned i = 0; i < STAT_STEPS; i++) {
        uint64_t here = summary->buckets[i];
        if (here == 0)
            continue;
        uint64_t lower = stat_step_lower_us(i), upper = stat_step_upper_us(i);
        if (rank <= (double)(below + here)) {
            double part = (rank - (double)below) / (double)here;
            return lower + (uint64_t)(part * (double)(upper - lower) + 0.5);
        }
        below += here;
        last = i;
    }
    return stat_step_upper_us(last); /* q = 1 and rounding */
}

/* ---- the registry ---- */

static uint64_t hash_of(enum stat_kind kind, struct span name) {
    uint64_t hash = span_hash(SPAN_HASH ^ (uint64_t)kind, name); /* names come from the config */
    return hash ^ hash >> 32;
}

/* Where it is, or the free place where it would go. */
static struct entry **find_locked(enum stat_kind kind, struct span name, uint64_t hash) {
    for (size_t i = hash;; i++) {
        struct entry **place = &registry.table[i & (registry.capacity - 1)];
        const struct entry *entry = *place;
        if (!entry)
            return place;
        if (entry->hash == hash && entry->stat.kind == kind && span_eq(entry->stat.name, name))
            return place;
    }
}

static bool make_room_locked(void) {
    if (registry.table && registry.count * 2 < registry.capacity)
        return true;
    size_t capacity = registry.capacity ? registry.capacity * 2 : 1024;
    struct entry **old = registry.table, **bigger = calloc(capacity, sizeof *bigger);
    if (!bigger)
        return false;
    size_t old_capacity = registry.capacity;
    registry.table = bigger;
    registry.capacity = capacity;
    for (size_t i = 0; i < old_capacity; i++)
        if (old[i])
            *find_locked(old[i]->stat.kind, old[i]->stat.name, old[i]->hash) = old[i];
    free(old);
    return true;
}

static void put_bytes(char **at, struct span s) {
    if (s.len)
        memcpy(*at, s.ptr, s.len);
    *at += s.len;
}

static struct span take_copy(char **at, struct span s) {
    char *copy = *at;
    put_bytes(at, s);
    *(*at)++ = '\0';
    return span_make(copy, s.len);
}

/* One allocation with all its strings behind it. */
static struct entry *entry_new(enum stat_kind kind, struct span name, struct span metric,
                               const struct stat_tag *tags, uint32_t tag_count) {
    size_t text = name.len + metric.len + 2;
    for (uint32_t i = 0; i < tag_count; i++)
        text += tags[i].name.len + tags[i].value.len + 2;
    struct entry *entry = calloc(1, sizeof *entry + text);
    if (!entry)
        return NULL;
    char *at = (char *)(entry + 1);
    entry->stat.kind = kind;
    entry->stat.name = take_copy(&at, name);
    entry->stat.metric = take_copy(&at, metric);
    entry->stat.tag_count = tag_count;
    for (uint32_t i = 0; i < tag_count; i++) {
        entry->stat.tags[i].name = take_copy(&at, tags[i].name);
        entry->stat.tags[i].value = take_copy(&at, tags[i].value);
    }
    return entry;
}

struct statistic *stats_get(enum stat_kind kind, struct span name, struct span metric,
                            const struct stat_tag *tags, uint32_t tag_count) {
    ASSERT(tag_count <= STAT_TAGS_MAX);
    uint64_t hash = hash_of(kind, name);
    uint32_t slots = kind == STAT_HISTOGRAM ? STAT_HISTOGRAM_SLOTS : 1;
    struct statistic *stat = &sinks[kind].stat;
    bool report = false;

    pthread_mutex_lock(&registry.lock);
    struct entry **place = NULL;
    if (make_room_locked())
        place = find_locked(kind, name, hash);
    if (place && *place) {
        stat = &(*place)->stat;
    } else {
        struct entry *entry = NULL;
        if (place && slots <= STATS_SLOTS_MAX - registry.next_slot)
            entry = entry_new(kind, name, metric, tags, tag_count);
        if (entry) {
            entry->hash = hash;
            entry->stat.slot = registry.next_slot;
            registry.next_slot += slots;
            registry.count++;
            *place = entry;
            stat = &entry->stat;
        } else {
            report = !registry.exhausted;
            registry.exhausted = true;
        }
    }
    pthread_mutex_unlock(&registry.lock);

    if (report)
        LOG(log_stats, LOG_ERROR, "no room for more stats; from %.*s on they are not counted",
            (int)name.len, name.ptr);
    return stat;
}

/* A response code or class at the end of a stat's name, as Envoy's tag extractors find it. */
static bool find_code(struct span suffix, struct stat_tag *tag) {
    if (suffix.len < 7)
        return false;
    struct span tail = span_from(suffix, suffix.len - 7); /* "_rq_503" */
    const char *code = tail.ptr + 4;
    if (!span_starts_with(tail, SPAN_LIT("_rq_")) || code[0] < '1' || code[0] > '5')
        return false;
    if (code[1] >= '0' && code[1] <= '9' && code[2] >= '0' && code[2] <= '9')
        *tag = (struct stat_tag){SPAN_LIT("envoy.response_code"), span_make(code, 3)};
    else if (code[1] == 'x' && code[2] == 'x')
        *tag = (struct stat_tag){SPAN_LIT("envoy.response_code_class"), span_make(code, 1)};
    else
        return false;
    return true;
}

struct statistic *stats_get_plain(enum stat_kind kind, const char *name) {
    return stats_get(kind, span_of(name), span_of(name), NULL, 0);
}

struct statistic *stats_get_tagged(enum stat_kind kind, const char *prefix, const char *tag_name,
                                   struct span tag_value, const char *suffix) {
    /* The code stands in front, as Envoy lists the two. */
    struct stat_tag tags[2];
    struct span end = span_of(suffix);
    uint32_t tag_count = find_code(end, tags) ? 1 : 0;
    struct span code = tag_count ? tags[0].value : span_make("", 0);
    size_t prefix_len = strlen(prefix);
    size_t name_len = prefix_len + 1 + tag_value.len + 1 + end.len;
    size_t metric_size = prefix_len + 1 + end.len;
    char *text = malloc(name_len + metric_size);
    if (!text)
        return &sinks[kind].stat;

    char *at = text;
    put_bytes(&at, span_make(prefix, prefix_len));
    put_bytes(&at, SPAN_LIT("."));
    char *value = at;
    put_bytes(&at, tag_value);
    for (char *c = value; c < at; c++) /* NUL too: names end up in C strings */
        if (*c == ':' || *c == '\0')
            *c = '_';
    put_bytes(&at, SPAN_LIT("."));
    put_bytes(&at, end);
    struct span name = span_make(text, name_len);

    char *metric = at;
    put_bytes(&at, span_make(prefix, prefix_len));
    put_bytes(&at, SPAN_LIT("."));
    if (code.len == 0) {
        put_bytes(&at, end);
    } else if (code.len == 1) { /* upstream_rq_xx */
        put_bytes(&at, span_make(end.ptr, end.len - 3));
        put_bytes(&at, SPAN_LIT("xx"));
    } else { /* upstream_rq */
        put_bytes(&at, span_make(end.ptr, end.len - 4));
    }
    tags[tag_count++] = (struct stat_tag){span_of(tag_name), span_make(value, tag_value.len)};
    struct statistic *stat =
        stats_get(kind, name, span_make(metric, (size_t)(at - metric)), tags, tag_count);
    free(text);
    return stat;
}

void stats_get_table(const struct stat_place *table, size_t count, const char *prefix,
                     const char *tag_name, struct span tag_value) {
    for (size_t i = 0; i < count; i++)
        *table[i].into =
            stats_get_tagged(table[i].kind, prefix, tag_name, tag_value, table[i].suffix);
}

static int compare_names(const void *a, const void *b) {
    const struct statistic *x = *(const struct statistic *const *)a,
                           *y = *(const struct statistic *const *)b;
    size_t shorter = x->name.len < y->name.len ? x->name.len : y->name.len;
    int order = memcmp(x->name.ptr, y->name.ptr, shorter);
    if (order == 0 && x->name.len != y->name.len)
        order = x->name.len < y->name.len ? -1 : 1;
    return order ? order : (int)x->kind - (int)y->kind;
}

/* A sorted copy that is the caller's, so that no lock is held while it is walked. The order is kept
 * between calls: stats appear when a config is loaded and are read every few seconds. */
static const struct statistic **snapshot(size_t *count) {
    const struct statistic **copy = NULL;
    pthread_mutex_lock(&registry.lock);
    if (registry.count_sorted != registry.count) {
        const struct statistic **sorted = malloc(registry.count * sizeof *sorted);
        if (sorted) {
            size_t n = 0;
            for (size_t i = 0; i < registry.capacity; i++)
                if (registry.table[i])
                    sorted[n++] = &registry.table[i]->stat;
            qsort(sorted, n, sizeof *sorted, compare_names);
            free(registry.sorted);
            registry.sorted = sorted;
            registry.count_sorted = n;
        }
    }
    *count = registry.count_sorted;
    if (*count) {
        copy = malloc(*count * sizeof *copy);
        if (copy)
            memcpy(copy, registry.sorted, *count * sizeof *copy);
        else
            *count = 0;
    }
    pthread_mutex_unlock(&registry.lock);
    return copy;
}

void stats_each(void (*fn)(const struct statistic *stat, void *arg), void *arg) {
    size_t count;
    const struct statistic **stats = snapshot(&count);
    for (size_t i = 0; i < count; i++)
        fn(stats[i], arg);
    free(stats);
}

void stats_reset_counters(void) {
    pthread_mutex_lock(&registry.lock);
    for (size_t i = 0; i < registry.capacity; i++) {
        struct entry *entry = registry.table[i];
        if (entry && entry->stat.kind == STAT_COUNTER)
            atomic_store(&entry->reset_base, sum_of_slot(entry->stat.slot));
    }
    pthread_mutex_unlock(&registry.lock);
}
