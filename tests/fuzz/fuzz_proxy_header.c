/* PROXY headers: once there is a verdict, more bytes do not change it, and a header that was read is written as one
 * that reads the same. */
#include <stdlib.h>

#include "io/proxy_header.h"

enum { INPUT_MAX = 4096, TLVS_MAX = INPUT_MAX / 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct proxy_header *a, const struct proxy_header *b) {
    ASSERT(a->has_addresses == b->has_addresses);
    ASSERT(!a->has_addresses || address_eq(&a->source, &b->source));
    ASSERT(!a->has_addresses || address_eq(&a->destination, &b->destination));
}

static void check_round_trip(const struct proxy_header *header) {
    static struct proxy_tlv tlvs[TLVS_MAX];
    static char out[PROXY_HEADER_MAX];
    struct span rest = header->tlvs;
    struct proxy_header again;
    size_t count = 0, left_out;
    while (proxy_tlv_next(&rest, &tlvs[count]))
        count++;
    ASSERT(rest.len == 0);
    size_t size =
        proxy_header_size_v2(&header->source, &header->destination, tlvs, count, &left_out);
    ASSERT(left_out == 0);
    ASSERT(size == proxy_header_write_v2(out, &header->source, &header->destination, tlvs, count));
    ASSERT(proxy_header_read(span_make(out, size), PROXY_HEADER_V2, &again) == PROXY_HEADER_DONE);
    ASSERT(again.bytes == size);
    ASSERT(span_eq(again.tlvs, header->tlvs));
    check_same(header, &again);
    size = proxy_header_write_v1(out, &header->source, &header->destination);
    ASSERT(size <= PROXY_HEADER_V1_MAX);
    ASSERT(proxy_header_read(span_make(out, size), PROXY_HEADER_V1, &again) == PROXY_HEADER_DONE);
    check_same(header, &again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum proxy_header_verdict first = PROXY_HEADER_MORE;
    if (size > INPUT_MAX)
        return 0;
    for (size_t len = 0; len <= size; len++) {
        struct proxy_header header;
        char *copy = malloc(len ? len : 1);
        ASSERT(copy);
        if (len)
            memcpy(copy, data, len);
        enum proxy_header_verdict verdict =
            proxy_header_read(span_make(copy, len), PROXY_HEADER_ANY, &header);
        ASSERT(first == PROXY_HEADER_MORE || verdict == first);
        if (first == PROXY_HEADER_MORE && verdict == PROXY_HEADER_DONE) {
            ASSERT(header.bytes == len);
            check_round_trip(&header);
        }
        first = verdict;
        free(copy);
    }
    return 0;
}
