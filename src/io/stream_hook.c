#include "io/stream_hook.h"

static void tell_end(const struct stream_observer *observer, bool *ended, int error) {
    if (*ended)
        return;
    *ended = true;
    if (observer->end)
        observer->end(observer->arg, error);
}

/* ---- Reading ---- */

void hook_reader_init(struct hook_reader *hook, struct reader inner,
                      struct stream_observer observer) {
    *hook = (struct hook_reader){.layer.inner = inner, .observer = observer};
}

static inline ssize_t pull(struct hook_reader *hook, size_t max, struct span *out,
                           reader_step step) {
    ssize_t n = step(hook->layer.inner, max, out);
    if (n > 0)
        hook->observer.bytes(hook->observer.arg, *out);
    else if (reader_is_over(n))
        tell_end(&hook->observer, &hook->ended, (int)n);
    return n;
}

static ssize_t next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_next);
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_try_next);
}

static void close_reader(void *data) {
    struct hook_reader *hook = data;
    tell_end(&hook->observer, &hook->ended, -ECANCELED);
    reader_layer_close(data);
}

struct reader hook_reader(struct hook_reader *hook) {
    static const struct reader_itab itab = {
        .next = next, .close = close_reader, .peek = reader_layer_peek, .try_next = try_next};
    return (struct reader){&itab, hook};
}

/* ---- Writing ---- */

void hook_writer_init(struct hook_writer *hook, struct writer inner,
                      struct stream_observer observer) {
    *hook = (struct hook_writer){.layer.inner = inner, .observer = observer};
}

static void show(const struct hook_writer *hook, const struct iovec *pieces, int count,
                 size_t size) {
    for (int i = 0; i < count && size; i++) {
        size_t n = pieces[i].iov_len < size ? pieces[i].iov_len : size;
        if (n)
            hook->observer.bytes(hook->observer.arg, span_make(pieces[i].iov_base, n));
        size -= n;
    }
}

static int write_pieces(void *data, struct iovec *pieces, int count) {
    struct hook_writer *hook = data;
    if (!hook->ended)
        show(hook, pieces, count, SIZE_MAX);
    int rc = writer_write(hook->layer.inner, pieces, count);
    if (rc != 0)
        tell_end(&hook->observer, &hook->ended, rc);
    return rc;
}

static ssize_t try_write(void *data, const struct iovec *pieces, int count) {
    struct hook_writer *hook = data;
    ssize_t n = writer_try_write(hook->layer.inner, pieces, count);
    if (n > 0)
        show(hook, pieces, count, (size_t)n);
    else if (n != 0 && reader_is_over(n))
        tell_end(&hook->observer, &hook->ended, (int)n);
    return n;
}

static int finish(void *data) {
    struct hook_writer *hook = data;
    int rc = writer_finish(hook->layer.inner);
    tell_end(&hook->observer, &hook->ended, rc);
    return rc;
}

static void abort_writer(void *data) {
    struct hook_writer *hook = data;
    tell_end(&hook->observer, &hook->ended, -ECANCELED);
    writer_layer_abort(data);
}

static void close_writer(void *data) {
    struct hook_writer *hook = data;
    tell_end(&hook->observer, &hook->ended, -ECANCELED);
    writer_layer_close(data);
}

struct writer hook_writer(struct hook_writer *hook) {
    static const struct writer_itab itab = {.write = write_pieces,
                                            .try_write = try_write,
                                            .finish = finish,
                                            .abort = abort_writer,
                                            .close = close_writer};
    return (struct writer){&itab, hook};
}
