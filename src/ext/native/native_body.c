/* native_body: bodies as plug-ins see them: observed, transformed, read whole, replaced.
 *
 * Observers and transformers are readers in front of the body, pulled by whoever sends it on: the pump's coroutine or the
 * exchange's. After a fault both break off with -EIO; the exchange was answered with 500, or, when its head
 * was sent already, its connection ends.
 *
 * When a host process is lost and its exchanges go on without it (on_failure: OPEN), so do the bodies that it had nothing of
 * in its hands: observed ones, and those of a transformer that has not asked for bytes. Else it is as after a fault, with
 * 503: whoever sends the body on may be the pump, and then who waits for the answer hears of it by that alone. */
#include <errno.h>
#include <stdlib.h>

#include "ext/native/native_filter.h"
#include "ext/native/native_host.h"
#include "io/stream_concat.h"

static struct message *message_of(struct sluice_exchange *e, enum sluice_part part) {
    if (part == SLUICE_REQUEST)
        return &e->x->request;
    return part == SLUICE_RESPONSE ? &e->x->response : NULL;
}

/* NULL: there is nothing to put a reader in front of, or no more. */
static struct message *message_to_change(struct sluice_exchange *e, enum sluice_part part) {
    enum exchange_state state = e->x->state;
    bool may = part == SLUICE_REQUEST ? state == EXCHANGE_REQUEST : state == EXCHANGE_RESPONSE;
    return may && !e->looks_on ? message_of(e, part) : NULL;
}

bool native_has_body(struct sluice_exchange *e, enum sluice_part part) {
    const struct message *message = message_of(e, part);
    return message && message_has_body(message);
}

/* ---- observers ---- */

struct native_hook {
    struct reader inner;
    struct sluice_exchange *e;
    struct sluice_observer observer;
    bool ended, closed;
};

struct observe_call {
    struct native_hook *hook;
    struct sluice_span run;
    int error;
};

static NATIVE_ENTER void enter_bytes(void *arg) {
    struct observe_call *call = arg;
    call->hook->observer.bytes(call->hook->observer.arg, call->run);
    NATIVE_ENTERED();
}

static NATIVE_ENTER void enter_end(void *arg) {
    struct observe_call *call = arg;
    call->hook->observer.end(call->hook->observer.arg, call->error);
    NATIVE_ENTERED();
}

static void tell_end(struct native_hook *hook, int error) {
    struct observe_call call = {hook, {NULL, 0}, error};
    bool is_first = !hook->ended;
    hook->ended = true;
    if (is_first && hook->observer.end &&
        !native_filter_call(hook->e, "observer's end", enter_end, &call))
        return; /* it was not to hear of it any more, or the exchange has ended by that */
}

static ssize_t observe(struct native_hook *hook, ssize_t n, struct span run) {
    struct observe_call call = {hook, native_span_of(run), 0};
    if (n > 0 && !native_filter_call(hook->e, "observer", enter_bytes, &call) &&
        hook->e->state != NATIVE_BYPASSED)
        return -EIO;
    if (reader_is_over(n))
        tell_end(hook, (int)n);
    return n;
}

static ssize_t observer_next(void *data, size_t max, struct span *out) {
    struct native_hook *hook = data;
    return observe(hook, reader_next(hook->inner, max, out), *out);
}

static ssize_t observer_try_next(void *data, size_t max, struct span *out) {
    struct native_hook *hook = data;
    return observe(hook, reader_try_next(hook->inner, max, out), *out);
}

static enum reader_peek observer_peek(void *data) {
    const struct native_hook *hook = data;
    return reader_peek(hook->inner);
}

static void observer_close(void *data) {
    struct native_hook *hook = data;
    tell_end(hook, -ECANCELED);
    if (!hook->closed)
        reader_close(hook->inner);
    hook->closed = true;
}

int native_body_observe(struct sluice_exchange *e, enum sluice_part part,
                        const struct sluice_observer *observer) {
    static const struct reader_itab itab = {.next = observer_next,
                                            .close = observer_close,
                                            .peek = observer_peek,
                                            .try_next = observer_try_next};
    /* One in a host process waits for it. */
    static const struct reader_itab far_itab = {.next = observer_next, .close = observer_close};
    struct message *message = message_to_change(e, part);
    if (!message || !observer->bytes)
        return -EINVAL;
    if (!message_has_body(message))
        return 0;
    struct native_hook *hook = arena_alloc(&e->x->arena, sizeof *hook);
    if (!hook)
        return -ENOMEM;
    *hook = (struct native_hook){.inner = message->body, .e = e, .observer = *observer};
    message->body = (struct reader){e->remote ? &far_itab : &itab, hook};
    return 0;
}

/* ---- transformers ---- */

struct sluice_body {
    struct reader inner;
    struct sluice_exchange *e;
    sluice_next_fn next;
    void *arg;
    struct span rest; /* of what it said, more than was asked for */
    int end;          /* once it is over: 0, or how */
    bool over, closed;
    bool began; /* next has been given bytes, or their end */
};

struct next_call {
    struct sluice_body *body;
    struct sluice_span out;
    int rc;
};

static NATIVE_ENTER void enter_next(void *arg) {
    struct next_call *call = arg;
    call->rc = call->body->next(call->body->arg, call->body, &call->out);
    NATIVE_ENTERED();
}

