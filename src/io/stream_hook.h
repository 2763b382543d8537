/* stream_hook: an observer sees exactly the bytes that pass, where they lie.
 *
 * It sees each byte once and in order, before whoever reads does: of a reader what it lends, of a writer what
 * is written; of a write that fails it has seen all, though nobody knows how far that went. Nothing is copied
 * or held back, and since somebody has to look at the bytes they are not spliced.
 *
 * Borrows  A reader lends what the reader inside lends, and for as long.
 * Memory   None but the struct, which its owner keeps until it was closed. */
#pragma once
#include "io/stream_layer.h"

struct stream_observer {
    /* Borrows the bytes until it returns, and leaves them as they are. Must not park. */
    void (*bytes)(void *arg, struct span bytes);
    /* Once, by the time it is closed: 0 at the end of the stream, or how it failed; -ECANCELED: it was closed, or
     * aborted, before either. May be NULL. */
    void (*end)(void *arg, int error);
    void *arg;
};

struct hook_reader {
    struct reader_layer layer;
    struct stream_observer observer;
    bool ended;
};

void hook_reader_init(struct hook_reader *hook, struct reader inner BORROWED_BY(hook),
                      struct stream_observer observer BORROWED_BY(hook));
struct reader hook_reader(struct hook_reader *hook BORROWED_BY(result));

struct hook_writer {
    struct writer_layer layer;
    struct stream_observer observer;
    bool ended;
};

void hook_writer_init(struct hook_writer *hook, struct writer inner BORROWED_BY(hook),
                      struct stream_observer observer BORROWED_BY(hook));
struct writer hook_writer(struct hook_writer *hook BORROWED_BY(result));
