/* remote_connect: see the header. */
#include "ext/remote/remote_connect.h"

#include <stdlib.h>

#include "ext/go/go_upstream.h"
#include "ext/remote/remote_peer.h"
#include "rt/rt.h"

/* By whose callback asks; a goroutine's are nobody's. */
static struct go_plugin *plugin_of(struct go_library *library, const struct remote_lane *lane,
                                   uint64_t subject) {
    if (!subject)
        return go_plugin_get(library, GO_PLUGIN_NETWORK, go_upstream_nobodys);
    const struct go_peer *peer = remote_peer_find(lane, subject);
    return peer ? peer->plugin : NULL;
}

void remote_connect(void *go_library, struct remote_lane *lane, const struct remote_ask *ask,
                    struct remote_answer *answer, void **memory) {
    struct go_plugin *plugin = plugin_of(go_library, lane, ask->subject);
    const unsigned p = rt_p_index();
    struct go_upstream *up = plugin ? go_upstream_new(plugin, p, p, ask->a, ask->n) : NULL;
    struct go_peer *peer = up ? go_upstream_peer(up) : NULL;
    uint64_t *handle = peer ? malloc(sizeof *handle) : NULL;
    *memory = handle;
    if (!handle || remote_peer_enter(peer->remote, lane) != 0) {
        if (up)
            go_upstream_forget(up);
        return; /* the answer is a failure still */
    }
    *handle = peer->handle;
    answer->code = GO_OK;
    answer->number = remote_peer_number(peer->remote);
    answer->text = span_make((const char *)handle, sizeof *handle);
    go_upstream_begin(up);
}
