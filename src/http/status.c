#include "http/status.h"

#include "http/http1.h"

enum { STATUS_FIRST = 100, STATUS_LAST = 599, PREFIX_LEN = sizeof "HTTP/1.1 200 " - 1 };

static const struct span lines[STATUS_LAST - STATUS_FIRST + 1] = {
#define X(code, phrase) [code - STATUS_FIRST] = SPAN_INIT("HTTP/1.1 " #code " " phrase "\r\n"),
    STATUS_CODES(X)
#undef X
};

struct span status_line(unsigned status) {
    return status < STATUS_FIRST || status > STATUS_LAST ? span_none()
                                                         : lines[status - STATUS_FIRST];
}

struct span http1_reason(unsigned status) {
    struct span line = status_line(status);
    if (span_is_none(line))
        return SPAN_LIT("Unknown");
    return span_make(line.ptr + PREFIX_LEN, line.len - PREFIX_LEN - 2);
}

unsigned status_to_grpc(unsigned status) {
    switch (status) {
    case 400:
        return 13; /* INTERNAL */
    case 401:
        return 16; /* UNAUTHENTICATED */
    case 403:
        return 7; /* PERMISSION_DENIED */
    case 404:
        return 12; /* UNIMPLEMENTED */
    case 429:
    case 502:
    case 503:
    case 504:
        return 14; /* UNAVAILABLE */
    default:
        return 2; /* UNKNOWN */
    }
}
