/* native_remote_serve: what a host process asks of an exchange, answered by what a plug-in in this process would call.
 * On the exchange's coroutine, which may park here as the plug-in would. */
#include <errno.h>
#include <stdlib.h>

#include "config/native_config.h"
#include "ext/native/native_host.h"
#include "ext/native/native_remote.h"
#include "http/header_id.h"
#include "proxy/format.h"

enum { REPLY_FIELDS_MAX = 32, BODY_PIECES_MAX = 64 << 20, FARS_MAX = 64 };

struct question {
    struct native_remote *remote;
    const struct remote_want *want;
    struct remote_give *give;
    void **memory;
};

static struct sluice_span theirs(struct span span) {
    return native_span_of(span);
}

/* Larger than a record may be: nobody reads so much of a property. */
static int tell(const struct question *q, int rc, struct sluice_span text) {
    if (rc == 0 && text.len > REMOTE_PIECE_MAX)
        return -E2BIG;
    if (rc == 0)
        q->give->text = native_span(text);
    return rc;
}

/* Once a body has been read to its end they are known. */
static void tell_trailers(const struct question *q, enum sluice_part part) {
    static const struct header none;
    const struct exchange *x = q->remote->e->x;
    const struct header_map *map =
        part == SLUICE_REQUEST ? &x->request.trailers : &x->response.trailers;
    q->give->trailers =
        (struct ext_view){map->count ? map->entries : &none, map->count, map->bytes};
}

/* ---- replies and bodies of ours ---- */

static int add_piece(const struct question *q) {
    struct remote_out *pieces = &q->remote->pieces;
    if (q->want->a.len > BODY_PIECES_MAX - pieces->len)
        return -E2BIG;
    remote_out_put(pieces, q->want->a);
    return pieces->failed ? -ENOMEM : 0;
}

static int reply(const struct question *q) {
    struct remote_out *pieces = &q->remote->pieces;
    struct sluice_field fields[REPLY_FIELDS_MAX];
    struct span rest = q->want->b, name, value;
    size_t count = 0;
    int grpc_status = (int)q->want->m - 1;
    while (count < REPLY_FIELDS_MAX && remote_next_header(&rest, &name, &value))
        fields[count++] = (struct sluice_field){theirs(name), theirs(value)};
    struct sluice_reply wanted = {
        .size = sizeof wanted,
        .status = q->want->n <= 599 ? (unsigned)q->want->n : 500,
        .body = sluice_bytes(pieces->data, pieces->len),
        .details = theirs(q->want->a),
        .fields = fields,
        .field_count = count,
        .grpc_status = q->want->m ? &grpc_status : NULL,
    };
    native_host.reply(q->remote->e, &wanted);
    remote_out_fini(pieces);
    return 0;
}

static int set_body(const struct question *q) {
    struct remote_out *pieces = &q->remote->pieces;
    int rc = native_body_set(q->remote->e, (enum sluice_part)q->want->part,
                             sluice_bytes(pieces->data ? pieces->data : "", pieces->len));
    remote_out_fini(pieces);
    return rc;
}

/* ---- bodies that pass ---- */

static struct native_far *find(const struct native_remote *remote, uint64_t handle) {
    struct native_far *far = remote->fars;
    while (far && far->handle != handle)
        far = far->next;
    return far;
}

static struct native_far *add(const struct question *q) {
    struct native_remote *remote = q->remote;
    unsigned count = 0;
    for (const struct native_far *far = remote->fars; far; far = far->next)
        count++;
    if (count >= FARS_MAX || find(remote, q->want->n))
        return NULL;
    struct native_far *far = arena_zalloc(&remote->e->x->arena, sizeof *far);
    if (!far)
        return NULL;
    *far = (struct native_far){.remote = remote, .next = remote->fars, .handle = q->want->n};
    remote->fars = far;
    return far;
}

