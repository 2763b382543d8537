/* stream_text: a text that is put before a stream (stream_prefix.h) or behind it (stream_footer.h): one that is
 * there, or one that is made when it is first needed, when what it tells of is known. */
#pragma once
#include <errno.h>
#include <sys/types.h>

#include "base/span.h"

struct stream_text {
    struct span bytes;
    /* NULL: `bytes` is it. Once at most; borrowed until the stream is closed. The absent span: memory is short,
     * and the stream fails with -ENOMEM. Must not park. */
    struct span (*make)(void *arg);
    void *arg;

    /* Private to io. */
    struct span rest; /* what of it is still to be put there, once it was begun */
    int error;
    bool begun;
};

static inline struct stream_text stream_text_of(struct span bytes) {
    return (struct stream_text){.bytes = bytes};
}

/* Private to io: `rest` is known from here on. 0, or the sticky error. */
static inline int stream_text_begin(struct stream_text *text) {
    if (!text->begun) {
        text->begun = true;
        text->rest = text->make ? text->make(text->arg) : text->bytes;
        if (span_is_none(text->rest))
            text->error = -ENOMEM;
    }
    return text->error;
}

/* Private to io: the next of it; 0: that was all. Borrowed as the text is. */
static inline ssize_t stream_text_lend(struct stream_text *text, size_t max, struct span *out) {
    size_t n = text->rest.len < max ? text->rest.len : max;
    *out = span_make(text->rest.ptr, n);
    text->rest = span_from(text->rest, n);
    return (ssize_t)n;
}
