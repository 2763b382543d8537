/* fake_remote_host: a lane to a host process with nobody behind: what the host says, a test says, by remote_lane_hear. For one
 * P. */
#pragma once
#include "ext/go/go_log.h"
#include "ext/remote/remote_link_internal.h"
#include "fake_go.h"

struct fake_remote_host {
    struct supervisor *supervisor; /* NULL: nobody is to be ended */
    struct remote_link *link;
    struct remote_lane *lane; /* NULL: it is closed */
};

static inline void fake_remote_opened(void *arg, unsigned p, struct remote_lane *lane) {
    ((struct fake_remote_host *)arg)->lane = lane;
}

static inline void fake_remote_closed(void *arg, unsigned p, struct remote_lane *lane) {
    ((struct fake_remote_host *)arg)->lane = NULL;
}

static inline bool fake_remote_knows_config(void *arg, uint64_t id) {
    return true;
}

static inline void fake_remote_host_open(struct fake_remote_host *host) {
    *host = (struct fake_remote_host){0};
    const struct remote_link_options options = {
        .supervisor = &host->supervisor,
        .generation = 1,
        .seats = 1,
        .callback_timeout_ns = RT_FOREVER,
        .library = "fakes",
        .log = &log_golang,
        .opened = fake_remote_opened,
        .closed = fake_remote_closed,
        .knows_config = fake_remote_knows_config,
        .arg = host,
    };
    CHECK(remote_link_new(&options, &host->link) == 0);
    remote_link_open(host->link);
    while (!host->lane)
        rt_yield();
}

/* As when the process is gone: its exchanges are lost. */
static inline void fake_remote_host_close(struct fake_remote_host *host) {
    remote_link_close(host->link);
    while (host->lane)
        rt_yield();
}

static inline int fake_remote_hear(struct fake_remote_host *host, enum remote_kind kind,
                                   struct remote_out *out) {
    CHECK(!out->failed);
    int err = remote_lane_hear(host->lane, kind, span_make(out->data, out->len));
    remote_out_fini(out);
    return err;
}
