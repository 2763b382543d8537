#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "config/data_source.h"
#include "config/network_config.h"
#include "filter/network_filters.h"
#include "proxy/downstream.h"
#include "proxy/worker.h"

enum {
    RESPONSE_MAX = 1 << 20, /* of a file */
    /* The client reads the response before the kernel answers what he sent, and nobody read, with a reset. */
    LINGER_BYTES = 1 << 20,
    LINGER_MS = 1000,
};

struct direct_response {
    char *bytes;
    size_t len;
};

static enum network_result serve(struct network_stream *n, void *self) {
    const struct direct_response *response = self;
    int rc =
        response->len ? writer_write_span(n->writer, span_make(response->bytes, response->len)) : 0;
    if (rc == 0)
        rc = writer_finish(n->writer);
    if (rc == 0) /* whatever it says, the connection is closed then */
        (void)!socket_discard(&n->connection->socket, LINGER_BYTES, "linger",
                              rt_now_ns() + LINGER_MS * NS_PER_MS);
    return NETWORK_DONE;
}

static int open_stream(struct network_stream *n, const struct network_filter *filter, void **self) {
    *self = filter->config;
    return 0;
}

static void free_config(void *config) {
    struct direct_response *response = config;
    free(response->bytes);
    free(response);
}

static int build(const struct cfg_any *typed_config, struct snapshot *snapshot,
                 struct cfg_problems *problems, void **out) {
    static const struct cfg_data_source nothing;
    const struct cfg_network_direct_response *config = typed_config->message;
    struct direct_response *response = calloc(1, sizeof *response);
    if (!response) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark, "out of memory");
        return -EINVAL;
    }
    response->bytes =
        cfg_data_source_read(config->response ? config->response : &nothing, "response",
                             RESPONSE_MAX, &config->mark, problems, &response->len);
    if (!response->bytes) {
        free(response);
        return -EINVAL;
    }
    *out = response;
    return 0;
}

static const struct network_filter_itab itab = {
    .name = "envoy.filters.network.direct_response",
    .open = open_stream,
    .serve = serve,
};

const struct network_filter_kind network_filter_kind_direct_response = {
    .itab = &itab,
    .schema = &cfg_schema_network_direct_response,
    .build = build,
    .free_config = free_config,
};
