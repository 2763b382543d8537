/* network_rate_limit: a token per connection. Filters with the same share_key and the same numbers have one bucket
 * between them, also those of a configuration and the one before: it lives as long as one of them does.
 *
 * Threads  A bucket has a lock, which a new connection holds for some instructions. The list of those that are
 *          shared has another; whoever holds both took that one first. Neither is held across a park. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/stats.h"
#include "config/network_config.h"
#include "filter/network_filters.h"
#include "proxy/worker.h"

struct token_bucket {
    pthread_mutex_t lock; /* of tokens and filled_ns */
    uint64_t tokens;
    int64_t filled_ns; /* when the last ones came */
    uint32_t max, per_fill;
    int64_t interval_ns;
    /* Of a shared one, under shared_lock. */
    struct list node;
    unsigned refs;
    char *key; /* NULL: not shared */
};

struct rate_limit {
    struct token_bucket *bucket;
    bool enabled;
    struct statistic *limited;
};

static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list shared = {&shared, &shared};

/* ---- the bucket ---- */

static struct token_bucket *bucket_new(const struct cfg_token_bucket *config, struct span key) {
    struct token_bucket *bucket = calloc(1, sizeof *bucket);
    if (!bucket)
        return NULL;
    *bucket = (struct token_bucket){
        .tokens = config->max_tokens,
        .filled_ns = clock_mono_ns(),
        .max = config->max_tokens,
        .per_fill = config->tokens_per_fill.set ? config->tokens_per_fill.value : 1,
        .interval_ns = config->fill_interval.ns,
        .refs = 1,
        .key = key.len ? strndup(key.ptr, key.len) : NULL,
    };
    if (key.len && !bucket->key) {
        free(bucket);
        return NULL;
    }
    pthread_mutex_init(&bucket->lock, NULL);
    list_init(&bucket->node);
    return bucket;
}

static bool is_like(const struct token_bucket *bucket, const struct cfg_token_bucket *config,
                    struct span key) {
    return span_eq(span_of(bucket->key), key) && bucket->max == config->max_tokens &&
           bucket->per_fill == (config->tokens_per_fill.set ? config->tokens_per_fill.value : 1) &&
           bucket->interval_ns == config->fill_interval.ns;
}

/* Leased. NULL when memory is short. */
static struct token_bucket *bucket_get(const struct cfg_token_bucket *config, struct span key) {
    if (key.len == 0)
        return bucket_new(config, key);
    struct token_bucket *found = NULL;
    pthread_mutex_lock(&shared_lock);
    for (struct list *at = shared.next; !found && at != &shared; at = at->next) {
        struct token_bucket *bucket = container_of(at, struct token_bucket, node);
        if (is_like(bucket, config, key))
            found = bucket;
    }
    if (found) {
        found->refs++;
    } else {
        found = bucket_new(config, key);
        if (found)
            list_push_back(&shared, &found->node);
    }
    pthread_mutex_unlock(&shared_lock);
    return found;
}

static void bucket_put(struct token_bucket *bucket) {
    pthread_mutex_lock(&shared_lock);
    bool last = --bucket->refs == 0;
    if (last && bucket->key)
        list_remove(&bucket->node);
    pthread_mutex_unlock(&shared_lock);
    if (!last)
        return;
    pthread_mutex_destroy(&bucket->lock);
    free(bucket->key);
    free(bucket);
}

static void fill(struct token_bucket *bucket, int64_t now_ns) {
    int64_t fills = (now_ns - bucket->filled_ns) / bucket->interval_ns;
    if (fills <= 0)
        return;
    bucket->filled_ns += fills * bucket->interval_ns;
    uint64_t most = (bucket->max - bucket->tokens + bucket->per_fill - 1) / bucket->per_fill;
    if ((uint64_t)fills >= most)
        bucket->tokens = bucket->max;
    else
        bucket->tokens += (uint64_t)fills * bucket->per_fill;
}

static bool bucket_take(struct token_bucket *bucket) {
    pthread_mutex_lock(&bucket->lock);
    fill(bucket, rt_now_ns());
    bool has_one = bucket->tokens > 0;
    if (has_one)
        bucket->tokens--;
    pthread_mutex_unlock(&bucket->lock);
    return has_one;
}

/* ---- the filter ---- */

static int open_stream(struct network_stream *n, const struct network_filter *filter, void **self) {
    struct rate_limit *limit = filter->config;
    if (!limit->enabled || bucket_take(limit->bucket))
        return 0;
    stat_inc(limit->limited, n->worker->index);
    return -ECONNREFUSED;
}

static void free_config(void *config) {
    struct rate_limit *limit = config;
    bucket_put(limit->bucket);
    free(limit);
}

static int build(const struct cfg_any *typed_config, struct snapshot *snapshot,
                 struct cfg_problems *problems, void **out) {
    const struct cfg_network_rate_limit *config = typed_config->message;
    struct rate_limit *limit = calloc(1, sizeof *limit);
    if (limit)
        limit->bucket = bucket_get(config->token_bucket, config->share_key);
    if (!limit || !limit->bucket) {
        free(limit);
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark, "out of memory");
        return -EINVAL;
    }
    limit->enabled = !config->runtime_enabled || config->runtime_enabled->default_value.value;
    limit->limited =
        stats_get_tagged(STAT_COUNTER, "local_rate_limit", "envoy.local_network_ratelimit_prefix",
                         config->stat_prefix, "rate_limited");
    *out = limit;
    return 0;
}

static const struct network_filter_itab itab = {
    .name = "envoy.filters.network.local_ratelimit",
    .open = open_stream,
};

const struct network_filter_kind network_filter_kind_rate_limit = {
    .itab = &itab,
    .schema = &cfg_schema_network_rate_limit,
    .build = build,
    .free_config = free_config,
};
