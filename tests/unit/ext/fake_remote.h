/* fake_remote: exchanges whose library runs in a host process, and a lane to it with nobody behind: what the host says, a
 * test says, by remote_lane_hear. What the exchange's coroutines do, it does itself. For one P. */
#pragma once
#include "ext/remote/remote_exchange.h"
#include "fake_exchange.h"
#include "fake_remote_host.h"

/* One exchange on the filter. */
struct fake_remote {
    struct fake_exchange *fake;
    struct go_block *block;
    struct remote_exchange remote;
};

/* A request with a body to come, which the host has not heard of. */
static inline void fake_remote_new(struct fake_remote *r) {
    *r = (struct fake_remote){0};
    r->fake = fake_new(&fake_go.filter, NULL, false);
    CHECK(header_add_id(&r->fake->x.response.headers, HDR_STATUS, SPAN_LIT("200")) == 0);
    r->block = go_block_new(fake_go.config.plugin, rt_p_index());
    CHECK(r->block);
    remote_exchange_init(&r->remote, &fake_go.config.remote, fake_go.config.plugin);
    r->remote.block = r->block;
}

static inline void fake_remote_enter(struct fake_remote *r, struct fake_remote_host *host) {
    CHECK(remote_lane_enter(host->lane, &r->remote.party, false) == 0);
}

static inline void fake_remote_free(struct fake_remote *r) {
    (void)ext_stream_end(&r->block->stream);
    remote_lane_leave(&r->remote.party);
    go_block_end(r->block, rt_p_index());
    fake_free(r->fake);
}

/* The host is told, as if by go_remote_show: what of, it does not read. */
static inline uint64_t fake_remote_lend(struct fake_remote *r, enum ext_direction direction,
                                        enum ext_phase phase, struct span body) {
    struct exchange *x = &r->fake->x;
    struct message *message = direction == EXT_REQUEST ? &x->request : &x->response;
    const struct ext_loan loan = {
        .phase = phase,
        .headers = phase == EXT_HEADERS ? &message->headers : NULL,
        .trailers = phase == EXT_TRAILERS ? &message->trailers : NULL,
        .buffer = phase == EXT_BODY ? ext_buffer_new(body) : NULL,
    };
    uint64_t handle;
    CHECK(ext_side_lend(&r->block->stream, x, direction, &loan, &handle) == 0);
    r->remote.undecided[direction] = false;
    if (r->remote.party.lane)
        CHECK(remote_lane_send(&r->remote.party, REMOTE_LEND, SPAN_LIT("lend"), RT_FOREVER) == 0);
    return handle;
}
