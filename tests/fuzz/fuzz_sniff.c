/* What a client speaks: once there is a verdict, more bytes do not change it, 128 are always enough, and the parsers
 * behind it agree. */
#include <stdlib.h>

#include "io/client_hello.h"
#include "io/request_line.h"
#include "io/sniff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum sniff_protocol first = SNIFF_MORE;
    enum request_line line = REQUEST_LINE_MORE;
    struct client_hello hello;
    if (size > 2 * SNIFF_BYTES)
        size = 2 * SNIFF_BYTES;
    for (size_t len = 0; len <= size; len++) {
        char *copy = malloc(len ? len : 1);
        ASSERT(copy);
        if (len)
            memcpy(copy, data, len);
        enum sniff_protocol found = sniff(span_make(copy, len));
        ASSERT(first == SNIFF_MORE || found == first);
        ASSERT(found != SNIFF_MORE || len < SNIFF_BYTES);
        first = found;
        enum request_line seen = request_line_look(span_make(copy, len));
        ASSERT(line == REQUEST_LINE_MORE || seen == line);
        line = seen;
        free(copy);
    }
    struct span all = span_make(data, size);
    if (first == SNIFF_TLS)
        ASSERT(client_hello_read(span_make(data, 6), &hello) != CLIENT_HELLO_NONE);
    if (first == SNIFF_H2C)
        ASSERT(request_line_look(all) == REQUEST_LINE_H2C);
    if (first == SNIFF_HTTP_1_0)
        ASSERT(request_line_look(all) == REQUEST_LINE_HTTP_1_0);
    if (size < SNIFF_BYTES && first == SNIFF_HTTP_1_1)
        ASSERT(request_line_look(all) == REQUEST_LINE_HTTP_1_1);
    return 0;
}
