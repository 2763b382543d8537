/* stream_layer: what a decorator has first, and what it does where it has nothing to add: it asks the reader, or the
 * writer, inside. Private to io: functions for itabs, whose data begins with a layer.
 *
 * Ownership  A layer owns what it wraps, and closes it once. */
#pragma once
#include "io/reader.h"
#include "io/writer.h"

struct reader_layer {
    struct reader inner;
    bool closed;
};

enum reader_peek reader_layer_peek(void *data);
uint64_t reader_layer_unread(void *data);
ssize_t reader_layer_splice(void *data, struct splice *splice, size_t max);
ssize_t reader_layer_try_splice(void *data, struct splice *splice, size_t max);
void reader_layer_close(void *data);

struct writer_layer {
    struct writer inner;
    bool closed;
};

int writer_layer_write(void *data, struct iovec *pieces, int count);
ssize_t writer_layer_try_write(void *data, const struct iovec *pieces, int count);
enum writer_splices writer_layer_can_splice(void *data);
ssize_t writer_layer_splice(void *data, struct splice *splice);
ssize_t writer_layer_try_splice(void *data, struct splice *splice);
int writer_layer_finish(void *data);
void writer_layer_abort(void *data);
void writer_layer_close(void *data);
