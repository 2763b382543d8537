/* attribute_text: values as Envoy's Go host writes them, which leaves that to Abseil. */
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "proxy/attribute.h"
#include "proxy/stream_info.h"

enum { TEXT_MAX = 64 };

/* Whole units and the fraction of one, without zeros at its end. unit_ns is a power of ten. Nothing for zero. */
static void put_units(struct format_out *out, uint64_t ns, uint64_t unit_ns, const char *unit) {
    char digits[24] = "";
    if (ns == 0)
        return;
    attribute_put_integer(out, (int64_t)(ns / unit_ns));
    int len = 0;
    uint64_t fraction = ns % unit_ns;
    for (uint64_t scale = unit_ns / 10; fraction; scale /= 10) {
        digits[len++] = (char)('0' + fraction / scale);
        fraction %= scale;
    }
    if (len) {
        format_out_put(out, SPAN_LIT("."));
        format_out_put(out, span_make(digits, (size_t)len));
    }
    format_out_put(out, span_of(unit));
}

void attribute_put_duration(struct format_out *out, int64_t ns) {
    uint64_t left = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    if (ns < 0)
        format_out_put(out, SPAN_LIT("-"));
    if (ns == 0) {
        format_out_put(out, SPAN_LIT("0"));
    } else if (left < 1000) {
        put_units(out, left, 1, "ns");
    } else if (left < NS_PER_MS) {
        put_units(out, left, 1000, "us");
    } else if (left < NS_PER_S) {
        put_units(out, left, NS_PER_MS, "ms");
    } else {
        const uint64_t minute_ns = 60 * (uint64_t)NS_PER_S;
        put_units(out, left / (60 * minute_ns), 1, "h");
        put_units(out, left / minute_ns % 60, 1, "m");
        put_units(out, left % minute_ns, NS_PER_S, "s");
    }
}

void attribute_put_time(struct format_out *out, int64_t wall_ns) {
    char text[TEXT_MAX];
    struct tm at;
    time_t seconds = wall_ns / NS_PER_S;
    uint32_t fraction = (uint32_t)(wall_ns % NS_PER_S);
    (void)gmtime_r(&seconds, &at);
    size_t len = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &at);
    if (fraction) {
        len += (size_t)snprintf(text + len, sizeof text - len, ".%09u", fraction);
        while (text[len - 1] == '0')
            len--;
    }
    format_out_put(out, span_make(text, len));
    format_out_put(out, SPAN_LIT("+00:00"));
}

void attribute_put_double(struct format_out *out, double number) {
    char text[TEXT_MAX];
    int len = snprintf(text, sizeof text, "%g", number);
    format_out_put(out, span_make(text, (size_t)len));
}

void attribute_put_integer(struct format_out *out, int64_t number) {
    char text[TEXT_MAX];
    int len = snprintf(text, sizeof text, "%lld", (long long)number);
    format_out_put(out, span_make(text, (size_t)len));
}

uint64_t attribute_flags(uint32_t flags) {
    static const struct {
        uint32_t ours;
        uint8_t bit;
    } bits[] = {
        {FLAG_NO_HEALTHY_UPSTREAM, 1},
        {FLAG_UPSTREAM_REQUEST_TIMEOUT, 2},
        {FLAG_LOCAL_RESET, 3},
        {FLAG_UPSTREAM_REMOTE_RESET, 4},
        {FLAG_UPSTREAM_CONNECTION_FAILURE, 5},
        {FLAG_UPSTREAM_CONNECTION_TERMINATION, 6},
        {FLAG_UPSTREAM_OVERFLOW, 7},
        {FLAG_NO_ROUTE_FOUND, 8},
        {FLAG_DOWNSTREAM_CONNECTION_TERMINATION, 14},
        {FLAG_UPSTREAM_RETRY_LIMIT_EXCEEDED, 15},
        {FLAG_STREAM_IDLE_TIMEOUT, 16},
        {FLAG_DOWNSTREAM_PROTOCOL_ERROR, 18},
        {FLAG_UPSTREAM_MAX_STREAM_DURATION, 19},
        {FLAG_DURATION_TIMEOUT, 22},
        {FLAG_UPSTREAM_PROTOCOL_ERROR, 23},
        {FLAG_NO_CLUSTER_FOUND, 24},
        {FLAG_DNS_FAILURE, 26},
    };
    uint64_t mask = 0;
    for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++)
        if (flags & bits[i].ours)
            mask |= (uint64_t)1 << bits[i].bit;
    return mask;
}
