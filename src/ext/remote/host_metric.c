/* host_metric: see the header.
 *
 * A slot beside each metric (go_metric.h) has what the proxy calls it: 0 until that was asked for, REFUSED for good when it
 * has no room. Asking is done under `lock`, so each is asked for once, and what was counted here before goes with it. Who counts
 * reads the slot and takes no lock. */
#include "ext/remote/host_metric.h"

#include <pthread.h>
#include <stdlib.h>

#include "ext/remote/host_stream.h"

enum { REFUSED = UINT32_MAX };

struct waiting {
    struct waiting *next;
    const struct go_lent_config *address; /* a loan, if it still is one: */
    uint64_t far_id;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of asking, and the list */
static struct waiting *waiting;

static uint32_t p_of(const struct host *host, const struct go_lent_config *config) {
    return (uint32_t)(config->far_id % host->p_count);
}

static void tell(struct host *host, const struct go_lent_config *config,
                 const struct remote_metric *metric) {
    char room[64]; /* more than it takes: never grown */
    struct remote_out out = {.data = room, .room = sizeof room};
    remote_put_metric(&out, metric);
    ASSERT(out.data == room);
    host_send(host, p_of(host, config), REMOTE_METRIC, span_make(out.data, out.len),
              span_make("", 0), HOST_BATCHED);
}

/* ---- what the proxy calls it ---- */

/* What was counted here. A gauge is what it is now. */
static void hand_over(struct host *host, const struct go_lent_config *config, uint32_t far_id,
                      const struct statistic *stat) {
    int64_t value = stat->kind == STAT_HISTOGRAM ? 0 : stat_value(stat);
    if (value == 0)
        return;
    stat_add(stat, STATS_SHARD_FOREIGN, -value);
    tell(host, config,
         &(struct remote_metric){.config_id = config->far_id,
                                 .id = far_id,
                                 .action = stat->kind == STAT_GAUGE ? REMOTE_METRIC_RECORD
                                                                    : REMOTE_METRIC_ADD,
                                 .value = (uint64_t)value});
}

static int ask_locked(struct host *host, const struct go_lent_config *config,
                      const struct statistic *stat, _Atomic uint32_t *far) {
    struct remote_ask ask = {.subject = config->far_id,
                             .question = REMOTE_DEFINE_METRIC,
                             .n = stat->kind,
                             .a = stat->name};
    struct remote_answer answer;
    int code = host_ask(host, p_of(host, config), &ask, &answer);
    uint32_t far_id = code == GO_OK ? (uint32_t)answer.number : REFUSED;
    host_asked(host, &ask);
    if (code == GO_OK)
        hand_over(host, config, far_id, stat);
    atomic_store_explicit(far, far_id, memory_order_release); /* for find */
    return code;
}

/* The slot of an id, with what is in it. NULL: there is no such id. */
static _Atomic uint32_t *find(struct host *host, const struct go_lent_config *config, uint32_t id,
                              uint32_t *far_id, int *code) {
    _Atomic uint32_t *far = go_metrics_far(&config->metrics, id);
    *code = GO_OK;
    *far_id = far ? atomic_load_explicit(far, memory_order_acquire) : 0;
    if (!far || *far_id)
        return far;
    pthread_mutex_lock(&lock);
    *far_id = atomic_load_explicit(far, memory_order_relaxed); /* the lock's */
    if (!*far_id) {
        *code = ask_locked(host, config, go_metrics_find(&config->metrics, id), far);
        *far_id = atomic_load_explicit(far, memory_order_relaxed);
    }
    pthread_mutex_unlock(&lock);
    return far;
}

/* ---- for go_exports_metric ---- */

static struct host *host_of(const struct go_lent_config *config) {
    return config->far_id ? host_get() : NULL;
}

int host_metric_defined(struct go_lent_config *config, uint32_t id) {
    struct host *host = host_of(config);
    uint32_t far_id;
    int code = GO_OK;
    if (host)
        (void)find(host, config, id, &far_id, &code);
    return code;
}

enum host_metric_where host_metric_count(struct go_lent_config *config, uint32_t id,
                                         enum remote_metric_action action, uint64_t value) {
    struct host *host = host_of(config);
    uint32_t far_id;
    int code;
    if (!host)
        return HOST_METRIC_HERE;
    if (find(host, config, id, &far_id, &code) && far_id != REFUSED)
        tell(host, config,
             &(struct remote_metric){.config_id = config->far_id,
                                     .id = far_id,
                                     .action = (uint8_t)action,
                                     .value = value});
    return HOST_METRIC_TOLD;
}

enum host_metric_where host_metric_get(struct go_lent_config *config, uint32_t id,
                                       uint64_t *value) {
    struct host *host = host_of(config);
    uint32_t far_id;
    int code;
    if (!host)
        return HOST_METRIC_HERE;
    if (!find(host, config, id, &far_id, &code) || far_id == REFUSED)
        return HOST_METRIC_TOLD;
    struct remote_ask ask = {.subject = config->far_id, .question = REMOTE_ASK_METRIC, .n = far_id};
    struct remote_answer answer;
    if (host_ask(host, p_of(host, config), &ask, &answer) == GO_OK)
        *value = answer.number;
    host_asked(host, &ask);
    return HOST_METRIC_TOLD;
}

/* ---- what was defined before ---- */

void host_metrics_await(const struct go_lent_config *config) {
    struct waiting *one = host_get() ? NULL : malloc(sizeof(*one));
    if (!one)
        return; /* without memory it is told when it is counted in */
    pthread_mutex_lock(&lock);
    *one = (struct waiting){waiting, config, config->far_id};
    waiting = one;
    pthread_mutex_unlock(&lock);
}

static void tell_all_of(struct host *host, const struct waiting *one) {
    struct loan loan = loan_keep(&go_lent_configs, one->address);
    const struct go_lent_config *config = loan.memory;
    uint32_t far_id;
    int code;
    for (uint32_t kind = 0; config && config->far_id == one->far_id && kind < GO_METRIC_KINDS;
         kind++)
        for (uint32_t index = 1; go_metrics_find(&config->metrics, index << 2 | kind); index++)
            (void)find(host, config, index << 2 | kind, &far_id, &code);
    if (config)
        loan_let_go(&go_lent_configs, loan);
}

/* Of the process: the first P's. */
static void tell_count(enum go_count which, uint64_t n) {
    static const struct go_lent_config nobodys;
    struct host *host = host_get();
    tell(host, &nobodys,
         &(struct remote_metric){.id = (uint32_t)which, .action = REMOTE_METRIC_ADD, .value = n});
}

void host_metrics_tell(struct host *host) {
    atomic_store_explicit(&go_stats_elsewhere, tell_count, memory_order_release);
    pthread_mutex_lock(&lock);
    struct waiting *one = waiting;
    waiting = NULL;
    pthread_mutex_unlock(&lock);
    while (one) {
        struct waiting *next = one->next;
        tell_all_of(host, one);
        free(one);
        one = next;
    }
}
