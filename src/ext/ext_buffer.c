/* ext_buffer: see the header. Contents lie anywhere inside `own`: a drain moves the front up, an
 * append uses the room behind, and only a prepend without room in front moves bytes. */
#include "ext/ext_buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct ext_buffer *ext_buffer_new(struct span borrowed) {
    struct ext_buffer *buffer = calloc(1, sizeof(*buffer));
    if (!buffer)
        return NULL;
    buffer->data = borrowed.ptr;
    buffer->len = borrowed.len;
    return buffer;
}

struct ext_buffer *ext_buffer_new_in_pipe(int pipe, size_t len) {
    struct ext_buffer *buffer = ext_buffer_new(span_make(NULL, len));
    if (buffer) {
        buffer->pipe = pipe;
        buffer->in_pipe = true;
    }
    return buffer;
}

void ext_buffer_free(struct ext_buffer *buffer) {
    if (!buffer)
        return;
    free(buffer->own);
    free(buffer);
}

/* The next len bytes of the pipe. */
static int read_pipe(int pipe, char *to, size_t len) {
    while (len > 0) {
        ssize_t n = read(pipe, to, len);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            return -EIO;
        to += n < 0 ? 0 : n;
        len -= n < 0 ? 0 : (size_t)n;
    }
    return 0;
}

static int copy_contents(struct ext_buffer *buffer, char *to) {
    if (buffer->in_pipe)
        return read_pipe(buffer->pipe, to, buffer->len);
    if (buffer->len)
        memcpy(to, buffer->data, buffer->len);
    return 0;
}

/* A fresh allocation that holds the old contents with `front` bytes free before and `back` behind. */
static int move_to_new(struct ext_buffer *buffer, size_t front, size_t back) {
    size_t room = front + buffer->len + back;
    char *own = malloc(room ? room : 1);
    if (!own)
        return -ENOMEM;
    int err = copy_contents(buffer, own + front);
    if (err) {
        free(own);
        return err;
    }
    free(buffer->own);
    buffer->own = own;
    buffer->room = room;
    buffer->data = own + front;
    buffer->in_pipe = false;
    return 0;
}

int ext_buffer_look(struct ext_buffer *buffer) {
    return buffer->in_pipe ? move_to_new(buffer, 0, 0) : 0;
}

int ext_buffer_own(struct ext_buffer *buffer) {
    return buffer->own ? 0 : move_to_new(buffer, 0, 0);
}

static bool too_long(const struct ext_buffer *buffer, size_t more) {
    return more > EXT_BUFFER_BYTES_MAX || buffer->len > EXT_BUFFER_BYTES_MAX - more;
}

int ext_buffer_set(struct ext_buffer *buffer, struct span bytes) {
    if (bytes.len > EXT_BUFFER_BYTES_MAX)
        return -EOVERFLOW;
    if (!buffer->own || buffer->room < bytes.len) {
        char *own = malloc(bytes.len ? bytes.len : 1);
        if (!own)
            return -ENOMEM;
        free(buffer->own);
        buffer->own = own;
        buffer->room = bytes.len;
    }
    if (bytes.len)
        memmove(buffer->own, bytes.ptr, bytes.len);
    buffer->data = buffer->own;
    buffer->len = bytes.len;
    buffer->in_pipe = false; /* what is in there is nobody's */
    return 0;
}

int ext_buffer_append(struct ext_buffer *buffer, struct span bytes) {
    if (too_long(buffer, bytes.len))
        return -EOVERFLOW;
    size_t front = buffer->own ? (size_t)(buffer->data - buffer->own) : 0;
    if (!buffer->own || buffer->room - front - buffer->len < bytes.len) {
        size_t back = bytes.len < buffer->len ? buffer->len : bytes.len; /* doubling */
        int err = move_to_new(buffer, 0, back);
        if (err)
            return err;
        front = 0;
    }
    if (bytes.len)
        memcpy(buffer->own + front + buffer->len, bytes.ptr, bytes.len);
    buffer->len += bytes.len;
    return 0;
}

int ext_buffer_prepend(struct ext_buffer *buffer, struct span bytes) {
    if (too_long(buffer, bytes.len))
        return -EOVERFLOW;
    size_t front = buffer->own ? (size_t)(buffer->data - buffer->own) : 0;
    if (!buffer->own || front < bytes.len) {
        int err = move_to_new(buffer, bytes.len, 0);
        if (err)
            return err;
        front = bytes.len;
    }
    if (bytes.len)
        memcpy(buffer->own + front - bytes.len, bytes.ptr, bytes.len);
    buffer->data = buffer->own + front - bytes.len;
    buffer->len += bytes.len;
    return 0;
}

void ext_buffer_drain(struct ext_buffer *buffer, uint64_t n) {
    size_t taken = n < buffer->len ? (size_t)n : buffer->len;
    buffer->len -= taken;
    if (!buffer->in_pipe) {
        buffer->data += taken;
        return;
    }
    for (char gone[4096]; taken > 0;) {
        size_t most = taken < sizeof gone ? taken : sizeof gone;
        if (read_pipe(buffer->pipe, gone, most) != 0)
            return; /* who looks next is told so */
        taken -= most;
    }
}

void ext_buffers_push(struct ext_buffers *list, struct ext_buffer *buffer) {
    buffer->next = NULL;
    if (list->last)
        list->last->next = buffer;
    else
        list->head = buffer;
    list->last = buffer;
}

struct ext_buffer *ext_buffers_pop(struct ext_buffers *list) {
    struct ext_buffer *buffer = list->head;
    if (!buffer)
        return NULL;
    list->head = buffer->next;
    if (!list->head)
        list->last = NULL;
    buffer->next = NULL;
    return buffer;
}

struct ext_buffer *ext_buffers_pop_last(struct ext_buffers *list) {
    struct ext_buffer *last = list->last, *before = list->head;
    if (!last)
        return NULL;
    if (before == last)
        return ext_buffers_pop(list);
    while (before->next != last)
        before = before->next;
    before->next = NULL;
    list->last = before;
    return last;
}

void ext_buffers_move(struct ext_buffers *to, struct ext_buffers *from) {
    if (!from->head)
        return;
    if (to->last)
        to->last->next = from->head;
    else
        to->head = from->head;
    to->last = from->last;
    from->head = from->last = NULL;
}

void ext_buffers_clear(struct ext_buffers *list) {
    for (struct ext_buffer *buffer; (buffer = ext_buffers_pop(list));)
        ext_buffer_free(buffer);
}

size_t ext_buffers_bytes(const struct ext_buffers *list) {
    size_t bytes = 0;
    for (const struct ext_buffer *buffer = list->head; buffer; buffer = buffer->next)
        bytes += buffer->len;
    return bytes;
}
