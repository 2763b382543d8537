/* fake_peer: a connection whose library runs in a host process, and notes what is done with it. On fake_remote_host.h;
 * for one P. */
#pragma once
#include "ext/go/go_peer.h"
#include "ext/remote/remote_peer.h"
#include "ext/remote/remote_peer_message.h"
#include "fake_remote_host.h"

struct fake_peer {
    struct go_peer *peer;
    uint64_t number;
    size_t bytes;  /* written */
    char last[16]; /* of them, the first of the latest write */
    unsigned writes, ends, closes, losses;
    enum go_close_type close_type;
    bool in_call;
    struct go_peer_call call;
    int called; /* what the latest came to */
};

static int fake_peer_write(void *owner, struct span bytes, bool end) {
    struct fake_peer *p = owner;
    p->writes++;
    p->bytes += bytes.len;
    p->ends += end;
    memset(p->last, 0, sizeof p->last);
    memcpy(p->last, bytes.ptr, bytes.len < sizeof p->last - 1 ? bytes.len : sizeof p->last - 1);
    return 0;
}

static void fake_peer_close(void *owner, enum go_close_type type) {
    struct fake_peer *p = owner;
    p->closes++;
    p->close_type = type;
}

static void fake_peer_hurry(void *owner) {}

static void fake_peer_lost(void *owner) {
    ((struct fake_peer *)owner)->losses++;
}

static const struct go_peer_itab fake_peer_itab = {.write = fake_peer_write,
                                                   .close = fake_peer_close,
                                                   .hurry = fake_peer_hurry,
                                                   .lost = fake_peer_lost};

/* Once, behind fake_go_init. */
static inline void fake_peers_init(void) {
    fake_go.library.isolated = true;
    CHECK(go_peers_init() == 0);
}

static inline void fake_peer_new(struct fake_peer *p, struct fake_remote_host *host) {
    struct go_plugin *plugin =
        go_plugin_get(&fake_go.library, GO_PLUGIN_NETWORK, SPAN_LIT("connections"));
    *p = (struct fake_peer){0};
    CHECK(plugin);
    p->peer = go_peer_new(plugin, false, 0, 0);
    CHECK(p->peer && p->peer->lent && go_peer_start(p->peer, &fake_peer_itab, p) == 0);
    CHECK(remote_peer_enter(p->peer->remote, host->lane) == 0);
    p->number = remote_peer_number(p->peer->remote);
    p->peer->announced = true;
}

static inline void fake_peer_calls(void *arg) {
    struct fake_peer *p = arg;
    p->called = go_peer_call(p->peer, &p->call);
    p->in_call = false;
}

/* By a coroutine of its own, which is at work until somebody says what it returned, or it is lost. */
static inline void fake_peer_call(struct fake_peer *p, enum go_peer_call_kind kind) {
    p->call = (struct go_peer_call){.kind = kind, .patience = GO_PEER_UNTIL_CANCELLED};
    p->called = 1;
    CHECK(!p->in_call);
    p->in_call = true;
    CHECK(go_here("call", fake_peer_calls, p) == 0);
    rt_yield();
}

/* No call is going on, and the host needs not be told. */
static inline void fake_peer_free(struct fake_peer *p) {
    struct go_peer *peer = p->peer;
    peer->announced = false;
    go_peer_stop_writing(peer);
    go_peer_end(peer, GO_PEER_LOCAL_CLOSE);
    rt_yield();
    p->peer = NULL;
}
