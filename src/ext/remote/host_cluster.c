/* host_cluster: see the header. The headers stay in the record, which is the seat's until the next one: Go gets copies
 * (go_question.h). There is room for the longest name at once, so the plugin is asked once. */
#include "ext/remote/host_cluster.h"

#include "ext/go/go_library.h"
#include "ext/go/go_question.h"
#include "ext/remote/host_seat.h"
#include "http/header_map.h"

static const struct go_plugin *plugin_of(uint64_t config_id, uint64_t *go_id) {
    struct host_config config;
    if (!host_config_find(config_id, &config) || config.plugin->kind != GO_PLUGIN_CLUSTER)
        host_die("the proxy speaks of a cluster specifier that it has not told of");
    *go_id = config.go_id;
    return config.plugin;
}

static void tell(const struct host_seat *seat, const struct remote_named *named) {
    struct remote_out out = {0};
    uint32_t p = remote_number_p(named->number);
    remote_put_named(&out, named);
    if (out.failed)
        host_die("out of memory");
    if (p >= seat->host->p_count)
        host_die("the proxy speaks of a P that it has not told of");
    host_send(seat->host, p, REMOTE_NAMED, span_make(out.data, out.len), span_make("", 0),
              HOST_BATCHED);
    remote_out_fini(&out);
}

void host_cluster_specify(struct host_seat *seat, const struct remote_specify *specify) {
    char name[REMOTE_NAME_MAX];
    uint64_t go_id, handle;
    const struct go_plugin *plugin = plugin_of(specify->config_id, &go_id);
    const struct ext_view *view = &specify->headers;
    struct header_map headers;
    header_map_of(&headers, view->entries, view->count, view->bytes);
    struct go_question *question = go_question_open(&headers, seat->shard, &handle);
    if (!question)
        host_die("out of memory");
    const int64_t began_ns = host_seat_begin_call(seat);
    int64_t len = plugin->library->fn.cluster.specify((uint64_t)(uintptr_t)plugin, handle, go_id,
                                                      (uint64_t)(uintptr_t)name, sizeof name);
    struct remote_named named = {.number = specify->number,
                                 .took_ns = (uint64_t)host_seat_end_call(seat, began_ns),
                                 .counts = go_question_close(question, handle),
                                 .panicked = len<0, .len = len> 0 ? (uint64_t)len : 0};
    named.name = span_make(name, named.len <= sizeof name ? named.len : 0);
    tell(seat, &named);
}
