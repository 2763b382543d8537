/* downstream_log: the access logs of a listener, one line for each connection at its end, whatever became of it. What
 * HTTP or a filter counted stands in their own logs; here are addresses, names, times, and of a connection of network
 * filters what they noted in n->log. */
#include "proxy/access_log.h"
#include "proxy/downstream_internal.h"
#include "proxy/format.h"

static struct stream_info info_of(struct downstream *d) {
    const struct network_stream *n = d->info->stream;
    const struct filter_chain *chain = d->info->chain;
    int64_t now_ns = rt_now_ns();
    struct worker *worker = worker_at(d->p_index);
    struct stream_info info = {0};
    if (n && !chain->hcm)
        info = n->log;
    info.start_ns = d->opened_ns;
    info.start_wall_ns = worker_wall_ns(worker, now_ns) - (now_ns - d->opened_ns);
    info.end_ns = now_ns;
    info.connection_id = d->id;
    info.listener_name = d->info->listener->config->name;
    info.filter_chain = chain ? chain->name : span_none();
    return info;
}

void downstream_log(struct downstream *d) {
    const struct listener_config *config = d->info->listener->config;
    const struct stream_info info = info_of(d);
    const struct format_subject of = {
        .info = &info, .downstream = d, .connection = d->info, .shard = d->p_index};
    for (uint32_t i = 0; i < config->log_count; i++)
        access_log_write(config->logs[i], &of);
}
