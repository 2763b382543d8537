/* go_value: see the header. */
#include "ext/go/go_value.h"

#include "ext/go/go_abi.h"
#include "proxy/route.h"
#include "proxy/stream_info.h"

static struct span or_empty(struct span text) {
    return span_is_none(text) ? SPAN_LIT("") : text;
}

struct span go_value_text(const struct attribute_subject *of, int id, char text[ADDRESS_TEXT_MAX]) {
    const struct stream_info *info = of->info;
    switch (id) {
    case GO_VALUE_ROUTE_NAME: /* these two are never absent */
        return or_empty(of->route ? of->route->name : info->route_name);
    case GO_VALUE_FILTER_CHAIN_NAME:
        return or_empty(info->filter_chain);
    case GO_VALUE_RESPONSE_CODE_DETAILS:
        return attribute_code_details(of);
    case GO_VALUE_DOWNSTREAM_LOCAL:
        return attribute_downstream_address(of, true, text);
    case GO_VALUE_DOWNSTREAM_REMOTE:
        return attribute_downstream_address(of, false, text);
    case GO_VALUE_UPSTREAM_LOCAL:
        return info->upstream_local;
    case GO_VALUE_UPSTREAM_REMOTE:
        return info->upstream_remote;
    case GO_VALUE_UPSTREAM_CLUSTER:
        return info->upstream_cluster;
    case GO_VALUE_VIRTUAL_CLUSTER:
        return info->virtual_cluster;
    default: /* other ids are not text */
        return span_none();
    }
}

bool go_value_number(const struct attribute_subject *of, int id, uint64_t *value) {
    unsigned status = attribute_response_code(of);
    if (id == GO_VALUE_PROTOCOL)
        *value = of->info->protocol;
    else if (id == GO_VALUE_RESPONSE_CODE && status)
        *value = status;
    else if (id == GO_VALUE_ATTEMPT_COUNT && of->info->upstream_attempts)
        *value = of->info->upstream_attempts;
    else
        return false;
    return true;
}
