/* Formats of access logs and header values: "FORMAT NUL VALUE", where VALUE is what x-a holds. Either
 * the format is refused with a problem, or it prints, as text and as a JSON string. */
#include <stdlib.h>

#include "mem/block.h"
#include "proxy/access_log_internal.h"
#include "proxy/exchange.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void print(const struct format *format, const struct json_template *json,
                  struct span value) {
    struct block_cache cache;
    struct exchange x = {0};
    struct format_out out = {0};
    block_cache_init(&cache);
    arena_init(&x.arena, &cache, 1 << 20);
    header_map_init(&x.request.headers, &x.arena);
    header_map_init(&x.response.headers, &x.arena);
    header_map_init(&x.response.trailers, &x.arena);
    x.info.downstream_remote = x.info.upstream_remote = value;
    x.info.response_code_details = value;
    ASSERT(header_add(&x.request.headers, HDR_OTHER, SPAN_LIT("x-a"), value) == 0);
    if (header_set_id(&x.request.headers, HDR_PATH, value) < 0) /* it may be no path */
        ASSERT(header_set_id(&x.request.headers, HDR_PATH, SPAN_LIT("/")) == 0);
    const struct format_subject of = format_of_exchange(&x);
    format_write(format, &of, SPAN_LIT("-"), &out, NULL);
    json_template_write(json, &of, &out);
    ASSERT(!out.failed);
    free(out.data);
    arena_fini(&x.arena);
    block_cache_fini(&cache);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = memchr(data, 0, size);
    struct span text = span_make(data, end ? (size_t)(end - data) : size);
    struct span rest = end ? span_make(end + 1, size - text.len - 1) : SPAN_LIT("value");
    if (!header_value_is_valid(rest))
        rest = SPAN_LIT("value");
    struct cfg_problems problems = {0};
    struct cfg_mark mark = {0};
    struct format *format = format_compile(text, &mark, &problems);
    ASSERT((format == NULL) == (problems.count > 0));
    if (format) {
        struct cfg_value_field field = {.key = rest,
                                        .value = {.kind = CFG_VALUE_STRING, .string = text}};
        struct cfg_value value = {.kind = CFG_VALUE_STRUCT, .fields = &field, .fields_count = 1};
        struct json_template *json = json_template_build(&value, false, &mark, &problems);
        ASSERT(json);
        print(format, json, rest);
        json_template_free(json);
    }
    format_free(format);
    cfg_problems_fini(&problems);
    return 0;
}
