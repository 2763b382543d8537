/* stream_text: a text that is put before a stream (stream_prefix.h) or behind it (stream_footer.h): one that is
 * there, or one that is made when it is first needed, when what it tells of is known. */
#pragma once
#include "base/span.h"

struct stream_text {
    struct span bytes;
    /* NULL: `bytes` is it. Once at most; borrowed until the stream is closed. The absent span: memory is short,
     * and the stream fails with -ENOMEM. Must not park. */
    struct span (*make)(void *arg);
    void *arg;
};

static inline struct stream_text stream_text_of(struct span bytes) {
    return (struct stream_text){.bytes = bytes};
}

/* Borrowed as the text is; the absent span when memory is short. */
static inline struct span stream_text_take(struct stream_text *text) {
    if (text->make) {
        text->bytes = text->make(text->arg);
        text->make = NULL;
    }
    return text->bytes;
}