/* 0; else the body breaks off. */
static int call(struct native_far *far, struct native_remote_call *what) {
    struct native_remote *remote = far->remote;
    if (remote->e->state != NATIVE_RUNS)
        return -EIO;
    int err = native_remote_call(remote, what);
    if (err)
        native_remote_failed(remote, err);
    else
        native_remote_ended(remote, &what->said);
    return err || remote->e->state != NATIVE_RUNS ? -EIO : 0;
}

static int pull(void *arg, struct sluice_body *body, struct sluice_span *out) {
    struct native_far *far = arg;
    struct native_remote_call next = {.function = REMOTE_NEXT, .far = far};
    far->body = body;
    int err = call(far, &next);
    free(far->bytes);
    far->bytes = next.record;
    *out = err ? SLUICE_LIT("") : theirs(next.said.bytes);
    return err ? err : next.said.rc < 0 ? next.said.rc : 0;
}

static int next(const struct question *q) {
    struct native_far *far = find(q->remote, q->want->n);
    struct sluice_span bytes = SLUICE_LIT("");
    if (!far || !far->body)
        return -EINVAL;
    int rc = far->rest.len ? 0 : native_body_next(far->body, &bytes);
    if (rc != 0)
        return rc;
    if (far->rest.len == 0)
        far->rest = native_span(bytes);
    size_t len = far->rest.len < REMOTE_PIECE_MAX ? far->rest.len : REMOTE_PIECE_MAX;
    q->give->text = span_make(far->rest.ptr, len);
    far->rest = span_from(far->rest, len);
    if (len == 0)
        tell_trailers(q, (enum sluice_part)q->want->part);
    return 0;
}

static void observe(void *arg, struct sluice_span run) {
    struct native_far *far = arg;
    for (size_t at = 0; at < run.len;) {
        size_t len = run.len - at < REMOTE_PIECE_MAX ? run.len - at : REMOTE_PIECE_MAX;
        struct native_remote_call bytes = {
            .function = REMOTE_BYTES, .far = far, .bytes = span_make(run.ptr + at, len)};
        int err = call(far, &bytes);
        free(bytes.record);
        if (err)
            return; /* the reader sees that the instance is not called any more */
        at += len;
    }
}

/* May be told where nothing may park: the host hears of it before the next function. */
static void observed(void *arg, int error) {
    struct native_far *far = arg;
    far->error = error;
    far->untold = true;
}

static int put_before(const struct question *q) {
    enum sluice_part part = (enum sluice_part)q->want->part;
    struct native_far *far = add(q);
    if (!far)
        return -ENOMEM;
    const struct sluice_observer observer = {observe, observed, far};
    return q->want->question == REMOTE_WANT_OBSERVE
               ? native_body_observe(q->remote->e, part, &observer)
               : native_body_transform(q->remote->e, part, pull, far);
}

static int read_body(const struct question *q) {
    struct sluice_span all = SLUICE_LIT("");
    int rc = native_body_read(q->remote->e, (enum sluice_part)q->want->part, q->want->n, &all);
    if (rc != 0)
        return rc;
    q->remote->read[q->want->part & 1] = native_span(all);
    q->give->value = all.len;
    tell_trailers(q, (enum sluice_part)q->want->part);
    return 0;
}

static int piece_of_body(const struct question *q) {
    struct span all = q->remote->read[q->want->part & 1];
    if (q->want->n > all.len)
        return -EINVAL;
    struct span rest = span_from(all, q->want->n);
    q->give->text = span_make(rest.ptr, rest.len < REMOTE_PIECE_MAX ? rest.len : REMOTE_PIECE_MAX);
    return 0;
}

/* ---- what is known ---- */

static int route_configs(const struct question *q) {
    const void *levels[FILTER_ROUTE_LEVELS];
    unsigned count = native_route_levels(q->remote->e, levels);
    uint64_t *ids = calloc(FILTER_ROUTE_LEVELS, sizeof *ids);
    if (!ids)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++)
        ids[i] = ((const struct native_route_config *)levels[i])->far_id;
    *q->memory = ids;
    q->give->text = span_make((const char *)ids, count * sizeof *ids);
    return 0;
}

