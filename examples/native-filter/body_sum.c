/* body_sum: a native filter that looks at bodies: the CRC-32 and the size of each response's, for the access log. The
 * body passes as it comes: nothing is copied, held back or allocated for a read. */
#include <zlib.h>

#include "config/schema.h"
#include "io/stream_hook.h"
#include "proxy/exchange.h"
#include "proxy/filter_registry.h"
#include "proxy/metadata.h"

/* ---- One exchange ---- */

struct body_sum {
    struct hook_reader hook; /* stands between the upstream's body and who sends it on */
    struct exchange *x;
    uLong crc;
    uint64_t bytes;
};

/* Each run of bytes, where it lies, before it goes out. It is ours until we return. */
static void see(void *arg, struct span run) {
    struct body_sum *sum = arg;
    sum->crc = crc32(sum->crc, (const Bytef *)run.ptr, (uInt)run.len);
    sum->bytes += run.len;
}

/* Once: 0, or how the body broke. Then there is no sum, and the log says "-". */
static void end(void *arg, int error) {
    struct body_sum *sum = arg;
    struct metadata *metadata = error ? NULL : exchange_metadata(sum->x);
    struct span crc = arena_printf(&sum->x->arena, "%08lx", sum->crc);
    struct span bytes = arena_decimal(&sum->x->arena, sum->bytes);
    if (!metadata || span_is_none(crc) || span_is_none(bytes))
        return;
    int rc = metadata_set_text(metadata, SPAN_LIT("body_sum"), SPAN_LIT("crc32"), crc);
    if (rc == 0)
        rc = metadata_set_text(metadata, SPAN_LIT("body_sum"), SPAN_LIT("bytes"), bytes);
    (void)rc; /* memory is short: the log says "-" */
}

/* Lives in the exchange's arena, so there is nothing to destroy. NULL: memory is short, and the exchange gets 500. */
static void *create(struct exchange *x, const struct filter_factory *factory) {
    struct body_sum *sum = arena_zalloc(&x->arena, sizeof *sum);
    if (sum)
        sum->x = x;
    return sum;
}

/* The response's head is here, the body is still to come: put an observer in front of it. */
static void response(struct exchange *x, void *self) {
    struct body_sum *sum = self;
    if (!x->response.body.itab)
        return; /* it has none */
    struct stream_observer observer = {.bytes = see, .end = end, .arg = sum};
    hook_reader_init(&sum->hook, x->response.body, observer);
    x->response.body = hook_reader(&sum->hook);
}

static const struct filter_itab itab = {
    .name = "example.filters.http.body_sum",
    .create = create,
    .response = response,
};

/* ---- How it is configured: typed_config, here a message without fields ---- */

struct config {
    char unused;
};

static const struct cfg_schema schema = {
    .name = "example.BodySum",
    .doc = "The CRC-32 of each response's body, as metadata.",
    .size = sizeof(struct config),
};

static const struct cfg_any_type type = {
    .schema = &schema,
    .slot = CFG_SLOT_HTTP_FILTER,
    .extension = "example.filters.http.body_sum",
};

/* Once per entry of http_filters; what it puts into *config is the filter's, until free_config. */
static int build(const struct cfg_any *typed_config, struct cfg_problems *problems, void **config) {
    return 0;
}

static const struct filter_kind kind = {.itab = &itab, .schema = &schema, .build = build};

/* Before main, so that Sluice knows the filter when it reads its configuration. */
__attribute__((constructor)) static void add(void) {
    cfg_any_type_add(&type);
    filter_register(&kind);
}
