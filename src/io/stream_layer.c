#include "io/stream_layer.h"

/* ---- Reading ---- */

enum reader_peek reader_layer_peek(void *data) {
    const struct reader_layer *layer = data;
    return reader_peek(layer->inner);
}

uint64_t reader_layer_unread(void *data) {
    const struct reader_layer *layer = data;
    return reader_unread(layer->inner);
}

ssize_t reader_layer_splice(void *data, struct splice *splice, size_t max) {
    const struct reader_layer *layer = data;
    return reader_splice(layer->inner, splice, max);
}

ssize_t reader_layer_try_splice(void *data, struct splice *splice, size_t max) {
    const struct reader_layer *layer = data;
    return reader_try_splice(layer->inner, splice, max);
}

void reader_layer_close(void *data) {
    struct reader_layer *layer = data;
    if (layer->closed)
        return;
    layer->closed = true;
    reader_close(layer->inner);
}

/* ---- Writing ---- */

int writer_layer_write(void *data, struct iovec *pieces, int count) {
    const struct writer_layer *layer = data;
    return writer_write(layer->inner, pieces, count);
}

ssize_t writer_layer_try_write(void *data, const struct iovec *pieces, int count) {
    const struct writer_layer *layer = data;
    return writer_try_write(layer->inner, pieces, count);
}

enum writer_splices writer_layer_can_splice(void *data) {
    const struct writer_layer *layer = data;
    return writer_can_splice(layer->inner);
}

ssize_t writer_layer_splice(void *data, struct splice *splice) {
    const struct writer_layer *layer = data;
    return writer_splice(layer->inner, splice);
}

ssize_t writer_layer_try_splice(void *data, struct splice *splice) {
    const struct writer_layer *layer = data;
    return writer_try_splice(layer->inner, splice);
}

int writer_layer_finish(void *data) {
    const struct writer_layer *layer = data;
    return writer_finish(layer->inner);
}

void writer_layer_abort(void *data) {
    const struct writer_layer *layer = data;
    writer_abort(layer->inner);
}

void writer_layer_close(void *data) {
    struct writer_layer *layer = data;
    if (layer->closed)
        return;
    layer->closed = true;
    writer_close(layer->inner);
}