static int format(const struct question *q) {
    const struct format_subject of = format_of_exchange(q->remote->e->x);
    struct cfg_problems problems = {0};
    struct format *format = format_compile(q->want->a, NULL, &problems);
    struct format_out out = {0};
    if (format)
        format_write(format, &of, span_make("", 0), &out, NULL);
    int rc = !format ? -EINVAL : out.failed ? -ENOMEM : 0;
    *q->memory = out.data;
    rc = tell(q, rc, sluice_bytes(out.data ? out.data : "", out.len));
    format_free(format);
    cfg_problems_fini(&problems);
    return rc;
}

static double number_of(uint64_t bits) {
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static int metadata(const struct question *q) {
    const struct remote_want *want = q->want;
    struct sluice_exchange *e = q->remote->e;
    struct sluice_span text = SLUICE_LIT("");
    double number = 0;
    switch (want->question) {
    case REMOTE_WANT_TEXT:
        return tell(q,
                    native_metadata_text(e, theirs(want->a), theirs(want->b), &text) ? 0 : -ENOENT,
                    text);
    case REMOTE_WANT_NUMBER:
        if (!native_metadata_number(e, theirs(want->a), theirs(want->b), &number))
            return -ENOENT;
        memcpy(&q->give->value, &number, sizeof number);
        return 0;
    case REMOTE_WANT_SET_TEXT:
        return native_metadata_set_text(e, theirs(want->a), theirs(want->b), theirs(want->c));
    case REMOTE_WANT_SET_NUMBER:
        return native_metadata_set_number(e, theirs(want->a), theirs(want->b), number_of(want->n));
    case REMOTE_WANT_SET_JSON:
        return native_metadata_set_json(e, theirs(want->a), theirs(want->b), theirs(want->c));
    default:
        return tell(q, native_metadata_json(e, theirs(want->a), theirs(want->b), &text), text);
    }
}

static int answer(const struct question *q) {
    const struct remote_want *want = q->want;
    struct sluice_exchange *e = q->remote->e;
    struct sluice_span text = SLUICE_LIT("");
    switch ((enum remote_question_c)want->question) {
    case REMOTE_WANT_EDITS:
        return 0;
    case REMOTE_WANT_PIECE:
        return add_piece(q);
    case REMOTE_WANT_REPLY:
        return reply(q);
    case REMOTE_WANT_CLEAR_ROUTE:
        return native_host.clear_route(e);
    case REMOTE_WANT_ROUTE_CONFIGS:
        return route_configs(q);
    case REMOTE_WANT_OBSERVE:
    case REMOTE_WANT_TRANSFORM:
        return put_before(q);
    case REMOTE_WANT_BODY_NEXT:
        return next(q);
    case REMOTE_WANT_BODY_READ:
        return read_body(q);
    case REMOTE_WANT_BODY_PIECE:
        return piece_of_body(q);
    case REMOTE_WANT_BODY_SET:
        return set_body(q);
    case REMOTE_WANT_ATTRIBUTE:
        return tell(q, native_attribute(e, theirs(want->a), &text), text);
    case REMOTE_WANT_FORMAT:
        return format(q);
    case REMOTE_WANT_STATE:
        return tell(q, native_filter_state(e, theirs(want->a), &text), text);
    case REMOTE_WANT_SET_STATE:
        return native_filter_state_set(e, theirs(want->a), theirs(want->b), (unsigned)want->n);
    default:
        return metadata(q);
    }
}

void native_remote_serve(struct native_remote *remote, const struct remote_want *want,
                         struct remote_give *give, void **memory) {
    const struct question q = {remote, want, give, memory};
    give->rc = answer(&q);
    give->text = give->text.ptr ? give->text : span_make("", 0);
}
