/* ext_buffer: a piece of a body that an extension looks at and may change.
 *
 * Ownership  A buffer borrows its bytes from where they lie, or owns a malloc'ed copy. Borrowed bytes
 *            are copied at the first change, or by ext_buffer_own when they must outlive the reader's
 *            next step. They may lie in a pipe of the kernel's, which is borrowed as well: then they are read out of
 *            it at the first change, or look (ext_buffer_look). A buffer belongs to one list;
 *            ext_buffers_clear and ext_buffer_free release.
 * Threads    None of its own: whoever holds the lock of the ext_stream, or the exchange's coroutine
 *            once the buffer has left the stream. malloc only, no P needed.
 * Errors     -ENOMEM, -EOVERFLOW past EXT_BUFFER_BYTES_MAX; the contents are then unchanged. -EIO: a pipe does not
 *            hold what it should; they are lost. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/span.h"

/* Extensions pass lengths as int, and no body that fits memory comes near this. */
enum { EXT_BUFFER_BYTES_MAX = 1 << 30 };

struct ext_buffer {
    struct ext_buffer *next;
    uint64_t handle;  /* in ext_handles, while a side shows it; 0 otherwise */
    const char *data; /* unless in_pipe; NULL with a length: in another process (ext_far.h) */
    size_t len;
    char *own;      /* NULL: data is borrowed */
    size_t room;    /* bytes allocated at own */
    uint64_t far;   /* what that process calls it; 0: it is here */
    int pipe;       /* if in_pipe: its end to read from */
    bool in_pipe;   /* which it is no longer once it was taken out */
    bool looked_at; /* or changed: since it was made, by who says so */
};

struct ext_buffers {
    struct ext_buffer *head, *last;
};

/* NULL when memory is short. */
MUST_CHECK struct ext_buffer *ext_buffer_new(struct span borrowed BORROWED_BY(result));
/* Of the len bytes that a pipe holds, which has no others and does not block. NULL as above. */
MUST_CHECK struct ext_buffer *ext_buffer_new_in_pipe(int pipe, size_t len);
void ext_buffer_free(struct ext_buffer *buffer);

/* Before data is looked at, of a buffer that may be in a pipe. */
MUST_CHECK int ext_buffer_look(struct ext_buffer *buffer);

MUST_CHECK int ext_buffer_own(struct ext_buffer *buffer);
MUST_CHECK int ext_buffer_set(struct ext_buffer *buffer, struct span bytes);
MUST_CHECK int ext_buffer_append(struct ext_buffer *buffer, struct span bytes);
MUST_CHECK int ext_buffer_prepend(struct ext_buffer *buffer, struct span bytes);
/* Drops up to n bytes from the front. */
void ext_buffer_drain(struct ext_buffer *buffer, uint64_t n);

void ext_buffers_push(struct ext_buffers *list, struct ext_buffer *buffer);
struct ext_buffer *ext_buffers_pop(struct ext_buffers *list);
/* Takes out the newest; NULL from an empty list. */
struct ext_buffer *ext_buffers_pop_last(struct ext_buffers *list);
/* Moves all of from behind what is in to. */
void ext_buffers_move(struct ext_buffers *to, struct ext_buffers *from);
void ext_buffers_clear(struct ext_buffers *list);
/* Sum of the current lengths. */
size_t ext_buffers_bytes(const struct ext_buffers *list);
