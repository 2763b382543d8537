/* body_sum: a filter that looks at bodies: the CRC-32 and the size of each response's, for the access log. The body
 * passes as it comes: nothing is copied, held back or allocated for a read. */
#include <errno.h>
#include <stdlib.h>

#include <sluice/filter.h>
#include <zlib.h>

/* ---- One exchange ---- */

struct body_sum {
    struct sluice_exchange *x;
    const char *name_space; /* of the metadata */
    uLong crc;
    uint64_t bytes;
};

/* Each run of bytes, where it lies, before it goes out. It is ours until we return. */
static void see(void *arg, struct sluice_span run) {
    struct body_sum *sum = arg;
    sum->crc = crc32(sum->crc, (const Bytef *)run.ptr, (uInt)run.len);
    sum->bytes += run.len;
}

/* Once: 0, or how the body broke. Then there is no sum, and the log says "-". */
static void end(void *arg, int error) {
    struct body_sum *sum = arg;
    struct sluice_span name_space = sluice_text(sum->name_space);
    char crc[9];
    if (error)
        return;
    int len = snprintf(crc, sizeof crc, "%08lx", sum->crc);
    int rc = sluice_metadata_set_text(sum->x, name_space, SLUICE_LIT("crc32"),
                                      sluice_bytes(crc, (size_t)len));
    if (rc == 0)
        rc = sluice_metadata_set_number(sum->x, name_space, SLUICE_LIT("bytes"),
                                        (double)sum->bytes);
    if (rc != 0)
        sluice_log(SLUICE_WARN, "body_sum: no memory for a sum");
}

/* Memory of the exchange goes with it: there is nothing to destroy. NULL: the client gets 500. */
static void *create(struct sluice_exchange *x, void *config) {
    struct body_sum *sum = sluice_alloc(x, sizeof *sum);
    if (sum) {
        sum->x = x;
        sum->name_space = config;
    }
    return sum;
}

/* The response's head is here, the body is still to come: put an observer in front of it. */
static void response(struct sluice_exchange *x, void *self) {
    const struct sluice_observer observer = {see, end, self};
    if (sluice_body_observe(x, SLUICE_RESPONSE, &observer) != 0)
        sluice_log(SLUICE_WARN, "body_sum: no memory to look at a body");
}

/* ---- The configuration: {namespace: TEXT} ---- */

static int configure(const struct sluice_config *config, void **out) {
    struct sluice_span name = SLUICE_LIT("body_sum");
    (void)sluice_config_text(config, SLUICE_LIT("namespace"), &name);
    if (name.len == 0) {
        sluice_config_error(config, SLUICE_LIT("namespace must not be empty"));
        return -EINVAL;
    }
    *out = strndup(name.ptr, name.len); /* the span is gone when we return */
    return *out ? 0 : -ENOMEM;
}

SLUICE_PLUGIN(.name = "body_sum", .configure = configure, .free_config = free, .create = create,
              .response = response);
