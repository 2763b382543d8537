/* stream_info: response flags as text. Envoy prints them in the order in which they were set; a mask
 * does not keep it, so they come in the order in which things happen to a request. */
#include "proxy/stream_info.h"

enum { FLAGS_TEXT_MAX = 128 }; /* what the caller's buffer holds at least */

static const struct {
    enum response_flag flag;
    const char *name, *long_name;
} flags[] = {
    {FLAG_DOWNSTREAM_PROTOCOL_ERROR, "DPE", "DownstreamProtocolError"},
    {FLAG_OVERLOAD, "OM", "OverloadManagerTerminated"},
    {FLAG_NO_ROUTE_FOUND, "NR", "NoRouteFound"},
    {FLAG_NO_CLUSTER_FOUND, "NC", "NoClusterFound"},
    {FLAG_DNS_FAILURE, "DF", "DnsResolutionFailed"},
    {FLAG_NO_HEALTHY_UPSTREAM, "UH", "NoHealthyUpstream"},
    {FLAG_UPSTREAM_OVERFLOW, "UO", "UpstreamOverflow"},
    {FLAG_UPSTREAM_REQUEST_TIMEOUT, "UT", "UpstreamRequestTimeout"},
    {FLAG_UPSTREAM_MAX_STREAM_DURATION, "UMSDR", "UpstreamMaxStreamDurationReached"},
    {FLAG_LOCAL_RESET, "LR", "LocalReset"},
    {FLAG_UPSTREAM_REMOTE_RESET, "UR", "UpstreamRemoteReset"},
    {FLAG_UPSTREAM_CONNECTION_FAILURE, "UF", "UpstreamConnectionFailure"},
    {FLAG_UPSTREAM_CONNECTION_TERMINATION, "UC", "UpstreamConnectionTermination"},
    {FLAG_UPSTREAM_PROTOCOL_ERROR, "UPE", "UpstreamProtocolError"},
    {FLAG_UPSTREAM_RETRY_LIMIT_EXCEEDED, "URX", "UpstreamRetryLimitExceeded"},
    {FLAG_STREAM_IDLE_TIMEOUT, "SI", "StreamIdleTimeout"},
    {FLAG_DURATION_TIMEOUT, "DT", "DurationTimeout"},
    {FLAG_DOWNSTREAM_CONNECTION_TERMINATION, "DC", "DownstreamConnectionTermination"},
};

size_t stream_info_flags_text(uint32_t mask, bool long_names, char *out) {
    size_t len = 0;
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (!(mask & flags[i].flag))
            continue;
        struct span name = span_of(long_names ? flags[i].long_name : flags[i].name);
        if (len + 1 + name.len > FLAGS_TEXT_MAX) /* more long names at once than ever happens */
            break;
        if (len > 0)
            out[len++] = ',';
        memcpy(out + len, name.ptr, name.len);
        len += name.len;
    }
    if (len == 0)
        out[len++] = '-';
    return len;
}
