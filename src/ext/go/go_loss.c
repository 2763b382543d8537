/* go_loss: what becomes of a client's connection whose plugin is lost with its host process (remote_peer.h).
 *
 *     on_failure: OPEN, and a filter before others, and all that the client sent has gone on ──► as if it was not there
 *     else ─────────────────────────────────────────────────────────────────────────────────► reset
 *
 * Half-way  What the client sent and no answer came for goes on, and so does what OnWrite had stopped, which waits and is
 *           not dropped. What the plugin wrote before it was lost is written. But bytes of the client's that the plugin
 *           stopped are dropped, so who is behind would get the rest of something whose beginning only the plugin
 *           knows, and might take it for something else: that connection is broken off, like one of which nobody
 *           but the plugin was the end. */
#include "ext/go/go_network_internal.h"

static bool can_do_without(const struct go_client *client) {
    return client->config->goes_on && !client->config->is_last && !client->kept;
}

static void go_on_without(struct go_client *client) {
    client->without = true;
    stat_inc(go_peer_stats.lost_open, client->peer->p_index);
    if (client->opening) {
        client->woken = true;
        rt_cancel(client->reading);
    }
}

/* With a reset: what was sent so far is no whole. */
static void break_off(struct go_client *client) {
    struct network_stream *n = client->n;
    client->gave_up = true;
    stat_inc(go_peer_stats.lost_closed, client->peer->p_index);
    n->log.connection_termination_details = SPAN_LIT("golang_host_lost");
    if (!client->config->is_last) {
        client->close_type = GO_CLOSE_RESET;
        client->closing = true;
        go_client_break(client);
        return;
    }
    client->broken = true;
    if (client->reading)
        rt_cancel(client->reading);
}

void go_client_lose(void *owner) {
    struct go_client *client = owner;
    if (client->without || client->gave_up || client->closing)
        return;
    if (can_do_without(client))
        go_on_without(client);
    else
        break_off(client);
}

void go_client_settle(void *owner) {
    struct go_client *client = owner;
    struct network_stream *n = client->n;
    if (!client->without)
        return;
    network_stream_hold(n);
    int rc = comutex_lock(&client->writes, RT_FOREVER);
    if (rc == 0) {
        (void)!go_client_let_go(client); /* who writes next is told */
        comutex_unlock(&client->writes);
    }
    network_stream_release(n); /* the client may be gone */
}
