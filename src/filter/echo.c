#include "config/network_config.h"
#include "filter/network_filters.h"
#include "io/stream_copy.h"
#include "proxy/downstream.h"
#include "proxy/worker.h"

static enum network_result serve(struct network_stream *n, void *self) {
    struct stream_copy copy;
    stream_copy_init(&copy, n->reader, n->writer, &n->worker->pipes);
    enum stream_result result = stream_copy_run(&copy, STREAM_WAIT);
    /* After an error there is nobody to be told of the end. */
    if (result == STREAM_END && writer_finish(n->writer) == 0)
        n->connection->closed_by_peer = true;
    stream_copy_end(&copy);
    return NETWORK_DONE;
}

static int build(const struct cfg_any *typed_config, struct snapshot *snapshot,
                 struct cfg_problems *problems, void **config) {
    return 0;
}

static const struct network_filter_itab itab = {
    .name = "envoy.filters.network.echo",
    .serve = serve,
};

const struct network_filter_kind network_filter_kind_echo = {
    .itab = &itab,
    .schema = &cfg_schema_echo,
    .build = build,
};