static ssize_t transformer_next(void *data, size_t max, struct span *out) {
    struct sluice_body *body = data;
    if (body->rest.len == 0 && !body->over) {
        struct next_call call = {.body = body};
        if (!native_filter_call(body->e, "transformer", enter_next, &call))
            call.rc = -EIO;
        if (body->e->state == NATIVE_BYPASSED && !body->began)
            return reader_next(body->inner, max, out);
        if (body->e->state == NATIVE_BYPASSED)
            native_filter_lost(body->e);
        body->rest = call.rc < 0 ? span_make("", 0) : native_span(call.out);
        body->over = body->rest.len == 0;
        body->end = call.rc < 0 ? call.rc : 0;
    }
    size_t n = body->rest.len < max ? body->rest.len : max;
    *out = span_make(body->rest.ptr, n);
    body->rest = span_from(body->rest, n);
    return n ? (ssize_t)n : body->end;
}

static void transformer_close(void *data) {
    struct sluice_body *body = data;
    body->over = true;
    body->rest = span_make("", 0);
    if (!body->closed)
        reader_close(body->inner);
    body->closed = true;
}

int native_body_transform(struct sluice_exchange *e, enum sluice_part part, sluice_next_fn next,
                          void *arg BORROWED_BY(e)) {
    static const struct reader_itab itab = {.next = transformer_next, .close = transformer_close};
    struct message *message = message_to_change(e, part);
    if (!message || !next)
        return -EINVAL;
    if (!message_has_body(message))
        return 0;
    struct sluice_body *body = arena_alloc(&e->x->arena, sizeof *body);
    if (!body)
        return -ENOMEM;
    *body = (struct sluice_body){
        .inner = message->body, .e = e, .next = next, .arg = arg, .rest = SPAN_INIT("")};
    message->body = (struct reader){&itab, body};
    header_remove_id(&message->headers, HDR_CONTENT_LENGTH);
    return 0;
}

int native_body_next(struct sluice_body *body, struct sluice_span *out) {
    if (body->e->looks_on)
        return -EINVAL;
    struct span bytes = span_make("", 0);
    ssize_t n = body->closed ? -ECANCELED : reader_next(body->inner, SIZE_MAX, &bytes);
    if (n < 0)
        return (int)n;
    body->began = true;
    *out = sluice_bytes(bytes.ptr, (size_t)n);
    return 0;
}

/* ---- whole bodies ---- */

/* Memory of the exchange by malloc, as it grows; no more than one body may be gathered at a time and side. */
struct gather {
    char *bytes;
    size_t len, room;
};

static int gather(struct sluice_exchange *e, struct gather *to, struct span bytes, size_t limit) {
    enum { FIRST_ROOM = 4096 };
    if (to->len + bytes.len > to->room) {
        size_t room = to->room ? to->room : FIRST_ROOM;
        while (room < to->len + bytes.len)
            room *= 2;
        int rc = exchange_charge(e->x, room - to->room);
        char *larger = rc == 0 ? realloc(to->bytes, room) : NULL;
        if (!larger)
            return rc ? rc : -ENOMEM;
        to->bytes = larger;
        to->room = room;
    }
    if (bytes.len)
        memcpy(to->bytes + to->len, bytes.ptr, bytes.len);
    to->len += bytes.len;
    return to->len > limit ? -EMSGSIZE : 0;
}

/* In front of a body that was read in part: what was read. */
static int put_back(struct sluice_exchange *e, struct message *message, struct span read) {
    struct {
        struct concat_reader concat;
        struct reader both[2];
    } *again = arena_alloc(&e->x->arena, sizeof *again);
    struct reader rest = message->body;
    if (!again || message_set_body(message, read) != 0) {
        message->body = rest;
        return -ENOMEM;
    }
    again->both[0] = message->body;
    again->both[1] = rest;
    concat_reader_init(&again->concat, again->both, 2);
    message->body = concat_reader(&again->concat);
    return 0;
}

static bool can_hold(const struct sluice_exchange *e) {
    return e->held_count < sizeof e->held / sizeof *e->held;
}

static struct span hold(struct sluice_exchange *e, const struct gather *gathered) {
    if (gathered->bytes)
        e->held[e->held_count++] = gathered->bytes;
    return span_make(gathered->bytes ? gathered->bytes : "", gathered->len);
}

int native_body_read(struct sluice_exchange *e, enum sluice_part part, size_t limit,
                     struct sluice_span *out) {
    struct message *message = message_to_change(e, part);
    if (!message || !can_hold(e))
        return -EINVAL;
    if (limit == 0)
        limit = exchange_buffer_limit(e->x);
    struct gather gathered = {0};
    struct span bytes;
    ssize_t n;
    int rc = 0;
    while (rc == 0 && (n = reader_next(message->body, SIZE_MAX, &bytes)) != 0)
        rc = n < 0 ? (int)n : gather(e, &gathered, bytes, limit);
    struct span all = hold(e, &gathered);
    if (rc == -EMSGSIZE && n > 0) {
        int err = put_back(e, message, all);
        return err ? err : rc;
    }
    if (rc != 0)
        return rc;
    struct reader read = message->body;
    if (message_has_body(message) && message_set_body(message, all) != 0) {
        message->body = read;
        return -ENOMEM;
    }
    reader_close(read);
    *out = native_span_of(all);
    return 0;
}

int native_body_set(struct sluice_exchange *e, enum sluice_part part, struct sluice_span bytes) {
    struct message *message = message_to_change(e, part);
    if (!message || !can_hold(e))
        return -EINVAL;
    struct gather gathered = {0};
    int rc = gather(e, &gathered, native_span(bytes), SIZE_MAX);
    struct span all = hold(e, &gathered);
    struct span length = arena_decimal(&e->x->arena, all.len);
    if (rc != 0 || span_is_none(length))
        return rc ? rc : -ENOMEM;
    struct reader former = message->body;
    rc = message_set_body(message, all);
    if (rc != 0) {
        message->body = former;
        return rc;
    }
    reader_close(former);
    header_map_clear(&message->trailers);
    return header_set_id(&message->headers, HDR_CONTENT_LENGTH, length);
}
