/* connection_facts: what listener filters note, and the list of all of them. */
#include "filter/connection_facts.h"

#include "filter/listener_filters.h"
#include "proxy/downstream.h"
#include "proxy/metadata.h"

void listener_filters_register(void) {
    listener_filter_register(&listener_filter_kind_tls_inspector);
    listener_filter_register(&listener_filter_kind_http_inspector);
    listener_filter_register(&listener_filter_kind_proxy_protocol);
    listener_filter_register(&listener_filter_kind_original_dst);
    listener_filter_register(&listener_filter_kind_sniffer);
}

/* More than CONNECTION_PROTOCOLS_MAX are left out: nobody offers so many, and the first ones are preferred. */
bool note_client_hello(struct connection_info *info, const struct client_hello *hello) {
    char name[CLIENT_HELLO_NAME_MAX];
    struct client_hello_part rest = hello->protocols;
    uint32_t count = 0;
    for (size_t len;
         count < CONNECTION_PROTOCOLS_MAX && (len = client_hello_next_protocol(&rest, name)) > 0;
         count++) {
        info->application_protocols[count] = connection_info_keep(info, span_make(name, len));
        if (span_is_none(info->application_protocols[count]))
            return false;
    }
    info->application_protocol_count = count;
    info->is_tls = true;
    if (hello->server_name_len == 0)
        return true;
    info->server_name =
        connection_info_keep(info, span_make(hello->server_name, hello->server_name_len));
    return !span_is_none(info->server_name);
}

void note_application_protocol(struct connection_info *info, struct span name) {
    info->application_protocols[0] = name;
    info->application_protocol_count = 1;
}

static struct address *keep_address(struct connection_info *info, const struct address *address) {
    struct address *copy = connection_info_alloc(info, sizeof *copy);
    if (copy)
        *copy = *address;
    return copy;
}

bool note_local_address(struct connection_info *info, const struct address *local) {
    info->local = keep_address(info, local);
    return info->local != NULL;
}

bool note_proxy_addresses(struct connection_info *info, const struct downstream *d,
                          const struct proxy_header *header) {
    if (!header->has_addresses)
        return true;
    struct address own;
    socket_local_address(&d->socket, &own);
    if (!address_eq(&own, &header->destination) && !note_local_address(info, &header->destination))
        return false;
    info->remote = keep_address(info, &header->source);
    return info->remote != NULL;
}

bool note_metadata(struct connection_info *info, struct span name_space, struct span key,
                   struct span text) {
    if (!info->metadata)
        info->metadata = metadata_new();
    return info->metadata && metadata_set_text(info->metadata, name_space, key, text) == 0;
}
