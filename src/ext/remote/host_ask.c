/* host_ask: questions that threads of a host process ask the proxy, and wait for.
 *
 *     thread                       slot (shm.h)                     a P of the proxy
 *     changes so far, ASK ───────────────────────────────────────►  looks it up, as for a stream of its own
 *     sleeps on the slot ◄──────── the answer ───────────────────┘
 *
 * Any thread may, also one that is in a seat's callback, and as many at a time as there are slots; who finds none waits for one.
 * A stream's lock is held meanwhile (ext_far.h). Nothing here has a deadline: each question is answered, or the proxy
 * has ended, and then so have we: by the socket (ext_host_main.c), or by the kernel.
 *
 * Buffers whose bytes were not carried: what is done to them unseen, is noted with their length alone; the first look fetches
 * them as they are by then, as all changes are told before. From then on they are kept here like any other. */
#include <errno.h>
#include <stdlib.h>

#include "ext/go/go_abi.h"
#include "ext/remote/host_stream.h"

enum { NO_SLOT = UINT32_MAX };

/* ---- asking ---- */

static int ask_with(struct host *host, uint32_t p, struct remote_out *room, struct remote_ask *ask,
                    struct remote_answer *answer) {
    *answer = (struct remote_answer){.text = span_make("", 0)};
    host_wake(host); /* what was sent before must not wait as long as we do */
    int err = remote_shm_slot_claim(host->shm, INT64_MAX, &ask->slot);
    ASSERT(err == 0); /* it had no deadline */
    remote_out_clear(room);
    remote_put_ask(room, ask);
    if (room->failed || room->len > host->record_max) {
        remote_shm_slot_release(host->shm, ask->slot, false);
        ask->slot = NO_SLOT;
        return GO_INTERNAL_FAILURE;
    }
    host_send(host, p, REMOTE_ASK, span_make(room->data, room->len), span_make("", 0), HOST_NOW);
    struct span record;
    err = remote_shm_slot_wait(host->shm, ask->slot, INT64_MAX, &record);
    ASSERT(err == 0);
    if (record.len == 0) /* it had no memory for one */
        return GO_INTERNAL_FAILURE;
    if (remote_read_answer(record, answer) != 0)
        host_die("an answer of the proxy is not one");
    return answer->code;
}

int host_ask(struct host *host, uint32_t p, struct remote_ask *ask, struct remote_answer *answer) {
    struct remote_out room = {0};
    int code = ask_with(host, p, &room, ask, answer);
    remote_out_fini(&room);
    return code;
}

void host_asked(struct host *host, const struct remote_ask *ask) {
    if (ask->slot != NO_SLOT)
        remote_shm_slot_release(host->shm, ask->slot, true);
}

/* ---- of a stream, with its lock ---- */

static struct host_stream *stream_of(struct ext_far *far) {
    return container_of(far, struct host_stream, far);
}

static int ask(struct ext_far *far, struct remote_ask *ask, struct remote_answer *answer) {
    struct host_stream *s = stream_of(far);
    ask->subject = s->number;
    host_result_flush_locked(s);
    return ask_with(s->host, s->p, &s->head, ask, answer);
}

static void asked(struct ext_far *far, const struct remote_ask *ask) {
    host_asked(stream_of(far)->host, ask);
}

static void decided(struct ext_far *far, struct ext_side *side) {
    host_stream_decided_locked(stream_of(far), side);
}

/* In its turn between the changes; who asks for the name later asks the proxy. */
static void refreshed(struct ext_far *far) {
    host_result_flush_locked(stream_of(far));
}

/* ---- pieces of body ---- */

static bool is_away(const struct ext_buffer *buffer) {
    return !buffer->data && buffer->len;
}

static int look(struct ext_far *far, struct ext_side *side, struct ext_buffer *buffer) {
    (void)side;
    if (!is_away(buffer))
        return 0;
    char *own = malloc(buffer->len);
    if (!own)
        return -ENOMEM;
    size_t have = 0;
    while (have < buffer->len) {
        struct remote_ask question = {.question = REMOTE_ASK_BUFFER, .n = buffer->far, .m = have};
        struct remote_answer answer;
        int code = ask(far, &question, &answer);
        size_t more = answer.text.len;
        bool fits = code == GO_OK && more > 0 && more <= buffer->len - have;
        if (fits)
            memcpy(own + have, answer.text.ptr, more);
        asked(far, &question);
        if (!fits) { /* the exchange is over */
            free(own);
            return -EIO;
        }
        have += more;
    }
    buffer->own = own;
    buffer->room = buffer->len;
    buffer->data = own;
    return 0;
}

/* Of bytes that are not here: the length that they have then. */
static int change_away(struct ext_buffer *buffer, enum remote_buffer_action action,
                       struct span bytes, uint64_t n) {
    if (action == REMOTE_BUFFER_SET)
        return ext_buffer_set(buffer, bytes);
    if (action == REMOTE_BUFFER_DRAIN) {
        buffer->len -= n < buffer->len ? (size_t)n : buffer->len;
        return 0;
    }
    if (bytes.len > EXT_BUFFER_BYTES_MAX - buffer->len)
        return -EOVERFLOW;
    buffer->len += bytes.len;
    return 0;
}

static int change_here(struct ext_buffer *buffer, enum remote_buffer_action action,
                       struct span bytes, uint64_t n) {
    switch (action) {
    case REMOTE_BUFFER_SET:
        return ext_buffer_set(buffer, bytes);
    case REMOTE_BUFFER_APPEND:
        return ext_buffer_append(buffer, bytes);
    case REMOTE_BUFFER_PREPEND:
        return ext_buffer_prepend(buffer, bytes);
    case REMOTE_BUFFER_DRAIN:
        ext_buffer_drain(buffer, n);
        return 0;
    }
    return -EINVAL;
}

static int change(struct ext_far *far, struct ext_side *side, struct ext_buffer *buffer,
                  enum remote_buffer_action action, struct span bytes, uint64_t n) {
    int err = is_away(buffer) ? change_away(buffer, action, bytes, n)
                              : change_here(buffer, action, bytes, n);
    if (!err)
        host_result_buffer_locked(stream_of(far), side->direction, buffer->far, action, bytes, n);
    return err;
}

const struct ext_far_itab host_far_itab = {
    .decided = decided,
    .refreshed = refreshed,
    .look = look,
    .change = change,
    .ask = ask,
    .asked = asked,
};
