/* go_lent: see the header. */
#include "ext/go/go_lent.h"

#include <pthread.h>
#include <stdlib.h>

#include "ext/ext_handles.h"
#include "ext/go/go_owned.h"
#include "ext/go/go_stats.h"

struct go_kept {
    struct go_kept *next;
    size_t len;
    char bytes[];
};

struct loan_pool go_lent_requests, go_lent_configs;
_Atomic bool go_lent_strict;
static int init_error;

static void end_request(void *memory) {
    struct go_lent *lent = memory;
    while (lent->kept) {
        struct go_kept *next = lent->kept->next;
        free(lent->kept);
        lent->kept = next;
    }
    free(lent->value);
    if (lent->counts) {
        stat_dec(go_stats.unfinalized, STATS_SHARD_FOREIGN);
        stats_cell_add(lent->unfinalized, STATS_SHARD_FOREIGN, (uint64_t)-1);
    }
    if (lent->unfinalized_far)
        (void)atomic_fetch_sub_explicit(lent->unfinalized_far, 1, memory_order_relaxed);
}

static void end_config(void *memory) {
    struct go_lent_config *lent = memory;
    go_metrics_fini(&lent->metrics);
}

static void init_once(void) {
    static const struct loan_kind requests = {
        .size = sizeof(struct go_lent), .max = GO_REQUESTS_MAX, .finalize = end_request};
    static const struct loan_kind configs = {
        .size = sizeof(struct go_lent_config), .max = GO_CONFIGS_MAX, .finalize = end_config};
    go_stats_init();
    init_error = ext_handles_init();
    if (!init_error)
        init_error = loan_pool_init(&go_lent_requests, &requests);
    if (!init_error)
        init_error = loan_pool_init(&go_lent_configs, &configs);
}

int go_lent_init(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
    return init_error;
}

void go_lent_finalize(struct loan_pool *pool, const void *address) {
    if (loan_release(pool, address) != 0)
        go_stats_count(GO_STALE_HANDLES, 1);
}

struct span go_lent_keep_locked(struct go_lent *lent, struct span bytes) {
    for (struct go_kept *kept = lent->kept; kept; kept = kept->next)
        if (kept->len == bytes.len && memcmp(kept->bytes, bytes.ptr, bytes.len) == 0)
            return span_make(kept->bytes, kept->len);
    if (bytes.len > GO_KEPT_BYTES_MAX - lent->kept_bytes)
        return span_none();
    struct go_kept *kept = malloc(sizeof(*kept) + bytes.len);
    if (!kept)
        return span_none();
    kept->len = bytes.len;
    memcpy(kept->bytes, bytes.ptr, bytes.len);
    kept->next = lent->kept;
    lent->kept = kept;
    lent->kept_bytes += bytes.len;
    go_owned(kept);
    return span_make(kept->bytes, kept->len);
}

struct span go_lent_value_locked(struct go_lent *lent, struct span bytes) {
    if (lent->value_room < bytes.len || !lent->value) {
        char *value = malloc(bytes.len ? bytes.len : 1);
        if (!value)
            return span_none();
        free(lent->value);
        lent->value = value;
        lent->value_room = bytes.len;
    }
    if (bytes.len)
        memcpy(lent->value, bytes.ptr, bytes.len);
    go_owned(lent->value);
    return span_make(lent->value, bytes.len);
}
