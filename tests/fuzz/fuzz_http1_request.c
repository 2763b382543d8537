/* Request heads: the verdict does not depend on how the bytes arrive, and what was accepted is
 * written as a head that parses to the same fields. */
#include <errno.h>

#include "fuzz_http1_head.h"

static bool parse(struct arena *arena, struct header_map *map, struct http1_head *head, char *bytes,
                  size_t len) {
    const struct http1_limits limits = {.head_bytes = FUZZ_INPUT_MAX + 1024, .header_count = 4096};
    struct http1_parser parser;
    http1_parser_init(&parser, &limits);
    header_map_init(map, arena);
    *head = (struct http1_head){.headers = map};
    return http1_parse_request(&parser, bytes, len, head) == HTTP1_DONE;
}

static enum http1_transfer transfer_of(const struct http1_head *head) {
    return head->framing == HTTP1_BODY_CHUNKED  ? HTTP1_SEND_CHUNKED
           : head->framing == HTTP1_BODY_LENGTH ? HTTP1_SEND_LENGTH
                                                : HTTP1_SEND_NONE;
}

static void check_round_trip(char *bytes, size_t len) {
    struct block_cache cache;
    block_cache_init(&cache);
    struct arena arena;
    arena_init(&arena, &cache, 16 << 20);
    struct header_map map, again_map;
    struct http1_head head, again;
    if (parse(&arena, &map, &head, bytes, len)) {
        enum http1_framing framing = head.framing;
        http1_strip_hop_by_hop(&map);
        struct http1_writer writer;
        ASSERT(http1_write_request(&writer, &arena, &map, transfer_of(&head), span_none()) == 0);
        ASSERT(writer.iov_count <= HTTP1_IOV_MAX);
        char *out = arena_alloc(&arena, writer.bytes), *at = out;
        ASSERT(out != NULL);
        for (int i = 0; i < writer.iov_count; i++) {
            memcpy(at, writer.iov[i].iov_base, writer.iov[i].iov_len);
            at += writer.iov[i].iov_len;
        }
        char *room = arena_alloc(&arena, HTTP1_SMALL_ROOM);
        ASSERT(room != NULL);
        ssize_t small = http1_render_request(room, &map, transfer_of(&head), span_none());
        ASSERT(small == -E2BIG || (size_t)small == writer.bytes);
        ASSERT(small < 0 || memcmp(room, out, writer.bytes) == 0);
        /* HTTP/1.0 may lack the Host that 1.1 needs. */
        if (header_has(&map, HDR_AUTHORITY)) {
            ASSERT(parse(&arena, &again_map, &again, out, writer.bytes));
            ASSERT(again.head_bytes == writer.bytes);
            ASSERT(again.framing == framing);
            header_remove_id(&again_map, HDR_TRANSFER_ENCODING);
            ASSERT(again_map.count == map.count);
            for (uint32_t i = 0; i < map.count; i++) {
                if (map.entries[i].id == HDR_SCHEME)
                    continue; /* https:// in the target does not go out */
                ASSERT(span_eq(header_name(&map.entries[i]), header_name(&again_map.entries[i])));
                ASSERT(span_eq(header_value(&map.entries[i]), header_value(&again_map.entries[i])));
            }
        }
    }
    arena_fini(&arena);
    block_cache_fini(&cache);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_head(REQUEST, span_none(), data, size);
    if (size > FUZZ_PREFIX && size <= FUZZ_INPUT_MAX) {
        size_t len = size - FUZZ_PREFIX;
        char *bytes = malloc(len);
        memcpy(bytes, data + FUZZ_PREFIX, len);
        check_round_trip(bytes, len);
        free(bytes);
    }
    return 0;
}
